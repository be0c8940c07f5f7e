"""This module holds the INSERT of one entity of a simple model, past the ORM's unit of work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.orm.attributes import instance_dict, instance_state
from sqlalchemy.orm.base import DEFAULT_STATE_ATTR
from typing_extensions import override

from unitwork._logic.remembered import known_of_mapper
from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.lanes.arguments import encoders
from unitwork._runtime.lanes.defaults import SQL_EXPRESSION, Defaults, filled_by_python, is_expression
from unitwork._runtime.lanes.loading import why_not_simple
from unitwork._runtime.lanes.reads import decoders
from unitwork._runtime.lanes.sending import StatementThatWrites
from unitwork._sqlalchemy.private import mark_loaded
from unitwork.dialects.direct import columns_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from sqlalchemy import Column as TableColumn
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import InstanceState, Mapper, Session

    from unitwork._runtime.lanes.arguments import Processors
    from unitwork.dialects.direct import Column, Direct, Rows

_PLAIN = frozenset({int, str, float, bool, bytes, type(None), Decimal, UUID, date, datetime, time, timedelta})
"""Types of values for which nobody looks whether they are SQL."""

_KNOWN_PLAIN = "unitwork_plain_columns"

_FILLED_IN_LATER = LaneRefusal("what the database fills in comes later")
_DEFAULT_WITH_PARAMETERS = LaneRefusal("a default has parameters of its own")
_NOTHING_INSERTED = LaneRefusal("nothing was inserted")
_NOT_NEW = LaneRefusal("the entity is not new")
_RELATED_ENTITIES = LaneRefusal("it has related entities")
_NONE_OF_ITS_OWN = LaneRefusal("it has a None of its own")


class _Columns:
    """Who fills the columns of a row: the entity, a default of the model, or the database."""

    def __init__(self, mapper: Mapper[Any]) -> None:
        self._eager = mapper.eager_defaults is True
        self.sent: list[str] = []
        self.defaults: dict[str, Callable[[], Any]] = {}
        self.returned: list[tuple[str, TableColumn[Any]]] = []
        self.nulls: list[str] = []
        """What is NULL, and is read back by the ORM, since the database changes it with the row."""

    def add(self, key: str, column: Any, given: frozenset[str]) -> LaneRefusal | None:  # noqa: ANN401  # of a table
        """Decide who fills one more; say why nobody does whom a single statement reaches."""
        default: Any = column.default
        if key in given:
            self.sent.append(key)
        elif default is not None and default.is_sequence:
            return LaneRefusal("{} comes from a sequence", key)
        elif default is not None and not default.is_clause_element:
            fill = filled_by_python(default)
            if isinstance(fill, LaneRefusal):
                return fill
            self.sent.append(key)
            self.defaults[key] = fill
        elif default is not None or column.server_default is not None or column.identity is not None:
            self.returned.append((key, column))
        elif column.primary_key:
            if column is not column.table.autoincrement_column:
                return LaneRefusal("nothing fills {}", key)
            self.returned.append((key, column))
        else:
            return self._add_null(key, column)
        return None

    def _add_null(self, key: str, column: Any) -> LaneRefusal | None:  # noqa: ANN401  # as above
        if column.type.should_evaluate_none:
            return LaneRefusal("{} has a None of its own", key)
        if self._eager and column.server_onupdate is not None:
            return _FILLED_IN_LATER  # a trigger may do so now, too
        # NULL is sent, as the ORM does: the database may have a default that the model does not know.
        self.sent.append(key)
        if self._eager and column.onupdate is not None and column.onupdate.is_clause_element:
            self.nulls.append(key)
        return None


class Returned:
    """What a statement returns of the row that it has written. Lives: as long as the compiled statement.

    It is true if that is anything.
    """

    def __init__(self, sql: str, dialect: Dialect, returned: Sequence[tuple[str, TableColumn[Any]]]) -> None:
        self.columns = returned
        self._sql = sql
        self._dialect = dialect
        # What is learnt of the rows from the driver, which describes them with the first call.
        self._described: list[Column] | None = None
        self._decoders: Processors = []

    def __bool__(self) -> bool:
        return bool(self.columns)

    def rows(self, direct: Direct, driver: Any, arguments: Any) -> Awaitable[Rows]:  # noqa: ANN401  # of any driver
        """Ask the driver."""
        if self._described is not None:
            return direct.rows(driver, self._sql, arguments)
        return self._described_rows(direct, driver, arguments)

    async def _described_rows(self, direct: Direct, driver: Any, arguments: Any) -> Rows:  # noqa: ANN401  # of any driver
        rows, columns = await direct.described(driver, self._sql, arguments, None)
        self.learnt(columns)
        return rows

    def described_by(self, cursor: Any) -> None:  # noqa: ANN401  # as the DBAPI says
        """Learn of the columns from a cursor."""
        if self._described is None:
            self.learnt(columns_of(cursor))

    def forget_columns(self) -> None:
        """Learn of the columns anew with the next call."""
        self._described = None

    def learnt(self, columns: list[Column]) -> None:
        """Learn of the columns; more may follow those that are returned."""
        types = [column.type for _key, column in self.columns]
        self._decoders = decoders(types, columns[: len(types)], self._dialect)
        self._described = columns

    def values(self, row: Sequence[Any]) -> dict[str, Any]:
        """Return the values of a row, by attribute."""
        values = list(row)
        for place, decode in self._decoders:
            values[place] = decode(values[place])
        return {key: value for (key, _column), value in zip(self.columns, values, strict=False)}


class CompiledInsert:
    """The INSERT of a model with values for certain attributes. Lives: as long as it is cached."""

    @classmethod
    def of(cls, mapper: Mapper[Any], given: frozenset[str], dialect: Dialect) -> CompiledInsert | LaneRefusal:
        """Compile it; or say why the model, or what fills its columns, needs the ORM."""
        refusal = why_not_simple(mapper)
        if refusal is None and mapper.version_id_col is not None:
            refusal = LaneRefusal("{} counts its versions", mapper.class_.__name__)
        table: Any = mapper.local_table
        returns = dialect.insert_returning and table.implicit_returning
        if refusal is None and (mapper.eager_defaults is False or not returns):
            refusal = _FILLED_IN_LATER
        columns = _Columns(mapper)
        for attribute in mapper.column_attrs:
            refusal = refusal or columns.add(attribute.key, attribute.columns[0], given)
        if refusal is not None:
            return refusal
        statement = insert(table)
        if columns.returned:
            statement = statement.returning(*(column for _key, column in columns.returned))
        # Its parameters have the names that the ORM gives them, which errors show.
        names = [mapper.attrs[key].columns[0].key for key in columns.sent]
        compiled: Any = statement.compile(dialect=dialect, column_keys=names)
        if not set(compiled.bind_names.values()) <= set(names):
            return _DEFAULT_WITH_PARAMETERS
        encode = encoders(compiled, dialect)
        return encode if isinstance(encode, LaneRefusal) else cls(mapper, columns, compiled, encode)

    def __init__(
        self,
        mapper: Mapper[Any],
        columns: _Columns,
        compiled: Any,  # noqa: ANN401  # of SQLAlchemy's
        encode: Processors,
    ) -> None:
        self.statement = compiled.statement
        self.sql = str(compiled)
        self.mapper = mapper
        self._keys = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        self.names = [mapper.attrs[key].columns[0].key for key in columns.sent]
        self._makes_key = not set(columns.sent).issuperset(self._keys)
        """Whether the database makes the key, or a part of it."""
        known = dict(encode)
        self._given = [
            (None, None) if key in columns.defaults else (key, known.get(name))
            for name, key in zip(self.names, columns.sent, strict=True)
        ]
        """The attributes whose values are given, and what is done to each; none for what is filled in."""
        self._nulls = columns.nulls
        self.given = frozenset(columns.sent).difference(columns.defaults)
        """The attributes of which the statement is given a value, or NULL, by the entity."""
        self.returned = Returned(self.sql, compiled.dialect, columns.returned)
        self.places = list(compiled.positiontup) if compiled.positional else None
        self._in_place = self.places == self.names
        """Whether the values are given to the driver in the order in which they are made."""
        by_column = {mapper.attrs[key].columns[0]: (key, fill) for key, fill in columns.defaults.items()}
        fills = dict(by_column[column] for column in mapper.local_table.c if column in by_column)
        sent = list(zip(self.names, columns.sent, strict=True))
        self.defaults = Defaults(fills, sent, encode, self.places)

    @property
    def observed(self) -> bool:
        """Whether somebody listens to entities being inserted, or to their values being filled in."""
        events: Any = self.mapper.dispatch
        filled: Any = self.mapper.class_manager.dispatch
        return bool(events.before_insert or events.after_insert or filled.refresh_flush)

    def goes_with(self, other: CompiledInsert) -> bool:
        """Say whether rows of both can be inserted by one statement."""
        return self is other or (self.mapper is other.mapper and self.given == other.given)

    def identity(self, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return what a session knows the entity by; None if the database makes its key."""
        if self._makes_key or not all(key in values for key in self._keys):
            return None
        return self.mapper.identity_key_from_primary_key(tuple(values[key] for key in self._keys))

    def arguments(self, values: Mapping[Any, Any]) -> Any:  # noqa: ANN401  # as the driver takes them, or a refusal
        """Return what the driver is given, but for what defaults fill in."""
        sent = []
        for key, encode in self._given:
            value = values.get(key)
            if type(value) not in _PLAIN and is_expression(value):
                return SQL_EXPRESSION
            sent.append(value if encode is None else encode(value))
        if self._in_place:
            return sent
        named = dict(zip(self.names, sent, strict=True))
        return named if self.places is None else [named[name] for name in self.places]

    def fill(self, entity: object, values: Mapping[str, Any], returned: Mapping[str, Any]) -> None:
        """Give an entity what was filled in, by defaults of the model and by the database."""
        held = instance_dict(entity)
        for key in self.defaults.keys:
            held[key] = values[key]
        for key in self._nulls:
            held.setdefault(key, None)
        held.update(returned)

    def hold(self, entity: object, session: Session | None) -> None:
        """Make the entity one that is stored: detached, or held by a session."""
        state: InstanceState[Any] = instance_state(entity)
        values = instance_dict(entity)
        state.key = self.mapper.identity_key_from_primary_key(tuple([values[key] for key in self._keys]))
        # What has no value was NULL, and is not expired, as after a flush.
        mark_loaded(state)
        if session is not None:
            state.session_id = session.hash_key
            session.identity_map.replace(state)


