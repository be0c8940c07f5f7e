"""What a block does in a unit of work, whatever was read, added or begun by hand before it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from tests.fixtures.errors import ShopError, StockError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import (
    Database,
    Isolation,
    Propagation,
    Repository,
    RetryPolicy,
    TransactionEndedError,
    TransactionRefusedError,
    UnexpectedRollbackError,
    UnitworkError,
)

Act = Callable[[Database], Awaitable[Any]]
Open = Callable[[Database], Any]
Asked = dict[str, Any]
PATIENCE_S = 10
ANN = "INSERT INTO account (id, name, balance) VALUES (1, 'ann', 100)"

UNITS: list[Any] = [
    pytest.param(lambda db: db.unit_of_work(), id="atomic"),
    pytest.param(lambda db: db.unit_of_work(atomic=False), id="in pieces"),
]
READS: list[Any] = [
    pytest.param(lambda db: Repository[Audit](db).all(), id="repository"),
    pytest.param(lambda db: Repository[Audit](db).get(99), id="repository by key"),
    pytest.param(lambda db: db.session.execute(select(Audit)), id="execute"),
    pytest.param(lambda db: db.session.scalars(select(Audit.note)), id="scalars"),
    pytest.param(lambda db: db.session.get(Audit, 99), id="get"),
    pytest.param(lambda db: db.session.scalar(text("SELECT count(*) FROM audit")), id="text"),
    pytest.param(lambda db: db.session.run_sync(lambda sync: sync.get(Audit, 99)), id="run_sync"),
    pytest.param(lambda db: db.session.connection(), id="connection"),
]
BEGINS = [Propagation.REQUIRED, Propagation.NESTED, Propagation.REQUIRES_NEW]


async def write(db: Database, note: str) -> None:
    """Send one row."""
    await db.session.execute(insert(Audit).values(note=note))


# -- in pieces: each block by itself --------------------------------------------------------------


@pytest.mark.parametrize("propagation", BEGINS)
@pytest.mark.parametrize("read", READS)
async def test_block_after_a_read_commits_by_itself(
    db: Database, observer: Observer, read: Act, propagation: Propagation
) -> None:
    """What was only read by hand before makes no difference to it."""
    story: list[str] = []
    async with db.unit_of_work(atomic=False):
        await read(db)
        async with db.transaction(propagation=propagation):
            db.on_commit(lambda: story.append("mail"))
            await write(db, "block")
        stored = await observer.notes(Audit)

    assert stored == ["block"]
    assert story == ["mail"]


@pytest.mark.parametrize("read", READS)
async def test_block_that_must_be_outermost_is_so_after_a_read(
    db: Database, observer: Observer, read: Act
) -> None:
    """`durable` holds, and MANDATORY finds no transaction."""
    async with db.unit_of_work(atomic=False):
        await read(db)
        with pytest.raises(TransactionRefusedError):
            async with db.transaction(propagation=Propagation.MANDATORY):
                pass
        async with db.transaction(durable=True):
            await write(db, "durable")
        await read(db)
        async with db.transaction(isolation=Isolation.SERIALIZABLE):
            await write(db, "strict")
        assert await observer.notes(Audit) == ["durable", "strict"]


async def test_changes_that_wait_go_with_the_next_block(db: Database, observer: Observer) -> None:
    """What was set or added by hand, and not sent, is stored by the block, which commits by itself."""
    audits, stored = Repository[Audit](db), []

    @db.transactional(durable=True)
    async def submit(note: str) -> Audit:
        return await audits.add(Audit(note=note))

    with pytest.raises(ShopError):
        async with db.unit_of_work(atomic=False):
            first = await submit("first")
            first.note = "changed"
            await submit("second")
            stored.append(await observer.notes(Audit))
            db.session.add(Audit(note="added"))
            await submit("third")
            stored.append(await observer.notes(Audit))
            assert db.pool_status().checked_out == 0
            first.note = "never sent"
            raise ShopError

    assert stored == [["changed", "second"], ["added", "changed", "second", "third"]]
    assert await observer.notes(Audit) == stored[-1]


async def test_block_after_a_write_by_hand_joins_it(db: Database, observer: Observer) -> None:
    """What has been sent is a transaction: the block is stored with it, or not."""
    async with db.unit_of_work(atomic=False):
        await write(db, "by hand")
        async with db.transaction():
            await write(db, "block")
        before = await observer.notes(Audit)
        await db.rollback()
        async with db.transaction():
            await write(db, "next")

    assert before == []
    assert await observer.notes(Audit) == ["next"]


async def test_rollback_by_hand_does_not_undo_what_a_repository_has_written(
    db: Database, observer: Observer
) -> None:
    """In pieces, a write of a repository commits by itself, also after a read by hand."""
    async with db.unit_of_work(atomic=False) as session:
        await session.scalars(select(Audit.note))
        await Repository[Audit](db).add(Audit(note="added"))
        await session.rollback()

    assert await observer.notes(Audit) == ["added"]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda db: Repository[Audit](db).add(Audit(note="late")), id="repository"),
        pytest.param(lambda db: Repository[Audit](db).add_all([Audit(note="late")]), id="flush"),
        pytest.param(lambda db: write(db, "late"), id="statement"),
        pytest.param(lambda db: Repository[Audit](db).all(), id="read"),
    ],
)
async def test_unit_does_not_end_well_while_a_task_has_a_block_in_it(
    db: Database, observer: Observer, work: Act, unit: Open
) -> None:
    """It names the block; the task is told, and nothing is stored."""
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def job() -> None:
        async with db.transaction():
            await work(db)
            inside.set()
            await go_on.wait()

    with pytest.raises(UnexpectedRollbackError) as caught:
        async with unit(db), asyncio.timeout(PATIENCE_S):
            task = asyncio.create_task(job())
            await inside.wait()
    go_on.set()
    with pytest.raises(TransactionEndedError):
        await task

    assert caught.value.open_blocks
    assert await observer.notes(Audit) == []
    assert db.pool_status().checked_out == 0


# -- as a whole: one transaction ------------------------------------------------------------------


@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.NESTED, Propagation.MANDATORY])
@pytest.mark.parametrize("read", READS)
async def test_block_of_an_atomic_unit_is_undone_with_it(
    db: Database, observer: Observer, read: Act, propagation: Propagation
) -> None:
    """Whatever was read before it."""
    story: list[str] = []
    with pytest.raises(ShopError):
        async with db.unit_of_work():
            await read(db)
            async with db.transaction(propagation=propagation):
                db.on_commit(lambda: story.append("mail"))
                db.on_rollback(lambda: story.append("sorry"))
                await write(db, "block")
            await Repository[Audit](db).add(Audit(note="repository"))
            raise ShopError

    assert await observer.notes(Audit) == []
    assert story == ["sorry"]


async def test_first_block_that_only_reads_leaves_the_unit_as_it_was(
    db: Database, observer: Observer
) -> None:
    """It is a transaction of its own; what comes after it may write."""
    async with db.unit_of_work():
        async with db.transaction(read_only=True) as session:
            await session.scalars(select(Audit.note))
            with pytest.raises(TransactionRefusedError):
                await write(db, "refused")
        assert db.pool_status().checked_out == 0
        await write(db, "later")

    assert await observer.notes(Audit) == ["later"]


async def test_first_block_gives_the_unit_its_isolation(db: Database, observer: Observer) -> None:
    """A second block may ask for the same, and not for another."""
    async with db.unit_of_work():
        await Repository[Audit](db).all()
        async with db.transaction(isolation=Isolation.SERIALIZABLE):
            await write(db, "first")
        async with db.transaction(isolation=Isolation.SERIALIZABLE):
            await write(db, "second")
        with pytest.raises(TransactionRefusedError):
            async with db.transaction(isolation=Isolation.READ_COMMITTED):
                pass

    assert await observer.notes(Audit) == ["first", "second"]


# -- reading afresh -------------------------------------------------------------------------------


ASKS: list[Any] = [
    pytest.param({"isolation": Isolation.SERIALIZABLE}, id="isolation"),
    pytest.param({"retry": RetryPolicy(attempts=3, first_delay_s=0)}, id="retry"),
    pytest.param({"isolation": Isolation.REPEATABLE_READ, "retry": 3}, id="both"),
]
AGAIN: list[Any] = [
    pytest.param(lambda accounts: accounts.get(1), id="get"),
    pytest.param(lambda accounts: accounts.get_one(1), id="get_one"),
    pytest.param(lambda accounts: accounts.where(Account.id == 1).one(), id="where"),
    pytest.param(lambda accounts: accounts.get(1, lock="update"), id="lock"),
]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("asks", ASKS)
@pytest.mark.parametrize("again", AGAIN)
async def test_block_that_relies_on_what_it_reads_reads_afresh(
    db: Database, observer: Observer, again: Callable[[Any], Awaitable[Any]], asks: Asked, unit: Open
) -> None:
    """A change of somebody else, between the first read and the block, is not lost."""
    accounts = Repository[Account](db)
    await observer.run(ANN)

    @db.transactional(**asks)
    async def withdraw(amount: int) -> None:
        account = await again(accounts)
        account.balance -= amount

    async with unit(db):
        account = await accounts.get_one(1)
        assert account.balance == 100
        await observer.run("UPDATE account SET balance = balance - 50")
        await withdraw(30)

    assert await observer.values(Account, "balance") == [20]


class ConflictError(Exception):
    """A conflict, as the drivers tell of it."""

    sqlstate = "40001"
    sqlite_errorname = "SQLITE_BUSY"


@pytest.mark.parametrize("unit", UNITS)
async def test_attempt_in_a_unit_starts_fresh(db: Database, observer: Observer, unit: Open) -> None:
    """An entity that was loaded in the unit shows in each attempt what is stored."""
    accounts, seen = Repository[Account](db), []
    await observer.run(ANN)

    @db.transactional(retry=RetryPolicy(attempts=3, first_delay_s=0))
    async def pay(account: Account) -> None:
        seen.append(account.balance)
        account.balance += 10
        await db.session.flush()
        if len(seen) < 3:
            raise DBAPIError("UPDATE", {}, ConflictError(1213, "deadlock"))

    async with unit(db):
        account = await accounts.get_one(1)
        await pay(account)
        assert account.balance == 110

    assert seen == [100, 100, 100]
    assert await observer.values(Account, "balance") == [110]


async def test_block_that_has_joined_a_written_unit_is_not_tried_again(
    db: Database, observer: Observer
) -> None:
    """Its attempt is only a part of the transaction."""
    calls: list[int] = []

    @db.transactional(retry=3)
    async def work() -> None:
        calls.append(1)
        raise DBAPIError("UPDATE", {}, ConflictError(1213, "deadlock"))

    with pytest.raises(DBAPIError):
        async with db.unit_of_work():
            await write(db, "before")
            await work()

    assert calls == [1]
    assert await observer.notes(Audit) == []


# -- by hand --------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
async def test_transaction_may_be_begun_by_hand(db: Database, observer: Observer, unit: Open) -> None:
    """As SQLAlchemy's tutorial writes it: it ends where it says, and the unit goes on."""
    async with unit(db) as session:
        async with session.begin():
            session.add(Audit(note="one"))
        assert await observer.notes(Audit) == ["one"]
        with pytest.raises(StockError):
            async with session.begin():
                await write(db, "mistake")
                async with session.begin_nested():
                    await write(db, "inner mistake")
                raise StockError
        await session.begin()
        session.add(Audit(note="two"))
        await session.commit()
        assert await observer.notes(Audit) == ["one", "two"]
        await write(db, "at the end")

    assert await observer.notes(Audit) == ["at the end", "one", "two"]
    assert db.pool_status().checked_out == 0


