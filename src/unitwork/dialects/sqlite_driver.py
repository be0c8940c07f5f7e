"""This module asks aiosqlite directly."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from traceback import clear_frames
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from typing_extensions import override

from unitwork._sqlalchemy.private import fail_as_adapted
from unitwork.dialects.direct import Column, Direct, Rows, columns_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

_AGAIN_S = 0.02

closed_to_writes: WeakSet[Any] = WeakSet()
"""Connections of aiosqlite that take no writes until the read-only transaction on them has ended."""


async def open_to_writes(driver: Any) -> None:  # noqa: ANN401  # an aiosqlite connection
    """Commit what is open, and let a connection write again."""
    # A script of the driver's commits by itself what is open before it.
    await driver.executescript("PRAGMA query_only=OFF")
    closed_to_writes.discard(driver)


class SQLiteDirect(Direct):
    """aiosqlite visits its thread once for all of a read. Our connections are in no transaction."""

    commits = True
    counts = True

    @override
    async def commit(self, adapted: Any) -> None:
        driver = adapted.driver_connection
        try:
            await (open_to_writes(driver) if driver in closed_to_writes else driver.commit())
        except Exception as error:  # noqa: BLE001  # of this driver
            fail_as_adapted(adapted, error)

    @override
    async def described(
        self, driver: Any, sql: str, arguments: Any, known: list[Column] | None
    ) -> tuple[Rows, list[Column]]:
        cursor = None
        try:
            cursor = await driver.execute(sql, arguments)
            return await cursor.fetchall(), columns_of(cursor)
        except BaseException as error:
            # A cursor with rows left keeps its statement running, and what was cancelled may have one.
            clear_frames(error.__traceback__)
            raise
        finally:
            del cursor

    @override
    def rows(self, driver: Any, sql: str, arguments: Any) -> Awaitable[Rows]:
        found: Awaitable[Rows] = driver.execute_fetchall(sql, arguments)
        return found

    @override
    async def changed(self, driver: Any, sql: str, arguments: Any) -> int:
        return int((await driver.execute(sql, arguments)).rowcount)

    @override
    async def changed_many(self, driver: Any, sql: str, many: list[Any]) -> int:
        return int((await driver.executemany(sql, many)).rowcount)

    @override
    def in_transaction(self, driver: Any) -> bool:
        return bool(driver.in_transaction)

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
