"""This module holds the command `ping`."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import click

from unitwork.cli._output import json_option, show
from unitwork.cli._target import with_database

if TYPE_CHECKING:
    from unitwork.database import Database
    from unitwork.snapshot import Ping, ServerStatus

_EVERY_S = 1.0


@click.command()
@json_option
@click.option("--watch", is_flag=True, help="Ask again every second, until Ctrl-C.")
@with_database
async def command(database: Database, *, as_json: bool, watch: bool) -> None:
    """Ask the server for an answer: its version, and the time of one round trip.

    Of a Database with several servers (--app) it tells of each: its role, how far it is behind, its
    position, its connections, and why it gets no work, if so.
    """
    while True:
        pong = await database.ping()
        data = dataclasses.asdict(pong)
        if not pong.servers:
            del data["servers"]
        show(data, as_json=as_json, text=_told(pong))
        if not watch:
            return
        await asyncio.sleep(_EVERY_S)


def _told(pong: Ping) -> str:
    lines = [f"{pong.server_version}, {pong.latency_ms:.2f} ms"]
    if pong.servers:
        rows = [("server", "role", "behind", "answers in", "in use", "position"), *map(_row, pong.servers)]
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        for row, server in zip(rows, (None, *pong.servers), strict=True):
            cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            problem = f"  {server.problem}" if server is not None and server.problem is not None else ""
            lines.append(f"  {cells.rstrip() if not problem else cells}{problem}")
    return "\n".join(lines)


def _row(server: ServerStatus) -> tuple[str, ...]:
    pool = server.pool
    return (
        server.name,
        server.role,
        "" if server.lag_s is None else f"{server.lag_s:.2f} s",
        "" if server.latency_ms is None else f"{server.latency_ms:.2f} ms",
        "" if pool is None else f"{pool.checked_out} of {pool.capacity or 'any'}",
        server.position,
    )