@pytest.mark.parametrize("unit", UNITS)
async def test_block_joins_what_was_begun_by_hand(db: Database, observer: Observer, unit: Open) -> None:
    """It is undone with it."""
    async with unit(db) as session:
        with pytest.raises(StockError):
            async with session.begin():
                async with db.transaction():
                    await write(db, "joined")
                raise StockError

    assert await observer.notes(Audit) == []


@pytest.mark.parametrize("unit", UNITS)
async def test_transaction_is_not_begun_by_hand_where_one_is_open(
    db: Database, observer: Observer, unit: Open
) -> None:
    """The refusal condemns nothing."""
    async with unit(db) as session:
        await write(db, "open")
        with pytest.raises(TransactionRefusedError, match="begin"):
            async with session.begin():
                pass
        await db.commit()
        async with db.transaction():
            with pytest.raises(TransactionRefusedError, match="begin"):
                async with session.begin():
                    pass
            await write(db, "block")

    assert await observer.notes(Audit) == ["block", "open"]


ENDS: list[Any] = [
    pytest.param(lambda db: db.commit(), id="database"),
    pytest.param(lambda db: db.session.commit(), id="session"),
]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("commit", ENDS)
async def test_function_that_runs_after_a_commit_by_hand_may_use_the_session(
    db: Database, observer: Observer, commit: Act, unit: Open
) -> None:
    """No transaction is current then; what it writes is another one."""
    seen: list[object] = []

    async with unit(db) as session, asyncio.timeout(PATIENCE_S):

        async def look() -> None:
            seen.append(await session.scalar(text("SELECT count(*) FROM audit")))
            session.add(Audit(note="by the function"))
            await session.flush()

        await write(db, "by hand")
        db.on_commit(look)
        await commit(db)

    assert seen == [1]
    assert await observer.notes(Audit) == ["by hand", "by the function"]


