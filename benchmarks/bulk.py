"""How fast many rows are written: `python benchmarks/bulk.py`. Ratios, in rounds that take turns.

Every number is the time of `bulk_insert`, or its peak of memory, divided by that of the way named; below 1
is faster or smaller. The goals are those of the project.
"""

import asyncio
import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# As a program, this folder is first on the path: its modules are those of the package `benchmarks`, and what
# is measured is the tree that it stands in, not a unitwork that is installed.
sys.path[:1] = [str(Path(__file__).resolve().parents[1] / each) for each in ("src", "")]

import click  # noqa: E402  # after the path
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from sqlalchemy import MetaData, String, text  # noqa: E402
from sqlalchemy.dialects import mysql, postgresql, sqlite  # noqa: E402
from sqlalchemy.orm import Mapped, mapped_column  # noqa: E402

from benchmarks.environments import NotAvailableError  # noqa: E402
from benchmarks.servers import running  # noqa: E402
from unitwork import Base, Database, Repository  # noqa: E402

Way = Callable[[], Awaitable[object]]
Row = tuple[int, str, str, bool]

NAMES = ("id", "name", "email", "active")
DATABASES = ("postgresql", "sqlite", "mariadb")
_WORDS: dict[str, Any] = {"postgresql": postgresql, "sqlite": sqlite, "mariadb": mysql}


class Guest(Base):
    """A row as most are: a key, two texts of which one is unique, a truth value."""

    __tablename__ = "guest"
    metadata = MetaData()

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str] = mapped_column(String(200), unique=True)
    active: Mapped[bool] = mapped_column(default=True)


class Guests(Repository[Guest]):
    """The door to guests."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One comparison, and the ratio that is to be reached."""

    what: str
    against: str
    most: float | None = None


GOALS: dict[str, list[Goal]] = {
    "postgresql": [
        Goal("insert", "copy_records_to_table", 1.25),
        Goal("insert", "add_all", 0.10),
        Goal("upsert", "COPY + INSERT ON CONFLICT", 1.2),
        Goal("upsert", "SQLAlchemy's ON CONFLICT", 0.55),
        Goal("insert, returning", "add_all"),
        Goal("insert, returning", "copy_records_to_table", 4),
    ],
    "sqlite": [
        Goal("insert", "executemany", 1.25),
        Goal("insert", "add_all"),
        Goal("upsert", "SQLAlchemy's ON CONFLICT"),
        Goal("insert, returning", "add_all"),
    ],
    "mariadb": [
        Goal("insert", "executemany"),
        Goal("insert", "add_all", 0.5),
        Goal("upsert", "SQLAlchemy's ON CONFLICT"),
        Goal("insert, returning", "add_all"),
    ],
}
MEMORY_GOAL = 0.05


def rows(count: int) -> Iterator[Row]:
    """The rows themselves."""
    return ((n, f"name {n}", f"guest{n}@example.com", n % 2 == 0) for n in range(count))


