"""A connection that is lost, closed or disposed of leaves its place in the pool, and serves nobody more."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiosqlite
import asyncmy
import asyncpg
import psycopg
import pytest
from sqlalchemy import URL, event, insert, select, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError

from tests.fixtures.dialogue import Dialogue
from tests.fixtures.errors import ShopError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.fixtures.proxy import Proxy
from tests.fixtures.saboteur import Saboteur
from unitwork import Database, Propagation, Repository

SERVERS = pytest.mark.only("postgresql", "mariadb", reason="SQLite has no server to lose")
PATIENCE_S = 10
TURNS = 50
LEVEL_IS_SET_BACK = b"ISOLATION LEVEL"
CONNECT: dict[str, Callable[..., Awaitable[Any]]] = {
    "aiosqlite": aiosqlite.connect,
    "asyncpg": asyncpg.connect,
    "psycopg": psycopg.AsyncConnection.connect,
    "asyncmy": asyncmy.connect,
}
Work = Callable[[Database], Awaitable[object]]


async def read(db: Database) -> object:
    """A repository."""
    return await Repository[Account](db).all()


async def supports(db: Database) -> object:
    """Without a transaction."""
    async with db.transaction(propagation=Propagation.SUPPORTS) as session:
        return await session.scalar(select(Account.id))


async def block(db: Database) -> object:
    """A block that writes."""
    async with db.transaction() as session:
        return await session.execute(insert(Audit).values(note="block"))


async def isolated(db: Database) -> object:
    """A block with an isolation level of its own."""
    async with db.transaction(isolation="SERIALIZABLE") as session:
        return await session.execute(insert(Audit).values(note="isolated"))


async def read_only(db: Database) -> object:
    """A block that only reads."""
    async with db.transaction(read_only=True) as session:
        return await session.scalar(select(Account.id))


async def unit(db: Database) -> object:
    """A unit of work."""
    async with db.unit_of_work() as session:
        return await session.scalar(select(Account.id))


async def add(db: Database) -> object:
    """One insert of a repository."""
    return await Repository[Audit](db).add(Audit(note="added"))


async def by_hand(db: Database) -> object:
    """A connection by hand."""
    async with db.engine.connect() as connection:
        return await connection.scalar(text("SELECT 1"))


async def by_factory(db: Database) -> object:
    """A session by hand."""
    async with db.session_factory() as session:
        return await session.scalar(select(Account.id))


async def ping(db: Database) -> object:
    """The smallest question."""
    return await db.ping()


WAYS: dict[str, Work] = {
    work.__name__: work
    for work in (read, supports, block, isolated, read_only, unit, add, by_hand, by_factory, ping)
}


@SERVERS
@pytest.mark.parametrize("way", list(WAYS))
async def test_connection_that_is_known_to_be_closed_is_given_to_nobody(
    database_url: URL, saboteur: Saboteur, dialogue: Dialogue, way: str
) -> None:
    """The server has ended an idle connection, and the driver has heard of it: the pool opens another one."""
    async with Database(database_url, pool_size=1, max_overflow=0) as db:
        await read(db)
        async with db.engine.connect() as connection:
            number = await connection.scalar(text(dialogue.connection))
        await saboteur.end(number)

        await WAYS[way](db)

        assert db.pool_status().checked_out == 0


async def test_connection_that_was_closed_by_hand_is_given_to_nobody(database_url: URL) -> None:
    """Whoever has the driver's own connection may close it; the next one gets another."""
    async with Database(database_url, pool_size=1, max_overflow=0) as db:
        async with db.engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver = raw.driver_connection
            assert driver is not None
            await (driver.ensure_closed() if hasattr(driver, "ensure_closed") else driver.close())

        await block(db)
        await read(db)


@pytest.mark.only("mariadb", reason="others send nothing to set a level back")
@pytest.mark.parametrize("way", ["read", "supports", "isolated"])
async def test_place_is_kept_when_the_connection_is_lost_on_its_way_back(
    proxy: Proxy, observer: Observer, way: str
) -> None:
    """Lost before the isolation level was set back: what was done is done, and the pool is whole."""
    async with Database(proxy.url, pool_size=1, max_overflow=0, pool_timeout=1) as db:
        await by_hand(db)
        for _ in range(3):
            proxy.cut_before = b"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"
            await WAYS[way](db)
            proxy.cut_before = b""

            assert db.pool_status().checked_out == 0
            await block(db)

    assert set(await observer.notes(Audit)) >= {"block"}


class Stop(BaseException):
    """Stops a program, as KeyboardInterrupt does, but not the event loop of the tests."""


