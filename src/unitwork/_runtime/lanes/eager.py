"""This module holds the reads whose entities come with others, as loader options or mappings ask for it."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Select, bindparam, select
from sqlalchemy import inspect as inspect_entity
from sqlalchemy.orm import ColumnProperty, Load, RelationshipProperty
from sqlalchemy.orm.interfaces import LoaderOption
from sqlalchemy.sql import visitors
from typing_extensions import override

from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.lanes.arguments import encoders
from unitwork._runtime.lanes.loading import (
    LAZY,
    EntityLoader,
    is_observed,
    loads_more,
    why_not_simple,
)
from unitwork._runtime.lanes.reads import LOADING_IS_HEARD, CompiledRead, Described
from unitwork._runtime.lanes.related import KEYS, Joined, Later, Place, RelatedLoad, Relation
from unitwork._sqlalchemy.private import has_loader_options, selected_in
from unitwork._sqlalchemy.related import (
    asked_by_keys,
    has_conditions,
    in_order_of_loading,
    joined_columns,
    loaded_along,
    loader_of,
    options_of,
    repeats_rows,
    root_path,
    secondary_join,
    selects_from_itself,
    set_for_later,
)
from unitwork._sqlalchemy.versions import RELATED_ONCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import Mapper

    from unitwork._runtime.lanes.arguments import Processors
    from unitwork._runtime.lanes.calls import Call
    from unitwork._runtime.lanes.results import ResultReader
    from unitwork._runtime.lanes.selected import HierarchyLoader

Member = Relation | Joined | Later

_NO_SELECT = LaneRefusal("it is no plain SELECT, and loads what belongs to its entities")
_OTHER_OPTIONS = LaneRefusal("it has options that only the session knows")
_CONDITIONS = LaneRefusal("its options have conditions of their own")
_MORE_THAN_PLAIN = LaneRefusal("it loads what belongs to rows of more than plain columns of one table")
_LIMITED = LaneRefusal("it limits its rows before it joins what belongs to them")
_AN_ALIAS = LaneRefusal("it loads what belongs to an alias")


def compiled_read(call: Call, dialect: Dialect) -> CompiledRead | LaneRefusal:
    """Compile a statement; or say why it needs more than rows."""
    kind = EagerRead if _loads_more(call.statement) else CompiledRead
    return kind.of(call, dialect)


def _loads_more(statement: Any) -> bool:  # noqa: ANN401  # any that returns rows
    if has_loader_options(statement):
        return True
    described = getattr(statement, "column_descriptions", ())
    entities = [each["entity"] for each in described if each.get("entity") is not None]
    return any(loads_more(inspect_entity(entity).mapper) for entity in entities)


class EagerRead(CompiledRead):
    """A SELECT of entities that come with others. Lives: as a compiled read does."""

    @classmethod
    @override
    def of(cls, call: Call, dialect: Dialect) -> CompiledRead | LaneRefusal:
        statement = call.statement
        if not isinstance(statement, Select):
            return _NO_SELECT
        options = options_of(statement)
        if not all(isinstance(option, LoaderOption) for option in options):
            return _OTHER_OPTIONS
        if any(isinstance(option, Load) and has_conditions(option) for option in options):
            return _CONDITIONS  # whose values are those of each call, also for what is loaded later
        if any(inspect_entity(each["entity"]).is_aliased_class for each in statement.column_descriptions):
            return _AN_ALIAS
        read = super().of(call, dialect)
        if isinstance(read, EagerRead) and isinstance(read.place, LaneRefusal):
            return read.place
        return read

    def __init__(
        self,
        compiled: Any,  # noqa: ANN401  # of SQLAlchemy's
        described: Described,
        encode: Processors,
        dialect: Dialect,
        *,
        may_change: bool,
    ) -> None:
        needs_more = described.mapper is None or described.needs_selected
        described = described._replace(needs_selected=True)
        super().__init__(compiled, described, encode, dialect, may_change=may_change)
        mapper: Any = described.mapper
        self.place = _MORE_THAN_PLAIN if needs_more else _Statement(compiled, dialect).place(mapper)

    @override
    def _new_loader(
        self, mapper: Mapper[Any], names: Sequence[str]
    ) -> EntityLoader | HierarchyLoader | LaneRefusal:
        return self.place if isinstance(self.place, LaneRefusal) else self.place.loader

    @property
    @override
    def repeats(self) -> bool:
        return getattr(self.place, "repeats", False)

    @override
    def misfit(self, reader: ResultReader) -> LaneRefusal | None:
        misfit = super().misfit(reader)
        place: Any = self.place
        return misfit or (LOADING_IS_HEARD if any(map(is_observed, place.mappers())) else None)

    @override
    def loading(self, name: str) -> RelatedLoad | None:
        place: Any = self.place
        return RelatedLoad(place, self.decoded, name)


class _Statement:
    """A compiled statement, to be looked at: where its entities stand, and what is loaded with them."""

    def __init__(self, compiled: Any, dialect: Dialect) -> None:  # noqa: ANN401  # of SQLAlchemy's
        self._dialect = dialect
        self._state = compiled.compile_state
        columns = selected_in(compiled)
        self._number = len(columns)
        self._mappers: set[Mapper[Any]] = set()
        self._places: dict[Any, int] = {
            each: place
            for place, (objects, _type) in enumerate(columns)
            for each in objects
            if isinstance(each, Column)
        }

    def place(self, mapper: Mapper[Any], path: Any = None, columns: Any = None) -> Place | LaneRefusal:  # noqa: ANN401  # of SQLAlchemy's
        """Return the place of entities of a class.

        Args:
            mapper: The class.
            path: What SQLAlchemy calls the place; None for the entities that the statement selects.
            columns: What the columns of the class are called there, if otherwise than there.
        """
        state = self._state
        if selects_from_itself(state):
            return _LIMITED
        if any(isinstance(key, tuple) and key[0] == _OF_SUBCLASSES for key in state.attributes):
            return _OTHER_OPTIONS
        loader = EntityLoader.of(mapper, self._names(mapper, columns))
        if isinstance(loader, LaneRefusal):
            return loader
        self._mappers.add(mapper)
        path = path or root_path(mapper)
        whole = state.current_path + path if state.current_path.path else path
        options = tuple(each for each in options_of(state.select_statement) if each.propagate_to_loaders)
        place = Place(loader, mapper, whole, options)
        place.repeats = repeats_rows(state)
        for attribute in in_order_of_loading(mapper):
            member = self._member(attribute, path, whole)
            if isinstance(member, LaneRefusal):
                return member
            if isinstance(member, Later):
                place.later.append(member)
            elif member is not None:
                place.members.append(member)
        return place

    def _member(self, attribute: Any, path: Any, whole: Any) -> Member | LaneRefusal | None:  # noqa: ANN401  # of SQLAlchemy's
        """Return how what an attribute holds is loaded with its entities; None if it is not."""
        if isinstance(attribute, RelationshipProperty):
            return self._related(attribute, path, whole)
        if isinstance(attribute, ColumnProperty) and loader_of(attribute, self._state, path).asked:
            return _special(attribute)
        return None

    def _related(
        self,
        relation: RelationshipProperty[Any],
        path: Any,  # noqa: ANN401  # of SQLAlchemy's
        whole: Any,  # noqa: ANN401  # as above
    ) -> Member | LaneRefusal | None:
        found = loader_of(relation, self._state, path)
        if found.strategy == _SELECTIN and not found.settings:
            endless = whole[relation].contains_mapper(relation.mapper) and not relation.join_depth
            if endless and not found.asked:
                return None
            return self._relation(relation, whole)
        if found.strategy in _JOINED and found.settings <= {"innerjoin"}:
            joined = self._joined(relation, path[relation])
            # Without an option it would go on for ever, and is loaded later.
            return _special(relation) if joined is None and found.asked else joined
        if found.asked and found.strategy in _LATER and not found.settings:
            return Later(relation.key, set_for_later(relation, self._state, path))
        return None if not found.asked and relation.lazy in LAZY else _special(relation)

    def _joined(self, relation: RelationshipProperty[Any], path: Any) -> Joined | LaneRefusal | None:  # noqa: ANN401  # of SQLAlchemy's
        columns = joined_columns(self._state, path)
        if columns is None:
            return None
        refusal = _why_not_plain(relation)
        if refusal is not None or relation.mapper in self._mappers:
            return refusal or _special(relation)
        place = self.place(relation.mapper, path[relation.mapper], columns)
        if isinstance(place, LaneRefusal):
            return place
        return Joined(relation.key, place, str(relation), many=bool(relation.uselist))

    def _names(self, mapper: Mapper[Any], columns: Any) -> list[str]:  # noqa: ANN401  # of SQLAlchemy's
        """Return what the columns of the rows are called that belong to a class; the others are nameless."""
        names = [""] * self._number
        for attribute in mapper.column_attrs:
            column = attribute.columns[0]
            found = column if columns is None else columns[column]
            if found in self._places:
                names[self._places[found]] = column.name
        return names

    def _relation(self, relation: RelationshipProperty[Any], path: Any) -> Relation | LaneRefusal:  # noqa: ANN401  # of SQLAlchemy's
        refusal = _why_not_plain(relation)
        if refusal is None and relation.uselist and relation.direction.name == "MANYTOONE":
            refusal = _special(relation)
        if refusal is not None:
            return refusal
        asked, dialect = asked_by_keys(relation), self._dialect
        selected = _related_select(relation, asked)
        if isinstance(selected, LaneRefusal):
            return selected
        statement = loaded_along(selected, self._state, path[relation])
        compiled: Any = statement.compile(dialect=dialect)
        if set(compiled.bind_names.values()) != {KEYS}:
            return _special(relation)
        inside = _Statement(compiled, dialect)
        place = inside.place(relation.mapper)
        if isinstance(place, LaneRefusal):
            return place
        encode = encoders(compiled, dialect)
        if isinstance(encode, LaneRefusal):
            return encode
        types = [kind for _objects, kind in selected_in(compiled)]
        described = Described(types=types, names=["" for _type in types])
        read = CompiledRead(compiled, described, encode, dialect, may_change=False)
        found = Relation(relation.key, statement, read, place)
        found.single = len(asked.columns) == 1
        found.once = place.repeats or RELATED_ONCE
        found.full_name = str(relation)
        found.many = bool(relation.uselist)
        found.key_of_row = itemgetter(*[inside._places[column] for column in asked.columns])
        if asked.own is not None:
            attributes = [relation.parent.get_property_by_column(column) for column in asked.own]
            found.own = tuple(attribute.key for attribute in attributes)
        return found


_SELECTIN = {"lazy": "selectin"}
_LATER = ({"lazy": "select"}, {"lazy": "raise"}, {"lazy": "raise_on_sql"})
_JOINED = ({"lazy": "joined"}, {"lazy": False})
_OF_SUBCLASSES = "path_with_polymorphic"


def _special(attribute: Any) -> LaneRefusal:  # noqa: ANN401  # of a mapper
    return LaneRefusal("{} is loaded in a way that only the session knows", attribute)


def _why_not_plain(relation: RelationshipProperty[Any]) -> LaneRefusal | None:
    """Say why what a relationship holds cannot be loaded here, if so."""
    mapper = relation.mapper
    if relation.entity is not mapper:
        return _special(relation)
    if relation.join_depth or not getattr(relation.class_attribute.impl, "supports_population", False):
        return _special(relation)
    return why_not_simple(mapper)


def _related_select(relation: Any, asked: Any) -> Select[Any] | LaneRefusal:  # noqa: ANN401  # of SQLAlchemy's
    """Return the SELECT of what belongs to certain keys, as `selectinload` makes it."""
    entity = relation.mapper.class_
    selected: Any = select(*asked.columns, entity)
    order: Sequence[Any] = tuple(relation.order_by or ())
    if asked.parent is not None:
        tables = {each.table for part in order for each in visitors.iterate(part) if isinstance(each, Column)}
        if tables - {relation.mapper.local_table}:
            return _special(relation)
        joined = getattr(asked.parent, relation.key).of_type(entity)
        selected = selected.select_from(asked.parent).join(joined)
    elif relation.secondary is not None:
        selected = selected.select_from(relation.secondary).join(entity, secondary_join(relation))
    else:
        selected = selected.select_from(entity)
    among_keys = asked.condition.in_(bindparam(KEYS, expanding=True))
    found: Select[Any] = selected.where(among_keys).order_by(*order)
    return found
