"""NESTED is a real savepoint, and so is `session.begin_nested()`."""

from contextlib import suppress

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from tests.fixtures.errors import ShopError, StockError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import (
    Database,
    Propagation,
    TransactionRefusedError,
    UnexpectedRollbackError,
)

NESTED = Propagation.NESTED
TAKEN = "INSERT INTO account (id, name, balance) VALUES (900, 'taken', 0)"


async def test_nested_block_keeps_outer_work_when_it_fails(db: Database, observer: Observer) -> None:
    """A failed nested block undoes only its own writes."""
    async with db.transaction():
        db.session.add(Account(name="outer"))
        with pytest.raises(StockError):
            async with db.transaction(propagation=NESTED):
                db.session.add(Account(name="inner"))
                raise StockError

    assert await observer.names(Account) == ["outer"]


async def test_nested_block_is_undone_with_the_outer(db: Database, observer: Observer) -> None:
    """What a nested block has kept goes with the outer transaction."""
    with pytest.raises(StockError):
        async with db.transaction():
            async with db.transaction(propagation=NESTED):
                db.session.add(Account(name="inner"))
            raise StockError

    assert await observer.names(Account) == []


async def test_nested_block_commits_with_the_outer(db: Database, observer: Observer) -> None:
    """Both are stored by one COMMIT, not before."""
    async with db.transaction():
        db.session.add(Account(name="outer"))
        async with db.transaction(propagation=NESTED):
            db.session.add(Account(name="inner"))
        seen = await observer.names(Account)

    assert seen == []
    assert await observer.names(Account) == ["inner", "outer"]


async def test_nested_block_works_on_the_outer_session(db: Database) -> None:
    """A savepoint is on the same connection, so on the same session."""
    async with db.transaction() as outer, db.transaction(propagation=NESTED) as inner:
        assert inner is outer


async def test_nested_blocks_nest(db: Database, observer: Observer) -> None:
    """A savepoint in a savepoint is undone alone; one around it undoes it too."""
    async with db.transaction():
        await db.session.execute(insert(Audit).values(note="1"))
        with pytest.raises(ShopError):
            async with db.transaction(propagation=NESTED):
                await db.session.execute(insert(Audit).values(note="2"))
                async with db.transaction(propagation=NESTED):
                    await db.session.execute(insert(Audit).values(note="3"))
                raise ShopError
        async with db.transaction(propagation=NESTED):
            await db.session.execute(insert(Audit).values(note="4"))
            with pytest.raises(StockError):
                async with db.transaction(propagation=NESTED):
                    await db.session.execute(insert(Audit).values(note="5"))
                    raise StockError

    assert await observer.notes(Audit) == ["1", "4"]


async def test_nested_block_keeps_its_work_with_a_forgiven_exception(
    db: Database, observer: Observer
) -> None:
    """The rules of a nested block decide over its savepoint."""
    async with db.transaction():
        with pytest.raises(StockError):
            async with db.transaction(propagation=NESTED, no_rollback_for=StockError):
                db.session.add(Audit(note="kept"))
                raise StockError

    assert await observer.notes(Audit) == ["kept"]


async def test_nested_block_marked_by_its_owner_is_undone_alone(db: Database, observer: Observer) -> None:
    """`set_rollback_only` in a nested block undoes the savepoint silently."""
    async with db.transaction():
        await db.session.execute(insert(Audit).values(note="outer"))
        async with db.transaction(propagation=NESTED):
            await db.session.execute(insert(Audit).values(note="inner"))
            db.set_rollback_only()
        await db.session.execute(insert(Audit).values(note="after"))

    assert await observer.notes(Audit) == ["after", "outer"]


async def test_nested_block_catches_a_database_error(db: Database, observer: Observer) -> None:
    """A database error that leaves a nested block is undone with it; the outer transaction goes on."""
    await observer.run(TAKEN)

    async with db.transaction():
        await db.session.execute(insert(Audit).values(note="outer"))
        with pytest.raises(IntegrityError):
            async with db.transaction(propagation=NESTED):
                db.session.add(Account(name="taken"))
        await db.session.execute(insert(Audit).values(note="after"))

    assert await observer.notes(Audit) == ["after", "outer"]


