"""A block has SQLAlchemy's connection when somebody asks for it, whatever was sent before on the driver's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from sqlite3 import Connection as RawConnection
from sqlite3 import connect
from typing import Any

import pytest
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError

from tests.fixtures.errors import StockError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Propagation, Repository, UnexpectedRollbackError

NESTED = Propagation.NESTED
INSERT = text("INSERT INTO audit (note) VALUES ('by hand')")
FILES = pytest.mark.only("sqlite", reason="others lock no file")


class AuditsOfBlock(Repository[Audit]):
    """The door to audits."""


async def warm_up(db: Database) -> None:
    """Let the pool have an idle connection, and the lanes know the statements."""
    for _ in range(3):
        async with db.transaction():
            await AuditsOfBlock(db).get(1)
            await AuditsOfBlock(db).count()


async def test_connection_that_is_asked_for_is_in_the_transaction(db: Database, observer: Observer) -> None:
    """What is sent on it is stored with the block, and sees what the block has written before."""
    await warm_up(db)
    async with db.transaction() as session:
        await AuditsOfBlock(db).add(Audit(note="before"))
        connection = await session.connection()
        assert connection.in_transaction()
        assert await connection.scalar(text("SELECT count(*) FROM audit")) == 1
        await connection.execute(INSERT)

    assert sorted(await observer.notes(Audit)) == ["before", "by hand"]


async def test_connection_that_is_asked_for_is_undone_with_the_block(
    db: Database, observer: Observer
) -> None:
    """As all that was sent before somebody asked."""
    await warm_up(db)
    with pytest.raises(StockError):
        async with db.transaction() as session:
            await AuditsOfBlock(db).add(Audit(note="before"))
            await session.execute(INSERT)
            raise StockError

    assert await observer.count(Audit) == 0
    await AuditsOfBlock(db).add(Audit(note="after"))
    assert await observer.notes(Audit) == ["after"]


# -- savepoints, and what the session does not see -------------------------------------------------


@pytest.mark.parametrize("sync", [False, True], ids=["awaited", "in run_sync"])
async def test_connection_that_was_asked_for_outside_of_a_savepoint_is_in_it(
    db: Database, observer: Observer, *, sync: bool
) -> None:
    """What is sent on it is undone with the savepoint, though the session itself has sent nothing there."""
    async with db.transaction() as session:
        connection = await session.connection()
        with pytest.raises(StockError):
            async with db.transaction(propagation=NESTED):
                if sync:
                    await connection.run_sync(lambda held: held.execute(INSERT))
                else:
                    await connection.execute(INSERT)
                raise StockError
        await AuditsOfBlock(db).add(Audit(note="after"))

    assert await observer.notes(Audit) == ["after"]


async def test_cursor_of_the_driver_is_in_the_savepoint(db: Database, observer: Observer) -> None:
    """Of what that sends nobody hears but the database."""

    def insert(held: Connection) -> None:
        with closing(held.connection.cursor()) as cursor:
            cursor.execute(INSERT.text)

    async with db.transaction() as session:
        connection = await session.connection()
        with pytest.raises(StockError):
            async with session.begin_nested():
                async with session.begin_nested():
                    await connection.run_sync(insert)
                raise StockError

    assert await observer.count(Audit) == 0


async def test_error_of_a_connection_that_was_asked_for_outside_is_undone_with_the_savepoint(
    db: Database, observer: Observer
) -> None:
    """The outer block goes on, and stores what it has said to store."""
    same = text("INSERT INTO audit (id, note) VALUES (50, 'same')")
    async with db.transaction() as session:
        connection = await session.connection()
        await AuditsOfBlock(db).add(Audit(id=50, note="before"))
        with pytest.raises(DBAPIError):
            async with db.transaction(propagation=NESTED):
                await connection.execute(same)
        await AuditsOfBlock(db).add(Audit(note="after"))

    assert await observer.notes(Audit) == ["after", "before"]


async def test_savepoint_that_cannot_begin_for_a_listener_leaves_the_block_whole(
    db: Database, observer: Observer
) -> None:
    """It is begun before its first statement, where others have the connection: at the block's entry."""

    def fail(*_: object) -> None:
        raise StockError

    async with db.transaction() as session:
        await session.connection()
        event.listen(db.engine.sync_engine, "savepoint", fail)
        try:
            with pytest.raises(StockError):
                await db.transaction(propagation=NESTED).__aenter__()
        finally:
            event.remove(db.engine.sync_engine, "savepoint", fail)
        assert not session.in_nested_transaction()
        async with db.transaction(propagation=NESTED):
            await AuditsOfBlock(db).add(Audit(note="inside"))

    assert await observer.notes(Audit) == ["inside"]


@pytest.mark.only("postgresql", reason="others do not answer COMMIT with a rollback")
@pytest.mark.parametrize("around", ["block", "unit"])
async def test_failure_on_the_driver_is_told_by_the_end_of_the_block(
    db: Database, observer: Observer, around: str
) -> None:
    """The database rolls back where it is asked to commit, and only the driver knows why."""
    told: list[str] = []
    with pytest.raises(UnexpectedRollbackError, match="on the connection of the driver"):
        async with db.transaction() if around == "block" else db.unit_of_work():
            await AuditsOfBlock(db).add(Audit(note="before"))
            db.on_commit(lambda: told.append("committed"))
            db.on_rollback(lambda: told.append("rolled back"))
            connection = await db.session.connection()
            driver: Any = (await connection.get_raw_connection()).driver_connection
            with suppress(Exception):
                await driver.execute("SELECT 1 / 0")

    assert told == ["rolled back"]
    assert await observer.count(Audit) == 0
    assert db.pool_status().checked_out == 0


