"""This module reads SQL text: what a program asked, apart from what controls transactions."""

from __future__ import annotations

import re

_CONTROL = re.compile(
    r"\s*(BEGIN|START\s+TRANSACTION|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|PRAGMA\s+query_only"
    r"|SET\s+(LOCAL|SESSION|TRANSACTION|CONSTRAINTS)\s)",
    re.IGNORECASE,
)
# How MariaDB is told a time limit; what follows is the statement itself.
_LIMIT = re.compile(r"^SET STATEMENT max_statement_time=\S+ FOR ")


def is_control(sql: str) -> bool:
    """Say whether a statement only begins, marks or ends a transaction."""
    return _CONTROL.match(sql) is not None


def one_line(sql: str) -> str:
    """Return a statement with each run of blanks and line ends as one blank."""
    return " ".join(sql.split())


def as_asked(sql: str) -> str:
    """Return a statement on one line, without the time limit that a block has added."""
    return _LIMIT.sub("", one_line(sql))
