"""A savepoint that cannot be released is undone alone, or the block around does not commit."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.behaviour.test_transaction_cancellation import MOST_AWAITS, Striking, completion
from tests.fixtures.errors import ShopError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.fixtures.proxy import Proxy
from unitwork import Database, Propagation, Repository, TransactionRefusedError, UnexpectedRollbackError

NESTED = Propagation.NESTED
RELEASE = "RELEASE SAVEPOINT sa_savepoint_1"

Open = Callable[[Database], Any]
WAYS: list[Any] = [
    pytest.param(lambda db: db.transaction(propagation=NESTED), id="block"),
    pytest.param(lambda db: db.session.begin_nested(), id="by hand"),
]


async def add(db: Database, note: str) -> Audit:
    """Insert a row in the block that is open."""
    return await Repository[Audit](db).add(Audit(note=note))


@contextmanager
def failing_at(db: Database, *moments: str) -> Iterator[None]:
    """A listener of the engine that fails at these moments, before anything is sent."""

    def fail(*_: object) -> None:
        raise ShopError

    for moment in moments:
        event.listen(db.engine.sync_engine, moment, fail)
    try:
        yield
    finally:
        for moment in moments:
            event.remove(db.engine.sync_engine, moment, fail)


@pytest.mark.parametrize("way", WAYS)
async def test_savepoint_that_is_not_released_is_undone_alone(
    db: Database, observer: Observer, way: Open
) -> None:
    """A listener has kept RELEASE from being sent: the outer block goes on, without what was inside."""
    async with db.transaction():
        await add(db, "before")
        with failing_at(db, "release_savepoint"), pytest.raises(ShopError):
            async with way(db):
                await add(db, "inside")
        await add(db, "after")

    assert await observer.notes(Audit) == ["after", "before"]
    assert db.pool_status().checked_out == 0


async def test_savepoint_in_a_savepoint_that_is_not_released_is_undone_alone(
    db: Database, observer: Observer
) -> None:
    """As in any other block."""
    async with db.transaction(), db.transaction(propagation=NESTED):
        await add(db, "around")
        with failing_at(db, "release_savepoint"), pytest.raises(ShopError):
            async with db.transaction(propagation=NESTED):
                await add(db, "inside")
        await add(db, "after")

    assert await observer.notes(Audit) == ["after", "around"]


@pytest.mark.parametrize("way", WAYS)
async def test_block_around_what_can_neither_be_kept_nor_undone_does_not_commit(
    db: Database, observer: Observer, way: Open
) -> None:
    """Else it would store what the block inside was said to have failed with."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction():
            await add(db, "before")
            with failing_at(db, "release_savepoint", "rollback_savepoint"), pytest.raises(ShopError):
                async with way(db):
                    await add(db, "inside")

    assert await observer.notes(Audit) == []
    assert db.pool_status().checked_out == 0


@pytest.mark.parametrize("goes_on", [False, True], ids=["at once", "after another statement"])
@pytest.mark.parametrize("way", WAYS)
async def test_block_around_a_savepoint_that_is_gone_does_not_commit(
    db: Database, observer: Observer, way: Open, *, goes_on: bool
) -> None:
    """Its RELEASE fails: MariaDB would keep what was inside, PostgreSQL answer COMMIT with a rollback."""
    with pytest.raises((UnexpectedRollbackError, TransactionRefusedError)):
        async with db.transaction() as session:
            await add(db, "before")
            with pytest.raises(DBAPIError) as caught:
                async with way(db):
                    await add(db, "inside")
                    await session.execute(text(RELEASE))
            if goes_on:
                await add(db, "after")

    assert any("on database 'default'" in note for note in caught.value.__notes__)
    assert await observer.notes(Audit) == []
    assert db.pool_status().checked_out == 0


@pytest.mark.only(
    "postgresql", reason="others have nothing that makes a transaction useless but for ROLLBACK"
)
async def test_block_around_a_savepoint_that_cannot_begin_does_not_commit(
    db: Database, observer: Observer
) -> None:
    """What has failed in there is inside of no savepoint: none was begun."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction() as session:
            await add(db, "before")
            await fail_on_driver(await session.connection())
            with pytest.raises(DBAPIError):
                async with db.transaction(propagation=NESTED):
                    await add(db, "inside")

    assert await observer.notes(Audit) == []


async def fail_on_driver(connection: AsyncConnection) -> None:
    """Let a statement fail of which SQLAlchemy hears nothing."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    with pytest.raises(Exception, match="division by zero"):
        await driver.execute("SELECT 1 / 0")


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has no line that could be cut")
async def test_line_that_is_cut_at_the_release_is_told_with_its_place(
    proxy: Proxy, observer: Observer
) -> None:
    """Which block, on which database, as with any other statement."""
    proxy.cut_before = b"RELEASE"
    async with Database(proxy.url, name="shop") as db:
        with pytest.raises(DBAPIError) as caught:
            async with db.transaction():
                await add(db, "before")
                async with db.transaction(propagation=NESTED):
                    await add(db, "inside")
        assert db.pool_status().checked_out == 0

    assert any("on database 'shop'" in note for note in caught.value.__notes__)
    assert await observer.notes(Audit) == []


@pytest.mark.parametrize("undone", [False, True], ids=["kept", "undone"])
@pytest.mark.timeout(120)
async def test_entity_that_is_changed_at_every_await_of_a_savepoint(
    db: Database, observer: Observer, *, undone: bool
) -> None:
    """Another task may change what the session holds while the end of a savepoint is on its way."""
    held: list[Account] = []

    async def program() -> None:
        async with db.transaction():
            held.append(await Repository[Account](db).add(Account(id=1, name="held")))
            async with db.transaction(propagation=NESTED):
                await add(db, "inside")
                if undone:
                    db.set_rollback_only()
            held[0].balance = 71

    def change() -> None:
        for account in held:
            account.balance = 70

    for at in range(1, MOST_AWAITS):
        await observer.run("DELETE FROM account")
        held.clear()
        striking = Striking(program(), frozenset({at}), change)
        await asyncio.create_task(completion(striking))
        # A change that comes with the last flush is the session's own matter.
        assert await observer.scalar("SELECT balance FROM account") in {70, 71}
        if striking.seen < at:
            return
    pytest.fail("the program has more awaits than this test expects")
