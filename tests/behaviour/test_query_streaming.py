"""Streams give row by row, in constant memory, and hold a connection only while they are read."""

# mypy: disable-error-code="empty-body"

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from sqlalchemy import URL, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tests.fixtures.people import Person, Tables
from unitwork import Database, OptionError, Repository, TransactionEndedError, query

ROWS = 3_000


class People(Repository[Person]):
    """Streams of each form."""

    @query("id > :least")
    async def above(self, least: int) -> AsyncIterator[Person]: ...

    @query.sql("SELECT name FROM person WHERE id > :least")
    def names(self, least: int) -> AsyncIterator[str]: ...

    @query("nope = 1")
    async def broken(self) -> AsyncIterator[Person]: ...


async def fill(people: Database, count: int = ROWS) -> None:
    """Many rows, each of some size."""
    async with people.transaction() as session:
        await session.execute(insert(Person), [{"name": f"n{number}" + "x" * 40} for number in range(count)])


async def until_free(people: Database) -> None:
    """Wait for what a stream that was left early has still to do."""
    async with asyncio.timeout(5):
        while people.pool_status().checked_out:  # noqa: ASYNC110  # the pool has no event for it
            await asyncio.sleep(0)


async def peak(stream: AsyncIterator[object]) -> int:
    """The most memory that reading a stream needs."""
    count = 0
    tracemalloc.start()
    async for _item in stream:
        count += 1
    needed = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count >= ROWS
    return needed


async def whole_memory(persons: People) -> int:
    """The memory that all rows at once need."""
    tracemalloc.start()
    everything = await persons.all()
    needed = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(everything) == ROWS + 3
    return needed


async def test_stream_gives_all_rows(people: Database) -> None:
    """Each row once, whatever the size of a batch; one connection, which comes back."""
    persons = People(people)
    for batch in (1, 2, 500):
        held = set()
        seen = []
        async for person in persons.select().order_by(Person.id).stream(batch=batch):
            seen.append(person.name)
            held.add(people.pool_status().checked_out)
        assert (seen, held) == (["Ann", "Bob", "Cid"], {1})
        assert people.pool_status().checked_out == 0


async def test_stream_needs_the_memory_of_a_batch(people: Database) -> None:
    """Many rows need not much more memory than few."""
    await fill(people)
    persons = People(people)

    await peak(persons.select().stream())  # caches
    streamed = await peak(persons.select().stream(batch=50))
    names = await peak(persons.names(0))
    whole = await whole_memory(persons)

    assert max(streamed, names) < whole / 3


@pytest.mark.only(
    "sqlite", "postgresql", reason="a connection of MariaDB has one open result: rows come at once"
)
async def test_stream_in_a_transaction_needs_the_memory_of_a_batch(people: Database) -> None:
    """The rows of an open block come batch by batch too."""
    await fill(people)
    persons = People(people)
    await peak(persons.select().stream())  # caches

    async with people.transaction():
        streamed = await peak(persons.select().stream(batch=50))

    assert streamed < await whole_memory(persons) / 3


async def test_early_break_gives_the_connection_back(people: Database) -> None:
    """A loop that is left early, by `break` or an exception, holds nothing afterwards."""
    await fill(people)
    persons = People(people)

    async for _person in await persons.above(0):
        break
    await until_free(people)
    with pytest.raises(ValueError, match="no"):
        async for _name in persons.names(0):
            raise ValueError("no")
    await until_free(people)

    async with aclosing(persons.select().stream(batch=2)) as stream:
        await anext(stream)
        assert people.pool_status().checked_out == 1
    assert people.pool_status().checked_out == 0
    assert await persons.count() == ROWS + 3


async def test_cancelled_stream_gives_the_connection_back(people: Database) -> None:
    """A task that is cancelled while it reads leaves nothing checked out."""
    await fill(people)
    reading = asyncio.Event()

    async def read() -> None:
        async for _person in People(people).select().stream(batch=1):
            reading.set()

    task = asyncio.create_task(read())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await until_free(people)
    assert await People(people).count() == ROWS + 3


