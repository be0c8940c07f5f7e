"""This module holds the reads that need no session: compiled once, and what their rows become."""

from __future__ import annotations

from operator import or_
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sqlalchemy import Label, Select, TextClause, select
from sqlalchemy import inspect as inspect_entity
from sqlalchemy.orm import ColumnProperty, FromStatement
from sqlalchemy.orm.attributes import QueryableAttribute
from sqlalchemy.sql import ColumnElement

from unitwork._logic.effects import NOTHING, Effects, effects_of
from unitwork._logic.routing import LaneRefusal
from unitwork._logic.shape import Item
from unitwork._runtime.connections.listeners import HIDES
from unitwork._runtime.lanes.arguments import Arguments, Filled, Processors, encoders
from unitwork._runtime.lanes.loading import EntityLoader, is_observed, why_not_simple
from unitwork._runtime.lanes.selected import HierarchyLoader, loader_for, why_not_selected
from unitwork._runtime.lanes.sending import parameters_of
from unitwork._sqlalchemy.private import cache_key, selected_in
from unitwork._sqlalchemy.versions import entity_result
from unitwork.dialects.direct import columns_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from sqlalchemy.engine import Dialect
    from sqlalchemy.engine.result import SimpleResultMetaData
    from sqlalchemy.orm import Mapper, Session
    from sqlalchemy.types import TypeEngine

    from unitwork._runtime.lanes.calls import Call
    from unitwork._runtime.lanes.needs import SessionAccess
    from unitwork._runtime.lanes.results import ResultReader
    from unitwork._runtime.lanes.sending import StatementToSend
    from unitwork.dialects.direct import Column, Direct, Rows

_NO_PLAIN_SELECT = LaneRefusal("it is no plain SELECT")
_MAY_WRITE = LaneRefusal("it may call a function that writes")
_SEVERAL_ENTITIES = LaneRefusal("it selects more than one entity, or columns alone")
_NO_ROWS = LaneRefusal("it returns no rows")
_OTHER_COLUMNS = LaneRefusal("its columns are not those that it names")
LOADING_IS_HEARD = LaneRefusal("somebody listens to entities being loaded")
_ROWS_OF_SQLALCHEMY = LaneRefusal("it promises rows of SQLAlchemy")
_RECORDS_OF_ENTITIES = LaneRefusal("it makes records of entities")
# Looked up once: the class of an enum takes long for that in Python 3.11.
_ENTITY, _ONE_COLUMN, _ROW = Item.ENTITY, Item.SCALAR, Item.ROW


class Described(NamedTuple):
    """What a statement says of its columns."""

    mapper: Mapper[Any] | None = None
    needs_selected: bool = False
    """Its columns are to be found by what was selected, not by name."""
    result: SimpleResultMetaData | None = None
    types: Sequence[TypeEngine[Any] | None] | None = None
    names: Sequence[str] | None = None


class MoreToLoad(Protocol):
    """What one call of a read loads beyond its rows."""

    session: Session | None
    """What holds the entities."""
    entities: Sequence[Any] | LaneRefusal
    """Those of the rows, with what belongs to them; or why they cannot be loaded here."""

    def begin(self, rows: Rows | LaneRefusal) -> StatementToSend | None:
        """Load the entities of rows, and return what is to be sent for what belongs to them, if anything."""
        ...


