"""`unitwork load` tells what is wrong with a file, and stores nothing of it that was not asked for."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import URL

from tests.fixtures.commands import command_runner
from tests.fixtures.databases import Backend
from unitwork.cli import main

MODELS = """
import datetime as dt
from decimal import Decimal

from sqlalchemy import CheckConstraint, DateTime, Float, ForeignKey, MetaData, Numeric, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base


class Person(Base):
    __tablename__ = "broken_people"
    __table_args__ = (CheckConstraint("age > 0"),)
    metadata = MetaData()

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(Text)
    age: Mapped[int | None]
    balance: Mapped[Decimal | None] = mapped_column(Numeric(12, 2))
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("broken_people.id"))


class Thing(Base):
    __tablename__ = "broken_things"
    metadata = MetaData()

    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    exact: Mapped[Decimal | None] = mapped_column(Numeric(40, 20))
    weight: Mapped[float | None] = mapped_column(Float(53))
    at: Mapped[dt.datetime | None] = mapped_column(DateTime)
    whole: Mapped[int | None]
    rounded: Mapped[Decimal | None] = mapped_column(Numeric(12))
    ready: Mapped[bool | None]
    zoned: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))
    number: Mapped[str | None] = mapped_column(Uuid(as_uuid=False))
"""


class Program:
    """The command line on one database."""

    def __init__(self, url: URL) -> None:
        self._url = url.render_as_string(hide_password=False)
        assert self.run("create-tables", "--models", "broken_models").exit_code == 0

    def run(self, command: str, *options: str, typed: bytes | None = None) -> Result:
        """Run a command; a traceback fails the test."""
        done = command_runner().invoke(main, [command, "--url", self._url, *options], input=typed)
        assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
        return done

    def load(self, file: str, *options: str, typed: bytes | None = None) -> Result:
        """Run `load`."""
        return self.run("load", file, "--into", "broken_models:Person", *options, typed=typed)

    def stored(self, *names: str) -> list[Any]:
        """The values of an attribute, or tuples of several."""
        done = self.run("dump", "broken_models:Person", "--format", "jsonl")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return [row[names[0]] if len(names) == 1 else tuple(row[name] for name in names) for row in rows]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: URL) -> Program:
    """The command line, in a folder of its own."""
    (tmp_path / "broken_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return Program(database_url)


def rejects(name: str = "bad.csv") -> list[tuple[int, str, str]]:
    """What is in a file of rejects."""
    with Path(name).open(newline="", encoding="utf-8") as file:
        return [(int(row["line"]), row["reason"], row["record"]) for row in csv.DictReader(file)]


BROKEN_RECORDS = {
    "no UTF-8": ("a.csv", b"id,name\n1,ok\n2,\xe9\n3,ok\n", "is not written in utf-8 (byte 3 is 0xe9)"),
    "letters after a quote": ("a.csv", b'id,name\n1,ok\n2,"a"b\n3,ok\n', "is no CSV"),
    "a field too many": ("a.csv", b"id,name\n1,ok\n2,a,b\n3,ok\n", "has 3 fields, and the header has 2"),
    "half a character": (
        "a.jsonl",
        b'{"id": 1, "name": "ok"}\n{"id": 2, "name": "\\ud800"}\n{"id": 3}',
        "surrogates",
    ),
    "deep JSON": (
        "a.jsonl",
        b'{"id": 1}\n{"id": 2, "name": ' + b"[" * 50_000 + b"]" * 50_000 + b'}\n{"id": 3}',
        "nested",
    ),
    "a long number": ("a.jsonl", b'{"id": 1}\n{"id": ' + b"9" * 5_000 + b'}\n{"id": 3}', "is no JSON"),
    "a number beyond bounds": ("a.jsonl", b'{"id": 1}\n{"id": 1e99999999}\n{"id": 3}', "beyond all bounds"),
    "a name twice": ("a.jsonl", b'{"id": 1}\n{"id": 2, "id": 4}\n{"id": 3}', "names an attribute twice"),
    "no UTF-8 in JSON": (
        "a.jsonl",
        b'{"id": 1}\n{"id": 2, "name": "\xe9"}\n{"id": 3}',
        "not written in utf-8",
    ),
    "truth for a number": ("a.jsonl", b'{"id": 1}\n{"id": 2, "age": true}\n{"id": 3}', "cannot read 'True'"),
    "an object for a text": ("a.jsonl", b'{"id": 1}\n{"id": 2, "name": {"a": 1}}\n{"id": 3}', "cannot read"),
    "a number as Python has it": ("a.csv", b"id,age\n1,1\n2,1_000\n3,1\n", "cannot read '1_000' as int"),
    "a check": ("a.csv", b"id,age\n1,1\n2,-1\n3,1\n", "constraint"),
    "a foreign key": ("a.csv", b"id,boss_id\n1,\n2,99\n3,1\n", "foreign key"),
    "a key twice": ("a.csv", b"id,age\n1,1\n1,2\n3,1\n", ""),
}


@pytest.mark.parametrize("case", BROKEN_RECORDS)
def test_broken_record_is_told_or_rejected(program: Program, case: str) -> None:
    """The message names line, record and reason, and nothing is stored; with --rejects the others are."""
    name, content, reason = BROKEN_RECORDS[case]
    Path(name).write_bytes(content)
    line = 3 if name.endswith(".csv") else 2

    failed = program.load(name)
    assert failed.exit_code == 1
    assert f"Line {line} of {name} cannot be stored: " in failed.stderr
    assert reason in failed.stderr.lower() or reason in failed.stderr
    assert "Record: 2" in failed.stderr
    assert program.stored("id") == []

    done = program.load(name, "--rejects", "bad.csv")
    assert done.exit_code == 0, done.output
    assert program.stored("id") == [1, 3]
    [(where, why, record)] = rejects()
    assert where == line
    assert reason in why.lower() or reason in why
    assert record


BROKEN_FILES = {
    "an open quote": ("a.csv", b'id,name\n1,ok\n2,"open\n3,ok\n', "Line 3 of a.csv opens a quote"),
    "no header": ("a.csv", b"", "a.csv has no header"),
    "old line ends": ("a.csv", b"id,name\r1,ok\r", "Line 1 of a.csv is no header of a CSV file"),
    "another encoding": (
        "a.csv",
        "id,näme\n1,ok\n".encode("latin-1"),
        "Line 1 of a.csv is not written in",
    ),
    "no Parquet": ("a.parquet", b"no parquet", "a.parquet cannot be read as Parquet"),
    "an empty Parquet": ("a.parquet", b"", "a.parquet cannot be read as Parquet"),
    "a column twice": ("a.csv", b"id,name,name\n1,a,b\n", "Line 1 of a.csv names 'name' twice"),
    "an unknown column": ("a.csv", b"id,nam\n1,a\n", "nam: is no attribute of Person"),
    "a column without a name": ("a.csv", b"id,,name\n1,a,b\n", "names no column between two commas"),
}


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_broken_file_is_told(program: Program, case: str) -> None:
    """What cannot be read on ends in one message, with --rejects too; nothing is stored, no file is made."""
    name, content, message = BROKEN_FILES[case]
    Path(name).write_bytes(content)

    for options in ((), ("--rejects", "bad.csv")):
        failed = program.load(name, *options)
        assert failed.exit_code == 1
        assert message in failed.stderr
        assert "Fix: " in failed.stderr
    assert program.stored("id") == []
    assert sorted(path.name for path in Path().glob("*.csv")) == ([name] if name == "a.csv" else [])


def test_column_of_the_file_is_named(program: Program) -> None:
    """The message names the column as the file does, also where the database refuses the value."""
    Path("a.csv").write_text("id,Years\n1,x\n")

    failed = program.load("a.csv", "--rename", "Years=age")

    assert "Line 2 of a.csv cannot be stored: age: cannot read 'x' as int." in failed.stderr
    assert "Record: 1, column 'Years'" in failed.stderr


@pytest.mark.parametrize(
    ("renames", "code", "words"),
    [
        (("x=name", "y=name"), 2, "attribute 'name' twice"),
        (("x=name", "x=age"), 2, "'x' twice"),
        (("x=name", "y="), 1, "two columns for attribute 'name': 'name' and 'x'"),
        (("nmae=name", "x=", "y="), 1, "has no 'nmae', which --rename speaks of"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_wrong_renames_are_refused(
    program: Program, renames: tuple[str, ...], code: int, words: str, kind: str
) -> None:
    """Two columns for one attribute, and a name that is not there, are refused; nothing is stored."""
    Path("a.csv").write_text("id,name,x,y\n1,a,b,c\n")
    Path("a.jsonl").write_text('{"id": 1, "name": "a", "x": "b", "y": "c"}\n')

    failed = program.load(f"a.{kind}", *(part for each in renames for part in ("--rename", each)))

    assert failed.exit_code == code
    assert words in failed.stderr or (kind == "jsonl" and "name: has two values" in failed.stderr)
    assert program.stored("id") == []


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16", "utf-16-le", "utf-8-sig", "shift_jis"])
def test_encoding_can_be_told(program: Program, encoding: str) -> None:
    """--encoding reads what other programs have written."""
    name = '日本\n"x"' if encoding in ("shift_jis", "utf-16") else 'é\n"x"'
    quoted = name.replace('"', '""')
    Path("a.csv").write_bytes(f'id,name\r\n1,"{quoted}"\r\n2,b\r\n'.encode(encoding))
    Path("a.jsonl").write_bytes(
        f"{json.dumps({'id': 3, 'name': name}, ensure_ascii=False)}\n".encode(encoding)
    )

    for file in ("a.csv", "a.jsonl"):
        done = program.load(file, "--encoding", encoding)
        assert done.exit_code == 0, done.output
    assert program.stored("name") == [name, "b", name]


@pytest.mark.parametrize(
    "options",
    [("--rejects", "a.csv"), ("--rejects", "link.csv"), ("--rejects", "b.csv", "--resume", "b.csv")],
)
def test_file_that_is_read_is_never_written_over(program: Program, options: tuple[str, ...]) -> None:
    """By its own name or another one; nor do two things go into one file."""
    Path("a.csv").write_text("id,name\n1,a\n", encoding="utf-8")
    Path("link.csv").symlink_to("a.csv")

    refused = program.load("a.csv", *options)

    assert refused.exit_code == 2
    assert "are the same file" in refused.stderr
    assert Path("a.csv").read_text(encoding="utf-8") == "id,name\n1,a\n"
    assert program.stored("id") == []


def test_wrong_encoding_is_refused(program: Program) -> None:
    """What is no encoding is a wrong command line; a file in another one is a broken file."""
    Path("a.csv").write_bytes("id,name\n1,é\n".encode("utf-16")[:-1])

    for name in ("no-such-code", "rot13", "base64"):
        assert program.load("a.csv", "--encoding", name).exit_code == 2
    failed = program.load("a.csv", "--encoding", "utf-16")
    assert failed.exit_code == 1
    assert "of a.csv is not written in utf-16" in failed.stderr
    assert program.stored("id") == []


def test_only_what_is_not_quoted_is_no_value(program: Program) -> None:
    """A quoted field is a text, even if it looks like the text that stands for no value."""
    Path("a.csv").write_text('id,name,age\n1,"",\n2,,""\n3,"a ""quoted"" word",\n4,"""",7\n')
    assert program.load("a.csv").exit_code == 0
    assert program.stored("name", "age") == [
        ("", None), (None, None), ('a "quoted" word', None), ('"', 7),
    ]  # fmt: skip

    Path("b.csv").write_text('id,name\n5,"-"\n6,-\n7,\n')
    assert program.load("b.csv", "--null", "-").exit_code == 0
    assert program.stored("name")[4:] == ["-", None, ""]
    assert program.load("b.csv", "--null", ",").exit_code == 2


