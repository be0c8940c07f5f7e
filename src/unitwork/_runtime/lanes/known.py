"""This module finds what is prepared of a statement: by its shape, or by all that SQLAlchemy knows it by."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from sqlalchemy.util import LRUCache

from unitwork._logic.in_lists import is_long, with_short_lists
from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.lanes.calls import StatementCall
from unitwork._runtime.lanes.registry import room_for_statements
from unitwork._sqlalchemy.private import cache_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Dialect

    from unitwork._runtime.lanes.arguments import Arguments, Filled
    from unitwork._runtime.lanes.calls import Call
    from unitwork._sqlalchemy.shapes import Shape


class Prepared(Protocol):
    """A statement as a driver is given it, for the values of any call."""

    arguments: Arguments


P = TypeVar("P", bound=Prepared)

_EXECUTION_OPTIONS = LaneRefusal("it has execution options")
_NO_CACHE_KEY = LaneRefusal("SQLAlchemy cannot cache it")
_NOT_COMPILED = LaneRefusal("SQLAlchemy does not compile it")
VALUES = LaneRefusal("its values cannot be sent")


class Ready(NamedTuple, Generic[P]):
    """What is prepared of a statement, who asks for it, and what fills it with the values of that call."""

    prepared: P
    call: Call
    fill: Callable[[], Filled]


class _Shaped(NamedTuple, Generic[P]):
    """What is prepared of all statements of one shape, and in which place its names find their values."""

    prepared: P
    names: Sequence[tuple[str, int]]

    def takes(self, shape: Shape) -> bool:
        """Say whether no list is so long that it is sent as one value."""
        return not (self.prepared.arguments.take_lists and any(map(is_long, shape.values)))

    def filled(self, shape: Shape) -> Filled:
        values = shape.values
        return self.prepared.arguments.filled({name: values[place] for name, place in self.names})


class KnownStatements(Generic[P]):
    """The statements of one kind that are prepared. Lives: as long as its lanes.

    Args:
        prepare: Prepares one; or says why it needs the session.
        dialect: Returns what it is prepared for; or says why that is not known.
    """

    def __init__(
        self,
        prepare: Callable[[Call, Dialect], P | LaneRefusal],
        dialect: Callable[[], Dialect | LaneRefusal],
    ) -> None:
        self._prepare = prepare
        self._dialect = dialect
        # By what SQLAlchemy knows a statement by, or the statement.
        self._prepared: LRUCache[Any, P | LaneRefusal] = LRUCache(size_alert=_make_room)
        # True for a shape that was seen once: some never come again. False for one whose values are mixed up.
        self._shaped: LRUCache[Any, _Shaped[P] | bool] = LRUCache(size_alert=_make_room)

    def clear(self) -> None:
        """Forget all."""
        self._prepared.clear()
        self._shaped.clear()

    def ready(self, call: Call, *, shortens: bool) -> Ready[P] | LaneRefusal:
        """Return what is prepared of a statement, or is now; or why it needs the session.

        Args:
            call: Which.
            shortens: A long list is sent as one value, as the session lane sends it.
        """
        shape = call.shape
        if shape is not None:
            shaped = self._shaped.get(shape.key)
            if isinstance(shaped, _Shaped) and shaped.takes(shape):
                return Ready(shaped.prepared, call, partial(shaped.filled, shape))
        found = self._found(call)
        if isinstance(found, LaneRefusal):
            return found
        short = self._with_short_lists(call) if shortens and found.arguments.take_lists else call
        if short is None:
            return VALUES
        if short is not call:
            shape, found = None, self._found(short)
            if isinstance(found, LaneRefusal):
                return found
        if shape is not None:
            self._learn(shape, call, found)
        return Ready(found, short, partial(found.arguments, short))

    def _found(self, call: Call) -> P | LaneRefusal:
        statement = call.statement
        if statement.get_execution_options():
            return _EXECUTION_OPTIONS  # which are no part of what it is known by
        named = None if call.fixed else cache_key(statement)
        if named is None and not call.fixed:
            return _NO_CACHE_KEY
        key = statement if named is None else named.key
        found = self._prepared.get(key)
        if found is None:
            dialect = self._dialect()
            if isinstance(dialect, LaneRefusal):
                return dialect
            found = self._prepared[key] = self._compiled(call, dialect)
        return found

    def _compiled(self, call: Call, dialect: Dialect) -> P | LaneRefusal:
        try:
            return self._prepare(call, dialect)
        except Exception:  # noqa: BLE001  # the session lane raises what is right
            return _NOT_COMPILED

    def _with_short_lists(self, call: Call) -> Call | None:
        """Return a call in which long lists are one value each; None if they cannot be made so."""
        dialect = self._dialect()
        if isinstance(dialect, LaneRefusal):
            return None
        try:
            statement, parameters = with_short_lists(call.statement, call.parameters, dialect)
        except Exception:  # noqa: BLE001  # as above
            return None
        return call if statement is call.statement else StatementCall(statement, parameters, names=call.names)

    def _learn(self, shape: Shape, call: Call, prepared: P) -> None:
        """Remember what was prepared of a statement, for others of its shape."""
        seen = self._shaped.get(shape.key)
        if seen is True:
            names = prepared.arguments.names_in(shape, call)
            self._shaped[shape.key] = names is not None and _Shaped(prepared, names)
        elif seen is None:
            self._shaped[shape.key] = True


def _make_room(known: LRUCache[Any, Any]) -> None:
    """Keep more before the eldest ones are forgotten, if that many queries are declared by now."""
    known.capacity = room_for_statements()
