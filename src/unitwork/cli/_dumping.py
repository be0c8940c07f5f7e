"""This module writes the rows of a model to a file, as they come from the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

import click
from sqlalchemy import TypeDecorator, literal_column, select, types
from sqlalchemy.dialects.postgresql.base import PGDialect

from unitwork.bulk.fields import Model
from unitwork.cli._fields import kind_of
from unitwork.cli._writing import CsvWriter, JsonWriter, ParquetWriter, RecordWriter
from unitwork.dialects.orders import AsyncpgCopyOut, PsycopgCopyOut, run_on_driver

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from unitwork.bulk.fields import Field
    from unitwork.database import Database

_ROWS = 1_000
_COPIES = {"asyncpg": AsyncpgCopyOut, "psycopg": PsycopgCopyOut}
# What PostgreSQL writes exactly as `load` reads it, if it is told how.
_SAME_TEXT = (
    types.Integer,
    types.String,
    types.Boolean,
    types.Numeric,
    types.Float,
    types.DateTime,
    types.Date,
    types.Time,
    types.Uuid,
    types.LargeBinary,
    types.JSON,
)
_SETTINGS = {"DateStyle": "ISO", "bytea_output": "hex", "extra_float_digits": "1", "TimeZone": "UTC"}


class Dumping:
    """One dump of one model. Lives: one command."""

    def __init__(
        self, database: Database, model: type[Any], names: Sequence[str] | None, where: str | None
    ) -> None:
        self._database = database
        self._model = Model.of(model)
        self._fields = [self._field(name) for name in names or self._model.fields]
        self._where = where

    def _field(self, name: str) -> Field:
        if name not in self._model.fields:
            known = ", ".join(self._model.fields)
            raise click.ClickException(
                f"{self._model.entity.__name__} has no attribute {name!r}.\n  It has: {known}"
            )
        return self._model.fields[name]

    async def run(self, file: IO[bytes], kind: str, null: str) -> int:
        """Write all rows, and return how many."""
        async with self._database.transaction(read_only=True) as session:
            driver = (await session.connection()).dialect.driver
            if kind == "csv" and driver in _COPIES and self._copies_alike(null):
                return await session.run_sync(self._copy, file, null)
            return await self._stream(session, self._writer(file, kind, null))

    def _copies_alike(self, null: str) -> bool:
        # An only column without a value would be an empty line; the writer refuses that.
        return (len(self._fields) > 1 or null != "") and all(map(_same_text, self._fields))

    def _writer(self, file: IO[bytes], kind: str, null: str) -> RecordWriter:
        names = [field.name for field in self._fields]
        if kind == "csv":
            return CsvWriter(file, names, null)
        if kind == "jsonl":
            return JsonWriter(file, names)
        return ParquetWriter(file, names, [kind_of(field) for field in self._fields])

    def _statement(self) -> Any:  # noqa: ANN401  # a Select
        """Return the SELECT of all that is stored; of no entity, so that nothing hides a row."""
        mapper = self._model.mapper
        statement = select(*(field.column.label(field.name) for field in self._fields))
        statement = statement.select_from(mapper.persist_selectable)
        if mapper.single and mapper.polymorphic_on is not None:
            kinds = [each.polymorphic_identity for each in mapper.self_and_descendants]
            statement = statement.where(mapper.polymorphic_on.in_(kinds))
        if self._where is not None:
            # No `text()`: a colon in it would be a parameter. The line end closes a comment.
            statement = statement.where(literal_column(f"({self._where}\n)"))
        return statement.order_by(*mapper.primary_key)

    async def _stream(self, session: AsyncSession, writer: RecordWriter) -> int:
        rows = 0
        result = await session.stream(self._statement(), execution_options={"yield_per": _ROWS})
        async for part in result.partitions():
            writer.write(part)
            rows += len(part)
        writer.close()
        return rows

    def _copy(self, session: Session, file: IO[bytes], null: str) -> int:
        """Let PostgreSQL write the file."""
        connection = session.connection()
        # This also begins the transaction, which the driver itself knows nothing of.
        for setting, value in _SETTINGS.items():
            connection.exec_driver_sql(f"SET LOCAL {setting} = '{value}'")
        # Not the dialect of the connection: a driver that knows %s as a parameter doubles each percent sign.
        dialect: Any = PGDialect
        compiled = self._statement().compile(
            dialect=dialect(paramstyle="named"), compile_kwargs={"literal_binds": True}
        )
        order = _COPIES[connection.dialect.driver](str(compiled), file.write, null)
        run_on_driver(connection, order)
        return order.rows


def _same_text(field: Field) -> bool:
    kind = field.column.type
    inner = kind.impl_instance if isinstance(kind, TypeDecorator) and _is_time(kind) else kind
    return isinstance(inner, _SAME_TEXT)


def _is_time(kind: TypeDecorator[Any]) -> bool:
    return isinstance(kind.impl_instance, types.DateTime) and kind.impl_instance.timezone
