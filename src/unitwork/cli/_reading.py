"""This module reads records from files of any content: CSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import decimal
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unitwork.cli._files import STANDARD, opened
from unitwork.cli._source import LONGEST_LINE, BrokenFileError, Source, Undecodable
from unitwork.errors import MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

_PARQUET_ROWS = 1_000
_MOST_DIGITS = 100_000
_BOUNDLESS = "a number beyond all bounds"

CheckNames = Callable[[Sequence[str]], None]


@dataclass(slots=True)
class Found:
    """One record of a file, or what is in its place. Lives: until it is stored or rejected."""

    line: int
    """The line that it begins in, from 1; of Parquet the row."""
    row: int
    """Which record it is, from 1."""
    values: dict[str, Any]
    problem: str | None = None
    """Why it is no record."""
    text: str | None = None
    """As it was written, if that tells more than the values."""


class Records(Source):
    """The records of a file. Lives: one command.

    Iterating yields each record; a piece of the file that is no record comes as one with a problem.
    Iterating again begins anew, except on stdin.

    Raises:
        BrokenFileError: The file cannot be read, or not any further.
    """

    def __init__(self, path: str, kind: str, *, encoding: str = "utf-8", null: str = "") -> None:
        super().__init__(path, encoding)
        self.kind = kind
        self.null = null
        self.check_names: CheckNames = _any_names
        """Called with the names of the columns, where a file has them in one place."""

    @property
    def unit(self) -> str:
        """What a record's place is counted in."""
        return "Row" if self.kind == "parquet" else "Line"

    def __iter__(self) -> Iterator[Found]:
        self.begin()
        if self.kind == "parquet":
            yield from _Parquet(self)
            return
        lines = self.lines()
        yield from _Csv(self, lines) if self.kind == "csv" else _json_records(lines)


def _any_names(_names: Sequence[str]) -> None:
    """Take any names."""


class _Csv:
    """The records of a CSV file with a header. Lives: one iteration."""

    def __init__(self, records: Records, lines: Iterator[str]) -> None:
        self._records = records
        self._lines = lines
        self._taken: list[str] = []
        self._line = 0

    def _next_lines(self) -> Iterator[str]:
        for line in self._lines:
            self._taken.append(line)
            yield line

    def __iter__(self) -> Iterator[Found]:
        # The limit is there for those who read files of others into a browser; here lines have one.
        before = csv.field_size_limit(LONGEST_LINE)
        try:
            yield from self._all()
        finally:
            csv.field_size_limit(before)

    def _all(self) -> Iterator[Found]:
        reader = csv.reader(self._next_lines(), strict=True)
        names = self._header(reader)
        row = 0
        while (found := self._next(reader)) is not None:
            if isinstance(found, list) and not found:
                continue
            row += 1
            yield self._record(names, found, row)

    def _next(self, reader: Any) -> list[str] | csv.Error | None:  # noqa: ANN401  # the csv module names no class
        """Return the next fields, what is wrong with them, or None at the end."""
        self._line += len(self._taken)
        self._taken.clear()
        try:
            return next(reader, None)
        except csv.Error as error:
            if "".join(self._taken).count('"') % 2:
                # Whatever follows may stand inside of the quotes.
                problem = "opens a quote that is never closed, or closes it in the middle of a field"
                raise self._records.broken(
                    self._line + 1, problem, 'write a quote inside of a quoted field as ""'
                ) from None
            return error

    def _header(self, reader: Any) -> list[str]:  # noqa: ANN401  # the csv module names no class
        found = self._next(reader)
        if found is None or found == []:
            raise self._records.broken(
                None if found is None else 1, "has no header", "name the columns in the first line"
            )
        for line in self._taken:
            if isinstance(line, Undecodable):
                fix = "give the --encoding that it is written in"
                raise self._records.broken(1, line.problem, fix)
        if isinstance(found, csv.Error):
            raise self._records.broken(1, f"is no header of a CSV file ({found})", _LINE_ENDS)
        self._records.check_names(found)
        return found

    def _record(self, names: Sequence[str], found: list[str] | csv.Error, row: int) -> Found:
        text = "".join(self._taken)
        record = Found(self._line + 1, row, {}, text=text.rstrip("\r\n"))
        undecodable = next((line for line in self._taken if isinstance(line, Undecodable)), None)
        if undecodable is not None:
            record.problem = undecodable.problem
        elif isinstance(found, csv.Error):
            record.problem = f"is no CSV ({found})"
        elif len(found) != len(names):
            record.problem = f"has {len(found)} fields, and the header has {len(names)}"
        else:
            record.text = None
            record.values = dict(zip(names, self._with_nulls(found, text), strict=True))
        return record

    def _with_nulls(self, fields: list[str], text: str) -> Sequence[str | None]:
        """Put None for what stands for no value; what is quoted is a value always."""
        null = self._records.null
        if null not in fields:
            return fields
        if f'"{null}"' not in text:
            return [None if field == null else field for field in fields]
        quoted = _quoted_fields(text)
        return [
            None if field == null and not marked else field
            for field, marked in zip(fields, quoted, strict=True)
        ]