@pytest.mark.parametrize("options", [(), ("--resume", "where.json")])
def test_many_rejects_are_found(program: Program, options: tuple[str, ...]) -> None:
    """Records that the database refuses, some or all of them, are rejected in the order of the file."""
    refused = {n for n in range(1, 4_001) if n % 2 == 0 or n > 3_000}
    lines = [f"{n},{-n if n in refused else n}" for n in range(1, 4_001)]
    Path("a.csv").write_text("\n".join(["id,age", *lines, ""]))

    done = program.load("a.csv", "--rejects", "bad.csv", *options, "--json")

    assert done.exit_code == 0, done.output
    assert (json.loads(done.stdout)["stored"], json.loads(done.stdout)["rejected"]) == (1_500, 2_500)
    assert program.stored("id") == sorted(set(range(1, 4_001)) - refused)
    assert [line - 1 for line, _reason, _record in rejects()] == sorted(refused)
    assert all("constraint" in reason.lower() for _line, reason, _record in rejects())


@pytest.mark.parametrize("action", ["nothing", "update"])
def test_many_rejects_mind_conflicts(program: Program, action: str) -> None:
    """Of rows with one key the last good one counts with `update`, and the first one with `nothing`."""
    lines = [f"{1 + n % 10},{-1 if n % 3 else n + 1}" for n in range(300)]
    Path("a.csv").write_text("\n".join(["id,age", *lines, ""]))

    done = program.load("a.csv", "--on-conflict", action, "--rejects", "bad.csv", "--json")

    assert done.exit_code == 0, done.output
    expected: dict[int, int] = {}
    for n in range(0, 300, 3):
        if action == "update" or 1 + n % 10 not in expected:
            expected[1 + n % 10] = n + 1
    assert program.stored("id", "age") == sorted(expected.items())
    assert json.loads(done.stdout)["stored"] == (100 if action == "update" else 10)
    assert len(rejects()) == 200


