"""A task may not outlive the savepoint it writes to: it never falls through to what is around it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tests.fixtures.errors import StockError
from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Propagation, TransactionEndedError, UnexpectedRollbackError

Block = Callable[[Database], Any]
PATIENCE_S = 10

SAVEPOINTS: list[Any] = [
    pytest.param(lambda db: db.transaction(propagation=Propagation.NESTED), id="nested"),
    pytest.param(lambda db: db.session.begin_nested(), id="by hand"),
]
OUTERMOST: list[Any] = [
    pytest.param(lambda db: db.transaction(), id="block"),
    pytest.param(lambda db: db.unit_of_work(), id="unit"),
]


async def write(session: AsyncSession, note: str) -> None:
    """Send one row."""
    await session.execute(insert(Audit).values(note=note))


class Transfer:
    """Work of a task in two halves: the second one comes when `go_on` is set."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.inside = asyncio.Event()
        self.go_on = asyncio.Event()

    async def with_session(self, session: AsyncSession) -> None:
        """Do both halves with a session that was handed over."""
        await write(session, "debit")
        self.inside.set()
        await self.go_on.wait()
        await write(session, "credit")

    async def in_block(self, block: Block) -> None:
        """Do both halves in a block of its own."""
        async with block(self.db):
            await self.with_session(self.db.session)

    async def in_quiet_block(self, block: Block) -> None:
        """Do one half in a block of its own, which has nothing more to do when it goes on."""
        async with block(self.db):
            await write(self.db.session, "debit")
            self.inside.set()
            await self.go_on.wait()


@pytest.mark.parametrize("then", ["goes on", "only ends"])
@pytest.mark.parametrize("savepoint", SAVEPOINTS)
@pytest.mark.parametrize("outermost", OUTERMOST)
async def test_transaction_does_not_commit_while_a_task_is_in_a_savepoint(
    db: Database, observer: Observer, outermost: Block, savepoint: Block, then: str
) -> None:
    """All is undone, and the task is told at its next statement or at its end."""
    transfer = Transfer(db)
    work = transfer.in_block if then == "goes on" else transfer.in_quiet_block

    with pytest.raises(UnexpectedRollbackError):
        async with outermost(db), asyncio.timeout(PATIENCE_S):
            await write(db.session, "owner")
            task = asyncio.create_task(work(savepoint))
            await transfer.inside.wait()
    transfer.go_on.set()
    with pytest.raises((TransactionEndedError, UnexpectedRollbackError)):
        await task

    assert await observer.notes(Audit) == []
    assert db.pool_status().checked_out == 0


@pytest.mark.parametrize("savepoint", SAVEPOINTS)
@pytest.mark.parametrize("outermost", OUTERMOST)
async def test_task_does_not_write_around_the_savepoint_that_was_undone(
    db: Database, observer: Observer, outermost: Block, savepoint: Block
) -> None:
    """With the session that it was given, it is told that its savepoint has ended."""
    transfer = Transfer(db)

    async with outermost(db), asyncio.timeout(PATIENCE_S):
        await write(db.session, "owner")
        with pytest.raises(StockError):
            async with savepoint(db):
                task = asyncio.create_task(transfer.with_session(db.session))
                await transfer.inside.wait()
                raise StockError
        transfer.go_on.set()
        with pytest.raises(TransactionEndedError):
            await task

    assert await observer.notes(Audit) == ["owner"]


