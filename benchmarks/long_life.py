"""How much memory a long life costs: `python benchmarks/long_life.py`; none must be lost.

Runs blocks and queries of all kinds in one process, 100,000 times unless told otherwise, and shows what is
allocated now and then. Fails when it grows after the first tenth. `--url` names another database than SQLite.
"""

# ruff: noqa: D102 - a declared query says what it does

import argparse
import asyncio
import gc
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

# As a program, this folder is first on the path: its modules are those of the package `benchmarks`, and what
# is measured is the tree that it stands in, not a unitwork that is installed.
sys.path[:1] = [str(Path(__file__).resolve().parents[1] / each) for each in ("src", "")]

from benchmarks.card import Card  # noqa: E402  # after the path
from benchmarks.model import Base, Person, Signup  # noqa: E402  # as above
from unitwork import Database, PageRequest, Propagation, Repository, query  # noqa: E402  # as above

ROUNDS = 100_000
PARTS = 10
PEOPLE = 20
RARELY = 10
TOLERATED_BLOCKS = 0.1
"""Allocated blocks per round that are noise: caches of the interpreter and of SQLAlchemy that fill up."""


class People(Repository[Person]):
    """Reads of all lanes."""

    @query("age >= :least")
    async def of_age(self, least: int) -> list[Person]: ...  # type: ignore[empty-body]  # the text is the body

    @query("id = :id")
    async def card(self, id: int) -> Card: ...  # type: ignore[empty-body]  # noqa: A002  # as above, as its column

    @query.sql("SELECT count(*) FROM person WHERE nobody = :value")
    async def wrong(self, value: int) -> int: ...  # type: ignore[empty-body]  # as above


class Signups(Repository[Signup]):
    """Writes."""


async def prepare(db: Database) -> None:
    """Create the tables, with some rows."""
    await db.create_all(Base)
    rows = [{"name": f"n{n}", "email": f"e{n}", "age": n, "city": "c"} for n in range(1, PEOPLE + 1)]
    await People(db).add_all([Person(id=number, **row) for number, row in enumerate(rows, 1)])


async def once(db: Database, number: int) -> None:
    """One round of all that a program does, with other values each time."""
    people, signups = People(db), Signups(db)
    key = number % PEOPLE + 1
    await people.get(key)
    await people.card(key)
    await people.where(Person.age > key, Person.name != f"x{number}").order_by(Person.id).all()
    await people.where().page(PageRequest(page=number % 3, size=5))
    async with db.unit_of_work():
        person = await people.get_one(key)
        person.city = f"c{number}"
        await db.commit()
    async with db.transaction():
        await people.of_age(key)
        added = await signups.add(Signup(email=f"{number}@example.com", name="x"))
        async with db.transaction(propagation=Propagation.NESTED):
            await signups.count()
        await signups.delete(added)
    with suppress(Exception):
        await people.wrong(number)
    if number % RARELY == 0:
        await cancelled(people, key)


async def cancelled(people: People, key: int) -> None:
    """Cancel a read; on PostgreSQL its connection is gone with it."""
    task = asyncio.create_task(people.get(key))
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def allocated(db: Database, rounds: int) -> list[int]:
    """The blocks that are allocated after each tenth of so many rounds."""
    counts = []
    for part in range(PARTS):
        for number in range(rounds // PARTS):
            await once(db, part * rounds + number)
        gc.collect()
        counts.append(sys.getallocatedblocks())
    return counts


def growth(counts: list[int], rounds: int) -> float:
    """How many blocks each round has left, in the second half, where all caches are full."""
    half = counts[PARTS // 2 :]
    return (min(half[-2:]) - min(half[:2])) / (rounds / PARTS * (len(half) - 2))


async def main() -> None:
    """Run, show, and fail if memory grows."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rounds", type=int, default=ROUNDS)
    asked.add_argument("--url")
    chosen = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with Database(chosen.url or f"sqlite+aiosqlite:///{folder}/life.db", name="life") as db:
            await prepare(db)
            counts = await allocated(db, chosen.rounds)
    grown = growth(counts, chosen.rounds)
    print("allocated blocks:", *counts)  # a program
    print(f"{grown:.3f} blocks per round")  # as above
    if grown > TOLERATED_BLOCKS:
        raise SystemExit("memory grows")


if __name__ == "__main__":
    asyncio.run(main())
