"""This module decides whether a statement writes."""

from __future__ import annotations

import re

from sqlalchemy import TextClause
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql import Select, visitors

_COMMENTS = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)
_STRINGS = re.compile(r"'(?:[^']|'')*'")
_READS = frozenset({"SELECT", "VALUES", "TABLE", "SHOW", "EXPLAIN", "PRAGMA", "DESCRIBE", "DESC"})
_WRITE_IN_WITH = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE|REPLACE)\b(?!\s*\()", re.IGNORECASE)
_COPY_OUT = re.compile(r"COPY\b.*\bTO\s+STDOUT\b", re.IGNORECASE | re.DOTALL)
_HARMLESS = frozenset({"SET", "LOCK", "SAVEPOINT", "RELEASE"})


def is_write(statement: object) -> bool:
    """Say whether a statement changes data or tables; text is judged by its words."""
    if isinstance(statement, Select):
        return any(getattr(part, "is_dml", False) for part in visitors.iterate(statement))
    inner: object = getattr(statement, "element", statement)
    if isinstance(inner, TextClause):
        return text_writes(inner.text)
    if isinstance(statement, str):
        return text_writes(statement)
    return isinstance(statement, ExecutableDDLElement) or bool(getattr(statement, "is_dml", False))


def text_writes(sql: str) -> bool:
    """Say whether SQL text begins, or goes on after WITH, with a verb that writes."""
    bare = _STRINGS.sub("''", _COMMENTS.sub(" ", sql)).strip().lstrip("(").lstrip()
    verb = bare.split(None, 1)[0].upper().rstrip(";") if bare else ""
    if verb == "WITH" or _COPY_OUT.match(bare):
        return _WRITE_IN_WITH.search(bare) is not None
    return verb not in _READS and verb not in _HARMLESS and verb != ""
