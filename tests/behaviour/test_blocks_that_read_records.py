"""A block whose first work is a read of records is a block like any other."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Select, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from tests.behaviour.test_transaction_cancellation import (
    MOST_AWAITS,
    STRIKES,
    Striking,
    cancel_current_task,
    completion,
)
from tests.fixtures.dialogue import Dialogue
from tests.fixtures.leaks import left_in_context
from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from unitwork import (
    Database,
    Propagation,
    Repository,
    TransactionRefusedError,
    TransactionTimeoutError,
    UnexpectedRollbackError,
    query,
)

POSTGRESQL = pytest.mark.only("postgresql", reason="its SELECT may write")
pytestmark = [pytest.mark.every_lane, pytest.mark.timeout(60)]


class Audits(Repository[Audit]):
    """The door to audits, with reads of records."""

    @query.sql("SELECT note FROM audit ORDER BY note")
    async def notes(self) -> list[str]: ...  # type: ignore[empty-body]  # the SQL is the body

    @query.sql("SELECT nothing FROM audit")
    async def misspelt(self) -> list[str]: ...  # type: ignore[empty-body]  # as above

    @query.sql("SELECT id, note FROM audit ORDER BY note FOR UPDATE")
    async def locked(self) -> list[dict[str, Any]]: ...  # type: ignore[empty-body]  # as above

    @query.sql("SELECT written(:note)")
    async def written(self, note: str) -> int: ...  # type: ignore[empty-body]  # as above

    @query.sql("SELECT id, written(:note) AS more FROM audit WHERE id = 1")
    async def written_beside(self, note: str) -> list[Audit]: ...  # type: ignore[empty-body]  # as above

    @query.sql("SELECT audit.* FROM audit, written(:note) WHERE id = 1")
    async def written_and_whole(self, note: str) -> list[Audit]: ...  # type: ignore[empty-body]  # as above

    @query.many
    def from_statement(self) -> Select[str]:
        return select(Audit.note).order_by(Audit.note)


@pytest.fixture
async def audits(db: Database, observer: Observer) -> Audits:
    """One row, and what the database learns from its first connection is known."""
    await observer.run("INSERT INTO audit (id, note) VALUES (1, 'first')")
    await Audits(db).notes()
    return Audits(db)


@pytest.fixture
async def writing(observer: Observer) -> None:
    """A function that writes."""
    await observer.run(
        "CREATE FUNCTION written(word varchar) RETURNS integer LANGUAGE sql AS"
        " 'INSERT INTO audit (id, note) SELECT max(id) + 1, word FROM audit RETURNING 1'"
    )


async def test_write_after_the_read(db: Database, audits: Audits, observer: Observer) -> None:
    """Through the session, and read again before the end."""
    async with db.transaction() as session:
        assert await audits.notes() == ["first"]
        session.add(Audit(id=2, note="second"))
        assert await audits.notes() == ["first", "second"]
        await session.execute(insert(Audit).values(id=3, note="third"))
        assert await audits.notes() == ["first", "second", "third"]

    assert await observer.notes(Audit) == ["first", "second", "third"]


@pytest.mark.parametrize("before", ["read", "nothing"])
@pytest.mark.parametrize("savepoint", ["by hand", "block"])
async def test_failing_read_in_a_savepoint_undoes_only_that(
    db: Database, audits: Audits, observer: Observer, before: str, savepoint: str
) -> None:
    """What was done outside of it stays and goes on."""
    async with db.transaction() as session:
        if before == "read":
            await audits.notes()
        session.add(Audit(id=2, note="outside"))
        with suppress(DBAPIError):
            nested = db.transaction(propagation=Propagation.NESTED)
            async with nested if savepoint == "block" else session.begin_nested():
                assert await audits.notes() == ["first", "outside"]
                session.add(Audit(id=3, note="inside"))
                assert await audits.notes() == ["first", "inside", "outside"]
                await audits.misspelt()
        assert await audits.notes() == ["first", "outside"]
        async with session.begin_nested():
            assert await audits.from_statement() == ["first", "outside"]
        session.add(Audit(id=4, note="after"))

    assert await observer.notes(Audit) == ["after", "first", "outside"]


async def test_failing_first_read_in_a_savepoint(db: Database, audits: Audits, observer: Observer) -> None:
    """It is the first statement of the whole transaction."""
    async with db.transaction() as session:
        with suppress(DBAPIError):
            async with db.transaction(propagation=Propagation.NESTED):
                await audits.misspelt()
        assert await audits.notes() == ["first"]
        session.add(Audit(id=2, note="after"))

    assert await observer.notes(Audit) == ["after", "first"]


async def test_failing_read_that_is_swallowed_condemns(
    db: Database, audits: Audits, observer: Observer
) -> None:
    """Nothing more is sent, and nothing is stored."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction():
            await audits.notes()
            with suppress(DBAPIError):
                await audits.misspelt()
            with pytest.raises(TransactionRefusedError):
                await audits.notes()
            with pytest.raises(TransactionRefusedError):
                await audits.add(Audit(id=2, note="lost"))

    assert await observer.notes(Audit) == ["first"]