@pytest.mark.parametrize("unit", UNITS)
async def test_function_that_runs_after_a_rollback_by_hand_may_use_the_session(
    db: Database, observer: Observer, unit: Open
) -> None:
    """What it writes is another transaction of the unit."""
    async with unit(db) as session, asyncio.timeout(PATIENCE_S):
        await write(db, "undone")
        db.on_rollback(lambda: session.execute(insert(Audit).values(note="by the function")))
        await db.rollback()

    assert await observer.notes(Audit) == ["by the function"]


@pytest.mark.parametrize("unit", UNITS)
async def test_isolation_by_the_options_of_a_connection_works_or_is_refused(
    db: Database, observer: Observer, unit: Open
) -> None:
    """SQLAlchemy's own way; what it sets does not leak to the next user of the connection."""
    refused = None
    try:
        async with unit(db) as session:
            connection = await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
            assert await connection.get_isolation_level() == "SERIALIZABLE"
            await write(db, "row")
    except UnitworkError as error:
        refused = error

    assert refused is None or "Fix" in str(refused)
    assert await observer.notes(Audit) == ([] if refused else ["row"])
    assert db.pool_status().checked_out == 0
    async with db.engine.connect() as fresh:
        sync = fresh.sync_connection
        assert sync is not None
        assert await fresh.get_isolation_level() == sync.default_isolation_level


