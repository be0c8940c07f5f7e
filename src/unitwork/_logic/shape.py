"""This module decides from an annotation how many rows a query promises, and of what."""

from __future__ import annotations

import collections.abc
import enum
import types
import typing
from typing import Any, NamedTuple

from unitwork._logic.records import fields_of
from unitwork._logic.values import SCALARS


class Rows(enum.Enum):
    """How many rows a query promises."""

    ONE = "one"
    MAYBE = "maybe"
    MANY = "many"
    PAGE = "page"
    CURSOR_PAGE = "cursor_page"
    STREAM = "stream"
    NONE = "execute"


class Item(enum.Enum):
    """What each row becomes."""

    ENTITY = enum.auto()
    SCALAR = enum.auto()
    RECORD = enum.auto()
    MAPPING = enum.auto()
    ROW = enum.auto()


class Shape(NamedTuple):
    """What a query promises.

    Args:
        rows: How many.
        item: What each becomes.
        kind: The class of one item; None allows any.
        annotation: What stands there for one item, with its None; Any promises nothing.
    """

    rows: Rows
    item: Item
    kind: Any = None
    annotation: Any = Any

    def with_rows(self, rows: Rows) -> Shape:
        """Return the same items in another number."""
        return self._replace(rows=rows)


class ShapeError(Exception):
    """An annotation is no shape; the text completes "it returns …"."""


_UNIONS = (typing.Union, types.UnionType)


_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_STREAMS = (collections.abc.AsyncIterator, collections.abc.AsyncIterable, collections.abc.AsyncGenerator)


def shape_of(annotation: Any, entity: type | None, pages: dict[type, Rows]) -> Shape:  # noqa: ANN401  # any annotation
    """Read a shape from a return annotation.

    `pages` says which generic classes stand for a page, as this floor does not know them.

    Raises:
        ShapeError: The annotation promises nothing that rows can become.
    """
    if annotation is None or annotation is type(None):
        return Shape(Rows.NONE, Item.ROW)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _UNIONS:
        return _optional(arguments, entity)._replace(rows=Rows.MAYBE, annotation=annotation)
    inner = arguments[0] if arguments else Any
    if origin in _LISTS or annotation in _LISTS:
        return item_of(inner, entity).with_rows(Rows.MANY)
    if origin in _STREAMS or annotation in _STREAMS:
        return item_of(inner, entity).with_rows(Rows.STREAM)
    for kind, rows in pages.items():
        if origin is kind or annotation is kind:
            return item_of(inner if arguments else entity, entity).with_rows(rows)
    return item_of(annotation, entity)


def _optional(arguments: tuple[Any, ...], entity: type | None) -> Shape:
    members = [argument for argument in arguments if argument is not type(None)]
    if len(members) != 1 or len(members) == len(arguments):
        raise ShapeError("a union of several types")
    return item_of(members[0], entity)


def item_of(annotation: Any, entity: type | None) -> Shape:  # noqa: ANN401  # any annotation
    """Read from an annotation what each row becomes; the shape promises one."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _UNIONS:
        return _optional(arguments, entity)._replace(annotation=annotation)
    if origin is dict or annotation is dict:
        return Shape(Rows.ONE, Item.MAPPING, dict, annotation)
    if origin is typing.Literal:
        return Shape(Rows.ONE, Item.SCALAR, None, annotation)
    if isinstance(annotation, typing.TypeVar):  # of a generic repository: its entity
        annotation = entity
    if annotation is Any or (origin is tuple or annotation is tuple):
        return Shape(Rows.ONE, Item.ROW, None, annotation)
    if isinstance(origin, type) and fields_of(origin) is not None:  # a generic record
        annotation = origin
    if not isinstance(annotation, type):
        raise ShapeError(getattr(annotation, "__name__", None) or repr(annotation))
    return Shape(Rows.ONE, _item_for(annotation, entity), annotation, annotation)


def _item_for(annotation: type, entity: type | None) -> Item:
    if (entity is not None and issubclass(annotation, entity)) or hasattr(annotation, "__mapper__"):
        return Item.ENTITY
    if issubclass(annotation, SCALARS) or issubclass(annotation, enum.Enum):
        return Item.SCALAR
    if fields_of(annotation) is not None:
        return Item.RECORD
    raise ShapeError(annotation.__name__)
