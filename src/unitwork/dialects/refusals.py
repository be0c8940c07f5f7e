"""This module knows which errors of a database are about the values of a row, and what they say of it."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.exc import DBAPIError, StatementError

from unitwork.dialects.mysql_driver import code_of
from unitwork.dialects.postgresql import sqlstate_of
from unitwork.dialects.prepared import of_driver
from unitwork.errors import RowError

# Data exception, integrity constraint, check option of a view.
_STATES = ("22", "23", "44")
# Raised by a trigger of the program's; more than an index or a row can hold.
_OTHER_STATES = frozenset({"P0001", "54000"})
# What MariaDB and MySQL say of a value: most of it as errors of operation.
REFUSING_CODES = frozenset(
    {1048, 1062, 1216, 1217, 1264, 1265, 1292, 1300, 1364, 1366, 1406, 1451, 1452, 1586, 1644, 1690}
    | {3140, 3819, 4025, 4038}
)
# Of SQLite's driver about classes, and of MariaDB's about numbers that are none.
_UNBINDABLE = ("Error binding parameter", "can not be used with MySQL")
# What all drivers call such errors, as far as they do.
_CLASSES = {"IntegrityError", "DataError"}
# What processors of types and drivers raise before anything is sent.
_OF_VALUES = (ValueError, TypeError, ArithmeticError, RecursionError, StatementError)

_CLASS = re.compile(r"^<class '[^']*'>: ")
_COLUMNS = (
    re.compile(r"(?:UNIQUE|NOT NULL) constraint failed: [^.]+\.(\w+)$"),
    re.compile(r"COPY .*?, line \d+, column (\w+)"),
    re.compile(r"Key \((\w+)\)="),
    re.compile(r"column [`'\"](\w+)[`'\"]", re.IGNORECASE),
)


def refuses_values(error: BaseException) -> bool:
    """Say whether an error may be due to the values of one row, so that others can be stored without it.

    Args:
        error: Of SQLAlchemy, of a driver itself, or of a bulk write.
    """
    if isinstance(error, RowError):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return False
    cause = getattr(error, "orig", None) or error
    if _CLASSES & {kind.__name__ for kind in type(cause).__mro__}:
        return True
    state, code = sqlstate_of(cause), code_of(cause)
    if state is not None:
        return state.startswith(_STATES) or state in _OTHER_STATES
    if code is not None:
        return code in REFUSING_CODES
    return isinstance(cause, _OF_VALUES) or any(said in str(cause) for said in _UNBINDABLE)


def reason_of(error: BaseException) -> str:
    """Return what the database or the driver says, in one line."""
    orig: BaseException = getattr(error, "orig", None) or error
    said = orig.args[1] if code_of(orig) is not None and len(orig.args) > 1 else orig
    text = " ".join(_CLASS.sub("", str(said)).split())
    return text.rstrip(".") or type(orig).__name__


def response_code_of(error: BaseException) -> str | None:
    """Return the code that a database has answered with: an SQLSTATE, or the number of MariaDB or SQLite."""
    cause = of_driver(error)
    if isinstance(cause, OSError):
        return None
    code = code_of(cause) or sqlstate_of(cause) or getattr(cause, "sqlite_errorcode", None)
    return None if code is None else str(code)


def column_of(error: BaseException) -> str | None:
    """Return the name of the column that an error is about, if it tells."""
    orig: Any = getattr(error, "orig", None) or error
    source = getattr(orig, "diag", None) or getattr(orig, "__cause__", None) or orig
    told: str | None = getattr(source, "column_name", None)
    if told:
        return told
    context = getattr(source, "context", None) or ""
    for pattern in _COLUMNS:
        found = pattern.search(f"{orig}\n{context}")
        if found is not None:
            return found[1]
    return None
