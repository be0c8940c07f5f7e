"""This module sends one read on the connection of a driver, without SQLAlchemy's cursors around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from typing_extensions import override

from unitwork._sqlalchemy.private import begin_on_driver
from unitwork._sqlalchemy.versions import commit_on_driver
from unitwork.dialects.prepared import is_outdated, of_driver

Rows = Sequence[Any]
R = TypeVar("R")


class Column(NamedTuple):
    """One column of a result, as the driver tells it; the code means a type to SQLAlchemy's dialect."""

    name: str
    code: Any


def columns_of(cursor: Any) -> list[Column]:  # noqa: ANN401  # as the DBAPI says, or none
    """Return the columns that a cursor describes; none if it has no rows, or is none."""
    return [Column(each[0], each[1]) for each in getattr(cursor, "description", None) or ()]


class _Uncounted(tuple[Any, ...]):
    """Instead of the rows that were touched, where the driver does not say how many."""

    __slots__ = ()


UNCOUNTED: Rows = _Uncounted()


def numbers(count: int) -> Rows:
    """Return the numbers of the rows that were touched; a driver that does not know says less than none."""
    return range(count) if count >= 0 else UNCOUNTED


def _touched(cursor: Any) -> int:  # noqa: ANN401  # as the DBAPI says
    return int(cursor.rowcount)


class UnreadableRowsError(Exception):
    """The statement was run, but the driver cannot make values of what came; the cause says why."""


class Direct:
    """How a driver is asked directly. Each call is one statement that commits by itself."""

    rolls_back_silently = False
    """SQLAlchemy sends no ROLLBACK to a connection that it has not begun on."""
    prepares = False
    """It keeps statements prepared on the server, by their text."""
    can_be_begun = True
    """BEGIN can be sent before the first statement, if that has not begun by then."""
    commits = False
    """It can be told to commit outside of a greenlet; SQLAlchemy has nothing to send then."""
    counts = False
    """It tells how many rows a change has touched."""
    hears_of_schema = False
    """SQLAlchemy notes changes of the schema, of which the driver is to be told before the next statement."""

    async def described(
        self,
        driver: Any,  # noqa: ANN401  # of any driver
        sql: str,
        arguments: Any,  # noqa: ANN401  # as it takes them
        known: list[Column] | None,
    ) -> tuple[Rows, list[Column]]:
        """Return the rows and their columns, which are `known` from the last time, or were then."""
        raise NotImplementedError

    def rows(self, driver: Any, sql: str, arguments: Any) -> Awaitable[Rows]:  # noqa: ANN401  # as above
        """Return the rows of a statement whose columns are known."""
        raise NotImplementedError

    async def changed(self, driver: Any, sql: str, arguments: Any) -> int:  # noqa: ANN401  # as above
        """Run an UPDATE or DELETE, and return how many rows it has touched; for those that count."""
        raise NotImplementedError

    async def changed_many(self, driver: Any, sql: str, many: list[Any]) -> int:  # noqa: ANN401  # as above
        """As `changed`, once with the values of each; less than 0 if it does not say how many."""
        raise NotImplementedError

    async def commit(self, adapted: Any) -> None:  # noqa: ANN401  # of SQLAlchemy, for this driver
        """Commit what SQLAlchemy has begun; for those that can."""
        raise NotImplementedError

    async def mark(self, adapted: Any, sql: str) -> None:  # noqa: ANN401  # as above
        """Send what begins or ends a savepoint, after the BEGIN of SQLAlchemy if that is not sent yet."""
        await self.rows(adapted.driver_connection, sql, ())

    def can_mark(self, driver: Any) -> bool:  # noqa: ANN401  # of any driver
        """Say whether a savepoint can be begun: a transaction is open, or begins with that."""
        return self.in_transaction(driver)

    async def stopped(self, driver: Any) -> bool:  # noqa: ANN401, ARG002  # as above; for those that can
        """Stop the statement of a call that was cancelled; say whether the connection can be used on."""
        return False

    def in_transaction(self, driver: Any) -> bool:  # noqa: ANN401  # as above
        """Say whether a transaction is open on the connection."""
        raise NotImplementedError

    def is_broken(self, driver: Any) -> bool:  # noqa: ANN401  # as above
        """Say whether the connection cannot be used on after an error."""
        raise NotImplementedError

    def makes_cursors(self, driver: Any) -> bool:  # noqa: ANN401, ARG002  # as above; some do even when lost
        """Say whether the connection, broken or not, makes a cursor still."""
        return True

    def is_outdated(self, error: BaseException) -> bool:  # noqa: ARG002  # for those that keep statements
        """Say whether a statement failed because it was prepared before the schema was changed."""
        return False

    async def forget_statements(self, driver: Any) -> None:  # noqa: ANN401  # as above
        """Forget what was prepared, unless the transaction that is open will do so at its end."""

    def gave_up(self, error: Exception) -> bool:  # noqa: ARG002  # for those that do
        """Say whether it has waited for a lock in vain, and done nothing."""
        return False


