"""This module makes rows of a model from the records of files, and hands its values on to files."""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, null

from unitwork._logic.values import values_of
from unitwork._logic.values.files import FileForm
from unitwork.bulk.fields import Model
from unitwork.cli._kept import check_for

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
        self.values = values_of(entity, field.name)
        self.form = FileForm(self.values, dialect)
        self._check = check_for(self.values, dialect)
        self.is_text = self.values.kind is str and not self.values.choices and not self.form.is_structured
        self.tells_nulls_apart = self.values.keeps_none and self.values.nullable
        """Whether NULL and a null of JSON are two values."""
        # In files bytes look alike, whatever the format; as JSON for a browser they are base64.
        self.to_json = self.form.to_text if self.values.kind is bytes else self.form.to_json

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
            if value is None or (value == "" and self._kind == "csv" and not attribute.is_text):
                self._put_none(row, attribute)
            else:
                row[name] = attribute.read(value, self._kind)
        missing = self._model.required.difference(row)
        if missing:
            first = next(name for name in self._model.fields if name in missing)
            raise ValueRefusedError(first, "has no value, and must have one")
        return row

    def _put_none(self, row: dict[str, Any], attribute: Attribute) -> None:
        """Say that an attribute has no value, if it may have none; else leave it to its default."""
        values, field = attribute.values, attribute.field
        if values.keeps_none and self._kind == "jsonl":
            row[attribute.name] = None  # JSON's own null
        elif values.nullable and (values.is_json or field.default is not None or field.filled_by_database):
            row[attribute.name] = null()  # None would be the default
        elif values.nullable:
            # A decorator may make something of None; only what is left out is NULL.
            if not values.changed:
                row[attribute.name] = None
        elif attribute.is_text and self._empty_is_null:
            row[attribute.name] = ""


JSON_NULL = JSON.NULL
"""Stands for a null of JSON among the values of a dump, where None is NULL."""


def csv_text(attribute: Attribute) -> Callable[[Any], str]:
    """Return what writes the values of an attribute, not None, as text."""

    def write(value: Any) -> str:  # noqa: ANN401  # a value of the attribute
        return "null" if value is JSON_NULL else attribute.form.to_text(value)

    return write
