"""This module knows which errors of a database are about the values of a row, and what they say of it."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from unitwork.dialects.mysql import code_of
from unitwork.dialects.postgresql import sqlstate_of

# Data exception, integrity constraint, check option of a view.
_STATES = ("22", "23", "44")
# Raised by a trigger of the program's; more than an index or a row can hold.
_OTHER_STATES = frozenset({"P0001", "54000"})
# What MariaDB and MySQL say of a value: most of it as errors of operation.
_CODES = frozenset(
    {1048, 1062, 1216, 1217, 1264, 1265, 1292, 1300, 1364, 1366, 1406, 1451, 1452, 1586, 1644, 1690}
    | {3140, 3819, 4025, 4038}
)
_UNBINDABLE = "Error binding parameter"
# What processors of types and drivers raise before anything is sent. An error of SQLAlchemy about a
# statement is one of them, and is about a value unless the database has said something else.
_OF_VALUES = (ValueError, TypeError, ArithmeticError, RecursionError)

_CLASS = re.compile(r"^<class '[^']*'>: ")
_COLUMNS = (
    re.compile(r"(?:UNIQUE|NOT NULL) constraint failed: [^.]+\.(\w+)$"),
    re.compile(r"COPY .*?, line \d+, column (\w+)"),
    re.compile(r"Key \((\w+)\)="),
    re.compile(r"column [`'\"](\w+)[`'\"]", re.IGNORECASE),
)


def refuses_values(error: BaseException) -> bool:
    """Say whether an error may be due to the values of one row, so that others can be stored without it."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, (StatementError, *_OF_VALUES))
    if error.connection_invalidated:
        return False
    if isinstance(error, IntegrityError | DataError):
        return True
    state = sqlstate_of(error)
    if state is not None:
        return state.startswith(_STATES) or state in _OTHER_STATES
    return code_of(error.orig) in _CODES or _UNBINDABLE in str(error.orig)


def reason_of(error: BaseException) -> str:
    """Return what the database or the driver says, in one line."""
    orig: BaseException = getattr(error, "orig", None) or error
    said = orig.args[1] if code_of(orig) is not None and len(orig.args) > 1 else orig
    text = " ".join(_CLASS.sub("", str(said)).split())
    return text.rstrip(".") or type(orig).__name__


def column_of(error: BaseException) -> str | None:
    """Return the name of the column that an error is about, if it tells."""
    orig: Any = getattr(error, "orig", None)
    source = getattr(orig, "diag", None) or getattr(orig, "__cause__", None)
    told: str | None = getattr(source, "column_name", None)
    if told:
        return told
    context = getattr(source, "context", None) or ""
    for pattern in _COLUMNS:
        found = pattern.search(f"{orig}\n{context}")
        if found is not None:
            return found[1]
    return None
