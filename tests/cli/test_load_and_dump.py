"""`unitwork load` stores a file in a table, `unitwork dump` writes a table to a file."""

import csv
import json
import sys
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import URL

from tests.fixtures.commands import command_runner
from unitwork.cli import main

MODELS = """
import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, LargeBinary, MetaData, Numeric, String
from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base
from unitwork.models import UTCDateTime


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Person(Base):
    __tablename__ = "people"
    metadata = MetaData()

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column("full_name", String(50), unique=True)
    age: Mapped[int | None]
    born: Mapped[dt.date | None]
    seen_at: Mapped[dt.datetime | None] = mapped_column(UTCDateTime())
    colour: Mapped[Colour] = mapped_column(default=Colour.RED)
    balance: Mapped[Decimal] = mapped_column(Numeric(10, 2), default=Decimal("1.50"))
    vip: Mapped[bool] = mapped_column(default=False)
    token: Mapped[uuid.UUID | None]
    picture: Mapped[bytes | None] = mapped_column(LargeBinary)
    details: Mapped[Any | None] = mapped_column(JSON)
"""
HEADER = "name,age,born,seen_at,colour,balance,vip,token,picture,details"
FULL = (
    "Ann,30,1990-01-02,2024-02-29T12:00:00.5+02:00,BLUE,12.34,yes,"
    '00000000-0000-0000-0000-000000000001,\\x00ff,"{""a"": [1, ""ü""]}"'
)
SHORT = "Bob" + "," * 9


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module with a model, in the current folder; another one for each test."""
    name = f"models_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for variable in ("UNITWORK_URL", "DATABASE_URL", "UNITWORK_APP"):
        monkeypatch.delenv(variable, raising=False)
    return name


class Program:
    """The command line on one database."""

    def __init__(self, url: URL | str, models: str) -> None:
        self.url = url if isinstance(url, str) else url.render_as_string(hide_password=False)
        self.model = f"{models}:Person"
        made = self.run("create-tables", "--models", models)
        assert made.exit_code == 0, made.output

    def run(self, *arguments: str, typed: bytes | None = None) -> Result:
        """Run a command."""
        return command_runner().invoke(main, [arguments[0], "--url", self.url, *arguments[1:]], input=typed)

    def load(self, file: str, *options: str, typed: bytes | None = None) -> Result:
        """Run `load`."""
        return self.run("load", file, "--into", self.model, *options, typed=typed)

    def names(self) -> list[str]:
        """The names that are stored."""
        done = self.run("dump", self.model, "--attributes", "name", "--format", "jsonl")
        assert done.exit_code == 0, done.output
        return [json.loads(line)["name"] for line in done.stdout.splitlines()]


@pytest.fixture
def program(models: str) -> Program:
    """The command line on an SQLite file."""
    return Program("sqlite+aiosqlite:///people.db", models)


def write(*lines: str, name: str = "people.csv") -> str:
    """A CSV file with these lines after the header."""
    Path(name).write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return name


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_dump_and_load_are_each_others_counterpart(database_url: URL, models: str, kind: str) -> None:
    """What was dumped is loaded again, value by value, on every database and in every format."""
    program = Program(database_url, models)
    assert program.load(write(FULL, SHORT)).exit_code == 0
    dumped = program.run("dump", program.model, "-o", f"first.{kind}")
    assert (dumped.exit_code, dumped.stdout) == (0, "")
    before = program.run("dump", program.model, "--format", "jsonl").stdout

    loaded = program.load(f"first.{kind}", "--on-conflict", "update", "--json")

    assert json.loads(loaded.stdout)["stored"] == 2, loaded.output
    assert program.run("dump", program.model, "--format", "jsonl").stdout == before
    ann, bob = map(json.loads, before.splitlines())
    assert (ann["age"], ann["colour"], ann["balance"], ann["vip"]) == (30, "BLUE", "12.34", True)
    assert (ann["seen_at"], ann["picture"]) == ("2024-02-29T10:00:00.500000+00:00", "\\x00ff")
    assert ann["details"] == {"a": [1, "ü"]}
    assert (bob["age"], bob["colour"], bob["balance"], bob["vip"]) == (None, "RED", "1.50", False)


def test_load_stores_all_or_nothing(program: Program) -> None:
    """The first record that cannot be stored is named by its line, and nothing is stored."""
    failed = program.load(write(FULL, SHORT, "Cyd,old" + "," * 8))

    assert failed.exit_code == 1
    assert "Line 4 of people.csv cannot be stored: age: cannot read 'old' as int." in failed.stderr
    assert program.names() == []


def test_load_goes_on_past_bad_records(program: Program) -> None:
    """With --rejects each bad record goes to a file, with its line and the reason."""
    file = write(FULL, "Cyd,old" + "," * 8, "Dan,1", f"{SHORT}", "Ann,1" + "," * 8, ",2" + "," * 8)

    done = program.load(file, "--rejects", "bad.csv", "--json")

    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert {key: summary[key] for key in ("read", "stored", "rejected")} == {
        "read": 6,
        "stored": 3,
        "rejected": 3,
    }
    assert program.names() == ["Ann", "Bob", ""]
    rejected = list(csv.DictReader(Path("bad.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["line"] for row in rejected] == ["3", "4", "6"]
    assert "cannot read 'old' as int" in rejected[0]["reason"]
    assert "2 fields" in rejected[1]["reason"]
    assert "UNIQUE" in rejected[2]["reason"]
    assert json.loads(rejected[2]["record"])["name"] == "Ann"


def test_dry_run_stores_nothing(program: Program) -> None:
    """--dry-run does everything, says what it would store, and undoes it."""
    done = program.load(write(FULL, SHORT), "--dry-run", "--json")

    assert (json.loads(done.stdout)["stored"], json.loads(done.stdout)["dry_run"]) == (2, True)
    assert "Would store 2 rows" in done.stderr
    assert program.names() == []


@pytest.mark.parametrize("action", ["nothing", "update"])
def test_load_minds_conflicts(program: Program, action: str) -> None:
    """--on-conflict and --key say what becomes of rows that are stored already."""
    program.load(write(FULL))

    done = program.load(write("Ann,31" + "," * 8, SHORT), "--on-conflict", action, "--key", "name", "--json")

    assert json.loads(done.stdout)["stored"] == (2 if action == "update" else 1)
    dumped = program.run("dump", program.model, "--attributes", "age", "--where", "full_name = 'Ann'")
    assert dumped.stdout == f"age\n{31 if action == 'update' else 30}\n"


def test_interrupted_load_goes_on_where_it_was(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --resume what is stored stays, and the same command goes on after it."""
    monkeypatch.setattr("unitwork.cli._loading.CHUNK_ROWS", 2)
    names = [f"P{n}" for n in range(5)]
    lines = [f"{name}" + "," * 9 for name in names]
    write(*lines[:3], "broken,x" + "," * 8, lines[4])

    failed = program.load("people.csv", "--resume", "where.json")
    assert failed.exit_code == 1
    assert program.names() == names[:2]

    write(*lines)
    done = program.load("people.csv", "--resume", "where.json", "--json")
    assert (json.loads(done.stdout)["skipped"], json.loads(done.stdout)["stored"]) == (2, 3)
    assert program.names() == names
    again = program.load("people.csv", "--resume", "where.json", "--json")
    assert (json.loads(again.stdout)["skipped"], json.loads(again.stdout)["stored"]) == (5, 0)
    assert program.names() == names


