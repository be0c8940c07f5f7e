"""After a COMMIT that has failed entities are what they are after a rollback, whoever has sent them."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Repository

pytestmark = pytest.mark.only("sqlite", "postgresql", reason="MariaDB has no deferred constraints")

DEFERRED = (
    "CREATE TABLE part (id INTEGER PRIMARY KEY, account_id INTEGER"
    " REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED)"
)
FAILS_AT_COMMIT = text("INSERT INTO part VALUES (1, 99)")

Open = Callable[[Database], Any]
AROUND: list[Any] = [
    pytest.param(lambda db: db.transaction(), id="block"),
    pytest.param(lambda db: db.unit_of_work(), id="unit"),
]


async def alone(db: Database) -> Account:
    """Insert it past the session, which begins nothing."""
    return await Repository[Account](db).add(Account(id=1, name="new"))


async def flushed(db: Database) -> Account:
    """Add it to the session, and send it from there."""
    account = Account(id=1, name="new")
    db.session.add(account)
    await db.session.flush()
    return account


async def flushed_at_the_end(db: Database) -> Account:
    """Add it to the session, and leave the rest to the end."""
    account = Account(id=1, name="new")
    db.session.add(account)
    return account


async def changed_by_condition(db: Database) -> Account:
    """Insert it, and let the session know of an UPDATE that has touched it."""
    account = await alone(db)
    await Repository[Account](db).where(Account.id == 1).update(balance=5)
    return account


async def one_of_many(db: Database) -> Account:
    """Insert it with another one."""
    account = Account(id=1, name="new")
    await Repository[Account](db).add_all([account, Account(id=2, name="other")])
    return account


WAYS = [alone, flushed, flushed_at_the_end, changed_by_condition, one_of_many]


@pytest.mark.every_lane
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("around", AROUND)
async def test_entity_that_was_not_stored_is_new_again(
    db: Database, observer: Observer, around: Open, way: Callable[[Database], Any]
) -> None:
    """It has all that it was given, and can be added once more."""
    await observer.run(DEFERRED)
    added: list[Account] = []
    with pytest.raises(IntegrityError):
        async with around(db):
            added.append(await way(db))
            await db.session.execute(FAILS_AT_COMMIT)

    assert inspect(added[0]).transient
    assert (added[0].id, added[0].name) == (1, "new")
    assert await observer.count(Account) == 0
    await Repository[Account](db).add(added[0])
    assert await observer.names(Account) == ["new"]


@pytest.mark.parametrize("around", AROUND)
async def test_nobody_hears_of_a_commit_that_was_none(db: Database, observer: Observer, around: Open) -> None:
    """Not even who has begun to listen when there was nothing for the session to send any more."""
    await observer.run(DEFERRED)
    heard: list[str] = []

    def committed(_session: Session) -> None:
        heard.append("committed")

    with pytest.raises(IntegrityError):
        async with around(db) as session:
            await Repository[Audit](db).add(Audit(note="before"))
            await session.execute(FAILS_AT_COMMIT)
            event.listen(session.sync_session, "after_commit", committed)

    assert heard == []
    assert await observer.count(Audit) == 0