@POSTGRESQL
@pytest.mark.usefixtures("writing")
async def test_read_that_writes_is_committed_once(db: Database, audits: Audits, observer: Observer) -> None:
    """In a block and in a joined one, in a unit of work, and outside."""
    async with db.transaction():
        assert await audits.written("block") == 1
        async with db.transaction():
            assert await audits.written("joined") == 1
    async with db.unit_of_work():
        assert await audits.written("unit") == 1
    assert await audits.written("alone") == 1

    assert await observer.notes(Audit) == ["alone", "block", "first", "joined", "unit"]


@POSTGRESQL
@pytest.mark.usefixtures("writing")
@pytest.mark.parametrize("place", ["block", "alone"])
async def test_read_that_writes_and_is_not_understood(
    db: Database, audits: Audits, observer: Observer, place: str
) -> None:
    """It was sent already, and is not sent again."""
    if place == "block":
        async with db.transaction():
            assert len(await audits.written_beside(place)) == 1
    else:
        assert len(await audits.written_beside(place)) == 1

    assert await observer.notes(Audit) == [place, "first"]


@POSTGRESQL
@pytest.mark.usefixtures("writing")
async def test_read_that_writes_and_returns_what_the_session_holds(
    db: Database, audits: Audits, observer: Observer
) -> None:
    """An entity that is not whole: it is sent once all the same."""
    async with db.transaction() as session:
        held = await audits.get_one(1)
        session.expire(held)
        assert await audits.written_and_whole("block") == [held]

    assert await observer.notes(Audit) == ["block", "first"]


@POSTGRESQL
@pytest.mark.usefixtures("writing")
async def test_read_that_writes_is_rolled_back(db: Database, audits: Audits, observer: Observer) -> None:
    """By an exception, by `set_rollback_only`, with its savepoint, by the unit of work."""
    with suppress(ValueError):
        async with db.transaction():
            await audits.written("raised")
            raise ValueError
    async with db.transaction():
        await audits.written("only")
        db.set_rollback_only()
    async with db.transaction():
        await audits.notes()
        with suppress(ValueError):
            async with db.transaction(propagation=Propagation.NESTED):
                await audits.written("savepoint")
                raise ValueError
    async with db.unit_of_work() as session:
        await session.execute(text("SELECT 1"))
        await audits.written("unit")
        await db.rollback()
        await session.execute(text("SELECT 1"))
        await audits.written("kept")
        await db.commit()

    assert await observer.notes(Audit) == ["first", "kept"]


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has no row locks")
async def test_lock_holds_until_the_end(db: Database, audits: Audits, observer: Observer) -> None:
    """Of a row that is read for update."""
    async with db.transaction():
        await audits.locked()
        with pytest.raises(DBAPIError):
            await observer.scalar("SELECT id FROM audit FOR UPDATE NOWAIT")
    assert await observer.scalar("SELECT id FROM audit FOR UPDATE NOWAIT") == 1


def write_past_us(session: Session) -> None:
    """Write where only the database can refuse it."""
    cursor: Any = session.connection().connection.cursor()
    cursor.execute("INSERT INTO audit (id, note) VALUES (2, 'lost')")


async def test_read_only_is_enforced_after_the_read(db: Database, audits: Audits, observer: Observer) -> None:
    """By us, and by the database; and leaks to nobody."""
    with pytest.raises(TransactionRefusedError):
        async with db.transaction(read_only=True):
            await audits.notes()
            await audits.add(Audit(id=2, note="lost"))
    with pytest.raises(Exception, match=r"(?i)read.?only"):  # the driver's own
        async with db.transaction(read_only=True) as session:
            await audits.notes()
            await session.run_sync(write_past_us)
    async with db.transaction(read_only=True):
        await audits.notes()
    await audits.add(Audit(id=3, note="kept"))

    assert await observer.notes(Audit) == ["first", "kept"]


async def test_hook_before_commit_writes(db: Database, audits: Audits, observer: Observer) -> None:
    """Nothing but a read of records happened before it."""
    async with db.transaction():
        await audits.notes()

        async def write() -> None:
            await audits.add(Audit(id=2, note="hook"))

        db.before_commit(write)

    assert await observer.notes(Audit) == ["first", "hook"]


