"""This module decides what a statement does to data, locks and the transaction that it is sent in."""

from __future__ import annotations

from sqlalchemy import TextClause
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql import Select, visitors

from unitwork._logic.sql.reading import openings, readings
from unitwork._logic.sql.statement import Step


def is_write(statement: object, dialect: str | None = None) -> bool:
    """Say whether a statement changes data or tables; text is judged by its words."""
    if isinstance(statement, Select):
        return any(getattr(part, "is_dml", False) for part in visitors.iterate(statement))
    text = text_of(statement)
    if text is not None:
        return text_writes(text, dialect)
    return isinstance(statement, ExecutableDDLElement) or bool(getattr(statement, "is_dml", False))


def text_of(statement: object) -> str | None:
    """Return the SQL text that a statement is, by itself or below `from_statement`; None if it is built."""
    inner: object = getattr(statement, "element", statement)
    if isinstance(inner, TextClause):
        return inner.text
    return statement if isinstance(statement, str) else None


def text_writes(sql: str, dialect: str | None = None) -> bool:
    """Say whether SQL text may change data or tables: by the dialect, or by any if that is not known."""
    return any(reading.writes for reading in readings(sql, dialect))


def text_locks(sql: str, dialect: str | None = None) -> bool:
    """Say whether SQL text locks rows or tables, as `SELECT … FOR UPDATE` does."""
    return any(reading.locks for reading in readings(sql, dialect))


def steps_of(sql: str, dialect: str | None = None) -> tuple[Step, ...]:
    """Return how SQL text controls the transaction: BEGIN, COMMIT, SAVEPOINT, …; empty for all other text."""
    return next((reading.steps for reading in openings(sql, dialect) if reading.steps), ())


def commits_by_itself(sql: str, dialect: str) -> bool:
    """Say whether the database commits the open transaction because of this text: DDL on MariaDB."""
    return any(reading.commits_by_itself for reading in openings(sql, dialect))


def ends_transaction(sql: str, dialect: str) -> bool:
    """Say whether the transaction that this text is sent in does not go on behind it."""
    return any(reading.ends_transaction for reading in openings(sql, dialect))