@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.NESTED])
async def test_task_does_not_write_around_the_block_of_a_unit_that_was_undone(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """Where each block of the unit commits by itself, what comes late is no part of the unit."""
    transfer = Transfer(db)

    async with db.unit_of_work(atomic=False), asyncio.timeout(PATIENCE_S):
        with pytest.raises(StockError):
            async with db.transaction(propagation=propagation) as session:
                task = asyncio.create_task(transfer.with_session(session))
                await transfer.inside.wait()
                raise StockError
        transfer.go_on.set()
        with pytest.raises(TransactionEndedError):
            await task

    assert await observer.notes(Audit) == []


@pytest.mark.parametrize("savepoint", SAVEPOINTS)
async def test_task_does_not_write_around_the_savepoint_that_was_kept(
    db: Database, observer: Observer, savepoint: Block
) -> None:
    """Its first half belongs to the savepoint that was released; the second is refused."""
    transfer = Transfer(db)

    async with db.transaction(), asyncio.timeout(PATIENCE_S):
        async with savepoint(db):
            task = asyncio.create_task(transfer.with_session(db.session))
            await transfer.inside.wait()
        transfer.go_on.set()
        with pytest.raises(TransactionEndedError):
            await task

    assert await observer.notes(Audit) == ["debit"]


@pytest.mark.parametrize("inner", SAVEPOINTS)
@pytest.mark.parametrize("outer", SAVEPOINTS)
async def test_savepoint_of_a_task_ends_with_the_one_around_it(
    db: Database, observer: Observer, outer: Block, inner: Block
) -> None:
    """The task is told; the transaction around both goes on, and nobody waits for a turn for ever."""
    transfer = Transfer(db)

    async with db.transaction(), asyncio.timeout(PATIENCE_S):
        await write(db.session, "owner")
        with pytest.raises(StockError):
            async with outer(db):
                await write(db.session, "undone")
                task = asyncio.create_task(transfer.in_block(inner))
                await transfer.inside.wait()
                raise StockError
        transfer.go_on.set()
        with pytest.raises((TransactionEndedError, UnexpectedRollbackError)):
            await task
        await write(db.session, "goes on")

    assert await observer.notes(Audit) == ["goes on", "owner"]


@pytest.mark.parametrize("joined", [Propagation.REQUIRED, Propagation.MANDATORY, Propagation.SUPPORTS])
async def test_savepoint_is_not_kept_while_a_task_has_a_block_in_it(
    db: Database, observer: Observer, joined: Propagation
) -> None:
    """A block that a task has joined to it keeps it from being released; what is around goes on."""
    transfer = Transfer(db)

    async with db.transaction(), asyncio.timeout(PATIENCE_S):
        await write(db.session, "owner")
        with pytest.raises(UnexpectedRollbackError):
            async with db.transaction(propagation=Propagation.NESTED):
                task = asyncio.create_task(transfer.in_block(lambda db: db.transaction(propagation=joined)))
                await transfer.inside.wait()
        transfer.go_on.set()
        with pytest.raises(TransactionEndedError):
            await task

    assert await observer.notes(Audit) == ["owner"]


@pytest.mark.parametrize("moment", ["on_commit", "before_commit", "on_rollback"])
@pytest.mark.parametrize("savepoint", SAVEPOINTS)
async def test_function_registered_after_its_savepoint_was_undone_does_not_run(
    db: Database, savepoint: Block, moment: str
) -> None:
    """It is refused: it would run in the middle of a transaction that is still open."""
    ran: list[str] = []
    undone = asyncio.Event()

    async def register_late() -> None:
        await undone.wait()
        getattr(db, moment)(lambda: ran.append(moment))

    async with db.transaction():
        with pytest.raises(StockError):
            async with savepoint(db):
                task = asyncio.create_task(register_late())
                await asyncio.sleep(0)
                raise StockError
        undone.set()
        with pytest.raises(TransactionEndedError):
            await task

        assert ran == []


@pytest.mark.parametrize("savepoint", SAVEPOINTS)
async def test_task_that_began_before_the_savepoint_works_beside_it(
    db: Database, observer: Observer, savepoint: Block
) -> None:
    """It waits until the savepoint has ended, and is not undone with it."""
    begun = asyncio.Event()

    async def beside(session: AsyncSession) -> None:
        await begun.wait()
        await write(session, "beside")

    async with db.transaction() as session, asyncio.timeout(PATIENCE_S):
        task = asyncio.create_task(beside(session))
        with pytest.raises(StockError):
            async with savepoint(db):
                await write(session, "undone")
                begun.set()
                await asyncio.sleep(0)
                raise StockError
        await task

    assert await observer.notes(Audit) == ["beside"]


@pytest.mark.parametrize("inner", [Propagation.REQUIRED, Propagation.NESTED])
@pytest.mark.parametrize("outer", OUTERMOST)
async def test_outer_block_that_is_left_first_commits_nothing(
    db: Database, observer: Observer, outer: Block, inner: Propagation
) -> None:
    """Blocks that are entered by hand may be left in the wrong order: both say so."""
    first = outer(db)
    await first.__aenter__()
    await write(db.session, "outer")
    second = db.transaction(propagation=inner)
    await second.__aenter__()
    await write(db.session, "inner")
    with pytest.raises((UnexpectedRollbackError, TransactionEndedError)):
        await first.__aexit__(None, None, None)
    with pytest.raises((UnexpectedRollbackError, TransactionEndedError)):
        await second.__aexit__(None, None, None)

    assert await observer.notes(Audit) == []
    assert db.pool_status().checked_out == 0
    async with db.transaction():
        await write(db.session, "next")
    assert await observer.notes(Audit) == ["next"]


@pytest.mark.parametrize("inner", [Propagation.REQUIRED, Propagation.NESTED])
@pytest.mark.parametrize("outer", SAVEPOINTS)
async def test_outer_savepoint_that_is_left_first_undoes_both(
    db: Database, observer: Observer, outer: Block, inner: Propagation
) -> None:
    """What is around them goes on, without their rows."""
    async with db.transaction() as session:
        await write(session, "around")
        first = outer(db)
        await first.__aenter__()
        await write(session, "outer")
        second = db.transaction(propagation=inner)
        await second.__aenter__()
        await write(session, "inner")
        with pytest.raises((UnexpectedRollbackError, TransactionEndedError)):
            await first.__aexit__(None, None, None)
        with pytest.raises((UnexpectedRollbackError, TransactionEndedError)):
            await second.__aexit__(None, None, None)
        await write(session, "goes on")

    assert await observer.notes(Audit) == ["around", "goes on"]
