"""This module writes rows to files: CSV, JSON lines and Parquet."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import IO, Any, Protocol

import click

from unitwork._logic.values.texts import UnreadableValueError, json_text
from unitwork.cli._reading import parquet_library
from unitwork.cli._values import JSON_NULL, TYPES_NONE, Attribute, csv_text

Rows = Sequence[Sequence[Any]]


class RecordWriter(Protocol):
    """Writes rows to a file. Lives: one command."""

    def write(self, rows: Rows) -> None:
        """Write some rows."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


def writer_of(kind: str, file: IO[bytes], attributes: Sequence[Attribute], null: str) -> RecordWriter:
    """Return what writes a format."""
    if kind == "csv":
        return CsvWriter(file, attributes, null)
    return JsonWriter(file, attributes) if kind == "jsonl" else ParquetWriter(file, attributes)


class CsvWriter:
    """Writes CSV with a header, as PostgreSQL does: only a value that is not quoted can be no value."""

    def __init__(self, file: IO[bytes], attributes: Sequence[Attribute], null: str) -> None:
        self._file = file
        self._null = null
        self._alone = len(attributes) == 1 and null == ""
        self._texts = [csv_text(attribute) for attribute in attributes]
        self._line(self._quoted(attribute.name) for attribute in attributes)

    def _line(self, fields: Iterable[str]) -> None:
        self._file.write((",".join(fields) + "\n").encode())

    def _quoted(self, text: str) -> str:
        if text in ("", self._null) or any(mark in text for mark in _MARKS):
            return '"' + text.replace('"', '""') + '"'
        return text

    def write(self, rows: Rows) -> None:
        """Write some rows."""
        for row in rows:
            if self._alone and row[0] is None:
                raise click.ClickException(
                    "No value, alone in its line, would be an empty line.\n  Fix: give --null, such as '\\N'."
                )
            self._line(
                self._null if value is None else self._quoted(text(value))
                for text, value in zip(self._texts, row, strict=True)
            )

    def close(self) -> None:
        """Nothing is left."""


_MARKS = (",", '"', "\n", "\r")


class JsonWriter:
    """Writes a JSON object in each line."""

    def __init__(self, file: IO[bytes], attributes: Sequence[Attribute]) -> None:
        self._file = file
        self._attributes = attributes

    def write(self, rows: Rows) -> None:
        """Write some rows."""
        for row in rows:
            record: dict[str, Any] = {}
            for attribute, value in zip(self._attributes, row, strict=True):
                if value is None and attribute.tells_nulls_apart:
                    self._check_left_out(attribute)
                    continue  # What is not there is NULL; null would be JSON's own, or the type's.
                plain = value is None or value is JSON_NULL or value is TYPES_NONE
                record[attribute.name] = None if plain else attribute.to_json(value)
            self._file.write(json_text(record).encode() + b"\n")

    @staticmethod
    def _check_left_out(attribute: Attribute) -> None:
        if attribute.is_filled:
            problem = "which is NULL, and would be its default; only --format csv tells these apart"
            raise UnreadableValueError(f"{attribute.name}, {problem}")

    def close(self) -> None:
        """Nothing is left."""


class ParquetWriter:
    """Writes Parquet; values that it has no class for as text."""

    def __init__(self, file: IO[bytes], attributes: Sequence[Attribute]) -> None:
        self._pyarrow, parquet = parquet_library()
        native = [self._native(attribute) for attribute in attributes]
        self._convert: list[Callable[[Any], Any]] = [
            partial(_parquet_value, attribute, _same if known is not None else csv_text(attribute))
            for attribute, known in zip(attributes, native, strict=True)
        ]
        self._schema = self._pyarrow.schema(
            [
                (attribute.name, known or self._pyarrow.string())
                for attribute, known in zip(attributes, native, strict=True)
            ]
        )
        self._writer = parquet.ParquetWriter(file, self._schema)

    def _native(self, attribute: Attribute) -> Any:  # noqa: ANN401  # a type of pyarrow
        """Return the type of a column that holds the values as they are; None if there is none."""
        values, arrow = attribute.values, self._pyarrow
        if attribute.form.is_structured or values.known is None or values.choices:
            return None
        if getattr(values.inner, "unsigned", False):
            return None  # Beyond 64 bits with a sign.
        known = {
            bool: arrow.bool_,
            int: arrow.int64,
            float: arrow.float64,
            str: arrow.string,
            bytes: arrow.binary,
            dt.date: arrow.date32,
        }
        return known[values.kind]() if values.kind in known else None

    def write(self, rows: Rows) -> None:
        """Write some rows."""
        columns = [
            [None if value is None else convert(value) for value in values]
            for convert, values in zip(self._convert, zip(*rows, strict=True), strict=True)
        ]
        self._writer.write_table(self._pyarrow.table(columns, schema=self._schema))

    def close(self) -> None:
        """Write the end of the file, without which it cannot be read."""
        self._writer.close()


def _same(value: Any) -> Any:  # noqa: ANN401  # a value of an attribute
    return value


def _parquet_value(attribute: Attribute, written: Callable[[Any], Any], value: Any) -> Any:  # noqa: ANN401  # as above
    if value is TYPES_NONE:
        problem = "which is None but not NULL; only --format jsonl tells these apart"
        raise UnreadableValueError(f"{attribute.name}, {problem}")
    return written(value)
