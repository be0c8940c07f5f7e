"""A time limit reaches all that happens inside its block, and nothing else."""

import asyncio
import sqlite3
import time

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.exc import DBAPIError

from tests.fixtures.dialogue import Dialogue
from tests.fixtures.errors import StockError
from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from tests.fixtures.proxy import Proxy
from unitwork import Database, Propagation, Repository, TransactionTimeoutError

SHORT_S = 0.3
GENEROUS_S = 10.0
"""Far less than what slow things take here, far more than any busy machine needs."""
TEN_MINUTES_MS = 600_000
ROLLBACK = b"ROLLBACK"
ON_THE_LINE = pytest.mark.only("postgresql", "mariadb", reason="a line to a server is watched")
SLOW_COMMIT = (
    """CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$""",
    """CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON audit DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slowly()""",
)


async def write(db: Database, note: str) -> None:
    """Send one row."""
    await db.session.execute(insert(Audit).values(note=note))


@pytest.mark.parametrize("statement", ["in the block", "of a joined block"])
async def test_time_is_over_while_a_sibling_has_the_turn(
    db: Database, dialogue: Dialogue, statement: str
) -> None:
    """The sibling's statement is given up; the block does not wait for its end."""

    async def slow() -> None:
        if statement == "of a joined block":
            async with db.transaction() as session:
                await session.execute(text(dialogue.slow))
        else:
            await db.session.execute(text(dialogue.slow))

    started = time.monotonic()
    with pytest.raises(TransactionTimeoutError):
        async with db.transaction(timeout=SHORT_S):
            sibling = asyncio.create_task(slow())
            await asyncio.Event().wait()
    took_s = time.monotonic() - started
    [told] = await asyncio.gather(sibling, return_exceptions=True)

    assert took_s < GENEROUS_S
    assert isinstance(told, BaseException)
    assert db.pool_status().checked_out == 0


async def test_sibling_that_ends_just_when_the_time_is_over_leaves_nothing(
    db: Database, dialogue: Dialogue
) -> None:
    """Whichever comes first: the end of its statement, which the server may give up, or that of the block."""

    async def slow() -> None:
        await db.session.execute(text(dialogue.slow))

    for number in range(25):
        with pytest.raises(TransactionTimeoutError):
            async with db.transaction(timeout=0.01 + number / 1000):
                sibling = asyncio.create_task(slow())
                await asyncio.Event().wait()
        [told] = await asyncio.gather(sibling, return_exceptions=True)

        assert isinstance(told, BaseException)
        assert db.pool_status().checked_out == 0


@pytest.mark.parametrize("own", ["block", "unit", "repository", "requires new"])
async def test_task_that_outlives_the_block_does_not_carry_its_limit(
    db: Database, observer: Observer, own: str
) -> None:
    """Its own work has the time that it needs, also when the limit of the block has passed meanwhile."""
    over = asyncio.Event()

    async def late() -> None:
        await over.wait()
        if own == "repository":
            await Repository[Audit](db).add(Audit(note="late"))
            return
        propagation = Propagation.REQUIRES_NEW if own == "requires new" else Propagation.REQUIRED
        block = db.unit_of_work() if own == "unit" else db.transaction(propagation=propagation)
        async with block:
            await write(db, "late")
            await asyncio.sleep(SHORT_S)

    async with db.transaction(timeout=SHORT_S) as session:
        await session.execute(text("SELECT 1"))
        task = asyncio.create_task(late())
    await asyncio.sleep(SHORT_S + 0.05)
    over.set()
    await task

    assert await observer.notes(Audit) == ["late"]


@pytest.mark.only("postgresql", reason="only a deferred trigger can make COMMIT slow")
@pytest.mark.parametrize("limited", [Propagation.REQUIRED, Propagation.NESTED, Propagation.REQUIRES_NEW])
@pytest.mark.parametrize("around", ["block", "unit"])
async def test_limit_reaches_the_commit_of_a_block_inside(
    db: Database, observer: Observer, limited: Propagation, around: str
) -> None:
    """The tightest limit wins, whether its block has begun the transaction, or joined it."""
    for statement in SLOW_COMMIT:
        await observer.run(statement)

    started = time.monotonic()
    with pytest.raises(TransactionTimeoutError):
        async with db.transaction() if around == "block" else db.unit_of_work():
            async with db.transaction(timeout=SHORT_S, propagation=limited):
                async with db.transaction(propagation=Propagation.REQUIRES_NEW):
                    await write(db, "row")

    assert time.monotonic() - started < GENEROUS_S
    assert await observer.notes(Audit) == []


