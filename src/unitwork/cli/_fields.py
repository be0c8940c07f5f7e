"""This module turns the text of files into values of attributes, and values into text."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import enum
import json
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Enum, TypeDecorator

from unitwork.bulk.fields import Model

if TYPE_CHECKING:
    from unitwork.bulk.fields import Field

Parser = Callable[[Any], Any]

_TRUE = frozenset({"t", "true", "yes", "y", "1"})
_FALSE = frozenset({"f", "false", "no", "n", "0"})
_HEX = "\\x"


class ValueRefusedError(ValueError):
    """A value of a file does not fit its attribute."""

    def __init__(self, attribute: str, problem: str) -> None:
        super().__init__(f"{attribute}: {problem}")
        self.attribute = attribute
        self.problem = problem


class Values:
    """Reads the records of a file as rows of a model. Lives: one command."""

    def __init__(self, model: Model, *, of_text: bool, null: str) -> None:
        self._model = model
        self._of_text = of_text
        self._null = null
        self._parsers = {name: _parser(field) for name, field in model.fields.items()}

    def row(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row that a record stands for.

        Raises:
            ValueRefusedError: Names the attribute, and what is wrong.
        """
        row: dict[str, Any] = {}
        for name, value in record.items():
            field = self._model.fields.get(name)
            if field is None:
                raise ValueRefusedError(name, f"is no attribute of {self._model.entity.__name__}")
            read = self._read(field, value)
            # What is empty where a value must be is left to defaults; None in JSON would be its own null.
            if read is not None or (field.column.nullable and not isinstance(field.column.type, JSON)):
                row[name] = read
        missing = [name for name in self._model.required if name not in row]
        if missing:
            raise ValueRefusedError(missing[0], "has no value, and must have one")
        return row

    def _read(self, field: Field, value: Any) -> Any:  # noqa: ANN401  # a value of a file
        if value is None:
            # An empty field is an empty text where there must be a text.
            return "" if self._of_text and self._null == "" and _is_text(field) else None
        if value == "" and self._of_text and kind_of(field) is not str:
            return None
        try:
            return self._parsers[field.name](value)
        except (ValueError, TypeError, KeyError, ArithmeticError) as error:
            shown = str(value) if len(str(value)) <= _SHOWN else f"{str(value)[:_SHOWN]}…"
            raise ValueRefusedError(field.name, f"cannot read {shown!r} as {_kind_name(field)}") from error


_SHOWN = 40


def _is_text(field: Field) -> bool:
    """Say whether an empty text is a value of this attribute."""
    return kind_of(field) is str and not field.column.nullable


def kind_of(field: Field) -> type | None:
    """Return the class of an attribute's values, as far as its type knows it."""
    kind = field.column.type
    try:
        return (kind.impl_instance if isinstance(kind, TypeDecorator) else kind).python_type
    except NotImplementedError:
        return None


def _kind_name(field: Field) -> str:
    if isinstance(field.column.type, Enum):
        return f"one of {', '.join(map(str, field.column.type.enums))}"
    kind = kind_of(field)
    return kind.__name__ if kind is not None else str(field.column.type)


def _parser(field: Field) -> Parser:
    kind = field.column.type
    if isinstance(kind, Enum):
        return _enum_parser(kind)
    if isinstance(kind, JSON):
        return _json
    return _PARSERS.get(kind_of(field) or object, _as_it_is)


def _as_it_is(value: Any) -> Any:  # noqa: ANN401  # a value of a file
    return value


def _json(value: Any) -> Any:  # noqa: ANN401  # JSON
    return json.loads(value) if isinstance(value, str) else value


def _enum_parser(kind: Enum) -> Parser:
    choices: dict[Any, Any] = {name: name for name in kind.enums}
    if kind.enum_class is not None:
        members: Mapping[str, enum.Enum] = kind.enum_class.__members__
        choices = {**{member.value: member for member in members.values()}, **members}
    return choices.__getitem__


def _bool(value: Any) -> bool:  # noqa: ANN401  # a value of a file
    word = str(value).strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(word)
    return word in _TRUE


def _bytes(value: Any) -> bytes:  # noqa: ANN401  # a value of a file
    if isinstance(value, bytes):
        return value
    return bytes.fromhex(value[2:]) if value.startswith(_HEX) else base64.b64decode(value, validate=True)


def _text(value: Any) -> str:  # noqa: ANN401  # a value of a file
    return value if isinstance(value, str) else str(value)


def _integer(value: Any) -> int:  # noqa: ANN401  # a value of a file
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError(value)
    return number


def _iso(kind: Any) -> Parser:  # noqa: ANN401  # a class of datetime
    def read(value: Any) -> Any:  # noqa: ANN401  # a value of a file
        return value if isinstance(value, kind) else kind.fromisoformat(value)

    return read


def _interval(value: Any) -> dt.timedelta:  # noqa: ANN401  # a value of a file
    return value if isinstance(value, dt.timedelta) else dt.timedelta(seconds=float(value))


_PARSERS: Mapping[type, Parser] = {
    bool: _bool,
    int: _integer,
    float: float,
    str: _text,
    bytes: _bytes,
    decimal.Decimal: lambda value: decimal.Decimal(str(value)),
    uuid.UUID: lambda value: value if isinstance(value, uuid.UUID) else uuid.UUID(str(value)),
    dt.datetime: _iso(dt.datetime),
    dt.date: _iso(dt.date),
    dt.time: _iso(dt.time),
    dt.timedelta: _interval,
}


def plain(value: Any) -> Any:  # noqa: ANN401  # what JSON takes, or text
    """Return a value as JSON can hold it, and as `Values` reads it again."""
    if isinstance(value, bytes | bytearray | memoryview):
        return _HEX + bytes(value).hex()
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return str(value)


def as_text(value: Any) -> str:  # noqa: ANN401  # a value of an attribute
    """Return a value as a CSV file holds it."""
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=plain)
    return value if isinstance(value, str) and not isinstance(value, enum.Enum) else str(plain(value))
