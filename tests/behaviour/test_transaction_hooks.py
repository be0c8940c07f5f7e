"""Functions that wait for the end of a transaction: on_commit, on_rollback, before_commit."""

import asyncio
import functools
from collections.abc import Callable
from contextlib import suppress

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from tests.fixtures.errors import ShopError, StockError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import (
    AfterCommitError,
    Database,
    NoTransactionError,
    OptionError,
    Propagation,
    UnexpectedRollbackError,
)

NESTED = Propagation.NESTED


class Story(list[str]):
    """What happened, in order."""

    def tells(self, what: str) -> Callable[[], None]:
        """Make a function that tells this."""
        return lambda: self.append(what)


@pytest.fixture
def story() -> Story:
    """What happened in this test."""
    return Story()


def work(db: Database) -> None:
    """Add something, so that there is a COMMIT."""
    db.session.add(Audit(note="work"))


async def test_on_commit_runs_after_the_physical_commit(
    db: Database, observer: Observer, story: Story
) -> None:
    """When it runs, others see the work already."""

    async def look() -> None:
        story.extend(await observer.notes(Audit))

    async with db.transaction():
        work(db)
        db.on_commit(look)
        story.append("body")

    assert story == ["body", "work"]


async def test_what_is_no_function_is_refused_at_once(db: Database, observer: Observer) -> None:
    """Such as a coroutine, for which a function was called by mistake: not after the commit."""

    async def send() -> None:
        """Tell somebody."""

    async with db.transaction() as session:
        await session.execute(insert(Audit).values(note="stored"))
        for register in (db.on_commit, db.on_rollback, db.before_commit):
            with pytest.raises(OptionError, match="lambda: send"):
                register(send())  # type: ignore[arg-type]  # what is tested

    assert await observer.notes(Audit) == ["stored"]


async def test_functions_run_in_order_once(db: Database, story: Story) -> None:
    """Sync and async ones alike, each once, in the order of registration."""

    async def second() -> None:
        await asyncio.sleep(0)
        story.append("2")

    async with db.transaction():
        work(db)
        db.on_commit(story.tells("1"))
        db.on_commit(second)
        async with db.transaction():
            db.on_commit(story.tells("3"))
        db.on_commit(functools.partial(second))
        db.on_rollback(story.tells("never"))

    assert story == ["1", "2", "3", "2"]


async def test_on_commit_runs_for_a_block_without_statements(db: Database, story: Story) -> None:
    """A block that sent nothing has committed nothing, which is a success."""
    async with db.transaction():
        db.on_commit(story.tells("done"))

    assert story == ["done"]


@pytest.mark.parametrize("sent", [True, False])
async def test_rollback_drops_on_commit_and_runs_on_rollback(
    db: Database, story: Story, *, sent: bool
) -> None:
    """An exception: on_rollback alone runs, in order."""
    with pytest.raises(StockError):
        async with db.transaction():
            if sent:
                await db.session.execute(insert(Audit).values(note="x"))
            db.on_commit(story.tells("never"))
            db.on_rollback(story.tells("1"))
            db.on_rollback(story.tells("2"))
            raise StockError

    assert story == ["1", "2"]


async def test_on_rollback_runs_after_the_rollback(db: Database, observer: Observer, story: Story) -> None:
    """When it runs, the transaction is gone: another one can be opened, and it stays."""

    async def tell() -> None:
        async with db.transaction():
            db.session.add(Audit(note="told"))

    with pytest.raises(StockError):
        async with db.transaction():
            await db.session.execute(insert(Audit).values(note="lost"))
            db.on_rollback(tell)
            raise StockError

    assert await observer.notes(Audit) == ["told"]


async def test_forgiven_exception_runs_on_commit(db: Database, story: Story) -> None:
    """It commits, so on_commit runs; the exception is raised after it."""
    with pytest.raises(StockError):
        async with db.transaction(no_rollback_for=StockError):
            work(db)
            db.on_commit(story.tells("committed"))
            db.on_rollback(story.tells("never"))
            raise StockError

    assert story == ["committed"]


async def test_silent_rollback_runs_on_rollback(db: Database, story: Story) -> None:
    """A transaction marked by its owner has rolled back."""
    async with db.transaction():
        work(db)
        db.on_commit(story.tells("never"))
        db.on_rollback(story.tells("undone"))
        db.set_rollback_only()

    assert story == ["undone"]


