"""A read that fails or is cancelled on a faster lane ends as it would through the session."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import URL, Integer, Select, func, literal, select, text
from sqlalchemy.exc import DBAPIError

from tests.behaviour.test_transaction_cancellation import (
    MOST_AWAITS,
    STRIKES,
    Striking,
    cancel_current_task,
    completion,
)
from tests.fixtures.dialogue import Dialogue
from tests.fixtures.leaks import left_in_context
from tests.fixtures.observer import Observer
from tests.fixtures.people import Person
from unitwork import Database, Propagation, Repository, query
from unitwork.options import Lane

Around = Callable[[Database], AbstractAsyncContextManager[Any]]
Reading = Callable[["People"], Awaitable[object]]
POSTGRESQL = pytest.mark.only("postgresql", reason="as the server tells it")


class People(Repository[Person]):
    """The door to persons, with reads that can fail."""

    @query.scalar
    def divided(self, by: int) -> Select[int]:
        return select(literal(1, Integer) / by)

    @query.scalar
    def unknown(self) -> Select[int]:
        return select(func.no_such_function(1))

    @query.sql("SELECT nobody FROM person WHERE id = :least")
    async def misspelt(self, least: int) -> list[int]: ...  # type: ignore[empty-body]  # the SQL is the body

    @query.sql("SELECT * FROM person ORDER BY id")
    async def everything(self) -> list[dict[str, Any]]: ...  # type: ignore[empty-body]  # as above


@asynccontextmanager
async def nothing(db: Database) -> AsyncIterator[None]:
    """No block."""
    del db
    yield


@asynccontextmanager
async def savepoint(db: Database) -> AsyncIterator[None]:
    """A block in a block."""
    async with db.transaction(), db.transaction(propagation=Propagation.NESTED):
        yield


PLACES: dict[str, Around] = {
    "outside": nothing,
    "unit": lambda db: db.unit_of_work(),
    "block": lambda db: db.transaction(),
    "read-only": lambda db: db.transaction(read_only=True),
    "savepoint": savepoint,
}
READS: dict[str, Reading] = {
    "unknown function": lambda people: people.unknown(),
    "unknown column": lambda people: people.misspelt(1),
    "wrong type of key": lambda people: people.get("no number"),
    "wrong type of value": lambda people: people.find_by(seen="no time"),
    "division": lambda people: people.divided(0),
}

pytestmark = pytest.mark.timeout(120)
places = pytest.mark.parametrize("place", list(PLACES))


_LINE = re.compile(r"(?<=\.py:)\d+")
# SQLAlchemy 2.0 labels the columns of `Session.get`.
_LABEL = re.compile(r"(?<=\w) AS person_\w+")


async def told(work: Awaitable[object]) -> object:
    """All that a program can see of the end of some work."""
    try:
        return ("returned", await work)
    except Exception as error:  # noqa: BLE001  # told
        original = type(getattr(error, "orig", None))
        shown = [
            _LABEL.sub("", _LINE.sub("", str(part))) for part in (error, *getattr(error, "__notes__", ()))
        ]
        return (type(error), original, shown, getattr(error, "connection_invalidated", None))


@asynccontextmanager
async def on_lane(url: URL, lane: Lane) -> AsyncIterator[Database]:
    """A Database of its own, always with the same name."""
    async with Database(url, name="lanes", fastest_lane=lane, pool_size=2) as db:
        yield db
        assert db.pool_status().checked_out == 0
        assert left_in_context() == {}
        assert (await People(db).get(1)) is not None


async def ends(url: URL, around: Around, read: Reading) -> list[object]:
    """How a read ends on each lane, the second time too, and what can be read afterwards."""

    async def work(db: Database) -> object:
        async with around(db):
            return await read(People(db))

    async def both(db: Database) -> object:
        async with around(db):
            with suppress(Exception):
                await read(People(db))
            return await People(db).count()

    ended: list[object] = []
    for lane in Lane:
        async with on_lane(url, lane) as db:
            await People(db).get(1)
            ended.append([await told(work(db)), await told(work(db)), await told(both(db))])
    return ended


@places
@pytest.mark.parametrize("read", list(READS))
async def test_failure_is_told_in_the_same_words(people: Database, read: str, place: str) -> None:
    """Class, message, notes, and what the block can do afterwards."""
    driver, fused, session = await ends(people.engine.url, PLACES[place], READS[read])

    assert fused == session
    assert driver == session


@places
@POSTGRESQL
async def test_table_that_was_dropped(people: Database, observer: Observer, place: str) -> None:
    """After a read that went well."""

    async def read(repository: People) -> object:
        await observer.run("ALTER TABLE person RENAME TO gone")
        try:
            return await repository.all()
        finally:
            await observer.run("ALTER TABLE gone RENAME TO person")

    driver, fused, session = await ends(people.engine.url, PLACES[place], read)

    assert fused == session
    assert driver == session


@places
@POSTGRESQL
async def test_connections_that_were_ended_by_the_server(
    people: Database, observer: Observer, dialogue: Dialogue, place: str
) -> None:
    """The read tells it, if it was sent at all, and the next one has a new connection."""
    tell = text(dialogue.connection)

    async def work(db: Database) -> object:
        async with PLACES[place](db):
            return await People(db).get(1)

    notes: list[list[str]] = []
    for lane in Lane:
        async with on_lane(people.engine.url, lane) as db:
            await People(db).get(1)
            async with db.transaction() as session:
                number = await session.scalar(tell)
            await observer.run(dialogue.end.format(number))
            try:
                await work(db)
            except DBAPIError as error:
                notes.append([_LINE.sub("", note) for note in error.__notes__])
            assert await work(db) is not None

    # Where the driver knows already that its connection is dead, another one was taken, and nothing is told.
    assert all(each == notes[0] for each in notes)


@POSTGRESQL
@pytest.mark.every_lane
async def test_columns_that_changed_between_reads(people: Database, observer: Observer) -> None:
    """Of statements that the server has prepared: right values, or an error once, never wrong ones."""
    repository = People(people)
    for _ in range(8):
        assert (await repository.where(Person.id == 1).one()).name == "Ann"
        assert (await repository.everything())[0]["name"] == "Ann"
    await observer.run("ALTER TABLE person ADD COLUMN more integer")
    assert (await repository.where(Person.id == 1).one()).name == "Ann"
    with suppress(DBAPIError):
        assert (await repository.everything())[0]["more"] is None
    assert (await repository.everything())[0]["more"] is None
    await observer.run("ALTER TABLE person ALTER COLUMN age TYPE bigint")
    with suppress(DBAPIError):
        assert (await repository.where(Person.id == 1).one()).age == 30
    assert (await repository.where(Person.id == 1).one()).age == 30
    assert people.pool_status().checked_out == 0


@pytest.mark.parametrize("lane", [Lane.DRIVER, Lane.FUSED], indirect=True, ids=["driver", "fused"])
@pytest.mark.parametrize("strikes", list(STRIKES))
async def test_cancelled_at_every_await_leaves_nothing_behind(
    people: Database, lane: Lane, strikes: str
) -> None:
    """Reads outside, in a unit of work and in a block."""
    del lane
    repository = People(people)

    async def program() -> None:
        await repository.get(1)
        async with people.unit_of_work():
            await repository.where(Person.id > 0).all()
            await repository.get(2)
            async with people.transaction():
                await repository.where(Person.id > 0).all()
            await repository.count()

    for at in range(1, MOST_AWAITS, 1 if strikes == "once" else 3):
        striking = Striking(program(), STRIKES[strikes](at), cancel_current_task)
        task = asyncio.create_task(completion(striking))
        await asyncio.wait({task})

        assert people.pool_status().checked_out == 0
        assert left_in_context() == {}
        assert (await repository.get(1)) is not None
        async with people.transaction():
            assert (await repository.get(1)) is not None
        if striking.seen < at:
            task.result()
            return
        assert task.cancelled(), task.exception()
    pytest.fail("the program has more awaits than this test expects")


@places
async def test_cancelled_read_is_stopped(
    people: Database, observer: Observer, dialogue: Dialogue, place: str
) -> None:
    """Nobody waits for it: not the caller, and not the server."""

    class Slow(Repository[Person]):
        """A read that takes longer than any test."""

        @query.sql(dialogue.slow)
        async def slow(self) -> list[Any]: ...  # type: ignore[empty-body]  # the SQL is the body

    async def work() -> None:
        async with PLACES[place](people):
            await Slow(people).slow()

    await People(people).get(1)
    task = asyncio.create_task(work())
    await asyncio.sleep(0.1)
    assert not task.done()
    task.cancel()

    async with asyncio.timeout(8):
        with pytest.raises(asyncio.CancelledError):
            await task
        while await observer.scalar(dialogue.running):  # noqa: ASYNC110  # the server tells no other way
            await asyncio.sleep(0.05)
    assert people.pool_status().checked_out == 0
    assert (await People(people).get(1)) is not None
