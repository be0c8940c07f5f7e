"""`gather` inside a transaction is safe and atomic: sibling tasks use the session in turns."""

import asyncio
from contextlib import suppress
from typing import Any

import anyio
import pytest
from sqlalchemy import insert, select, text

from tests.fixtures.errors import ShopError, StockError
from tests.fixtures.models import Account, Audit, Order
from tests.fixtures.observer import Observer
from unitwork import Database, Propagation, Repository, TransactionRefusedError, UnexpectedRollbackError

NUMBERS = range(20)
NESTED = Propagation.NESTED


async def add(db: Database, note: str) -> None:
    """Write with the session of whoever is around, one statement at least."""
    db.session.add(Audit(note=note))
    await db.session.flush()


async def execute(db: Database, note: str) -> None:
    """Write without the identity map."""
    await db.session.execute(insert(Audit).values(note=note))


async def join(db: Database, note: str) -> None:
    """Write in a joined block."""
    async with db.transaction():
        db.session.add(Audit(note=note))
        await asyncio.sleep(0)


async def nest(db: Database, note: str) -> None:
    """Write in a savepoint that gives the loop away while it is open."""
    async with db.transaction(propagation=NESTED):
        db.session.add(Audit(note=note))
        await asyncio.sleep(0)
        await db.session.flush()


async def nest_by_hand(db: Database, note: str) -> None:
    """Write in a savepoint of SQLAlchemy's own method."""
    async with db.session.begin_nested():
        db.session.add(Audit(note=note))
        await asyncio.sleep(0)


@pytest.mark.parametrize("write", [add, execute, join, nest, nest_by_hand])
async def test_gather_in_a_transaction_stores_everything(
    db: Database,
    observer: Observer,
    write: Any,  # noqa: ANN401 - any of the above
) -> None:
    """Sibling tasks write through one session, on one connection, each in its turn."""
    async with db.transaction() as session:
        await asyncio.gather(*(write(db, f"{number:02}") for number in NUMBERS))
        await session.flush()
        assert db.session is session
        assert db.pool_status().checked_out == 1

    assert await observer.notes(Audit) == [f"{number:02}" for number in NUMBERS]


async def test_task_group_in_a_transaction_is_atomic(db: Database, observer: Observer) -> None:
    """When one task of a group fails, nothing of any stays."""

    async def fail() -> None:
        await add(db, "last")
        raise StockError

    with pytest.raises(ExceptionGroup):
        async with db.transaction():
            async with asyncio.TaskGroup() as group:
                for number in NUMBERS:
                    group.create_task(add(db, str(number)))
                group.create_task(fail())

    assert await observer.notes(Audit) == []


async def test_anyio_group_in_a_transaction(db: Database, observer: Observer) -> None:
    """Task groups of anyio are siblings like any other."""
    async with db.transaction():
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(add, db, str(number))
                group.start_soon(nest, db, f"nested {number}")

    assert len(await observer.notes(Audit)) == 10


async def test_anyio_cancel_scope_around_a_transaction(db: Database, observer: Observer) -> None:
    """A time limit of anyio's rolls everything back and leaves the pool whole."""
    started = anyio.Event()

    async def hang() -> None:
        await add(db, "x")
        started.set()
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        async with db.transaction():
            async with anyio.create_task_group() as group:
                group.start_soon(hang)
                group.start_soon(nest, db, "y")
                await started.wait()
                scope.cancel()
                await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert await observer.notes(Audit) == []
    assert db.pool_status().checked_out == 0


async def test_failed_sibling_that_is_swallowed_condemns(db: Database, observer: Observer) -> None:
    """A joined block of a task that failed cannot be ignored by gathering its exception."""

    @db.transactional
    async def reserve() -> None:
        await add(db, "reserved")
        raise StockError

    with pytest.raises(UnexpectedRollbackError, match="reserve"):
        async with db.transaction():
            await asyncio.gather(add(db, "x"), reserve(), return_exceptions=True)

    assert await observer.notes(Audit) == []


async def test_nested_siblings_fail_alone(db: Database, observer: Observer) -> None:
    """Savepoints of siblings never interleave: each can be undone by itself."""

    async def nest_and_fail(number: int) -> None:
        async with db.transaction(propagation=NESTED):
            await add(db, f"undone {number}")
            await asyncio.sleep(0)
            await execute(db, f"undone too {number}")
            raise StockError

    async with db.transaction():
        await asyncio.gather(
            *(nest_and_fail(number) for number in NUMBERS),
            *(nest(db, f"{number:02}") for number in NUMBERS),
            return_exceptions=True,
        )

    assert await observer.notes(Audit) == [f"{number:02}" for number in NUMBERS]


