"""This module lets Python fill in columns, by a `default` or `onupdate`, once for each row."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.sql import ClauseElement

from unitwork._logic.routing import LaneRefusal
from unitwork._sqlalchemy.private import takes_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from unitwork._runtime.lanes.arguments import Processors

SQL_EXPRESSION = LaneRefusal("a value is a SQL expression")
_TAKES_CONTEXT = LaneRefusal("a default takes a context")


def filled_by_python(default: Any) -> Callable[[], Any] | LaneRefusal:  # noqa: ANN401  # of SQLAlchemy's
    """Return what makes a value of the `default` or `onupdate` of a column, which is no SQL.

    One that takes a context is refused: by the time that it asks for what only SQLAlchemy knows, it may have
    done something that SQLAlchemy would let it do again.
    """
    argument = default.arg
    if not default.is_callable:
        return lambda: argument
    return _TAKES_CONTEXT if takes_context(default) else partial(argument, None)


def is_expression(value: object) -> bool:
    """Say whether a value is none, but SQL that makes it."""
    return isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")


class Defaults:
    """What Python fills in when a row is written. Lives: as long as the compiled statement.

    Args:
        fills: What makes the values, by attribute, in the order of the columns.
        names: What the statement calls the values of attributes.
        encode: What SQLAlchemy does to values, by these names.
        places: Where the values stand, if they have no names for the driver.
    """

    def __init__(
        self,
        fills: Mapping[str, Callable[[], Any]],
        names: Iterable[tuple[str, str]],
        encode: Processors,
        places: list[str] | None,
    ) -> None:
        self.keys = frozenset(fills)
        encoders = dict(encode)
        by_key = {key: name for name, key in names}
        self._each = [
            (key, fill, encoders.get(name), name if places is None else places.index(name))
            for key, fill, name in ((key, fill, by_key[key]) for key, fill in fills.items())
        ]

    def fill_in(self, values: dict[str, Any], arguments: Any) -> LaneRefusal | None:  # noqa: ANN401  # of any driver
        """Put what is filled in into the values of a row, where it is not there yet, and into the arguments.

        It comes after all else that may be refused: where SQLAlchemy has to send the row, it fills in anew.
        """
        for key, fill, encode, place in self._each:
            if key not in values:
                values[key] = fill()
            value = values[key]
            if is_expression(value):
                return SQL_EXPRESSION
            arguments[place] = value if encode is None else encode(value)
        return None
