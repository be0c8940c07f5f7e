"""This module writes rows to files: CSV, JSON lines and Parquet."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from typing import IO, Any, Protocol

import click

from unitwork.cli._fields import as_text, plain
from unitwork.cli._reading import parquet_library


class RecordWriter(Protocol):
    """Writes rows to a file. Lives: one command."""

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write some rows."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class CsvWriter:
    """Writes CSV with a header, as PostgreSQL does: only a value that is not quoted can be no value."""

    def __init__(self, file: IO[bytes], names: Sequence[str], null: str) -> None:
        self._file = file
        self._null = null
        self._alone = len(names) == 1 and null == ""
        self._line([self._quoted(name) for name in names])

    def _line(self, fields: Sequence[str]) -> None:
        self._file.write((",".join(fields) + "\n").encode())

    def _quoted(self, text: str) -> str:
        if text in ("", self._null) or any(mark in text for mark in _MARKS):
            return '"' + text.replace('"', '""') + '"'
        return text

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write some rows."""
        for row in rows:
            if self._alone and row[0] is None:
                raise click.ClickException(
                    "No value, alone in its line, would be an empty line.\n  Fix: give --null, such as '\\N'."
                )
            self._line([self._null if value is None else self._quoted(as_text(value)) for value in row])

    def close(self) -> None:
        """Nothing is left."""


_MARKS = (",", '"', "\n", "\r")


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
        self._pyarrow, parquet = parquet_library()
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
    return None if value is None else as_text(value)


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
