"""How cost grows: `python benchmarks/growth.py`. With tasks, with declared queries, with rows.

Starts a PostgreSQL of its own, measures unitwork and code written by hand in rounds that take turns, prints
the tables of `docs/explanation/speed.md` and draws `docs/explanation/growth.svg`. All numbers are ratios.
"""

import asyncio
import math
import statistics
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import new_class
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:1] = [str(ROOT / "src"), str(ROOT)]

import click  # noqa: E402  # after the path
from sqlalchemy import text  # noqa: E402  # after the path
from sqlalchemy.ext.asyncio import async_sessionmaker  # noqa: E402  # after the path

from benchmarks.model import Person  # noqa: E402  # after the path
from benchmarks.servers import running  # noqa: E402  # after the path
from unitwork import Database, Repository, query  # noqa: E402  # after the path

TASKS = (1, 16, 64, 256)
CONNECTIONS = 10
"""Of the pool, which more tasks than that wait for."""
QUERIES = (10, 30, 100, 300, 1_000)
ROWS = (1, 100, 10_000, 1_000_000)
BATCH = 500
ROUNDS = 5
CALLS = 1_024
PEAK_ROWS = 100_000
"""Of more rows the memory is not looked at: looking takes ten times as long as reading."""
CHART = ROOT / "docs" / "explanation" / "growth.svg"

Call = Callable[[int], Awaitable[object]]


class People(Repository[Person]):
    """Reads one, or as many as one likes."""

    @query.sql("SELECT n FROM generate_series(1, :rows) AS n")
    def numbers(self, rows: int) -> AsyncIterator[int]:  # type: ignore[empty-body]  # declared
        """Numbers from 1 on."""


@dataclass(frozen=True)
class Line:
    """One line of a chart: what it shows, and its points."""

    title: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One chart: what grows, what it costs, and whose."""

    title: str
    along: str
    lines: list[Line]


class Sides:
    """unitwork and code written by hand, on one engine. Lives: one run."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.people = People(db)
        self.session = async_sessionmaker(db.engine, expire_on_commit=False)

    async def get(self, number: int) -> object:
        """A get by key."""
        return await self.people.get(number)

    async def get_by_hand(self, number: int) -> object:
        """The same with a session."""
        async with self.session() as session, session.begin():
            return await session.get(Person, number)

    async def streamed(self, rows: int) -> int:
        """Read that many rows, and count them."""
        return sum([1 async for _number in self.people.numbers(rows)])

    async def streamed_by_hand(self, rows: int) -> int:
        """The same with a session."""
        sql = text("SELECT n FROM generate_series(1, :rows) AS n")
        async with self.session() as session, session.begin():
            options = {"yield_per": BATCH}
            found = await session.stream_scalars(sql, {"rows": rows}, execution_options=options)
            return sum([1 async for _number in found])


