"""taskiq: each task is a unit of work, committed before its result and its acknowledgement."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from taskiq import (
    AckableMessage,
    InMemoryBroker,
    SimpleRetryMiddleware,
    TaskiqDepends,
    TaskiqMessage,
    TaskiqMiddleware,
    TaskiqResult,
)
from taskiq.acks import AcknowledgeType
from taskiq.exceptions import SendTaskError
from taskiq.receiver import Receiver

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, NoTransactionError, Repository
from unitwork.integrations.taskiq import UnitOfWorkMiddleware

TAKEN = "INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)"


@pytest.fixture
async def broker(db: Database) -> AsyncIterator[InMemoryBroker]:
    """A broker with a worker in this process."""
    broker = InMemoryBroker().with_middlewares(UnitOfWorkMiddleware(db))
    await broker.startup()
    yield broker
    await broker.wait_all()
    await broker.shutdown()


async def test_task_is_one_transaction(db: Database, broker: InMemoryBroker, observer: Observer) -> None:
    """What the functions of a task write is stored when its result is."""

    @broker.task
    async def create(name: str) -> int:
        db.session.add(Account(name=name))
        await db.session.flush()
        db.session.add(Audit(note=name))
        return await observer.count(Account)

    sent = await create.kiq("ann")
    result = await sent.wait_result()

    assert (result.is_err, result.return_value) == (False, 0)
    assert (await observer.names(Account), await observer.notes(Audit)) == (["ann"], ["ann"])


async def test_task_that_raises_rolls_back(db: Database, broker: InMemoryBroker, observer: Observer) -> None:
    """The client gets the error as the result, and nothing is stored."""

    @broker.task
    async def fail(name: str) -> None:
        db.session.add(Account(name=name))
        await db.session.flush()
        raise RuntimeError("broken on purpose")

    result = await (await fail.kiq("ann")).wait_result()

    assert (result.is_err, str(result.error)) == (True, "broken on purpose")
    assert await observer.names(Account) == []
    assert db.pool_status().checked_out == 0


@pytest.mark.parametrize(("atomic", "stored"), [(False, ["ann"]), (True, [])])
async def test_atomic_joins_the_blocks_of_a_task(
    db: Database, observer: Observer, stored: list[str], *, atomic: bool
) -> None:
    """Blocks inside commit by themselves, or stand and fall with the task."""
    broker = InMemoryBroker(await_inplace=True)
    broker.add_middlewares(UnitOfWorkMiddleware(db, atomic=atomic))

    @broker.task
    async def fail(name: str) -> None:
        await Repository[Account](db).create(name=name)
        raise RuntimeError("broken on purpose")

    await fail.kiq("ann")

    assert await observer.names(Account) == stored


async def test_failing_commit_is_the_error_of_the_task(
    db: Database, broker: InMemoryBroker, observer: Observer
) -> None:
    """A COMMIT that fails is no success, and other middleware hears of it as of any error."""
    await observer.run(TAKEN)
    heard: list[BaseException] = []

    class Listener(TaskiqMiddleware):
        async def on_error(
            self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
        ) -> None:
            heard.append(exception)

    broker.add_middlewares(Listener())

    @broker.task
    async def create(name: str) -> str:
        db.session.add(Account(name=name))
        return "done"

    result = await (await create.kiq("ann")).wait_result()

    assert result.is_err
    assert isinstance(result.error, IntegrityError)
    assert heard == [result.error]
    assert await observer.names(Account) == ["ann"]


@pytest.mark.parametrize("in_place", [False, True])
async def test_retry_finds_nothing_half_done(db: Database, observer: Observer, *, in_place: bool) -> None:
    """What is tried again has been rolled back before, also where the broker awaits tasks in place."""
    broker = InMemoryBroker(await_inplace=in_place)
    broker.add_middlewares(SimpleRetryMiddleware(default_retry_label=True), UnitOfWorkMiddleware(db))
    tries: list[int] = []

    @broker.task
    async def create(name: str) -> None:
        tries.append(await observer.count(Account))
        db.session.add(Account(name=name))
        if len(tries) < 3:
            await db.session.flush()
            raise RuntimeError("not yet")

    await create.kiq("ann")
    await broker.wait_all()
    while len(tries) < 3:
        await broker.wait_all()

    assert tries == [0, 0, 0]
    assert await observer.names(Account) == ["ann"]
    await broker.shutdown()


async def test_commit_comes_before_the_acknowledgement(
    db: Database, broker: InMemoryBroker, observer: Observer
) -> None:
    """A message is acknowledged when its work is stored, so that no crash between loses it."""

    @broker.task
    async def create(name: str) -> None:
        db.session.add(Account(name=name))

    acknowledged: list[list[str]] = []

    async def acknowledge() -> None:
        acknowledged.append(await observer.names(Account))

    message = broker.formatter.dumps(create.kicker()._prepare_message("ann"))
    receiver = Receiver(broker, ack_type=AcknowledgeType.WHEN_SAVED, max_async_tasks=1)
    await receiver.callback(AckableMessage(data=message.message, ack=acknowledge))

    assert acknowledged == [["ann"]]


async def test_dependency_that_fails_at_its_end_leaves_nothing(db: Database, observer: Observer) -> None:
    """Taskiq tells no middleware of that; the connection goes back and nothing is stored all the same."""
    broker = InMemoryBroker()
    broker.add_middlewares(UnitOfWorkMiddleware(db))

    async def brittle() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("at its end")

    @broker.task
    async def create(_one: Any = TaskiqDepends(brittle)) -> None:  # noqa: ANN401, B008 - as taskiq has it
        db.session.add(Account(name="ann"))
        await db.session.flush()

    await create.kiq()
    with pytest.raises(RuntimeError, match="at its end"):
        await broker.wait_all()

    assert await observer.names(Account) == []
    await broker.shutdown()


async def test_message_inside_a_message_has_its_own_unit(db: Database, observer: Observer) -> None:
    """Where the broker awaits tasks in place, one that fails inside another undoes only its own work."""
    broker = InMemoryBroker(await_inplace=True)
    broker.add_middlewares(UnitOfWorkMiddleware(db))

    @broker.task
    async def inner() -> None:
        db.session.add(Account(name="inner"))
        await db.session.flush()
        raise RuntimeError("broken on purpose")

    @broker.task
    async def outer() -> None:
        db.session.add(Account(name="outer"))
        await inner.kiq()

    await outer.kiq()

    assert await observer.names(Account) == ["outer"]


async def test_message_that_fails_untold_inside_a_message(db: Database, observer: Observer) -> None:
    """What taskiq gave up inside another task is rolled back before that one commits."""
    broker = InMemoryBroker(await_inplace=True)
    broker.add_middlewares(UnitOfWorkMiddleware(db))

    async def brittle() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("at its end")

    @broker.task
    async def inner(_one: Any = TaskiqDepends(brittle)) -> None:  # noqa: ANN401, B008 - as taskiq has it
        db.session.add(Account(name="inner"))
        await db.session.flush()

    @broker.task
    async def outer() -> None:
        db.session.add(Account(name="outer"))
        with pytest.raises(SendTaskError):
            await inner.kiq()

    await outer.kiq()

    assert await observer.names(Account) == ["outer"]


async def test_result_that_other_middleware_refuses_rolls_back(db: Database, observer: Observer) -> None:
    """Middleware that comes before may still make the result an error."""

    class Judge(TaskiqMiddleware):
        async def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
            result.is_err = True

    broker = InMemoryBroker(await_inplace=True)
    broker.add_middlewares(UnitOfWorkMiddleware(db), Judge())

    @broker.task
    async def create() -> None:
        db.session.add(Account(name="ann"))

    await create.kiq()

    assert await observer.names(Account) == []


async def test_task_that_needs_no_database_costs_nothing(db: Database, broker: InMemoryBroker) -> None:
    """No connection is opened for a task that never asks for one; outside, there is no session."""

    @broker.task
    async def add(left: int, right: int) -> int:
        return left + right

    result = await (await add.kiq(1, 2)).wait_result()

    assert result.return_value == 3
    assert (db.pool_status().checked_out, db.pool_status().idle) == (0, 0)
    with pytest.raises(NoTransactionError):
        _ = db.session


async def test_many_tasks_at_once_each_have_their_own(
    db: Database, broker: InMemoryBroker, observer: Observer
) -> None:
    """Tasks at the same time never see each other's session."""

    @broker.task
    async def create(number: int) -> None:
        db.session.add(Account(name=str(number)))
        await db.session.flush()
        if number % 2:
            raise RuntimeError("odd")

    for number in range(20):
        await create.kiq(number)
    await broker.wait_all()

    assert set(await observer.names(Account)) == {str(number) for number in range(0, 20, 2)}


