"""The driver lane uses the pool of SQLAlchemy as it is, of whatever class and with whatever options."""

import asyncio
from contextlib import AsyncExitStack
from threading import Thread
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import URL, AsyncAdaptedQueuePool, NullPool, StaticPool, event, inspect, select, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.fixtures.dialogue import Dialogue
from tests.fixtures.errors import StockError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.fixtures.people import Person
from unitwork import AfterCommitError, Database, Repository, query
from unitwork.options import Lane

TASKS = 12

OPTIONS: dict[str, tuple[dict[str, Any], Lane]] = {
    "pre-ping": ({"pool_pre_ping": True}, Lane.DRIVER),
    "recycle": ({"pool_recycle": 0}, Lane.DRIVER),
    "no pool": ({"poolclass": NullPool}, Lane.DRIVER),
    "one connection for all": ({"poolclass": StaticPool}, Lane.DRIVER),
    "no limit": ({"pool_size": 0}, Lane.DRIVER),
    "no limit beyond": ({"pool_size": 1, "max_overflow": -1}, Lane.DRIVER),
    "first in, first out": ({"pool_use_lifo": False, "poolclass": AsyncAdaptedQueuePool}, Lane.DRIVER),
    "serializable": ({"isolation_level": "SERIALIZABLE"}, Lane.DRIVER),
}


class People(Repository[Person]):
    """The door to persons."""


