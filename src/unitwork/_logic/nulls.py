"""This module tells which columns of rows are promised as values, so that NULL breaks the promise."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from unitwork._logic.records import field_types_of, fields_of
from unitwork._logic.shape import Item, Shape
from unitwork._logic.values.annotations import refuses_none, without_none


class PromisedValue(NamedTuple):
    """A column that is promised as a value: its annotation has no None."""

    place: int
    who: str
    """What promises it: the query itself, a field of its record, a column."""
    annotation: Any

    def problem(self) -> str:
        """Tell that NULL has come; the text completes the error of the query."""
        return f"{self.who} promises {_written(self.annotation)}, but the database returns NULL"

    def fix(self) -> str:
        """Tell what to type."""
        wanted = _written(self.annotation)
        return f"promise `{wanted} | None`, or keep NULL out of the rows (`IS NOT NULL`, `COALESCE`)."


def promised_values(
    shape: Shape, names: Sequence[str], never_none: AbstractSet[str] = frozenset()
) -> list[PromisedValue]:
    """Return the columns with these names that must not be NULL, but for those that never are."""
    return [
        PromisedValue(place, who, annotation)
        for place, who, annotation in promised_columns(shape, names)
        if names[place] not in never_none and refuses_none(annotation)
    ]


def promised_columns(shape: Shape, names: Sequence[str]) -> Iterator[tuple[int, str, Any]]:
    """Yield what is promised of each column: its place, by whom, and its annotation."""
    if shape.item is Item.SCALAR and names:
        yield 0, "it", shape.annotation
    elif shape.item is Item.RECORD:
        types = field_types_of(shape.kind)
        for name in fields_of(shape.kind) or ():
            if name in names:
                yield names.index(name), f"{shape.kind.__name__}.{name}", types.get(name, Any)
    elif shape.item in (Item.MAPPING, Item.ROW):
        for place, annotation in enumerate(_of_row(without_none(shape.annotation), len(names))):
            yield place, f"its column {names[place]!r}", annotation


def _of_row(annotation: Any, width: int) -> Sequence[Any]:  # noqa: ANN401  # a type
    """Return what `dict[str, int]` or `tuple[int, str]` says of each of so many columns."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict or arguments[1:] == (Ellipsis,):
        return [arguments[typing.get_origin(annotation) is dict]] * width
    return arguments if len(arguments) == width else ()


def _written(annotation: Any) -> str:  # noqa: ANN401  # a type
    plain = isinstance(annotation, type) and not typing.get_args(annotation)
    return annotation.__name__ if plain else str(annotation).replace("typing.", "")
