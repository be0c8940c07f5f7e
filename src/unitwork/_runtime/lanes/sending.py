"""This module sends one prepared statement to a driver, and fails as SQLAlchemy does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from sqlalchemy.util import await_only, greenlet_spawn

from unitwork._logic.effects import WRITES
from unitwork._logic.writes import leaves_nothing_when_it_fails
from unitwork._sqlalchemy.private import (
    begin_on_driver,
    fail_without_cursor,
    heard_of_schema,
    tell_schema,
)
from unitwork.dialects.direct import UnreadableRowsError, numbers
from unitwork.dialects.orders import TOLD, Failed, run_on_driver

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from sqlalchemy import Connection
    from sqlalchemy.engine import Dialect
    from sqlalchemy.pool import ManagesConnection, PoolProxiedConnection

    from unitwork._logic.effects import Effects
    from unitwork._logic.routing import LaneRefusal
    from unitwork._runtime.connections.prepared import PreparedStatements
    from unitwork.dialects.direct import Column, Direct, Rows
    from unitwork.errors import AfterCommitError


class CameLateError(Exception):
    """A connection could not go back to the pool when what was written was stored.

    Attributes:
        rows: What the statement has returned.
        told: What is to be raised.
    """

    def __init__(self, rows: Rows, told: AfterCommitError) -> None:
        self.rows = rows
        self.told = told


class StatementToSend(Protocol):
    """One statement to be sent, with its values."""

    @property
    def name(self) -> str:
        """What sends it, for people."""
        ...

    @property
    def writes(self) -> bool:
        """Whether something may be stored when it fails."""
        ...

    @property
    def adds(self) -> bool:
        """Whether it adds an entity, which a session can do as well when it fails."""
        ...

    @property
    def needs_primary(self) -> bool:
        """Whether no replica can answer it: it writes, locks, or calls what may."""
        ...

    @property
    def effects(self) -> Effects:
        """What it does beyond reading."""
        ...

    @property
    def statement(self) -> object:
        """As SQLAlchemy knows it."""
        ...

    @property
    def sql(self) -> str: ...

    @property
    def parameters(self) -> Any:  # noqa: ANN401  # as `exec_driver_sql` takes them
        """The values."""
        ...

    def rows(self, direct: Direct, driver: Any) -> Awaitable[Rows | LaneRefusal]:  # noqa: ANN401  # of any driver
        """Send it; return its rows, or why nothing can be made of them."""
        ...

    def described_by(self, cursor: Any) -> LaneRefusal | None:  # noqa: ANN401  # as the DBAPI says
        """Learn of the columns from a cursor that it was sent with; say why nothing can be made of them."""
        ...

    def learnt(self, columns: list[Column]) -> LaneRefusal | None:
        """Learn of the columns; say why nothing can be made of them."""
        ...

    def forget_columns(self) -> None:
        """Learn of the columns anew with the next call: the schema has changed."""
        ...

    def following(self, rows: Rows | LaneRefusal) -> StatementToSend | None:
        """Return what is to be sent next on the same connection, now that rows have come; None if nothing."""
        ...


class StatementThatWrites:
    """What all have in common that write: INSERT, UPDATE, DELETE."""

    __slots__ = ()

    arguments: Any
    """What the driver is given."""

    @property
    def writes(self) -> bool:
        return True

    @property
    def adds(self) -> bool:
        return False

    @property
    def needs_primary(self) -> bool:
        return True

    @property
    def effects(self) -> Effects:
        return WRITES

    @property
    def parameters(self) -> Any:  # noqa: ANN401  # as SQLAlchemy takes them for its driver
        """The arguments as `exec_driver_sql` takes them."""
        return parameters_of(self.arguments)

    def following(self, rows: Rows | LaneRefusal) -> None:
        """Nothing is to be sent after it."""


def parameters_of(arguments: Any) -> Any:  # noqa: ANN401  # of any driver
    """Return the arguments of a driver as `exec_driver_sql` takes them."""
    return (tuple(arguments) if isinstance(arguments, list) else arguments) or None


def times(statement: StatementToSend) -> int:
    """Return how often it is sent, with other values each."""
    parameters = statement.parameters
    return len(parameters) if isinstance(parameters, list) else 1


class _Changed:
    """A statement as a listener has changed it, with comments or other values. Lives: one statement."""

    def __init__(self, original: StatementToSend, sql: str, parameters: Any) -> None:  # noqa: ANN401  # of any driver
        self._original = original
        self.sql = sql
        self.parameters = parameters

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever else a statement has
        return getattr(self._original, name)

    async def rows(self, direct: Direct, driver: Any) -> Rows | LaneRefusal:  # noqa: ANN401  # of any driver
        rows, columns = await direct.described(driver, self.sql, self.parameters or (), None)
        return self._original.learnt(columns) or rows


def changed_by_listeners(statement: StatementToSend, sql: str, parameters: Any) -> StatementToSend:  # noqa: ANN401  # of any driver
    """Return a statement as those who listen to SQLAlchemy's cursors have left it."""
    if sql == statement.sql and (parameters or None) == (statement.parameters or None):
        return statement
    changed: Any = _Changed(statement, sql, parameters)  # which has all the rest of a statement, too
    return cast("StatementToSend", changed)