class CompiledRead:
    """One SELECT as a driver is given it. Lives: as long as the statement, or what is cached of it."""

    @classmethod
    def of(cls, call: Call, dialect: Dialect) -> CompiledRead | LaneRefusal:
        """Compile a statement; or say why it, or the model that it asks for, needs more than its rows."""
        statement = call.statement
        text = statement.element if isinstance(statement, FromStatement) else statement
        refusal = None if isinstance(text, TextClause) else _why_no_plain_select(text)
        if refusal is not None:
            return refusal
        described: Described | LaneRefusal = Described()
        if statement is not text or isinstance(statement, Select):
            described = _described(statement)
        if isinstance(described, LaneRefusal):
            return described
        if described.mapper is not None and isinstance(text, TextClause) and "(" in text.text:
            # Its rows may be refused when it was sent already, and it would be sent again.
            return _MAY_WRITE
        key = None if call.fixed else cache_key(statement)
        compiled: Any = _without_hidden(text).compile(dialect=dialect, cache_key=key)
        encode = encoders(compiled, dialect)
        if isinstance(encode, LaneRefusal):
            return encode
        read = cls(compiled, described, encode, dialect, may_change=isinstance(text, TextClause))
        effects = read.effects = _effects_of(read, text, dialect)
        if described.needs_selected and effects.may_call:
            return _MAY_WRITE  # as above: rows of classes that are not known are refused
        read.needs_transaction = effects.locks or effects.may_call
        read.needs_primary = effects.need_primary
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
        self.effects = NOTHING
        self.needs_transaction = False
        """Whether it locks, or calls a function that may write."""
        self.needs_primary = False
        """Whether it locks, or calls a function that a replica lacks."""
        self.mapper = described.mapper
        self.result = described.result
        self._described = described
        mapper = described.mapper
        self._mappers = () if mapper is None else tuple(mapper.self_and_descendants)
        self.selected = selected_in(compiled) if described.needs_selected else ()
        """What each of its columns was written for, and its type."""
        self.arguments = Arguments(compiled, encode)
        self._dialect = dialect
        self._may_change = may_change
        # What is learnt of the rows from the driver, which describes them with the first call.
        self._refusal: LaneRefusal | None = None
        self._columns: list[Column] | None = None
        self._names: Sequence[str] = described.names or ()
        self._decoders: Processors = []
        self._loader: EntityLoader | HierarchyLoader | None = None

    @property
    def repeats(self) -> bool:
        """Whether rows repeat for what is joined: a session gives them to those who ask for each once."""
        return False

    def misfit(self, reader: ResultReader) -> LaneRefusal | None:
        """Say why rows cannot become what a reader promises without SQLAlchemy's own; None if they can."""
        if self._refusal is not None:
            return self._refusal
        item, mapper = reader.shape.item, self.mapper
        if mapper is not None:
            for each in self._mappers:
                if is_observed(each):
                    return LOADING_IS_HEARD
            if item is _ENTITY:
                return None
            return _ROWS_OF_SQLALCHEMY if item is _ROW else _RECORDS_OF_ENTITIES
        # What a statement in a body returns decides whether it is an entity, a value or a row.
        undecided = reader.shape.kind is None and item in (_ENTITY, _ONE_COLUMN)
        if item is _ROW or (undecided and len(self._names) > 1):
            return _ROWS_OF_SQLALCHEMY
        return _RECORDS_OF_ENTITIES if item is _ENTITY and not undecided else None

    # -- rows ------------------------------------------------------------------------------------

    def rows(self, direct: Direct, driver: Any, filled: Filled) -> Awaitable[Rows | LaneRefusal]:  # noqa: ANN401  # of any driver
        """Ask the driver."""
        if self._columns is not None and not self._may_change:
            return direct.rows(driver, filled.sql, filled.arguments)
        return self._described_rows(direct, driver, filled)

    async def _described_rows(self, direct: Direct, driver: Any, filled: Filled) -> Rows | LaneRefusal:  # noqa: ANN401  # of any driver
        rows, columns = await direct.described(driver, filled.sql, filled.arguments, self._columns)
        return self.learnt(columns) or rows

    def described_by(self, cursor: Any) -> LaneRefusal | None:  # noqa: ANN401  # of SQLAlchemy's, as the DBAPI says
        """Learn of the columns from a cursor; say why nothing can be made of them."""
        if self._columns is not None and not self._may_change:
            return None
        return self.learnt(columns_of(cursor))

    def forget_columns(self) -> None:
        """Learn of the columns anew with the next call."""
        self._columns = None

    def learnt(self, columns: list[Column]) -> LaneRefusal | None:
        """Learn of the columns; say why nothing can be made of them."""
        if columns != self._columns:
            self._refusal = self._understand(columns)
        return self._refusal

    def _understand(self, columns: list[Column]) -> LaneRefusal | None:
        if not columns:
            return _NO_ROWS
        names = [column.name for column in columns]
        types = self._described.types or [None for _name in names]
        if self.selected and len(self.selected) != len(names):
            return _OTHER_COLUMNS
        if self.mapper is not None:
            loader = self._new_loader(self.mapper, names)
            if isinstance(loader, LaneRefusal):
                return loader
            self._loader = loader
            by_name = {column.name: column.type for column in self.mapper.local_table.columns}
            types = [kind for _objects, kind in self.selected] or [by_name.get(name) for name in names]
        elif len(types) != len(names):
            return _OTHER_COLUMNS
        if self._described.types is None:
            self._names = names
        self._decoders = decoders(types, columns, self._dialect)
        self._columns = columns
        return None

    def _new_loader(
        self, mapper: Mapper[Any], names: Sequence[str]
    ) -> EntityLoader | HierarchyLoader | LaneRefusal:
        if not self.selected:
            return EntityLoader.of(mapper, names)
        places: dict[Any, int] = {}
        for place, (objects, _type) in enumerate(self.selected):
            for each in objects:
                places.setdefault(each, place)
        return loader_for(mapper, places)

    def items(self, rows: Rows, reader: ResultReader, session: Session | None) -> Sequence[Any] | LaneRefusal:
        """Return what becomes of rows; entities are held by the session, if there is one.

        Only the session itself can load what this refuses.
        """
        rows, loader = self.decoded(rows), self._loader
        return reader.items_of(rows, self._names) if loader is None else loader.load(rows, session)

    def decoded(self, rows: Rows) -> Rows:
        """Return rows of the driver as SQLAlchemy makes them."""
        return [self._decoded(row) for row in rows] if self._decoders else rows

    def loading(self, name: str) -> MoreToLoad | None:  # noqa: ARG002  # for those that load more
        """Return what one call of this name loads beyond its rows; None if that is nothing."""
        return None

    def _decoded(self, row: Sequence[Any]) -> Sequence[Any]:
        values = list(row)
        for place, decode in self._decoders:
            values[place] = decode(values[place])
        return values