def test_dry_run_touches_nothing(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither rows nor the position nor the rejects change, and the load goes on where it was."""
    monkeypatch.setattr("unitwork.cli._loading.CHUNK_ROWS", 3)
    options = ("--resume", "where.json", "--rejects", "bad.csv")
    good = "".join(f"{n},{'x' if n == 2 else n}\n" for n in range(1, 8))
    Path("a.csv").write_text(f"id,age\n{good}" + '8,"open\n')
    assert program.load("a.csv", *options).exit_code == 1
    before = {path.name: path.read_bytes() for path in Path().iterdir() if path.suffix in (".json", ".csv")}
    stored = program.stored("id")

    tried = program.load("a.csv", *options, "--dry-run")
    assert tried.exit_code == 1
    Path("a.csv").write_text(f"id,age\n{good}8,y\n")
    tried = program.load("a.csv", *options, "--dry-run")

    assert tried.exit_code == 0, tried.output
    assert "Would reject line 9: age: cannot read 'y' as int." in tried.stderr
    assert program.stored("id") == stored == [1, 3, 4, 5, 6]
    assert {name: Path(name).read_bytes() for name in before if name != "a.csv"} == {
        name: content for name, content in before.items() if name != "a.csv"
    }
    assert program.load("a.csv", *options).exit_code == 0
    assert program.stored("id") == [1, 3, 4, 5, 6, 7]
    assert [line for line, _reason, _record in rejects()] == [3, 9]


def test_position_is_not_used_for_another_file(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not what was loaded is refused; after a complete load one of another name is new."""
    monkeypatch.setattr("unitwork.cli._loading.CHUNK_ROWS", 2)
    Path("a.csv").write_text("id,age\n1,1\n2,2\n3,x\n")
    assert program.load("a.csv", "--resume", "where.json").exit_code == 1

    Path("a.csv").write_text("id,age\n1,7\n2,2\n3,3\n")
    failed = program.load("a.csv", "--resume", "where.json")
    assert failed.exit_code == 1
    assert "where.json is the position in another file" in failed.stderr
    assert program.stored("id") == [1, 2]

    Path("a.csv").write_text("id,age\n1,1\n2,2\n3,3\n")
    assert program.load("a.csv", "--resume", "where.json").exit_code == 0
    Path("a.csv").write_text("id,age\n1,1\n2,2\n3,3\n4,4\n")
    assert program.load("a.csv", "--resume", "where.json").exit_code == 0
    assert program.stored("id") == [1, 2, 3, 4]

    Path("b.csv").write_text("id,age\n9,1\n")
    assert program.load("b.csv", "--resume", "where.json").exit_code == 0
    assert program.stored("id") == [1, 2, 3, 4, 9]


def test_file_that_grew_is_loaded_on(program: Program) -> None:
    """Of a file that was loaded as a whole, and goes on, only what is new is stored; nothing twice."""
    file, options = Path("a.csv"), ("--resume", "where.json", "--json")
    grown = "id,age\n1,1\n2,2"
    for more, stored in (("", 2), ("\n3,3\n4,4", 2), ("\r\n5,5\n", 1), ("\n\n", 0), ("6,6\n", 1)):
        grown += more
        file.write_bytes(grown.encode())
        done = program.load("a.csv", *options)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["stored"] == stored
    assert program.stored("id") == [1, 2, 3, 4, 5, 6]

    before = Path("where.json").read_bytes()
    for changed in (grown[:-1] + "6\n7,7\n", grown.replace("1,1", "1,9"), "id,age\n1,1\n", "id,age\n9,9\n"):
        file.write_bytes(changed.encode())
        failed = program.load("a.csv", *options)
        assert failed.exit_code == 1
        assert "where.json says that this file is stored up to line 9, and that part of it" in failed.stderr
        assert "remove the file of the position to load all of this one" in failed.stderr
    assert program.stored("id", "age")[:1] == [(1, 1)]
    assert program.stored("id") == [1, 2, 3, 4, 5, 6]
    assert Path("where.json").read_bytes() == before

    Path("where.json").unlink()
    assert program.load("a.csv", *options).exit_code == 0
    assert program.stored("id") == [1, 2, 3, 4, 5, 6, 9]


def test_rejects_are_added_to_what_is_there(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person writes into the rejects of --resume stays; those of other loads are refused."""
    monkeypatch.setattr("unitwork.cli._loading.CHUNK_ROWS", 2)
    options = ("--resume", "where.json", "--rejects", "bad.csv")
    Path("a.csv").write_text('id,age\n1,x\n2,2\n3,y\n4,"open\n')
    assert program.load("a.csv", *options).exit_code == 1
    assert [line for line, _why, _record in rejects()] == [2]

    def note(line: int) -> None:
        with Path("bad.csv").open("a") as file:
            file.write(f"{line},mine,a note\n")

    note(100)
    Path("a.csv").write_text("id,age\n1,x\n2,2\n3,y\n4,4\n")
    assert program.load("a.csv", *options).exit_code == 0
    assert [line for line, _why, _record in rejects()] == [2, 100, 4]
    note(101)
    Path("a.csv").write_text("id,age\n1,x\n2,2\n3,y\n4,4\n5,z\n")
    assert program.load("a.csv", *options).exit_code == 0
    assert [line for line, _why, _record in rejects()] == [2, 100, 4, 101, 6]

    before = Path("bad.csv").read_bytes()
    Path("where.json").unlink()
    failed = program.load("a.csv", *options)
    assert failed.exit_code == 1
    assert "bad.csv holds something already, and nothing of this load" in failed.stderr
    assert Path("bad.csv").read_bytes() == before


def test_file_that_is_no_position_stays(program: Program) -> None:
    """--resume writes over nothing but a position."""
    Path("a.csv").write_text("id,age\n1,1\n")

    failed = program.load("a.csv", "--resume", "a.csv")

    assert failed.exit_code == 1
    assert "a.csv is not the position of a load" in failed.stderr
    assert Path("a.csv").read_text() == "id,age\n1,1\n"


def test_failed_load_keeps_the_rejects_of_another(program: Program) -> None:
    """A file of rejects is replaced when a load ends, not before."""
    Path("a.csv").write_text("id,age\n1,x\n")
    assert program.load("a.csv", "--rejects", "bad.csv").exit_code == 0
    before = rejects()

    Path("b.csv").write_text('id,age\n2,y\n3,"open\n')
    assert program.load("b.csv", "--rejects", "bad.csv").exit_code == 1
    assert rejects() == before

    Path("b.csv").write_text("id,age\n2,2\n")
    assert program.load("b.csv", "--rejects", "bad.csv").exit_code == 0
    assert rejects() == []


def test_load_of_a_pipe_goes_on(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard input is a file like any other, also for --resume."""
    monkeypatch.setattr("unitwork.cli._loading.CHUNK_ROWS", 2)
    options = ("--format", "csv", "--resume", "where.json")

    assert program.load("-", *options, typed=b"id,age\n1,1\n2,2\n3,x\n").exit_code == 1
    assert program.load("-", *options, typed=b"id,age\n1,1\n2,2\n3,3\n").exit_code == 0
    assert program.stored("id") == [1, 2, 3]
    assert "stdin" in program.load("-", "--format", "csv", typed=b"").stderr


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("price", "1.2340", "has 3 digits after the point, and the column keeps 2"),
        ("weight", "1e999", "cannot read '1e999' as float"),
        ("at", "2024-02-29T12:00:00+02:00", "has a time zone, which the column does not keep"),
        ("at", "2024-02-30", "cannot read '2024-02-30' as datetime"),
        ("whole", "1.5", "cannot read '1.5' as int"),
        ("ready", "2", "cannot read '2' as bool"),
    ],
)
def test_value_that_would_change_is_refused(program: Program, name: str, text: str, reason: str) -> None:
    """What a column cannot keep as it is written is told, not rounded or cut."""
    Path("a.csv").write_text(f"id,{name}\n1,{text}\n")

    failed = program.run("load", "a.csv", "--into", "broken_models:Thing")

    assert failed.exit_code == 1
    assert f"Line 2 of a.csv cannot be stored: {name}: {reason}." in failed.stderr


