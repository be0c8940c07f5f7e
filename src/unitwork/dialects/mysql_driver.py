"""This module asks asyncmy and aiomysql directly, and knows from them what the server has told.

With each answer the server tells whether a transaction is open. With an error it does not.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from typing_extensions import override

from unitwork.dialects.direct import Column, Direct, Rows, UnreadableRowsError, columns_of

_OPEN = 1
"""The bit of the server's status that means an open transaction."""
_LOCK_TIMEOUT = 1205
_DRIVERS = ("asyncmy", "aiomysql", "pymysql")
_OF_SERVER = (range(1000, 2000), range(3000, 100_000))
"""The numbers of errors that the server has sent; those between are the driver's own."""

_doubtful: WeakSet[Any] = WeakSet()
"""Connections on which something has failed since: it may have ended the transaction."""


def code_of(error: BaseException | None) -> int | None:
    """Return the server's error number."""
    arguments = error.args if error is not None else ()
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def transport_of(driver: Any) -> Any:  # noqa: ANN401  # of asyncmy, or of aiomysql
    """Return what asyncio sends the bytes of a connection with: the drivers have no public way to it.

    None if it is closed.
    """
    writer = getattr(driver, "_writer", None)  # of aiomysql, and of older versions of asyncmy
    return getattr(driver, "_transport", None) if writer is None else writer.transport


def is_closed(driver: Any) -> bool:  # noqa: ANN401  # as above
    """Say whether the driver knows that the connection is closed. Sends nothing."""
    if hasattr(driver, "connected"):  # asyncmy
        transport = transport_of(driver)  # where it hears that the server has hung up
        return transport is None or transport.is_closing() or not driver.connected
    reader = driver._reader  # noqa: SLF001  # aiomysql, as its own pool looks
    return driver.closed or reader.at_eof() or reader.exception() is not None


# -- whether a transaction is open -------------------------------------------------------------------


def is_open(driver: Any) -> bool:  # noqa: ANN401  # as above
    """Say whether a transaction was open when the server has answered last, other than with an error."""
    return bool(driver.server_status & _OPEN)


def is_certain(driver: Any) -> bool:  # noqa: ANN401  # as above
    """Say whether that is so still: nothing has failed since, and nothing of the answer is unread."""
    result = driver._result  # noqa: SLF001  # which both drivers have, and neither shows
    return not (result is not None and (result.has_next or result.unbuffered_active)) and not (
        _doubtful and driver in _doubtful
    )


def doubt(driver: Any) -> None:  # noqa: ANN401  # as above
    """Take note that what has failed may have ended the transaction."""
    _doubtful.add(driver)


def trust(driver: Any) -> None:  # noqa: ANN401  # as above
    """Take note that the server was asked since, or has ended the transaction."""
    _doubtful.discard(driver)


class MySQLDirect(Direct):
    """asyncmy and aiomysql send text. A connection at rest is in AUTOCOMMIT."""

    rolls_back_silently = True
    counts = True
    can_be_begun = False

    @override
    async def described(
        self, driver: Any, sql: str, arguments: Any, known: list[Column] | None
    ) -> tuple[Rows, list[Column]]:
        rows, cursor = await self._answer(driver, sql, arguments)
        return rows, columns_of(cursor)

    @override
    async def rows(self, driver: Any, sql: str, arguments: Any) -> Rows:
        return (await self._answer(driver, sql, arguments))[0]

    @override
    async def changed(self, driver: Any, sql: str, arguments: Any) -> int:
        _rows, cursor = await self._answer(driver, sql, arguments)
        return int(cursor.rowcount)

    async def _answer(self, driver: Any, sql: str, arguments: Any) -> tuple[Rows, Any]:  # noqa: ANN401  # of these drivers
        """Return the rows, and the cursor, which describes them."""
        alone = not is_open(driver)
        # One that was not opened by us, or told otherwise since.
        if alone and not driver.get_autocommit():
            await driver.autocommit(True)  # noqa: FBT003  # the driver's
        async with driver.cursor() as cursor:
            try:
                await cursor.execute(sql, arguments or ())
                rows: Rows = await cursor.fetchall() if cursor.description else ()
            except Exception as error:
                _let_go(driver, cursor, (sql, arguments or ()), error)
                raise
        if alone and is_open(driver):
            await driver.commit()
        return rows, cursor

    @override
    def in_transaction(self, driver: Any) -> bool:
        return is_open(driver) and is_certain(driver)

    @override
    def is_broken(self, driver: Any) -> bool:
        return is_closed(driver)

    @override
    def makes_cursors(self, driver: Any) -> bool:
        return not getattr(driver, "closed", False)  # aiomysql alone refuses that

    @override
    def gave_up(self, error: Exception) -> bool:
        return code_of(error) == _LOCK_TIMEOUT


def _let_go(driver: Any, cursor: Any, sent: tuple[str, Any], error: Exception) -> None:  # noqa: ANN401  # of this driver
    """Close a connection whose answer was not read to its end; nobody knows what comes next on it.

    Raises:
        UnreadableRowsError: The driver cannot make values of what came.
    """
    code = code_of(error)
    if code is not None and any(code in numbers for numbers in _OF_SERVER):
        return
    try:
        cursor.mogrify(*sent)
    except Exception:  # noqa: BLE001  # the same error: nothing was sent
        return
    driver.close()
    if not isinstance(error, (OSError, TimeoutError)) and not type(error).__module__.startswith(_DRIVERS):
        raise UnreadableRowsError from error
