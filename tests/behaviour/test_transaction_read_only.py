"""`read_only=True` is enforced: by the database where it can be, and by the session before that."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateTable

from tests.fixtures.dialogue import Dialogue
from tests.fixtures.errors import StockError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Propagation, Repository, TransactionRefusedError, UnexpectedRollbackError

ANN = "INSERT INTO account (id, name, balance) VALUES (900, 'ann', 0)"
INSERT_TEXT = text("INSERT INTO audit (note) VALUES ('lost')")
RAISED = (DBAPIError, TransactionRefusedError)


async def _add(session: AsyncSession) -> None:
    session.add(Audit(note="lost"))
    await session.flush()


async def _add_all(session: AsyncSession) -> None:
    session.add_all([Audit(note="lost")])
    await session.flush()


async def _change(session: AsyncSession) -> None:
    account = await session.get_one(Account, 900)
    account.balance = 99
    await session.flush()


async def _delete(session: AsyncSession) -> None:
    await session.delete(await session.get_one(Account, 900))
    await session.flush()


async def _merge(session: AsyncSession) -> None:
    await session.merge(Account(id=900, name="ann", balance=99))
    await session.flush()


async def _insert(session: AsyncSession) -> None:
    await session.execute(insert(Audit).values(note="lost"))


async def _update(session: AsyncSession) -> None:
    await session.execute(update(Account).values(balance=99))


async def _delete_all(session: AsyncSession) -> None:
    await session.execute(delete(Account))


async def _scalar(session: AsyncSession) -> None:
    await session.scalar(update(Account).values(balance=99))


async def _text(session: AsyncSession) -> None:
    await session.execute(INSERT_TEXT)


async def _ddl(session: AsyncSession) -> None:
    await session.execute(CreateTable(Audit.metadata.tables["audit"], if_not_exists=True))


async def _connection(session: AsyncSession) -> None:
    connection = await session.connection()
    await connection.execute(INSERT_TEXT)


async def _connection_driver(session: AsyncSession) -> None:
    connection = await session.connection()
    await connection.exec_driver_sql("INSERT INTO audit (note) VALUES ('lost')")


async def _sync_add(session: AsyncSession) -> None:
    await session.run_sync(lambda sync: sync.add(Audit(note="lost")))
    await session.flush()


async def _sync_flush(session: AsyncSession) -> None:
    def work(sync: Session) -> None:
        sync.add(Audit(note="lost"))
        sync.flush()

    await session.run_sync(work)


async def _sync_execute(session: AsyncSession) -> None:
    await session.run_sync(lambda sync: sync.execute(insert(Audit).values(note="lost")))


async def _sync_delete(session: AsyncSession) -> None:
    def work(sync: Session) -> None:
        sync.delete(sync.get_one(Account, 900))
        sync.flush()

    await session.run_sync(work)


WRITES = [
    _add,
    _add_all,
    _change,
    _delete,
    _merge,
    _insert,
    _update,
    _delete_all,
    _scalar,
    _text,
    _ddl,
    _connection,
    _connection_driver,
    _sync_add,
    _sync_flush,
    _sync_execute,
    _sync_delete,
]
Write = Callable[[AsyncSession], Awaitable[None]]
write = pytest.mark.parametrize("write", WRITES, ids=lambda w: w.__name__.removeprefix("_"))


async def assert_untouched(observer: Observer) -> None:
    """The tables are as they were."""
    assert await observer.notes(Audit) == []
    assert await observer.values(Account, "balance") == [0]


@write
async def test_read_only_block_refuses_to_write(db: Database, observer: Observer, write: Write) -> None:
    """Every way to write raises at the write, and nothing is stored."""
    await observer.run(ANN)

    with pytest.raises(RAISED):
        async with db.transaction(read_only=True) as session:
            await write(session)

    await assert_untouched(observer)


@write
async def test_joined_read_only_block_refuses_to_write(
    db: Database, observer: Observer, write: Write
) -> None:
    """A joined block narrows the transaction for its own extent: a write raises at the write."""
    await observer.run(ANN)

    with suppress(*RAISED, UnexpectedRollbackError):
        async with db.transaction() as session:
            async with db.transaction(read_only=True):
                with pytest.raises(RAISED):
                    await write(session)

    await assert_untouched(observer)


@write
async def test_nested_read_only_block_refuses_to_write(
    db: Database, observer: Observer, write: Write
) -> None:
    """So does a read-only savepoint."""
    await observer.run(ANN)

    with suppress(*RAISED, UnexpectedRollbackError):
        async with db.transaction():
            async with db.transaction(read_only=True, propagation=Propagation.NESTED) as session:
                with pytest.raises(RAISED):
                    await write(session)

    await assert_untouched(observer)


@write
async def test_read_only_block_without_a_transaction_refuses_to_write(
    db: Database, observer: Observer, write: Write
) -> None:
    """And a read-only block in which each statement commits by itself."""
    await observer.run(ANN)

    with suppress(*RAISED):
        async with db.transaction(read_only=True, propagation=Propagation.SUPPORTS) as session:
            with pytest.raises(RAISED):
                await write(session)

    await assert_untouched(observer)


async def test_refusal_names_the_block_that_made_it_read_only(db: Database) -> None:
    """The message says which block is read-only."""

    @db.transactional(read_only=True)
    async def report() -> None:
        async with db.transaction():
            db.session.add(Audit(note="x"))

    with pytest.raises(TransactionRefusedError, match="report"):
        await report()


async def test_joined_block_cannot_widen_a_read_only_transaction(db: Database, observer: Observer) -> None:
    """`read_only=False` inside a read-only transaction does not make it writable."""
    with pytest.raises(TransactionRefusedError):
        async with db.transaction(read_only=True), db.transaction(read_only=False):
            await db.session.execute(insert(Audit).values(note="lost"))

    assert await observer.notes(Audit) == []


async def test_requires_new_writes_inside_a_read_only_transaction(db: Database, observer: Observer) -> None:
    """Another transaction is not bound by it."""
    async with db.transaction(read_only=True):
        await db.session.scalars(select(Audit))
        async with db.transaction(propagation=Propagation.REQUIRES_NEW):
            db.session.add(Audit(note="kept"))

    assert await observer.notes(Audit) == ["kept"]


async def test_write_after_a_joined_read_only_block_is_allowed(db: Database, observer: Observer) -> None:
    """The narrowing ends with the block that asked for it."""
    async with db.transaction():
        async with db.transaction(read_only=True):
            await db.session.scalars(select(Audit))
        db.session.add(Audit(note="kept"))

    assert await observer.notes(Audit) == ["kept"]


async def test_work_before_a_joined_read_only_block_is_stored(db: Database, observer: Observer) -> None:
    """What the outer block added before belongs to the outer block, flushed or not."""
    async with db.transaction():
        db.session.add(Audit(note="kept"))
        async with db.transaction(read_only=True):
            seen = list(await db.session.scalars(select(Audit.note)))

    assert seen == ["kept"]
    assert await observer.notes(Audit) == ["kept"]


async def test_change_in_a_joined_read_only_block_that_is_not_flushed_is_refused(
    db: Database, observer: Observer
) -> None:
    """A changed attribute is a write too: refused when the extent ends at the latest."""
    await observer.run(ANN)

    with pytest.raises((TransactionRefusedError, UnexpectedRollbackError)):
        async with db.transaction():
            account = await db.session.get_one(Account, 900)
            async with db.transaction(read_only=True):
                account.balance = 99

    assert await observer.values(Account, "balance") == [0]


async def test_read_only_block_reads(db: Database, observer: Observer) -> None:
    """Reading is what it is for: lists, keys, text, streams, refreshes."""
    await observer.run(ANN)

    async with db.transaction(read_only=True) as session:
        account = await session.get_one(Account, 900)
        await session.refresh(account)
        names = list(await session.scalars(select(Account.name)))
        texts = list(await session.scalars(text("SELECT name FROM account")))
        stream = [name async for name in await session.stream_scalars(select(Account.name))]

    assert names == texts == stream == ["ann"]


@pytest.mark.only("postgresql", reason="functions of PostgreSQL can write")
async def test_read_only_is_enforced_against_a_select_that_writes(db: Database, observer: Observer) -> None:
    """The database refuses what no reader of SQL text could see."""
    await observer.run(
        "CREATE FUNCTION sneak() RETURNS int LANGUAGE sql AS "
        "'INSERT INTO audit (note) VALUES (''lost'') RETURNING id'"
    )

    with pytest.raises(DBAPIError):
        async with db.transaction(read_only=True):
            await db.session.scalar(text("SELECT sneak()"))

    assert await observer.notes(Audit) == []


@pytest.mark.parametrize("end", ["returns", "raises", "refused", "cancelled"])
@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.SUPPORTS])
async def test_read_only_does_not_leak_to_the_next_user(
    db: Database, observer: Observer, dialogue: Dialogue, propagation: Propagation, end: str
) -> None:
    """However a read-only block ends, the next user of its connection may write."""
    async with db.transaction():
        before = await db.session.scalar(text(dialogue.settings))

    with suppress(StockError, TransactionRefusedError, TimeoutError, DBAPIError):
        async with db.transaction(read_only=True, propagation=propagation):
            await db.session.scalars(select(Audit))
            if end == "raises":
                raise StockError
            if end == "refused":
                await _connection(db.session)
            if end == "cancelled":
                async with asyncio.timeout(0.05):
                    await db.session.execute(text(dialogue.slow))

    async with db.transaction():
        after = await db.session.scalar(text(dialogue.settings))
        db.session.add(Audit(note="kept"))
    async with db.engine.begin() as connection:
        await connection.execute(INSERT_TEXT)

    assert after == before
    assert await observer.notes(Audit) == ["kept", "lost"]


async def test_forty_read_only_and_writing_blocks_do_not_mix(db: Database, observer: Observer) -> None:
    """On few connections, used by turns, each block gets the mode that it asked for."""

    async def read() -> None:
        with pytest.raises(RAISED):
            async with db.transaction(read_only=True):
                await _connection(db.session)

    async def write() -> None:
        async with db.transaction():
            db.session.add(Audit(note="kept"))

    await asyncio.gather(*(job() for _ in range(20) for job in (read, write)))

    assert await observer.notes(Audit) == ["kept"] * 20


@pytest.mark.only("sqlite", reason="its driver works in a thread, which is visited for each call")
async def test_block_that_only_reads_visits_the_thread_no_oftener(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for the read, with which it begins, and once to end, as a block that writes; the next one may."""
    accounts = Repository[Account](db)
    visits = []
    for read_only in (False, False, False, True, False):
        caplog.clear()
        with caplog.at_level("DEBUG", logger="aiosqlite"):
            async with db.transaction(read_only=read_only):
                await accounts.get(900)
        visits.append(sum(record.message.startswith("executing") for record in caplog.records))

    _first, _second, *others = visits  # of which the lane learns what it is about
    assert others == [2, 2, 2]
    await accounts.add(Account(name="ann", balance=1))


@pytest.mark.only("sqlite", reason="it closes a connection to writes for the time of the block")
@pytest.mark.parametrize("failure", [None, StockError, asyncio.CancelledError])
async def test_connection_takes_writes_after_a_block_that_only_read(
    db: Database, observer: Observer, failure: type[BaseException] | None
) -> None:
    """However that ended, also a write that begins no block."""
    with suppress(StockError, asyncio.CancelledError):
        async with db.transaction(read_only=True) as session:
            await session.scalars(select(Account))
            if failure is not None:
                raise failure

    await Repository[Audit](db).add(Audit(note="written"))
    async with db.engine.begin() as connection:
        await connection.execute(insert(Audit).values(note="by hand"))

    assert await observer.notes(Audit) == ["by hand", "written"]