async def test_read_only_block_inside_is_over_before_the_first_statement(
    db: Database, observer: Observer
) -> None:
    """What comes after it is sent as if it had not been."""
    await warm_up(db)
    async with db.transaction():
        async with db.transaction(propagation="NESTED", read_only=True):
            pass
        assert await AuditsOfBlock(db).get(1) is None
        await AuditsOfBlock(db).add(Audit(note="after"))

    assert await observer.notes(Audit) == ["after"]


async def test_who_comes_meanwhile_hears_of_the_end(db: Database, observer: Observer) -> None:
    """Of COMMIT and of ROLLBACK, once each, though the block had begun before."""
    heard: list[str] = []
    await warm_up(db)
    engine = db.engine.sync_engine
    listeners = {name: lambda _connection, name=name: heard.append(name) for name in ("commit", "rollback")}
    try:
        async with db.transaction():
            await AuditsOfBlock(db).add(Audit(note="kept"))
            for name, listener in listeners.items():
                event.listen(engine, name, listener)
        with pytest.raises(StockError):
            async with db.transaction():
                await AuditsOfBlock(db).add(Audit(note="undone"))
                raise StockError
    finally:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)

    assert heard == ["commit", "rollback"]
    assert await observer.notes(Audit) == ["kept"]


async def test_reads_of_a_read_only_block_are_of_one_connection_that_writes_nothing(
    db: Database, observer: Observer
) -> None:
    """The database itself refuses what is sent past the session after a read; the next block may write."""
    await warm_up(db)
    async with db.transaction(read_only=True) as session:
        assert await AuditsOfBlock(db).get(1) is None
        raw = await (await session.connection()).get_raw_connection()
        driver = raw.driver_connection
        with pytest.raises(Exception, match=r"(?i)read.?only"):
            await _send(driver, str(INSERT))

    await AuditsOfBlock(db).add(Audit(note="after"))
    assert await observer.notes(Audit) == ["after"]


async def _send(driver: Any, sql: str) -> None:  # noqa: ANN401  # of any
    """Send a statement on the connection of a driver, of which SQLAlchemy hears nothing."""
    if hasattr(driver, "fetch"):  # asyncpg has no cursors like those of the others
        await driver.execute(sql)
        return
    async with driver.cursor() as cursor:
        await cursor.execute(sql)


async def test_settings_of_a_read_only_block_end_with_it_whatever_it_has_sent(
    db: Database, observer: Observer
) -> None:
    """Nothing, reads alone, or reads and what asks for the connection; kept, undone or cancelled."""
    await warm_up(db)
    audits = AuditsOfBlock(db)

    async def read(*, asks: bool) -> None:
        async with db.transaction(read_only=True) as session:
            await audits.get(1)
            if asks:
                await session.scalar(text("SELECT 1"))

    for asks in (False, True):
        await read(asks=asks)
        await audits.add(Audit(note=f"kept {asks}"))
        with pytest.raises(StockError):
            async with db.transaction(read_only=True) as session:
                await audits.get(1)
                if asks:
                    await session.scalar(text("SELECT 1"))
                raise StockError
        async with db.transaction():
            await audits.add(Audit(note=f"undone {asks}"))
        task = asyncio.create_task(read(asks=asks))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with db.transaction():
            await audits.add(Audit(note=f"cancelled {asks}"))

    assert await observer.count(Audit) == 6


async def test_failed_statement_leaves_a_block_that_rolls_back(db: Database, observer: Observer) -> None:
    """The first one of the block as well: its error is SQLAlchemy's, and names the statement."""
    await warm_up(db)
    async with db.transaction():
        await Repository[Account](db).add(Account(id=900, name="ann"))
    async with db.transaction():
        await AuditsOfBlock(db).add(Audit(note="warm"))
    with pytest.raises(DBAPIError) as caught:
        async with db.transaction():
            await Repository[Account](db).add(Account(id=901, name="ann"))

    assert caught.value.statement is not None
    assert caught.value.statement.startswith("INSERT")
    assert await observer.names(Account) == ["ann"]


@pytest.fixture
async def locked_file(db: Database, database_url: URL) -> AsyncIterator[RawConnection]:
    """Somebody else holds the write lock, and nobody waits long for it."""

    def be_impatient(connection: DBAPIConnection, _entry: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout=200")
        cursor.close()

    event.listen(db.engine.sync_engine, "connect", be_impatient)
    await warm_up(db)
    assert database_url.database is not None
    with closing(connect(database_url.database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


@FILES
async def test_block_that_begins_with_a_read_says_that_it_cannot_begin(
    db: Database, locked_file: RawConnection, observer: Observer
) -> None:
    """It is BEGIN that has failed, not the statement that was to follow it; the next block begins."""
    for _ in range(2):
        with pytest.raises(OperationalError, match="locked") as caught:
            async with db.transaction():
                await AuditsOfBlock(db).get(1)
        assert caught.value.statement == "BEGIN IMMEDIATE"
        assert "In the block" in "\n".join(caught.value.__notes__)

    locked_file.execute("ROLLBACK")
    async with db.transaction():
        assert await AuditsOfBlock(db).get(1) is None
        await AuditsOfBlock(db).add(Audit(note="stored"))
    assert await observer.notes(Audit) == ["stored"]


@FILES
async def test_read_only_block_reads_while_somebody_writes(db: Database, locked_file: RawConnection) -> None:
    """It takes no lock, and sees what is stored."""
    locked_file.execute("INSERT INTO audit (note) VALUES ('not yet')")
    async with db.transaction(read_only=True):
        assert await AuditsOfBlock(db).count() == 0
    locked_file.execute("COMMIT")

    async with db.transaction(read_only=True):
        assert await AuditsOfBlock(db).count() == 1
