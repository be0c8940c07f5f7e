"""This module holds one read of the driver lane: compiled once, and what its rows become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, Table, TextClause
from sqlalchemy import inspect as inspect_entity
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import ColumnProperty, FromStatement
from sqlalchemy.orm.attributes import QueryableAttribute
from sqlalchemy.sql import ColumnElement, visitors
from sqlalchemy.sql.expression import ColumnClause

from unitwork._logic.shape import Item
from unitwork._runtime.connections.listeners import HIDING
from unitwork._runtime.lanes.loading import EntityLoader, NeedsSession, is_observed, why_not_simple
from unitwork.dialects.direct import columns_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import Mapper, Session
    from sqlalchemy.types import TypeEngine

    from unitwork._runtime.lanes.asked import Asked
    from unitwork._runtime.lanes.reading import Reading
    from unitwork.dialects.direct import Column, Direct, Rows

_Processors = list[tuple[Any, "Callable[[Any], Any]"]]


class ExpressRead:
    """One statement for the driver. Lives: as long as the statement, or what is cached of it.

    Raises:
        NeedsSession: The statement, or the model that it asks for, needs more than its rows.
    """

    def __init__(self, asked: Asked, dialect: Dialect) -> None:
        statement = asked.statement
        text = statement.element if isinstance(statement, FromStatement) else statement
        self.mapper: Mapper[Any] | None = None
        self._types: Sequence[TypeEngine[Any] | None] | None = None
        self._names: list[str] | None = None
        if not isinstance(text, TextClause):
            _refuse_what_is_no_plain_select(text)
        if statement is not text or isinstance(statement, Select):
            self._describe(statement)
        if self.mapper is not None and isinstance(text, TextClause) and "(" in text.text:
            # Its rows may be refused when it was sent already, and it would be sent again.
            raise NeedsSession("it may call a function that writes")
        self._may_change = isinstance(text, TextClause)
        self._dialect = dialect
        self._refusal: str | None = None
        key = None if asked.fixed else asked.cache_key()
        compiled: Any = text.compile(dialect=dialect, cache_key=key)
        self._compiled = compiled
        self._places: tuple[str, ...] | None = tuple(compiled.positiontup) if compiled.positional else None
        self._encoders = encoders(compiled, dialect)
        self.sql = str(compiled)
        self._columns: list[Column] | None = None
        self._decoders: _Processors = []
        self._loader: EntityLoader | None = None

    def _describe(self, statement: Any) -> None:  # noqa: ANN401  # a Select, or entities from text
        described = statement.column_descriptions
        entity = described[0].get("entity") if len(described) == 1 else None
        if entity is not None and described[0]["expr"] is entity:
            mapper: Mapper[Any] = inspect_entity(entity).mapper
            problem = why_not_simple(mapper)
            if problem is not None:
                raise NeedsSession(problem)
            self.mapper = mapper
            self.metadata = SimpleResultMetaData(
                [described[0]["name"]],
                [(entity,)],
                _create_unique_filters=lambda _result: [id],  # as the ORM does with entities
            )
            return
        if not all(_is_column(each["expr"]) for each in described):
            raise NeedsSession("it selects more than one entity, or columns alone")
        self._types = [each["type"] for each in described]
        self._names = [each["name"] for each in described]

    def check_fit(self, reading: Reading) -> None:
        """Refuse rows that cannot become what a reading promises.

        Raises:
            NeedsSession: They cannot without SQLAlchemy's own rows.
        """
        if self._refusal is not None:
            raise NeedsSession(self._refusal)
        if self.mapper is not None and is_observed(self.mapper):
            raise NeedsSession("somebody listens to entities being loaded")
        item, kind = reading.shape.item, reading.shape.kind
        single = item in (Item.ENTITY, Item.SCALAR)
        several = self.mapper is None and len(self._names or ()) > 1
        if item is Item.ROW or (single and kind is None and several):
            raise NeedsSession("it promises rows of SQLAlchemy")
        if (self.mapper is not None) is not (item is Item.ENTITY):
            raise NeedsSession("it makes records of entities")

    def arguments(self, asked: Asked) -> Any:  # noqa: ANN401  # as the driver takes them
        """Return what the driver is given for the values of one call."""
        key = None if asked.fixed else asked.cache_key()
        extracted = key.bindparams if key is not None else None
        given = self._compiled.construct_params(asked.parameters, extracted_parameters=extracted)
        for name, encode in self._encoders:
            given[name] = encode(given[name])
        return given if self._places is None else [given[name] for name in self._places]

    def rows(self, direct: Direct, driver: Any, arguments: Any) -> Awaitable[Rows]:  # noqa: ANN401  # of any driver
        """Ask the driver."""
        if self._columns is not None and not self._may_change:
            return direct.rows(driver, self.sql, arguments)
        return self._described(direct, driver, arguments)

    async def _described(self, direct: Direct, driver: Any, arguments: Any) -> Rows:  # noqa: ANN401  # of any driver
        rows, columns = await direct.described(driver, self.sql, arguments, self._columns)
        if columns != self._columns:
            self._learn(columns)
        return rows

    def described_by(self, cursor: Any) -> None:  # noqa: ANN401  # of SQLAlchemy's, as the DBAPI says
        """Learn of the columns from a cursor."""
        if self._columns is None or self._may_change:
            columns = columns_of(cursor)
            if columns != self._columns:
                self._learn(columns)

    def _learn(self, columns: list[Column]) -> None:
        try:
            self._understand(columns)
        except NeedsSession as refused:
            self._refusal = str(refused)
            raise

    def _understand(self, columns: list[Column]) -> None:
        if not columns:
            raise NeedsSession("it returns no rows")
        names = [column.name for column in columns]
        types: Sequence[TypeEngine[Any] | None]
        if self.mapper is not None:
            self._loader = EntityLoader(self.mapper, names)
            by_name = {column.name: column.type for column in self.mapper.local_table.columns}
            types = [by_name.get(name) for name in names]
        else:
            types = self._types or [None for _name in names]
            if len(types) != len(names):
                raise NeedsSession("its columns are not those that it names")
        if self._types is None:
            self._names = names
        self._decoders = decoders(types, columns, self._dialect)
        self._columns = columns

    def items(self, rows: Rows, reading: Reading, session: Session | None) -> Sequence[Any]:
        """Return what becomes of rows; entities are held by the session, if there is one.

        Raises:
            NeedsSession: Only the session itself can load these entities.
        """
        if self._decoders:
            rows = [self._decoded(row) for row in rows]
        loader = self._loader
        if loader is None:
            return reading.items_of(rows, self._names or ())
        return loader.load(rows, session)

    def _decoded(self, row: Sequence[Any]) -> Sequence[Any]:
        values = list(row)
        for place, decode in self._decoders:
            values[place] = decode(values[place])
        return values


def _refuse_what_is_no_plain_select(statement: Any) -> None:  # noqa: ANN401  # any statement
    if not isinstance(statement, Select):
        raise NeedsSession("it is no plain SELECT")
    if statement._with_options:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # options can be added in public, not seen
        raise NeedsSession("it has loader options")
    if HIDING and any(_may_hide(each) for each in visitors.iterate(statement)):
        raise NeedsSession("rows of its tables may be hidden")


def _may_hide(part: object) -> bool:
    # Of the relationship in a join, only the columns that it compares are seen.
    if isinstance(part, ColumnClause) and part.table is not None:
        return any(isinstance(each, Table) and each in HIDING for each in visitors.iterate(part.table))
    return isinstance(part, Table) and part in HIDING


def _is_column(expression: object) -> bool:
    if isinstance(expression, QueryableAttribute):
        return isinstance(expression.property, ColumnProperty)
    return isinstance(expression, ColumnElement)


def encoders(compiled: Any, dialect: Dialect) -> _Processors:  # noqa: ANN401  # a compiled statement
    """Return what SQLAlchemy does to the values of a statement, by name, before the driver gets them.

    Raises:
        NeedsSession: It takes a list, whose SQL depends on the values.
    """
    if compiled.escaped_bind_names:
        raise NeedsSession("its parameters have unusual names")
    found: _Processors = []
    for bind, name in compiled.bind_names.items():
        if bind.expanding or bind.literal_execute:
            raise NeedsSession("it takes a list")
        encode = bind.type.dialect_impl(dialect).bind_processor(dialect)
        if encode is not None:
            found.append((name, encode))
    return found


def decoders(
    types: Sequence[TypeEngine[Any] | None], columns: Sequence[Column], dialect: Dialect
) -> _Processors:
    """Return what SQLAlchemy does to the values of a row, by place, after the driver has read them."""
    found: _Processors = []
    for place, (kind, column) in enumerate(zip(types, columns, strict=True)):
        decode = (
            kind.dialect_impl(dialect).result_processor(dialect, column.code) if kind is not None else None
        )
        if decode is not None:
            found.append((place, decode))
    return found
