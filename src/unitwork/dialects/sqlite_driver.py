"""This module asks aiosqlite directly: each call visits its thread once.

It knows of the driver how to do something of one's own in that thread, and with what connection.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from traceback import clear_frames
from typing import TYPE_CHECKING, Any, TypeVar, cast

from typing_extensions import override

from unitwork._sqlalchemy.private import fail_as_adapted
from unitwork.dialects.direct import Column, Direct, Rows, columns_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

R = TypeVar("R")

_AGAIN_S = 0.02
_TO_BEGIN = "unitwork_to_begin"
"""The attribute of a connection that is to begin with its next statement: what with, or why it could not."""
_CLOSED = "unitwork_closed"
"""The attribute of a connection that takes no writes until its read-only transaction has ended."""
_TO_CLOSE = "unitwork_to_close"
"""The attribute of a connection that is to be closed to writes before anything but a SELECT is sent."""


async def open_to_writes(driver: Any) -> None:  # noqa: ANN401  # an aiosqlite connection
    """Commit what is open, and let a connection write again."""
    # A script of the driver's commits by itself what is open before it.
    await driver.executescript("PRAGMA query_only=OFF")
    vars(driver).pop(_CLOSED, None)


def close_to_writes(driver: Any) -> str:  # noqa: ANN401  # an aiosqlite connection
    """Return what keeps a connection from writing, which is about to be sent."""
    vars(driver)[_CLOSED] = True
    return "PRAGMA query_only=ON"


def is_closed_to_writes(driver: Any) -> bool:  # noqa: ANN401  # as above
    """Say whether a connection takes no writes now."""
    return _CLOSED in vars(driver)


def begin_with_next(driver: Any, statement: str, *, read_only: bool) -> None:  # noqa: ANN401  # as above
    """Begin a transaction with the next statement, in one visit to the driver's thread."""
    vars(driver)[_TO_BEGIN] = statement
    if read_only:
        vars(driver)[_TO_CLOSE] = True


def sent_before(driver: Any, sql: str | None) -> tuple[str, ...]:  # noqa: ANN401  # as above
    """Return what has to be sent before a statement, or before whatever may come; who asks sends it.

    A SELECT of SQLite writes nothing, so that the connection need not be closed to writes for it, which
    would make the database forget all that it has prepared.

    Raises:
        Exception: What the beginning has failed with.
    """
    own = vars(driver)
    begins = own.pop(_TO_BEGIN, None)
    if isinstance(begins, Exception):
        raise begins
    closes = _TO_CLOSE in own and (sql is None or not is_query(sql))
    if closes:
        del own[_TO_CLOSE]
    begin = () if begins is None else (begins,)
    return (close_to_writes(driver), *begin) if closes else begin


def forget_beginning(driver: Any) -> None:  # noqa: ANN401  # as above
    """Send nothing more of what was to be sent: the transaction has ended."""
    vars(driver).pop(_TO_BEGIN, None)
    vars(driver).pop(_TO_CLOSE, None)


def is_query(sql: str) -> bool:
    """Say whether a statement can do nothing but read; others may do so all the same."""
    return sql.lstrip()[:6].upper() == "SELECT"


class _NotBegunError(Exception):
    """A statement was not sent, because a transaction could not begin before it; the cause says why."""


class SQLiteDirect(Direct):
    """aiosqlite visits its thread once for all of a read, and for BEGIN before it."""

    commits = True
    counts = True

    @override
    async def commit(self, adapted: Any) -> None:
        driver = adapted.driver_connection
        if _TO_BEGIN in vars(driver):
            return  # nothing was sent
        vars(driver).pop(_TO_CLOSE, None)
        try:
            await (open_to_writes(driver) if is_closed_to_writes(driver) else driver.commit())
        except Exception as error:  # noqa: BLE001  # of this driver
            fail_as_adapted(adapted, error)

    @override
    async def described(
        self, driver: Any, sql: str, arguments: Any, known: list[Column] | None
    ) -> tuple[Rows, list[Column]]:
        return await _visit(driver, _described, sql, arguments)

    @override
    def rows(self, driver: Any, sql: str, arguments: Any) -> Awaitable[Rows]:
        own = vars(driver)
        if _TO_BEGIN in own or _TO_CLOSE in own:
            return _visit(driver, _rows, sql, arguments)
        found: Awaitable[Rows] = driver.execute_fetchall(sql, arguments)
        return found

    @override
    async def changed(self, driver: Any, sql: str, arguments: Any) -> int:
        return await _visit(driver, _touched, sql, arguments)

    @override
    async def changed_many(self, driver: Any, sql: str, many: list[Any]) -> int:
        return await _visit(driver, _touched_by_many, sql, many)

    @override
    def in_transaction(self, driver: Any) -> bool:
        return bool(driver.in_transaction or _TO_BEGIN in vars(driver))

    @override
    def is_broken(self, driver: Any) -> bool:
        return False

    @override
    def gave_up(self, error: Exception) -> bool:
        return is_busy(error)

    @override
    async def stopped(self, driver: Any) -> bool:
        await stop(driver)
        return True


