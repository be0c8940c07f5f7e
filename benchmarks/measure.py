"""This module lets the contenders run, in rounds that take turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.environments import NotAvailableError, WorkerProcess, python_for
from benchmarks.plan import BASELINE, turned
from benchmarks.servers import running

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.environments import Contender
    from benchmarks.place import Place
    from benchmarks.plan import Cell, Size
    from benchmarks.results import Partial


class Field:
    """The contenders on one database, ready to run. Lives: as long as its server."""

    def __init__(self, place: Place, say: Callable[[str], None]) -> None:
        self._place = place
        self._say = say
        self._workers: dict[str, WorkerProcess] = {}
        self._by_name: dict[str, WorkerProcess] = {}
        self._able: dict[str, set[str]] = {}
        self._calls: dict[tuple[str, str], int] = {}
        self.versions: dict[str, str] = {}
        self.notes: list[str] = []

    def open(self, contender: Contender) -> None:
        """Start a contender in its environment; one that cannot run is left out, loudly."""
        try:
            python = str(python_for(contender))
            if python not in self._workers:
                self._workers[python] = WorkerProcess(python_for(contender), self._place)
            worker = self._workers[python]
            answer = worker.ask(do="open", contender=contender.name, module=contender.module)
        except NotAvailableError as reason:
            self._note(f"{contender.title} is left out on {self._place.database}: {reason}")
            return
        self._by_name[contender.name] = worker
        self._able[contender.name] = set(answer["able"])
        for package in (requirement_name(one) for one in contender.requirements[:1] or ("sqlalchemy",)):
            self.versions[package] = answer["versions"].get(package, "?")
        for workload, problem in answer["refused"].items():
            self._note(f"{contender.title} cannot do {workload} on {self._place.database}: {problem}")

    def round(self, cell: Cell, number: int, seconds: float) -> dict[str, dict[str, float]]:
        """Let everybody run once, one after another; return the time of each per call."""
        times: dict[str, dict[str, float]] = {}
        able = [name for name, workloads in self._able.items() if cell.workload in workloads]
        for name in turned(able, number):
            try:
                times[name] = self._run(name, cell, seconds)
            except NotAvailableError as reason:
                self._able[name].discard(cell.workload)
                self._note(f"{name} fails in {cell.key}: {reason}")
        return times

    def _run(self, name: str, cell: Cell, seconds: float) -> dict[str, float]:
        answer = self._by_name[name].ask(
            do="measure",
            contender=name,
            workload=cell.workload,
            tasks=cell.tasks,
            seconds=seconds,
            calls=self._calls.get((name, cell.key)),
        )
        self._calls[name, cell.key] = answer["calls"]
        return {"wall_s": answer["wall_s"], "cpu_s": answer["cpu_s"]}

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self._say(text)

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.close()


def requirement_name(requirement: str) -> str:
    """Return the name of a package without its extras and version."""
    return requirement.partition("=")[0].partition("[")[0].lower()


def compare(
    cells: Sequence[Cell],
    known: Sequence[Contender],
    size: Size,
    partial: Partial,
    say: Callable[[str], None],
) -> None:
    """Measure all cells of one database.

    Raises:
        NotAvailableError: There is no such server, or the baseline itself does not run.
    """
    database = cells[0].database
    wanted = [(number, cell) for number in range(size.rounds) for cell in cells]
    missing = [(number, cell) for number, cell in wanted if not partial.has(number, cell.key)]
    if not missing:
        return
    with running(database) as (place, version):
        field = Field(place, say)
        try:
            for contender in known:
                if database in contender.databases:
                    field.open(contender)
            for number, cell in missing:
                if cell == cells[0]:
                    say(f"{database}: round {number + 1} of {size.rounds}")
                times = field.round(cell, number, size.seconds)
                if BASELINE not in times:
                    raise NotAvailableError(f"the code written by hand does not run on {database}")
                partial.keep(number, cell.key, times)
        finally:
            partial.learn({database: version, **field.versions}, field.notes)
            field.close()
