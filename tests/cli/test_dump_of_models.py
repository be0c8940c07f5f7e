"""`unitwork dump` writes what is stored, whatever the model, the condition and the server are like."""

import csv
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import URL

from tests.fixtures.columns import PLACEHOLDERS
from tests.fixtures.commands import command_runner
from unitwork.cli import main

MODELS = """
import datetime as dt
from typing import Any

from sqlalchemy import JSON, ForeignKey, LargeBinary, MetaData, String
from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base
from unitwork.models import SoftDeleteMixin

metadata = MetaData()


class Animal(Base):
    __abstract__ = True
    metadata = metadata


class Person(Animal):
    __tablename__ = "dumped_people"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(20))
    kind: Mapped[str] = mapped_column(String(10))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Boss(Person):
    __mapper_args__ = {"polymorphic_identity": "boss"}
    bonus: Mapped[int | None] = mapped_column(nullable=True)


class Pilot(Person):
    __tablename__ = "dumped_pilots"
    id: Mapped[int] = mapped_column(ForeignKey("dumped_people.id"), primary_key=True)
    hours: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "pilot"}


class Share(SoftDeleteMixin, Animal):
    __tablename__ = "dumped_shares"
    id: Mapped[int] = mapped_column(primary_key=True)
    part: Mapped[str | None] = mapped_column("part %", String(20))
    day: Mapped[dt.date | None]
    at: Mapped[dt.datetime | None]
    weight: Mapped[float | None]
    data: Mapped[bytes | None] = mapped_column(LargeBinary)


class Note(Animal):
    __tablename__ = "dumped_notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[Any | None] = mapped_column(JSON)
"""


