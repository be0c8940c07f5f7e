"""A session is closed for good with its block: never a silent write into nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from tests.fixtures.errors import StockError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, NoTransactionError, Propagation, TransactionEndedError

ACTIONS: dict[str, Callable[[AsyncSession], Awaitable[object]]] = {
    "execute": lambda session: session.execute(insert(Audit).values(note="lost")),
    "scalars": lambda session: session.scalars(select(Audit)),
    "get": lambda session: session.get(Audit, 1),
    "stream": lambda session: session.stream(select(Audit)),
    "flush": lambda session: session.flush(),
    "merge": lambda session: session.merge(Audit(id=1, note="lost")),
    "connection": lambda session: session.connection(),
    "run_sync": lambda session: session.run_sync(lambda sync: sync.add(Audit(note="lost"))),
    "commit": lambda session: session.commit(),
}


async def ended_session(db: Database, propagation: Propagation, end: str) -> AsyncSession:
    """The session of a block that has ended in this way."""
    with suppress(StockError):
        async with db.transaction(propagation=propagation) as session:
            if end != "unused":
                await session.scalars(select(Audit))
            if end == "raised":
                raise StockError
    return session


@pytest.mark.parametrize("end", ["returned", "raised", "unused"])
@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.SUPPORTS])
async def test_session_refuses_to_work_after_its_end(
    db: Database, observer: Observer, propagation: Propagation, end: str
) -> None:
    """However its block has ended, the session says that it has."""
    session = await ended_session(db, propagation, end)

    for act in ACTIONS.values():
        with pytest.raises(TransactionEndedError):
            await act(session)
    assert db.pool_status().checked_out == 0
    assert await observer.notes(Audit) == []


@pytest.mark.parametrize("end", ["returned", "raised", "unused"])
async def test_session_refuses_to_add_after_its_end(db: Database, end: str) -> None:
    """`add` needs no database, and is refused all the same."""
    session = await ended_session(db, Propagation.REQUIRED, end)

    with pytest.raises(TransactionEndedError):
        session.add(Account(name="lost"))
    with pytest.raises(TransactionEndedError):
        session.add_all([Account(name="lost")])


async def test_session_after_its_end_is_refused_inside_the_next_block(
    db: Database, observer: Observer
) -> None:
    """A new block does not wake the old session."""
    old = await ended_session(db, Propagation.REQUIRED, "returned")

    async with db.transaction() as new:
        with pytest.raises(TransactionEndedError):
            await old.execute(insert(Audit).values(note="lost"))
        new.add(Audit(note="kept"))

    assert await observer.notes(Audit) == ["kept"]


async def test_task_that_outlives_its_block_gets_a_clear_error(db: Database, observer: Observer) -> None:
    """One that touches `db.session` after the end is told so."""
    go = asyncio.Event()

    async def late() -> None:
        await go.wait()
        db.session.add(Audit(note="lost"))

    async with db.transaction():
        task = asyncio.create_task(late())
        db.session.add(Audit(note="kept"))
    go.set()

    with pytest.raises(TransactionEndedError):
        await task
    assert await observer.notes(Audit) == ["kept"]


async def test_task_that_outlives_its_block_may_open_its_own(db: Database, observer: Observer) -> None:
    """One that opens a block gets a transaction of its own."""
    go = asyncio.Event()

    async def late() -> None:
        await go.wait()
        async with db.transaction(durable=True):
            db.session.add(Audit(note="late"))

    async with db.transaction():
        task = asyncio.create_task(late())
        db.session.add(Audit(note="kept"))
    go.set()
    await task

    assert await observer.notes(Audit) == ["kept", "late"]


async def test_session_outside_of_everything_is_refused(db: Database) -> None:
    """Where nothing is open, `db.session` says what to do."""
    with pytest.raises(NoTransactionError, match=r"db\.transaction"):
        db.session.add(Audit(note="nowhere"))
    with pytest.raises(NoTransactionError):
        db.set_rollback_only()


@pytest.mark.parametrize("propagation", [Propagation.SUPPORTS, Propagation.NOT_SUPPORTED])
async def test_rollback_only_needs_a_transaction(db: Database, propagation: Propagation) -> None:
    """Where each statement commits by itself nothing can be marked."""
    async with db.transaction(propagation=propagation):
        with pytest.raises(NoTransactionError):
            db.set_rollback_only()
