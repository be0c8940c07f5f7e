"""This module holds the command `ping`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from unitwork.cli._output import json_option, show
from unitwork.cli._target import with_database

if TYPE_CHECKING:
    from unitwork.database import Database


@click.command()
@json_option
@with_database
async def command(database: Database, *, as_json: bool) -> None:
    """Ask the server for an answer: its version, and the time of one round trip."""
    pong = await database.ping()
    show(
        dataclasses.asdict(pong),
        as_json=as_json,
        text=f"{pong.server_version}, {pong.latency_ms:.2f} ms",
    )
