"""What a repository does beside a block of another task waits for no such block, nor takes part in it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import URL, func, inspect, select

from tests.fixtures.observer import Observer
from tests.fixtures.people import Person
from unitwork import CursorRequest, Database, Propagation, Repository, TransactionRefusedError
from unitwork.options import Lane

MOMENT_S = 10
"""Long enough for anything that does not wait for itself."""

READS: dict[str, Callable[[Repository[Person]], Awaitable[object]]] = {
    "get": lambda persons: persons.get(1),
    "a statement": lambda persons: persons.where(Person.id == 1).all(),
    "a value": lambda persons: persons.count(),
    "with options": lambda persons: persons.get(1, options=()),
}


@pytest.mark.every_lane
@pytest.mark.parametrize(
    "propagation", [Propagation.REQUIRED, Propagation.REQUIRES_NEW, Propagation.SUPPORTS]
)
@pytest.mark.parametrize("way", READS)
async def test_read_that_a_block_waits_for_does_not_wait_for_it(
    people: Database, way: str, propagation: Propagation
) -> None:
    """A read that was started in a unit of work, and is awaited inside a block, ends before the block."""
    persons = Repository[Person](people)
    async with people.unit_of_work(atomic=False), asyncio.timeout(MOMENT_S):
        started = asyncio.ensure_future(READS[way](persons))
        async with people.transaction(propagation=propagation):
            await persons.first()
            found = await started

    assert found


@pytest.mark.every_lane
async def test_read_that_waits_for_its_turn_when_a_block_begins_goes_on_beside_it(people: Database) -> None:
    """Whoever waits for an operation of the unit, and finds a block there when it ends, waits no longer."""
    persons = Repository[Person](people)
    async with people.unit_of_work(atomic=False) as session, asyncio.timeout(MOMENT_S):
        entered = asyncio.Event()

        async def open_a_block() -> None:
            async with people.transaction():
                entered.set()
                await asyncio.gather(*reads)

        # The first has the turn when the block asks for it; the reads ask after the block.
        operation = asyncio.create_task(session.scalar(select(func.count()).select_from(Person)))
        block = asyncio.create_task(open_a_block())
        await asyncio.sleep(0)
        reads = [asyncio.create_task(persons.get_one(number)) for number in (1, 2, 3)]
        await asyncio.gather(operation, block)

    assert entered.is_set()
    assert [(await read).name for read in reads] == ["Ann", "Bob", "Cid"]


@pytest.mark.every_lane
@pytest.mark.parametrize("way", ["get", "first", "all", "in a unit", "pages"])
async def test_what_was_read_outside_of_a_transaction_is_readable(
    people: Database, database_url: URL, lane: Lane, way: str
) -> None:
    """Also where a commit expires entities: there was none, and nobody could load them again."""
    options = {"expire_on_commit": True}
    async with Database(database_url, name="expiring", session_options=options, fastest_lane=lane) as db:
        persons = Repository[Person](db)
        found: Person | None
        if way == "get":
            found = await persons.get(1)
        elif way == "first":
            found = await persons.first()
        elif way == "all":
            (found,) = await persons.where(Person.id == 1).all()
        elif way == "pages":
            found = (await persons.select().cursor_page(CursorRequest(size=1))).content[0]
        else:
            async with db.unit_of_work():
                found = await persons.get(1)
                await persons.count()

        assert found is not None
        assert found.name == "Ann"


@pytest.mark.every_lane
async def test_entities_of_a_read_beside_a_block_are_detached(people: Database) -> None:
    """The session is that of the block; what is read beside it is read as outside of the unit."""
    persons = Repository[Person](people)
    async with people.unit_of_work(atomic=False):
        started = asyncio.create_task(persons.get_one(1))
        async with people.transaction():
            own = await persons.get_one(1)
            beside = await started

    assert beside is not own
    assert inspect(beside).detached
    assert beside.name == "Ann"


@pytest.mark.every_lane
@pytest.mark.only("postgresql", "mariadb", reason="SQLite has one writer, which the block may be")
async def test_write_that_a_block_waits_for_commits_by_itself(people: Database, observer: Observer) -> None:
    """A write that was started in such a unit is a transaction of its own, whatever becomes of the block."""
    persons = Repository[Person](people)
    async with people.unit_of_work(atomic=False), asyncio.timeout(MOMENT_S):
        started = asyncio.create_task(persons.add(Person(name="beside")))
        with pytest.raises(LookupError):
            async with people.transaction():
                await persons.add(Person(name="inside"))
                await started
                raise LookupError

    assert "beside" in await observer.names(Person)
    assert "inside" not in await observer.names(Person)


@pytest.mark.every_lane
@pytest.mark.parametrize("way", ["add", "create", "add_all", "save"])
@pytest.mark.parametrize("propagation", [Propagation.SUPPORTS, Propagation.NOT_SUPPORTED, Propagation.NEVER])
async def test_read_only_block_without_a_transaction_refuses_to_write(
    people: Database, observer: Observer, propagation: Propagation, way: str
) -> None:
    """Read-only holds where each statement would commit by itself, too: nothing is sent."""
    persons = Repository[Person](people)
    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "add": lambda: persons.add(Person(name="new")),
        "create": lambda: persons.create(name="new"),
        "add_all": lambda: persons.add_all([Person(name="new")]),
        "save": lambda: persons.save(Person(name="new")),
    }
    async with people.transaction(propagation=propagation, read_only=True):
        with pytest.raises(TransactionRefusedError, match="is read-only"):
            await ways[way]()

    assert "new" not in await observer.names(Person)
