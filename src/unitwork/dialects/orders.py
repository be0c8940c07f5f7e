"""This module lets a driver do what SQLAlchemy has no words for, with SQLAlchemy's events and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from sqlalchemy import event
from sqlalchemy.util import await_only

from unitwork.dialects.backend import LENT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator

    from sqlalchemy import Connection
    from sqlalchemy.engine import Engine
    from sqlalchemy.engine.interfaces import DBAPICursor, ExceptionContext, ExecutionContext

    from unitwork.options import Lane

T = TypeVar("T")

_ORDER = "unitwork_order"
TOLD = "unitwork_told"
"""What `connection.info` has while something fails of which observers were told."""
LANE = "unitwork_lane"
"""Where the execution options of a statement say which lane has sent it, if not the session."""


class DriverOrder(Protocol):
    """One statement that a driver runs in its own way, such as COPY. Lives: one statement."""

    @property
    def statement(self) -> str:
        """The SQL, as observers and errors show it."""
        ...

    async def run(self, driver: Any) -> None:  # noqa: ANN401  # of any driver
        """Send it on a connection of the driver."""
        ...


def run_on_driver(
    connection: Connection,
    order: DriverOrder,
    parameters: Any = None,  # noqa: ANN401  # of any driver
    lane: Lane | None = None,
) -> None:
    """Run it in the transaction that is open on this connection; errors show the parameters."""
    if LENT not in connection.get_execution_options():  # what lends a connection asks `run_in_its_way`
        listen(connection.engine)
    options = {_ORDER: order} if lane is None else {_ORDER: order, LANE: lane}
    connection.exec_driver_sql(order.statement, parameters, execution_options=options)


def listen(engine: Engine) -> None:
    """Make an engine able to do so; it may be one of the caller's own."""
    for name in ("do_execute", "do_executemany"):
        if not event.contains(engine, name, _run_instead):
            event.listen(engine, name, _run_instead)


def order_of(context: ExecutionContext) -> DriverOrder | None:
    """Return what a statement is to be run as, if not as SQLAlchemy does it."""
    found: DriverOrder | None = context.execution_options.get(_ORDER)
    return found


def _run_instead(cursor: DBAPICursor, sql: str, parameters: object, context: ExecutionContext) -> bool:
    order = order_of(context)
    if isinstance(order, Announced):
        order.changed(sql, parameters)
    return run_in_its_way(cursor, context)


def run_in_its_way(cursor: DBAPICursor, context: ExecutionContext) -> bool:
    """Run what is to be run as a driver does it, and say whether it was that."""
    order = order_of(context)
    if order is None:
        return False
    # What SQLAlchemy's own cursors do with errors of asyncpg; psycopg's are as they must be.
    translate: Callable[[Exception], None] | None = getattr(cursor, "_handle_exception", None)
    try:
        await_only(order.run(context.root_connection.connection.driver_connection))
    except Exception as error:
        if translate is not None:
            translate(error)
        raise
    return True


class Announced:
    """A statement that is sent past SQLAlchemy's cursors, though whoever listens to those hears of it.

    Args:
        statement: The SQL.
        send: Sends it, or what a listener has made of it: another text, and other values, or None for both.
            Returns how many rows came, if it is known.

    Attributes:
        rows: What it has returned.
    """

    def __init__(self, statement: str, send: Callable[[str, Any], Awaitable[int | None]]) -> None:
        self.rows: int | None = None
        self.statement = statement
        self._send = send
        self._sql = statement
        self._parameters: Any = None

    def changed(self, sql: str, parameters: Any) -> None:  # noqa: ANN401  # of any driver
        """Take note of what is to be sent."""
        self._sql, self._parameters = sql, parameters

    async def run(self, driver: Any) -> None:  # noqa: ANN401, ARG002  # of any driver
        """Send it."""
        self.rows = await self._send(self._sql, self._parameters)


class Failed:
    """A statement that the driver has run already, and that failed.

    Attributes:
        told: Observers have been told of it.
    """

    def __init__(self, statement: str, error: BaseException, *, told: bool = False) -> None:
        self._statement = statement
        self._error = error
        self.told = told

    @property
    def statement(self) -> str:
        """The SQL, as observers and errors show it."""
        return self._statement

    async def run(self, driver: Any) -> None:  # noqa: ANN401, ARG002  # of any driver
        """Fail in the same way."""
        raise self._error


class Fed(Generic[T]):
    """What makes a statement out of pieces that other code yields, such as a generator of the program's.

    Attributes:
        failed_by: What that code has raised: the statement is not to blame.
    """

    def __init__(self, pieces: Iterable[T]) -> None:
        self._pieces = pieces
        self.failed_by: Exception | None = None

    def pieces(self) -> Iterator[T]:
        """Yield them once."""
        try:
            yield from self._pieces
        except Exception as error:
            self.failed_by = error
            raise


