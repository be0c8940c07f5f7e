"""This module holds the reads that need no session: compiled once, and what their rows become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sqlalchemy import Select, Table, TextClause
from sqlalchemy import inspect as inspect_entity
from sqlalchemy.orm import ColumnProperty, FromStatement
from sqlalchemy.orm.attributes import QueryableAttribute
from sqlalchemy.sql import ColumnElement, visitors
from sqlalchemy.sql.expression import ColumnClause

from unitwork._logic.effects import NOTHING, effects_of
from unitwork._logic.routing import LaneRefusal
from unitwork._logic.shape import Item
from unitwork._runtime.connections.listeners import HIDING
from unitwork._runtime.lanes.loading import EntityLoader, is_observed, why_not_simple
from unitwork._runtime.lanes.sending import parameters_of
from unitwork._sqlalchemy.private import cache_key
from unitwork._sqlalchemy.versions import entity_result
from unitwork.dialects.direct import columns_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy.engine import Dialect
    from sqlalchemy.engine.result import SimpleResultMetaData
    from sqlalchemy.orm import Mapper, Session
    from sqlalchemy.types import TypeEngine

    from unitwork._logic.effects import Effects
    from unitwork._runtime.lanes.calls import StatementCall
    from unitwork._runtime.lanes.needs import SessionAccess
    from unitwork._runtime.lanes.results import ResultReader
    from unitwork._runtime.lanes.sending import StatementToSend
    from unitwork.dialects.direct import Column, Direct, Rows

Processors = list[tuple[Any, "Callable[[Any], Any]"]]
"""What SQLAlchemy does to values, by name or by place."""

_NO_PLAIN_SELECT = LaneRefusal("it is no plain SELECT")
_HIDDEN_ROWS = LaneRefusal("rows of its tables may be hidden")
_MAY_WRITE = LaneRefusal("it may call a function that writes")
_SEVERAL_ENTITIES = LaneRefusal("it selects more than one entity, or columns alone")
_UNUSUAL_NAMES = LaneRefusal("its parameters have unusual names")
_TAKES_A_LIST = LaneRefusal("it takes a list")
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
    def of(cls, call: StatementCall, dialect: Dialect) -> CompiledRead | LaneRefusal:
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
        compiled: Any = text.compile(dialect=dialect, cache_key=None if call.fixed else cache_key(statement))
        encode = encoders(compiled, dialect)
        if isinstance(encode, LaneRefusal):
            return encode
        read = cls(compiled, described, encode, dialect, may_change=isinstance(text, TextClause))
        effects = read.effects = effects_of(text, dialect.name)
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
        self.sql = str(compiled)
        self.effects = NOTHING
        self.needs_transaction = False
        """Whether it locks, or calls a function that may write."""
        self.needs_primary = False
        """Whether it locks, or calls a function that a replica lacks."""
        self.mapper = described.mapper
        self.result = described.result
        self._described = described
        self.arguments = Arguments(compiled, encode)
        self._dialect = dialect
        self._may_change = may_change
        # What is learnt of the rows from the driver, which describes them with the first call.
        self._refusal: LaneRefusal | None = None
        self._columns: list[Column] | None = None
        self._names: Sequence[str] = described.names or ()
        self._decoders: Processors = []
        self._loader: EntityLoader | None = None

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
            if is_observed(mapper):
                return LOADING_IS_HEARD
            if item is _ENTITY:
                return None
            return _ROWS_OF_SQLALCHEMY if item is _ROW else _RECORDS_OF_ENTITIES
        single = item in (_ENTITY, _ONE_COLUMN)
        if item is _ROW or (single and reader.shape.kind is None and len(self._names) > 1):
            return _ROWS_OF_SQLALCHEMY
        return _RECORDS_OF_ENTITIES if item is _ENTITY else None

    # -- rows ------------------------------------------------------------------------------------

    def rows(self, direct: Direct, driver: Any, sql: str, arguments: Any) -> Awaitable[Rows | LaneRefusal]:  # noqa: ANN401  # of any driver
        """Ask the driver."""
        if self._columns is not None and not self._may_change:
            return direct.rows(driver, sql, arguments)
        return self._described_rows(direct, driver, sql, arguments)

    async def _described_rows(
        self,
        direct: Direct,
        driver: Any,  # noqa: ANN401  # of any driver
        sql: str,
        arguments: Any,  # noqa: ANN401  # as above
    ) -> Rows | LaneRefusal:
        rows, columns = await direct.described(driver, sql, arguments, self._columns)
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
        if self.mapper is not None and self._described.types is None:
            loader = EntityLoader.of(self.mapper, names)
            if isinstance(loader, LaneRefusal):
                return loader
            self._loader = loader
            by_name = {column.name: column.type for column in self.mapper.local_table.columns}
            types = [by_name.get(name) for name in names]
        elif len(types) != len(names):
            return _OTHER_COLUMNS
        if self._described.types is None:
            self._names = names
        self._decoders = decoders(types, columns, self._dialect)
        self._columns = columns
        return None

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


class Arguments:
    """Makes of the values of a call what a driver is given. Lives: as long as the compiled statement."""

    def __init__(self, compiled: Any, encode: Processors) -> None:  # noqa: ANN401  # of SQLAlchemy's
        self._compiled = compiled
        self._places: tuple[str, ...] | None = tuple(compiled.positiontup) if compiled.positional else None
        self._encoders = encode

    def __call__(self, call: StatementCall) -> Any:  # noqa: ANN401  # as the driver takes them
        key = None if call.fixed else cache_key(call.statement)
        extracted = key.bindparams if key is not None else None
        given = self._compiled.construct_params(call.parameters, extracted_parameters=extracted)
        for name, encode in self._encoders:
            given[name] = encode(given[name])
        return given if self._places is None else [given[name] for name in self._places]


class ReadCall(NamedTuple):
    """One call of a read: what is asked, what the driver is given, and what becomes of the rows."""

    read: CompiledRead
    reader: ResultReader
    call: StatementCall
    arguments: Any
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
        return self.read.sql

    @property
    def parameters(self) -> Any:  # noqa: ANN401  # as SQLAlchemy takes them for its driver
        """The arguments as `exec_driver_sql` takes them."""
        return parameters_of(self.arguments)

    def rows(self, direct: Direct, driver: Any) -> Awaitable[Rows | LaneRefusal]:  # noqa: ANN401  # of any driver
        return self.read.rows(direct, driver, self.sql, self.arguments)

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
    if HIDING and any(_may_hide(each) for each in visitors.iterate(statement)):
        return _HIDDEN_ROWS
    return None


def _may_hide(part: object) -> bool:
    # Of the relationship in a join, only the columns that it compares are seen.
    if isinstance(part, ColumnClause) and part.table is not None:
        return any(isinstance(each, Table) and each in HIDING for each in visitors.iterate(part.table))
    return isinstance(part, Table) and part in HIDING


def _described(statement: Any) -> Described | LaneRefusal:  # noqa: ANN401  # a Select, or entities from text
    columns = statement.column_descriptions
    entity = columns[0].get("entity") if len(columns) == 1 else None
    if entity is not None and columns[0]["expr"] is entity:
        mapper: Mapper[Any] = inspect_entity(entity).mapper
        return why_not_simple(mapper) or Described(mapper, entity_result(columns[0]["name"], entity))
    if not all(_is_column(each["expr"]) for each in columns):
        return _SEVERAL_ENTITIES
    types, names = [each["type"] for each in columns], [each["name"] for each in columns]
    return Described(types=types, names=names)


def _is_column(expression: object) -> bool:
    if isinstance(expression, QueryableAttribute):
        return isinstance(expression.property, ColumnProperty)
    return isinstance(expression, ColumnElement)


def encoders(compiled: Any, dialect: Dialect) -> Processors | LaneRefusal:  # noqa: ANN401  # a compiled statement
    """Return what SQLAlchemy does to the values of a statement, by name, before the driver gets them.

    What takes a list is refused: its SQL depends on the values.
    """
    if compiled.escaped_bind_names:
        return _UNUSUAL_NAMES
    found: Processors = []
    for bind, name in compiled.bind_names.items():
        if bind.expanding or bind.literal_execute:
            return _TAKES_A_LIST
        encode = bind.type.dialect_impl(dialect).bind_processor(dialect)
        if encode is not None:
            found.append((name, encode))
    return found


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