def test_value_that_only_some_databases_take_is_rejected_alone(program: Program, backend: Backend) -> None:
    """What a bulk write, a driver or a type would not take, or not give back, is its row's matter."""
    no_number = {"sqlite": "is not a number, which SQLite keeps as NULL", "mariadb": "is not finite"}
    told = {
        "weight,nan": no_number.get(backend.database),
        "price,NaN": no_number.get(backend.database),
        "zoned,2024-02-29": "needs a time zone" if backend.database == "postgresql" else None,
        "weight,-inf": "is not finite" if backend.database == "mariadb" else None,
        "number,no-uuid": "",
        "at,infinity": "cannot read 'infinity'" if backend.id != "asyncpg" else None,
    }
    for case, reason in told.items():
        name, value = case.split(",")
        Path("a.csv").write_text(f"id,{name}\n1,{value}\n2,\n")
        load = ("load", "a.csv", "--into", "broken_models:Thing", "--on-conflict", "update")
        if reason is not None:
            failed = program.run(*load)
            assert failed.exit_code == 1
            assert "Line 2 of a.csv cannot be stored: " in failed.stderr, failed.stderr
            assert reason in failed.stderr

        passed = program.run(*load, "--rejects", f"{name}.csv")

        assert passed.exit_code == 0, passed.stderr
        found = rejects(f"{name}.csv") if Path(f"{name}.csv").exists() else []
        assert [line for line, _reason, _record in found] == ([] if reason is None else [2]), case


