"""The pool is a queue: whoever waits for a connection is served in its turn, however busy the others are."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

import pytest
from sqlalchemy import URL, insert, select, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, StaticPool

from tests.fixtures.models import Account, Audit
from unitwork import Database, OptionError, Repository

TURNS = 3
BUSY = 2
Work = Callable[[Database], Awaitable[object]]


async def by_key(db: Database) -> object:
    """One read by key."""
    return await Repository[Account](db).get(1)


async def by_query(db: Database) -> object:
    """One read of many."""
    return await Repository[Account](db).count()


async def in_a_block(db: Database) -> object:
    """One read in a block."""
    async with db.transaction(read_only=True) as session:
        return await session.scalar(select(Account.id))


async def in_a_unit(db: Database) -> object:
    """One read in a unit of work."""
    async with db.unit_of_work() as session:
        return await session.scalar(select(Account.id))


async def by_hand(db: Database) -> object:
    """One read on a connection by hand."""
    async with db.engine.connect() as connection:
        return await connection.scalar(select(Account.id))


async def by_factory(db: Database) -> object:
    """One read in a session by hand."""
    async with db.session_factory() as session:
        return await session.scalar(select(Account.id))


WAYS: dict[str, Work] = {
    work.__name__: work for work in (by_key, by_query, in_a_block, in_a_unit, by_hand, by_factory)
}
POOLS: dict[str, dict[str, Any]] = {
    "ours": {},
    "first in, first out": {"pool_use_lifo": False},
    "SQLAlchemy's": {"poolclass": AsyncAdaptedQueuePool},
}


async def is_served(db: Database, busy: Work, waiting: Work) -> None:
    """Two tasks work without a pause on a pool of two; a third has its turn all the same."""
    going_on = True

    async def without_pause() -> None:
        while going_on:
            await busy(db)

    others = [asyncio.create_task(without_pause()) for _ in range(BUSY)]
    await asyncio.sleep(0.02)
    try:
        for _ in range(TURNS):
            await waiting(db)
    finally:
        going_on = False
        await asyncio.gather(*others)


async def with_one_row(db: Database) -> Database:
    """A Database that has opened connections, and one row."""
    async with db.transaction() as session:
        await session.execute(insert(Account).values(id=1, name="ann", balance=0))
    await by_key(db)
    return db


@pytest.mark.parametrize("waiting", list(WAYS))
@pytest.mark.parametrize("busy", ["by_key", "in_a_block", "by_hand"])
async def test_task_that_waits_is_served_in_its_turn(database_url: URL, busy: str, waiting: str) -> None:
    """Whichever way the busy tasks and the one that waits get their connections."""
    async with Database(database_url, pool_size=2, max_overflow=0, pool_timeout=10) as db:
        await with_one_row(db)

        await is_served(db, WAYS[busy], WAYS[waiting])

        assert db.pool_status().checked_out == 0


@pytest.mark.parametrize("pool", list(POOLS))
async def test_pool_of_each_kind_is_a_queue(database_url: URL, pool: str) -> None:
    """Also one that takes the oldest connection first, and SQLAlchemy's own."""
    options = {"pool_size": 2, "max_overflow": 0, "pool_timeout": 10, **POOLS[pool]}
    async with Database(database_url, **options) as db:
        await with_one_row(db)

        await is_served(db, by_key, by_key)


async def test_pool_of_an_engine_of_the_users_own_is_a_queue(database_url: URL) -> None:
    """The engine was made, and used, before the Database was."""
    engine = create_async_engine(database_url, pool_size=2, max_overflow=0, pool_timeout=10)
    async with engine.connect() as connection:
        await connection.scalar(text("SELECT 1"))
    async with Database(engine) as db:
        await with_one_row(db)

        await is_served(db, by_key, in_a_block)


@pytest.mark.parametrize("given", [False, True], ids=["made", "given"])
async def test_only_connection_is_had_by_one_task_at_a_time(database_url: URL, *, given: bool) -> None:
    """SQLAlchemy gives that of a StaticPool to all at once, and each would end the others' transactions."""
    engine = create_async_engine(database_url, poolclass=StaticPool)
    db = Database(engine) if given else Database(database_url, poolclass=StaticPool)

    async def write(number: int) -> None:
        async with db.transaction():
            await Repository[Audit](db).create(note=f"first {number}")
            await asyncio.sleep(0)
            await Repository[Audit](db).create(note=f"second {number}")
            if number % 2:
                db.set_rollback_only()

    async with db:
        await asyncio.gather(*(write(number) for number in range(6)))

        notes = {audit.note for audit in await Repository[Audit](db).all()}
    assert notes == {f"{which} {number}" for which in ("first", "second") for number in (0, 2, 4)}


