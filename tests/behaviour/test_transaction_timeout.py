"""`timeout=` is a deadline for the whole block, commit included, that nobody inside can swallow."""

import asyncio
import time
from contextlib import suppress

import pytest
from sqlalchemy import URL, insert, select, text

from tests.fixtures.dialogue import Dialogue
from tests.fixtures.errors import StockError
from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from unitwork import (
    CommitOutcomeUnknownError,
    Database,
    Propagation,
    TransactionTimeoutError,
    UnexpectedRollbackError,
    transactional,
)

SHORT_S = 0.15
LONG_ENOUGH_S = 1.5
"""For a statement that must have ended before the time is over, on a busy machine too."""
LONG_S = 60.0
GENEROUS_S = 8.0
"""Far less than what the slow statements take, far more than any busy machine needs."""


async def forever() -> None:
    """Wait for what never happens."""
    await asyncio.Event().wait()


async def test_body_that_takes_too_long_is_ended_and_rolled_back(db: Database, observer: Observer) -> None:
    """TransactionTimeoutError, which is a TimeoutError; nothing is stored."""
    with pytest.raises(TransactionTimeoutError) as caught:
        async with db.transaction(timeout=SHORT_S):
            await db.session.execute(insert(Audit).values(note="lost"))
            await forever()

    assert isinstance(caught.value, TimeoutError)
    assert caught.value.timeout_s == SHORT_S
    assert await observer.notes(Audit) == []


async def test_statement_that_takes_too_long_is_stopped(
    db: Database, observer: Observer, dialogue: Dialogue
) -> None:
    """The statement is given up, on the server too, and its connection does not harm the next block."""
    started = time.monotonic()

    with pytest.raises(TransactionTimeoutError):
        async with db.transaction(timeout=SHORT_S):
            await db.session.execute(insert(Audit).values(note="lost"))
            await db.session.execute(text(dialogue.slow))

    assert time.monotonic() - started < GENEROUS_S
    async with asyncio.timeout(GENEROUS_S):
        while await observer.scalar(dialogue.running):  # noqa: ASYNC110 - the server has no event
            await asyncio.sleep(0.05)
    async with db.transaction():
        db.session.add(Audit(note="next"))
    assert await observer.notes(Audit) == ["next"]


@pytest.mark.parametrize("swallowed", [Exception, BaseException])
async def test_timeout_cannot_be_swallowed_inside(
    db: Database, observer: Observer, dialogue: Dialogue, swallowed: type[BaseException]
) -> None:
    """A body that catches everything and returns is late all the same."""
    with pytest.raises(TransactionTimeoutError):
        async with db.transaction(timeout=SHORT_S):
            await db.session.execute(insert(Audit).values(note="lost"))
            with suppress(swallowed):
                await db.session.execute(text(dialogue.slow))

    assert await observer.notes(Audit) == []


async def test_statement_after_a_swallowed_timeout_is_refused(db: Database, observer: Observer) -> None:
    """Who swallows the cancellation and goes on is stopped at the next statement."""
    with pytest.raises(TransactionTimeoutError):
        async with db.transaction(timeout=SHORT_S):
            with suppress(asyncio.CancelledError):
                await forever()
            await db.session.execute(insert(Audit).values(note="lost"))
            pytest.fail("the statement was sent")

    assert await observer.notes(Audit) == []


async def test_body_that_blocks_the_loop_is_late(db: Database, observer: Observer) -> None:
    """A body that never awaits cannot be stopped, but it cannot commit either."""
    with pytest.raises(TransactionTimeoutError):
        async with db.transaction(timeout=SHORT_S):
            await db.session.execute(insert(Audit).values(note="lost"))
            time.sleep(SHORT_S * 1.5)  # noqa: ASYNC251 - what people do by mistake

    assert await observer.notes(Audit) == []


