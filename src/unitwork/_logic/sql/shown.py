"""This module tells how SQL text is shown to people, and what of it they did not ask themselves."""

from __future__ import annotations

from unitwork._logic.sql.reading import openings

LIMIT = "SET STATEMENT max_statement_time="
"""What stands, up to FOR, before a statement of MariaDB to which a block has added its time limit."""

_SETTINGS = {"LOCAL", "SESSION", "CONSTRAINTS"}


def is_control(sql: str) -> bool:
    """Say whether a statement only begins, marks or ends a transaction, or sets it up."""
    opening = openings(sql)[0]
    return bool(opening.steps) or any(
        statement.verb == "SET" and not _SETTINGS.isdisjoint(statement.words[1:2])
        for statement in opening.statements
    )


def one_line(sql: str) -> str:
    """Return a statement with each run of blanks and line ends as one blank."""
    return " ".join(sql.split())


def as_asked(sql: str) -> str:
    """Return a statement on one line, without the time limit that a block has added."""
    line = one_line(sql)
    return line.partition(" FOR ")[2] if line.startswith(LIMIT) else line
