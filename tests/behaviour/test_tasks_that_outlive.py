"""A task may not outlive the transaction it writes to: there is never a silent write into nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.fixtures.errors import ShopError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Propagation, TransactionEndedError, UnexpectedRollbackError

Block = Callable[[Database], Any]

BLOCKS = [
    pytest.param(lambda db: db.transaction(), id="block"),
    pytest.param(lambda db: db.unit_of_work(), id="unit"),
    pytest.param(lambda db: db.unit_of_work(atomic=True), id="atomic unit"),
]


@pytest.mark.parametrize("block", BLOCKS)
async def test_block_with_a_task_inside_does_not_commit(
    db: Database, observer: Observer, block: Block
) -> None:
    """The outermost block rolls back and names the block that the task has joined."""
    inside = asyncio.Event()
    finish = asyncio.Event()

    @db.transactional
    async def write_slowly() -> None:
        db.session.add(Audit(note="half"))
        inside.set()
        await finish.wait()
        db.session.add(Audit(note="other half"))

    with pytest.raises(UnexpectedRollbackError, match="write_slowly") as caught:
        async with block(db):
            db.session.add(Audit(note="owner"))
            await db.session.flush()
            task = asyncio.create_task(write_slowly())
            await inside.wait()
    finish.set()
    with pytest.raises(TransactionEndedError):
        await task

    assert "Fix: await the tasks" in str(caught.value)
    assert await observer.notes(Audit) == []


async def test_savepoint_of_a_task_is_named_too(db: Database, observer: Observer) -> None:
    """A NESTED block that is open when the outermost ends keeps it from committing."""
    inside = asyncio.Event()

    async def nest() -> None:
        async with db.transaction(propagation=Propagation.NESTED):
            inside.set()
            await asyncio.Event().wait()

    with pytest.raises(UnexpectedRollbackError, match="test_tasks_that_outlive"):
        async with db.transaction():
            await db.session.execute(text("SELECT 1"))
            task = asyncio.create_task(nest())
            await inside.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert db.pool_status().checked_out == 0
    assert await observer.notes(Audit) == []


async def test_exception_of_the_owner_wins_over_tasks_inside(db: Database) -> None:
    """An exception that is leaving is what the caller gets, tasks inside or not."""
    inside = asyncio.Event()

    @db.transactional
    async def write_slowly() -> None:
        inside.set()
        await asyncio.Event().wait()

    with pytest.raises(ShopError):
        async with db.transaction():
            task = asyncio.create_task(write_slowly())
            await inside.wait()
            raise ShopError
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("block", BLOCKS)
async def test_late_task_gets_a_transaction_of_its_own(
    db: Database, observer: Observer, block: Block
) -> None:
    """Fire and forget: a transactional function that runs after the end is on its own."""
    go = asyncio.Event()

    @db.transactional
    async def write() -> None:
        db.session.add(Audit(note="late"))

    async def late() -> None:
        await go.wait()
        await write()

    with pytest.raises(ShopError):
        async with block(db):
            task = asyncio.create_task(late())
            db.session.add(Audit(note="owner"))
            raise ShopError
    go.set()
    await task

    assert await observer.notes(Audit) == ["late"]


async def touch(session: AsyncSession) -> None:
    """Add only."""
    session.add(Audit(note="late"))


async def add_all(session: AsyncSession) -> None:
    """Add several."""
    session.add_all([Audit(note="late")])


async def read(session: AsyncSession) -> None:
    """Read."""
    await session.execute(select(Audit))


async def flush(session: AsyncSession) -> None:
    """Flush."""
    await session.flush()


async def nest(session: AsyncSession) -> None:
    """Begin a savepoint."""
    async with session.begin_nested():
        pass


@pytest.mark.parametrize("use", [touch, add_all, read, flush, nest])
@pytest.mark.parametrize("block", BLOCKS)
async def test_late_use_of_a_kept_session_is_an_error(
    db: Database,
    observer: Observer,
    block: Block,
    use: Callable[[AsyncSession], Awaitable[None]],
) -> None:
    """A task that kept the session gets the error at its first use of it."""
    go = asyncio.Event()

    async def late(session: AsyncSession) -> None:
        await go.wait()
        await use(session)

    async with block(db) as session:
        task = asyncio.create_task(late(session))
        session.add(Audit(note="owner"))
    go.set()
    with pytest.raises(TransactionEndedError, match="has ended"):
        await task

    assert await observer.notes(Audit) == ["owner"]


@pytest.mark.parametrize("block", BLOCKS)
async def test_late_question_for_the_session_is_an_error(db: Database, block: Block) -> None:
    """A task that asks `db.session` after the end is told whose session has ended, and the fix."""
    go = asyncio.Event()

    async def late() -> None:
        await go.wait()
        _ = db.session

    async with block(db):
        task = asyncio.create_task(late())
    go.set()
    with pytest.raises(TransactionEndedError, match="test_tasks_that_outlive") as caught:
        await task

    assert "Fix: await tasks inside the block" in str(caught.value)


async def test_task_that_waits_for_its_turn_when_the_block_ends(db: Database, observer: Observer) -> None:
    """What has not had its turn by the end is told so, and is not part of the commit."""
    inside = asyncio.Event()

    async def hold() -> None:
        async with db.transaction(propagation=Propagation.NESTED):
            inside.set()
            await asyncio.Event().wait()

    async def wait(session: AsyncSession) -> None:
        await inside.wait()
        await session.execute(text("INSERT INTO audit (id, note) VALUES (1, 'waited')"))

    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction() as session:
            session.add(Audit(note="owner"))
            holder = asyncio.create_task(hold())
            waiter = asyncio.create_task(wait(session))
            await inside.wait()
            await asyncio.sleep(0)
    holder.cancel()
    ends = await asyncio.gather(holder, waiter, return_exceptions=True)

    assert isinstance(ends[1], TransactionEndedError)
    assert await observer.notes(Audit) == []


async def test_task_with_a_unit_of_its_own_may_outlive(db: Database, observer: Observer) -> None:
    """A unit of work in a task depends on nothing around it."""
    go = asyncio.Event()

    async def work() -> None:
        async with db.unit_of_work():
            await go.wait()
            db.session.add(Account(name="own"))

    async with db.transaction():
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        db.session.add(Audit(note="owner"))
    go.set()
    await task

    assert await observer.notes(Audit) == ["owner"]
    assert await observer.names(Account) == ["own"]


async def test_hook_may_start_a_task_that_outlives(db: Database, observer: Observer) -> None:
    """What `on_commit` starts finds no transaction, and opens its own."""
    tasks: list[asyncio.Task[None]] = []

    @db.transactional
    async def write() -> None:
        db.session.add(Audit(note="after"))

    async with db.transaction():
        db.session.add(Audit(note="owner"))
        db.on_commit(lambda: tasks.append(asyncio.create_task(write())))
    await asyncio.gather(*tasks)

    assert await observer.notes(Audit) == ["after", "owner"]
