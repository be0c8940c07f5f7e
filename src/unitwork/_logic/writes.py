"""This module decides what a statement does to data, locks and the transaction that it is sent in."""

from __future__ import annotations

from sqlalchemy import TextClause
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql import visitors
from sqlalchemy.sql.selectable import SelectBase

from unitwork._logic.sql.clause import DialectText
from unitwork._logic.sql.reading import openings, readings
from unitwork._logic.sql.statement import CHANGES, QUERIES, Step

_UNDONE_AS_A_WHOLE = QUERIES | CHANGES | {"WITH", "("}

_READING = ("SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK", "SET ", "SHOW", "START", "EXPLAIN", "DESC")
_PLAIN = ("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "SAVEPOINT", "RELEASE", "ROLLBACK")
_LONGEST_WORD = 9


def is_write(statement: object, dialect: str | None = None) -> bool:
    """Say whether a statement changes data or tables; text is judged by its words."""
    if isinstance(statement, SelectBase):
        return any(getattr(part, "is_dml", False) for part in visitors.iterate(statement))
    texts = texts_of(statement)
    if texts:
        return any(text_writes(text, dialect) for text in texts)
    return isinstance(statement, ExecutableDDLElement) or bool(getattr(statement, "is_dml", False))


def texts_of(statement: object) -> tuple[str, ...]:
    """Return the SQL text that a statement is, by itself or below `from_statement`: none if it is built.

    There are several if databases read it differently.
    """
    inner: object = getattr(statement, "element", statement)
    if isinstance(inner, DialectText):
        return tuple(dict.fromkeys(inner.texts.values()))
    if isinstance(inner, TextClause):
        return (inner.text,)
    return (statement,) if isinstance(statement, str) else ()


def text_writes(sql: str, dialect: str | None = None) -> bool:
    """Say whether SQL text may change data or tables: by the dialect, or by any if that is not known."""
    return any(reading.writes for reading in readings(sql, dialect))


def text_returns_rows(sql: str, dialect: str | None = None) -> bool:
    """Say whether SQL text answers with rows, as far as its words tell."""
    return any(reading.returns_rows for reading in readings(sql, dialect))


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


def leaves_nothing_when_it_fails(sql: str, dialect: str) -> bool:
    """Say whether nothing of this text lasts when the database refuses it, though it commits by itself.

    A procedure, or one of several statements, may have committed before.
    """
    return all(
        [statement.words[0] in _UNDONE_AS_A_WHOLE for statement in reading.statements] == [True]
        for reading in openings(sql, dialect)
    )


def runs_others(sql: str, dialect: str) -> bool:
    """Say whether text may run statements that stand elsewhere, and end the transaction: CALL on MariaDB."""
    if _begins_with(sql, _PLAIN) and ";" not in sql:
        return False
    return any(reading.runs_others for reading in openings(sql, dialect))


def changes_settings(sql: str, dialect: str) -> bool:
    """Say whether text changes settings of the session, or of its next transaction: SET."""
    if _begins_with(sql, _PLAIN) and ";" not in sql:
        return False
    statements = (statement for reading in openings(sql, dialect) for statement in reading.statements)
    return any(statement.verb == "SET" and statement.inner is None for statement in statements)


def opens_with_write(sql: str) -> bool:
    """Say whether text, as it is sent, may change something: by its first word."""
    return not _begins_with(sql, _READING)


def _begins_with(sql: str, words: tuple[str, ...]) -> bool:
    return sql[:_LONGEST_WORD].upper().startswith(words)
