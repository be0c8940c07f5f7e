"""What comes out of a block says what has become of it, whoever tried to end it or to leave in the middle."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Connection, insert, inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError
from sqlalchemy.util import await_only

from tests.fixtures.errors import StockError
from tests.fixtures.models import Account, Audit, Order
from tests.fixtures.observer import Observer
from unitwork import (
    Database,
    Propagation,
    Repository,
    TransactionRefusedError,
    UnexpectedRollbackError,
    UnitworkError,
)

Open = Callable[[Database], Any]
PATIENCE_S = 10
AROUND: list[Any] = [
    pytest.param(lambda db: db.transaction(), id="block"),
    pytest.param(lambda db: db.unit_of_work(), id="unit"),
]
IN_PIECES: Any = pytest.param(lambda db: db.unit_of_work(atomic=False), id="unit in pieces")


async def write(db: Database, note: str) -> None:
    """Send one row."""
    await db.session.execute(insert(Audit).values(note=note))


# -- text that ends a transaction -----------------------------------------------------------------


@pytest.mark.parametrize("statement", ["COMMIT", "rollback", "/* now */ COMMIT", "BEGIN"])
@pytest.mark.parametrize("around", AROUND)
async def test_text_that_ends_the_transaction_is_refused(
    db: Database, observer: Observer, around: Open, statement: str
) -> None:
    """It is not sent: what was written before is stored with what comes after."""
    async with around(db) as session:
        await write(db, "before")
        with pytest.raises(TransactionRefusedError, match="Fix"):
            await session.execute(text(statement))
        await write(db, "after")

    assert await observer.notes(Audit) == ["after", "before"]


@pytest.mark.only("mariadb", reason="it commits what came before when it sees DDL")
@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE extra (a INT)", "create or replace table extra (a int)", "ALTER TABLE audit ADD a INT"],
)
@pytest.mark.parametrize("around", AROUND)
async def test_ddl_that_would_commit_what_was_written_is_refused(
    db: Database, observer: Observer, around: Open, statement: str
) -> None:
    """Nothing is half stored."""
    with pytest.raises(TransactionRefusedError, match="commit"):
        async with around(db) as session:
            await write(db, "before")
            await session.execute(text(statement))

    assert await observer.notes(Audit) == []


@pytest.mark.only("mariadb", reason="its DDL ends the transaction, and all savepoints in it")
@pytest.mark.parametrize("by_hand", [False, True], ids=["block", "by hand"])
async def test_ddl_in_a_savepoint_is_refused(db: Database, observer: Observer, *, by_hand: bool) -> None:
    """Also as its first statement: nothing would be left that could be undone alone."""
    async with db.transaction() as session:
        with pytest.raises(TransactionRefusedError, match="end the savepoint"):
            async with session.begin_nested() if by_hand else db.transaction(propagation=Propagation.NESTED):
                await session.execute(text("CREATE TABLE extra (a INT)"))
        await write(db, "after")

    assert await observer.notes(Audit) == ["after"]


@pytest.mark.parametrize(
    "around", [*AROUND, pytest.param(lambda db: db.unit_of_work(atomic=False), id="pieces")]
)
async def test_question_for_a_table_that_is_missing_condemns_nothing(
    db: Database, observer: Observer, around: Open
) -> None:
    """SQLAlchemy handles the database's error by itself; the block goes on."""

    def has_table(connection: Connection) -> bool:
        return inspect(connection).has_table("nothing")

    async with around(db) as session:
        await write(db, "before")
        assert await (await session.connection()).run_sync(has_table) is False
        await write(db, "after")

    assert await observer.notes(Audit) == ["after", "before"]


# -- exceptions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("joined", [Propagation.REQUIRED, Propagation.MANDATORY, Propagation.SUPPORTS])
@pytest.mark.parametrize("way", ["a joined block", "a database error", "a mark"])
async def test_forgiven_exception_does_not_promise_a_commit_that_cannot_be(
    db: Database, observer: Observer, way: str, joined: Propagation
) -> None:
    """The caller can tell that nothing is stored; the exception is the cause."""

    async def condemn() -> None:
        async with db.transaction(propagation=joined) as session:
            if way == "a database error":
                with pytest.raises(DBAPIError):
                    await session.execute(text("INSERT INTO missing VALUES (1)"))
            if way == "a mark":
                db.set_rollback_only()
            else:
                raise StockError

    raised = StockError()
    with pytest.raises(UnexpectedRollbackError) as caught:
        async with db.transaction(no_rollback_for=StockError):
            await write(db, "order")
            with suppress(StockError):
                await condemn()
            raise raised

    assert caught.value.__cause__ is raised
    assert await observer.notes(Audit) == []


async def test_forgiven_exception_of_both_blocks_commits(db: Database, observer: Observer) -> None:
    """Nobody has condemned anything."""
    with pytest.raises(StockError):
        async with db.transaction(no_rollback_for=StockError):
            await write(db, "order")
            async with db.transaction(no_rollback_for=StockError):
                raise StockError

    assert await observer.notes(Audit) == ["order"]