async def _visit(
    driver: Any,  # noqa: ANN401  # an aiosqlite connection
    work: Callable[[Any, str, Any], R],
    sql: str,
    arguments: Any,  # noqa: ANN401  # as it takes them
) -> R:
    """Run a statement, and what has to be sent before it, in one visit to the driver's thread."""
    before, inside = sent_before(driver, sql), driver._conn  # noqa: SLF001  # what its thread works on
    try:
        done: R = await driver._execute(_run, inside, before, work, sql, arguments)  # noqa: SLF001  # what it does there
    except BaseException as error:
        # A cursor with rows left keeps its statement running, and what was cancelled may have one.
        clear_frames(error.__traceback__)
        if not isinstance(error, _NotBegunError):
            raise
        cause = cast("Exception", error.__cause__)
        vars(driver)[_TO_BEGIN] = cause  # which SQLAlchemy asks for before it tells of it
        raise cause from None
    return done


def _run(
    connection: Any,  # noqa: ANN401  # of the module `sqlite3`, as below
    before: tuple[str, ...],
    work: Callable[[Any, str, Any], R],
    *statement: Any,
) -> R:
    """Do all of a visit. In the driver's thread."""
    try:
        for each in before:
            connection.execute(each)
    except Exception as error:
        raise _NotBegunError from error
    return work(connection, *statement)


def _rows(connection: Any, sql: str, arguments: Any) -> Rows:  # noqa: ANN401
    found: Rows = connection.execute(sql, arguments).fetchall()
    return found


def _described(connection: Any, sql: str, arguments: Any) -> tuple[Rows, list[Column]]:  # noqa: ANN401
    cursor = connection.execute(sql, arguments)
    return cursor.fetchall(), columns_of(cursor)


def _touched(connection: Any, sql: str, arguments: Any) -> int:  # noqa: ANN401
    return int(connection.execute(sql, arguments).rowcount)


def _touched_by_many(connection: Any, sql: str, many: Any) -> int:  # noqa: ANN401
    return int(connection.executemany(sql, many).rowcount)


async def limit_patience(driver: Any, seconds: float) -> int:  # noqa: ANN401  # as above
    """Let statements wait at most so long for a lock that somebody else holds; no interrupt ends that.

    Return how long they wait usually, in milliseconds.
    """
    [(usual_ms,)] = await driver.execute_fetchall("PRAGMA busy_timeout")
    await set_patience(driver, min(usual_ms, max(0, round(seconds * 1000))))
    return int(usual_ms)


async def set_patience(driver: Any, milliseconds: int) -> None:  # noqa: ANN401  # as above
    """Let statements wait so long for a lock that somebody else holds."""
    await driver.execute_fetchall(f"PRAGMA busy_timeout={milliseconds}")


async def stop(driver: Any) -> None:  # noqa: ANN401  # an aiosqlite connection
    """Interrupt until the driver's thread is free: what has not begun yet hears no interrupt."""
    # Of no statement, but of the thread: it keeps its last cursor until it makes another one, and
    # SQLite interrupts all that begins while an interrupted one has rows left.
    free = asyncio.ensure_future(driver.cursor())
    while not free.done():
        await driver.interrupt()
        with suppress(asyncio.CancelledError):
            await asyncio.wait((free,), timeout=_AGAIN_S)
    if not free.cancelled():
        free.exception()


def is_busy(error: BaseException | None) -> bool:
    """Say whether SQLite gave up waiting for a lock."""
    return getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
