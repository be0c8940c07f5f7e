"""This module reads and writes records in files: CSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import datetime as dt
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import click

from unitwork.cli._fields import as_text, plain
from unitwork.errors import MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

FORMATS = ("csv", "jsonl", "parquet")
_ENDINGS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_PARQUET_ROWS = 1_000

Record = Mapping[str, Any]


class BrokenRecordError(ValueError):
    """A line is no record at all."""


def format_of(path: str, chosen: str | None) -> str:
    """Return the format of a file, by its name if none was chosen.

    Raises:
        click.UsageError: The name does not tell.
    """
    found = chosen or _ENDINGS.get(Path(path).suffix.lower())
    if found is None:
        raise click.UsageError(f"What is in {path!r}? Give --format {'|'.join(FORMATS)}.")
    return found


class Records:
    """The records of a file, with the line of each. Lives: one command.

    Iterating yields (line, record, bytes read so far); a line that is no record comes as the error.
    """

    def __init__(self, path: str, kind: str) -> None:
        self.path = path
        self.kind = kind
        self.size = Path(path).stat().st_size if path != "-" else None

    def __iter__(self) -> Iterator[tuple[int, Record | BrokenRecordError, int]]:
        if self.kind == "parquet":
            yield from _parquet_records(self.path)
            return
        with _opened(self.path) as file:
            lines = _Counted(file)
            yield from _csv_records(lines) if self.kind == "csv" else _json_records(lines)


class _Counted:
    """The lines of a file, and how many bytes they were."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.read = 0

    def __iter__(self) -> Iterator[str]:
        for raw in self._file:
            line = raw.removeprefix(b"\xef\xbb\xbf") if self.read == 0 else raw
            self.read += len(raw)
            yield line.decode()


def _opened(path: str) -> IO[bytes]:
    return sys.stdin.buffer if path == "-" else Path(path).open("rb")


def _csv_records(lines: _Counted) -> Iterator[tuple[int, Record | BrokenRecordError, int]]:
    reader = csv.reader(iter(lines), strict=True)
    names = next(reader, None)
    if names is None:
        return
    before = reader.line_num
    for fields in reader:
        line, before = before + 1, reader.line_num
        if not fields:
            continue
        if len(fields) != len(names):
            problem = f"has {len(fields)} fields, and the header has {len(names)}"
            yield line, BrokenRecordError(problem), lines.read
        else:
            yield line, dict(zip(names, fields, strict=True)), lines.read


def _json_records(lines: _Counted) -> Iterator[tuple[int, Record | BrokenRecordError, int]]:
    for line, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            record: Any = json.loads(text)
        except ValueError as error:
            record = BrokenRecordError(f"is no JSON ({error})")
        if not isinstance(record, dict | BrokenRecordError):
            record = BrokenRecordError("is no JSON object")
        yield line, record, lines.read


def _parquet() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]  # it has none
        import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs]  # it has none
    except ModuleNotFoundError as error:
        raise MissingExtraError("Reading and writing Parquet", "pyarrow", "parquet") from error
    return pa, pyarrow.parquet


def _parquet_records(path: str) -> Iterator[tuple[int, Record, int]]:
    _pyarrow, parquet = _parquet()
    line = 0
    with parquet.ParquetFile(path) as file:
        size, total = Path(path).stat().st_size, max(1, file.metadata.num_rows)
        for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
            for record in batch.to_pylist():
                line += 1
                yield line, record, size * line // total


class RecordWriter(Protocol):
    """Writes rows to a file. Lives: one command."""

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write some rows."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class CsvWriter:
    """Writes CSV with a header."""

    def __init__(self, file: IO[bytes], names: Sequence[str], null: str) -> None:
        self._file = file
        self._null = null
        self._writer = csv.writer(self, lineterminator="\n")
        self._pieces: list[str] = []
        self._writer.writerow(names)

    def write(self, rows: Any) -> None:  # noqa: ANN401  # rows of us, or a line of the csv module
        """Write some rows."""
        if isinstance(rows, str):
            self._file.write(rows.encode())
            return
        for row in rows:
            self._writer.writerow([as_text(value, self._null) for value in row])

    def close(self) -> None:
        """Nothing is left."""


class JsonWriter:
    """Writes a JSON object in each line."""

    def __init__(self, file: IO[bytes], names: Sequence[str]) -> None:
        self._file = file
        self._names = names

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write some rows."""
        for row in rows:
            record = dict(zip(self._names, row, strict=True))
            self._file.write(json.dumps(record, ensure_ascii=False, default=plain).encode() + b"\n")

    def close(self) -> None:
        """Nothing is left."""


class ParquetWriter:
    """Writes Parquet; `kinds` are the classes of the values."""

    def __init__(self, file: IO[bytes], names: Sequence[str], kinds: Sequence[type | None]) -> None:
        self._pyarrow, parquet = _parquet()
        types = [_arrow_type(self._pyarrow, kind) for kind in kinds]
        self._convert: list[Callable[[Any], Any]] = [
            _as_it_is if known else _text_or_none for _kind, known in types
        ]
        self._schema = self._pyarrow.schema(
            [(name, kind) for name, (kind, _known) in zip(names, types, strict=True)]
        )
        self._writer = parquet.ParquetWriter(file, self._schema)

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write some rows."""
        columns = [
            list(map(convert, values))
            for convert, values in zip(self._convert, zip(*rows, strict=True), strict=True)
        ]
        self._writer.write_table(self._pyarrow.table(columns, schema=self._schema))

    def close(self) -> None:
        """Write the end of the file, without which it cannot be read."""
        self._writer.close()


def _as_it_is(value: Any) -> Any:  # noqa: ANN401  # a value of an attribute
    return value


def _text_or_none(value: Any) -> str | None:  # noqa: ANN401  # a value of an attribute
    return None if value is None else as_text(value, "")


def _arrow_type(pyarrow: Any, kind: type | None) -> tuple[Any, bool]:  # noqa: ANN401  # of pyarrow
    """Return the type of a column, and whether it holds the values as they are."""
    known = {
        bool: pyarrow.bool_,
        int: pyarrow.int64,
        float: pyarrow.float64,
        str: pyarrow.string,
        bytes: pyarrow.binary,
        dt.date: pyarrow.date32,
    }
    return (known[kind](), True) if kind in known else (pyarrow.string(), False)
