"""A block that returns commits; one that raises rolls back."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from sqlalchemy import URL, insert, select, text
from sqlalchemy.exc import IntegrityError

from tests.fixtures.errors import ShopError, StockError
from tests.fixtures.models import Account, Audit, Order
from tests.fixtures.observer import Observer
from unitwork import Database, Propagation, Repository

OWN_TRANSACTION = [Propagation.REQUIRED, Propagation.REQUIRES_NEW, Propagation.NESTED]


async def test_block_commits_when_it_returns(db: Database, observer: Observer) -> None:
    """What was added is stored when the block has been left."""
    async with db.transaction():
        db.session.add(Account(name="ann"))

    assert await observer.names(Account) == ["ann"]


async def test_block_stores_nothing_before_its_end(db: Database, observer: Observer) -> None:
    """Nobody else sees the work before COMMIT."""
    async with db.transaction():
        db.session.add(Account(name="ann"))
        await db.session.flush()
        seen = await observer.names(Account)

    assert seen == []


async def test_block_yields_the_ambient_session(db: Database) -> None:
    """`async with db.transaction() as session` gives the session that `db.session` is."""
    async with db.transaction() as session:
        assert session is db.session


@pytest.mark.parametrize("propagation", OWN_TRANSACTION)
@pytest.mark.parametrize(
    "raised",
    [
        ValueError,
        StockError,
        asyncio.CancelledError,
        KeyboardInterrupt,
        SystemExit,
        GeneratorExit,
        BaseException,
    ],
)
async def test_block_rolls_back_when_it_raises(
    db: Database, observer: Observer, propagation: Propagation, raised: type[BaseException]
) -> None:
    """Every exception rolls back, and is the one that the caller gets."""
    error = raised("mine")

    with pytest.raises(raised) as caught:
        async with db.transaction(propagation=propagation):
            await db.session.execute(insert(Audit).values(note="lost"))
            raise error

    assert caught.value is error
    assert await observer.notes(Audit) == []


async def test_block_rolls_back_what_was_not_flushed(db: Database, observer: Observer) -> None:
    """Pending entities are forgotten with the rest."""
    with pytest.raises(StockError):
        async with db.transaction():
            db.session.add(Account(name="ann"))
            raise StockError

    assert await observer.names(Account) == []


async def test_block_commits_changes_of_loaded_entities(db: Database, observer: Observer) -> None:
    """Changed attributes and deletions are flushed before COMMIT."""
    await observer.run("INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0), (2, 'bob', 0)")

    async with db.transaction():
        ann = await db.session.get_one(Account, 1)
        ann.balance = 7
        await db.session.delete(await db.session.get_one(Account, 2))

    assert await observer.values(Account, "balance") == [7]


@pytest.mark.parametrize("flushed", [True, False])
async def test_block_commits_and_raises_what_does_not_roll_back(
    db: Database, observer: Observer, *, flushed: bool
) -> None:
    """An exception named by `no_rollback_for` commits and is still raised."""
    error = StockError("told")

    with pytest.raises(StockError) as caught:
        async with db.transaction(no_rollback_for=ShopError):
            db.session.add(Audit(note="kept"))
            if flushed:
                await db.session.flush()
            raise error

    assert caught.value is error
    assert await observer.notes(Audit) == ["kept"]


async def test_block_takes_rules_as_a_tuple_or_list(db: Database, observer: Observer) -> None:
    """Several classes are named by a tuple or a list; the nearest decides."""
    with pytest.raises(StockError):
        async with db.transaction(rollback_for=[StockError], no_rollback_for=(ShopError, ValueError)):
            db.session.add(Audit(note="lost"))
            raise StockError
    with pytest.raises(ShopError):
        async with db.transaction(rollback_for=[StockError], no_rollback_for=(ShopError, ValueError)):
            db.session.add(Audit(note="kept"))
            raise ShopError

    assert await observer.notes(Audit) == ["kept"]


async def test_block_rolls_back_when_forgiven_work_cannot_be_flushed(
    db: Database, observer: Observer
) -> None:
    """When the work of a forgiven exception cannot be stored, nothing is, and an error says so."""
    await observer.run("INSERT INTO account (id, name, balance) VALUES (1, 'taken', 0)")

    with pytest.raises(IntegrityError):
        async with db.transaction(no_rollback_for=ShopError):
            await db.session.execute(insert(Audit).values(note="lost"))
            db.session.add(Account(name="taken"))
            raise ShopError

    assert await observer.notes(Audit) == []


async def test_block_that_sends_nothing_holds_no_connection(db: Database) -> None:
    """An empty block opens no connection."""
    async with db.transaction():
        held = db.pool_status().checked_out

    assert held == 0


async def test_block_rolls_back_at_once_when_marked_by_its_owner(db: Database, observer: Observer) -> None:
    """`set_rollback_only` by the owner is silent."""
    async with db.transaction():
        await db.session.execute(insert(Audit).values(note="lost"))
        db.set_rollback_only()
        await db.session.execute(insert(Audit).values(note="lost too"))

    assert await observer.notes(Audit) == []


async def test_block_marked_by_its_owner_rolls_back_a_forgiven_exception(
    db: Database, observer: Observer
) -> None:
    """A forgiven exception does not commit what the owner marked."""
    with pytest.raises(ShopError):
        async with db.transaction(no_rollback_for=ShopError):
            await db.session.execute(insert(Audit).values(note="lost"))
            db.set_rollback_only()
            raise ShopError

    assert await observer.notes(Audit) == []


async def test_entities_stay_readable_after_the_end(db: Database) -> None:
    """What was loaded or stored can be read when the block has ended, also its new key."""
    async with db.transaction():
        account = Account(name="ann", balance=3)
        db.session.add(account)

    assert (account.name, account.balance) == ("ann", 3)
    assert account.id


async def test_entity_can_be_added_again_after_a_rollback(db: Database, observer: Observer) -> None:
    """An entity that a rollback has undone may be added to the next block."""
    account = Account(name="ann")
    with pytest.raises(StockError):
        async with db.transaction():
            db.session.add(account)
            await db.session.flush()
            raise StockError

    async with db.transaction():
        db.session.add(account)

    assert await observer.names(Account) == ["ann"]


async def test_block_object_can_be_entered_again_afterwards(db: Database, observer: Observer) -> None:
    """One block object may be used for one `async with` after another."""
    block = db.transaction()
    for name in ("ann", "bob"):
        async with block as session:
            session.add(Account(name=name))

    assert await observer.names(Account) == ["ann", "bob"]


async def test_status_of_a_block_tells_how_it_ended(db: Database) -> None:
    """A block says what became of it."""
    kept, undone = db.transaction(), db.transaction()
    before = kept.status
    async with kept:
        during = kept.status
        db.session.add(Audit(note="x"))
    with pytest.raises(StockError):
        async with undone:
            raise StockError

    assert (before, during, kept.status, undone.status) == ("new", "open", "committed", "rolled back")


@pytest.mark.only("sqlite", "postgresql", reason="MariaDB commits before DDL")
async def test_ddl_in_a_block_is_undone_with_it(db: Database, observer: Observer) -> None:
    """On databases with transactional DDL a table made in a block that fails is gone."""
    with pytest.raises(StockError):
        async with db.transaction():
            await db.session.execute(text("CREATE TABLE fresh (id INTEGER)"))
            raise StockError

    with pytest.raises(Exception, match="fresh"):
        await observer.scalar("SELECT count(*) FROM fresh")


async def test_relationships_are_stored_in_one_transaction(db: Database, observer: Observer) -> None:
    """A tree of entities is stored with its foreign keys."""
    async with db.transaction():
        db.session.add(Account(name="ann", orders=[Order(total=1), Order(total=2)]))

    assert await observer.values(Order, "total") == [1, 2]


async def test_forty_concurrent_counters_lose_no_update(db: Database, observer: Observer) -> None:
    """Read-modify-write under a row lock (SQLite: its write lock) loses nothing."""
    await observer.run("INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)")

    async def deposit() -> None:
        async with db.transaction():
            found = select(Account).where(Account.id == 1).with_for_update()
            account = (await db.session.scalars(found)).one()
            account.balance += 1

    await asyncio.gather(*(deposit() for _ in range(40)))

    assert await observer.values(Account, "balance") == [40]


async def test_stream_that_was_not_read_to_its_end_does_not_hinder_commit(
    db: Database, observer: Observer
) -> None:
    """A result that is still open is closed with the block."""
    for number in range(20):
        await observer.run(f"INSERT INTO audit (note) VALUES ('{number}')")

    async with db.transaction():
        stream = await db.session.stream(select(Audit.note))
        await stream.fetchone()
        db.session.add(Audit(note="kept"))

    assert await observer.count(Audit) == 21


async def test_generator_that_is_closed_early_rolls_back_its_block(db: Database, observer: Observer) -> None:
    """A block inside an async generator ends with `aclose()`."""

    async def lines() -> AsyncGenerator[int, None]:
        async with db.transaction():
            await db.session.execute(insert(Audit).values(note="lost"))
            yield 1
            yield 2

    generator = lines()
    await anext(generator)
    await generator.aclose()

    assert await observer.notes(Audit) == []
    assert db.pool_status().checked_out == 0


FOLLOWERS = ["reads", "writes", "opens a block", "writes by hand"]


@pytest.mark.only("sqlite", reason="others end the transaction of a COMMIT that fails")
@pytest.mark.parametrize("follower", FOLLOWERS)
async def test_commit_that_fails_leaves_no_transaction_to_the_next(
    database_url: URL, observer: Observer, follower: str
) -> None:
    """A deferred constraint fails at COMMIT: all is rolled back, and whoever is next begins clean."""
    async with Database(database_url, pool_size=1, max_overflow=0) as db:
        audits = Repository[Audit](db)
        with pytest.raises(IntegrityError):
            async with db.transaction() as session:
                await session.execute(text("PRAGMA defer_foreign_keys=ON"))
                await Repository[Order](db).add(Order(account_id=99))

        if follower == "reads":
            assert await Repository[Order](db).count() == 0
        elif follower == "writes":
            await audits.add(Audit(note="next"))
        elif follower == "opens a block":
            async with db.transaction():
                await audits.add(Audit(note="next"))
        else:
            async with db.engine.begin() as connection:
                await connection.execute(insert(Audit).values(note="next"))

    assert await observer.count(Order) == 0
    assert await observer.notes(Audit) == ([] if follower == "reads" else ["next"])
