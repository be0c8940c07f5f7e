"""What the start of a program costs: `python benchmarks/start.py`.

Runs new interpreters, which take turns, and measures the processor time and the memory of each. Everything is
told as a ratio to `import sqlalchemy.ext.asyncio`: a program that uses unitwork imports that anyway. Modules
are read from compiled files, as in an installed program; those are made in a folder of their own first.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

SOURCES = Path(__file__).resolve().parents[1] / "src"
SQLALCHEMY = "import sqlalchemy.ext.asyncio"
MODEL = """
from sqlalchemy.orm import Mapped, mapped_column
from {base}
class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
"""
OURS = MODEL.format(base="unitwork import Base, Database, Repository, query")
HAND = f"{SQLALCHEMY}\n" + MODEL.format(
    base="sqlalchemy.orm import DeclarativeBase\nclass Base(DeclarativeBase): pass"
)
QUERIES = (
    OURS
    + """
class Users(Repository[User]):
    for number in range({count}):
        @query("email = :email")
        async def asked(self, email: str) -> User | None: ...
        asked.__name__ = f"asked_{{number}}"
        locals()[f"asked_{{number}}"] = asked
"""
)
ONE_READ = """
import asyncio
async def main():
    {make}
    async with db.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    {read}
    await db.engine.dispose()
asyncio.run(main())
"""
PROGRAMS: Mapping[str, str] = {
    "import sqlalchemy.ext.asyncio": SQLALCHEMY,
    "import unitwork": "import unitwork",
    "a model, by hand": HAND,
    "a model and a repository": OURS + "\nclass Users(Repository[User]): ...",
    "the same with 1,000 declared queries": QUERIES.format(count=1_000),
    "a program with one read on SQLite, by hand": (
        "import sqlalchemy.ext.asyncio as sa\nfrom types import SimpleNamespace\n"
        + HAND
        + ONE_READ.format(
            make="db = SimpleNamespace(engine=sa.create_async_engine('sqlite+aiosqlite://'))",
            read="async with sa.AsyncSession(db.engine) as session: await session.get(User, 1)",
        )
    ),
    "a program with one read on SQLite": OURS
    + ONE_READ.format(make="db = Database('sqlite+aiosqlite://')", read="await Repository[User](db).get(1)"),
}


class Cost(NamedTuple):
    """What one interpreter took: seconds of processor time, and bytes at the most."""

    cpu_s: float
    memory: float


def cost_of(program: str, environment: Mapping[str, str]) -> Cost:
    """Run a program in a new interpreter, which says by itself how much memory it has used."""
    told = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(  # noqa: S603  # programs of this module
        [sys.executable, "-c", program + told], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu_s, float(done.stdout))


def measured(rounds: int) -> dict[str, tuple[float, float]]:
    """Return the ratios of processor time and of memory, by program: the median of all rounds."""
    found: dict[str, list[Cost]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled, "PYTHONPATH": str(SOURCES)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for each in PROGRAMS.values():
            cost_of(each, environment)
        for number in range(rounds):
            names = list(PROGRAMS)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                found[name].append(cost_of(PROGRAMS[name], environment))
    first = found[next(iter(PROGRAMS))]
    return {
        name: (
            statistics.median(cost.cpu_s / base.cpu_s for cost, base in zip(costs, first, strict=True)),
            statistics.median(cost.memory / base.memory for cost, base in zip(costs, first, strict=True)),
        )
        for name, costs in found.items()
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31, help="How often each program is run.")
    print("| start | processor time | memory |\n| --- | --: | --: |")
    for name, (cpu, memory) in measured(parser.parse_args().rounds).items():
        print(f"| {name} | {cpu:.2f} | {memory:.2f} |")


if __name__ == "__main__":
    main()