async def rows_renewed(
    statement: StatementToSend, direct: Direct, held: ManagesConnection, dialect: Dialect
) -> Rows | LaneRefusal:
    """Send a statement to a driver that has to forget what it has prepared before."""
    await renew(statement, direct, held, dialect)
    return await statement.rows(direct, held.driver_connection)


async def renew(
    statement: StatementToSend, direct: Direct, held: ManagesConnection, dialect: Dialect
) -> None:
    """Let a driver forget what it has prepared: it is for a schema that has changed."""
    await direct.forget_statements(held.driver_connection)
    tell_schema(held.dbapi_connection, dialect)
    statement.forget_columns()


async def rows_alone(
    statement: StatementToSend, direct: Direct, held: ManagesConnection, prepared: PreparedStatements
) -> Rows | LaneRefusal:
    """Send a statement that commits by itself; again, if it failed for an old schema: nothing was written."""
    dialect = prepared.dialect
    if direct.hears_of_schema and not heard_of_schema(held.dbapi_connection, dialect):
        await renew(statement, direct, held, dialect)
    try:
        return await statement.rows(direct, held.driver_connection)
    except Exception as error:
        if not direct.is_outdated(error):
            raise
    prepared.schema_changed()
    await renew(statement, direct, held, dialect)
    return await statement.rows(direct, held.driver_connection)


async def first_rows(
    statement: StatementToSend, direct: Direct, held: ManagesConnection, prepared: PreparedStatements
) -> Rows | LaneRefusal:
    """Begin, and send the first statement of the transaction; both again, if it failed for an old schema."""
    adapted: Any = held.dbapi_connection
    dialect = prepared.dialect
    await begin_on_driver(adapted)
    if direct.hears_of_schema and not heard_of_schema(held.dbapi_connection, dialect):
        await renew(statement, direct, held, dialect)
    try:
        return await statement.rows(direct, held.driver_connection)
    except Exception as error:
        if not (direct.is_outdated(error) and leaves_nothing_when_it_fails(statement.sql, dialect.name)):
            raise
    await greenlet_spawn(adapted.rollback)
    prepared.schema_changed()
    await renew(statement, direct, held, dialect)
    await begin_on_driver(adapted)
    return await statement.rows(direct, held.driver_connection)


def rows_of_cursor(
    statement: StatementToSend, connection: Connection, prepared: PreparedStatements
) -> Rows | LaneRefusal:
    """Send a statement through the cursor that SQLAlchemy gives the driver, which sends BEGIN before it."""
    cursor: Any = connection.connection.cursor()

    def execute() -> None:
        send = cursor.execute if times(statement) == 1 else cursor.executemany
        send(statement.sql, statement.parameters or ())

    try:
        tell_schema(cursor, connection.dialect)
        if prepared.send(connection.connection, cursor, statement.sql, execute):
            statement.forget_columns()
        refusal = statement.described_by(cursor)
        if refusal is not None:
            return refusal
        rows: Rows = cursor.fetchall() if cursor.description else numbers(cursor.rowcount)
        return rows
    finally:
        cursor.close()


def fail_as_sqlalchemy(
    connection: Connection, statement: StatementToSend, failure: BaseException, direct: Direct | None
) -> None:
    """Let SQLAlchemy tell of a failed statement: its class of error, its events, what becomes of the block.

    Raises:
        sqlalchemy.exc.DBAPIError: It was an error of the driver.
    """
    error = failure.__cause__ or failure if isinstance(failure, UnreadableRowsError) else failure
    if direct is None or direct.makes_cursors(connection.connection.driver_connection):
        run_on_driver(connection, Failed(statement.sql, error, told=True), statement.parameters)
        return
    # Else SQLAlchemy would fail for want of a cursor, and say that instead.
    connection.info[TOLD] = True
    fail_without_cursor(connection, error, statement.sql, statement.parameters)


def told_stored(error: BaseException | None) -> BaseException:
    """Add to an error that the row is there all the same."""
    failure = error or RuntimeError("unreadable")
    failure.add_note("The row is stored; what the database filled in cannot be read.")
    return failure


def end_cancelled(held: PoolProxiedConnection, direct: Direct, error: BaseException) -> None:
    """Return a connection whose statement was stopped, or discard it. In a greenlet."""
    driver = held.driver_connection
    if await_only(direct.stopped(driver)) and not direct.is_broken(driver):
        held.close()
    else:
        held.invalidate(error)
