"""This module reads records from files of any content: CSV, JSON lines and Parquet."""

from __future__ import annotations

import codecs
import csv
import decimal
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from unitwork.cli._files import STANDARD, opened
from unitwork.errors import MissingExtraError, UnitworkError

if TYPE_CHECKING:
    from types import ModuleType

LONGEST_LINE = 2**30
"""Bytes of one line. A file that has no line ends at all must not fill the memory."""
_PARQUET_ROWS = 1_000
_MOST_DIGITS = 100_000
_BOUNDLESS = "a number beyond all bounds"

CheckNames = Callable[[Sequence[str]], None]


class BrokenFileError(UnitworkError):
    """A file cannot be read, or not beyond this line."""

    def __init__(self, path: str, line: int | None, problem: str, fix: str) -> None:
        super().__init__(path, line, problem, fix)
        self.path = path
        self.line = line
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        place = f"Line {self.line:,} of {self.path}" if self.line else self.path
        return f"{place} {self.problem}.\n  Fix: {self.fix}."


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


class Records:
    """The records of a file. Lives: one command.

    Iterating yields each record; a piece of the file that is no record comes as one with a problem.
    Iterating again begins anew, except on stdin.

    Raises:
        BrokenFileError: The file cannot be read, or not any further.
    """

    def __init__(self, path: str, kind: str, *, encoding: str = "utf-8", null: str = "") -> None:
        self.path = path
        self.kind = kind
        self.encoding = encoding
        self.null = null
        self.size = Path(path).stat().st_size if path != STANDARD else None
        self.check_names: CheckNames = _any_names
        """Called with the names of the columns, where a file has them in one place."""
        self.read = 0
        """Bytes read so far."""
        self._digest = hashlib.blake2b(digest_size=16)

    @property
    def unit(self) -> str:
        """What a record's place is counted in."""
        return "Row" if self.kind == "parquet" else "Line"

    @property
    def digest(self) -> str:
        """What tells this file, as far as it was read, from any other."""
        return self._digest.hexdigest()

    def note(self, piece: bytes) -> None:
        """Count a piece of the file as read."""
        self._digest.update(piece)

    def broken(self, line: int | None, problem: str, fix: str) -> BrokenFileError:
        """Return the error that ends the reading."""
        return BrokenFileError("stdin" if self.path == STANDARD else self.path, line, problem, fix)

    def __iter__(self) -> Iterator[Found]:
        self.read = 0
        self._digest = hashlib.blake2b(digest_size=16)
        if self.kind == "parquet":
            yield from _Parquet(self)
            return
        file = opened(self.path)
        try:
            lines = _lines(self, file)
            yield from _Csv(self, lines) if self.kind == "csv" else _json_records(lines)
        finally:
            if self.path != STANDARD:
                file.close()


def _any_names(_names: Sequence[str]) -> None:
    """Take any names."""


class _Undecodable(str):
    """A line that is not written in the encoding; what it is as far as it can be shown."""

    __slots__ = ("problem",)
    problem: str


def _lines(records: Records, file: IO[bytes]) -> Iterator[str]:
    """Yield the lines of a file, each with its end; what cannot be decoded as `_Undecodable`."""
    encoding = records.encoding
    if not _keeps_ascii(encoding):
        yield from _recoded_lines(records, file)
        return
    for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
        if len(raw) >= LONGEST_LINE:
            raise records.broken(
                number, f"has more than {LONGEST_LINE:,} bytes", "name a file of text with line ends"
            )
        records.read += len(raw)
        records.note(raw)
        line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 and encoding == "utf-8" else raw
        try:
            yield line.decode(encoding)
        except UnicodeError as error:
            shown = _Undecodable(line.decode(encoding, "backslashreplace"))
            shown.problem = _why(error, encoding)
            yield shown


def _why(error: UnicodeError, encoding: str) -> str:
    if not isinstance(error, UnicodeDecodeError):
        return f"is not written in {encoding}"
    return f"is not written in {encoding} (byte {error.start + 1:,} is 0x{error.object[error.start]:02x})"


def _keeps_ascii(encoding: str) -> bool:
    """Say whether line ends are single bytes, so that each line is decoded alone."""
    try:
        return '\n,"a0{'.encode(encoding) == b'\n,"a0{'
    except UnicodeError:
        return False


def _recoded_lines(records: Records, file: IO[bytes]) -> Iterator[str]:
    """Yield the lines of a file such as UTF-16, where one bad byte spoils all that follows."""

    class Counting(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:  # noqa: ANN401  # any buffer
            piece = file.read(len(buffer))
            buffer[: len(piece)] = piece
            records.read += len(piece)
            return len(piece)

    number = 0
    # Line ends stay as they are: they may be part of a value.
    with io.TextIOWrapper(io.BufferedReader(Counting()), encoding=records.encoding, newline="\n") as text:
        try:
            while line := text.readline(LONGEST_LINE):
                number += 1
                records.note(line.encode("utf-8", "surrogatepass"))
                yield line
        except UnicodeError as error:
            problem = _why(error, records.encoding)
            raise records.broken(number + 1, problem, "give the --encoding that it is written in") from None


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
            if isinstance(line, _Undecodable):
                fix = "give the --encoding that it is written in"
                raise self._records.broken(1, line.problem, fix)
        if isinstance(found, csv.Error):
            raise self._records.broken(1, f"is no header of a CSV file ({found})", _LINE_ENDS)
        self._records.check_names(found)
        return found

    def _record(self, names: Sequence[str], found: list[str] | csv.Error, row: int) -> Found:
        text = "".join(self._taken)
        record = Found(self._line + 1, row, {}, text=text.rstrip("\r\n"))
        undecodable = next((line for line in self._taken if isinstance(line, _Undecodable)), None)
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
        if isinstance(text, _Undecodable):
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


def text_encoding(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    """Return the name of an encoding as Python has it; for click.

    Raises:
        click.BadParameter: There is no such encoding of text.
    """
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise click.BadParameter(f"{name!r} is no encoding of text, such as utf-8 or cp1252.") from None
    found = codecs.lookup(name).name
    # The mark that Windows puts before UTF-8 is left out of either.
    return "utf-8" if found == "utf-8-sig" else found


def _null_text(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    if any(mark in text for mark in ',"\r\n'):
        raise click.BadParameter("a comma, a quote or a line end is part of CSV itself; take such as '\\N'.")
    return text


null_option: Callable[[Any], Any] = click.option(
    "--null",
    metavar="TEXT",
    default="",
    callback=_null_text,
    help="What stands for no value in CSV, if it is not in quotes. Nothing by default.",
)