async def test_unexpected_rollback_runs_on_rollback(db: Database, story: Story) -> None:
    """A condemned transaction has rolled back."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction():
            work(db)
            db.on_commit(story.tells("never"))
            db.on_rollback(story.tells("undone"))
            with suppress(StockError):
                async with db.transaction():
                    raise StockError

    assert story == ["undone"]


async def test_failed_flush_at_the_end_runs_on_rollback(
    db: Database, observer: Observer, story: Story
) -> None:
    """What could not be stored has rolled back."""
    await observer.run("INSERT INTO account (id, name, balance) VALUES (900, 'taken', 0)")

    with pytest.raises(IntegrityError):
        async with db.transaction():
            db.session.add(Account(name="taken"))
            db.on_commit(story.tells("never"))
            db.on_rollback(story.tells("undone"))

    assert story == ["undone"]


@pytest.mark.only("sqlite", "postgresql", reason="constraints that are checked by COMMIT")
async def test_failed_commit_rolls_back_and_runs_on_rollback(
    db: Database, observer: Observer, story: Story
) -> None:
    """A COMMIT that the database refuses rolls back, raises, and frees the connection."""
    with pytest.raises(IntegrityError):
        async with db.transaction() as session:
            if db.engine.dialect.name == "sqlite":
                await session.execute(text("PRAGMA defer_foreign_keys=ON"))
            else:
                key = 'ALTER TABLE "order" ALTER CONSTRAINT "fk_order_account_id_account" DEFERRABLE'
                await session.execute(text(key))
                await session.execute(text("SET CONSTRAINTS ALL DEFERRED"))
            await session.execute(text('INSERT INTO "order" (id, account_id, total) VALUES (1, 77, 0)'))
            await session.execute(insert(Audit).values(note="lost"))
            db.on_commit(story.tells("never"))
            db.on_rollback(story.tells("undone"))

    assert story == ["undone"]
    assert db.pool_status().checked_out == 0
    await observer.run("INSERT INTO audit (note) VALUES ('free')")
    assert await observer.notes(Audit) == ["free"]


# -- savepoints ----------------------------------------------------------------------------------


async def test_released_savepoint_hands_its_functions_up(db: Database, story: Story) -> None:
    """They run after the physical commit, in the order of registration."""
    async with db.transaction():
        work(db)
        db.on_commit(story.tells("1"))
        async with db.transaction(propagation=NESTED):
            db.on_commit(story.tells("2"))
            db.on_rollback(story.tells("never"))
            async with db.transaction(propagation=NESTED):
                db.on_commit(story.tells("3"))
        story.append("released")
        db.on_commit(story.tells("4"))

    assert story == ["released", "1", "2", "3", "4"]


async def test_undone_savepoint_drops_on_commit_and_runs_on_rollback_there(
    db: Database, story: Story
) -> None:
    """At the end of the savepoint, not of the transaction."""
    async with db.transaction():
        work(db)
        db.on_commit(story.tells("outer"))
        db.on_rollback(story.tells("never"))
        with suppress(StockError):
            async with db.transaction(propagation=NESTED):
                db.on_commit(story.tells("never"))
                db.before_commit(story.tells("never"))
                db.on_rollback(story.tells("undone"))
                raise StockError
        story.append("after")

    assert story == ["undone", "after", "outer"]


async def test_function_of_a_released_savepoint_runs_when_the_outer_rolls_back(
    db: Database, story: Story
) -> None:
    """What was handed up shares the fate of the outer frame."""
    with pytest.raises(StockError):
        async with db.transaction():
            work(db)
            async with db.transaction(propagation=NESTED):
                db.on_commit(story.tells("never"))
                db.on_rollback(story.tells("undone"))
            raise StockError

    assert story == ["undone"]


async def test_savepoint_undone_around_a_released_one_drops_both(db: Database, story: Story) -> None:
    """A released savepoint inside one that is undone is undone with it."""
    async with db.transaction():
        work(db)
        with suppress(StockError):
            async with db.transaction(propagation=NESTED):
                async with db.transaction(propagation=NESTED):
                    db.on_commit(story.tells("never"))
                    db.on_rollback(story.tells("inner undone"))
                raise StockError

    assert story == ["inner undone"]


async def test_begin_nested_by_hand_hands_up_and_drops(db: Database, story: Story) -> None:
    """Savepoints by hand are frames too."""
    async with db.transaction() as session:
        work(db)
        async with session.begin_nested():
            db.on_commit(story.tells("kept"))
        savepoint = await session.begin_nested()
        db.on_commit(story.tells("never"))
        db.on_rollback(story.tells("undone"))
        await savepoint.rollback()

    assert story == ["undone", "kept"]


async def test_requires_new_runs_its_functions_at_its_own_end(db: Database, story: Story) -> None:
    """They belong to the inner transaction, whatever becomes of the outer one."""
    with pytest.raises(StockError):
        async with db.transaction():
            db.on_commit(story.tells("never"))
            db.on_rollback(story.tells("outer undone"))
            async with db.transaction(propagation=Propagation.REQUIRES_NEW):
                work(db)
                db.on_commit(story.tells("inner"))
            story.append("between")
            raise StockError

    assert story == ["inner", "between", "outer undone"]


# -- what a function may do ----------------------------------------------------------------------


@pytest.mark.parametrize("around", [None, Propagation.REQUIRED, Propagation.NOT_SUPPORTED])
async def test_on_commit_runs_with_no_transaction_current(
    db: Database, story: Story, around: Propagation | None
) -> None:
    """Not that which has ended, nor one around it that is suspended."""

    def look() -> None:
        with pytest.raises(NoTransactionError):
            db.session.add(Audit(note="nowhere"))
        story.append("none")

    async def program() -> None:
        async with db.transaction(propagation=Propagation.REQUIRES_NEW):
            work(db)
            db.on_commit(look)

    if around is None:
        await program()
    else:
        async with db.transaction(propagation=around):
            await program()

    assert story == ["none"]


async def test_on_commit_may_open_its_own_transaction(db: Database, observer: Observer, story: Story) -> None:
    """A block in it is an outermost one, with functions of its own."""

    async def follow() -> None:
        async with db.transaction(durable=True):
            db.session.add(Audit(note="followed"))
            db.on_commit(story.tells("inner"))
        story.append("hook")

    async with db.transaction():
        work(db)
        db.on_commit(follow)
        db.on_commit(story.tells("next"))

    assert story == ["inner", "hook", "next"]
    assert await observer.notes(Audit) == ["followed", "work"]


async def test_on_commit_of_requires_new_does_not_join_the_suspended_transaction(
    db: Database, observer: Observer
) -> None:
    """Its own transaction stays when the outer one fails."""

    async def follow() -> None:
        async with db.transaction():
            db.session.add(Audit(note="followed"))

    with pytest.raises(StockError):
        async with db.transaction():
            async with db.transaction(propagation=Propagation.REQUIRES_NEW):
                work(db)
                db.on_commit(follow)
            raise StockError

    assert await observer.notes(Audit) == ["followed", "work"]


async def test_on_commit_may_register_anew(db: Database, story: Story) -> None:
    """With no transaction current, what is registered in it runs at once."""

    def register() -> None:
        db.on_commit(story.tells("anew"))
        story.append("hook")

    async with db.transaction():
        work(db)
        db.on_commit(register)

    assert story == ["anew", "hook"]


async def test_registration_inside_another_block_of_a_hook_waits_for_it(db: Database, story: Story) -> None:
    """Inside a block that the function opens, registration belongs to that block."""

    async def follow() -> None:
        async with db.transaction():
            work(db)
            db.on_commit(story.tells("2"))
            story.append("1")

    async with db.transaction():
        work(db)
        db.on_commit(follow)

    assert story == ["1", "2"]


@pytest.mark.parametrize("kind", ["function", "lambda", "partial", "object"])
async def test_on_commit_without_a_transaction_runs_at_once(db: Database, story: Story, kind: str) -> None:
    """Nothing to wait for: it runs now; an async one can be awaited."""

    async def tell() -> None:
        await asyncio.sleep(0)
        story.append("told")

    class Told:
        async def __call__(self) -> None:
            await tell()

    kinds: dict[str, Callable[[], object]] = {
        "function": tell,
        "lambda": lambda: tell(),  # noqa: PLW0108 - no coroutine function
        "partial": functools.partial(tell),
        "object": Told(),
    }
    db.on_commit(story.tells("sync"))
    await db.on_commit(kinds[kind])

    assert story == ["sync", "told"]


async def test_on_commit_where_each_statement_commits_by_itself_runs_at_once(
    db: Database, story: Story
) -> None:
    """A block without a transaction is none."""
    async with db.transaction(propagation=Propagation.SUPPORTS):
        db.on_commit(story.tells("at once"))
        db.on_rollback(story.tells("never"))
        story.append("body")

    assert story == ["at once", "body"]


# -- before_commit -------------------------------------------------------------------------------


async def test_before_commit_runs_inside_and_can_write(db: Database, observer: Observer) -> None:
    """What it does is committed with the rest, also when nothing was sent before."""

    async def count() -> None:
        db.session.add(Audit(note="counted"))

    async with db.transaction():
        db.before_commit(count)

    assert await observer.notes(Audit) == ["counted"]


async def test_before_commit_sees_what_was_flushed_after_its_registration(
    db: Database, observer: Observer, story: Story
) -> None:
    """It runs just before COMMIT, not where it was registered."""

    async def look() -> None:
        story.extend(await db.session.scalars(text("SELECT note FROM audit")))

    async with db.transaction():
        db.before_commit(look)
        await db.session.execute(insert(Audit).values(note="late"))
        story.append("body")

    assert story == ["body", "late"]


async def test_before_commit_that_fails_rolls_back(db: Database, observer: Observer, story: Story) -> None:
    """It can still fail the transaction: its exception leaves the block."""

    def refuse() -> None:
        raise StockError("too much")

    with pytest.raises(StockError, match="too much"):
        async with db.transaction():
            await db.session.execute(insert(Audit).values(note="lost"))
            db.on_commit(story.tells("never"))
            db.on_rollback(story.tells("undone"))
            db.before_commit(story.tells("before"))
            db.before_commit(refuse)

    assert story == ["before", "undone"]
    assert await observer.notes(Audit) == []


async def test_before_commit_that_marks_the_transaction_rolls_back(db: Database, observer: Observer) -> None:
    """`set_rollback_only` in it counts."""
    async with db.transaction():
        await db.session.execute(insert(Audit).values(note="lost"))
        db.before_commit(db.set_rollback_only)

    assert await observer.notes(Audit) == []


async def test_before_commit_that_swallows_a_database_error_rolls_back(
    db: Database, observer: Observer
) -> None:
    """So does a database error in it, swallowed or not."""

    async def stumble() -> None:
        with suppress(DBAPIError):
            await db.session.execute(text("SELECT * FROM nowhere"))

    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction():
            await db.session.execute(insert(Audit).values(note="lost"))
            db.before_commit(stumble)

    assert await observer.notes(Audit) == []


async def test_before_commit_of_a_joined_block_waits_for_the_owner(db: Database, story: Story) -> None:
    """There is one COMMIT, so it runs at the end of the owner, in order."""
    async with db.transaction():
        work(db)
        async with db.transaction():
            db.before_commit(story.tells("joined"))
        async with db.transaction(propagation=NESTED):
            db.before_commit(story.tells("nested"))
        db.before_commit(story.tells("outer"))
        story.append("body")

    assert story == ["body", "joined", "nested", "outer"]


async def test_before_commit_may_register_more(db: Database, story: Story) -> None:
    """For before the commit, and for after it."""

    def more() -> None:
        db.before_commit(story.tells("before 2"))
        db.on_commit(story.tells("after"))
        story.append("before 1")

    async with db.transaction():
        work(db)
        db.before_commit(more)

    assert story == ["before 1", "before 2", "after"]


async def test_before_commit_does_not_run_before_a_rollback(db: Database, story: Story) -> None:
    """Where nothing will be committed it has nothing to do."""
    with pytest.raises(StockError):
        async with db.transaction():
            db.before_commit(story.tells("never"))
            raise StockError
    async with db.transaction():
        db.before_commit(story.tells("never"))
        db.set_rollback_only()

    assert story == []


# -- functions that fail ------------------------------------------------------------------------


async def test_after_commit_failure_is_told_and_nothing_is_rolled_back(
    db: Database, observer: Observer, story: Story
) -> None:
    """All run, in order; what failed is raised together; the transaction is committed."""

    def fail(error: Exception) -> Callable[[], None]:
        def failing() -> None:
            story.append(type(error).__name__)
            raise error

        return failing

    first, second = StockError("mail"), ValueError("queue")
    with pytest.raises(AfterCommitError) as caught:
        async with db.transaction():
            work(db)
            db.on_commit(fail(first))
            db.on_commit(story.tells("between"))
            db.on_commit(fail(second))
            db.on_commit(story.tells("last"))
            db.on_rollback(story.tells("never"))

    assert story == ["StockError", "between", "ValueError", "last"]
    assert caught.value.exceptions == (first, second)
    assert "is committed" in str(caught.value).splitlines()[0]
    assert await observer.notes(Audit) == ["work"]


async def test_after_commit_failure_is_an_exception_group(db: Database) -> None:
    """`except*` picks what failed."""

    def fail() -> None:
        raise StockError

    picked = []
    try:
        async with db.transaction():
            work(db)
            db.on_commit(fail)
    except* StockError as group:
        picked.append(group)

    assert len(picked) == 1


async def test_function_that_awaits_what_was_cancelled_does_not_stop_the_others(
    db: Database, story: Story
) -> None:
    """Whatever one of them does: nobody has cancelled this task."""

    async def fail() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    with pytest.raises(AfterCommitError):
        async with db.transaction():
            work(db)
            db.on_commit(fail)
            db.on_commit(story.tells("next"))

    assert story == ["next"]


async def test_after_commit_failure_of_an_inner_transaction_does_not_harm_the_outer(
    db: Database, observer: Observer
) -> None:
    """Caught, the outer transaction goes on; it is not condemned by what is committed."""

    def fail() -> None:
        raise StockError

    async with db.transaction():
        with pytest.raises(AfterCommitError):
            async with db.transaction(propagation=Propagation.REQUIRES_NEW):
                work(db)
                db.on_commit(fail)
        db.session.add(Audit(note="outer"))

    assert await observer.notes(Audit) == ["outer", "work"]


async def test_after_commit_failure_beside_a_forgiven_exception_is_a_note(db: Database) -> None:
    """The exception that is leaving wins; the failure is not lost."""

    def fail() -> None:
        raise StockError("mail")

    with pytest.raises(ShopError, match="mine") as caught:
        async with db.transaction(no_rollback_for=ShopError):
            work(db)
            db.on_commit(fail)
            raise ShopError("mine")

    assert "mail" in "\n".join(caught.value.__notes__)


async def test_on_rollback_failure_becomes_a_note(db: Database, story: Story) -> None:
    """The exception that caused the rollback is raised, and tells what failed after it."""

    def fail() -> None:
        raise ValueError("cleaning failed")

    error = StockError("mine")
    with pytest.raises(StockError) as caught:
        async with db.transaction():
            work(db)
            db.on_rollback(fail)
            db.on_rollback(story.tells("next"))
            raise error

    assert caught.value is error
    assert story == ["next"]
    assert "cleaning failed" in "\n".join(error.__notes__)


async def test_on_rollback_failure_of_an_undone_savepoint_becomes_a_note(
    db: Database, observer: Observer
) -> None:
    """And the outer transaction goes on."""

    def fail() -> None:
        raise ValueError("cleaning failed")

    async with db.transaction():
        work(db)
        with pytest.raises(StockError) as caught:
            async with db.transaction(propagation=NESTED):
                db.on_rollback(fail)
                raise StockError

    assert "cleaning failed" in "\n".join(caught.value.__notes__)
    assert await observer.notes(Audit) == ["work"]


async def test_cancellation_during_a_function_goes_on_after_all_have_run(
    db: Database, observer: Observer, story: Story
) -> None:
    """The cleanup runs to its end before the cancellation goes on, also when a function fails."""
    inside = asyncio.Event()
    go = asyncio.Event()

    async def slow() -> None:
        inside.set()
        await go.wait()
        story.append("slow")

    def fail() -> None:
        story.append("fail")
        raise StockError

    async def program() -> None:
        async with db.transaction():
            work(db)
            db.on_commit(slow)
            db.on_commit(fail)
            db.on_commit(story.tells("last"))

    task = asyncio.create_task(program())
    await inside.wait()
    task.cancel()
    await asyncio.sleep(0)
    go.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert story == ["slow", "fail", "last"]
    assert await observer.notes(Audit) == ["work"]


async def test_functions_of_tasks_at_once_do_not_mix(db: Database) -> None:
    """Each transaction runs its own."""
    stories: list[list[int]] = [[] for _ in range(10)]

    async def program(number: int) -> None:
        async with db.transaction():
            work(db)
            db.on_commit(lambda: stories[number].append(number))
            await asyncio.sleep(0)

    await asyncio.gather(*(program(number) for number in range(10)))

    assert stories == [[number] for number in range(10)]
