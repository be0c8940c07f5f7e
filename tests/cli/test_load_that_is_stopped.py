"""A load that Ctrl-C ends says what is stored and how to go on, and it is so."""

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

RECORDS = 200

MODELS = """
from sqlalchemy.orm import Mapped, mapped_column
from unitwork import Base


class Event(Base):
    __tablename__ = "stopped_events"
    id: Mapped[int] = mapped_column(primary_key=True)
"""

# Gets the signal of Ctrl-C when a function of the load is called for the Nth time.
PROGRAM = """
import os, signal, sys

from unitwork.cli import _loading, main

_loading.CHUNK_ROWS = 40
name, wanted = sys.argv.pop(1), int(sys.argv.pop(1))
# Where tests run in the background of a shell, they and their programs ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


def look(frame, event, argument):
    global wanted
    if event == "call" and frame.f_code.co_name == name and "unitwork/cli" in frame.f_code.co_filename:
        wanted -= 1
        if wanted == 0:
            os.kill(os.getpid(), signal.SIGINT)


sys.setprofile(look)
try:
    main(prog_name="unitwork")
finally:
    sys.setprofile(None)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file of records, a model, its table, and the program."""
    (tmp_path / "stopped_models.py").write_text(MODELS)
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "events.csv").write_text("id\n" + "".join(f"{n}\n" for n in range(1, RECORDS + 1)))
    command = [sys.executable, "-m", "unitwork", "create-tables", "--models", "stopped_models"]
    subprocess.run([*command, "--url", "sqlite:///events.db"], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def load(folder: Path, *options: str, stop: tuple[str, int] = ("never", 1)) -> tuple[int, str]:
    """Run the load, and return its exit code and its messages."""
    place = [stop[0], str(stop[1])]
    command = ["load", "events.csv", "--into", "stopped_models:Event", "--url", "sqlite:///events.db"]
    done = subprocess.run(
        [sys.executable, "program.py", *place, *command, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def stored(folder: Path) -> int:
    """How many rows are in the table."""
    connection = sqlite3.connect(folder / "events.db")
    (count,) = connection.execute("SELECT count(*) FROM stopped_events").fetchone()
    connection.close()
    return int(count)


def test_load_of_all_or_nothing_has_stored_nothing(folder: Path) -> None:
    """And says what would let it go on."""
    code, told = load(folder, stop=("_store", 3))

    assert code == 130
    assert told.startswith(
        "Stopped: nothing of events.csv is stored.\n  Fix: run it again; with --resume FILE"
    )
    assert "Traceback" not in told
    assert stored(folder) == 0


def test_load_that_was_committed_says_so(folder: Path) -> None:
    """Ctrl-C between the COMMIT and the end of the command."""
    code, told = load(folder, stop=("has_committed", 1))

    assert (code, told) == (130, f"Stopped when all of events.csv was stored: {RECORDS} rows.\n")
    assert stored(folder) == RECORDS


@pytest.mark.parametrize("stop", [("_store", 1), ("advance", 2), ("has_committed", 3), ("keep", 4)])
def test_load_with_a_position_says_how_far_it_is(folder: Path, stop: tuple[str, int]) -> None:
    """What it says is in the table; the same command goes on from there."""
    code, told = load(folder, "--resume", "position", stop=stop)

    found = re.match(
        r"Stopped: (\d+) rows stored by this command(?:; events.csv is done up to line (\d+))?\.", told
    )
    assert found is not None, told
    assert code == 130
    assert "Fix: run the same command again to go on from there." in told
    assert int(found[1]) == stored(folder)
    assert int(found[2] or 1) == stored(folder) + 1
    assert load(folder, "--resume", "position")[0] == 0
    assert stored(folder) == RECORDS


def test_dry_run_that_is_stopped_has_stored_nothing(folder: Path) -> None:
    """As if it had not been."""
    assert load(folder, "--dry-run", stop=("_store", 3)) == (130, "Stopped: a dry run stores nothing.\n")
    assert stored(folder) == 0