@pytest.mark.only("postgresql", "mariadb", reason="SQLite keeps numbers as floats")
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_all_digits_of_a_number_are_kept(program: Program, kind: str) -> None:
    """A number has the digits that it was written with, as many as the column has."""
    digits = "12345678901234567890.12345678901234567891"
    Path("a.csv").write_text(f"id,exact\n1,{digits}\n2,1.50000000000000000000000\n")
    Path("a.jsonl").write_text(f'{{"id": 1, "exact": {digits}}}\n{{"id": 2, "exact": 15e-1}}\n')

    done = program.run("load", f"a.{kind}", "--into", "broken_models:Thing")

    assert done.exit_code == 0, done.output
    dumped = program.run("dump", "broken_models:Thing", "--attributes", "id,exact")
    assert dumped.stdout == f"id,exact\n1,{digits}\n2,1.50000000000000000000\n"

    Path("b.csv").write_text("id,rounded\n3,1.5\n")
    failed = program.run("load", "b.csv", "--into", "broken_models:Thing")
    assert "rounded: has 1 digits after the point, and the column keeps 0" in failed.stderr


ODD = [
    "it's",
    '"quoted"',
    "100 %s",
    "{braces}",
    "back\\slash",
    "a;b",
    "\U0001f600 é",
    "-- no comment",
    "%(name)s",
]


