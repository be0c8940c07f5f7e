"""`unitwork examples` lists programs and runs them; each is short."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.commands import command_runner
from unitwork.cli import main

FOLDER = Path(__file__).parents[2] / "examples"
SHORT = {"bulk", "connection", "container", "models", "repositories", "schemas", "web"}
LINES = 60


def test_examples_are_listed() -> None:
    """Each with what it shows."""
    done = command_runner().invoke(main, ["examples", "--json"])

    listed = json.loads(done.stdout)
    assert set(listed) >= SHORT
    assert all(text.endswith(".") for text in listed.values())


@pytest.mark.parametrize("name", sorted(SHORT))
def test_example_is_short(name: str) -> None:
    """A reader sees it at once."""
    assert len((FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()) < LINES


@pytest.mark.parametrize("name", sorted(SHORT))
def test_example_runs(name: str, tmp_path: Path) -> None:
    """With warnings as errors; nothing is left in the current folder."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "unitwork", "examples", name],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    assert not list(tmp_path.iterdir())


def test_source_of_an_example_is_printed() -> None:
    """To begin with."""
    done = command_runner().invoke(main, ["examples", "connection", "--source"])

    assert done.stdout == (FOLDER / "connection.py").read_text(encoding="utf-8")
