"""This module draws what a panel knows for a terminal. Needs `rich`."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, TypeAlias

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from unitwork.errors import session_of

Told: TypeAlias = dict[str, Any]

_ROWS = 12
_QUERIES = 8
_HELD = 8
_SIGNS = {"well": ("✔", "green"), "failed": ("✘", "bold red"), "open": ("…", "cyan")}
_PLACE = re.compile(r"^the (block|unit of work) at .*?([^/\\]+:\d+)$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def frame(told: Told) -> RenderableType:
    """Return one picture: databases, who has their connections, the newest traces, the dearest statements."""
    parts: list[RenderableType] = []
    for database in told["databases"]:
        parts += [_database(database), *_held(database), *_waits(database)]
    parts += [Text(), _traces(told), Text(), _queries(told)]
    return Group(*parts)


def _database(told: Told) -> Text:
    text = Text.assemble(
        (_plain(told["name"]), "bold"), f"  {told['kind']}", overflow="ellipsis", no_wrap=True
    )
    if told.get("closed"):
        text.append("  disposed of", "dim")
    for server in told["servers"]:
        role = f"{server['role']} {server['address']}" if server["address"] else "connections"
        for pool in server["pools"]:
            capacity = "any" if pool["capacity"] is None else pool["capacity"]
            text.append(f"  {_plain(role)}: ", "dim")
            text.append(f"{pool['in_use']} of {capacity} in use")
            text.append(f", {pool['idle']} idle", "dim")
        if server["lag_s"] is not None:
            text.append(f"  {server['lag_s']:.2f} s behind", "yellow")
        if server["problem"]:
            text.append(f"  {_plain(server['problem'])}", "red")
    return text


def _held(told: Told) -> Iterator[RenderableType]:
    held = [each for server in told["servers"] for pool in server["pools"] for each in pool["held"]]
    if not held:
        return
    table = _table(Column("held by"), Column("for", justify="right"), Column("last statement", ratio=1))
    for each in held[:_HELD]:
        long = "bold red" if each["held_s"] > 1 else ""
        statement = _plain(each["last_statement"] or "none yet")
        table.add_row(_name(each["owner"]), Text(_duration(each["held_s"]), long), Text(statement))
    yield table


def _waits(told: Told) -> Iterator[RenderableType]:
    for server in told["servers"]:
        for pool in server["pools"]:
            yield from _waiting("a connection", pool["waiting"])
            writer: Told | None = pool["writer"]
            if writer is not None:
                yield from _waiting(f"{_plain(writer['owner'])} to write", writer["waiting"])
    for session in told["sessions"]:
        yield from _waiting(session_of(_plain(session["owner"])), session["waiting"])


def _waiting(what: str, waiting: list[Told]) -> Iterator[Text]:
    for each in waiting:
        yield Text(f"  {_plain(each['who'])} waits for {what}, {_duration(each['wait_s'])}", "yellow")


def _traces(told: Told) -> Table:
    table = _table(
        Column("", width=1),
        Column("request or block", ratio=1),
        Column("statements", justify="right"),
        Column("took", justify="right"),
        Column("at"),
    )
    for trace in reversed(told["traces"][-_ROWS:]):
        sign, style = _SIGNS[trace["state"]]
        name = _name(trace["name"])
        if trace["kind"] == "statement":
            numbers = [each["query"] for each in trace["entries"] if each["kind"] == "statement"]
            name = Text(_plain(told["texts"][str(numbers[0])]["sql"])) if numbers else name
        if trace["error"]:
            name.append(f"  {_plain(trace['error'])}", "red")
        for repeated in trace["repeats"][:1]:
            name.append(f"  ×{repeated['times']} {_short(repeated['site'])}", "bold yellow")  # noqa: RUF001  # times
        clock = time.strftime("%H:%M:%S", time.localtime(trace["started"]))
        took = Text(_duration(trace["duration_s"]))
        table.add_row(Text(sign, style), name, str(trace["statements"]), took, Text(clock, "dim"))
    if not told["traces"]:
        table.add_row("", Text("nothing has happened while somebody looked", "dim"), "", "", "")
    return table


def _queries(told: Told) -> Table:
    table = _table(
        Column("statement", ratio=1),
        Column("times", justify="right"),
        Column("in all", justify="right"),
        Column("95 % below", justify="right"),
        Column("lane"),
    )
    for query in told["queries"][:_QUERIES]:
        lanes = sorted(query["lanes"], key=lambda lane: -query["lanes"][lane])
        name = Text(_plain(query["sql"]))
        times = f"{query['count']:,}"
        table.add_row(
            name, times, _duration(query["total_s"]), _duration(query["p95_s"]), lanes[0] if lanes else ""
        )
    return table


def _table(*columns: Column) -> Table:
    for column in columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    return Table(*columns, box=None, expand=True, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))


def _name(name: str) -> Text:
    place = _PLACE.match(name)
    if place is not None:
        return Text(f"{place[1]} at {_plain(place[2])}", "bold")
    if name.startswith("the request "):
        return Text(_plain(name.removeprefix("the request ")), "bold")
    return Text(_plain(name.rpartition("<locals>.")[2]), "bold")


def _short(place: str | None) -> str:
    return "" if place is None else _plain("/".join(re.split(r"[/\\]", place)[-2:]))


def _plain(text: str) -> str:
    """Return text in which nothing controls a terminal."""
    return _CONTROL.sub(" ", text).encode("utf-8", "replace").decode()


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "…"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
