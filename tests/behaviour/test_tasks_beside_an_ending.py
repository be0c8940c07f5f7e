"""What tasks still do while the block or unit around them ends, and what only reads have begun."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text

from tests.fixtures.errors import ShopError
from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from unitwork import (
    Database,
    Propagation,
    Repository,
    TransactionEndedError,
    TransactionRefusedError,
    UnexpectedRollbackError,
)

Open = Callable[[Database], Any]
PATIENCE_S = 10
BLOCKS: list[Any] = [
    pytest.param(lambda db: db.transaction(), id="block"),
    pytest.param(lambda db: db.unit_of_work(), id="unit"),
]


class Audits(Repository[Audit]):
    """Methods that are not decorated."""

    async def renamed(self, note: str) -> None:
        """Read by the session, then change what was read."""
        entry = (await self.session.scalars(select(Audit))).one()
        entry.note = note

    async def counted(self, db: Database) -> int:
        """Read in a block that only reads."""
        async with db.transaction(read_only=True):
            return await self.count()


async def write(db: Database, note: str) -> None:
    """Send one row."""
    await db.session.execute(insert(Audit).values(note=note))


async def is_sound(db: Database, observer: Observer, *before: str) -> None:
    """Nothing is held, and what is acknowledged next is stored."""
    assert db.pool_status().checked_out == 0
    await Repository[Audit](db).add(Audit(note="acknowledged"))
    async with db.transaction():
        await write(db, "last")
    assert await observer.notes(Audit) == sorted([*before, "acknowledged", "last"])


@pytest.mark.parametrize("fails", [False, True], ids=["is released", "is rolled back"])
@pytest.mark.parametrize("around", BLOCKS)
async def test_savepoint_of_a_task_ends_before_the_block_around_it(
    db: Database, observer: Observer, around: Open, *, fails: bool
) -> None:
    """The connection goes back clean: whoever is next does not work in somebody else's transaction."""
    leaves = asyncio.Event()

    async def inner() -> None:
        async with db.transaction(propagation=Propagation.NESTED):
            await write(db, "savepoint")
            leaves.set()
            if fails:
                raise ShopError

    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(PATIENCE_S), around(db):
            await write(db, "outer")
            task = asyncio.create_task(inner())
            await leaves.wait()
            raise ZeroDivisionError
    await asyncio.gather(task, return_exceptions=True)

    await is_sound(db, observer)


@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.NESTED])
@pytest.mark.parametrize("around", BLOCKS)
async def test_half_of_a_tasks_block_is_never_committed(
    db: Database, observer: Observer, around: Open, propagation: Propagation
) -> None:
    """Its first statement is under way when the block around ends; the second is refused."""
    begins = asyncio.Event()

    async def transfer() -> None:
        async with db.transaction(propagation=propagation):
            begins.set()
            await write(db, "debit")
            await write(db, "credit")

    with pytest.raises(UnexpectedRollbackError):
        async with asyncio.timeout(PATIENCE_S), around(db):
            await write(db, "outer")
            task = asyncio.create_task(transfer())
            await begins.wait()
    await asyncio.gather(task, return_exceptions=True)

    await is_sound(db, observer)


@pytest.mark.parametrize("around", BLOCKS)
async def test_statement_that_fails_while_the_block_ends_counts(
    db: Database, observer: Observer, around: Open
) -> None:
    """The database has condemned the transaction: the block does not say that it is committed."""
    story: list[str] = []
    begins = asyncio.Event()

    async def fails() -> None:
        begins.set()
        await db.session.execute(text("SELECT * FROM nowhere"))

    with pytest.raises(UnexpectedRollbackError):
        async with asyncio.timeout(PATIENCE_S), around(db):
            await write(db, "outer")
            db.on_commit(lambda: story.append("mail"))
            task = asyncio.create_task(fails())
            await begins.wait()
    await asyncio.gather(task, return_exceptions=True)

    assert story == []
    await is_sound(db, observer)


