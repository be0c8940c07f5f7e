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
_AUTOCOMMIT = 2
"""The bit that means that each statement commits by itself."""
_NO_BACKSLASH_ESCAPES = 512
"""The bit that means that a backslash in a literal is a character like others."""
_LOCK_TIMEOUT = 1205
_DRIVERS = ("asyncmy", "aiomysql", "pymysql")
_OF_SERVER = (range(1000, 2000), range(3000, 100_000))
"""The numbers of errors that the server has sent; those between are the driver's own."""

_doubtful: WeakSet[Any] = WeakSet()
"""Connections on which something was sent since of which the server has not told what is open."""


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
    return bool(_status(driver) & _OPEN)


def is_at_rest(driver: Any) -> bool:  # noqa: ANN401  # as above
    """Say whether AUTOCOMMIT was on then."""
    return bool(_status(driver) & _AUTOCOMMIT)


def _status(driver: Any) -> int:  # noqa: ANN401  # as above
    """Return what the server has told last, and see to it that the driver knows it.

    asyncmy keeps what was told before if it is told 0: that AUTOCOMMIT is off, and no transaction open.
    """
    result = driver._result  # noqa: SLF001  # which both drivers have, and neither shows
    if result is not None and result.server_status == 0 and not result.unbuffered_active:
        # Of an older protocol rows end without a status, which is 0 then, too.
        told = result.description is None or getattr(driver, "_deprecate_eof", False)
        driver.server_status = 0 if told else driver.server_status
    return int(driver.server_status)


def is_certain(driver: Any) -> bool:  # noqa: ANN401  # as above
    """Say whether that is so still: nothing has failed since, and nothing of the answer is unread."""
    result = driver._result  # noqa: SLF001  # as above
    unread = result is not None and (result.has_next or result.unbuffered_active)
    return not unread and not (_doubtful and driver in _doubtful)


def has_more(driver: Any) -> bool:  # noqa: ANN401  # as above
    """Say whether the server has another answer to the statement, behind rows that are all read."""
    result = driver._result  # noqa: SLF001  # as above
    return result is not None and not result.unbuffered_active and bool(result.has_next)


def doubt(driver: Any) -> None:  # noqa: ANN401  # as above
    """Take note that what was sent may have begun or ended a transaction, or changed the next one."""
    _doubtful.add(driver)


def trust(driver: Any) -> None:  # noqa: ANN401  # as above
    """Take note that the server was asked since, or has ended the transaction."""
    _doubtful.discard(driver)


def misread_bytes(driver: Any, arguments: Any) -> Exception | None:  # noqa: ANN401  # as above
    """Return the error of a statement whose bytes the server would read as something else, as SQL even.

    Both drivers escape bytes with backslashes, whatever the mode of the server.
    """
    if not _status(driver) & _NO_BACKSLASH_ESCAPES or not _holds_bytes(arguments):
        return None
    error: Exception = driver.NotSupportedError(
        "`sql_mode` has NO_BACKSLASH_ESCAPES, where the driver escapes bytes wrongly: nothing was sent. "
        "Fix: take it out of `sql_mode`, of the server or of this connection "
        '(`connect_args={"init_command": "SET sql_mode = ..."}`).'
    )
    return error


def _holds_bytes(arguments: Any) -> bool:  # noqa: ANN401  # values, or lists of them
    if isinstance(arguments, dict):
        return any(map(_holds_bytes, arguments.values()))
    if isinstance(arguments, (list, tuple)):
        return any(map(_holds_bytes, arguments))
    return isinstance(arguments, (bytes, bytearray, memoryview))


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

    @override
    async def changed_many(self, driver: Any, sql: str, many: list[Any]) -> int:
        # The driver sends one after the other, too.
        return sum([await self.changed(driver, sql, arguments) for arguments in many])

    async def _answer(self, driver: Any, sql: str, arguments: Any) -> tuple[Rows, Any]:  # noqa: ANN401  # of these drivers
        """Return the rows, and the cursor, which describes them."""
        if _doubtful and driver in _doubtful:
            await driver.ping(reconnect=False)
            trust(driver)
        alone = not is_open(driver)
        # One that was not opened by us, or told otherwise since.
        if alone and not is_at_rest(driver):
            await driver.autocommit(True)  # noqa: FBT003  # the driver's
        misread = misread_bytes(driver, arguments)
        if misread is not None:
            raise misread
        async with driver.cursor() as cursor:
            try:
                await cursor.execute(sql, arguments or ())
                rows: Rows = await cursor.fetchall() if cursor.description else ()
            except Exception as error:
                _let_go(driver, cursor, (sql, arguments or ()), error)
                raise
        if alone and is_open(driver):
            await driver.commit()
        if alone and not is_at_rest(driver):  # a procedure has switched it off
            await driver.autocommit(True)  # noqa: FBT003  # the driver's
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
