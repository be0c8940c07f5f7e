"""Nothing is silently half done: what failed inside cannot be committed by mistake."""

import asyncio
from contextlib import suppress

import pytest
from sqlalchemy import MetaData, event, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Mapped, Session, mapped_column

from tests.fixtures.dialogue import Dialogue
from tests.fixtures.errors import ShopError, StockError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import (
    Base,
    Database,
    NoRowError,
    Propagation,
    TooManyRowsError,
    TransactionRefusedError,
    UnexpectedRollbackError,
)
from unitwork.options import Lane


class NeverCreated(Base):
    """What no table is created for."""

    __tablename__ = "never_created"
    metadata = MetaData()

    id: Mapped[int] = mapped_column(primary_key=True)


TAKEN = "INSERT INTO account (id, name, balance) VALUES (1, 'taken', 0), (2, 'other', 0)"
JOINS = [Propagation.REQUIRED, Propagation.SUPPORTS, Propagation.MANDATORY]


@pytest.mark.parametrize("propagation", JOINS)
async def test_swallowed_failure_of_a_joined_block_rolls_back(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """The owner that goes on after a joined block failed gets UnexpectedRollbackError."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction():
            await db.session.execute(insert(Audit).values(note="outer"))
            with suppress(StockError):
                async with db.transaction(propagation=propagation):
                    await db.session.execute(insert(Audit).values(note="inner"))
                    raise StockError

    assert await observer.notes(Audit) == []


async def test_unexpected_rollback_names_the_block_and_the_exception(db: Database) -> None:
    """The error says which block failed, and with what; the failure is its cause."""
    failure = StockError()

    @db.transactional
    async def reserve() -> None:
        raise failure

    with pytest.raises(UnexpectedRollbackError, match=r"reserve .*StockError") as caught:
        async with db.transaction():
            db.session.add(Audit(note="x"))
            with suppress(StockError):
                await reserve()

    assert caught.value.__cause__ is failure


async def test_exception_that_leaves_wins_over_the_condemnation(db: Database, observer: Observer) -> None:
    """If an exception is already leaving, that one is what the caller gets."""
    with pytest.raises(ShopError, match="mine"):
        async with db.transaction():
            await db.session.execute(insert(Audit).values(note="outer"))
            with suppress(StockError):
                async with db.transaction():
                    raise StockError
            raise ShopError("mine")

    assert await observer.notes(Audit) == []


async def test_forgiven_exception_does_not_commit_a_condemned_transaction(
    db: Database, observer: Observer
) -> None:
    """An exception promises no commit that cannot be: it is told that all is rolled back."""
    with pytest.raises(UnexpectedRollbackError, match="StockError") as caught:
        async with db.transaction(no_rollback_for=StockError):
            await db.session.execute(insert(Audit).values(note="outer"))
            async with db.transaction():
                raise StockError

    assert isinstance(caught.value.__cause__, StockError)
    assert await observer.notes(Audit) == []


async def test_forgiven_exception_of_a_joined_block_condemns_nothing(
    db: Database, observer: Observer
) -> None:
    """A joined block that forgives an exception does not condemn."""
    async with db.transaction():
        with suppress(StockError):
            async with db.transaction(no_rollback_for=StockError):
                db.session.add(Audit(note="kept"))
                raise StockError

    assert await observer.notes(Audit) == ["kept"]


async def test_statements_go_on_after_a_joined_block_failed(db: Database) -> None:
    """The database has refused nothing, so statements are still answered."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction():
            with suppress(StockError):
                async with db.transaction():
                    raise StockError
            assert (await db.session.scalars(select(Audit))).all() == []


async def test_rollback_only_by_a_joined_block_condemns(db: Database, observer: Observer) -> None:
    """`set_rollback_only` in a joined block makes the owner raise."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction():
            await db.session.execute(insert(Audit).values(note="outer"))
            async with db.transaction():
                db.set_rollback_only()

    assert await observer.notes(Audit) == []


@pytest.mark.parametrize("error", [NoRowError("Users.one"), TooManyRowsError("Users.one")])
async def test_wrong_number_of_rows_condemns_nothing(
    db: Database, observer: Observer, error: Exception
) -> None:
    """A read that found another number of rows than promised has changed nothing."""
    async with db.transaction():
        await db.session.execute(insert(Audit).values(note="outer"))
        with suppress(type(error)):
            async with db.transaction():
                raise error
        async with db.transaction(propagation=Propagation.NESTED):
            await db.session.execute(insert(Audit).values(note="inner"))

    assert await observer.notes(Audit) == ["inner", "outer"]


@pytest.mark.parametrize("through", ["session", "connection", "flush", "autoflush", "run_sync", "stream"])
async def test_swallowed_database_error_rolls_back(db: Database, observer: Observer, through: str) -> None:
    """Whatever way a statement took to the database: its error condemns, also when it is swallowed."""
    await observer.run(TAKEN)

    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction() as session:
            await session.execute(insert(Audit).values(note="outer"))
            with suppress(DBAPIError):
                if through == "session":
                    await session.execute(insert(Account).values(name="taken", balance=0))
                elif through == "connection":
                    connection = await session.connection()
                    await connection.execute(insert(Account).values(name="taken", balance=0))
                elif through == "flush":
                    session.add(Account(name="taken"))
                    await session.flush()
                elif through == "autoflush":
                    session.add(Account(name="taken"))
                    await session.scalars(select(Account))
                elif through == "run_sync":
                    await session.run_sync(lambda sync: sync.execute(text("SELECT * FROM nowhere")))
                else:
                    await session.stream(text("SELECT * FROM nowhere"))

    assert await observer.notes(Audit) == []


async def test_statement_is_refused_after_a_swallowed_database_error(
    db: Database, observer: Observer
) -> None:
    """What the database condemned answers no more statements, and says why."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction() as session:
            with suppress(DBAPIError):
                await session.execute(text("SELECT * FROM nowhere"))
            for attempt in (
                lambda: session.execute(insert(Audit).values(note="rest")),
                lambda: session.scalars(select(Audit)),
                lambda: session.get(Audit, 1),
                lambda: session.run_sync(lambda sync: sync.execute(text("SELECT 1"))),
            ):
                with pytest.raises(TransactionRefusedError, match="can only roll back"):
                    await attempt()

    assert await observer.notes(Audit) == []


@pytest.mark.parametrize("lane", list(Lane), indirect=True)
async def test_session_can_be_tidied_after_a_database_error(db: Database) -> None:
    """It was not used before that: what it holds can be looked at and let go of, which sends nothing."""
    async with db.transaction() as session:
        await session.get(Audit, 1)
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction() as session:
            with suppress(DBAPIError):
                await session.get(NeverCreated, 1)
            session.expunge_all()
            assert list(session) == []


async def test_joined_block_in_a_transaction_condemned_by_the_database_sends_nothing(
    db: Database, observer: Observer
) -> None:
    """A joined block may be entered, but its statements are refused like those of the owner."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction():
            with suppress(DBAPIError):
                await db.session.execute(text("SELECT * FROM nowhere"))
            with pytest.raises(TransactionRefusedError):
                async with db.transaction():
                    await db.session.execute(insert(Audit).values(note="inner"))

    assert await observer.notes(Audit) == []


async def test_requires_new_works_beside_a_condemned_transaction(db: Database, observer: Observer) -> None:
    """Another transaction is not concerned: an error can be written down."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction():
            with suppress(StockError):
                async with db.transaction():
                    raise StockError
            async with db.transaction(propagation=Propagation.REQUIRES_NEW):
                db.session.add(Audit(note="told"))

    assert await observer.notes(Audit) == ["told"]


async def test_failed_flush_without_a_database_error_rolls_back(db: Database, observer: Observer) -> None:
    """A flush that Python code stops has undone its transaction all the same."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction() as session:
            await session.execute(insert(Audit).values(note="outer"))

            @event.listens_for(session.sync_session, "before_flush")
            def stop(_session: Session, _context: object, _instances: object) -> None:
                raise ShopError

            session.add(Account(name="ann"))
            with suppress(ShopError):
                await session.flush()
            event.remove(session.sync_session, "before_flush", stop)

            @event.listens_for(session.sync_session, "after_flush")
            def stop_late(_session: Session, _context: object) -> None:
                raise ShopError

            with suppress(ShopError):
                await session.flush()

    assert await observer.notes(Audit) == []


async def test_cancelled_statement_that_is_swallowed_rolls_back(
    db: Database, observer: Observer, dialogue: Dialogue
) -> None:
    """A statement that was cancelled has left the transaction unusable."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction() as session:
            await session.execute(insert(Audit).values(note="outer"))
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await session.execute(text(dialogue.slow))
            with pytest.raises(TransactionRefusedError):
                await session.execute(insert(Audit).values(note="rest"))

    assert await observer.notes(Audit) == []


async def test_cancelled_statement_in_a_joined_block_that_is_swallowed_rolls_back(
    db: Database, observer: Observer, dialogue: Dialogue
) -> None:
    """The same when the block around the statement is a joined one."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction():
            await db.session.execute(insert(Audit).values(note="outer"))
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05), db.transaction():
                    await db.session.execute(text(dialogue.slow))

    assert await observer.notes(Audit) == []


@pytest.mark.only("postgresql", reason="other databases run on after an error")
async def test_aborted_transaction_is_not_taken_for_committed(db: Database, observer: Observer) -> None:
    """PostgreSQL would answer COMMIT with ROLLBACK, and nobody would look."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction() as session:
            await session.execute(insert(Audit).values(note="lost"))
            connection = await session.connection()
            with suppress(DBAPIError):
                await connection.execute(text("SELECT 1 / 0"))

    assert await observer.notes(Audit) == []


@pytest.mark.only("mariadb", "postgresql", reason="SQLite has no deadlocks")
@pytest.mark.parametrize("enclosed", [True, False])
async def test_deadlock_that_is_swallowed_commits_nothing(
    db: Database, observer: Observer, *, enclosed: bool
) -> None:
    """After a deadlock MariaDB has ended the transaction: the remainder must not be committed."""
    await observer.run(TAKEN)
    held = asyncio.Barrier(2)
    victims: list[str] = []

    async def cross(first: int, second: int) -> None:
        async with db.transaction():
            await db.session.execute(insert(Audit).values(note=f"first {first}"))
            await db.session.execute(text(f"UPDATE account SET balance = 1 WHERE id = {first}"))
            await held.wait()
            try:
                if enclosed:
                    async with db.transaction(propagation=Propagation.NESTED):
                        await db.session.execute(text(f"UPDATE account SET balance = 1 WHERE id = {second}"))
                else:
                    await db.session.execute(text(f"UPDATE account SET balance = 1 WHERE id = {second}"))
            except DBAPIError:
                victims.append(f"first {first}")
                await db.session.execute(insert(Audit).values(note=f"rest {first}"))

    ended = await asyncio.gather(cross(1, 2), cross(2, 1), return_exceptions=True)

    notes = await observer.notes(Audit)
    survivors = {"first 1", "first 2"} - set(victims)
    assert len(victims) == 1
    if db.engine.dialect.name == "postgresql" and enclosed:
        # PostgreSQL's deadlock is undone by the savepoint around it.
        assert notes == sorted({"first 1", "first 2", f"rest {victims[0][-1]}"})
    else:
        assert set(notes) == survivors
        assert [type(error) for error in ended if error] == [TransactionRefusedError]


@pytest.mark.only("mariadb", reason="its deadlock ends the whole transaction")
async def test_deadlock_swallowed_around_a_savepoint_raises_at_the_end(
    db: Database, observer: Observer
) -> None:
    """The owner that goes on quietly after the deadlock hears of it."""
    await observer.run(TAKEN)
    held = asyncio.Barrier(2)

    async def cross(first: int, second: int) -> None:
        async with db.transaction():
            await db.session.execute(insert(Audit).values(note=f"first {first}"))
            await db.session.execute(text(f"UPDATE account SET balance = 1 WHERE id = {first}"))
            await held.wait()
            with suppress(OperationalError):
                async with db.transaction(propagation=Propagation.NESTED):
                    await db.session.execute(text(f"UPDATE account SET balance = 1 WHERE id = {second}"))

    ended = await asyncio.gather(cross(1, 2), cross(2, 1), return_exceptions=True)

    assert [type(error) for error in ended if error] == [UnexpectedRollbackError]
    assert await observer.count(Audit) == 1


async def test_database_error_keeps_its_class_and_names_its_block(db: Database, observer: Observer) -> None:
    """A database error is never replaced; a note says which block and which database."""
    await observer.run(TAKEN)

    @db.transactional
    async def register() -> None:
        db.session.add(Account(name="taken"))
        await db.session.flush()

    with pytest.raises(IntegrityError) as caught:
        await register()

    notes = "\n".join(caught.value.__notes__)
    assert "register" in notes
    assert repr(db.name) in notes


async def test_database_error_of_the_last_flush_leaves_the_block(db: Database, observer: Observer) -> None:
    """What cannot be flushed at the end rolls back and raises what the database said."""
    await observer.run(TAKEN)

    with pytest.raises(IntegrityError):
        async with db.transaction():
            await db.session.execute(insert(Audit).values(note="lost"))
            db.session.add(Account(name="taken"))

    assert await observer.notes(Audit) == []


async def test_joined_block_leaves_pending_work_to_the_owner(db: Database, observer: Observer) -> None:
    """A joined block need not flush: what it added is stored, or fails, with the owner."""
    await observer.run(TAKEN)

    with pytest.raises(IntegrityError):
        async with db.transaction():
            async with db.transaction():
                db.session.add(Account(name="taken"))
            await db.session.execute(insert(Audit).values(note="lost"))

    assert await observer.notes(Audit) == []