class AsyncpgDirect(Direct):
    """asyncpg prepares each statement once by itself, and sends no BEGIN."""

    rolls_back_silently = True
    prepares = True
    commits = True
    counts = True
    hears_of_schema = True

    @override
    async def described(
        self, driver: Any, sql: str, arguments: Any, known: list[Column] | None
    ) -> tuple[Rows, list[Column]]:
        if known is not None:
            rows = await self.rows(driver, sql, arguments)
            if not rows or [column.name for column in known] == list(rows[0].keys()):
                return rows, known
        statement = await driver.prepare(sql)
        columns = [Column(each.name, each.type.oid) for each in statement.get_attributes()]
        return await self._fetched(driver, statement.fetch, *arguments), columns

    @override
    def rows(self, driver: Any, sql: str, arguments: Any) -> Awaitable[Rows]:
        return self._fetched(driver, driver.fetch, sql, *arguments)

    @override
    async def changed(self, driver: Any, sql: str, arguments: Any) -> int:
        status: Any = await self._fetched(driver, driver.execute, sql, *arguments)
        return int(status.rpartition(" ")[2])  # such as "UPDATE 3"

    @override
    async def changed_many(self, driver: Any, sql: str, many: list[Any]) -> int:
        await self._fetched(driver, driver.executemany, sql, many)
        return -1

    @override
    async def commit(self, adapted: Any) -> None:
        await commit_on_driver(adapted)

    @override
    async def mark(self, adapted: Any, sql: str) -> None:
        driver = adapted.driver_connection
        if not driver.is_in_transaction():
            await begin_on_driver(adapted)
        await driver.execute(sql)

    @override
    def can_mark(self, driver: Any) -> bool:
        return not driver.is_closed()

    async def _fetched(self, driver: Any, fetch: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:  # noqa: ANN401  # of this driver
        try:
            return await fetch(*arguments)
        except (OSError, TimeoutError):
            raise
        except Exception as error:
            await self.let_go(driver, error)
            if type(error).__module__.startswith("asyncpg"):
                raise  # what the server said, or what the driver refused to send
            raise UnreadableRowsError from error

    async def let_go(self, driver: Any, error: BaseException) -> None:  # noqa: ANN401  # of this driver
        """End what the driver has begun with the server when it refuses the values of a statement by itself.

        The statement has been parsed then, and a pooler keeps the connection of the server for what follows.
        """
        by_server = getattr(of_driver(error), "severity", None) is not None
        if not by_server and not (driver.is_closed() or driver.is_in_transaction()):
            with suppress(Exception):
                await driver.execute(";")

    @override
    def in_transaction(self, driver: Any) -> bool:
        return bool(driver.is_in_transaction())

    @override
    def is_broken(self, driver: Any) -> bool:
        return bool(driver.is_closed())

    @override
    def is_outdated(self, error: BaseException) -> bool:
        return is_outdated(error)

    @override
    async def forget_statements(self, driver: Any) -> None:
        await driver.reload_schema_state()


class PsycopgDirect(Direct):
    """psycopg begins a transaction with each statement, unless it is told not to; that sends nothing."""

    prepares = True
    counts = True
    can_be_begun = False

    @override
    async def described(
        self, driver: Any, sql: str, arguments: Any, known: list[Column] | None
    ) -> tuple[Rows, list[Column]]:
        return await self._run(driver, sql, arguments, columns_of)

    @override
    async def changed(self, driver: Any, sql: str, arguments: Any) -> int:
        _rows, touched = await self._run(driver, sql, arguments, _touched)
        return touched

    @override
    async def changed_many(self, driver: Any, sql: str, many: list[Any]) -> int:
        async with driver.cursor() as cursor:
            await cursor.executemany(sql, many)
            return int(cursor.rowcount)

    @override
    async def mark(self, adapted: Any, sql: str) -> None:
        async with adapted.driver_connection.cursor() as cursor:
            await cursor.execute(sql, prepare=False)

    @override
    def can_mark(self, driver: Any) -> bool:
        # Outside of a transaction it sends BEGIN by itself.
        return not (driver.closed or driver.autocommit)

    async def _run(
        self,
        driver: Any,  # noqa: ANN401  # of this driver
        sql: str,
        arguments: Any,  # noqa: ANN401  # as it takes them
        told: Callable[[Any], R],
    ) -> tuple[Rows, R]:
        """Return the rows, and what is told by the cursor before it is closed."""
        begins = not (driver.autocommit or self.in_transaction(driver))
        if begins:
            await driver.set_autocommit(True)
        try:
            async with driver.cursor() as cursor:
                await cursor.execute(sql, arguments)
                rows = await self._fetched(cursor) if cursor.rownumber is not None else []
                found = told(cursor)
        except Exception:
            await self._restore(driver, begins=begins)
            raise
        await self._restore(driver, begins=begins)
        return rows, found

    async def _fetched(self, cursor: Any) -> Rows:  # noqa: ANN401  # of this driver
        try:
            found: Rows = await cursor.fetchall()
        except Exception as error:
            raise UnreadableRowsError from error
        return found

    async def _restore(self, driver: Any, *, begins: bool) -> None:  # noqa: ANN401  # as above
        if begins and not driver.closed:
            await driver.set_autocommit(False)

    @override
    async def rows(self, driver: Any, sql: str, arguments: Any) -> Rows:
        return (await self._run(driver, sql, arguments, _touched))[0]

    @override
    def in_transaction(self, driver: Any) -> bool:
        return bool(driver.pgconn.transaction_status)  # 0 is idle

    @override
    def is_broken(self, driver: Any) -> bool:
        return bool(driver.closed)

    @override
    def makes_cursors(self, driver: Any) -> bool:
        return not driver.closed

    @override
    def is_outdated(self, error: BaseException) -> bool:
        return is_outdated(error)

    @override
    async def forget_statements(self, driver: Any) -> None:
        # The driver looks at what it sends: after ROLLBACK it deallocates all, and prepares anew. Before 3.3
        # it does not so after DEALLOCATE ALL.
        if driver.prepare_threshold is not None and not self.in_transaction(driver):
            await self.described(driver, "BEGIN; ROLLBACK", None, None)
