"""What a repository does beside a block of another task waits for no such block, nor takes part in it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import inspect

from tests.fixtures.observer import Observer
from tests.fixtures.people import Person
from unitwork import Database, Propagation, Repository, TransactionRefusedError

MOMENT_S = 10
"""Long enough for anything that does not wait for itself."""

READS: dict[str, Callable[[Repository[Person]], Awaitable[object]]] = {
    "get": lambda persons: persons.get(1),
    "a statement": lambda persons: persons.where(Person.id == 1).all(),
    "a value": lambda persons: persons.count(),
    "with options": lambda persons: persons.get(1, options=()),
}


@pytest.mark.every_lane
@pytest.mark.parametrize("way", READS)
async def test_read_that_a_block_waits_for_does_not_wait_for_it(people: Database, way: str) -> None:
    """A read that was started in a unit of work, and is awaited inside a block, ends before the block."""
    persons = Repository[Person](people)
    async with people.unit_of_work(atomic=False), asyncio.timeout(MOMENT_S):
        started = asyncio.ensure_future(READS[way](persons))
        async with people.transaction():
            await persons.first()
            found = await started

    assert found


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