_LINE_ENDS = "write CSV with a comma between fields and a line end after each record"
_FIELD = re.compile(r'("(?:[^"]|"")*"[^,\r\n]*|[^,\r\n]*)(,|\r?\n|\r|$)')


def _quoted_fields(text: str) -> list[bool]:
    """Say of each field of a record that the csv module has read whether it was quoted."""
    found: list[bool] = []
    place = 0
    while (match := _FIELD.match(text, place)) is not None:
        found.append(match[1].startswith('"'))
        if match[2] != ",":
            break
        place = match.end()
    return found


def _json_records(lines: Iterable[str]) -> Iterator[Found]:
    row = 0
    for line, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        row += 1
        record = Found(line, row, {}, text=text.rstrip("\r\n"))
        if isinstance(text, Undecodable):
            record.problem = text.problem
        else:
            _read_json(record, text)
        yield record


class _Repeating(dict[str, Any]):
    """An object that names something twice."""


def _number(text: str) -> decimal.Decimal:
    """Read a number with all its digits."""
    number = decimal.Decimal(text)
    if abs(number.adjusted()) > _MOST_DIGITS:
        # To write it out would take minutes, and memory.
        raise ValueError(_BOUNDLESS)
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Repeating(found)


def _read_json(record: Found, text: str) -> None:
    try:
        found: Any = json.loads(text, parse_float=_number, object_pairs_hook=_object)
    except RecursionError:
        record.problem = "is no JSON that anybody could read (nested too deeply)"
        return
    except decimal.InvalidOperation:
        record.problem = f"is no JSON ({_BOUNDLESS})"
        return
    except ValueError as error:
        record.problem = f"is no JSON ({error})"
        return
    if not isinstance(found, dict):
        record.problem = "is no JSON object"
    elif isinstance(found, _Repeating):
        record.problem = "names an attribute twice"
    else:
        record.values = found


def parquet_library() -> tuple[ModuleType, ModuleType]:
    """Return pyarrow and its part for Parquet."""
    try:
        import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]  # it has none
        import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs]  # it has none
    except ModuleNotFoundError as error:
        raise MissingExtraError("Reading and writing Parquet", "pyarrow", "parquet") from error
    return pa, pyarrow.parquet


class _Parquet:
    """The records of a Parquet file. Lives: one iteration."""

    def __init__(self, records: Records) -> None:
        self._records = records
        pyarrow, self._parquet = parquet_library()
        # What pyarrow raises about files of any content; its own classes are kinds of these, but for one.
        self._broken = (pyarrow.ArrowException, OSError, ValueError, ArithmeticError, LookupError, TypeError)

    def __iter__(self) -> Iterator[Found]:
        with self._opened() as file:
            total = max(1, file.metadata.num_rows)
            self._records.check_names(list(file.schema_arrow.names))
            row = 0
            for batch in self._batches(file):
                for values in self._rows(batch):
                    row += 1
                    self._records.read = (self._records.size or 0) * row // total
                    self._records.note(repr(values).encode("utf-8", "backslashreplace"))
                    if isinstance(values, Mapping):
                        yield Found(row, row, dict(values))
                    else:
                        yield Found(row, row, {}, f"cannot be read ({values})")

    def _opened(self) -> Any:  # noqa: ANN401  # of pyarrow
        path = self._records.path
        source = io.BytesIO(opened(path).read()) if path == STANDARD else path
        try:
            return self._parquet.ParquetFile(source)
        except self._broken as error:
            raise self._unreadable(None, error) from None

    def _batches(self, file: Any) -> Iterator[Any]:  # noqa: ANN401  # of pyarrow
        row = 0
        batches = file.iter_batches(batch_size=_PARQUET_ROWS)
        while True:
            try:
                batch = next(batches, None)
            except self._broken as error:
                raise self._unreadable(row + 1, error) from None
            if batch is None:
                return
            row += batch.num_rows
            yield batch

    def _rows(self, batch: Any) -> Iterator[Mapping[str, Any] | str]:  # noqa: ANN401  # of pyarrow
        try:
            yield from batch.to_pylist()
        except self._broken:
            # Such as a date beyond those of Python: only its own row is lost.
            for place in range(batch.num_rows):
                try:
                    yield batch.slice(place, 1).to_pylist()[0]
                except self._broken as error:
                    yield _first_line(error)

    def _unreadable(self, row: int | None, error: Exception) -> BrokenFileError:
        place = f" from row {row:,} on" if row else ""
        problem = f"cannot be read as Parquet{place} ({_first_line(error)})"
        return self._records.broken(None, problem, "name a whole Parquet file, or give its --format")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