class ReadCall(NamedTuple):
    """One call of a read: what is asked, what the driver is given, and what becomes of the rows."""

    read: CompiledRead
    reader: ResultReader
    call: Call
    filled: Filled
    identity: tuple[Any, ...] | None = None
    """What a session knows the entity by, if it may have it already."""
    related: MoreToLoad | None = None
    """What is loaded beyond its rows."""

    @property
    def name(self) -> str:
        return self.reader.name

    @property
    def writes(self) -> bool:
        return False

    @property
    def adds(self) -> bool:
        return False

    @property
    def needs_primary(self) -> bool:
        return self.read.needs_primary

    @property
    def effects(self) -> Effects:
        return self.read.effects

    @property
    def statement(self) -> object:
        return self.call.statement

    @property
    def sql(self) -> str:
        return self.filled.sql

    @property
    def parameters(self) -> Any:  # noqa: ANN401  # as SQLAlchemy takes them for its driver
        """The arguments as `exec_driver_sql` takes them."""
        return parameters_of(self.filled.arguments)

    def rows(self, direct: Direct, driver: Any) -> Awaitable[Rows | LaneRefusal]:  # noqa: ANN401  # of any driver
        return self.read.rows(direct, driver, self.filled)

    def described_by(self, cursor: Any) -> LaneRefusal | None:  # noqa: ANN401  # as the DBAPI says
        return self.read.described_by(cursor)

    def learnt(self, columns: list[Column]) -> LaneRefusal | None:
        return self.read.learnt(columns)

    def forget_columns(self) -> None:
        self.read.forget_columns()

    def held_by(self, session: SessionAccess) -> ReadCall:
        """Let a session hold what is loaded beyond the rows, too."""
        if self.related is not None:
            self.related.session = session.holder()
        return self

    def following(self, rows: Rows | LaneRefusal) -> StatementToSend | None:
        """Return what is to be sent next on the same connection, now that the rows have come."""
        return None if self.related is None else self.related.begin(rows)

    def items(self, rows: Rows, session: Session | None) -> Sequence[Any] | LaneRefusal:
        """Return what becomes of the rows; entities are held by the session, if there is one."""
        if self.related is not None:
            return self.related.entities
        return self.read.items(rows, self.reader, session)


def _why_no_plain_select(statement: Any) -> LaneRefusal | None:  # noqa: ANN401  # any statement
    if not isinstance(statement, Select):
        return _NO_PLAIN_SELECT
    return None


def _without_hidden(statement: Any) -> Any:  # noqa: ANN401  # any statement
    """Return a SELECT as the session would send it, if listeners of ours hide rows."""
    if isinstance(statement, Select):
        for hide in HIDES:
            statement = hide(statement)
    return statement


def _effects_of(read: CompiledRead, statement: Any, dialect: Dialect) -> Effects:  # noqa: ANN401  # any statement
    """Say what a statement does, and what its model computes in it."""
    effects = effects_of(statement, dialect.name)
    computed = [each for objects, _type in read.selected for each in objects if isinstance(each, Label)]
    if not computed:
        return effects
    return Effects(*map(or_, effects, effects_of(select(*computed), dialect.name)))


def _described(statement: Any) -> Described | LaneRefusal:  # noqa: ANN401  # a Select, or entities from text
    columns = statement.column_descriptions
    entity = columns[0].get("entity") if len(columns) == 1 else None
    if entity is not None and columns[0]["expr"] is entity:
        inspected: Any = inspect_entity(entity)
        mapper: Mapper[Any] = inspected.mapper
        refusal = why_not_simple(mapper)
        needs_selected = refusal is not None and inspected is mapper and isinstance(statement, Select)
        if needs_selected:
            refusal = why_not_selected(mapper)
        result = entity_result(columns[0]["name"], entity)
        return refusal or Described(mapper, needs_selected, result)
    if not all(_is_column(each["expr"]) for each in columns):
        return _SEVERAL_ENTITIES
    types, names = [each["type"] for each in columns], [each["name"] for each in columns]
    return Described(types=types, names=names)


def _is_column(expression: object) -> bool:
    if isinstance(expression, QueryableAttribute):
        return isinstance(expression.property, ColumnProperty)
    return isinstance(expression, ColumnElement)


def decoders(
    types: Sequence[TypeEngine[Any] | None], columns: Sequence[Column], dialect: Dialect
) -> Processors:
    """Return what SQLAlchemy does to the values of a row, by place, after the driver has read them."""
    found: Processors = []
    for place, (kind, column) in enumerate(zip(types, columns, strict=True)):
        decode = (
            kind.dialect_impl(dialect).result_processor(dialect, column.code) if kind is not None else None
        )
        if decode is not None:
            found.append((place, decode))
    return found
