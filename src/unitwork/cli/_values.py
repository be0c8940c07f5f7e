"""This module makes rows of a model from the records of files, and hands its values on to files."""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, null

from unitwork._logic.values import values_of
from unitwork._logic.values.files import FileForm
from unitwork._logic.values.texts import UnreadableValueError
from unitwork.bulk.fields import Model
from unitwork.cli._kept import check_for, held

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from unitwork.bulk.fields import Field

# What the types of a program may raise about a value that they do not know.
_REFUSED = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
_SHOWN = 40


class ValueRefusedError(ValueError):
    """A value of a file does not fit its attribute."""

    def __init__(self, attribute: str, problem: str) -> None:
        super().__init__(f"{attribute}: {problem}")
        self.attribute = attribute
        self.problem = problem


class Attribute:
    """One attribute of a model, and how its values stand in files. Lives: one command."""

    def __init__(self, field: Field, entity: type[Any], dialect: Dialect) -> None:
        self.field = field
        self.name = field.name
        self.form = FileForm(values_of(entity, field.name), dialect)
        self.values = self.form.values
        self._check = check_for(self.values, dialect)
        self.is_text = self.values.kind is str and not self.values.choices and not self.form.is_structured
        self._dialect = dialect
        self.fills_none = self.values.fills_none(dialect)
        """Whether the type stores a value of its own where a row has None."""
        nullable = self.values.nullable
        self.tells_nulls_apart = nullable and (self.values.keeps_none or self.fills_none)
        """Whether NULL is one thing, and a null of JSON, or what the type makes of None, another."""
        self.asks_for_null = nullable and (self.tells_nulls_apart or self.values.shows_null(dialect))
        """Whether a value that was read does not tell if it is NULL."""
        self.is_filled = field.default is not None or field.filled_by_database
        """Whether a row that has nothing, or None, gets a default."""
        self.reads_empty = self.is_text or self._reads_empty()
        """Whether an empty text stands for a value."""
        self.selected, self.held = held(self.values, field.column, dialect)
        # In files bytes look alike, whatever the format; as JSON for a browser they are base64.
        self.to_json = self.form.to_text if self.values.kind is bytes else self.form.to_json

    def _reads_empty(self) -> bool:
        try:
            return self.form.from_text("") is not None
        except Exception:  # noqa: BLE001  # code of the program, which nobody has asked for this text
            return False

    @property
    def is_seen_changed(self) -> bool:
        """Whether a dump has something else than what was selected."""
        return self.held is not None or self.asks_for_null or self.fills_none or self.values.keeps_none

    def seen(self, value: Any, *, is_there: bool | None) -> Any:  # noqa: ANN401  # a value of the attribute
        """Return what a dump has of a value that was selected; `is_there` says, if known, if it is NULL."""
        if is_there is None:
            is_there = value is not None or not self.values.nullable
        if not is_there:
            return None
        if value is not None:
            return value if self.held is None else self.held(value)
        if self.values.keeps_none:
            return JSON_NULL
        if self.fills_none and self.is_filled:
            raise UnreadableValueError(f"{self.name}, which is None but not NULL, and would be its default")
        return TYPES_NONE if self.tells_nulls_apart else None

    def none_text(self) -> str:
        """Return the text of what the type has made of None, where no value is NULL.

        Raises:
            UnreadableValueError: There is none.
        """
        if not self.reads_empty or self._is_empty_none():
            return ""
        problem = "which is None but not NULL; only --format jsonl tells these apart"
        raise UnreadableValueError(f"{self.name}, {problem}")

    def _is_empty_none(self) -> bool:
        bound = self.values.bind_processor(self._dialect) or (lambda value: value)
        try:
            return bool(bound(self.form.from_text("")) == bound(None))
        except Exception:  # noqa: BLE001  # code of the program
            return False

    def read(self, value: Any, kind: str) -> Any:  # noqa: ANN401  # a value of a file
        """Return the value of the attribute that a value of a file, not None, stands for.

        Raises:
            ValueRefusedError: There is none.
        """
        try:
            found = self._understood(value, kind)
        except _REFUSED as error:
            shown = str(value) if len(str(value)) <= _SHOWN else f"{str(value)[:_SHOWN]}…"
            raise ValueRefusedError(self.name, f"cannot read {shown!r} as {self.form.name}") from error
        changed = self._check(found) if self._check is not None and found is not None else None
        if changed is not None:
            raise ValueRefusedError(self.name, changed)
        return found

    def _understood(self, value: Any, kind: str) -> Any:  # noqa: ANN401  # values
        if kind == "csv" or (kind == "parquet" and isinstance(value, str)):
            found = self.form.from_text(value)
        else:
            found = self.form.from_json(_with_floats(value) if self.form.is_structured else value)
        if isinstance(found, float) and math.isinf(found) and "inf" not in str(value).lower():
            raise OverflowError("beyond what a float holds")
        return found