@pytest.mark.parametrize("conflict", ["fail", "nothing", "update"])
def test_many_rejects_leave_every_other_row_as_it_is(program: Program, conflict: str) -> None:
    """Whatever is written in them, and however many are sent together: each is stored or rejected once."""
    rows = [
        {"id": number, "name": ODD[number % len(ODD)] * (1 + number % 7), "age": -1 if number % 3 == 0 else 5}
        for number in range(1, 1_801)
    ]
    for row in rows[1_000:1_010]:
        row["name"] = "long" * 15_000
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    known = dict.fromkeys((1, 500), "known")
    Path("known.jsonl").write_text(
        "\n".join(json.dumps({"id": number, "name": name, "age": 1}) for number, name in known.items())
    )
    assert program.load("known.jsonl").exit_code == 0

    done = program.load("a.jsonl", "--rejects", "bad.csv", "--on-conflict", conflict, "--json")

    assert done.exit_code == 0, done.output
    wanted = {int(str(row["id"])): row["name"] for row in rows if row["age"] != -1}
    kept = {} if conflict == "update" else known
    assert dict(program.stored("id", "name")) == {**wanted, **kept}
    also = [1, 500] if conflict == "fail" else []
    assert [line for line, _why, _record in rejects()] == sorted([*range(3, 1_801, 3), *also])
    assert json.loads(done.stdout)["stored"] == len(wanted) - (0 if conflict == "update" else len(known))
