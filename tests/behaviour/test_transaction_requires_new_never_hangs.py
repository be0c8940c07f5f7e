"""REQUIRES_NEW never hangs the pool: what cannot get a connection raises at once and says so."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import URL, insert, select
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from unitwork import Base, Database, Propagation, TransactionRefusedError, UnexpectedRollbackError

NEW = Propagation.REQUIRES_NEW
AT_ONCE_S = 4.0
"""Far less than the pool's 30 seconds and SQLite's 5."""


@pytest.fixture
async def narrow(database_url: URL) -> AsyncIterator[Database]:
    """A Database with a single connection."""
    async with Database(database_url, pool_size=1, max_overflow=0) as db:
        yield db


@pytest.fixture
async def pair(database_url: URL) -> AsyncIterator[Database]:
    """A Database with two connections."""
    async with Database(database_url, pool_size=1, max_overflow=1) as db:
        yield db


@pytest.fixture
async def memory() -> AsyncIterator[Database]:
    """A Database in memory."""
    async with Database("sqlite+aiosqlite:///:memory:", name="memory") as db:
        await db.create_all(Base)
        yield db


@pytest.mark.parametrize("propagation", [NEW, Propagation.NOT_SUPPORTED])
async def test_pool_of_one_refuses_a_second_connection(
    narrow: Database, observer: Observer, propagation: Propagation
) -> None:
    """This very task holds the only connection: refused at once, and nothing is condemned."""
    async with asyncio.timeout(AT_ONCE_S), narrow.transaction():
        await narrow.session.execute(insert(Audit).values(note="outer"))
        with pytest.raises(TransactionRefusedError, match="connection"):
            async with narrow.transaction(propagation=propagation):
                await narrow.session.scalars(select(Audit))

    assert await observer.notes(Audit) == ["outer"]


async def test_pool_of_one_serves_both_before_the_outer_has_sent_anything(
    narrow: Database, observer: Observer
) -> None:
    """The outer transaction that has sent nothing holds nothing."""
    async with asyncio.timeout(AT_ONCE_S), narrow.transaction():
        async with narrow.transaction(propagation=NEW):
            narrow.session.add(Audit(note="inner"))
        narrow.session.add(Audit(note="outer"))

    assert await observer.notes(Audit) == ["inner", "outer"]


async def test_pool_of_one_refuses_the_outer_session_inside_the_inner_block(narrow: Database) -> None:
    """The other way round: the inner block holds the only connection, and the outer session wants it."""
    async with asyncio.timeout(AT_ONCE_S):
        with pytest.raises(TransactionRefusedError):
            async with narrow.transaction() as outer, narrow.transaction(propagation=NEW) as inner:
                await inner.scalars(select(Audit))
                await outer.scalars(select(Audit))


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has one write lock")
async def test_pool_of_two_serves_two_and_refuses_the_third(pair: Database, observer: Observer) -> None:
    """Each REQUIRES_NEW takes one; the one too many is refused."""
    async with asyncio.timeout(AT_ONCE_S), pair.transaction():
        await pair.session.execute(insert(Audit).values(note="1"))
        async with pair.transaction(propagation=NEW):
            await pair.session.execute(insert(Audit).values(note="2"))
            with pytest.raises(TransactionRefusedError):
                async with pair.transaction(propagation=NEW):
                    await pair.session.execute(insert(Audit).values(note="3"))

    assert await observer.notes(Audit) == ["1", "2"]


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has one write lock")
async def test_child_task_of_a_block_that_holds_all_connections_is_refused(narrow: Database) -> None:
    """The parent waits for the child, the child for the pool: refused too."""

    async def child() -> None:
        async with narrow.transaction(propagation=NEW):
            await narrow.session.scalars(select(Audit))

    async with asyncio.timeout(AT_ONCE_S), narrow.transaction():
        await narrow.session.scalars(select(Audit))
        with pytest.raises(TransactionRefusedError):
            await asyncio.gather(child())


async def test_waiting_for_another_task_is_no_reason_to_refuse(narrow: Database, observer: Observer) -> None:
    """What another task holds comes back: many tasks share one connection by turns."""

    async def work(number: int) -> None:
        async with narrow.transaction(propagation=NEW):
            await narrow.session.execute(insert(Audit).values(note=str(number)))

    async with asyncio.timeout(AT_ONCE_S):
        await asyncio.gather(*(work(number) for number in range(8)))

    assert await observer.count(Audit) == 8


@pytest.mark.only("sqlite", reason="one write lock")
async def test_write_lock_of_the_outer_block_refuses_the_inner_one(db: Database, observer: Observer) -> None:
    """The outer block holds the one write lock: said at once, not after five seconds."""
    async with asyncio.timeout(AT_ONCE_S), db.transaction():
        await db.session.execute(insert(Audit).values(note="outer"))
        with pytest.raises(TransactionRefusedError, match="write lock"):
            async with db.transaction(propagation=NEW):
                await db.session.execute(insert(Audit).values(note="inner"))

    assert await observer.notes(Audit) == ["outer"]


@pytest.mark.only("sqlite", reason="one write lock")
async def test_write_lock_lets_readers_through(db: Database) -> None:
    """A read-only REQUIRES_NEW needs no write lock; it sees what is committed."""
    async with asyncio.timeout(AT_ONCE_S), db.transaction():
        await db.session.execute(insert(Audit).values(note="outer"))
        async with db.transaction(propagation=NEW, read_only=True):
            seen = list(await db.session.scalars(select(Audit.note)))

    assert seen == []


@pytest.mark.only("sqlite", reason="one write lock")
async def test_write_lock_refuses_a_write_that_commits_by_itself(db: Database) -> None:
    """NOT_SUPPORTED reads beside the outer block; its write is refused at once."""
    with pytest.raises((TransactionRefusedError, UnexpectedRollbackError)):
        async with asyncio.timeout(AT_ONCE_S), db.transaction():
            await db.session.execute(insert(Audit).values(note="outer"))
            async with db.transaction(propagation=Propagation.NOT_SUPPORTED):
                await db.session.execute(insert(Audit).values(note="inner"))


@pytest.mark.only("sqlite", reason="one write lock")
@pytest.mark.parametrize("inner", [Propagation.REQUIRED, Propagation.NESTED, NEW])
async def test_write_lock_refuses_a_transaction_behind_a_block_without_one(
    db: Database, observer: Observer, inner: Propagation
) -> None:
    """NOT_SUPPORTED in between does not hide the lock: said at once as well."""
    async with asyncio.timeout(AT_ONCE_S), db.transaction():
        await db.session.execute(insert(Audit).values(note="outer"))
        async with db.transaction(propagation=Propagation.NOT_SUPPORTED):
            with pytest.raises(TransactionRefusedError):
                async with db.transaction(propagation=inner):
                    await db.session.execute(insert(Audit).values(note="inner"))

    assert await observer.notes(Audit) == ["outer"]


@pytest.mark.only("sqlite", reason="one write lock")
async def test_reading_outer_block_leaves_the_write_lock(db: Database, observer: Observer) -> None:
    """A read-only outer block holds no write lock."""
    async with asyncio.timeout(AT_ONCE_S), db.transaction(read_only=True):
        await db.session.scalars(select(Audit))
        async with db.transaction(propagation=NEW):
            db.session.add(Audit(note="inner"))

    assert await observer.notes(Audit) == ["inner"]


@pytest.mark.parametrize("propagation", [NEW, Propagation.NOT_SUPPORTED])
async def test_memory_refuses_a_second_connection(memory: Database, propagation: Propagation) -> None:
    """A database in memory is one connection."""
    async with asyncio.timeout(AT_ONCE_S), memory.transaction():
        await memory.session.execute(insert(Audit).values(note="outer"))
        with pytest.raises(TransactionRefusedError):
            async with memory.transaction(propagation=propagation):
                await memory.session.execute(insert(Audit).values(note="inner"))

    async with memory.transaction():
        assert list(await memory.session.scalars(select(Audit.note))) == ["outer"]


async def test_memory_gives_each_task_its_transaction(memory: Database) -> None:
    """One task's rollback discards nobody else's rows."""

    async def work(number: int) -> None:
        async with memory.transaction():
            memory.session.add(Audit(note=str(number)))
            await memory.session.flush()
            await asyncio.sleep(0)
            if number % 2:
                memory.set_rollback_only()

    await asyncio.gather(*(work(number) for number in range(10)))

    async with memory.transaction():
        assert sorted(await memory.session.scalars(select(Audit.note))) == ["0", "2", "4", "6", "8"]


async def test_engine_with_one_shared_connection_refuses_a_second_transaction() -> None:
    """An engine of the user's with StaticPool has one connection for everybody."""
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    async with Database(engine, name="static") as db:
        await db.create_all(Base)
        async with asyncio.timeout(AT_ONCE_S), db.transaction():
            await db.session.execute(insert(Audit).values(note="outer"))
            with pytest.raises(TransactionRefusedError):
                async with db.transaction(propagation=NEW):
                    await db.session.execute(insert(Audit).values(note="inner"))