@pytest.mark.parametrize("around", BLOCKS)
async def test_statement_of_a_task_without_a_block_is_whole_by_itself(
    db: Database, observer: Observer, around: Open
) -> None:
    """The one that runs while the block ends is stored with it; the task hears that the next one is not."""
    begins = asyncio.Event()

    async def works() -> None:
        begins.set()
        await write(db, "in flight")
        await write(db, "too late")

    async with asyncio.timeout(PATIENCE_S), around(db):
        await write(db, "outer")
        task = asyncio.create_task(works())
        await begins.wait()

    with pytest.raises(TransactionEndedError):
        await task
    assert await observer.notes(Audit) == ["in flight", "outer"]


async def test_work_on_the_connection_takes_its_turn(db: Database, observer: Observer) -> None:
    """The block waits for it before it ends."""
    begins = asyncio.Event()

    async def by_hand() -> None:
        connection = await db.session.connection()
        begins.set()
        await connection.execute(insert(Audit).values(note="by hand"))

    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(PATIENCE_S), db.transaction():
            await write(db, "outer")
            task = asyncio.create_task(by_hand())
            await begins.wait()
            raise ZeroDivisionError
    await asyncio.gather(task, return_exceptions=True)

    await is_sound(db, observer)


async def test_task_that_goes_on_while_its_unit_ends_begins_nothing_there(
    db: Database, observer: Observer
) -> None:
    """One of two services fails: the other one's next write is refused, and holds no connection."""
    writes = asyncio.Event()

    async def service() -> None:
        async with db.transaction():
            await write(db, "first")
            writes.set()
            for number in range(5):
                await write(db, f"more {number}")

    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(PATIENCE_S), db.unit_of_work():
            task = asyncio.create_task(service())
            await writes.wait()
            raise ZeroDivisionError
    (result,) = await asyncio.gather(task, return_exceptions=True)

    assert isinstance(result, Exception)
    await is_sound(db, observer)


async def test_loop_that_ends_cancels_what_commits(db: Database) -> None:
    """A loop cancels its tasks when it does not run any more, as `asyncio.run` does at its end."""

    async def main() -> None:
        async def job() -> None:
            while True:
                async with db.transaction():
                    await Repository[Audit](db).add(Audit(note="job"))

        jobs = [asyncio.create_task(job()) for _ in range(3)]
        await asyncio.sleep(0.02)
        assert not any(task.done() for task in jobs)

    for _ in range(5):
        await asyncio.to_thread(asyncio.run, main())  # raises what its shutdown raises


async def test_reads_and_writes_of_a_unit_need_one_connection(db: Database, observer: Observer) -> None:
    """A read that has waited while the unit began its transaction goes on in there."""
    audits = Repository[Audit](db)
    held = [await asyncio.wait_for(db.engine.connect().start(), PATIENCE_S) for _ in range(_all_but_one(db))]
    try:
        async with asyncio.timeout(PATIENCE_S), db.unit_of_work():
            for _ in range(3):
                await asyncio.gather(
                    audits.count(),
                    audits.add(Audit(note="row")),
                    db.session.scalars(select(Audit)),
                    audits.count(),
                )
    finally:
        for connection in held:
            await connection.close()

    assert await observer.notes(Audit) == ["row"] * 3


def _all_but_one(db: Database) -> int:
    return (db.pool_status().capacity or 1) - 1


async def test_what_a_reading_block_registers_waits_for_the_unit(db: Database) -> None:
    """The request is rolled back, so no mail is sent."""
    story: list[str] = []
    with pytest.raises(ZeroDivisionError):
        async with db.unit_of_work():
            async with db.transaction(read_only=True):
                await Repository[Audit](db).count()
                db.on_commit(lambda: story.append("mail"))
                db.on_rollback(lambda: story.append("undone"))
            raise ZeroDivisionError
    assert story == ["undone"]

    async with db.unit_of_work():
        async with db.transaction(read_only=True):
            db.on_commit(lambda: story.append("mail"))
        assert story == ["undone"]
    assert story == ["undone", "mail"]