async def test_stream_in_a_transaction_sees_its_writes(people: Database) -> None:
    """Inside a block the rows are those of its session, also those just written; others may work between."""
    persons = People(people)

    async with people.transaction() as session:
        await persons.create(name="Dan")
        seen = []
        async for person in persons.select().order_by(Person.id).stream(batch=1):
            seen.append(person)
            assert await persons.count() == 4
        assert seen[3] is await session.get(Person, seen[3].id)
        async for _person in persons.select().stream(batch=1):
            break
        assert await persons.count() == 4

    assert people.pool_status().checked_out == 0


async def test_stream_beside_other_work(people: Database) -> None:
    """Outside of a block the stream has a connection of its own; the loop's body may read and write."""
    persons = People(people)

    async for person in persons.select().order_by(Person.id).stream(batch=1):
        await persons.update(person.id, {"age": 1})

    assert await persons.where(Person.age == 1).count() == 3


@pytest.mark.parametrize("size", [1, 2])
async def test_stream_leaves_a_connection_to_its_loop(people: Database, database_url: URL, size: int) -> None:
    """Streams, one inside the other, never take the last connection that their loops could have."""
    async with Database(database_url, name="small", pool_size=size, max_overflow=0, pool_timeout=2) as db:
        persons = People(db)
        async for outer in persons.select().stream(batch=1):
            async for inner in persons.select().stream(batch=1):
                await persons.update(inner.id, {"age": outer.id})

        assert db.pool_status().checked_out == 0
        assert await persons.where(Person.age == 3).count() == 3


async def test_exhausted_pool_names_the_stream_that_has_a_connection(
    people: Database, database_url: URL
) -> None:
    """Whoever waits in vain is told of streams as of blocks: whose, for how long, and what was sent."""
    async with Database(database_url, name="small", pool_size=2, max_overflow=0, pool_timeout=0.1) as db:
        async with aclosing(People(db).select().stream(batch=1)) as stream, db.engine.connect():
            await anext(stream)
            with pytest.raises(PoolTimeoutError) as error:
                await People(db).count()

        notes = " ".join(error.value.__notes__)
        assert "the stream of tests.behaviour.test_query_streaming.People.stream: for 0." in notes
        assert "SELECT person.id" in notes


async def test_entities_of_a_stream_can_be_read_after_it(people: Database, database_url: URL) -> None:
    """Also where a commit expires entities: nobody could load them again."""
    options = {"expire_on_commit": True}
    async with Database(database_url, name="expiring", session_options=options) as db:
        seen = [person async for person in People(db).select().order_by(Person.id).stream(batch=1)]

        assert [person.name for person in seen] == ["Ann", "Bob", "Cid"]


async def test_stream_of_a_database_in_memory() -> None:
    """Its one connection is free for the loop's body."""
    async with Database("sqlite+aiosqlite:///:memory:", name="memory") as db:
        await db.create_all(Tables)
        persons = People(db)
        await persons.add_all([Person(name=name) for name in "abc"])

        async for person in persons.select().stream():
            await persons.update(person.id, {"age": 1})

        assert await persons.where(Person.age == 1).count() == 3


async def test_stream_writes_nothing(people: Database) -> None:
    """Outside of a block it is a read-only transaction; a bad batch is refused."""
    with pytest.raises(OptionError, match="a number from 1"):
        People(people).select().stream(batch=0)
    with pytest.raises(DBAPIError) as error:
        async for _person in await People(people).broken():
            pass

    assert any("People.broken on database 'default'" in note for note in error.value.__notes__)
    await until_free(people)


async def test_stream_of_a_given_session(people: Database) -> None:
    """On a session of yours the stream is its own; nothing is ended."""
    async with people.session_factory() as session:
        session.add(Person(name="Dan"))
        names = [name async for name in People(session).names(0)]
        await session.rollback()

    assert sorted(names) == ["Ann", "Bob", "Cid", "Dan"]
    assert await People(people).count() == 3


@pytest.mark.only("sqlite", "postgresql", reason="MariaDB has all rows by then")
async def test_stream_after_the_end_of_its_block(people: Database) -> None:
    """A stream that outlives its block is refused, not read from nowhere."""
    await fill(people, 100)
    async with people.transaction():
        stream = People(people).select().stream(batch=1)
        await anext(stream)

    with pytest.raises(TransactionEndedError):
        async for _person in stream:
            pass
    await until_free(people)
