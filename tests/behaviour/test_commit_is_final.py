"""COMMIT is a point of no return: what fails after it is told as such, and nothing is tried again."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import pytest
from sqlalchemy import event, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from tests.fixtures.errors import ShopError, StockError
from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from tests.fixtures.proxy import Proxy
from unitwork import (
    AfterCommitError,
    CommitOutcomeUnknownError,
    Database,
    Propagation,
    Repository,
    RetryPolicy,
    UnexpectedRollbackError,
)

COMMIT = b"COMMIT"
PATIENCE_S = 20
ON_THE_LINE = pytest.mark.only("postgresql", "mariadb", reason="a line to a server is watched")

Open = Callable[[Database], Any]
OUTERMOST: list[Any] = [
    pytest.param(lambda db: db.transaction(), id="block"),
    pytest.param(lambda db: db.transaction(timeout=PATIENCE_S), id="block with a limit"),
    pytest.param(lambda db: db.transaction(isolation="SERIALIZABLE"), id="block with isolation"),
    pytest.param(lambda db: db.unit_of_work(), id="unit"),
    pytest.param(lambda db: db.unit_of_work(atomic=False), id="unit in pieces"),
]


class Listener:
    """Something that is told by SQLAlchemy, and fails. Counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_: object) -> None:
        """Fail."""
        self.calls += 1
        raise ShopError


@contextmanager
def listening(target: object, moment: str) -> Iterator[Listener]:
    """A listener that fails at this moment."""
    listener = Listener()
    event.listen(target, moment, listener)
    try:
        yield listener
    finally:
        event.remove(target, moment, listener)


def register(db: Database, story: list[str]) -> None:
    """Write down which functions run."""
    db.on_commit(lambda: story.append("on_commit"))
    db.on_rollback(lambda: story.append("on_rollback"))


@pytest.mark.parametrize("around", OUTERMOST)
async def test_listener_that_fails_after_the_commit_undoes_nothing(
    db: Database, observer: Observer, around: Open
) -> None:
    """The error says that it is committed; `on_commit` has run, `on_rollback` has not."""
    story: list[str] = []

    with listening(Session, "after_commit") as listener, pytest.raises(AfterCommitError) as caught:
        async with around(db) as session:
            session.add(Audit(note="stored"))
            await session.flush()
            register(db, story)

    assert listener.calls
    assert "is committed" in str(caught.value)
    assert any(isinstance(each, ShopError) for each in caught.value.exceptions)
    assert story == ["on_commit"]
    assert await observer.notes(Audit) == ["stored"]


@pytest.mark.parametrize("around", OUTERMOST)
async def test_listener_that_fails_when_the_connection_goes_back_undoes_nothing(
    db: Database, observer: Observer, around: Open
) -> None:
    """Whoever hears of it, the work is stored once, its functions run, and no place of the pool is lost."""
    story: list[str] = []

    with listening(db.engine.sync_engine, "checkin") as listener:
        try:
            async with around(db) as session:
                session.add(Audit(note="stored"))
                await session.flush()
                register(db, story)
        except AfterCommitError:
            story.append("told")

    assert listener.calls
    assert story[0] == "on_commit"
    assert "on_rollback" not in story
    assert await observer.notes(Audit) == ["stored"]
    assert db.pool_status().checked_out == 0


async def test_listener_that_fails_does_not_make_an_added_row_two(db: Database, observer: Observer) -> None:
    """Outside of blocks a row is stored by one statement; it is not sent again by a slower lane."""
    with listening(db.engine.sync_engine, "checkin"):
        with suppress(ShopError, AfterCommitError):
            await Repository[Audit](db).add(Audit(note="row"))

    assert await observer.notes(Audit) == ["row"]
    assert db.pool_status().checked_out == 0


@pytest.mark.parametrize("moment", ["after_commit", "checkin"])
async def test_work_whose_commit_went_through_is_not_tried_again(
    db: Database, observer: Observer, moment: str
) -> None:
    """Also if the listener's error looks like one that could be."""
    calls: list[int] = []

    def fails(*_: object) -> None:
        raise _conflict()

    @db.transactional(retry=RetryPolicy(attempts=3, first_delay_s=0))
    async def work() -> None:
        calls.append(1)
        await db.session.execute(insert(Audit).values(note="row"))

    target: object = Session if moment == "after_commit" else db.engine.sync_engine
    event.listen(target, moment, fails)
    with suppress(AfterCommitError, DBAPIError):
        await work()
    event.remove(target, moment, fails)

    assert calls == [1]
    assert await observer.notes(Audit) == ["row"]


class DeadlockError(Exception):
    """As the drivers tell of it."""

    sqlstate = "40001"
    sqlite_errorname = "SQLITE_BUSY"


def _conflict() -> DBAPIError:
    return DBAPIError("UPDATE elsewhere", {}, DeadlockError(1213, "deadlock"))


