"""A failure leaves nothing behind: the next block in the same task starts clean."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from sqlalchemy import insert, text

from tests.fixtures.errors import StockError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, NoTransactionError, Propagation

NESTED = Propagation.NESTED


async def _raises(db: Database) -> None:
    async with db.transaction():
        await db.session.execute(insert(Audit).values(note="lost"))
        raise StockError


async def _raises_before_any_statement(db: Database) -> None:
    async with db.transaction():
        raise StockError


async def _database_error(db: Database) -> None:
    async with db.transaction():
        await db.session.execute(text("SELECT * FROM nowhere"))


async def _swallowed_database_error(db: Database) -> None:
    async with db.transaction():
        with suppress(Exception):
            await db.session.execute(text("SELECT * FROM nowhere"))


async def _duplicate(db: Database) -> None:
    async with db.transaction():
        db.session.add_all([Account(name="twice"), Account(name="twice")])


async def _nested_duplicate(db: Database) -> None:
    async with db.transaction(), db.transaction(propagation=NESTED):
        db.session.add_all([Account(name="twice"), Account(name="twice")])


async def _joined_failure(db: Database) -> None:
    async with db.transaction():
        with suppress(StockError):
            await _raises(db)


async def _refused(db: Database) -> None:
    async with db.transaction(propagation=Propagation.MANDATORY):
        pytest.fail("entered")


async def _late(db: Database) -> None:
    async with db.transaction(timeout=0.01):
        await db.session.execute(insert(Audit).values(note="lost"))
        await asyncio.Event().wait()


async def _before_commit(db: Database) -> None:
    def fail() -> None:
        raise StockError

    async with db.transaction():
        db.session.add(Audit(note="lost"))
        db.before_commit(fail)


async def _not_an_entity(db: Database) -> None:
    async with db.transaction():
        db.session.add(object())


async def _keyboard(db: Database) -> None:
    async with db.transaction(), db.transaction(propagation=NESTED):
        await db.session.execute(insert(Audit).values(note="lost"))
        raise KeyboardInterrupt


async def _savepoint_by_hand(db: Database) -> None:
    async with db.transaction() as session:
        await session.begin_nested()
        await session.execute(text("SELECT * FROM nowhere"))


async def _without_transaction(db: Database) -> None:
    async with db.transaction(propagation=Propagation.NOT_SUPPORTED):
        await db.session.execute(text("SELECT * FROM nowhere"))


FAILURES: list[Callable[[Database], Awaitable[None]]] = [
    _raises,
    _raises_before_any_statement,
    _database_error,
    _swallowed_database_error,
    _duplicate,
    _nested_duplicate,
    _joined_failure,
    _refused,
    _late,
    _before_commit,
    _not_an_entity,
    _keyboard,
    _savepoint_by_hand,
    _without_transaction,
]
failure = pytest.mark.parametrize("fail", FAILURES, ids=lambda fail: fail.__name__.strip("_"))


@failure
async def test_next_block_starts_clean(
    db: Database, observer: Observer, fail: Callable[[Database], Awaitable[None]]
) -> None:
    """No context, no connection, no mark is left; the next block commits its own work alone."""
    with pytest.raises(BaseException):  # noqa: B017, PT011 - each program raises its own
        await fail(db)

    with pytest.raises(NoTransactionError):
        db.session.add(Audit(note="nowhere"))
    assert db.pool_status().checked_out == 0
    async with db.transaction(durable=True):
        db.session.add(Audit(note="next"))
    assert await observer.notes(Audit) == ["next"]
    assert await observer.names(Account) == []


async def test_caller_that_keeps_the_exception_keeps_no_transaction(db: Database, observer: Observer) -> None:
    """Regression of a peer: while the exception object lived, the next block joined a dead session."""
    kept = []
    try:
        await _raises(db)
    except StockError as error:
        kept.append(error)

    async with db.transaction():
        db.session.add(Audit(note="next"))

    assert kept
    assert await observer.notes(Audit) == ["next"]


async def test_failures_one_after_another_leave_the_pool_whole(db: Database, observer: Observer) -> None:
    """Fifty failures later everything is as before."""
    for number in range(50):
        with suppress(BaseException):
            await FAILURES[number % 4](db)

    assert db.pool_status().checked_out == 0
    async with db.transaction():
        db.session.add(Audit(note="next"))
    assert await observer.notes(Audit) == ["next"]
