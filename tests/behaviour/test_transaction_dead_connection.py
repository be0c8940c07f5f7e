"""A connection that dies: the original exception survives, the outcome is told, the pool stays clean."""

import asyncio
from contextlib import nullcontext, suppress

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.exc import DBAPIError

from tests.fixtures.errors import StockError
from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from tests.fixtures.proxy import Proxy
from tests.fixtures.saboteur import Saboteur
from unitwork import (
    CommitOutcomeUnknownError,
    Database,
    Propagation,
    Repository,
    TransactionTimeoutError,
    UnexpectedRollbackError,
    query,
)
from unitwork.observe import StatementLog

pytestmark = pytest.mark.only("postgresql", "mariadb", reason="SQLite has no server to lose")

LOST = (DBAPIError, CommitOutcomeUnknownError)
GENEROUS_S = 10
COMMIT = b"COMMIT"


async def assert_clean(db: Database, observer: Observer, notes: list[str]) -> None:
    """No connection is out, the next block works, and exactly these rows are stored."""
    assert db.pool_status().checked_out == 0
    async with db.transaction():
        db.session.add(Audit(note="next"))
    assert await observer.notes(Audit) == sorted([*notes, "next"])


async def test_exception_survives_a_rollback_that_fails(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """The second error becomes a note on the exception that was leaving."""
    error = StockError("mine")

    with pytest.raises(StockError) as caught:
        async with db.transaction() as session:
            await session.execute(insert(Audit).values(note="lost"))
            await saboteur.end_connection_of(session)
            raise error

    assert caught.value is error
    assert "rollback failed" in "\n".join(error.__notes__)
    await assert_clean(db, observer, [])


async def test_cancellation_survives_a_rollback_that_fails(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """A cancellation stays one."""
    dead = asyncio.Event()

    async def work() -> None:
        async with db.transaction() as session:
            await session.execute(insert(Audit).values(note="lost"))
            await saboteur.end_connection_of(session)
            dead.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await dead.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_clean(db, observer, [])


async def test_connection_that_died_before_commit_is_told(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """The block that wanted to commit raises; nothing is stored."""
    with pytest.raises(LOST):
        async with db.transaction() as session:
            await session.execute(insert(Audit).values(note="lost"))
            await saboteur.end_connection_of(session)

    await assert_clean(db, observer, [])


async def test_connection_that_died_before_the_last_flush_is_a_database_error(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """COMMIT was not tried: the outcome is not unknown."""
    with pytest.raises(DBAPIError):
        async with db.transaction() as session:
            await session.execute(insert(Audit).values(note="lost"))
            await saboteur.end_connection_of(session)
            session.add(Audit(note="lost too"))

    await assert_clean(db, observer, [])


async def test_swallowed_loss_of_the_connection_does_not_commit_the_rest(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """A statement that found the connection dead condemns, swallowed or not."""
    with pytest.raises((UnexpectedRollbackError, *LOST)):
        async with db.transaction() as session:
            await session.execute(insert(Audit).values(note="lost"))
            await saboteur.end_connection_of(session)
            with suppress(DBAPIError):
                await session.execute(insert(Audit).values(note="lost too"))

    await assert_clean(db, observer, [])


@pytest.mark.parametrize("swallowed", [True, False])
async def test_connection_that_died_in_a_savepoint_takes_all_with_it(
    db: Database, observer: Observer, saboteur: Saboteur, *, swallowed: bool
) -> None:
    """The savepoint cannot save the outer work; its exception survives."""
    error = StockError("mine")

    with pytest.raises((StockError, UnexpectedRollbackError, *LOST)):
        async with db.transaction() as session:
            await session.execute(insert(Audit).values(note="lost"))
            with pytest.raises(StockError) as caught:
                async with db.transaction(propagation=Propagation.NESTED):
                    await session.execute(insert(Audit).values(note="lost too"))
                    await saboteur.end_connection_of(session)
                    raise error
            assert caught.value is error
            if not swallowed:
                raise error

    await assert_clean(db, observer, [])


async def test_dead_connection_of_requires_new_does_not_harm_the_outer(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """The outer transaction is on another connection."""
    async with db.transaction():
        await db.session.execute(insert(Audit).values(note="outer"))
        with pytest.raises(StockError):
            async with db.transaction(propagation=Propagation.REQUIRES_NEW) as session:
                await session.execute(insert(Audit).values(note="lost"))
                await saboteur.end_connection_of(session)
                raise StockError

    await assert_clean(db, observer, ["outer"])


async def test_dead_connection_that_waited_in_the_pool_fails_one_block_at_most(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """A server that was restarted is a database error, never a wrong outcome; then all is well."""
    async with db.transaction() as session:
        await saboteur.end_connection_of(session)
        db.set_rollback_only()
    with suppress(DBAPIError):
        async with db.transaction() as session:
            await session.execute(insert(Audit).values(note="lost"))
            db.set_rollback_only()

    await assert_clean(db, observer, [])


async def test_read_on_a_dead_connection_outside_of_blocks_is_an_error_of_sqlalchemy(
    db: Database, saboteur: Saboteur
) -> None:
    """One read fails at most, with SQLAlchemy's class of error and the name of the query."""
    audits = Repository[Audit](db)
    async with db.transaction() as session:
        number = await session.scalar(text(saboteur.dialogue.connection))
    await saboteur.end(number)

    errors = []
    for _ in range(2):
        try:
            await audits.count()
        except DBAPIError as error:
            errors.append("".join(error.__notes__))

    assert len(errors) <= 1
    assert all("count" in notes for notes in errors)


async def test_connection_that_died_while_idle_is_replaced_without_a_word(
    db: Database, saboteur: Saboteur, caplog: pytest.LogCaptureFixture
) -> None:
    """The read that finds it closed gets another one; nothing has failed, and nothing is logged."""
    audits = Repository[Audit](db)
    await audits.count()
    async with db.transaction() as session:
        number = await session.scalar(text(saboteur.dialogue.connection))
    await saboteur.end(number)

    assert await audits.count() == 0
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_on_rollback_runs_when_the_connection_is_dead(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """What the server has lost is rolled back."""
    story: list[str] = []
    with pytest.raises(StockError):
        async with db.transaction() as session:
            await session.execute(insert(Audit).values(note="lost"))
            db.on_commit(lambda: story.append("never"))
            db.on_rollback(lambda: story.append("undone"))
            await saboteur.end_connection_of(session)
            raise StockError

    assert story == ["undone"]


async def test_line_cut_during_commit_is_an_unknown_outcome(proxy: Proxy, observer: Observer) -> None:
    """COMMIT went out, no answer came: its own error, and neither kind of function runs."""
    story: list[str] = []
    async with Database(proxy.url) as db:
        with pytest.raises(CommitOutcomeUnknownError) as caught:
            async with asyncio.timeout(GENEROUS_S), db.transaction() as session:
                await session.execute(insert(Audit).values(note="perhaps"))
                db.on_commit(lambda: story.append("committed"))
                db.on_rollback(lambda: story.append("rolled back"))
                proxy.cut_after = COMMIT
        proxy.cut_after = b""

        assert caught.value.__cause__ is not None
        assert story == []
        async with asyncio.timeout(GENEROUS_S):
            while "perhaps" not in await observer.notes(Audit):  # noqa: ASYNC110 - the server has no event
                await asyncio.sleep(0.02)
        await assert_clean(db, observer, ["perhaps"])


async def test_line_cut_before_commit_stores_nothing(proxy: Proxy, observer: Observer) -> None:
    """Whether COMMIT has arrived cannot be told from here, so this is unknown or a database error."""
    async with Database(proxy.url) as db:
        with pytest.raises(LOST):
            async with asyncio.timeout(GENEROUS_S), db.transaction() as session:
                await session.execute(insert(Audit).values(note="lost"))
                proxy.cut_before = COMMIT
        proxy.cut_before = b""

        await assert_clean(db, observer, [])


async def test_commit_that_is_never_answered_ends_with_the_deadline(proxy: Proxy, observer: Observer) -> None:
    """A line that hangs: the deadline ends the wait; what became of the work is not known."""
    async with Database(proxy.url) as db:
        with pytest.raises((CommitOutcomeUnknownError, TransactionTimeoutError)) as caught:
            async with asyncio.timeout(GENEROUS_S), db.transaction(timeout=0.3) as session:
                await session.execute(insert(Audit).values(note="perhaps"))
                proxy.hang_after = COMMIT
        proxy.hang_after = b""

        if await observer.notes(Audit):
            assert isinstance(caught.value, CommitOutcomeUnknownError)
        assert db.pool_status().checked_out == 0


async def test_unknown_outcome_of_requires_new_does_not_harm_the_outer(
    proxy: Proxy, observer: Observer
) -> None:
    """Caught, the outer transaction goes on, on its own line."""
    async with Database(proxy.url) as db:
        async with asyncio.timeout(GENEROUS_S), db.transaction():
            await db.session.execute(insert(Audit).values(note="outer"))
            with pytest.raises(CommitOutcomeUnknownError):
                async with db.transaction(propagation=Propagation.REQUIRES_NEW) as session:
                    await session.execute(insert(Audit).values(note="perhaps"))
                    proxy.cut_after = COMMIT
            proxy.cut_after = b""

        assert "outer" in await observer.notes(Audit)
        assert db.pool_status().checked_out == 0


class Sleepers(Repository[Audit]):
    """Whose reads take long."""

    @query("(SELECT count(*) FROM pg_sleep(30)) = :number")
    async def asleep(self, number: int) -> list[Audit]: ...  # type: ignore[empty-body]  # the text is the body


@pytest.mark.only("postgresql", reason="MariaDB tells nothing to those whom it ends")
@pytest.mark.parametrize("in_block", [False, True], ids=["alone", "in a block"])
async def test_what_the_server_says_when_it_ends_a_read_is_raised(db: Database, *, in_block: bool) -> None:
    """Not what the driver says of the closed connection afterwards; observers and listeners hear it once."""
    log, heard = StatementLog(db), list[BaseException]()
    event.listen(
        db.engine.sync_engine, "handle_error", lambda context: heard.append(context.original_exception)
    )
    await Repository[Audit](db).add(Audit(note="read"))

    async def read() -> None:
        async with db.transaction() if in_block else nullcontext():
            await Sleepers(db).asleep(1)

    reading = asyncio.create_task(read())
    async with db.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        ending = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE '%pg_sleep(30)%' AND state = 'active' AND pid <> pg_backend_pid()"
        )
        with log:
            while (await connection.execute(ending)).first() is None:  # noqa: ASYNC110  # another process tells
                await asyncio.sleep(0.05)
            with pytest.raises(DBAPIError, match="terminating connection") as caught:
                await reading

    assert caught.value.connection_invalidated
    assert len(heard) == 1
    assert heard[0] is caught.value.orig
    told = [each.error for each in log.statements if "audit" in each.sql]
    assert [str(error).startswith("AdminShutdown") for error in told] == [True]
    assert db.pool_status().checked_out == 0