async def test_nested_block_holds_the_turn_until_it_ends(db: Database) -> None:
    """While a savepoint is open its siblings wait, and what they do is not part of it."""
    order: list[str] = []
    opened = asyncio.Event()
    finish = asyncio.Event()

    async def inside() -> None:
        async with db.transaction(propagation=NESTED):
            opened.set()
            await finish.wait()
            await add(db, "inside")
            order.append("inside")

    async def outside() -> None:
        await opened.wait()
        waiting = asyncio.create_task(execute(db, "outside"))
        for _ in range(10):
            await asyncio.sleep(0)
        order.append("waited")
        finish.set()
        await waiting
        order.append("outside")

    async with db.transaction():
        await asyncio.gather(inside(), outside())

    assert order == ["waited", "inside", "outside"]


async def test_tasks_of_a_nested_block_share_its_turn(db: Database, observer: Observer) -> None:
    """The turn is held for the tasks inside the savepoint as well."""
    async with db.transaction():
        with pytest.raises(StockError):
            async with db.transaction(propagation=NESTED):
                await asyncio.gather(*(join(db, str(number)) for number in NUMBERS))
                raise StockError
        async with db.transaction(propagation=NESTED):
            await asyncio.gather(add(db, "a"), nest(db, "b"))

    assert await observer.notes(Audit) == ["a", "b"]


async def test_added_beside_a_savepoint_survives_its_rollback(db: Database, observer: Observer) -> None:
    """`add` belongs to the block that calls it, not to the savepoint that a sibling has open."""
    opened = asyncio.Event()
    added = asyncio.Event()

    async def nest_and_fail() -> None:
        async with db.transaction(propagation=NESTED):
            await add(db, "undone")
            opened.set()
            await added.wait()
            await db.session.flush()
            raise StockError

    async def add_beside() -> None:
        await opened.wait()
        db.session.add(Audit(note="one"))
        db.session.add_all([Audit(note="two"), Audit(note="three")])
        added.set()

    async with db.transaction():
        await asyncio.gather(nest_and_fail(), add_beside(), return_exceptions=True)

    assert await observer.notes(Audit) == ["one", "three", "two"]


async def test_added_beside_a_block_belongs_to_the_unit(db: Database, observer: Observer) -> None:
    """In a unit, what one task adds is not undone with the block of another."""
    opened = asyncio.Event()
    added = asyncio.Event()

    async def fail() -> None:
        async with db.transaction():
            await add(db, "undone")
            opened.set()
            await added.wait()
            await db.session.flush()
            raise StockError

    async def add_beside() -> None:
        await opened.wait()
        db.session.add(Audit(note="kept"))
        added.set()

    async with db.unit_of_work(atomic=False):
        await asyncio.gather(fail(), add_beside(), return_exceptions=True)

    assert await observer.notes(Audit) == ["kept"]


async def test_adds_during_a_flush_are_not_lost(db: Database, observer: Observer) -> None:
    """An entity that is added while a sibling flushes is stored, whenever that flush ends."""

    async def flush_many() -> None:
        db.session.add_all([Audit(note="flushed") for _ in range(100)])
        await db.session.flush()

    async def add_meanwhile() -> None:
        for _ in range(50):
            db.session.add(Audit(note="meanwhile"))
            await asyncio.sleep(0)

    async with db.transaction():
        await asyncio.gather(flush_many(), add_meanwhile(), flush_many())

    assert await observer.notes(Audit) == ["flushed"] * 200 + ["meanwhile"] * 50


@pytest.mark.parametrize("turns", range(1, 12, 2))
async def test_add_beside_a_cancelled_flush_warns_of_nothing(
    db: Database, observer: Observer, turns: int
) -> None:
    """What is added while a flush is cancelled is undone with it, and the rollback has nothing to tell."""

    async def add_many() -> None:
        with suppress(TransactionRefusedError):
            for _ in range(60):
                db.session.add(Audit(note="beside"))
                await asyncio.sleep(0)

    error: BaseException | None = None
    try:
        async with db.transaction():
            flushing = asyncio.create_task(add(db, "flushed"))
            adding = asyncio.create_task(add_many())
            for _ in range(turns):
                await asyncio.sleep(0)
            flushing.cancel()
            await asyncio.gather(flushing, adding, return_exceptions=True)
    except UnexpectedRollbackError as raised:
        error = raised

    assert not getattr(error, "__notes__", [])
    stored = await observer.notes(Audit)
    assert stored == [] if error else set(stored) <= {"beside", "flushed"}


