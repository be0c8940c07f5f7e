"""This module makes entities of rows, for models so simple that a row is all that they need."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column
from sqlalchemy.orm import ColumnProperty, RelationshipProperty, SynonymProperty
from sqlalchemy.orm.attributes import instance_dict, instance_state

from unitwork._logic.routing import LaneRefusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import InstanceState, Mapper, Session

LAZY = frozenset({"select", True, "raise", "raise_on_sql", "write_only", "dynamic"})
"""How relationships are loaded that need nothing when their entity is."""
EAGER = frozenset({"selectin", "joined", False})
"""How they are loaded with it, by statements of their own or by joins."""
HIDDEN = "__unitwork_hidden__"
"""What an entity has that may hide its row."""

_PART_OF_KEY = LaneRefusal("a part of its key is NULL")


def why_not_simple(mapper: Mapper[Any]) -> LaneRefusal | None:
    """Say why a row is not all that an entity of this class needs; None if it is."""
    name = mapper.class_.__name__
    if mapper.inherits is not None or mapper.polymorphic_on is not None or len(mapper.tables) != 1:
        return LaneRefusal("{} has inheritance or several tables", name)
    if len(list(mapper.self_and_descendants)) != 1:
        return LaneRefusal("{} has subclasses that are mapped", name)
    if mapper.always_refresh or hasattr(mapper.class_, HIDDEN):
        return LaneRefusal("{} hides or refreshes its rows", name)
    for attribute in mapper.attrs:
        problem = _why_not_plain(attribute)
        if problem is not None:
            return LaneRefusal("{}.{} {}", name, attribute.key, problem)
    return None


def _why_not_plain(attribute: Any) -> str | None:  # noqa: ANN401  # any property of a mapper
    if isinstance(attribute, ColumnProperty):
        plain = len(attribute.columns) == 1 and isinstance(attribute.columns[0], Column)
        return None if plain and not attribute.deferred else "is deferred or computed"
    if isinstance(attribute, RelationshipProperty):
        return (
            None if attribute.lazy in LAZY | EAGER else f"is loaded with its entity (lazy={attribute.lazy!r})"
        )
    return None if isinstance(attribute, SynonymProperty) else "is more than a column"


def loads_more(mapper: Mapper[Any]) -> bool:
    """Say whether relationships of this class are loaded with its entities."""
    return any(relation.lazy in EAGER for relation in mapper.relationships)


def is_observed(mapper: Mapper[Any]) -> bool:
    """Say whether somebody listens to entities of this class being loaded."""
    events: Any = mapper.class_manager.dispatch
    return bool(events.load or events.refresh)


class EntityLoader:
    """Makes entities of one class of rows with certain columns. Lives: as long as the read that knows it.

    Args:
        mapper: The class.
        found: The attributes that a row holds, and where.
        identity: Where a row holds its key.
        expired: The attributes that are loaded when somebody asks for them, as those that have expired.
    """

    @classmethod
    def of(cls, mapper: Mapper[Any], names: Sequence[str]) -> EntityLoader | LaneRefusal:
        """Return a loader for rows with these columns, unless they are not those of the class."""
        if any(names.count(attribute.columns[0].name) != 1 for attribute in mapper.column_attrs):
            return LaneRefusal("its columns are not those of {}", mapper.class_.__name__)
        places = {name: place for place, name in enumerate(names)}
        found = [(attribute.key, places[attribute.columns[0].name]) for attribute in mapper.column_attrs]
        return cls(mapper, found, [places[column.name] for column in mapper.primary_key])

    def __init__(
        self,
        mapper: Mapper[Any],
        found: Sequence[tuple[str, int]],
        identity: Sequence[int],
        expired: Sequence[str] = (),
    ) -> None:
        self.kind: type[Any] = mapper.class_
        self._new: Callable[[], Any] = mapper.class_manager.new_instance
        self._known_by = mapper.identity_key_from_primary_key((None,))[0]
        self._partial = mapper.allow_partial_pks and len(mapper.primary_key) > 1
        self._keys = tuple(key for key, _place in found)
        places = [place for _key, place in found]
        self._fill = _filler(found)
        self._values = None if places == list(range(len(places))) else _getter(places)
        self.identity = _getter(identity)
        self._expired = expired

    def load(self, rows: Sequence[Sequence[Any]], session: Session | None) -> list[Any] | LaneRefusal:
        """Return the entities of rows: detached, or held by a session, whose own go before.

        A row that an outer join did not find is None. A row with a part of its key is refused.
        """
        refusal = self.why_not_whole(rows)
        if refusal is not None:
            return refusal
        if len(rows) == 1:
            return [self.one(rows[0], self.identity(rows[0]), session)]
        known: dict[Any, Any] = {}
        loaded = []
        for row, identity in zip(rows, map(self.identity, rows), strict=True):
            entity = known.get(identity)
            if entity is None:
                entity = known[identity] = self.one(row, identity, session)
            loaded.append(entity)
        return loaded

    def load_new(self, rows: Sequence[Sequence[Any]], session: Session) -> list[Any]:
        """Return the entities of rows that were just inserted; one that was held gets all that is stored."""
        if session.identity_map:
            for row in rows:
                held = session.identity_map.get((self._known_by, self.identity(row), None))
                if held is not None:
                    session.expire(held)
        return [self.one(row, self.identity(row), session) for row in rows]

    def why_not_whole(self, rows: Sequence[Sequence[Any]]) -> LaneRefusal | None:
        """Refuse rows of which one has a part of its key only."""
        return _PART_OF_KEY if self._partial and any(map(self._has_part_of_key, rows)) else None

    def _has_part_of_key(self, row: Sequence[Any]) -> bool:
        identity = self.identity(row)
        return None in identity and any(value is not None for value in identity)

    def one(self, row: Sequence[Any], identity: tuple[Any, ...], session: Session | None) -> Any:  # noqa: ANN401  # an entity
        """Return the entity of a row with this identity, as `load`."""
        if None in identity:
            return None
        key = (self._known_by, identity, None)
        if session is not None:
            held = session.identity_map.get(key)
            if held is not None:
                return self._filled(held, row)
        entity = self._new()
        state: InstanceState[Any] = instance_state(entity)
        self._fill(instance_dict(entity), row)
        if self._expired:
            state.expired_attributes.update(self._expired)
        state.key = key
        if session is not None:
            state.session_id = session.hash_key
            session.identity_map.add(state)
        return entity

    def _filled(self, held: Any, row: Sequence[Any]) -> Any:  # noqa: ANN401  # an entity
        """Give an entity that the session holds what it has lost or has not loaded; the rest stays."""
        state: InstanceState[Any] = instance_state(held)
        unloaded = state.unloaded
        missing = unloaded.intersection(self._keys)
        if missing:
            values = row if self._values is None else self._values(row)
            found = zip(self._keys, values, strict=False)
            state.dict.update((key, value) for key, value in found if key in missing)
            state.expired_attributes.difference_update(missing)
            state.expired = False
        if self._expired:
            state.expired_attributes.update(unloaded.intersection(self._expired))
        return held


def _filler(items: Sequence[tuple[str, int]]) -> Callable[[dict[str, Any], Sequence[Any]], None]:
    """Return a function that puts the values of a row into a dictionary, by names for their places.

    It is written out, as a dataclass writes its methods: a loop takes twice as long, for each entity.
    """
    lines = [f"    held[{name!r}] = row[{place}]" for name, place in items] or ["    pass"]
    found: dict[str, Any] = {}
    exec("\n".join(["def fill(held, row):", *lines]), found)  # noqa: S102  # names of attributes, as literals
    filler: Callable[[dict[str, Any], Sequence[Any]], None] = found["fill"]
    return filler


def _getter(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Return a function that takes the values of these places out of a row, as a tuple."""
    if len(places) == 1:
        place = places[0]
        return lambda row: (row[place],)
    found: Callable[[Sequence[Any]], tuple[Any, ...]] = itemgetter(*places)
    return found
