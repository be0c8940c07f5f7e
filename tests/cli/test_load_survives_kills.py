"""A load with --resume and --rejects that is killed goes on, and treats each record exactly once."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import URL

RECORDS = 160
KILLS = 1

MODELS = """
from sqlalchemy import CheckConstraint, MetaData
from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base


class Event(Base):
    __tablename__ = "kept_events"
    __table_args__ = (CheckConstraint("number > 0"),)
    metadata = MetaData()

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
"""

# Dies for good before the line of Python that is the first argument, counted from the start of the load;
# with 0 where rows and rejects are written, and nothing is committed.
PROGRAM = """
import os, signal, sys
from pathlib import Path

from unitwork.cli import _loading, main

_loading.CHUNK_ROWS = 40
last, seen = int(sys.argv.pop(1)), 0


def look(frame, event, argument):
    global seen
    if last == 0 and frame.f_code.co_name == "advance":
        os.kill(os.getpid(), signal.SIGKILL)
    if seen or (frame.f_code.co_name == "run" and frame.f_code.co_filename.endswith("_loading.py")):
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return look


sys.settrace(look)
try:
    main()
finally:
    sys.settrace(None)
    Path("lines").write_text(str(seen))
"""


class Folder:
    """A folder with a file of records, a model, and the program that loads one into the other."""

    def __init__(self, path: Path, url: URL) -> None:
        self.path = path
        self._url = url.render_as_string(hide_password=False)
        (path / "kept_models.py").write_text(MODELS)
        (path / "program.py").write_text(PROGRAM)
        self._records = 0
        self._notes = 0
        self.grow(RECORDS)
        done = self.run("create-tables", "--models", "kept_models")
        assert done.returncode == 0, done.stderr

    @staticmethod
    def written(number: int) -> str:
        """A record: some are no number, some are refused by the database."""
        return f"x{number}" if number % 7 == 0 else str(-number if number % 11 == 0 else number)

    def run(self, command: str, *options: str, last: int = -1) -> subprocess.CompletedProcess[str]:
        """Run a command in a process of its own, which dies at this line of Python."""
        line = [sys.executable, "program.py", str(last), command, "--url", self._url, *options]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(
            line, cwd=self.path, env=environment, capture_output=True, text=True, check=False
        )

    def load(self, last: int = -1) -> subprocess.CompletedProcess[str]:
        """Load the file."""
        options = ("--resume", "where.json", "--rejects", "bad.csv", "--json")
        return self.run("load", "events.csv", "--into", "kept_models:Event", *options, last=last)

    def grow(self, records: int) -> None:
        """Let the file have so many records; the last line has no end yet."""
        self._records = records
        numbers = [self.written(number) for number in range(1, records + 1)]
        (self.path / "events.csv").write_text("\n".join(["number", *numbers]))

    def note(self) -> None:
        """Write into the rejects, as a person does."""
        if (self.path / "bad.csv").exists():
            self._notes += 1
            with (self.path / "bad.csv").open("a") as file:
                file.write(f"{-self._notes},mine,a note\r\n")

    @property
    def lines(self) -> int:
        """How many lines of Python the last load ran."""
        return int((self.path / "lines").read_text())

    def begin_anew(self) -> None:
        """Forget what was loaded."""
        for name in ("where.json", "bad.csv"):
            (self.path / name).unlink(missing_ok=True)
        self._notes = 0
        self.grow(RECORDS)
        assert self.run("drop-tables", "--models", "kept_models", "--yes").returncode == 0
        assert self.run("create-tables", "--models", "kept_models").returncode == 0

    def check(self) -> None:
        """Each record was stored or rejected, once, and the load has left nothing else behind."""
        dumped = self.run("dump", "kept_models:Event", "--format", "jsonl")
        stored = [json.loads(line)["number"] for line in dumped.stdout.splitlines()]
        with (self.path / "bad.csv").open(newline="") as file:
            lines = [int(row["line"]) for row in csv.DictReader(file)]
        good = [number for number in range(1, self._records + 1) if self.written(number) == str(number)]
        assert sorted(stored) == good
        rejected = [line - 1 for line in lines if line > 0]
        assert rejected == sorted(set(range(1, self._records + 1)) - set(good))
        assert [-line for line in lines if line < 0] == list(range(1, self._notes + 1))
        assert json.loads((self.path / "where.json").read_text())["table"] is None


@pytest.fixture
def folder(tmp_path: Path, database_url: URL) -> Folder:
    """A folder to load in."""
    return Folder(tmp_path, database_url)


def kill_again_and_again(folder: Folder, kills: int, chance: random.Random) -> None:
    """Kill loads at points of their way until one is left alone to end; then let the file grow."""
    folder.load()
    way = folder.lines
    folder.begin_anew()
    for records in (RECORDS, RECORDS + 50):
        folder.grow(records)
        for _ in range(kills):
            died = folder.load(chance.randrange(1, way))
            assert died.returncode in (-signal.SIGKILL, 0), died.stderr
            folder.note()
        ended = folder.load()
        assert ended.returncode == 0, ended.stderr
        folder.check()


@pytest.mark.timeout(120)
def test_killed_load_stores_or_rejects_each_record_once(folder: Folder) -> None:
    """Wherever a load is killed, the next one goes on after what is committed, and after that only."""
    kill_again_and_again(folder, KILLS, random.Random(folder.path.name))  # noqa: S311  # no secret


def test_rejects_of_what_was_not_committed_are_taken_out_again(folder: Folder) -> None:
    """Those that the next load will write once more, and none that a person has written meanwhile."""
    for _ in range(2):
        assert folder.load(0).returncode == -signal.SIGKILL
        assert len((folder.path / "bad.csv").read_text().splitlines()) > 5
        folder.note()
    assert folder.load().returncode == 0
    folder.check()


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_killed_loads_store_or_reject_each_record_once(folder: Folder) -> None:
    """The same, for a minute."""
    chance, end = random.SystemRandom(), time.monotonic() + 60
    while time.monotonic() < end:
        kill_again_and_again(folder, chance.randrange(1, 6), chance)
        folder.begin_anew()