async def test_database_in_memory_of_a_static_pool_is_kept() -> None:
    """What was stored on its connection before the Database was made is there."""
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    async with engine.begin() as connection:
        await connection.run_sync(Audit.metadata.create_all)
        await connection.execute(insert(Audit).values(note="before"))
    async with Database(engine, name="memory") as db:
        await asyncio.gather(*(Repository[Audit](db).create(note="after") for _ in range(3)))

        assert await Repository[Audit](db).count() == 4
        assert db.pool_status().capacity == 1


@pytest.mark.parametrize("given", [False, True], ids=["made", "given"])
@pytest.mark.parametrize(
    "options", [{"pool_size": 0}, {"max_overflow": -1}, {"pool_size": 5}, {"pool_size": 2, "max_overflow": 3}]
)
async def test_database_in_memory_has_one_connection(options: dict[str, Any], *, given: bool) -> None:
    """Of whatever size of a pool: a second one would be another database, or the same transaction."""
    url = "sqlite+aiosqlite://"
    if given:
        options = {"poolclass": AsyncAdaptedQueuePool, **options}
        db = Database(create_async_engine(url, **options), name="memory")
    else:
        db = Database(url, name="memory", **options)

    async def write(number: int) -> None:
        async with db.transaction():
            await Repository[Audit](db).create(note=f"{number}")
            await asyncio.sleep(0)
            if number % 2:
                db.set_rollback_only()
        await Repository[Audit](db).create(note="alone")

    async with db:
        await db.create_all(Audit)
        await asyncio.gather(*(write(number) for number in range(6)))

        notes = sorted(audit.note for audit in await Repository[Audit](db).all())
        assert db.pool_status().capacity == 1
    assert notes == ["0", "2", "4", *["alone"] * 6]


def test_database_in_memory_without_a_pool_is_refused() -> None:
    """Each connection would be another database."""
    with pytest.raises(OptionError, match=r"poolclass does not take 'NullPool'[\s\S]*in memory"):
        Database("sqlite+aiosqlite://", poolclass=NullPool)


async def test_all_are_served_in_the_order_in_which_they_came(database_url: URL) -> None:
    """First come, first served."""
    served: list[int] = []
    async with Database(database_url, pool_size=1, max_overflow=0) as db:

        async def work(number: int) -> None:
            async with db.engine.connect():
                served.append(number)
                await asyncio.sleep(0)

        async with db.engine.connect():
            tasks = []
            for number in range(10):
                tasks.append(asyncio.create_task(work(number)))
                await asyncio.sleep(0)
            assert served == []
        await asyncio.gather(*tasks)

    assert served == list(range(10))


async def test_one_that_gives_up_waiting_loses_no_connection(database_url: URL) -> None:
    """Cancelled in the queue, or just when it is its turn: the next one is served."""
    async with Database(database_url, pool_size=1, max_overflow=0, pool_timeout=10) as db:
        for pauses in range(4):
            async with db.engine.connect() as held:
                first = asyncio.create_task(by_hand(db))
                second = asyncio.create_task(by_hand(db))
                await asyncio.sleep(0.01)
                returning = asyncio.create_task(held.close())
                for _ in range(pauses):
                    await asyncio.sleep(0)
                first.cancel()
                await returning
            await asyncio.gather(first, return_exceptions=True)
            async with asyncio.timeout(5):
                await second

        assert db.pool_status().checked_out == 0


async def test_one_that_waits_too_long_is_told_who_holds_the_connections(database_url: URL) -> None:
    """SQLAlchemy's error, after the pool's own time, and the pool is whole afterwards."""
    async with Database(database_url, pool_size=1, max_overflow=0, pool_timeout=0.05) as db:
        async with db.transaction(read_only=True) as session:
            await session.execute(select(Audit))
            with pytest.raises(PoolTimeoutError, match="limit of size 1") as caught:
                await asyncio.create_task(in_a_block_of_its_own(db), context=Context())

        await by_hand(db)

    assert "held by:\n  the block at" in "".join(caught.value.__notes__)


async def in_a_block_of_its_own(db: Database) -> None:
    """A block beside the one that is open here."""
    async with db.transaction(propagation="REQUIRES_NEW", read_only=True) as session:
        await session.execute(select(Audit))


@pytest.mark.only("postgresql", "mariadb", reason="a connect that fails needs a server")
async def test_place_of_a_connect_that_fails_goes_to_the_next(database_url: URL) -> None:
    """Whoever waits behind it tries by itself, and does not wait for its time to be over."""
    wrong = database_url.set(host="127.0.0.1", port=1)
    async with Database(wrong, pool_size=1, max_overflow=0, pool_timeout=30) as db:
        async with asyncio.timeout(10):
            told = await asyncio.gather(*(by_hand(db) for _ in range(5)), return_exceptions=True)

        assert all(isinstance(error, Exception) for error in told)
        assert not any(isinstance(error, PoolTimeoutError) for error in told)
        assert db.pool_status().checked_out == 0
