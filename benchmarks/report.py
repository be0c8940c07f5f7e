"""This module turns measurements into a table for people and a record for programs."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.environments import Contender
from benchmarks.plan import BASELINE, DATABASES, TASKS, WORKLOADS, Cell
from benchmarks.results import Partial, Ratio, Record, baseline_us, machine, ratios
from benchmarks.web_measure import LOADS, WEB


@dataclass(frozen=True, slots=True)
class Row:
    """One cell with the ratios of all contenders."""

    cell: Cell
    ratios: dict[str, Ratio]
    baseline_us: float | None


@dataclass(frozen=True, slots=True)
class WebRow:
    """One load: for each variant the requests per second and the p99, relative to the first variant."""

    name: str
    per_s: dict[str, float]
    p99: dict[str, float]
    baseline_per_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """All that a run has found."""

    rows: list[Row]
    web: list[WebRow]
    titles: dict[str, str]
    versions: dict[str, str]
    notes: list[str]
    size: str
    machine: dict[str, str | int] = field(default_factory=machine)
    by_cpu: bool = False

    @property
    def measure(self) -> str:
        """What the ratios are of."""
        return "CPU time of the client" if self.by_cpu else "time"

    def plain(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "meaning": f"{self.measure} relative to SQLAlchemy's ORM written by hand; below 1 is faster",
            "web_meaning": "requests per second and p99 relative to the first variant",
            "size": self.size,
            "machine": self.machine,
            "versions": self.versions,
            "notes": self.notes,
            "contenders": self.titles,
            "rows": [
                {
                    **asdict(row.cell),
                    "baseline_us": row.baseline_us,
                    "ratios": {name: asdict(ratio) for name, ratio in row.ratios.items()},
                }
                for row in self.rows
            ],
            "web": [asdict(row) for row in self.web],
        }


def report_of(partial: Partial, known: Sequence[Contender], size: str, *, by_cpu: bool = False) -> Report:
    """Compute all ratios: of the time that passed, or of the CPU time of the client."""
    records = partial.records
    rows = []
    for database in DATABASES:
        for workload in WORKLOADS:
            for tasks in TASKS:
                cell = Cell(database, workload.name, tasks)
                found = ratios(records, cell, by_cpu=by_cpu)
                if found:
                    rows.append(Row(cell, found, baseline_us(records, cell)))
    web = [row for row in (_web_row(records, name) for name in LOADS) if row is not None]
    titles = {one.name: one.title for one in known}
    return Report(rows, web, titles, partial.versions, partial.notes, size, by_cpu=by_cpu)


def _web_row(records: list[Record], name: str) -> WebRow | None:
    rounds = [record["times"] for record in records if record["cell"] == f"http/{name}"]
    if not rounds:
        return None
    first = LOADS[name].variants[0]

    def median(variant: str, what: str) -> float:
        return float(statistics.median(times[variant][what] / times[first][what] for times in rounds))

    return WebRow(
        name=name,
        per_s={variant: median(variant, "per_s") for variant in LOADS[name].variants},
        p99={variant: median(variant, "p99_s") for variant in LOADS[name].variants},
        baseline_per_s=statistics.median(times[first]["per_s"] for times in rounds),
    )


def show(console: Console, report: Report) -> None:
    """Print the tables."""
    for database in DATABASES:
        rows = [row for row in report.rows if row.cell.database == database]
        if rows:
            console.print(_table(f"{database}: {report.measure}", rows, report.titles))
    if report.web:
        console.print(_web_table(report.web))
    for note in report.notes:
        console.print(f"[yellow]{note}[/]", highlight=False)
    facts = {**report.machine, **report.versions}
    console.print(", ".join(f"{name} {value}" for name, value in facts.items()), style="dim", highlight=False)


def _table(title: str, rows: Sequence[Row], titles: dict[str, str]) -> Table:
    names = [name for name in titles if name != BASELINE and any(name in row.ratios for row in rows)]
    table = Table(title=f"{title} relative to the ORM by hand (1.00); below is faster")
    table.add_column("workload", no_wrap=True)
    table.add_column("tasks", justify="right")
    for name in names:
        table.add_column(titles[name], justify="right")
    for row in rows:
        title = next(one.title for one in WORKLOADS if one.name == row.cell.workload)
        table.add_row(title, str(row.cell.tasks), *(_text(row.ratios.get(name)) for name in names))
    return table


def _text(ratio: Ratio | None) -> str:
    if ratio is None:
        return "–"  # noqa: RUF001  # a dash is what it is
    colour = "green" if ratio.median < 1 else "red"
    return f"[{colour}]{ratio.median:.2f}[/]"


def _web_table(rows: Sequence[WebRow]) -> Table:
    table = Table(title="http: requests per second relative to the first variant; above 1 is faster")
    for name in ("load", "variant", "requests/s", "p99"):
        table.add_column(name, justify="left" if name in ("load", "variant") else "right")
    for row in rows:
        for variant, per_s in row.per_s.items():
            table.add_row(WEB[row.name], variant, f"{per_s:.2f}", f"{row.p99[variant]:.2f}")
    return table
