"""A session belongs to one event loop: from a thread or another loop there is one clear error."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, TransactionRefusedError

USES: dict[str, Callable[[AsyncSession], object]] = {
    "add": lambda session: session.add(Audit(note="thread")),
    "add_all": lambda session: session.add_all([Audit(note="thread")]),
    "new": lambda session: session.new,
    "in_transaction": lambda session: session.in_transaction(),
    "begin": lambda session: session.begin(),
    "execute": lambda session: session.execute(text("SELECT 1")).send(None),
    "flush": lambda session: session.flush().send(None),
    "commit": lambda session: session.commit().send(None),
}


@pytest.mark.parametrize("block", ["transaction", "unit_of_work"])
async def test_session_is_not_given_to_a_thread(db: Database, block: str) -> None:
    """`db.session` in a thread says what to do instead."""
    async with getattr(db, block)():
        with pytest.raises(TransactionRefusedError, match="in a thread") as caught:
            await asyncio.to_thread(lambda: db.session)

    assert "Fix: use it in the task that opened the block" in str(caught.value)


@pytest.mark.parametrize("use", USES)
async def test_unused_session_that_was_handed_to_a_thread_is_refused(
    db: Database, observer: Observer, use: str
) -> None:
    """A session that a thread was given is refused at its first use, and nothing is sent."""
    async with db.transaction() as session:
        with pytest.raises(TransactionRefusedError, match="event loop"):
            await asyncio.to_thread(USES[use], session)
        await session.execute(text("SELECT 1"))

    assert await observer.notes(Audit) == []


async def use_session(db: Database) -> None:
    """Find the session and write."""
    db.session.add(Audit(note="other loop"))
    await db.session.flush()


@pytest.mark.parametrize("used_before", [False, True])
async def test_session_is_refused_on_another_loop(
    db: Database, observer: Observer, *, used_before: bool
) -> None:
    """A thread with a loop of its own has inherited the context, but not the session."""
    async with db.transaction() as session:
        if used_before:
            await session.execute(text("SELECT 1"))
        with pytest.raises(TransactionRefusedError, match="event loop") as caught:
            await asyncio.to_thread(lambda: asyncio.run(use_session(db)))
        session.add(Audit(note="ours"))

    assert "Fix:" in str(caught.value)
    assert await observer.notes(Audit) == ["ours"]


async def test_thread_may_compute_while_the_session_waits(db: Database, observer: Observer) -> None:
    """Plain values may be handed to a thread inside a block."""
    async with db.transaction():
        account = Account(name="ann")
        db.session.add(account)
        await db.session.flush()
        account.balance = await asyncio.to_thread(len, account.name)

    assert await observer.values(Account, "balance") == [3]


async def test_thread_reaches_the_block_through_the_loop(db: Database, observer: Observer) -> None:
    """A thread may run a function on the loop of the block, where the session is found."""
    loop = asyncio.get_running_loop()

    async def write() -> None:
        db.session.add(Audit(note="from a thread"))
        await db.session.flush()

    def in_thread() -> None:
        asyncio.run_coroutine_threadsafe(write(), loop).result()

    async with db.transaction():
        await asyncio.to_thread(in_thread)

    assert await observer.notes(Audit) == ["from a thread"]