@dataclass(frozen=True, slots=True)
class InsertCall(StatementThatWrites):
    """One new entity to be inserted."""

    insert: CompiledInsert
    name: str
    entity: object
    values: dict[str, Any]
    arguments: Any

    @property
    @override
    def adds(self) -> bool:
        return True

    def fill_in(self) -> LaneRefusal | None:
        """Let Python fill in what the entity was not given; say why the ORM must do that, if so."""
        return self.insert.defaults.fill_in(self.values, self.arguments)

    def fill_in_as(self, before: InsertCall) -> None:
        """Let be filled in what was filled in before for the same entity."""
        filled = self.insert.defaults.keys & before.values.keys()
        self.values.update({key: before.values[key] for key in filled})

    @property
    def statement(self) -> object:
        return self.insert.statement

    @property
    def sql(self) -> str:
        return self.insert.sql

    def rows(self, direct: Direct, driver: Any) -> Awaitable[Rows]:  # noqa: ANN401  # of any driver
        return self.insert.returned.rows(direct, driver, self.arguments)

    def described_by(self, cursor: Any) -> None:  # noqa: ANN401  # as the DBAPI says
        self.insert.returned.described_by(cursor)

    def learnt(self, columns: list[Column]) -> None:
        self.insert.returned.learnt(columns)

    def forget_columns(self) -> None:
        self.insert.returned.forget_columns()

    def finish(self, rows: Rows, session: Session | None) -> LaneRefusal | None:
        """Make the entity one that is stored: detached, or held by a session."""
        refusal = self.take(rows)
        if refusal is None:
            self.insert.hold(self.entity, session)
        return refusal

    def flushed(self, rows: Rows, session: Session) -> LaneRefusal | None:  # noqa: ARG002  # as others that a flush sends
        """Give the entity what was filled in.

        Refused when the database has stored nothing: a trigger or a rule of its own forbids it.
        """
        return self.take(rows)

    def take(self, rows: Rows) -> LaneRefusal | None:
        """Give the entity what was filled in, if it was inserted."""
        returned = self.insert.returned
        if returned and not rows:
            return _NOTHING_INSERTED
        self.fill(returned.values(rows[0]) if returned else {})
        return None

    def fill(self, returned: Mapping[str, Any]) -> None:
        """Give the entity what was filled in, as the database has returned it."""
        self.insert.fill(self.entity, self.values, returned)