@pytest.mark.parametrize("kind", list(OPTIONS))
async def test_reads_through_pools_of_each_kind(people: Database, kind: str) -> None:
    """Outside, in a unit of work and in a block; alone and in tasks."""
    options, lane = OPTIONS[kind]
    if kind == "pre-ping" and people.engine.dialect.name == "mysql" and sqlalchemy.__version__ == "2.0.40":
        pytest.skip("this SQLAlchemy cannot ping asyncmy")
    async with Database(people.engine.url, name="pooled", **options) as db:
        repository = People(db)

        async def read(number: int) -> list[str]:
            first = await repository.get_one(number % 2 + 1)
            async with db.unit_of_work():
                second = await repository.where(Person.id == first.id).one()
            return [first.name, second.name]

        assert await read(0) == ["Ann", "Ann"]
        assert db.explain_lane(select(Person)).lane is lane
        found = await asyncio.gather(*(read(number) for number in range(TASKS)))
        assert found == [["Ann", "Ann"], ["Bob", "Bob"]] * (TASKS // 2)
        async with db.transaction():
            assert (await repository.get_one(1)).name == "Ann"
        assert db.pool_status().checked_out == 0


@pytest.mark.only("postgresql", reason="SQLite has no server to lose")
async def test_pre_ping_replaces_a_connection_before_a_read(
    people: Database, observer: Observer, dialogue: Dialogue
) -> None:
    """Whoever asks for that gets no error when the server has ended a connection."""
    async with Database(people.engine.url, name="pinged", pool_pre_ping=True, pool_size=1) as db:
        await People(db).get(1)
        async with db.transaction() as session:
            pid = await session.scalar(text(dialogue.connection))
        await observer.run(dialogue.end.format(pid))
        assert (await People(db).get_one(1)).name == "Ann"


@pytest.mark.only("postgresql", reason="a read of SQLite is over at once, or cannot be told apart")
async def test_exhausted_pool_names_the_reads_that_hold_it(people: Database) -> None:
    """On the driver lane there is no block to be named."""

    class Slow(Repository[Person]):
        """A read that takes longer than the pool waits."""

        @query.sql("SELECT 1 FROM pg_sleep(30)")
        async def sleeping(self) -> int: ...  # type: ignore[empty-body]  # the SQL is the body

    async with Database(people.engine.url, name="small", pool_size=1, max_overflow=0, pool_timeout=0.5) as db:
        await People(db).get(1)
        reader = asyncio.create_task(Slow(db).sleeping())
        while not db.pool_status().checked_out:  # noqa: ASYNC110  # nobody tells it
            await asyncio.sleep(0)
        with pytest.raises(PoolTimeoutError) as caught:
            await People(db).get(1)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert db.pool_status().checked_out == 0
        assert any("Slow.sleeping: for" in note and "pg_sleep" in note for note in caught.value.__notes__)


async def test_reads_beside_a_transaction_do_not_take_its_connection(people: Database) -> None:
    """A block that holds the only connection reads in it; nobody waits for ever."""
    async with Database(people.engine.url, name="small", pool_size=1, max_overflow=0, pool_timeout=1) as db:
        repository = People(db)
        await repository.get(1)
        async with db.transaction():
            assert (await repository.get_one(1)).name == "Ann"
            assert (await repository.where(Person.id == 2).one()).name == "Bob"
        async with db.unit_of_work():
            assert await repository.get(1) is await repository.get(1)
            async with db.transaction():
                assert await repository.get(1) is not None
                await repository.all()
        held = asyncio.Event()
        done = asyncio.Event()

        async def hold() -> None:
            async with db.transaction():
                await repository.all()
                held.set()
                await done.wait()

        holder = asyncio.create_task(hold())
        await held.wait()
        with pytest.raises(PoolTimeoutError) as caught:
            await repository.get(1)
        done.set()
        await holder
        notes = "\n".join(caught.value.__notes__)
        assert "hold" in notes or "block" in notes
        assert "While running query" in notes


async def test_everything_is_rolled_back_in_a_test(people: Database) -> None:
    """What is read in `rolled_back()` is what was written there."""
    repository = People(people)
    await repository.get(1)
    async with people.rolled_back():
        assert str(people.explain_lane(select(Person))).startswith("session lane: all work")
        await repository.add(Person(name="Gone"))
        assert [person.name for person in await repository.where(Person.name == "Gone").all()] == ["Gone"]
        async with people.transaction():
            assert await repository.where(Person.name == "Gone").count() == 1
    assert await repository.where(Person.name == "Gone").all() == []


def test_reads_of_several_event_loops_and_threads(database_url: URL) -> None:
    """Each loop has connections of its own; what is known of statements is for all."""
    db = Database(database_url)

    async def read() -> list[str]:
        accounts = Repository[Account](db)
        async with db.transaction():
            await accounts.all()
        async with db.unit_of_work():
            return [account.name for account in await accounts.where(Account.name == "Ann").all()]

    async def fill() -> None:
        await Repository[Account](db).add(Account(name="Ann"))

    asyncio.run(fill())
    assert asyncio.run(read()) == asyncio.run(read()) == ["Ann"]
    found: list[list[str]] = []
    threads = [Thread(target=lambda: found.append(asyncio.run(read()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["Ann"]] * 3
    asyncio.run(db.dispose())


def test_pools_of_two_loops(database_url: URL, caplog: pytest.LogCaptureFixture) -> None:
    """Each loop's connections go back to its own pool, however full the other one is."""
    db = Database(database_url, name="two loops", pool_size=2, max_overflow=8)

    async def read(tasks: int, rounds: int) -> None:
        for _ in range(rounds):
            await asyncio.gather(*(Repository[Account](db).get(1) for _ in range(tasks)))
        await db.dispose()

    asyncio.run(read(1, 1))
    threads = [Thread(target=lambda many=many: asyncio.run(read(many, 100 // many))) for many in (8, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [record.message for record in caplog.records if record.name.startswith("sqlalchemy.pool")] == []


async def test_listener_of_a_pool_that_was_replaced(
    people: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """It may ask the database itself, as those do that clean connections."""
    async with Database(people.engine.url, name="cleaned") as db:
        repository = People(db)
        await repository.get(1)
        await db.engine.dispose()
        cleaned: list[object] = []

        @event.listens_for(db.engine.sync_engine, "checkout")
        def clean(connection: Any, _entry: object, _proxy: object) -> None:  # noqa: ANN401  # of any driver
            cursor = connection.cursor()
            cursor.execute("SELECT 1")
            cleaned.append(cursor.fetchall())
            cursor.close()

        for _ in range(3):
            assert (await repository.get_one(1)).name == "Ann"

    assert len(cleaned) >= 3
    assert [record.message for record in caplog.records if record.name.startswith("sqlalchemy.pool")] == []


@pytest.mark.parametrize("lane", list(Lane))
@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_engine_that_was_used_before_its_database_was_made(
    database_url: URL, observer: Observer, lane: Lane, when: str
) -> None:
    """What was opened by then, or is in use just then, stores a row all the same, and undoes a block."""
    engine = create_async_engine(database_url, pool_size=1)
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(engine.connect())
        await connection.execute(select(Audit))
        if when == "before":
            await stack.aclose()
        db = Database(engine, name="given", fastest_lane=lane)
    async with db:
        await Repository[Audit](db).all()
        await Repository[Audit](db).add(Audit(note="kept"))
        assert await observer.notes(Audit) == ["kept"]
        with pytest.raises(StockError):
            async with db.transaction():
                await Repository[Audit](db).add(Audit(note="undone"))
                raise StockError

    assert await observer.notes(Audit) == ["kept"]


@pytest.mark.every_lane
async def test_write_whose_connection_does_not_go_back_is_stored(people: Database, lane: Lane) -> None:
    """What a listener of the pool raises afterwards is told as having come after the commit."""
    await People(people).get(1)
    fails: list[str] = []

    def fail(*_arguments: object) -> None:
        if fails:
            raise RuntimeError(fails.pop())

    event.listen(people.engine.sync_engine, "checkin", fail)
    new = Person(name="new")
    fails.append("at add")
    with pytest.raises(AfterCommitError, match="is committed"):
        await People(people).add(new)
    assert inspect(new).detached
    fails.append("at update")
    with pytest.raises(AfterCommitError, match="is committed"):
        await People(people).where(Person.id == new.id).update(name="newer")

    assert [each.name for each in await People(people).where(Person.id == new.id).all()] == ["newer"]


@pytest.mark.every_lane
async def test_listener_that_sends_something_at_the_check_out(people: Database, lane: Lane) -> None:
    """The driver may begin with that: what is written outside of blocks is stored all the same."""
    await People(people).get(1)

    def send(connection: Any, *_arguments: object) -> None:  # noqa: ANN401  # of SQLAlchemy's
        cursor = connection.cursor()
        cursor.execute("SELECT 7")
        cursor.close()

    event.listen(people.engine.sync_engine, "checkout", send)
    new = await People(people).add(Person(name="new"))
    await People(people).where(Person.id == new.id).update(age=7)
    event.remove(people.engine.sync_engine, "checkout", send)

    assert [each.age for each in await People(people).where(Person.name == "new").all()] == [7]