def _with_floats(value: Any) -> Any:  # noqa: ANN401  # JSON
    """Return JSON with the numbers that JSON columns hold; decimals were read for the digits of others."""
    if isinstance(value, dict):
        return {key: _with_floats(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_floats(each) for each in value]
    return float(value) if isinstance(value, decimal.Decimal) else value


class Rows:
    """Makes rows of records. Lives: one command."""

    def __init__(self, entity: type[Any], dialect: Dialect, *, kind: str, null: str) -> None:
        self._model = Model.of(entity)
        self._kind = kind
        self._empty_is_null = kind == "csv" and null == ""
        fields = self._model.fields.values()
        self._attributes = {field.name: Attribute(field, entity, dialect) for field in fields}
        self._left_out_is_null = frozenset(
            each.name
            for each in self._attributes.values()
            if kind == "jsonl" and each.tells_nulls_apart and not each.is_filled
        )
        self._required = self._model.required_by(dialect)

    def row(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row that a record stands for.

        Raises:
            ValueRefusedError: Names the attribute, and what is wrong.
        """
        row: dict[str, Any] = {}
        for name, value in record.items():
            attribute = self._attributes.get(name)
            if attribute is None:
                raise ValueRefusedError(name, f"is no attribute of {self._model.entity.__name__}")
            if value is None or (value == "" and self._kind == "csv" and not attribute.reads_empty):
                self._put_none(row, attribute, is_null=value is None and self._kind != "jsonl")
            else:
                row[name] = attribute.read(value, self._kind)
        for name in self._left_out_is_null.difference(row):
            row[name] = null()
        missing = self._required.difference(row)
        if missing:
            first = next(name for name in self._model.fields if name in missing)
            raise ValueRefusedError(first, "has no value, and must have one")
        return row

    def _put_none(self, row: dict[str, Any], attribute: Attribute, *, is_null: bool) -> None:
        """Say that an attribute has no value, if it may have none; else leave it to its default."""
        values = attribute.values
        if values.keeps_none and self._kind == "jsonl":
            row[attribute.name] = None  # JSON's own null
        elif attribute.fills_none and not attribute.is_filled and not (is_null and values.nullable):
            row[attribute.name] = None  # the type makes something of it
        elif values.nullable and (values.is_json or attribute.is_filled or attribute.fills_none):
            row[attribute.name] = null()  # None would be the default
        elif values.nullable:
            row[attribute.name] = None
        elif attribute.is_text and self._empty_is_null:
            row[attribute.name] = ""


JSON_NULL = JSON.NULL
"""Stands for a null of JSON among the values of a dump, where None is NULL."""
TYPES_NONE: Any = object()
"""Stands for what a type has made of None, in the same way."""


def csv_text(attribute: Attribute) -> Callable[[Any], str]:
    """Return what writes the values of an attribute, not None, as text."""

    def write(value: Any) -> str:  # noqa: ANN401  # a value of the attribute
        if value is TYPES_NONE:
            return attribute.none_text()
        return "null" if value is JSON_NULL else attribute.form.to_text(value)

    return write
