"""This module recognises the errors of PostgreSQL that come from prepared statements, and says what helps."""

from __future__ import annotations

_NOT_SUPPORTED = "0A000"
_INTERNAL = "XX000"
_UNKNOWN_NAME = "26000"
_NAME_TAKEN = "42P05"
_OTHER_PARAMETERS = "08P01"
_REVALIDATION = "RevalidateCachedQuery"

_POOLER = (
    "A pooler such as PgBouncer, in transaction mode, gives each transaction another connection of the "
    "server; statements that were prepared before are not on it.\n"
    "  Fix: write Database(url, transaction_pooling=True)."
)
_OUTDATED = (
    "The schema was changed since this connection has prepared the statement, and its transaction had begun "
    "already.\n"
    "  Fix: run the block again; with `retry=RetryPolicy()` that is done by itself."
)


def is_outdated(error: BaseException) -> bool:
    """Say whether PostgreSQL refused a statement that was prepared before its types or columns changed."""
    refusal = of_driver(error)
    code = getattr(refusal, "sqlstate", None)
    if code == _NOT_SUPPORTED:
        # "cached plan must not change result type", in the language of the server
        return _routine(refusal) == _REVALIDATION
    return code == _INTERNAL and "cache lookup failed" in str(refusal)


def note_on(error: BaseException, *, pooled: bool) -> str | None:
    """Return what helps against an error that has to do with prepared statements, for a person.

    Args:
        error: Of the driver, or SQLAlchemy's for it.
        pooled: It is known already that a pooler is in between.
    """
    if is_outdated(error):
        return _OUTDATED
    refusal = of_driver(error)
    code = getattr(refusal, "sqlstate", None)
    mixed_up = code == _OTHER_PARAMETERS and "prepared statement" in str(refusal)
    return _POOLER if not pooled and (code in {_UNKNOWN_NAME, _NAME_TAKEN} or mixed_up) else None


def of_driver(error: BaseException) -> BaseException:
    """Return the error of the driver itself, which has all that the server said, from SQLAlchemy's."""
    found = getattr(error, "orig", None) or error
    # SQLAlchemy's own class for asyncpg keeps less of it.
    cause = found.__cause__
    return cause if cause is not None and getattr(cause, "sqlstate", None) is not None else found


def _routine(error: BaseException) -> str | None:
    """Return the function of the server that has refused it."""
    diagnosis = getattr(error, "diag", None)
    name = "server_source_function" if diagnosis is None else "source_function"
    found: str | None = getattr(error if diagnosis is None else diagnosis, name, None)
    return found