MOMENTS = ["do_connect", "connect", "checkout", "engine_connect", "begin", "reset", "checkin"]


@pytest.mark.parametrize("kind", [RuntimeError, Stop, asyncio.CancelledError])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_place_is_kept_whatever_a_listener_raises(
    database_url: URL, moment: str, kind: type[BaseException]
) -> None:
    """On the way out of the pool, or back: the next one is served, in each way to get a connection."""

    class Listener:
        """Fails once, when it is told to."""

        fails = False

        def __call__(self, *_arguments: object, **_keywords: object) -> None:
            if self.fails:
                self.fails = False
                raise kind("mine")

    for name, way in WAYS.items():
        async with Database(database_url, name=name, pool_size=1, max_overflow=0, pool_timeout=1) as db:
            listener = Listener()
            await block(db)
            await read(db)
            if moment in ("do_connect", "connect"):
                await db.dispose()
            event.listen(db.engine.sync_engine, moment, listener)
            listener.fails = True
            with suppress(Exception, Stop, asyncio.CancelledError):
                await way(db)
            listener.fails = False

            assert db.pool_status().checked_out == 0, name
            await block(db)
            await read(db)


@SERVERS
async def test_connection_that_is_in_use_is_closed_after_dispose(
    database_url: URL, observer: Observer, dialogue: Dialogue
) -> None:
    """`dispose()` while connections are out, in each way: they are closed when they come back."""
    db = Database(database_url)
    async with db.transaction() as session, db.engine.connect() as connection, db.session_factory() as own:
        numbers = {await one.scalar(text(dialogue.connection)) for one in (session, connection, own)}
        await session.execute(insert(Audit).values(note="kept"))
        await db.dispose()
    gc.collect()

    async with asyncio.timeout(PATIENCE_S):
        while numbers & set(await observer.column(_all(dialogue))):  # noqa: ASYNC110 - the server has no event
            await asyncio.sleep(0.02)
    assert await observer.notes(Audit) == ["kept"]
    await read(db)
    await db.dispose()


async def test_connection_of_a_block_that_reads_is_closed_after_dispose(
    database_url: URL, caplog: pytest.LogCaptureFixture
) -> None:
    """It was idle, and goes back to a pool that closes it: that is waited for."""
    async with Database(database_url) as db:
        await read_only(db)
        async with db.transaction(read_only=True) as session:
            await session.scalar(select(Account.id))
            await db.dispose()
        await read_only(db)

    assert _said_by_pools(caplog) == []


async def test_pool_that_is_filled_while_a_block_commits_closes_its_connection(
    database_url: URL, caplog: pytest.LogCaptureFixture
) -> None:
    """There was room for the connection when COMMIT was sent, and is none when it is answered."""
    async with Database(database_url, pool_size=1, max_overflow=1) as db:
        await read_only(db)
        async with db.transaction(read_only=True) as session:
            await session.scalar(select(Account.id))
            more = await db.engine.connect()
            returning = asyncio.create_task(more.close())
        await returning

        assert (db.pool_status().checked_out, db.pool_status().idle) == (0, 1)
    assert _said_by_pools(caplog) == []


@pytest.mark.parametrize("how", ["commit", "rollback", None])
async def test_pool_that_commits_what_comes_back_keeps_its_connections(
    database_url: URL, observer: Observer, caplog: pytest.LogCaptureFixture, how: str | None
) -> None:
    """As `pool_reset_on_return` says, after the block has committed or rolled back."""
    async with Database(database_url, pool_size=1, pool_reset_on_return=how) as db:
        for _ in range(2):
            await block(db)
            await read_only(db)
            with suppress(ShopError):
                async with db.transaction() as session:
                    await session.execute(insert(Audit).values(note="undone"))
                    raise ShopError

    assert _said_by_pools(caplog) == []
    assert await observer.notes(Audit) == ["block"] * 2


def _said_by_pools(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("sqlalchemy.pool")]


def _all(dialogue: Dialogue) -> str:
    if "pg_" in dialogue.connection:
        return "SELECT pid FROM pg_stat_activity"
    return "SELECT id FROM information_schema.processlist"


async def test_memory_is_closed_after_dispose_when_its_block_has_ended() -> None:
    """The one connection is in use: its block goes on to the end, and the next one begins with nothing."""
    db = Database("sqlite+aiosqlite:///:memory:", name="memory")
    async with db.transaction() as session:
        await session.execute(text("CREATE TABLE t (id INTEGER)"))
        await db.dispose()
        await session.execute(text("INSERT INTO t VALUES (1)"))

    with pytest.raises(DBAPIError, match="no such table"):
        async with db.transaction() as session:
            await session.execute(text("SELECT * FROM t"))
    await db.dispose()