@ON_THE_LINE
@pytest.mark.parametrize("way", ["time is over", "cancelled", "limit in a unit"])
async def test_rollback_that_is_never_answered_ends_after_a_grace(
    proxy: Proxy, observer: Observer, way: str
) -> None:
    """The error of the block is told, its connection is discarded, and the next block works."""
    async with Database(proxy.url, end_grace_s=SHORT_S) as db:

        async def fail() -> None:
            await write(db, "lost")
            proxy.hang_after = ROLLBACK
            raise StockError

        async def work() -> None:
            if way == "limit in a unit":
                async with db.unit_of_work(atomic=False), db.transaction(timeout=SHORT_S):
                    await fail()
            async with db.transaction(timeout=None if way == "cancelled" else SHORT_S):
                await fail()

        task = asyncio.create_task(work())
        if way == "cancelled":
            await asyncio.wait([task], timeout=SHORT_S)
            task.cancel()
        _, waiting = await asyncio.wait([task], timeout=GENEROUS_S)
        proxy.heal()

        assert not waiting
        with pytest.raises((StockError, TransactionTimeoutError, asyncio.CancelledError)):
            task.result()
        assert db.pool_status().checked_out == 0
        async with db.transaction():
            await write(db, "next")
        assert await observer.notes(Audit) == ["next"]


async def test_limit_of_a_block_on_another_database_counts_too(db: Database, dialogue: Dialogue) -> None:
    """A block inside of it, on whatever Database, ends in its time."""
    started = time.monotonic()
    async with Database("sqlite+aiosqlite:///:memory:", name="other") as other:
        with pytest.raises((TransactionTimeoutError, DBAPIError)):
            async with other.transaction(timeout=SHORT_S), db.transaction() as session:
                await session.execute(text(dialogue.slow))

    assert time.monotonic() - started < GENEROUS_S
    assert db.pool_status().checked_out == 0


async def test_time_is_over_while_the_block_waits_for_its_turn(db: Database, dialogue: Dialogue) -> None:
    """The owner waits for the savepoint of a sibling: the limit ends that, too."""
    began = asyncio.Event()

    async def slow() -> None:
        async with db.transaction(propagation=Propagation.NESTED) as session:
            began.set()
            await session.execute(text(dialogue.slow))

    started = time.monotonic()
    with pytest.raises(TransactionTimeoutError):
        async with db.transaction(timeout=SHORT_S):
            sibling = asyncio.create_task(slow())
            await began.wait()
            await db.session.execute(text("SELECT 1"))
    took_s = time.monotonic() - started
    await asyncio.gather(sibling, return_exceptions=True)

    assert took_s < GENEROUS_S
    assert db.pool_status().checked_out == 0


async def test_time_is_over_while_a_sibling_is_in_a_savepoint(db: Database, dialogue: Dialogue) -> None:
    """Its statement is given up, and the sibling is told: nobody waits for ever."""

    async def slow() -> None:
        async with db.transaction(propagation=Propagation.NESTED) as session:
            await session.execute(text(dialogue.slow))

    started = time.monotonic()
    with pytest.raises(TransactionTimeoutError):
        async with db.transaction(timeout=SHORT_S):
            sibling = asyncio.create_task(slow())
            await asyncio.Event().wait()
    async with asyncio.timeout(GENEROUS_S):
        [told] = await asyncio.gather(sibling, return_exceptions=True)

    assert time.monotonic() - started < GENEROUS_S
    assert isinstance(told, BaseException)
    assert db.pool_status().checked_out == 0


@pytest.mark.only("sqlite", reason="a file, which another process may have locked")
@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
async def test_time_is_over_while_another_process_has_the_lock(
    db: Database, observer: Observer, *, heard: bool
) -> None:
    """Though statements wait for ten minutes here; those after it do so again."""
    await Repository[Audit](db).create(note="first")
    if heard:
        event.listen(db.engine.sync_engine, "before_cursor_execute", lambda *_told: None)
    async with db.transaction() as session:
        await session.execute(text(f"PRAGMA busy_timeout={TEN_MINUTES_MS}"))
    other = sqlite3.connect(str(db.engine.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(TransactionTimeoutError):
        async with db.transaction(timeout=SHORT_S):
            await write(db, "never")
    other.execute("ROLLBACK")
    other.close()
    async with db.transaction() as session:
        patience_ms = await session.scalar(text("PRAGMA busy_timeout"))

    assert patience_ms == TEN_MINUTES_MS
    assert await observer.notes(Audit) == ["first"]
