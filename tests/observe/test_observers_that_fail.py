"""An observer that fails changes nothing of what it observes, and is told of once."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import sleep
from typing import Any

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.exc import DBAPIError

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Propagation, Repository, TransactionRefusedError
from unitwork.events import Event, StatementExecuted


class OwnError(BaseException):
    """What `except Exception` does not catch, as `pytest.fail` raises it."""


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
    "error",
    [RuntimeError("mine"), asyncio.CancelledError(), OwnError()],
    ids=["error", "cancelled", "no exception"],
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


@dataclass
class Leaving:
    """Goes when it is told of a statement. All of them are equal."""

    heard: list[str] = field(default_factory=list[str], compare=False)
    db: Database | None = field(default=None, compare=False)

    def notice(self, event: Event) -> None:
        """Take note, and go."""
        self.heard.append(type(event).__name__)
        if self.db is not None and isinstance(event, StatementExecuted):
            self.db.unobserve(self)
            self.db = None


async def test_observer_may_go_while_it_is_told(db: Database, observer: Observer) -> None:
    """It alone, the last one too; what others hear of the statement, and its outcome, stay the same."""
    traced: list[str] = []
    engine = db.engine.sync_engine
    event.listen(engine, "after_cursor_execute", lambda *told: traced.append(told[2]))
    before, leaving, after = Leaving(), Leaving(db=db), Leaving()
    for each in (before, leaving, after):
        db.observe(each)
    db.unobserve(before)

    for name in ("first", "second"):
        async with db.transaction() as session:
            await session.execute(insert(Account).values(name=name))
        if after.db is None:
            after.db = db

    assert not before.heard
    assert leaving.heard.count("StatementExecuted") == 1
    assert "BlockEnded" in after.heard
    assert after.heard[-1] == "StatementExecuted"
    assert [sql.split()[0] for sql in traced].count("INSERT") == 2
    assert await observer.column("SELECT name FROM account ORDER BY id") == ["first", "second"]
    with pytest.raises(ValueError, match="does not observe"):
        db.unobserve(after)


@pytest.mark.only("sqlite", reason="listeners are the same for all")
async def test_observers_come_and_go_in_another_thread(db: Database) -> None:
    """No statement meets a change of what listens to it."""
    engine = db.engine.sync_engine
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            observer = Leaving()
            db.observe(observer)
            db.unobserve(observer)

    def dawdle(*_told: object) -> None:
        for _ in range(4):
            sleep(0)  # lets the other thread run

    event.listen(engine, "before_cursor_execute", dawdle)
    event.listen(engine, "after_cursor_execute", dawdle)
    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(20):
            async with db.transaction() as session:
                await session.execute(text("SELECT 1"))
    finally:
        over.set()
        thread.join()

    assert not db.source.watch.active