@SERVERS
async def test_task_that_waits_for_the_pool_is_served_after_dispose(database_url: URL) -> None:
    """It has waited in the queue of the old pool, which still has an end."""
    async with Database(database_url, pool_size=1, max_overflow=0, pool_timeout=10) as db:
        async with db.engine.connect():
            waiting = asyncio.create_task(by_hand(db))
            await asyncio.sleep(0.01)
            await db.dispose()

        assert await waiting == 1


@SERVERS
@pytest.mark.parametrize("way", ["block", "isolated"])
async def test_commit_that_is_refused_by_the_driver_is_known_to_be_lost(
    database_url: URL, observer: Observer, way: str
) -> None:
    """The driver's connection is closed under the block: COMMIT was never sent, so nothing is unknown."""
    ran: list[str] = []
    options = {"isolation": "SERIALIZABLE"} if way == "isolated" else {}
    async with Database(database_url) as db:
        with pytest.raises(DBAPIError):
            async with db.transaction(**options) as session:  # type: ignore[arg-type]  # one of two
                db.on_rollback(lambda: ran.append("undone"))
                await session.execute(insert(Audit).values(note="lost"))
                raw = await (await session.connection()).get_raw_connection()
                assert raw.driver_connection is not None
                closing = raw.driver_connection.close()
                if closing is not None:  # asyncmy closes at once
                    await closing

    assert ran == ["undone"]
    assert await observer.notes(Audit) == []


@SERVERS
@pytest.mark.parametrize("work", [read, block, unit, add])
async def test_cancelled_opening_closes_its_connection_at_once(database_url: URL, work: Work) -> None:
    """The server need not wait until somebody drops the exception, nor for the garbage collector."""
    called, closed = asyncio.Event(), asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        with suppress(ConnectionError):
            while await reader.read(1024):
                pass
        closed.set()
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
        db = Database(database_url.set(host="127.0.0.1", port=server.sockets[0].getsockname()[1]))
        gc.disable()
        try:
            opening = asyncio.ensure_future(work(db))
            await called.wait()
            for _ in range(TURNS):  # the driver hears of it too, and waits for what the server says
                await asyncio.sleep(0)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError) as kept:
                await opening
            await asyncio.wait_for(closed.wait(), PATIENCE_S)
        finally:
            gc.enable()

    assert kept.value.__traceback__ is not None
    assert db.pool_status().checked_out == 0


async def test_connection_that_a_listener_refuses_is_closed(database_url: URL) -> None:
    """What sets it up fails after it was opened: nothing is left to the collector, and the next is whole."""
    db = Database(database_url, pool_size=1, max_overflow=0, pool_timeout=1)
    opened: list[DBAPIConnection] = []

    def refuse(connection: DBAPIConnection, _entry: object) -> None:
        if not opened:
            opened.append(connection)
            raise ShopError

    event.listen(db.engine.sync_engine, "connect", refuse)
    with pytest.raises(ShopError):
        await block(db)

    assert db.source.backend.is_closed(opened[0])
    await block(db)
    assert db.pool_status().checked_out == 0
    await db.dispose()


@pytest.mark.parametrize("work", [read, supports, block, isolated, read_only, unit])
async def test_cancellation_that_the_driver_swallows_while_it_connects(
    database_url: URL, observer: Observer, work: Work
) -> None:
    """So does `asyncio.wait_for` of Python 3.11, if the server has just answered. The task ends."""
    opening = asyncio.Event()
    opened: list[Any] = []

    async def open_deaf() -> Any:  # noqa: ANN401  # of any driver
        dialect = database_url.get_dialect()()
        arguments, keywords = dialect.create_connect_args(database_url)
        connection = await CONNECT[dialect.driver](*arguments, **keywords)
        opened.append(connection)
        opening.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(PATIENCE_S)
        return connection

    async with Database(database_url, name="deaf", pool_size=1, async_creator=open_deaf) as db:
        task = asyncio.create_task(completed(work(db)))
        await opening.wait()
        task.cancel()
        await asyncio.wait((task,), timeout=PATIENCE_S)
        assert task.cancelled()
        assert db.pool_status().checked_out == 0
    del task
    gc.collect()

    assert len(opened) == 1
    assert await observer.notes(Audit) == []


async def completed(work: Awaitable[object]) -> None:
    """Wait for something, as the coroutine of a task."""
    await work
