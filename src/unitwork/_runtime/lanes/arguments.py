"""This module makes of the values of a call what a driver is given: of a list, a parameter for each value."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import BindParameter, bindparam
from sqlalchemy.sql.sqltypes import TupleType
from sqlalchemy.types import NullType
from sqlalchemy.util import LRUCache

from unitwork._logic.in_lists import LONG
from unitwork._logic.routing import LaneRefusal
from unitwork._sqlalchemy.private import cache_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy.engine import Dialect

    from unitwork._runtime.lanes.calls import Call
    from unitwork._sqlalchemy.shapes import Shape

Processors = list[tuple[Any, "Callable[[Any], Any]"]]
"""What SQLAlchemy does to values, by name or by place."""

_KNOWN_LENGTHS = 4
"""Of each statement: a hundred values take ten kilobytes."""
_UNUSUAL_NAMES = LaneRefusal("its parameters have unusual names")
_UNKNOWN_LIST = LaneRefusal("it takes a list of unknown type")


class Filled(NamedTuple):
    """A statement as a driver is given it, with its values as that takes them."""

    sql: str
    arguments: Any


def encoders(compiled: Any, dialect: Dialect) -> Processors | LaneRefusal:  # noqa: ANN401  # a compiled statement
    """Return what SQLAlchemy does to the values of a statement, by name, before the driver gets them.

    The values of lists are not among them, nor those that are written into the statement.
    """
    if compiled.escaped_bind_names:
        return _UNUSUAL_NAMES
    found: Processors = []
    for bind, name in compiled.bind_names.items():
        if bind.expanding and isinstance(bind.type, NullType):
            return _UNKNOWN_LIST  # the first of its values decides what is made of it
        if bind.expanding or bind.literal_execute:
            continue
        encode = bind.type.dialect_impl(dialect).bind_processor(dialect)
        if encode is not None:
            found.append((name, encode))
    return found


class Arguments:
    """Makes of the values of a call what a driver is given. Lives: as long as the compiled statement.

    Args:
        compiled: Of SQLAlchemy's.
        encode: What is done to values that are not in lists.
    """

    def __init__(self, compiled: Any, encode: Processors) -> None:  # noqa: ANN401  # of SQLAlchemy's
        self.sql = str(compiled)
        self._compiled = compiled
        self._places: tuple[str, ...] | None = tuple(compiled.positiontup) if compiled.positional else None
        self._encoders = encode
        binds = compiled.bind_names.items()
        self._lists = tuple(
            (name, isinstance(bind.type, TupleType)) for bind, name in binds if bind.expanding
        )
        self.take_lists = bool(self._lists)
        """Whether a list is among the values."""
        self._named = [(name, bind.key) for bind, name in binds]
        self._keys = frozenset(key for _name, key in self._named)
        self._has_literals = any(bind.literal_execute for bind, _name in binds)
        # By how many values each list has: where they are written into the statement, it is never the same.
        self._expanded: LRUCache[Any, _Expanded] = LRUCache(_KNOWN_LENGTHS)

    def __call__(self, call: Call) -> Filled:
        """Return the statement with the values of one call."""
        return self.filled(self._given(call))

    def filled(self, given: dict[str, Any]) -> Filled:
        """Return the statement with values that are given by name."""
        for name, encode in self._encoders:
            given[name] = encode(given[name])
        if self.take_lists or self._has_literals:
            return self._expanded_for(given).filled(given)
        return Filled(self.sql, given if self._places is None else [given[name] for name in self._places])

    def names_in(self, shape: Shape, call: Call) -> Sequence[tuple[str, int]] | None:
        """Say which value of a shape each name stands for; None if not all of them stand for one.

        Args:
            shape: Of the statement.
            call: One of that shape.
        """
        key = cache_key(call.statement)
        if key is None or len(key.bindparams) != len(shape.values):
            return None
        places = {id(bind): place for place, bind in enumerate(shape.binds)}
        given = enumerate(shape.given, len(shape.binds))
        marks: list[tuple[object, int]] = []
        for bind in key.bindparams:
            place = places.get(id(bind))
            if place is None:
                place, value = next(given, (None, None))
                if place is None or bind.value is not value:
                    return None
            marks.append((object(), place))
        marked: list[BindParameter[Any]] = [bindparam(None, mark, unique=True) for mark, _place in marks]
        found: dict[str, Any] = self._compiled.construct_params(None, extracted_parameters=marked)
        names = [(name, place) for name, value in found.items() for mark, place in marks if mark is value]
        return names if len(names) == len(found) else None

    def _given(self, call: Call) -> dict[str, Any]:
        """Return the values of a call by name, as SQLAlchemy finds them."""
        parameters = call.parameters
        if call.fixed and parameters is not None and self._keys <= parameters.keys():
            return {name: parameters[key] for name, key in self._named}
        key = None if call.fixed else cache_key(call.statement)
        extracted = key.bindparams if key is not None else None
        given: dict[str, Any] = self._compiled.construct_params(parameters, extracted_parameters=extracted)
        return given

    def _expanded_for(self, given: Mapping[str, Any]) -> _Expanded:
        if self._has_literals:
            return _Expanded(self._compiled, given, self._lists)
        sizes = tuple(
            tuple(map(len, given[name])) if of_tuples else len(given[name]) for name, of_tuples in self._lists
        )
        found = self._expanded.get(sizes)
        if found is None:
            found = _Expanded(self._compiled, given, self._lists)
            if len(found.names) <= LONG:
                self._expanded[sizes] = found
        return found


class _List(NamedTuple):
    """A list, each of whose values has a parameter of its own; of tuples, each of theirs."""

    name: str
    of_tuples: bool
    names: Sequence[str]
    encode: Sequence[Callable[[Any], Any] | None]
    """What is done to each value; nothing if that is so with all."""

    def values(self, given: Any) -> Iterable[Any]:  # noqa: ANN401  # a collection
        """Return the values as a driver takes them, in the order of the names."""
        values = chain.from_iterable(given) if self.of_tuples else given
        if not self.encode:
            return values
        pairs = zip(self.encode, values, strict=True)
        return [value if encode is None else encode(value) for encode, value in pairs]


class _Expanded:
    """A statement for lists of certain lengths, as SQLAlchemy writes it. Lives: as long as its arguments.

    Args:
        compiled: Of SQLAlchemy's.
        given: The values of a call, by name.
        lists: The names of the lists, and whether they hold tuples.
    """

    def __init__(
        self,
        compiled: Any,  # noqa: ANN401  # of SQLAlchemy's
        given: Mapping[str, Any],
        lists: Sequence[tuple[str, bool]],
    ) -> None:
        state = compiled.construct_expanded_state(given)
        self._sql = state.statement
        self._by_place = compiled.positional
        self.names: Sequence[str] = tuple(state.positiontup if self._by_place else state.parameters)
        self._lists: list[_List] = []
        for name, of_tuples in lists:
            names = state.parameter_expansion.get(name, ())  # none if it is written into the statement
            encode = [state.processors.get(each) for each in names]
            self._lists.append(_List(name, of_tuples, names, encode if any(encode) else ()))

    def filled(self, given: dict[str, Any]) -> Filled:
        """Return the statement with values."""
        for each in self._lists:
            if each.names:
                given.update(zip(each.names, each.values(given[each.name]), strict=True))
        if self._by_place:
            return Filled(self._sql, [given[name] for name in self.names])
        return Filled(self._sql, {name: given[name] for name in self.names})
