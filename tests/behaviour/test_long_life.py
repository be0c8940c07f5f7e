"""A process that lives long needs no more memory than one that has just warmed up."""

import asyncio
import gc
import weakref
from collections import Counter
from contextlib import suppress

import pytest
from sqlalchemy import or_

from benchmarks.long_life import allocated, growth, prepare
from tests.fixtures.people import Person
from unitwork import Database, Propagation, Repository, query
from unitwork._runtime.lanes.registry import room_for_statements

ROUNDS = 300
"""Each does a dozen things; `benchmarks/long_life.py` runs many more."""
TOLERATED_BLOCKS = 2
"""For each round. One entity that is kept is five; what else a process allocates is less than one."""


@pytest.mark.timeout(120)
async def test_memory_does_not_grow_with_use(db: Database) -> None:
    """Blocks, units of work, reads on each lane, writes, errors and cancellations."""
    await prepare(db)

    assert growth(await allocated(db, ROUNDS), ROUNDS) < TOLERATED_BLOCKS


@pytest.mark.only("sqlite", reason="what is kept does not depend on the database")
async def test_what_is_known_of_statements_is_bounded(people: Database) -> None:
    """Also when a program builds each statement anew, and all different."""

    def known() -> int:
        return sum(type(thing).__name__ == "CompiledRead" for thing in gc.get_objects())

    repository = Repository[Person](people)
    # SQLAlchemy's cache forgets when it has half more than its size, which grows with what is declared.
    most = room_for_statements() * 3 // 2
    before = known()
    for number in range(most + 500):
        # Another number of conditions, or another column: never the same statement.
        columns = [Person.id, Person.age, Person.name, Person.active]
        parts = [columns[(number >> shift) % 4].is_not(None) for shift in range(0, 12, 2)]
        await repository.where(or_(*parts)).order_by(columns[number % 4]).first()
    gc.collect()

    assert known() - before <= most


async def test_repositories_made_at_run_time_are_freed(people: Database) -> None:
    """With their declared queries: nothing keeps a class that nobody uses any more."""

    async def once() -> weakref.ref[type]:
        class Passing(Repository[Person]):
            """A repository of one call."""

            @query("age > :least")
            async def older(self, least: int) -> list[Person]: ...  # type: ignore[empty-body]  # the text is the body

        await Passing(people).older(3)
        async with people.transaction():
            await Passing(people).older(3)
        return weakref.ref(Passing)

    freed = [await once() for _ in range(5)]
    await asyncio.sleep(0)
    gc.collect()

    assert [each() for each in freed] == [None] * 5


async def test_what_has_ended_is_freed_without_the_collector(people: Database) -> None:
    """Blocks, savepoints and units of work, kept and undone: the collector would stop a busy process."""
    repository = Repository[Person](people)

    def alive() -> Counter[str]:
        kinds = (type(thing) for thing in gc.get_objects())
        return Counter(
            kind.__name__ for kind in kinds if str(kind.__module__).startswith("unitwork._runtime")
        )

    async def once() -> None:
        for propagation in (Propagation.REQUIRED, Propagation.SUPPORTS):
            async with people.transaction(propagation=propagation):
                await repository.get(1)
        async with people.transaction():
            async with people.transaction(propagation="NESTED"):
                await repository.add(Person(name="kept"))
            with suppress(LookupError):
                async with people.transaction(propagation="NESTED"):
                    await repository.add(Person(name="undone"))
                    raise LookupError
            people.set_rollback_only()
        async with people.unit_of_work():
            await repository.get(1)
            async with people.transaction():
                await repository.add(Person(name="of a unit"))

    await once()
    gc.collect()
    gc.disable()
    try:
        before = alive()
        await once()
        left = alive() - before
    finally:
        gc.enable()

    assert not left