def test_columns_of_a_file_can_be_renamed_and_left_out(program: Program) -> None:
    """--rename maps the names of a file to attributes; an empty one leaves a column out."""
    Path("other.csv").write_text("Full Name,Years,Shoe size\nAnn,30,39\n", encoding="utf-8")

    assert "Full Name: is no attribute of Person" in program.load("other.csv").stderr
    renames = ("--rename", "Full Name=name", "--rename", "Years=age", "--rename", "Shoe size=")
    assert program.load("other.csv", *renames).exit_code == 0
    assert program.names() == ["Ann"]


def test_load_reads_stdin(program: Program) -> None:
    """- is stdin, whose format must be told."""
    records = b'{"name": "Ann", "details": {"a": 1}}\n\n{"name": "Bob", "age": null}\n'

    assert program.load("-", typed=records).exit_code == 2
    assert program.load("-", "--format", "jsonl", typed=records).exit_code == 0
    assert program.names() == ["Ann", "Bob"]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ('{"name": "Ann"}\nnonsense\n', 2, "is no JSON"),
        ("[1]\n", 1, "is no JSON object"),
        ('{"name": "Ann", "nam": 1}\n', 1, "nam: is no attribute of Person"),
        ('{"age": 1}\n', 1, "name: has no value, and must have one"),
        ('{"name": "Ann", "vip": "perhaps"}\n', 1, "vip: cannot read 'perhaps' as bool"),
        ('{"name": "Ann", "colour": "GREEN"}\n', 1, "colour: cannot read 'GREEN' as one of RED, BLUE"),
        ('{"name": "Ann", "age": 1.5}\n', 1, "age: cannot read '1.5' as int"),
    ],
)
def test_bad_line_is_told(program: Program, text: str, line: int, reason: str) -> None:
    """The message names the line, the attribute and the reason."""
    Path("people.jsonl").write_text(text, encoding="utf-8")

    failed = program.load("people.jsonl")

    assert failed.exit_code == 1
    assert f"Line {line} of people.jsonl cannot be stored: {reason}" in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("missing.csv",), 2, "missing.csv"),
        (("people.txt",), 2, "--format"),
        (("people.csv", "--key", "nam", "--on-conflict", "update"), 1, "index_elements"),
        (("people.csv", "--key", "age", "--on-conflict", "update"), 1, "no unique key"),
        (
            ("people.csv", "--key", "nam", "--on-conflict", "update", "--rejects", "bad.csv"),
            1,
            "index_elements",
        ),
        (("people.csv", "--key", "name"), 2, "--on-conflict"),
        (("people.csv", "--key", "name", "--rejects", "bad.csv"), 2, "--on-conflict"),
        (("people.csv", "--rename", "a"), 2, "OLD=NEW"),
    ],
)
def test_wrong_command_lines_are_explained(
    program: Program, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """What cannot work ends with the exit code of its kind and one message."""
    write(FULL)
    write(FULL, name="people.txt")

    failed = program.load(*arguments)

    assert failed.exit_code == code
    assert words in failed.stderr
    assert "Line" not in failed.stderr
    assert program.names() == []


def test_model_must_be_a_model(program: Program) -> None:
    """--into names a mapped class."""
    program.model = program.model.replace("Person", "Colour")

    failed = program.load(write(FULL))

    assert failed.exit_code == 1
    assert "is no model" in failed.stderr


def test_null_can_be_told_from_empty_text(program: Program) -> None:
    """--null is the text that stands for no value, in both directions."""
    program.load(write(FULL, SHORT))

    dumped = program.run("dump", program.model, "--attributes", "id,name,age", "--null", "\\N")
    assert dumped.stdout == "id,name,age\n1,Ann,30\n2,Bob,\\N\n"

    Path("again.csv").write_text(dumped.stdout, encoding="utf-8")
    assert program.load("again.csv", "--null", "\\N", "--on-conflict", "update").exit_code == 0
    assert program.names() == ["Ann", "Bob"]


def test_dump_refuses_unknown_attributes(program: Program) -> None:
    """The message lists those that exist."""
    failed = program.run("dump", program.model, "--attributes", "name,shoe")

    assert failed.exit_code == 1
    assert "no attribute 'shoe'" in failed.stderr
