"""This module converts single values to what JSON can hold, and back."""

from __future__ import annotations

import enum
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unitwork._logic.values.classes import class_of
from unitwork.errors import OptionError

if TYPE_CHECKING:
    from unitwork._logic.values import ColumnValues

__all__: list[str] = []

_COLLECTIONS: tuple[Any, ...] = (set, frozenset, tuple)
"""What JSON writes as a list."""


def to_json(name: str, value: object) -> object:
    """Return what `json.dumps` can write.

    Raises:
        OptionError: There is no such form for this value.
    """
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_json(name, item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(name, item) for item in value]
    known = class_of(value)
    if known is None:
        raise OptionError(f"dump_model, for {name},", type(value).__name__, ["`to_dict`", "other `fields`"])
    return known.json(value)


def from_json(name: str, value: object, values: ColumnValues) -> object:
    """Return what a column holds for a value that JSON held; what it can hold already stays.

    Raises:
        OptionError: The value cannot be read.
    """
    try:
        return _read(value, values)
    except (ValueError, TypeError, ArithmeticError):
        # The value itself is left out: it may be a secret.
        raise OptionError(name, type(value).__name__, [f"what {values.type!r} can hold"]) from None


def _read(value: Any, values: ColumnValues) -> object:  # noqa: ANN401  # of JSON
    kind = values.kind
    if values.element is not None and isinstance(value, list):
        return [_read(item, values.element) for item in value]
    collection: Any = typing.get_origin(values.annotation) or kind
    if collection in _COLLECTIONS and isinstance(value, list):
        return collection(value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        plain = isinstance(value, str | int | float) and not isinstance(value, enum.Enum)
        return kind(value) if plain else value
    if values.known is None or kind is None or isinstance(value, kind):
        return value
    if isinstance(value, str):
        return values.known.read(value)
    # Of numbers, JSON knows one kind; other values are for the database to judge.
    return values.known.read_json(value) if isinstance(value, int | float) and kind is not str else value