async def test_many_tasks_in_one_block(db: Database, audits: Audits, observer: Observer) -> None:
    """Reads of records, of entities, streams, savepoints and writes at once."""

    async def one(number: int) -> None:
        assert "first" in await audits.notes()
        await audits.add(Audit(id=number, note=f"task {number}"))
        async with db.transaction(propagation=Propagation.NESTED):
            assert f"task {number}" in await audits.notes()
            assert await audits.get(1) is not None
            with suppress(DBAPIError):
                async with db.transaction(propagation=Propagation.NESTED):
                    await audits.misspelt()
        assert f"task {number}" in [found.note async for found in audits.select().stream()]

    async with db.transaction():
        await asyncio.gather(*(one(number) for number in range(2, 8)))

    assert len(await observer.notes(Audit)) == 7


async def test_deadline_ends_a_read_of_records(db: Database, audits: Audits, dialogue: Dialogue) -> None:
    """It is the block's own error, and the next block is well."""

    class Slow(Repository[Audit]):
        """A read that takes longer than any test."""

        @query.sql(dialogue.slow)
        async def slow(self) -> list[Any]: ...  # type: ignore[empty-body]  # the SQL is the body

    async with asyncio.timeout(15):
        with pytest.raises(TransactionTimeoutError):
            async with db.transaction(timeout=0.4):
                await audits.notes()
                await Slow(db).slow()
    assert await audits.notes() == ["first"]
    async with db.transaction():
        assert await audits.notes() == ["first"]


async def test_task_that_outlives_the_block_reads_in_none(db: Database, audits: Audits) -> None:
    """Its reads are its own; the block is over."""
    over = asyncio.Event()

    async def late() -> list[str]:
        await over.wait()
        return await audits.notes()

    async with db.transaction():
        await audits.notes()
        task = asyncio.create_task(late())
    over.set()

    assert await task == ["first"]
    assert db.pool_status().checked_out == 0


async def test_unit_of_work_reads_in_its_transaction(
    db: Database, audits: Audits, observer: Observer
) -> None:
    """And in none after the commit by hand."""
    async with db.unit_of_work() as session:
        assert await audits.notes() == ["first"]
        await session.execute(insert(Audit).values(id=2, note="undone"))
        assert await audits.notes() == ["first", "undone"]
        await db.rollback()
        assert await audits.notes() == ["first"]
        await session.execute(insert(Audit).values(id=3, note="done"))
        assert await audits.notes() == ["done", "first"]
        await db.commit()
        assert db.pool_status().checked_out == 0
        async with session.begin_nested():
            assert await audits.notes() == ["done", "first"]
            await audits.add(Audit(id=4, note="more"))
        await db.commit()
        await session.execute(text("SELECT 1"))
        await audits.notes()
        await db.close()

    assert await observer.notes(Audit) == ["done", "first", "more"]


@pytest.mark.parametrize("propagation", [Propagation.SUPPORTS, Propagation.NOT_SUPPORTED])
async def test_blocks_without_a_transaction(
    db: Database, audits: Audits, observer: Observer, propagation: Propagation
) -> None:
    """Each statement by itself, in whatever order reads and writes come."""
    async with db.transaction(propagation=propagation) as session:
        assert await audits.notes() == ["first"]
        assert db.pool_status().checked_out == 0
        await session.execute(insert(Audit).values(id=2, note="second"))
        assert await observer.notes(Audit) == ["first", "second"]
        with suppress(DBAPIError):
            await audits.misspelt()
        assert await audits.notes() == ["first", "second"]
        await audits.add(Audit(id=3, note="third"))
        assert await audits.notes() == ["first", "second", "third"]
        assert db.pool_status().checked_out == 0

    assert await observer.notes(Audit) == ["first", "second", "third"]


@pytest.mark.parametrize("strikes", list(STRIKES))
async def test_cancelled_at_every_await_leaves_nothing_behind(
    db: Database, audits: Audits, observer: Observer, strikes: str
) -> None:
    """Reads before, in and after a savepoint, and in each kind of block; it stays a cancellation."""

    async def program() -> None:
        async with db.unit_of_work():
            async with db.transaction() as session:
                await audits.notes()
                async with db.transaction(propagation=Propagation.NESTED):
                    await audits.notes()
                    await session.execute(insert(Audit).values(id=2, note="struck"))
                await audits.notes()
            async with db.transaction(read_only=True):
                await audits.notes()
            async with db.transaction(propagation=Propagation.SUPPORTS):
                await audits.notes()

    for at in range(1, MOST_AWAITS):
        striking = Striking(program(), STRIKES[strikes](at), cancel_current_task)
        task = asyncio.create_task(completion(striking))
        await asyncio.wait({task})

        assert db.pool_status().checked_out == 0
        assert left_in_context() == {}
        await observer.run("DELETE FROM audit WHERE id = 2")
        async with db.transaction():
            assert await audits.notes() == ["first"]
        if striking.seen < at:
            task.result()
            return
        assert task.cancelled(), task.exception()
    pytest.fail("the program has more awaits than this test expects")