@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.SUPPORTS])
@pytest.mark.parametrize("unit", UNITS)
async def test_block_of_a_task_is_told_that_its_transaction_was_ended_by_hand(
    db: Database, observer: Observer, unit: Open, propagation: Propagation, end: str
) -> None:
    """It has joined what is undone: it neither returns as if it were stored nor goes on in the next."""
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def job() -> None:
        async with db.transaction(propagation=propagation):
            await write(db, "half")
            inside.set()
            await go_on.wait()

    async with unit(db), asyncio.timeout(PATIENCE_S):
        await write(db, "by hand")
        task = asyncio.create_task(job())
        await inside.wait()
        with suppress(UnexpectedRollbackError):
            await getattr(db, end)()
        go_on.set()
        with pytest.raises(TransactionEndedError):
            await task
        await write(db, "goes on")

    assert await observer.notes(Audit) == ["goes on"]


@pytest.mark.parametrize("reads", [0, 1], ids=["that sends nothing", "that reads"])
@pytest.mark.parametrize("unit", UNITS)
async def test_read_only_block_is_not_blamed_for_what_waits_to_be_sent(
    db: Database, observer: Observer, unit: Open, reads: int
) -> None:
    """It was added outside of the block, and is stored with the unit."""
    async with unit(db) as session:
        session.add(Audit(note="pending"))
        async with db.transaction(read_only=True):
            if reads:
                await Repository[Audit](db).count()

    assert await observer.notes(Audit) == ["pending"]


@pytest.mark.parametrize("unit", UNITS)
async def test_tasks_of_a_unit_may_each_commit_by_hand(db: Database, observer: Observer, unit: Open) -> None:
    """Whoever waited meanwhile works in the next transaction."""

    async def one(note: str) -> None:
        await write(db, note)
        await db.commit()

    async with unit(db), asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(one(str(number)) for number in range(5)))

    assert await observer.notes(Audit) == ["0", "1", "2", "3", "4"]