async def test_streams_of_siblings_do_not_collide(db: Database, observer: Observer) -> None:
    """Rows are fetched in turns as well."""
    await observer.run("INSERT INTO audit (note) VALUES ('a'), ('b'), ('c')")

    async def read() -> list[str]:
        notes: list[str] = []
        async for note in await db.session.stream_scalars(select(Audit.note).order_by(Audit.note)):
            notes.append(note)
            await asyncio.sleep(0)
        return notes

    async with db.transaction():
        read_by = await asyncio.gather(*(read() for _ in range(5)))

    assert read_by == [["a", "b", "c"]] * 5


async def test_attributes_that_siblings_load_do_not_collide(db: Database) -> None:
    """`awaitable_attrs` loads in turns with everything else."""
    async with db.transaction():
        accounts = [Account(name=str(number), orders=[Order(total=number)]) for number in range(10)]
        db.session.add_all(accounts)
        await db.session.flush()
        db.session.expire_all()

        async def total(account: Account) -> int:
            return sum(order.total for order in await account.awaitable_attrs.orders)

        for account in accounts:
            await db.session.refresh(account, ["id"])
        totals = await asyncio.gather(
            *(total(account) for account in accounts), *(add(db, "x") for _ in NUMBERS)
        )

    assert totals[:10] == list(range(10))


async def test_blocks_of_siblings_in_a_unit_are_separate_transactions(
    db: Database, observer: Observer
) -> None:
    """In an idle unit each task's block is a transaction of its own, one after another."""

    @db.transactional
    async def write(number: int) -> None:
        await add(db, str(number))
        await asyncio.sleep(0)
        if number % 2:
            raise StockError

    async with db.unit_of_work(atomic=False):
        await asyncio.gather(*(write(number) for number in range(6)), return_exceptions=True)
        assert db.pool_status().checked_out == 0

    assert await observer.notes(Audit) == ["0", "2", "4"]


async def test_reads_of_siblings_in_a_unit(db: Database, observer: Observer) -> None:
    """Repository reads of an idle unit wait for each other, and give the same entity."""
    await observer.run("INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)")

    async with db.unit_of_work():
        found = await asyncio.gather(*(Repository[Account](db).get(1) for _ in range(10)))
        assert db.pool_status().checked_out == 0

    assert found[0] is not None
    assert all(account is found[0] for account in found)


@pytest.mark.parametrize("turns", range(0, 40, 5))
async def test_cancelled_sibling_leaves_no_half_savepoint(
    db: Database, observer: Observer, turns: int
) -> None:
    """Wherever one sibling is cancelled: its savepoint is undone as a whole, or all of the transaction."""

    async def write(name: str) -> None:
        async with db.transaction(propagation=NESTED):
            await execute(db, name)
            await asyncio.sleep(0)
            await execute(db, name)

    stored: list[str] = []
    try:
        async with db.transaction():
            tasks = [asyncio.create_task(write(name)) for name in "abcde"]
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks[2].cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            stored = [name for name, end in zip("abcde", ends, strict=True) if end is None]
    except UnexpectedRollbackError:
        # Cancelled inside a statement, the connection of all of them may be lost with it.
        stored = []

    assert await observer.notes(Audit) == sorted(stored * 2)
    assert db.pool_status().checked_out == 0


async def test_who_waits_for_whom_can_be_told(db: Database) -> None:
    """The turns of a session describe who runs and who waits, for a person who looks for a deadlock."""
    opened = asyncio.Event()
    finish = asyncio.Event()

    async def hold() -> None:
        async with db.transaction(propagation=NESTED):
            opened.set()
            await finish.wait()

    async with db.transaction() as session:
        turns: Any = session.turns  # type: ignore[attr-defined]  # that of the ambient session
        holder = asyncio.create_task(hold(), name="holder")
        await opened.wait()
        waiter = asyncio.create_task(session.execute(text("SELECT 1")), name="waiter")
        await asyncio.sleep(0)
        described = turns.describe()
        finish.set()
        await asyncio.gather(holder, waiter)

    assert "waiter" in described
    assert "test_tasks_sharing_a_session.py" in described


async def test_failing_sibling_does_not_hang_those_that_wait(db: Database, observer: Observer) -> None:
    """When the block ends while tasks wait for their turn, they are told so."""
    opened = asyncio.Event()

    async def hold() -> None:
        async with db.transaction(propagation=NESTED):
            opened.set()
            await asyncio.Event().wait()

    async def wait() -> None:
        await opened.wait()
        await execute(db, "never")

    with pytest.raises(ExceptionGroup) as caught:
        async with db.transaction():
            async with asyncio.TaskGroup() as group:
                group.create_task(hold())
                group.create_task(wait())
                await opened.wait()
                await asyncio.sleep(0)
                raise ShopError

    assert caught.group_contains(ShopError)
    assert await observer.notes(Audit) == []
