"""The benchmark runs, checks answers, goes on where it was stopped, and writes what it has found."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.card import card
from benchmarks.environments import contenders
from benchmarks.plan import Cell, cells, turned, wrong
from benchmarks.results import Partial, ratios

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 55
CELL = Cell("sqlite", "get", 1)


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark as `make bench` does."""
    return subprocess.run(
        [sys.executable, "benchmarks/run.py", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=TIMEOUT_S,
    )


def times(hand: float, ours: float) -> dict[str, dict[str, float]]:
    """What one round of a cell measures."""
    return {name: {"wall_s": wall, "cpu_s": wall} for name, wall in (("hand", hand), ("ours", ours))}


@pytest.mark.timeout(60)
def test_a_tiny_run_prints_a_table_and_writes_json_and_chart(tmp_path: Path) -> None:
    """Two rounds of one workload on SQLite, the library against code written by hand."""
    options = ("--size", "tiny", "--only", "sqlite/get/", "--with", "ours", "--fresh")
    done = run(*options, "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "get by key" in done.stdout
    report: dict[str, Any] = json.loads((tmp_path / "results.json").read_text())
    assert [(row["workload"], row["tasks"]) for row in report["rows"]] == [("get", 1), ("get", 16)]
    assert all(row["ratios"]["ours"]["rounds"] == 2 for row in report["rows"])
    assert report["versions"]["sqlalchemy"].startswith("2.1")
    assert (tmp_path / "chart.svg").read_text().startswith("<svg")


def test_the_list_names_every_contender_and_workload() -> None:
    """`--list` measures nothing."""
    done = run("--list")
    assert done.returncode == 0, done.stderr
    assert all(one.name in done.stdout for one in contenders())
    assert "three_nested" in done.stdout


def test_the_help_teaches_how_to_add_a_peer() -> None:
    """What a file of a peer holds is said where one looks for it."""
    shown = run("--help").stdout
    assert all(word in shown for word in ("REQUIREMENTS", "DATABASES", "connect", "make bench"))


def test_ratios_are_medians_of_the_ratios_of_each_round(tmp_path: Path) -> None:
    """A slow round slows all contenders, so it does not change their ratio."""
    partial = Partial(tmp_path / "partial.jsonl")
    for number, (hand, ours) in enumerate(((1.0, 0.5), (10.0, 5.0), (1.0, 0.9))):
        partial.keep(number, CELL.key, times(hand, ours))
    assert ratios(partial.records, CELL)["ours"].median == 0.5


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    """What was measured is known again; a line that was cut off is measured anew."""
    path = tmp_path / "partial.jsonl"
    Partial(path).keep(0, CELL.key, times(1.0, 0.5))
    with path.open("a") as file:
        file.write('{"round": 1, "cell"')
    again = Partial(path)
    assert again.has(0, CELL.key)
    assert not again.has(1, CELL.key)
    again.keep(1, CELL.key, times(1.0, 0.5))
    assert len(Partial(path).records) == 2


def test_cells_are_chosen_by_words() -> None:
    """`get/16` is not `get_attached/16`, and no word is all."""
    assert [cell.key for cell in cells(["sqlite"], ["get/16"])] == ["sqlite/get/16"]
    assert len(list(cells(["sqlite", "postgresql"]))) == 2 * len(list(cells(["sqlite"])))


def test_everybody_starts_a_round_once() -> None:
    """Nobody always runs after the same neighbour."""
    assert [turned(["a", "b", "c"], number)[0] for number in range(3)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("workload", "answer"),
    [
        ("get", card(8)),
        ("get", None),
        ("dtos_100", [card(number) for number in range(1, 100)]),
        ("page", (7, [])),
        ("insert", None),
    ],
)
def test_a_wrong_answer_is_found(workload: str, answer: object) -> None:
    """A contender that answers wrongly is not compared."""
    assert wrong(workload, answer, 7)


@pytest.mark.parametrize(
    "command",
    [
        ["run.py", "--size", "tiny", "--only", "sqlite/get/", "--with", "ours", "--fresh"],
        ["bulk.py"],
        ["growth.py"],
        ["long_life.py"],
        ["scaling.py"],
        ["start.py", "--rounds", "1"],
    ],
    ids=lambda command: command[0],
)
def test_benchmark_measures_the_tree_that_it_stands_in(tmp_path: Path, command: list[str]) -> None:
    """Not a unitwork that is installed: here the tree has one that says so, and cannot be imported."""
    for folder in ("benchmarks", "tests/fixtures"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    own = tmp_path / "src" / "unitwork"
    own.mkdir(parents=True)
    (own / "__init__.py").write_text('raise ImportError("that of the tree")')

    done = subprocess.run(
        [sys.executable, "-W", "ignore", tmp_path / "benchmarks" / command[0], *command[1:]],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=TIMEOUT_S,
    )

    assert "that of the tree" in done.stdout + done.stderr
