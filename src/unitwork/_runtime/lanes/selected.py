"""This module makes entities of the rows of their own SELECT, which hold less than all, or several classes.

The columns of such a SELECT are found by what was selected, not by name: those of an inherited table, and
computed ones. None is found for what is deferred, or belongs to a subclass alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, select
from sqlalchemy.orm import ColumnProperty, RelationshipProperty, SynonymProperty

from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.connections.listeners import HIDES
from unitwork._runtime.lanes.loading import HIDDEN, LAZY, EntityLoader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Mapper, Session

_DEFERRED = ("deferred", True)
_GIVEN_LATER = ("query_expression", True)
"""By `with_expression`; what is mapped so has no value without that."""
_STRATEGIES = frozenset(
    {("deferred", False), _DEFERRED, _GIVEN_LATER, ("instrument", True), ("raiseload", True)}
)

_UNKNOWN_CLASS = LaneRefusal("a row is of no class that is known")
_OTHER_CLASS = LaneRefusal("the session knows a row as one of another class")


def why_not_selected(mapper: Mapper[Any]) -> LaneRefusal | None:
    """Say why rows of a SELECT of a class are not all that its entities need; None if they are."""
    for each in mapper.self_and_descendants:
        name = each.class_.__name__
        problem = _problem_of(each, mapper)
        if problem is not None:
            return LaneRefusal("{} {}", name, problem)
        for attribute in each.attrs:
            problem = _problem_with(attribute)
            if problem is not None:
                return LaneRefusal("{}.{} {}", name, attribute.key, problem)
    return None


def _problem_of(mapper: Mapper[Any], selected: Mapper[Any]) -> str | None:
    # A row that its root does not hide is hidden by the session when it is asked for by key.
    if hasattr(mapper.class_, HIDDEN) and not hasattr(selected.class_, HIDDEN):
        return "hides rows that its root shows"
    if mapper.concrete or (mapper.with_polymorphic and mapper.with_polymorphic[1] is not None):
        return "is selected from a union, or from what it was told"
    if mapper.polymorphic_load == "selectin":
        return "is loaded with its base (polymorphic_load='selectin')"
    return "refreshes its rows" if mapper.always_refresh else None


def _problem_with(attribute: Any) -> str | None:  # noqa: ANN401  # any property of a mapper
    if isinstance(attribute, ColumnProperty):
        if any(map(_asks_what_hides, attribute.columns)):
            return "is computed of rows that may be hidden"
        return None if _STRATEGIES.issuperset(attribute.strategy_key) else "is loaded in a way of its own"
    if isinstance(attribute, RelationshipProperty):
        return None if attribute.lazy in LAZY else f"is loaded with its entity (lazy={attribute.lazy!r})"
    return None if isinstance(attribute, SynonymProperty) else "is more than a column"


def _asks_what_hides(column: Any) -> bool:  # noqa: ANN401  # any expression
    # The session remembers with each entity what it is to hide when such a column is loaded later.
    if isinstance(column, Column) or not HIDES:
        return False
    asked = select(column)
    return any(str(hide(asked)) != str(asked) for hide in HIDES)


def loader_for(
    mapper: Mapper[Any], places: Mapping[Any, int]
) -> EntityLoader | HierarchyLoader | LaneRefusal:
    """Return what makes entities of rows of a SELECT of a class, unless a column is missing.

    Args:
        mapper: The class that was selected.
        places: Where each column stands in a row, by what was selected.
    """
    if mapper.polymorphic_on is None:
        return _loader_of_one(mapper, mapper, places)
    if mapper.polymorphic_on not in places:
        return _other_columns(mapper)
    loaders: dict[Any, EntityLoader] = {}
    for identity, kind in mapper.polymorphic_map.items():
        if identity is not None and kind.isa(mapper):
            loader = _loader_of_one(kind, mapper, places)
            if isinstance(loader, LaneRefusal):
                return loader
            loaders[identity] = loader
    return HierarchyLoader(loaders, places[mapper.polymorphic_on]) if loaders else _other_columns(mapper)


def _loader_of_one(
    kind: Mapper[Any], selected: Mapper[Any], places: Mapping[Any, int]
) -> EntityLoader | LaneRefusal:
    """Return what makes entities of one class of rows of a SELECT of a base of it."""
    found: list[tuple[str, int]] = []
    expired: list[str] = []
    known = selected.column_attrs
    for attribute in kind.column_attrs:
        # Of a column in several tables of a hierarchy, the first that is there.
        place = next((places[column] for column in attribute.columns if column in places), None)
        if _DEFERRED in attribute.strategy_key:
            continue
        if place is not None:
            found.append((attribute.key, place))
        elif _GIVEN_LATER in attribute.strategy_key:
            continue
        elif attribute.key in known or kind in selected.with_polymorphic_mappers:
            return _other_columns(selected)
        else:
            expired.append(attribute.key)
    if not all(column in places for column in kind.primary_key):
        return _other_columns(selected)
    return EntityLoader(kind, found, [places[column] for column in kind.primary_key], expired)


def _other_columns(mapper: Mapper[Any]) -> LaneRefusal:
    return LaneRefusal("its columns are not those of {}", mapper.class_.__name__)


class HierarchyLoader:
    """Makes entities of a class and its subclasses, as each row says. Lives: as long as its read.

    Args:
        loaders: By the identities of the classes.
        place: Where a row holds that of its class.
    """

    def __init__(self, loaders: Mapping[Any, EntityLoader], place: int) -> None:
        self._loaders = loaders
        self._place = place
        self._any = next(iter(loaders.values()))

    def load(self, rows: Sequence[Sequence[Any]], session: Session | None) -> list[Any] | LaneRefusal:
        """Return the entities of rows, as that of one class does.

        A row of no class that is known is refused, and one that the session knows as another class.
        """
        refusal = self._any.why_not_whole(rows)
        if refusal is not None:
            return refusal
        identity_of, loaders, place = self._any.identity, self._loaders, self._place
        known: dict[Any, Any] = {}
        loaded = []
        for row in rows:
            identity = identity_of(row)
            entity = known.get(identity)
            if entity is None and None not in identity:
                loader = loaders.get(row[place])
                if loader is None:
                    return _UNKNOWN_CLASS
                entity = known[identity] = loader.one(row, identity, session)
                if type(entity) is not loader.kind:
                    return _OTHER_CLASS
            loaded.append(entity)
        return loaded
