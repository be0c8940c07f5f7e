"""A block inside an async generator belongs to the generator, unless that opens it for whoever drives it."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import insert, select

from tests.fixtures.errors import ShopError, StockError
from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Propagation, Repository

PATIENCE_S = 10


class Jobs:
    """Jobs that are handed out one by one, inside a block; each is logged when the next one is asked for."""

    def __init__(self, db: Database, propagation: Propagation) -> None:
        self.db = db
        self.propagation = propagation
        self.finalised = asyncio.Event()

    async def __call__(self, *, fail: bool = False) -> AsyncGenerator[str, None]:
        """Yield two jobs."""
        try:
            async with self.db.transaction(propagation=self.propagation):
                for job in ("first", "second"):
                    yield job
                    await note(self.db, f"log of {job}")
                    if fail:
                        raise ShopError
        finally:
            self.finalised.set()


async def note(db: Database, text: str) -> None:
    """Write a line."""
    await db.session.execute(insert(Audit).values(note=text))


async def pay(db: Database, text: str) -> None:
    """Write a line in a block, as a consumer does."""
    async with db.transaction():
        await note(db, text)


BEGINS = [Propagation.REQUIRED, Propagation.REQUIRES_NEW, Propagation.NESTED]


@pytest.mark.parametrize("propagation", BEGINS)
async def test_work_of_the_loop_is_its_own_when_it_stops_early(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """What the body has committed is stored, though the generator's transaction is rolled back."""
    async with aclosing(Jobs(db, propagation)()) as jobs:
        async for job in jobs:
            await pay(db, f"paid {job}")
            break

    assert await observer.notes(Audit) == ["paid first"]
    assert db.pool_status().checked_out == 0


@pytest.mark.only("postgresql", "mariadb", reason="the generator keeps SQLite's only write lock")
@pytest.mark.parametrize("propagation", BEGINS)
async def test_work_of_the_loop_and_of_the_generator_are_both_stored(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """Each in its own transaction."""
    seen: list[list[str]] = []
    async for job in Jobs(db, propagation)():
        await pay(db, f"paid {job}")
        seen.append(await observer.notes(Audit))

    assert seen == [["paid first"], ["paid first", "paid second"]]
    assert await observer.notes(Audit) == ["log of first", "log of second", "paid first", "paid second"]


@pytest.mark.parametrize("propagation", BEGINS)
async def test_failure_of_the_generator_does_not_undo_the_loop(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """The loop gets the exception; what it has committed stays."""
    with pytest.raises(ShopError):
        async for job in Jobs(db, propagation)(fail=True):
            await pay(db, f"paid {job}")

    assert await observer.notes(Audit) == ["paid first"]


async def test_repository_in_the_loop_writes_by_itself(db: Database, observer: Observer) -> None:
    """Neither does what a repository writes belong to the generator."""
    async with aclosing(Jobs(db, Propagation.REQUIRED)()) as jobs:
        async for job in jobs:
            await Repository[Audit](db).add(Audit(note=f"added {job}"))
            break

    assert await observer.notes(Audit) == ["added first"]


async def test_loop_inside_a_unit_belongs_to_the_unit(db: Database, observer: Observer) -> None:
    """The body is undone with the unit around it, not with the generator."""
    async with db.unit_of_work():
        async with aclosing(Jobs(db, Propagation.REQUIRES_NEW)()) as jobs:
            async for job in jobs:
                await pay(db, f"paid {job}")
                break

    assert await observer.notes(Audit) == ["paid first"]


@pytest.mark.parametrize("how", ["forgotten", "closed"])
async def test_block_around_goes_on_when_the_generator_is_left(
    db: Database, observer: Observer, how: str
) -> None:
    """Also when the event loop finalises the generator later, in another context: the session is the same."""
    jobs = Jobs(db, Propagation.REQUIRES_NEW)

    with pytest.raises(StockError):
        async with db.transaction() as session, AsyncExitStack() as stack:
            source = jobs()
            if how == "closed":
                await stack.enter_async_context(aclosing(source))
            async for _ in source:
                break
            del source
            if how == "forgotten":
                async with asyncio.timeout(PATIENCE_S):
                    await jobs.finalised.wait()
            assert db.session is session
            await note(db, "outer")
            raise StockError

    assert await observer.notes(Audit) == []
    await pay(db, "next")
    assert await observer.notes(Audit) == ["next"]


@pytest.mark.parametrize("driven_by", ["context manager", "anext"])
async def test_generator_that_opens_a_block_for_its_caller_shares_it(
    db: Database, observer: Observer, driven_by: str
) -> None:
    """A context manager or a dependency: what is done meanwhile is undone with its transaction."""

    async def block() -> AsyncGenerator[None, None]:
        async with db.transaction():
            yield

    with pytest.raises(StockError):
        await _drive(block, driven_by, lambda: pay(db, "inside"))

    assert await observer.notes(Audit) == []


async def _drive(
    block: Callable[[], AsyncGenerator[None, None]], driven_by: str, work: Callable[[], Any]
) -> None:
    """Work inside of what a generator opens, and fail."""
    if driven_by == "context manager":
        async with asynccontextmanager(block)():
            await work()
            raise StockError
    source: Any = block()
    await anext(source)
    await work()
    await source.athrow(StockError())


@asynccontextmanager
async def helper(db: Database) -> AsyncGenerator[None, None]:
    """A block, opened for whoever asks."""
    async with db.transaction():
        yield


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(lambda db: db.unit_of_work(), id="a unit"),
        pytest.param(lambda db: db.unit_of_work(atomic=False), id="a unit in pieces"),
        pytest.param(helper, id="the block of a helper"),
    ],
)
@pytest.mark.parametrize("way", ["block", "repository"])
async def test_whatever_a_generator_holds_is_not_its_consumers(
    db: Database, observer: Observer, held: Callable[[Database], Any], way: str
) -> None:
    """What the loop has stored stays, though the generator is left early."""

    async def jobs() -> AsyncGenerator[str, None]:
        async with held(db):
            yield "first"
            yield "second"

    async with aclosing(jobs()) as source:
        async for job in source:
            if way == "block":
                await pay(db, job)
            else:
                await Repository[Audit](db).add(Audit(note=job))
            break

    assert await observer.notes(Audit) == ["first"]