async def test_block_in_time_commits(db: Database, observer: Observer) -> None:
    """Who is in time hears nothing of the deadline, also not later."""
    async with db.transaction(timeout=LONG_S):
        db.session.add(Audit(note="kept"))
    async with db.transaction(timeout=SHORT_S):
        db.session.add(Audit(note="too"))
    await asyncio.sleep(SHORT_S * 1.5)

    assert await observer.notes(Audit) == ["kept", "too"]


@pytest.mark.parametrize("seconds", [1, 1e8, float("inf")])
async def test_any_length_is_accepted(db: Database, observer: Observer, seconds: float) -> None:
    """Very long deadlines are deadlines too, on every database."""
    async with db.transaction(timeout=seconds):
        db.session.add(Audit(note="kept"))

    assert await observer.notes(Audit) == ["kept"]


async def test_own_exception_in_time_is_raised(db: Database) -> None:
    """An exception that leaves in time is the one that the caller gets."""
    with pytest.raises(StockError):
        async with db.transaction(timeout=LONG_S):
            raise StockError


async def test_cancellation_in_time_stays_a_cancellation(db: Database) -> None:
    """A cancellation from outside is not taken for the deadline's."""
    inside = asyncio.Event()

    async def work() -> None:
        async with db.transaction(timeout=LONG_S):
            await db.session.execute(insert(Audit).values(note="lost"))
            inside.set()
            await forever()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_task_is_not_marked_as_cancelled_afterwards(db: Database) -> None:
    """The task that was late can go on: its next await is not cancelled."""
    with pytest.raises(TransactionTimeoutError):
        async with db.transaction(timeout=SHORT_S):
            await forever()

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_surrounding_timeout_of_asyncio_still_works(db: Database, observer: Observer) -> None:
    """`asyncio.timeout` around a block is an ordinary cancellation: rolled back, TimeoutError."""
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(SHORT_S), db.transaction(timeout=LONG_S):
            await db.session.execute(insert(Audit).values(note="lost"))
            await forever()

    assert not isinstance(caught.value, TransactionTimeoutError)
    assert await observer.notes(Audit) == []


@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.NESTED, Propagation.REQUIRES_NEW])
async def test_tighter_inner_deadline_wins(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """The inner block is late first, and says so."""
    with pytest.raises(TransactionTimeoutError) as caught:
        async with db.transaction(timeout=LONG_S):
            async with db.transaction(timeout=SHORT_S, propagation=propagation):
                await db.session.execute(insert(Audit).values(note="lost"))
                await forever()

    assert caught.value.timeout_s == SHORT_S
    assert await observer.notes(Audit) == []


@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.NESTED, Propagation.REQUIRES_NEW])
async def test_tighter_outer_deadline_wins(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """A longer inner deadline does not give more time."""
    with pytest.raises(TransactionTimeoutError) as caught:
        async with db.transaction(timeout=SHORT_S):
            async with db.transaction(timeout=LONG_S, propagation=propagation):
                await db.session.execute(insert(Audit).values(note="lost"))
                await forever()

    assert caught.value.timeout_s == SHORT_S
    assert await observer.notes(Audit) == []


async def test_swallowed_timeout_of_a_joined_block_condemns(db: Database, observer: Observer) -> None:
    """The owner that goes on after a joined block was late cannot commit."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction():
            await db.session.execute(insert(Audit).values(note="lost"))
            with suppress(TransactionTimeoutError):
                async with db.transaction(timeout=SHORT_S):
                    await forever()

    assert await observer.notes(Audit) == []


async def test_swallowed_timeout_of_a_nested_block_is_undone_alone(db: Database, observer: Observer) -> None:
    """A savepoint that was late is undone; the outer transaction goes on."""
    async with db.transaction():
        await db.session.execute(insert(Audit).values(note="outer"))
        with suppress(TransactionTimeoutError):
            async with db.transaction(timeout=LONG_ENOUGH_S, propagation=Propagation.NESTED):
                await db.session.execute(insert(Audit).values(note="inner"))
                await forever()
        await db.session.execute(insert(Audit).values(note="after"))

    assert await observer.notes(Audit) == ["after", "outer"]


async def test_decorator_takes_a_timeout(db: Database, observer: Observer) -> None:
    """`@transactional(timeout=...)` names the function that was late."""

    @transactional(using=db, timeout=SHORT_S)
    async def slow() -> None:
        db.session.add(Audit(note="lost"))
        await forever()

    with pytest.raises(TransactionTimeoutError, match="slow"):
        await slow()

    assert await observer.notes(Audit) == []


async def test_before_commit_function_counts(db: Database, observer: Observer) -> None:
    """What runs before COMMIT belongs to the block."""
    with pytest.raises(TransactionTimeoutError):
        async with db.transaction(timeout=SHORT_S):
            db.session.add(Audit(note="lost"))
            db.before_commit(forever)

    assert await observer.notes(Audit) == []


SLOW_COMMIT = (
    """CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_sleep(30); RETURN NULL; END'""",
    """CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON audit DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slow()""",
)
deferred = pytest.mark.only("postgresql", reason="triggers that run inside COMMIT")