@pytest.mark.only("postgresql", reason="its SELECT may write")
async def test_function_that_may_write_begins_the_transaction(db: Database, observer: Observer) -> None:
    """A SELECT that calls it is rolled back with the rest, whatever sends it."""
    async with db.transaction() as session:
        await session.execute(
            text(
                "CREATE FUNCTION noted(words text) RETURNS int LANGUAGE sql AS"
                " $$ INSERT INTO audit (note) VALUES (words) RETURNING id $$"
            )
        )
    sends: list[Callable[[], Awaitable[Any]]] = [
        lambda: db.session.scalar(select(func.noted("built"))),
        lambda: db.session.execute(text("SELECT noted('text')")),
        lambda: Repository[Audit](db).where(Audit.id == func.noted("where")).all(),
        lambda: db.session.execute(text("SELECT pg_advisory_xact_lock(1)")),
        lambda: db.session.execute(text("SET LOCAL work_mem = '8MB'")),
    ]
    for send in sends:
        with pytest.raises(ZeroDivisionError):
            async with db.unit_of_work():
                await Repository[Audit](db).count()
                assert db.pool_status().checked_out == 0
                await send()
                assert db.pool_status().checked_out == 1
                raise ZeroDivisionError

    assert await observer.notes(Audit) == []


async def test_function_that_only_computes_holds_nothing(db: Database) -> None:
    """A read with it ends by itself."""
    async with db.unit_of_work():
        await db.session.scalar(select(func.count(Audit.id), func.max(func.lower(Audit.note))))
        await db.session.execute(
            text("SELECT count(*), coalesce(max(note), '') FROM audit WHERE id IN (1, 2)")
        )

        assert db.pool_status().checked_out == 0


@pytest.mark.parametrize("unit", [True, False], ids=["atomic", "in pieces"])
async def test_undecorated_method_may_read_before_it_writes(
    db: Database, observer: Observer, *, unit: bool
) -> None:
    """What it reads holds no other connection than what it writes on; a block inside ends in order."""
    await Repository[Audit](db).add(Audit(note="old"))

    async with asyncio.timeout(PATIENCE_S), db.unit_of_work(atomic=unit):
        assert await Audits(db).counted(db) == 1
        await Audits(db).renamed("new")
        assert await Audits(db).counted(db) == 1

    await is_sound(db, observer, "new")


async def test_stream_in_a_unit_sees_what_was_added_and_loses_no_change(
    db: Database, observer: Observer
) -> None:
    """What it could not store is refused."""
    await Repository[Audit](db).add(Audit(note="old"))

    async with db.unit_of_work() as session:
        session.add(Audit(note="pending"))
        seen = [entry.note async for entry in Repository[Audit](db).select().stream()]
    assert sorted(seen) == ["old", "pending"]

    with pytest.raises(TransactionRefusedError, match="read-only"):
        async with db.unit_of_work():
            async for entry in Repository[Audit](db).select().stream():
                entry.note = "changed"
    assert await observer.notes(Audit) == ["old", "pending"]


async def test_block_in_the_loop_over_a_generator_that_holds_one_does_not_hang(
    db: Database, observer: Observer
) -> None:
    """In a unit in pieces it is a transaction of its own, or is refused where there is one writer."""

    async def jobs() -> AsyncGenerator[str, None]:
        async with db.transaction(read_only=True):
            await db.session.execute(select(Audit))
            yield "job"

    async with asyncio.timeout(PATIENCE_S), db.unit_of_work(atomic=False):
        async for job in jobs():
            async with db.transaction():
                await write(db, job)

    assert await observer.notes(Audit) == ["job"]
