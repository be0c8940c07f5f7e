"""`db.parallel` runs each coroutine in a unit of work of its own, on its own connection."""

import asyncio

import pytest
from sqlalchemy import URL, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tests.fixtures.errors import ShopError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Repository, TransactionRefusedError


async def use(db: Database) -> AsyncSession:
    """Send a statement on the session of the unit around."""
    await db.session.execute(text("SELECT 1"))
    return db.session


async def test_results_are_in_order(db: Database) -> None:
    """Whoever ends first, the results are those of the arguments."""
    gates = [asyncio.Event() for _ in range(4)]
    gates[3].set()

    async def answer(number: int) -> int:
        await gates[number].wait()
        if number:
            gates[number - 1].set()
        return number

    assert await db.parallel(*(answer(number) for number in range(4))) == (0, 1, 2, 3)


async def test_nothing_to_do_gives_nothing(db: Database) -> None:
    """Without coroutines the result is empty."""
    assert await db.parallel() == ()


async def test_each_has_its_own_session_and_connection(db: Database) -> None:
    """They run at the same time, each on a connection of its own."""
    both = asyncio.Barrier(2)

    async def read() -> tuple[AsyncSession, int]:
        async with db.transaction(read_only=True):
            session = await use(db)
            await both.wait()
            held = db.pool_status().checked_out
            await both.wait()
        return session, held

    (first, held_first), (second, held_second) = await db.parallel(read(), read())

    assert first is not second
    assert (held_first, held_second) == (2, 2)


async def test_each_commits_by_itself(db: Database, observer: Observer) -> None:
    """What one has committed stays when another fails afterwards."""
    committed = asyncio.Event()

    async def write() -> None:
        async with db.transaction():
            db.session.add(Audit(note="x"))
        committed.set()

    async def fail() -> None:
        await committed.wait()
        db.session.add(Audit(note="undone"))
        await db.session.flush()
        raise ShopError

    with pytest.raises(ShopError):
        await db.parallel(write(), fail())

    assert await observer.notes(Audit) == ["x"]


async def test_write_of_a_repository_commits_by_itself(db: Database, observer: Observer) -> None:
    """Outside of a block it stays, whatever becomes of the coroutine; in a block it goes with that."""

    async def write() -> None:
        await Repository[Audit](db).add(Audit(note="alone"))
        async with db.transaction():
            await Repository[Audit](db).add(Audit(note="undone"))
            raise ShopError

    with pytest.raises(ShopError):
        await db.parallel(write())

    assert await observer.notes(Audit) == ["alone"]


async def test_first_failure_cancels_the_others(db: Database, observer: Observer) -> None:
    """The others are cancelled, have ended when the failure is raised, and leave nothing."""
    ended: list[str] = []
    inside = asyncio.Event()

    async def hang() -> None:
        try:
            async with db.transaction():
                await use(db)
                inside.set()
                await asyncio.Event().wait()
        finally:
            ended.append("hang")

    async def fail() -> None:
        await inside.wait()
        raise ShopError("first")

    with pytest.raises(ShopError, match="first"):
        await db.parallel(hang(), fail())

    assert ended == ["hang"]
    assert db.pool_status().checked_out == 0


async def test_failing_commit_of_one_is_raised(db: Database, observer: Observer) -> None:
    """What the session of one could not store at its end fails the whole call."""

    async def write() -> None:
        db.session.add_all([Account(name="ann"), Account(name="ann")])

    with pytest.raises(IntegrityError):
        await db.parallel(write())

    assert await observer.names(Account) == []


async def test_cancellation_reaches_all(db: Database) -> None:
    """Cancelling the caller cancels and awaits each of them."""
    inside = asyncio.Barrier(3)
    ended: list[int] = []

    async def hang(number: int) -> None:
        try:
            async with db.transaction(read_only=True):
                await use(db)
                await inside.wait()
                await asyncio.Event().wait()
        finally:
            ended.append(number)

    call = asyncio.create_task(db.parallel(hang(1), hang(2)))
    await inside.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert sorted(ended) == [1, 2]
    assert db.pool_status().checked_out == 0


async def test_at_most_as_many_at_once_as_the_pool_allows(database_url: URL) -> None:
    """A pool of two is never waited for, however many there are to do."""
    async with Database(database_url, name="small", pool_size=2, max_overflow=0, pool_timeout=1) as small:
        at_once = 0
        most = 0

        async def read() -> None:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            async with small.transaction(read_only=True):
                await use(small)
                await asyncio.sleep(0)
            at_once -= 1

        await small.parallel(*(read() for _ in range(20)))

        assert most == 2
        assert small.pool_status().checked_out == 0


async def test_connections_of_the_caller_are_counted(database_url: URL) -> None:
    """Inside a transaction the rest of the pool is used; with nothing left the call is refused."""
    async with Database(database_url, name="small", pool_size=2, max_overflow=0, pool_timeout=1) as small:
        ran: list[int] = []

        async def read(number: int) -> None:
            async with small.transaction(read_only=True):
                await use(small)
                ran.append(number)

        async with small.transaction(read_only=True):
            await use(small)
            await small.parallel(*(read(number) for number in range(3)))
            async with small.transaction(propagation="REQUIRES_NEW", read_only=True):
                await use(small)
                with pytest.raises(TransactionRefusedError, match="holds all 2"):
                    await small.parallel(read(3))

    assert sorted(ran) == [0, 1, 2]


@pytest.mark.only("sqlite", reason="SQLite has one write lock")
async def test_only_writer_cannot_wait_for_others(db: Database) -> None:
    """On SQLite, what would wait for the caller's own write lock is refused at once."""

    async def write() -> None:
        db.session.add(Audit(note="x"))

    async with db.transaction():
        db.session.add(Audit(note="outer"))
        await db.session.flush()
        with pytest.raises(TransactionRefusedError, match="write lock"):
            await db.parallel(write())


async def test_units_inside_are_not_those_of_the_caller(db: Database, observer: Observer) -> None:
    """In a unit of work, what runs in parallel has sessions of its own; the caller's goes on."""

    async def read() -> AsyncSession:
        return await use(db)

    async with db.unit_of_work() as outer:
        sessions = await db.parallel(read(), read())
        assert db.session is outer
        assert outer not in sessions
        db.session.add(Audit(note="outer"))

    assert await observer.notes(Audit) == ["outer"]