@pytest.mark.parametrize(
    "around",
    [
        pytest.param(lambda _db: nullcontext(), id="alone"),
        pytest.param(lambda db: db.unit_of_work(), id="unit"),
        pytest.param(lambda db: db.unit_of_work(atomic=False), id="unit in pieces"),
    ],
)
async def test_attempt_whose_error_is_forgiven_is_stored_once(
    db: Database, observer: Observer, around: Open
) -> None:
    """It has committed: the conflict is raised, and not cured by doing the work a second time."""

    @db.transactional(retry=RetryPolicy(attempts=3, first_delay_s=0), no_rollback_for=DBAPIError)
    async def work() -> None:
        await db.session.execute(insert(Audit).values(note="row"))
        raise _conflict()

    async with around(db):
        with pytest.raises(DBAPIError):
            await work()

    assert await observer.notes(Audit) == ["row"]


async def test_listener_that_fails_when_a_savepoint_is_released_undoes_nothing(
    db: Database, observer: Observer
) -> None:
    """SQLAlchemy tells of savepoints too: its work is kept, and stored with the outer block."""
    inner, outer = db.transaction(propagation=Propagation.NESTED), db.transaction()
    async with outer:
        with listening(Session, "after_commit"), suppress(ShopError, AfterCommitError):
            async with inner as session:
                await session.execute(insert(Audit).values(note="inner"))

    assert (inner.status, outer.status) == ("savepoint kept", "committed")
    assert await observer.notes(Audit) == ["inner"]


async def test_forgiven_exception_survives_a_listener_that_fails_at_the_release(
    db: Database, observer: Observer
) -> None:
    """It leaves the block as it is, and has a note; the savepoint is kept."""
    inner = db.transaction(propagation=Propagation.NESTED, no_rollback_for=StockError)
    async with db.transaction():
        with listening(Session, "after_commit"), pytest.raises(StockError) as caught:
            async with inner as session:
                await session.execute(insert(Audit).values(note="inner"))
                raise StockError

    assert inner.status == "savepoint kept"
    assert "after the savepoint was kept" in "\n".join(caught.value.__notes__)
    assert await observer.notes(Audit) == ["inner"]


async def test_listener_that_fails_when_a_savepoint_is_undone_condemns(
    db: Database, observer: Observer
) -> None:
    """Nobody knows whether the way back was gone to its end: all of it is rolled back, and that is told."""
    with listening(Session, "after_soft_rollback"), pytest.raises(UnexpectedRollbackError):
        async with db.transaction() as session:
            await session.execute(insert(Audit).values(note="outer"))
            with pytest.raises(StockError):
                async with db.transaction(propagation=Propagation.NESTED):
                    await session.execute(insert(Audit).values(note="inner"))
                    raise StockError

    assert await observer.notes(Audit) == []
    assert db.pool_status().checked_out == 0


@ON_THE_LINE
@pytest.mark.parametrize("around", OUTERMOST[:1] + OUTERMOST[3:])
async def test_shutdown_during_commit_tells_of_no_rollback(
    proxy: Proxy, observer: Observer, around: Open
) -> None:
    """All tasks are cancelled while the server has COMMIT, and cannot answer: the outcome is unknown."""
    story: list[str] = []
    async with Database(proxy.url, end_grace_s=0.3) as db:

        async def work() -> None:
            async with around(db) as session:
                await session.execute(insert(Audit).values(note="stored"))
                register(db, story)
                proxy.hang_after = COMMIT

        task = asyncio.create_task(work())
        async with asyncio.timeout(PATIENCE_S):
            while not await observer.notes(Audit):  # noqa: ASYNC110 - the server has no event
                await asyncio.sleep(0.02)
        for each in asyncio.all_tasks() - {asyncio.current_task()} - proxy.tasks:
            each.cancel()
        _, left = await asyncio.wait([task], timeout=PATIENCE_S)
        proxy.hang_after = b""

        assert not left
        assert isinstance(
            task.exception() if not task.cancelled() else None, CommitOutcomeUnknownError | None
        )
        assert "on_rollback" not in story
        assert await observer.notes(Audit) == ["stored"]
        assert db.pool_status().checked_out == 0


@ON_THE_LINE
@pytest.mark.parametrize("answers", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"timeout": PATIENCE_S}], ids=["plain", "with a limit"])
async def test_line_that_is_lost_after_the_commit_was_answered_harms_nothing(
    proxy: Proxy, observer: Observer, options: dict[str, Any], answers: int
) -> None:
    """What is sent after COMMIT only tidies up: the block returns, and `on_commit` runs."""
    story: list[str] = []
    async with Database(proxy.url, pool_size=1, max_overflow=0, pool_timeout=PATIENCE_S) as db:
        async with db.transaction(isolation="SERIALIZABLE", **options) as session:
            await session.execute(insert(Audit).values(note="stored"))
            register(db, story)
            proxy.cut_later(COMMIT, answers)
        proxy.heal()

        assert story == ["on_commit"]
        assert await observer.notes(Audit) == ["stored"]
        assert db.pool_status().checked_out == 0
        async with db.transaction() as session:
            await session.execute(insert(Audit).values(note="next"))
        assert await observer.notes(Audit) == ["next", "stored"]