class Ways:
    """The ways to write so many rows to one database. Lives: one size of one database."""

    def __init__(self, db: Database, database: str, count: int) -> None:
        self.db = db
        self.database = database
        self.count = count
        self.guests = Guests(db)
        self.tuples = list(rows(count))
        self.mappings = [dict(zip(NAMES, row, strict=True)) for row in self.tuples]

    def all(self) -> dict[str, Way]:
        """Each way by its name."""
        ways: dict[str, Way] = {
            "insert": self.insert,
            "upsert": self.upsert,
            "insert, returning": self.insert_returning,
            "add_all": self.add_all,
            "SQLAlchemy's ON CONFLICT": self.sqlalchemy_upsert,
        }
        if self.database == "postgresql":
            ways["copy_records_to_table"] = self.copy
            ways["COPY + INSERT ON CONFLICT"] = self.copy_and_insert
        else:
            ways["executemany"] = self.executemany
        return ways

    async def prepare(self, way: str) -> None:
        """Empty the table; half of the rows are there before an upsert."""
        async with self.db.engine.begin() as connection:
            await connection.execute(
                text("DELETE FROM guest" if self.database == "sqlite" else "TRUNCATE guest")
            )
        if way == "upsert" or "ON CONFLICT" in way:
            await self.guests.bulk_insert(self.mappings[: self.count // 2], returning=False)

    async def insert(self) -> None:
        """Ours, from the same tuples as the driver."""
        await self.guests.bulk_insert(self.tuples, columns=NAMES, returning=False)

    async def insert_returning(self) -> None:
        """Ours, with entities."""
        await self.guests.bulk_insert(self.mappings)

    async def insert_generated(self) -> None:
        """Ours, from a generator of mappings."""
        generated = (dict(zip(NAMES, row, strict=True)) for row in rows(self.count))
        await self.guests.bulk_insert(generated, returning=False)

    async def upsert(self) -> None:
        """Ours, with conflicts."""
        await self.guests.bulk_insert(
            self.tuples, columns=NAMES, returning=False, on_conflict="update", index_elements=["email"]
        )

    async def add_all(self) -> None:
        """The ORM's unit of work."""
        async with self.db.transaction() as session:
            session.add_all([Guest(**row) for row in self.mappings])
            await session.flush()

    async def sqlalchemy_upsert(self) -> None:
        """The ORM's bulk insert with a conflict clause."""
        statement = _WORDS[self.database].insert(Guest)
        if self.database == "mariadb":
            new = statement.inserted
            statement = statement.on_duplicate_key_update(name=new.name, active=new.active)
        else:
            new = statement.excluded
            values = {"name": new.name, "active": new.active}
            statement = statement.on_conflict_do_update(index_elements=["email"], set_=values)
        async with self.db.transaction() as session:
            await session.execute(statement, self.mappings)

    async def copy(self) -> None:
        """The driver's COPY."""
        async with self.db.engine.begin() as connection:
            await connection.execute(text("SELECT 1"))
            driver = await self._driver(connection)
            await driver.copy_records_to_table("guest", records=self.tuples)

    async def copy_and_insert(self) -> None:
        """The driver's COPY to a temporary table, and one INSERT."""
        async with self.db.engine.begin() as connection:
            await connection.execute(
                text("CREATE TEMPORARY TABLE staged ON COMMIT DROP AS SELECT * FROM guest WITH NO DATA")
            )
            driver = await self._driver(connection)
            await driver.copy_records_to_table("staged", records=self.tuples)
            await connection.execute(
                text(
                    "INSERT INTO guest SELECT * FROM staged ON CONFLICT (email)"
                    " DO UPDATE SET name = excluded.name, active = excluded.active"
                )
            )

    async def executemany(self) -> None:
        """The driver's executemany."""
        mark = "?" if self.database == "sqlite" else "%s"
        sql = f"INSERT INTO guest (id, name, email, active) VALUES ({', '.join([mark] * 4)})"
        async with self.db.engine.begin() as connection:
            driver = await self._driver(connection)
            cursor = await driver.cursor() if self.database == "sqlite" else driver.cursor()
            await cursor.executemany(sql, self.tuples)
            await cursor.close()

    async def _driver(self, connection: Any) -> Any:  # noqa: ANN401  # of any driver
        return (await connection.get_raw_connection()).driver_connection


@dataclass(slots=True)
class Times:
    """The seconds of each way, round by round, and the peak of memory of two of them."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)

    def ratio(self, goal: Goal) -> float:
        """The median of the ratios of all rounds."""
        pairs = zip(self.seconds[goal.what], self.seconds[goal.against], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)


async def measure(url: str, database: str, count: int, rounds: int) -> Times:
    """Let each way write the rows in each round; and once more, looking at memory."""
    times = Times()
    async with Database(url, name=f"bulk {database} {count}") as db:
        await db.drop_all(Guest.metadata)
        await db.create_all(Guest.metadata)
        ways = Ways(db, database, count)
        for _ in range(rounds):
            for name, way in ways.all().items():
                await ways.prepare(name)
                gc.collect()
                started = time.perf_counter()
                await way()
                times.seconds.setdefault(name, []).append(time.perf_counter() - started)
        for name, way in {"add_all": ways.add_all, "generator": ways.insert_generated}.items():
            await ways.prepare(name)
            gc.collect()
            tracemalloc.start()
            await way()
            times.memory[name] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    return times


def show(console: Console, database: str, count: int, times: Times) -> bool:
    """Print the ratios; say whether all goals are reached."""
    table = Table(title=f"{database}, {count:,} rows", title_justify="left")
    for heading in ("ours", "against", "ratio", "goal", "ms"):
        table.add_column(heading, justify="left" if heading in ("ours", "against") else "right")
    reached = True
    for goal in GOALS[database]:
        ratio = times.ratio(goal)
        fine = goal.most is None or ratio <= goal.most
        reached = reached and fine
        shown = f"{ratio:.3f}" if fine else f"[bold red]{ratio:.3f}[/]"
        milliseconds = statistics.median(times.seconds[goal.what]) * 1000
        table.add_row(goal.what, goal.against, shown, str(goal.most or ""), f"{milliseconds:.0f}")
    peak = times.memory["generator"] / times.memory["add_all"]
    table.add_row("peak memory, generator", "add_all", f"{peak:.3f}", str(MEMORY_GOAL), "")
    console.print(table)
    return reached and peak <= MEMORY_GOAL


@click.command()
@click.option("--only", type=click.Choice(DATABASES), multiple=True, help="Only these databases.")
@click.option("--rows", "counts", type=int, multiple=True, default=(10_000, 100_000), show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(only: tuple[str, ...], counts: tuple[int, ...], rounds: int) -> None:
    """Compare `bulk_insert` with drivers and with SQLAlchemy. Exit code 1 if a goal is missed."""
    console = Console()
    reached = True
    for database in only or DATABASES:
        try:
            with running(database) as (place, version):
                console.print(f"[bold]{version}[/]")
                for count in counts:
                    times = asyncio.run(measure(place.sqlalchemy_url(), database, count, rounds))
                    reached = show(console, database, count, times) and reached
        except NotAvailableError as reason:
            console.print(f"{database} is left out: {reason}")
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
