"""This module keeps what was measured, in a file that a later run goes on with, and computes ratios."""

import hashlib
import json
import os
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments import CACHE, ROOT
from benchmarks.plan import BASELINE, Cell

Record = dict[str, Any]


def fingerprint(size: str) -> str:
    """Return a mark of all that a measurement depends on: the sources, the machine, and the size."""
    digest = hashlib.sha256(f"{size} {platform.node()} {platform.python_version()}".encode())
    for folder in ("src/unitwork", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


class Partial:
    """The measurements of one run, line by line. Lives in a file that git ignores."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        known: list[Record] = [json.loads(line) for line in _whole_lines(path)]
        self.records = [record for record in known if "cell" in record]
        self.versions: dict[str, str] = {}
        self.notes: list[str] = []
        for facts in (record for record in known if "versions" in record):
            self.versions |= facts["versions"]
            self.notes += [note for note in facts["notes"] if note not in self.notes]
        self._done = {(record["round"], record["cell"]) for record in self.records}

    def has(self, number: int, cell: str) -> bool:
        """Say whether this round of a cell was measured before."""
        return (number, cell) in self._done

    def keep(self, number: int, cell: str, times: dict[str, dict[str, float]]) -> None:
        """Write one round of one cell down."""
        record = {"round": number, "cell": cell, "times": times}
        self.records.append(record)
        self._done.add((number, cell))
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def learn(self, versions: dict[str, str], notes: list[str]) -> None:
        """Write down which versions were measured, and what was left out."""
        self.versions |= versions
        self.notes += [note for note in notes if note not in self.notes]
        with self._path.open("a") as file:
            file.write(json.dumps({"versions": versions, "notes": notes}) + "\n")

    def forget(self) -> None:
        """Remove the file: the run is complete."""
        self._path.unlink(missing_ok=True)


def partial_file(mark: str) -> Path:
    """Return where the measurements of such a run are kept."""
    return CACHE / f"partial-{mark}.jsonl"


def _whole_lines(path: Path) -> list[str]:
    """Read the file; what was cut off in the middle of a line is removed, and measured anew."""
    if not path.exists():
        return []
    whole, _newline, cut_off = path.read_text().rpartition("\n")
    if cut_off:
        path.write_text(f"{whole}\n" if whole else "")
    return whole.splitlines()


@dataclass(frozen=True, slots=True)
class Ratio:
    """How long one contender takes, relative to the baseline: 0.5 is half of the time."""

    median: float
    low: float
    high: float
    cpu: float
    rounds: int


def ratios(records: list[Record], cell: Cell, *, by_cpu: bool = False) -> dict[str, Ratio]:
    """Return the median of the ratios of all rounds, for each contender that was measured in this cell.

    Args:
        records: What was measured.
        cell: One row of the table.
        by_cpu: Of the time that the processor of the client has worked, in place of the time that passed.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        times = record["times"]
        if record["cell"] != cell.key or BASELINE not in times:
            continue
        base = times[BASELINE]
        for name, time in times.items():
            pair = (time["wall_s"] / base["wall_s"], time["cpu_s"] / max(base["cpu_s"], 1e-9))
            found.setdefault(name, []).append(pair)
    return {name: _ratio(pairs, by_cpu=by_cpu) for name, pairs in found.items()}


def _ratio(pairs: list[tuple[float, float]], *, by_cpu: bool) -> Ratio:
    times = sorted(cpu if by_cpu else wall for wall, cpu in pairs)
    quarter = len(times) // 4
    return Ratio(
        median=statistics.median(times),
        low=times[quarter],
        high=times[-1 - quarter],
        cpu=statistics.median(cpu for _wall, cpu in pairs),
        rounds=len(times),
    )


def baseline_us(records: list[Record], cell: Cell) -> float | None:
    """Return what the baseline takes in microseconds; printed only where its ratios are."""
    times = [
        record["times"][BASELINE]["wall_s"] * 1e6
        for record in records
        if record["cell"] == cell.key and BASELINE in record["times"]
    ]
    return statistics.median(times) if times else None


def machine() -> dict[str, str | int]:
    """Return the facts that numbers depend on; no names and no paths."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
    }


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