async def test_nested_block_that_swallowed_a_database_error_is_undone_and_raises(
    db: Database, observer: Observer
) -> None:
    """Left normally after a swallowed database error, it is rolled back and says so."""
    async with db.transaction():
        await db.session.execute(insert(Audit).values(note="outer"))
        with pytest.raises(UnexpectedRollbackError):
            async with db.transaction(propagation=NESTED):
                await db.session.execute(insert(Audit).values(note="inner"))
                with suppress(DBAPIError):
                    await db.session.execute(text("SELECT * FROM nowhere"))
        await db.session.execute(insert(Audit).values(note="after"))

    assert await observer.notes(Audit) == ["after", "outer"]


async def test_joined_failure_inside_a_nested_block_condemns_the_savepoint_alone(
    db: Database, observer: Observer
) -> None:
    """The frame that a failed block has joined is condemned, not the one around it."""
    async with db.transaction():
        await db.session.execute(insert(Audit).values(note="outer"))
        with pytest.raises(UnexpectedRollbackError):
            async with db.transaction(propagation=NESTED):
                await db.session.execute(insert(Audit).values(note="inner"))
                with suppress(StockError):
                    async with db.transaction():
                        raise StockError

    assert await observer.notes(Audit) == ["outer"]


async def test_nested_block_is_refused_in_a_condemned_transaction(db: Database) -> None:
    """A savepoint in what can only roll back is of no use: refused on entry."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction():
            with suppress(StockError):
                async with db.transaction():
                    raise StockError
            with pytest.raises(TransactionRefusedError, match="savepoint"):
                async with db.transaction(propagation=NESTED):
                    pytest.fail("entered")


async def test_many_savepoints_one_after_another(db: Database, observer: Observer) -> None:
    """A loop that tries many things keeps those that worked."""
    await observer.run(TAKEN)

    async with db.transaction():
        for name in ("a", "taken", "b", "taken", "c"):
            with suppress(IntegrityError):
                async with db.transaction(propagation=NESTED):
                    db.session.add(Account(name=name))

    assert await observer.names(Account) == ["a", "b", "c", "taken"]


async def test_entity_changed_in_an_undone_savepoint_shows_its_old_value(
    db: Database, observer: Observer
) -> None:
    """After the savepoint is undone the outer block reads what is true."""
    await observer.run(TAKEN)

    async with db.transaction():
        account = await db.session.get_one(Account, 900)
        with pytest.raises(StockError):
            async with db.transaction(propagation=NESTED):
                account.balance = 99
                await db.session.flush()
                raise StockError
        await db.session.refresh(account)
        seen = account.balance

    assert seen == 0
    assert await observer.values(Account, "balance") == [0]


async def test_unflushed_change_in_an_undone_savepoint_is_not_stored(
    db: Database, observer: Observer
) -> None:
    """A change that had not been sent when the savepoint was undone is undone all the same."""
    await observer.run(TAKEN)

    async with db.transaction():
        account = await db.session.get_one(Account, 900)
        with pytest.raises(StockError):
            async with db.transaction(propagation=NESTED):
                account.balance = 99
                raise StockError

    assert await observer.values(Account, "balance") == [0]


async def test_unflushed_deletion_in_an_undone_savepoint_is_not_done(
    db: Database, observer: Observer
) -> None:
    """The same for a deletion."""
    await observer.run(TAKEN)

    async with db.transaction():
        account = await db.session.get_one(Account, 900)
        with pytest.raises(StockError):
            async with db.transaction(propagation=NESTED):
                await db.session.delete(account)
                raise StockError

    assert await observer.names(Account) == ["taken"]


async def test_pending_outer_work_survives_an_undone_savepoint(db: Database, observer: Observer) -> None:
    """What was added before the savepoint belongs to the outer block, flushed or not."""
    async with db.transaction():
        db.session.add(Audit(note="outer"))
        with pytest.raises(StockError):
            async with db.transaction(propagation=NESTED):
                raise StockError

    assert await observer.notes(Audit) == ["outer"]


# -- begin_nested by hand ------------------------------------------------------------------------


async def test_begin_nested_undoes_its_own_work_alone(db: Database, observer: Observer) -> None:
    """`async with session.begin_nested()` is a savepoint like NESTED."""
    await observer.run(TAKEN)

    async with db.transaction() as session:
        session.add(Audit(note="outer"))
        with pytest.raises(IntegrityError):
            async with session.begin_nested():
                session.add(Audit(note="inner"))
                session.add(Account(name="taken"))
        session.add(Audit(note="after"))

    assert await observer.notes(Audit) == ["after", "outer"]


async def test_begin_nested_can_be_rolled_back_by_hand(db: Database, observer: Observer) -> None:
    """`await savepoint.rollback()` undoes it silently, `commit()` keeps it."""
    async with db.transaction() as session:
        savepoint = await session.begin_nested()
        await session.execute(insert(Audit).values(note="undone"))
        await savepoint.rollback()
        savepoint = await session.begin_nested()
        await session.execute(insert(Audit).values(note="kept"))
        await savepoint.commit()

    assert await observer.notes(Audit) == ["kept"]


async def test_begin_nested_left_open_is_kept_by_a_block_that_commits(
    db: Database, observer: Observer
) -> None:
    """As in SQLAlchemy, COMMIT includes a savepoint that nobody ended."""
    async with db.transaction() as session:
        await session.begin_nested()
        session.add(Audit(note="kept"))

    assert await observer.notes(Audit) == ["kept"]


async def test_begin_nested_that_swallowed_a_database_error_is_undone_and_raises(
    db: Database, observer: Observer
) -> None:
    """It follows the rules of a nested block."""
    async with db.transaction() as session:
        session.add(Audit(note="outer"))
        with pytest.raises(UnexpectedRollbackError):
            async with session.begin_nested():
                with suppress(DBAPIError):
                    await session.execute(text("SELECT * FROM nowhere"))

    assert await observer.notes(Audit) == ["outer"]


async def test_begin_nested_without_a_transaction_is_refused(db: Database) -> None:
    """Where each statement commits by itself there is nothing to make a savepoint in."""
    async with db.transaction(propagation=Propagation.SUPPORTS) as session:
        with pytest.raises(TransactionRefusedError):
            async with session.begin_nested():
                pytest.fail("entered")


async def test_begin_nested_of_the_synchronous_session_encloses_a_database_error(
    db: Database, observer: Observer
) -> None:
    """A savepoint made in `run_sync` encloses what fails in it."""
    await observer.run(TAKEN)

    def work(session: Session) -> None:
        session.add(Audit(note="before"))
        with suppress(IntegrityError), session.begin_nested():
            session.add(Account(name="taken"))
            session.flush()
        session.add(Audit(note="after"))

    async with db.transaction() as session:
        await session.run_sync(work)

    assert await observer.notes(Audit) == ["after", "before"]


async def test_begin_nested_of_the_connection_encloses_a_database_error(
    db: Database, observer: Observer
) -> None:
    """So does a savepoint made on the connection of the session."""
    await observer.run(TAKEN)

    async with db.transaction() as session:
        connection = await session.connection()
        with suppress(IntegrityError):
            async with connection.begin_nested():
                await connection.execute(insert(Account).values(name="taken", balance=0))
        await connection.execute(insert(Audit).values(note="after"))

    assert await observer.notes(Audit) == ["after"]


async def test_begin_nested_by_hand_and_nested_blocks_mix(db: Database, observer: Observer) -> None:
    """Savepoints of both kinds end in the order in which they were begun."""
    async with db.transaction() as session:
        async with session.begin_nested():
            session.add(Audit(note="1"))
            with pytest.raises(StockError):
                async with db.transaction(propagation=NESTED):
                    session.add(Audit(note="2"))
                    async with session.begin_nested():
                        session.add(Audit(note="3"))
                    raise StockError
        seen = sorted(await session.scalars(select(Audit.note)))

    assert seen == ["1"]
    assert await observer.notes(Audit) == ["1"]
