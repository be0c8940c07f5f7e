"""Many tasks, many operations: no row is lost, no savepoint interleaves, nobody waits forever.

The usual size takes a few seconds; `UNITWORK_TEST_STRESS=full` runs 200 tasks, of 50 operations each
where they share one transaction.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from tests.fixtures.errors import StockError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Propagation, Repository

FULL = os.environ.get("UNITWORK_TEST_STRESS") == "full"
TASKS = 200 if FULL else 60
OPERATIONS = 12
OPERATIONS_SHARED = 50 if FULL else OPERATIONS
PATIENCE_S = 120 if FULL else 30
NESTED = Propagation.NESTED

Operation = Callable[[Database, str], Awaitable[list[str]]]


# -- what one task may do; each returns the notes that must be stored in the end -------------------


async def add(db: Database, note: str) -> list[str]:
    """Add, and let somebody flush it."""
    db.session.add(Audit(note=note))
    return [note]


async def flush(db: Database, note: str) -> list[str]:
    """Add and flush."""
    db.session.add_all([Audit(note=note), Audit(note=f"{note} too")])
    await db.session.flush()
    return [note, f"{note} too"]


async def execute(db: Database, note: str) -> list[str]:
    """Write without the identity map."""
    await db.session.execute(insert(Audit).values(note=note))
    return [note]


async def read(db: Database, note: str) -> list[str]:
    """Read."""
    await db.session.scalars(select(Audit).where(Audit.note == note))
    return []


async def read_by_repository(db: Database, _note: str) -> list[str]:
    """Read by key."""
    await Repository[Audit](db).get(1)
    return []


async def join(db: Database, note: str) -> list[str]:
    """Write in a block, which joins or begins."""
    async with db.transaction():
        db.session.add(Audit(note=note))
        await asyncio.sleep(0)
    return [note]


async def nest(db: Database, note: str) -> list[str]:
    """Write in a savepoint."""
    async with db.transaction(), db.transaction(propagation=NESTED):
        db.session.add(Audit(note=note))
        await asyncio.sleep(0)
        await db.session.flush()
    return [note]


async def nest_and_fail(db: Database, note: str) -> list[str]:
    """Write in a savepoint that is undone, with all that is inside it."""
    with suppress(StockError):
        async with db.transaction(), db.transaction(propagation=NESTED):
            await execute(db, f"{note} undone")
            await asyncio.sleep(0)
            async with db.transaction(propagation=NESTED):
                db.session.add(Audit(note=f"{note} undone as well"))
            db.session.add(Audit(note=f"{note} undone too"))
            raise StockError
    return []


async def catch(db: Database, note: str) -> list[str]:
    """Write in a transaction whose savepoint fails alone."""
    async with db.transaction():
        db.session.add(Audit(note=note))
        with suppress(StockError):
            async with db.transaction(propagation=NESTED):
                await execute(db, f"{note} undone")
                raise StockError
    return [note]


SHARED: list[Operation] = [add, flush, execute, read, read_by_repository, join, nest, catch]
# In a transaction of its own, what fails inside the savepoint leaves the block around it as well.
APART: list[Operation] = [join, nest, nest_and_fail, catch, read_by_repository]


async def fail_inside(db: Database, note: str) -> list[str]:
    """Fail in a savepoint of the shared transaction."""
    with suppress(StockError):
        async with db.transaction(propagation=NESTED):
            await execute(db, f"{note} undone")
            await asyncio.sleep(0)
            db.session.add(Audit(note=f"{note} undone too"))
            raise StockError
    return []


# SQLite lets waiting writers poll, and gives up after five seconds: more of them could starve one.
WRITERS = 6


def in_a_queue(operation: Operation, gate: asyncio.Semaphore) -> Operation:
    """The same operation, as one of few at a time."""

    async def run(db: Database, note: str) -> list[str]:
        async with gate:
            return await operation(db, note)

    return run


async def by_hand(db: Database, note: str) -> list[str]:
    """Commit and roll back by hand in a unit of work."""
    async with db.unit_of_work():
        await flush(db, note)
        await db.commit()
        await flush(db, f"{note} undone")
        await db.rollback()
    return [note, f"{note} too"]


# -- the runs -------------------------------------------------------------------------------------


async def run_tasks(
    db: Database, choices: list[Operation], seed: int, operations: int = OPERATIONS
) -> list[str]:
    """Run all tasks at once; return what must be stored."""
    expected: list[str] = []

    async def work(number: int) -> None:
        chosen = random.Random(seed * 1000 + number)  # noqa: S311 - to be repeated
        for step in range(operations):
            expected.extend(await chosen.choice(choices)(db, f"{number}-{step}"))

    async with asyncio.TaskGroup() as group:
        for number in range(TASKS):
            group.create_task(work(number))
    return expected


async def watched(work: Coroutine[Any, Any, list[str]], session: AsyncSession | None = None) -> list[str]:
    """Run, and after a while say who waits for whom instead of waiting any longer."""
    task = asyncio.create_task(work)
    done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
    if not done:
        turns: Any = getattr(session, "turns", None)
        described = turns.describe() if turns is not None else asyncio.all_tasks()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        pytest.fail(f"deadlock after {PATIENCE_S} s: {described}")
    return await task


@pytest.mark.timeout(2 * PATIENCE_S)
@pytest.mark.parametrize("seed", [1] if FULL else [1, 2])
async def test_tasks_on_one_session_lose_nothing(db: Database, observer: Observer, seed: int) -> None:
    """Whatever the siblings of one transaction do to each other's turns, exactly their rows are stored."""
    async with db.transaction() as session:
        expected = await watched(run_tasks(db, [*SHARED, fail_inside], seed, OPERATIONS_SHARED), session)

    assert await observer.notes(Audit) == sorted(expected)


@pytest.mark.timeout(2 * PATIENCE_S)
async def test_tasks_on_one_unit_lose_nothing(db: Database, observer: Observer) -> None:
    """In one unit of work the tasks' blocks are transactions one after another: none takes another's rows."""
    async with db.unit_of_work(atomic=False) as session:
        expected = await watched(run_tasks(db, APART, 3), session)
        assert db.pool_status().checked_out == 0

    assert await observer.notes(Audit) == sorted(expected)


@pytest.mark.timeout(2 * PATIENCE_S)
async def test_tasks_on_their_own_sessions_lose_nothing(db: Database, observer: Observer) -> None:
    """Each task has its own transactions and units: the pool is shared fairly and left whole."""
    gate = asyncio.Semaphore(WRITERS)
    operations = [in_a_queue(operation, gate) for operation in (*APART, by_hand)]

    expected = await watched(run_tasks(db, operations, 4))

    assert await observer.notes(Audit) == sorted(expected)
    assert db.pool_status().checked_out == 0


@pytest.mark.timeout(2 * PATIENCE_S)
async def test_read_modify_write_of_many_tasks_loses_no_update(db: Database, observer: Observer) -> None:
    """On one session each task sees what the one before it has written."""

    async def deposit() -> None:
        async with db.transaction(propagation=NESTED):
            account = await db.session.get_one(Account, 1, populate_existing=True)
            balance = account.balance
            await asyncio.sleep(0)
            account.balance = balance + 1

    async def deposits() -> list[str]:
        await asyncio.gather(*(deposit() for _ in range(TASKS)))
        return []

    async with db.transaction() as session:
        session.add(Account(id=1, name="shared"))
        await session.flush()
        await watched(deposits(), session)

    assert await observer.values(Account, "balance") == [TASKS]