def given_values(entity: object, *, pending: bool) -> tuple[Mapper[Any], dict[str, Any]] | LaneRefusal:
    """Return what a new entity has been given, None left out, as the ORM does.

    Refused is what is not new, or has related entities, or a None that means something.

    Args:
        entity: Any object.
        pending: It waits in a session.
    """
    state: InstanceState[Any] = instance_state(entity)
    waits = state.session_id is not None and state.session is not None
    if state.key is not None or waits is not pending:
        return _NOT_NEW
    mapper = state.mapper
    plain = known_of_mapper(mapper, _KNOWN_PLAIN, _plain_columns)
    values: dict[str, Any] = {}
    for key, value in instance_dict(entity).items():
        if key in plain:
            if value is not None:
                values[key] = value
        elif key != DEFAULT_STATE_ATTR:
            refusal = _take_unusual(mapper, key, value, values)
            if refusal is not None:
                return refusal
    return mapper, values


def _take_unusual(mapper: Mapper[Any], key: str, value: object, values: dict[str, Any]) -> LaneRefusal | None:
    """Take what an entity has that is no plain column, if it is one at all; or say why that cannot be."""
    attribute: Any = mapper.attrs.get(key)
    if isinstance(attribute, RelationshipProperty):
        # None for one entity may clear a key.
        return _RELATED_ENTITIES if value or not attribute.uselist else None
    if value is not None and attribute is not None:
        values[key] = value
    elif attribute is not None and attribute.columns[0].type.should_evaluate_none:
        return _NONE_OF_ITS_OWN
    return None


def _plain_columns(mapper: Mapper[Any]) -> frozenset[str]:
    """Return the attributes of columns for which None is no value."""
    columns = ((attribute.key, attribute.columns[0]) for attribute in mapper.column_attrs)
    return frozenset(key for key, column in columns if not column.type.should_evaluate_none)
