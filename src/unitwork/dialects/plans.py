"""This module asks a database how it would run a statement whose values nobody has kept."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from unitwork._logic.functions import calls_what_may_write
from unitwork._logic.sql.lexer import Kind
from unitwork._logic.sql.reading import SQLText, readings
from unitwork._logic.sql.statement import CHANGES, QUERIES
from unitwork.dialects.backend import READ_WRITE, BeginMode
from unitwork.dialects.describing.question import first_line

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

LIMIT_S = 10
"""A statement that is run for its plan may take so many seconds."""
_PLAIN = {"no_parameters": True}
_NOTES = {
    "postgresql": "The values were not kept: this plan is for any values of its parameters (a generic plan).",
    "sqlite": "The values were not kept: NULL stands for each parameter, and 1 behind LIMIT and OFFSET.",
}
_NOTE = (
    "The values were not kept: '1' stands for each parameter. Where nothing has it as a unique key, the plan "
    "is 'Impossible WHERE noticed after reading const tables'."
)
# As drivers find parameters in text that SQLAlchemy has written for them.
_PERCENT = re.compile(r"%%|%\((?P<name>[^)]*)\)[sbt]|%[sbt]")
_COUNTED = re.compile(r"\b(?:LIMIT|OFFSET)\s*(?:1\s*,\s*)?\Z", re.IGNORECASE)
_NUMBERED = re.compile(r"\$\d+")


class NoPlanError(Exception):
    """The database plans no such statement, or refuses it; the text says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a statement would be run, or was: lines of text, and what to know of them."""

    lines: Sequence[str]
    note: str


def mode_for(dialect: str, *, analyze: bool) -> BeginMode:
    """Return the transaction in which to ask; it is rolled back."""
    # MariaDB refuses even to plan a write where it may not run.
    return READ_WRITE if dialect in ("mysql", "mariadb") and not analyze else BeginMode(read_only=True)


def plan_of(connection: Connection, sql: str, *, analyze: bool) -> Plan:
    """Ask for the plan of a statement, as a driver was given it. In a transaction that is rolled back.

    Args:
        connection: Where to ask.
        sql: With the parameters as the driver has them.
        analyze: Run it, and say what it took; a statement that only reads alone.

    Raises:
        NoPlanError: There is none.
    """
    kind = connection.dialect.name
    text = _one_that_has_a_plan(sql, kind, analyze=analyze)
    try:
        if kind == "postgresql":
            lines, parameters = _of_postgresql(connection, text, analyze=analyze)
        elif kind == "sqlite":
            written, parameters = _without_parameters(text)
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {written}").mappings().all()
            lines = list(_indented(rows))
        else:
            written, parameters = _without_parameters(text)
            lines = _of_mysql(connection, written, analyze=analyze)
    except DBAPIError as error:
        raise NoPlanError(first_line(error)) from error
    return Plan(lines, _NOTES.get(kind, _NOTE) if parameters else "")


def _one_that_has_a_plan(sql: str, kind: str, *, analyze: bool) -> SQLText:
    text = readings(sql, kind)[0]
    if len(text.statements) != 1:
        raise NoPlanError("There is a plan for one statement at a time; this text holds several.")
    (statement,) = text.statements
    if statement.verb not in CHANGES | QUERIES:
        raise NoPlanError(f"There is no plan for {statement.verb or 'this'}.")
    if analyze and (kind == "sqlite" or statement.verb not in QUERIES or text.writes or text.locks):
        why = (
            "SQLite has no ANALYZE of plans" if kind == "sqlite" else "only a SELECT without locks may be run"
        )
        raise NoPlanError(f"It is not run: {why}.")
    # MariaDB runs some of a statement in order to plan it. The table of an INSERT looks like a function.
    runs = analyze or (kind in ("mysql", "mariadb") and statement.verb not in ("INSERT", "REPLACE"))
    if runs and (calls_what_may_write(sql, kind) or ":=" in sql):
        # Locks of a session and its variables, files and other servers know of no ROLLBACK.
        raise NoPlanError("It is not run, even in part: it calls a function that may do more than compute.")
    return text


def _of_postgresql(connection: Connection, text: SQLText, *, analyze: bool) -> tuple[list[str], bool]:
    names: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        if match.group() == "%%":
            return "%"
        name = match["name"] or str(len(names))
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    written = text.sql
    if connection.dialect.driver != "asyncpg":
        written = _PERCENT.sub(numbered, written)
    count = max((int(mark[1:]) for mark in _NUMBERED.findall(written)), default=0)
    name = f"unitwork_plan_{secrets.token_hex(6)}"
    call = f"{name}({', '.join(['NULL'] * count)})" if count else name
    for setting in (
        "lock_timeout = 3000",
        f"statement_timeout = {LIMIT_S * 1000}",
        "plan_cache_mode = force_generic_plan",
    ):
        connection.exec_driver_sql(f"SET LOCAL {setting}")
    connection.exec_driver_sql(f"PREPARE {name} AS {written}", execution_options=_PLAIN)
    # It outlives the transaction: else a failure would leave it on the connection.
    connection.exec_driver_sql("SAVEPOINT unitwork_plan")
    try:
        options = "ANALYZE, BUFFERS" if analyze else "COSTS"
        explained = f"EXPLAIN ({options}) EXECUTE {call}"
        lines = list(connection.exec_driver_sql(explained, execution_options=_PLAIN).scalars())
    except DBAPIError:
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT unitwork_plan")
        raise
    finally:
        connection.exec_driver_sql(f"DEALLOCATE {name}")
    return lines, bool(count)


def _without_parameters(text: SQLText) -> tuple[str, bool]:
    """Return the statement with values that any parameter may have, and whether it had one."""
    written, found = "", False
    if text.grammar.name == "mysql":
        end = 0
        for match in _PERCENT.finditer(text.sql):
            written += text.sql[end : match.start()]
            found = found or match.group() != "%%"
            # Of NULL the server knows without a plan that nothing equals it.
            written += "%" if match.group() == "%%" else _value(written, "'1'")
            end = match.end()
        return written + text.sql[end:], found
    tokens = iter(text.tokens)
    for token in tokens:
        if token.kind is Kind.BIND or token.text == "?":
            written += _value(written, "NULL")
            found = True
        elif (
            token.kind is Kind.NUMBER
            and written.endswith("NULL")
            and found
            and text.sql[token.start - 1] == "?"
        ):
            continue  # the number of `?1`
        else:
            written += token.text
    return written, found


def _value(before: str, usual: str) -> str:
    return "1" if _COUNTED.search(before) else usual


def _indented(rows: Sequence[RowMapping]) -> Iterator[str]:
    """Write a plan of SQLite as it means it: each step below the one that it is part of."""
    depths: dict[object, int] = {0: -1}
    for row in rows:
        depth = depths[row["id"]] = depths.get(row["parent"], -1) + 1
        yield f"{'  ' * depth}{row['detail']}"


def _of_mysql(connection: Connection, written: str, *, analyze: bool) -> list[str]:
    if not analyze:
        asked = f"EXPLAIN {written}"
    elif getattr(connection.dialect, "is_mariadb", False):
        asked = f"SET STATEMENT max_statement_time={LIMIT_S} FOR ANALYZE {written}"
    else:
        asked = f"EXPLAIN ANALYZE {written}"
    result = connection.exec_driver_sql(asked, execution_options=_PLAIN)
    names = list(result.keys())
    rows = [["" if value is None else str(value) for value in row] for row in result]
    if len(names) == 1:
        return [line for row in rows for line in row[0].splitlines()]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    table = [names, ["-" * width for width in widths], *rows]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