def failed_by_its_feed(context: ExceptionContext) -> bool:
    """Say whether a statement has failed because the code has that yields what it is made of."""
    sent = context.execution_context
    order = order_of(sent) if sent is not None else None
    return isinstance(order, Fed) and order.failed_by is context.original_exception


class Blocks:
    """Pieces of COPY data for drivers that wait for each one."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks: Iterator[bytes] = iter(blocks)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for piece in self._blocks:
            return piece
        raise StopAsyncIteration


class SQLiteMany(Fed[list[tuple[Any, ...]]]):
    """One INSERT of SQLite for many rows: prepared once, one visit to the driver's thread for each batch."""

    def __init__(self, statement: str, batches: Iterable[list[tuple[Any, ...]]]) -> None:
        super().__init__(batches)
        self._statement = statement
        self.changed = 0

    @property
    def statement(self) -> str:
        """The SQL, as observers and errors show it."""
        return self._statement

    async def run(self, driver: Any) -> None:  # noqa: ANN401  # an aiosqlite connection
        """Run it."""
        cursor = await driver.cursor()
        try:
            for rows in self.pieces():
                await cursor.executemany(self._statement, rows)
                self.changed += cursor.rowcount
        except BaseException as error:
            if not isinstance(error, Exception):
                # The driver's thread works on after a cancellation.
                await driver.interrupt()
            raise
        finally:
            await cursor.close()


class CopyTarget:
    """A table and the columns that COPY fills."""

    def __init__(self, schema: str | None, table: str, columns: Iterable[str]) -> None:
        self.schema = schema
        self.table = table
        self.columns = tuple(columns)

    @property
    def statement(self) -> str:
        """The SQL that reads rows from the client."""
        name = ".".join(quoted(part) for part in (self.schema, self.table) if part)
        # The data are UTF-8, whatever the client encoding is.
        return f"COPY {name} ({', '.join(map(quoted, self.columns))}) FROM STDIN WITH (ENCODING 'UTF8')"


def quoted(name: str) -> str:
    """Quote a name for PostgreSQL."""
    return '"' + name.replace('"', '""') + '"'


class AsyncpgCopyIn(Fed[bytes]):
    """COPY FROM STDIN through asyncpg."""

    def __init__(self, target: CopyTarget, blocks: Iterable[bytes]) -> None:
        super().__init__(blocks)
        self._target = target

    @property
    def statement(self) -> str:
        """The SQL, as observers and errors show it."""
        return self._target.statement

    async def run(self, driver: Any) -> None:  # noqa: ANN401  # an asyncpg connection
        """Send it."""
        target = self._target
        source = Blocks(self.pieces())
        await driver.copy_to_table(
            target.table, schema_name=target.schema, columns=target.columns, source=source, encoding="UTF8"
        )


class PsycopgCopyIn(AsyncpgCopyIn):
    """COPY FROM STDIN through psycopg."""

    async def run(self, driver: Any) -> None:  # noqa: ANN401  # a psycopg connection
        """Send it."""
        async with driver.cursor() as cursor, cursor.copy(self.statement) as copying:
            for piece in self.pieces():
                await copying.write(piece)


class AsyncpgCopyOut:
    """COPY TO STDOUT through asyncpg, as CSV with a header; each piece goes to `write`."""

    def __init__(self, query: str, write: Callable[[bytes], object], null: str) -> None:
        self.query = query
        self.write = write
        self.null = null
        self.rows = 0
        """How many rows were written."""

    @property
    def statement(self) -> str:
        """The SQL, as observers and errors show it."""
        null = self.null.replace("'", "''")
        return f"COPY ({self.query}) TO STDOUT (FORMAT csv, HEADER, NULL '{null}', ENCODING 'utf8')"

    async def run(self, driver: Any) -> None:  # noqa: ANN401  # an asyncpg connection
        """Send it, and hand on what comes."""

        async def write(piece: bytes) -> None:
            self.write(piece)

        status: str = await driver.copy_from_query(
            self.query, output=write, format="csv", header=True, null=self.null, encoding="utf8"
        )
        self.rows = int(status.rpartition(" ")[2])


class PsycopgCopyOut(AsyncpgCopyOut):
    """COPY TO STDOUT through psycopg, as CSV with a header."""

    async def run(self, driver: Any) -> None:  # noqa: ANN401  # a psycopg connection
        """Send it, and hand on what comes."""
        async with driver.cursor() as cursor, cursor.copy(self.statement) as copying:
            async for piece in copying:
                self.write(bytes(piece))
            self.rows = cursor.rowcount
