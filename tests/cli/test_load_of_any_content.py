"""`unitwork load` ends in a message, whatever is in the file, and stores nothing that it does not tell."""

import csv
import io
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from sqlalchemy import URL

from tests.fixtures.commands import command_runner
from unitwork.cli import main

MODELS = """
import datetime as dt
import enum
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, LargeBinary, MetaData, Numeric, String
from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base


class Colour(enum.Enum):
    RED = "r"


class Thing(Base):
    __tablename__ = "things_of_any_content"
    metadata = MetaData()

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(50))
    size: Mapped[int | None]
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    weight: Mapped[float | None]
    day: Mapped[dt.date | None]
    at: Mapped[dt.datetime | None]
    takes: Mapped[dt.timedelta | None]
    colour: Mapped[Colour | None]
    ready: Mapped[bool | None]
    picture: Mapped[bytes | None] = mapped_column(LargeBinary)
    details: Mapped[Any | None] = mapped_column(JSON)
"""
NAMES = [
    *("id", "name", "size", "price", "weight", "day"),
    *("at", "takes", "colour", "ready", "picture", "details"),
]
# What has broken readers of files: marks, ends, numbers beyond bounds, halves of characters.
PIECES = [
    *(b'"', b'""', b",", b"\n", b"\r", b"\r\n", b"\x00", b"\xff", b"\xfe", b"\xef\xbb\xbf", b"\\", b"{"),
    *(b"[", b"]", b":", b"}", b"null", b"NaN", b"Infinity", b"-0", b"1e999", b"1e999999999", b"9" * 400),
    *(b"1_000", "٣".encode(), b"\xed\xa0\x80", b'"\\ud800"', b"true", b"infinity", b"2024-02-30", b"0x10"),
    *(b"24:00:00", b"0000-00-00", b"99999-01-01", b"t", b"RED", b"\\x0", b"=1+1", b"1,2,3", b" ", b"\t"),
    *(b"[" * 2_000, b"\x1a"),
]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: URL) -> Callable[..., Result]:
    """Loads the file of this name, with options."""
    (tmp_path / "models_of_any_content.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    address = database_url.render_as_string(hide_password=False)

    def run(command: str, *options: str) -> Result:
        return command_runner().invoke(main, [command, "--url", address, *options])

    made = run("create-tables", "--models", "models_of_any_content")
    assert made.exit_code == 0, made.output
    return lambda file, *options: run("load", file, "--into", "models_of_any_content:Thing", *options)


def check(done: Result) -> None:
    """It ended in a summary or in a message, not in a traceback."""
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    assert done.exit_code in (0, 1), done.output
    assert "Traceback" not in done.output
    if done.exit_code:
        assert done.stderr.startswith("Error: "), done.stderr


class Breaker:
    """Makes files that are broken, or nearly not."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def content(self, kind: str) -> bytes:
        """A file of this format, with something wrong in it."""
        good = {"csv": self._csv, "jsonl": self._json, "parquet": self._parquet}[kind]()
        way = self._chance.randrange(4)
        if way == 0:
            return self._chance.randbytes(self._chance.randrange(200))
        return good if way == 1 else self._broken(good)

    def _broken(self, good: bytes) -> bytes:
        content = bytearray(good)
        for _ in range(self._chance.randrange(1, 6)):
            place = self._chance.randrange(len(content) + 1)
            match self._chance.randrange(4):
                case 0:
                    content[place : place + self._chance.randrange(8)] = b""
                case 1:
                    content[place:place] = self._chance.choice(PIECES)
                case 2:
                    content[place : place + 1] = self._chance.randbytes(1)
                case _:
                    del content[place:]
        return bytes(content)

    def _field(self) -> bytes:
        return self._chance.choice([b"", b"1", b"12.5", b"2024-02-29", b"2024-02-29T12:00:00", b"t", *PIECES])

    def _csv(self) -> bytes:
        rows = [[self._field().decode("utf-8", "replace") for _ in NAMES] for _ in range(5)]
        written = io.StringIO()
        csv.writer(written).writerows([NAMES, *rows])
        return written.getvalue().encode()

    def _json(self) -> bytes:
        values: list[object] = [
            None,
            1,
            -2.5,
            True,
            "x",
            "2024-02-29",
            [1],
            {"a": [None]},
            10**30,
            "",
            [[[]]],
        ]
        rows = [{name: self._chance.choice(values) for name in NAMES} for _ in range(5)]
        return "\n".join(json.dumps(row) for row in rows).encode()

    def _parquet(self) -> bytes:
        columns = {
            "id": pa.array([1, 2, None], pa.int64()),
            "name": pa.array(["x", None, "\x00"]),
            "size": pa.array([2**62, 1, None], pa.int64()),
            "at": pa.array([2**61, 0, None], pa.timestamp(self._chance.choice(["ms", "us", "ns"]))),
            "day": pa.array([2**30, 0, None], pa.int32()).cast(pa.date32()),
            "details": pa.array([[1, 2], [], None], pa.list_(pa.int8())),
            "weight": pa.array([float("nan"), float("inf"), None], pa.float32()),
        }
        names = self._chance.sample(sorted(columns), self._chance.randrange(1, len(columns)))
        written = io.BytesIO()
        pq.write_table(pa.table({name: columns[name] for name in names}), written)
        return written.getvalue()


def load_broken_files(load: Callable[..., Result], seed: int) -> None:
    """Load one file of each format, without and with a file for rejects."""
    breaker = Breaker(random.Random(seed))  # noqa: S311  # no secret
    for kind in ("csv", "jsonl", "parquet"):
        content = breaker.content(kind)
        Path(f"things.{kind}").write_bytes(content)
        for options in ((), ("--rejects", "bad.csv")):
            try:
                check(load(f"things.{kind}", *options))
            except AssertionError as error:
                error.add_note(f"Seed {seed}, {kind}, {options}: {content!r}")
                raise


def test_load_of_any_content_ends_in_a_message(load: Callable[..., Result]) -> None:
    """Broken files end in a summary with rejects, or in one message."""
    for seed in range(25):
        load_broken_files(load, seed)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_load_of_any_content_ends_in_a_message_for_long(load: Callable[..., Result]) -> None:
    """The same, for a minute."""
    seed, end = random.SystemRandom().randrange(10**9), time.monotonic() + 60
    while time.monotonic() < end:
        seed += 1
        load_broken_files(load, seed)