@pytest.mark.only("sqlite", "postgresql", reason="MariaDB has no deferred constraints")
@pytest.mark.parametrize("around", AROUND)
async def test_error_of_a_failed_commit_names_block_and_database(
    db: Database, observer: Observer, around: Open
) -> None:
    """As the error of any other statement does."""
    deferred = (
        "CREATE TABLE part (id INTEGER PRIMARY KEY, account_id INTEGER"
        " REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED)"
    )
    await observer.run(deferred)

    with pytest.raises(IntegrityError) as caught:
        async with around(db) as session:
            await session.execute(text("INSERT INTO part VALUES (1, 99)"))
    notes = "\n".join(caught.value.__notes__)

    assert __file__ in notes
    assert "'default'" in notes


# -- functions that stop the program --------------------------------------------------------------


class StopError(BaseException):
    """What is no Exception."""


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside an exception"])
@pytest.mark.parametrize("moment", ["on_commit", "on_rollback"])
async def test_function_that_stops_the_program_reaches_the_caller(
    db: Database, observer: Observer, moment: str, beside: object
) -> None:
    """The functions after it have run, and what was stored is."""
    ran: list[str] = []
    stop = StopError()

    def fail() -> None:
        raise stop

    with pytest.raises(StopError) as caught:
        async with db.transaction(no_rollback_for=StockError if moment == "on_commit" else ()):
            await write(db, "row")
            getattr(db, moment)(fail)
            getattr(db, moment)(lambda: ran.append("second"))
            if moment == "on_rollback" and not beside:
                db.set_rollback_only()
            if beside:
                raise StockError

    assert caught.value is stop
    assert ran == ["second"]
    assert await observer.notes(Audit) == (["row"] if moment == "on_commit" else [])
    assert db.pool_status().checked_out == 0


@pytest.mark.parametrize("moment", ["on_commit", "before_commit", "on_rollback"])
@pytest.mark.parametrize("around", AROUND)
async def test_function_registered_in_a_thread_is_refused_or_runs(
    db: Database, around: Open, moment: str
) -> None:
    """Whichever it is: what was accepted runs, and a refusal names the thread and a way out."""
    ran: list[str] = []
    refused = None
    async with around(db):
        await write(db, "row")
        try:
            await asyncio.to_thread(getattr(db, moment), lambda: ran.append("ran"))
        except UnitworkError as error:
            refused = error
        if moment == "on_rollback":
            db.set_rollback_only()

    assert (refused is None) == (ran == ["ran"])
    assert refused is None or ("thread" in str(refused) and "Fix" in str(refused))


# -- what belongs to others -----------------------------------------------------------------------


@pytest.mark.parametrize("add", ["add", "add_all", "sync add"])
async def test_entity_of_another_session_is_refused_where_it_is_added(
    db: Database, observer: Observer, add: str
) -> None:
    """Whoever adds it is told; the siblings that work meanwhile, or wait for their turn, are not harmed."""
    await observer.run("INSERT INTO audit (id, note) VALUES (1, 'shared')")
    working, go_on = asyncio.Event(), asyncio.Event()

    def long_read(session: Any) -> object:  # noqa: ANN401 - a synchronous session
        working.set()
        await_only(go_on.wait())
        return session.scalar(text("SELECT 1"))

    async with db.session_factory() as other:
        shared = await other.get_one(Audit, 1)
        await other.commit()
        async with db.transaction() as session, asyncio.timeout(PATIENCE_S):
            running = asyncio.create_task(session.run_sync(long_read))
            await working.wait()
            waiting = asyncio.create_task(session.scalar(text("SELECT 2")))
            await asyncio.sleep(0)
            with pytest.raises(InvalidRequestError, match="another session"):
                if add == "add":
                    session.add(shared)
                elif add == "add_all":
                    session.add_all([shared])
                else:
                    session.sync_session.add(shared)
            go_on.set()
            siblings = await asyncio.gather(running, waiting)

    assert list(siblings) == [1, 2]


@pytest.mark.parametrize("propagation", [Propagation.NEVER, Propagation.SUPPORTS, Propagation.NOT_SUPPORTED])
async def test_relationship_that_is_awaited_without_a_transaction_holds_nothing(
    db: Database, propagation: Propagation
) -> None:
    """Its SELECT is complete by itself, as any other statement there."""
    await Repository[Order](db).add(Order(id=1, account=Account(id=1, name="ann")))

    async with db.transaction(propagation=propagation) as session:
        order = await session.get_one(Order, 1)
        account = await order.awaitable_attrs.account
        held = db.pool_status().checked_out

    assert account.name == "ann"
    assert held == 0


async def test_block_after_a_swallowed_error_works_under_rolled_back(
    db: Database, observer: Observer
) -> None:
    """A test whose program swallows a database error meets our errors, and goes on with the next block."""

    @db.transactional(propagation=Propagation.REQUIRES_NEW)
    async def record(note: str) -> None:
        await Repository[Audit](db).add(Audit(note=note))

    async with db.rolled_back():
        with pytest.raises(UnitworkError, match="Fix"):
            async with db.transaction() as session:
                with pytest.raises(DBAPIError):
                    await session.execute(text("INSERT INTO missing VALUES (1)"))
                await record("of the failed block")
        async with db.transaction():
            await record("next")
        found = [audit.note for audit in await Repository[Audit](db).all()]

    assert "next" in found
    assert await observer.notes(Audit) == []