async def together(call: Call, tasks: int) -> tuple[float, float]:
    """Let tasks call at once; return the CPU time of a call, and the p99 of how long one takes."""
    waits: list[float] = []

    async def repeat(task: int) -> None:
        for number in range(CALLS // tasks):
            began = time.perf_counter()
            await call((task * 7 + number) % 1_999 + 1)
            waits.append(time.perf_counter() - began)

    cpu = time.process_time()
    await asyncio.gather(*map(repeat, range(tasks)))
    return (time.process_time() - cpu) / CALLS, sorted(waits)[int(len(waits) * 0.99) - 1]


async def with_tasks(sides: Sides) -> Panel:
    """How the price of a get by key, and the time of the slowest, grow with tasks on ten connections."""
    cpu: list[tuple[float, float]] = []
    slowest: list[tuple[float, float]] = []
    for tasks in TASKS:
        rounds = []
        await together(sides.get, tasks)
        await together(sides.get_by_hand, tasks)
        for _ in range(ROUNDS):
            ours, hand = await together(sides.get, tasks), await together(sides.get_by_hand, tasks)
            rounds.append((ours[0] / hand[0], ours[1] / hand[1]))
        cpu.append((tasks, statistics.median(one for one, _wait in rounds)))
        slowest.append((tasks, statistics.median(wait for _one, wait in rounds)))
    lines = [Line("CPU time of a call", cpu), Line("p99 of its duration", slowest)]
    return Panel("get by key, relative to by hand", f"tasks, on {CONNECTIONS} connections", lines)


def declared(count: int, db: Database) -> list[Callable[[int], Awaitable[object]]]:
    """Declare queries that differ, and return them as calls."""
    names: dict[str, Any] = {}
    for number in range(count):

        async def found(self: Any, key: int) -> Person | None: ...  # noqa: ANN401  # as declared ones

        found.__name__ = found.__qualname__ = f"by_key_{number}"
        names[f"by_key_{number}"] = query(f"id = :key AND {number} = {number}")(found)
    body = {**names, "__module__": __name__}
    many = new_class(f"Many{count}", (Repository[Person],), exec_body=lambda space: space.update(body))
    repository = many(db)
    return [getattr(repository, name) for name in names]


async def with_queries(sides: Sides) -> Panel:
    """How the price of a declared query grows with how many there are, called in turn."""
    points = []
    base = 0.0
    for count in QUERIES:
        queries = declared(count, sides.db)
        costs = []
        for number in range(ROUNDS + 2):
            calls = max(1, CALLS // count)
            cpu = time.process_time()
            for _ in range(calls):
                for asked in queries:
                    await asked(number + 1)
            costs.append((time.process_time() - cpu) / calls / count)
        cost = statistics.median(costs[2:])
        base = base or cost
        points.append((float(count), cost / base))
    lines = [Line("CPU time of a call", points)]
    return Panel(f"declared queries in turn, relative to {QUERIES[0]}", "declared queries", lines)


async def with_rows(sides: Sides) -> Panel:
    """How the price of a row, and the memory of all, grow with how many are streamed."""
    cpu: list[tuple[float, float]] = []
    memory: list[tuple[float, float]] = []
    for rows in ROWS:
        pairs = []
        for _ in range(ROUNDS if rows < PEAK_ROWS else 3):
            times = []
            for stream in (sides.streamed, sides.streamed_by_hand):
                repeats = max(1, 2_000 // rows)
                began = time.process_time()
                for _ in range(repeats):
                    await stream(rows)
                times.append((time.process_time() - began) / repeats)
            pairs.append(times[0] / times[1])
        cpu.append((rows, statistics.median(pairs)))
        if rows <= PEAK_ROWS:
            peaks = [await _peak(stream, rows) for stream in (sides.streamed, sides.streamed_by_hand)]
            memory.append((rows, peaks[0] / peaks[1]))
    lines = [Line("CPU time", cpu), Line("peak memory", memory)]
    return Panel("rows streamed, relative to by hand", "rows", lines)


async def _peak(stream: Callable[[int], Awaitable[object]], rows: int) -> int:
    tracemalloc.start()
    await stream(rows)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


# -- what is shown -----------------------------------------------------------------------------------


def table(panel: Panel) -> str:
    """Write one chart as a Markdown table."""
    head = f"| {panel.title} | {panel.along} | " + " | ".join(line.title for line in panel.lines) + " |"
    rows = [head, "| --- | --: |" + " --: |" * len(panel.lines)]
    known = [dict(line.points) for line in panel.lines]
    for count in known[0]:
        cells = (f"{points[count]:.2f}" if count in points else "" for points in known)
        rows.append(f"| | {count:,.0f} | {' | '.join(cells)} |")
    return "\n".join(rows)


_WIDTH, _HEIGHT, _LEFT, _TOP, _BETWEEN = 260, 170, 50, 46, 60
_LOW, _HIGH = 0.05, 4.0
_COLOURS = ("#1f7a4d", "#d97706")


def svg(panels: Sequence[Panel]) -> str:
    """Draw the charts beside each other: both axes logarithmic, 1 marked."""
    width = _LEFT + len(panels) * (_WIDTH + _BETWEEN)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_TOP + _HEIGHT + 60}"'
            ' font-family="sans-serif" font-size="10" role="img">'
        ),
        "<title>How cost grows with tasks, declared queries and rows</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for place, panel in enumerate(panels):
        parts += _drawn(panel, _LEFT + place * (_WIDTH + _BETWEEN))
    return "\n".join([*parts, "</svg>\n"])


def _drawn(panel: Panel, left: float) -> list[str]:
    bottom = _TOP + _HEIGHT
    most = max(count for line in panel.lines for count, _value in line.points)
    least = min(count for line in panel.lines for count, _value in line.points)

    def x(count: float) -> float:
        return left + _WIDTH * math.log(count / least) / math.log(most / least)

    def y(value: float) -> float:
        inside = min(max(value, _LOW), _HIGH)
        return bottom - _HEIGHT * math.log(inside / _LOW) / math.log(_HIGH / _LOW)

    right, middle = left + _WIDTH, left + _WIDTH / 2
    parts = [_text(left, 16, panel.title, "#111")]
    parts.append(_text(middle, bottom + 34, panel.along, anchor="middle"))
    for mark in (0.1, 0.2, 0.5, 1.0, 2.0):
        height, colour = y(mark), "#b91c1c" if mark == 1.0 else "#e5e7eb"
        parts.append(f'<path d="M{left} {height:.1f}H{right}" stroke="{colour}"/>')
        parts.append(_text(left - 6, height + 4, f"{mark:g}", anchor="end"))
    for count, _value in panel.lines[0].points:
        parts.append(_text(x(count), bottom + 16, f"{count:,.0f}", anchor="middle"))
    for line, colour, below in zip(panel.lines, _COLOURS, (-6, 12), strict=False):
        points = " ".join(f"{x(count):.1f},{y(value):.1f}" for count, value in line.points)
        count, value = line.points[-1]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(x(count), y(value) + below, line.title, colour, anchor="end"))
    return parts


def _text(x: float, y: float, words: str, colour: str = "#444", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'


async def measured(url: str) -> list[Panel]:
    """Measure all on one server."""
    async with Database(url, pool_size=CONNECTIONS, max_overflow=0, name="growth") as db:
        sides = Sides(db)
        await sides.get(1)
        panels = []
        for measure in (with_tasks, with_queries, with_rows):
            print(f"{(measure.__doc__ or '').strip()}", file=sys.stderr)
            panels.append(await measure(sides))
        return panels


@click.command(help=__doc__)
@click.option("--output", type=click.Path(path_type=Path), default=CHART, help="Where the chart is written.")
def main(output: Path) -> None:
    """Measure, print, draw."""
    with running("postgresql") as (place, version):
        panels = asyncio.run(measured(place.sqlalchemy_url()))
    for panel in panels:
        print(table(panel), end="\n\n")
    output.write_text(svg(panels))
    print(f"{version}. Written: {output.name}")


if __name__ == "__main__":
    main()