async def test_after_commit_failure_is_no_error_of_the_task(
    db: Database, broker: InMemoryBroker, observer: Observer, caplog: pytest.LogCaptureFixture
) -> None:
    """The work is stored, so it is not done again; the log tells what failed after the COMMIT."""

    @broker.task
    async def create(name: str) -> None:
        db.session.add(Account(name=name))
        await db.session.flush()
        db.on_commit(lambda: 1 // 0)

    result = await (await create.kiq("ann")).wait_result()

    assert not result.is_err
    assert await observer.names(Account) == ["ann"]
    assert any("on_commit" in record.message for record in caplog.records)


async def test_several_databases(db: Database, broker: InMemoryBroker, observer: Observer) -> None:
    """Each has a unit of its own."""
    async with Database("sqlite+aiosqlite:///:memory:", name="reports") as reports:
        await reports.create_all(Audit)
        broker.middlewares.clear()
        broker.add_middlewares(UnitOfWorkMiddleware([db, reports]))

        @broker.task
        async def write(note: str) -> None:
            db.session.add(Audit(note=note))
            reports.session.add(Audit(note=note))

        await (await write.kiq("x")).wait_result()
        async with reports.transaction() as session:
            stored = list(await session.scalars(select(Audit.note)))

    assert (stored, await observer.notes(Audit)) == (["x"], ["x"])


@pytest.mark.only("postgresql", reason="pg_terminate_backend")
async def test_task_whose_connection_dies_has_its_own_error(
    db: Database, broker: InMemoryBroker, observer: Observer
) -> None:
    """The rollback of a connection that is gone does not hide what the task raised."""

    @broker.task
    async def die() -> None:
        db.session.add(Account(name="ann"))
        await db.session.flush()
        pid = await db.session.scalar(text("SELECT pg_backend_pid()"))
        await observer.run("SELECT pg_terminate_backend(:pid)", pid=pid)
        raise RuntimeError("broken on purpose")

    result = await (await die.kiq()).wait_result()

    assert str(result.error) == "broken on purpose"
    assert await observer.names(Account) == []