async def test_loop_in_a_unit_may_write_and_stop_early(db: Database, observer: Observer) -> None:
    """What the body writes is no failure of the generator's block, which has joined the unit."""

    async def jobs() -> AsyncGenerator[str, None]:
        async with db.transaction():
            yield "first"
            yield "second"

    async with db.unit_of_work():
        await note(db, "before")
        async with aclosing(jobs()) as source:
            async for job in source:
                await Repository[Audit](db).add(Audit(note=job))
                break

    assert await observer.notes(Audit) == ["before", "first"]


async def reads_in_block(db: Database) -> AsyncGenerator[int, None]:
    """Hold a read-only transaction."""
    async with db.transaction(read_only=True) as session:
        await session.execute(select(Audit))
        yield 1


async def writes_in_block(db: Database) -> AsyncGenerator[int, None]:
    """Hold a transaction that has written."""
    async with db.transaction():
        await note(db, "never stored")
        yield 1


async def works_without_transaction(db: Database) -> AsyncGenerator[int, None]:
    """Hold a session that has read."""
    async with db.transaction(propagation=Propagation.SUPPORTS) as session:
        await session.execute(select(Audit))
        yield 1


async def reads_in_unit(db: Database) -> AsyncGenerator[int, None]:
    """Hold a unit of work that has read."""
    async with db.unit_of_work() as session:
        await session.execute(select(Audit))
        yield 1


async def writes_in_unit(db: Database) -> AsyncGenerator[int, None]:
    """Hold a unit of work that has written."""
    async with db.unit_of_work():
        await note(db, "never stored")
        yield 1


async def writes_behind_a_savepoint(db: Database) -> AsyncGenerator[int, None]:
    """Hold a transaction with a savepoint that was begun by hand."""
    async with db.transaction() as session:
        await session.begin_nested()
        await note(db, "never stored")
        yield 1


async def streams(db: Database) -> AsyncGenerator[int, None]:
    """Hold the transaction of a stream."""
    async for _audit in Repository[Audit](db).where(Audit.id > 0).stream():
        yield 1


HOLDERS = [
    reads_in_block,
    writes_in_block,
    works_without_transaction,
    reads_in_unit,
    writes_in_unit,
    writes_behind_a_savepoint,
    streams,
]


@pytest.mark.parametrize("in_a_cycle", [False, True])
@pytest.mark.parametrize("holder", HOLDERS)
async def test_generator_that_nobody_has_any_more_gives_all_back(
    db: Database,
    observer: Observer,
    holder: Callable[[Database], AsyncGenerator[int, None]],
    *,
    in_a_cycle: bool,
) -> None:
    """Also where a task has returned it, as the body of an answer that nobody reads."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, told: failures.append(told))
    await Repository[Audit](db).add(Audit(note="there"))

    async def answer() -> list[Any]:
        body = holder(db)
        await anext(body)
        kept: list[Any] = [body]
        if in_a_cycle:
            kept.append(kept)
        return kept

    async def serve() -> None:
        await asyncio.wait([asyncio.create_task(answer())])

    await serve()
    gc.collect()
    async with asyncio.timeout(PATIENCE_S):
        while db.pool_status().checked_out:
            await asyncio.sleep(0.01)
            gc.collect()

    assert await observer.notes(Audit) == ["there"]
    await pay(db, "goes on")
    assert failures == []
