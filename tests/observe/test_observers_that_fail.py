"""An observer that fails changes nothing of what it observes, and is told of once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Propagation, Repository, TransactionRefusedError
from unitwork.events import Event


class Failing:
    """Fails whatever it is told, or only one kind of it."""

    def __init__(self, error: BaseException, only: str = "") -> None:
        self._error = error
        self._only = only
        self.heard: list[str] = []

    def notice(self, event: Event) -> None:
        """Take note, and fail."""
        kind = type(event).__name__
        self.heard.append(kind)
        if self._only in kind:
            raise self._error


@pytest.fixture
async def told() -> AsyncIterator[list[dict[str, Any]]]:
    """What the event loop was told of failures."""
    loop = asyncio.get_running_loop()
    heard: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: heard.append(context))
    yield heard
    loop.set_exception_handler(None)


@pytest.mark.parametrize(
    "error", [RuntimeError("mine"), asyncio.CancelledError()], ids=["error", "cancelled"]
)
@pytest.mark.parametrize("only", ["", "BlockEntered", "StatementExecuted", "BlockEnded", "Connection"])
async def test_observer_that_fails_harms_nobody(
    db: Database, observer: Observer, told: list[dict[str, Any]], error: BaseException, only: str
) -> None:
    """Whatever it fails at: all is stored, nothing stays open, and one failure is told."""
    failing = Failing(error, only)
    db.observe(failing)

    for name in ("first", "second"):
        async with db.transaction() as session:
            session.add(Account(name=name))
            async with db.transaction(propagation=Propagation.NESTED):
                await Repository[Audit](db).add(Audit(note=name))
    await Repository[Account](db).add(Account(name="third"))

    assert await observer.names(Account) == ["first", "second", "third"]
    assert await observer.notes(Audit) == ["first", "second"]
    assert db.pool_status().checked_out == 0
    assert [context["exception"] for context in told] == [error]
    assert "An observer of database 'default' failed" in told[0]["message"]
    assert failing.heard.count("BlockEnded") >= 4


async def test_failure_of_an_observer_hides_no_error(db: Database, told: list[dict[str, Any]]) -> None:
    """What the block, the database or a rule raises is what is raised."""
    db.observe(Failing(RuntimeError("mine")))

    with pytest.raises(DBAPIError):
        async with db.transaction() as session:
            await session.execute(text("SELECT nothing FROM nowhere"))
    with pytest.raises(TransactionRefusedError):
        async with db.transaction(propagation=Propagation.MANDATORY):
            pass

    assert len(told) == 1


async def test_other_observers_hear_all(db: Database, told: list[dict[str, Any]]) -> None:
    """Those after the one that fails, and each that fails is told of."""
    other, another = Failing(RuntimeError("1")), Failing(RuntimeError("2"))
    db.observe(other)
    db.observe(another)

    async with db.transaction() as session:
        await session.execute(text("SELECT 1"))

    assert other.heard == another.heard
    assert other.heard[0] == "BlockEntered"
    assert len(told) == 2