@deferred
@pytest.mark.parametrize("inner", [None, Propagation.REQUIRED, Propagation.NESTED, Propagation.REQUIRES_NEW])
async def test_slow_commit_is_given_up(db: Database, observer: Observer, inner: Propagation | None) -> None:
    """A COMMIT that takes too long is stopped by the server: rolled back for sure."""
    for statement in SLOW_COMMIT:
        await observer.run(statement)
    started = time.monotonic()

    with pytest.raises(TransactionTimeoutError):
        async with db.transaction(timeout=SHORT_S * 2):
            if inner is None:
                db.session.add(Audit(note="lost"))
            else:
                async with db.transaction(propagation=inner):
                    db.session.add(Audit(note="lost"))

    assert time.monotonic() - started < GENEROUS_S
    assert await observer.notes(Audit) == []


async def test_deadline_around_the_commit_tells_the_truth(db: Database, observer: Observer) -> None:
    """Wherever the deadline strikes: who is told 'rolled back' finds nothing, who is not finds the row."""
    wrong: list[int] = []
    for number in range(40):
        told = "stored"
        try:
            async with db.transaction(timeout=0.0005 * (number + 1)):
                db.session.add(Audit(note=str(number)))
        except TransactionTimeoutError:
            told = "rolled back"
        except CommitOutcomeUnknownError:
            continue
        if (str(number) in await observer.notes(Audit)) is not (told == "stored"):
            wrong.append(number)

    assert wrong == []
    assert db.pool_status().checked_out == 0


async def test_deadline_of_a_joined_block_ends_with_it(db: Database, observer: Observer) -> None:
    """A joined block in time is done with its deadline: the owner has its own, or none."""
    async with db.transaction():
        async with db.transaction(timeout=SHORT_S):
            db.session.add(Audit(note="kept"))
        await asyncio.sleep(SHORT_S * 1.5)

    assert await observer.notes(Audit) == ["kept"]


async def test_waiting_for_a_connection_counts(database_url: URL) -> None:
    """A block that waits for the pool is late like any other."""
    async with Database(database_url, pool_size=1, max_overflow=0) as db:
        async with db.engine.connect():
            with pytest.raises(TransactionTimeoutError):
                async with db.transaction(timeout=SHORT_S):
                    await db.session.scalars(select(Audit))


@pytest.mark.parametrize("end", ["returns", "late"])
async def test_deadline_does_not_leak_to_the_next_user(db: Database, dialogue: Dialogue, end: str) -> None:
    """What was set on the server for the deadline is gone for the next user of the connection."""
    async with db.transaction():
        before = await db.session.scalar(text(dialogue.settings))

    with suppress(TransactionTimeoutError):
        async with db.transaction(timeout=LONG_S if end == "returns" else SHORT_S):
            await db.session.execute(insert(Audit).values(note="x"))
            if end == "late":
                await forever()

    async with db.transaction():
        after = await db.session.scalar(text(dialogue.settings))
    async with db.transaction(propagation=Propagation.NEVER):
        alone = await db.session.scalar(text(dialogue.settings))
    assert after == before == alone