class Program:
    """The command line on one database."""

    def __init__(self, url: URL) -> None:
        self._url = url.render_as_string(hide_password=False)
        assert self.run("create-tables", "--models", "dumped_models").exit_code == 0

    def run(self, command: str, *options: str) -> Result:
        """Run a command; a traceback fails the test."""
        done = command_runner().invoke(main, [command, "--url", self._url, *options])
        assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
        return done

    def load(self, model: str, *lines: str) -> None:
        """Load these lines of CSV or JSON."""
        file = Path("given.jsonl" if lines[0].startswith("{") else "given.csv")
        file.write_text("\n".join([*lines, ""]), encoding="utf-8")
        done = self.run("load", str(file), "--into", f"dumped_models:{model}")
        assert done.exit_code == 0, done.output

    def dump(self, model: str, *options: str) -> list[dict[str, object]]:
        """The rows, from JSON."""
        done = self.run("dump", f"dumped_models:{model}", "--format", "jsonl", *options)
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: URL) -> Program:
    """The command line, in a folder of its own."""
    (tmp_path / "dumped_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return Program(database_url)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_dump_of_a_model_that_inherits_comes_back(program: Program, kind: str) -> None:
    """Each row of the model comes once, with the attributes of its parents, and can be loaded again."""
    program.load("Person", "id,name,kind", "1,ann,person")
    program.load("Boss", "id,name,bonus", "2,bob,5")
    program.load("Pilot", "id,name,hours", "3,cyd,30", "4,dan,40")

    pilots = program.dump("Pilot")
    assert [(row["id"], row["name"], row["hours"]) for row in pilots] == [(3, "cyd", 30), (4, "dan", 40)]
    assert [(row["id"], row["bonus"]) for row in program.dump("Boss")] == [(2, 5)]
    assert [row["id"] for row in program.dump("Person")] == [1, 2, 3, 4]

    assert program.run("dump", "dumped_models:Pilot", "-o", f"pilots.{kind}").exit_code == 0
    assert program.run("drop-tables", "--models", "dumped_models", "--yes").exit_code == 0
    assert program.run("create-tables", "--models", "dumped_models").exit_code == 0
    done = program.run("load", f"pilots.{kind}", "--into", "dumped_models:Pilot")
    assert done.exit_code == 0, done.output
    assert program.dump("Pilot") == pilots


CONDITIONS = {
    "id % 2 = 1": [1, 3],
    "id = 1 OR id = 3": [1, 3],
    "id = 1 -- the first": [1],
    "NOT id > 1": [1],
    f"id < 3 AND '50%' <> '{PLACEHOLDERS}'": [1, 2],
}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_condition_is_sent_as_it_was_written(program: Program, condition: str, kind: str) -> None:
    """Percent signs, colons and comments of --where are SQL, and it stays one condition of several."""
    program.load("Boss", "id,name", "1,a", "2,b", "3,c")
    program.load("Person", "id,name,kind", "5,e,person", "7,g,person")

    done = program.run("dump", "dumped_models:Boss", "--where", condition, "-o", f"bosses.{kind}")

    assert done.exit_code == 0, done.output
    text = Path(f"bosses.{kind}").read_text()
    rows = list(csv.DictReader(text.splitlines())) if kind == "csv" else map(json.loads, text.splitlines())
    assert [int(row["id"]) for row in rows] == CONDITIONS[condition]
    expected = len(CONDITIONS[condition])
    assert f"Wrote {expected} row" in done.stderr


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_percent_in_a_column_name_and_hidden_rows_come_back(program: Program, kind: str) -> None:
    """A column may be called anything, and what is deleted softly is stored still."""
    program.load("Share", "id,part,deleted_at", "1,100%,", "2,50%,2024-02-29T12:00:00Z")
    before = program.dump("Share")
    assert [row["part"] for row in before] == ["100%", "50%"]

    assert program.run("dump", "dumped_models:Share", "-o", f"shares.{kind}").exit_code == 0
    done = program.run("load", f"shares.{kind}", "--into", "dumped_models:Share", "--on-conflict", "nothing")

    assert done.exit_code == 0, done.output
    assert "Stored 0 rows of 2" in done.stderr
    assert program.dump("Share") == before


@pytest.mark.only("postgresql", reason="settings of the server that change how it writes values")
@pytest.mark.parametrize(
    "setting",
    [
        "datestyle=German",
        "datestyle=SQL,DMY",
        "bytea_output=escape",
        "extra_float_digits=-5",
        "timezone=Asia/Tokyo",
    ],
)
def test_settings_of_the_server_change_nothing(
    program: Program, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """What is written does not hang on how the server is set."""
    row = "1,2024-03-04,2024-03-04T05:06:07.5,0.1234567890123456,\\x0061ff,2024-02-29T12:00:00+00:00"
    program.load("Share", "id,day,at,weight,data,deleted_at", row)
    before = program.dump("Share")
    monkeypatch.setenv("PGOPTIONS", f"-c {setting}")

    assert program.run("dump", "dumped_models:Share", "-o", "shares.csv").exit_code == 0
    done = program.run("load", "shares.csv", "--into", "dumped_models:Share", "--on-conflict", "update")

    assert done.exit_code == 0, done.output
    monkeypatch.delenv("PGOPTIONS")
    assert program.dump("Share") == before


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_failed_dump_keeps_the_old_file(program: Program, kind: str) -> None:
    """An error of the database leaves the file of yesterday, and nothing beside it."""
    file = Path(f"notes.{kind}")
    file.write_text("precious")
    there = sorted(Path().iterdir())

    failed = program.run("dump", "dumped_models:Note", "--where", "nope = 1", "-o", str(file))

    assert failed.exit_code == 1
    assert "nope" in failed.stderr
    assert file.read_text() == "precious"
    assert sorted(Path().iterdir()) == there


@pytest.mark.skipif(os.name == "nt", reason="links and devices of Unix")
def test_dump_writes_through_links_and_to_devices(program: Program) -> None:
    """A link stays a link, a file keeps its rights, and a device is not replaced."""
    Path("real.csv").write_text("old")
    Path("real.csv").chmod(0o640)
    Path("link.csv").symlink_to("real.csv")

    assert program.run("dump", "dumped_models:Note", "-o", "link.csv").exit_code == 0
    assert Path("link.csv").is_symlink()
    assert Path("real.csv").read_text() == "id,data\n"
    assert stat.S_IMODE(Path("real.csv").stat().st_mode) == 0o640
    assert program.run("dump", "dumped_models:Note", "--format", "csv", "-o", "/dev/null").exit_code == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_no_value_alone_in_its_line_is_refused(program: Program) -> None:
    """An empty line of CSV is no record, so that one must be told by --null."""
    program.load("Person", "id,name,kind", "1,,person", '2,"",person')
    options = ("--attributes", "name", "-o", "names.csv")

    failed = program.run("dump", "dumped_models:Person", *options)
    assert failed.exit_code == 1
    assert "--null" in failed.stderr
    assert not Path("names.csv").exists()
    assert program.run("dump", "dumped_models:Person", *options, "--null", "-").exit_code == 0
    assert Path("names.csv").read_text() == 'name\n-\n""\n'
