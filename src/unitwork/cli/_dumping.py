"""This module writes the rows of a table to a file, as they come from the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

import click
from sqlalchemy import TypeDecorator, func, select, text, types

from unitwork.bulk.fields import Model
from unitwork.cli._fields import kind_of
from unitwork.cli._files import CsvWriter, JsonWriter, ParquetWriter, RecordWriter
from unitwork.dialects.orders import AsyncpgCopyOut, PsycopgCopyOut, run_on_driver

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from unitwork.bulk.fields import Field
    from unitwork.database import Database

_ROWS = 1_000
_COPIES = {"asyncpg": AsyncpgCopyOut, "psycopg": PsycopgCopyOut}
# What PostgreSQL writes exactly as `load` reads it.
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


class Dumping:
    """One dump of one table. Lives: one command."""

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
            if kind == "csv" and driver in _COPIES and all(map(_same_text, self._fields)):
                return await session.run_sync(self._copy, file, null)
            return await self._stream(session, self._writer(file, kind, null))

    def _writer(self, file: IO[bytes], kind: str, null: str) -> RecordWriter:
        names = [field.name for field in self._fields]
        if kind == "csv":
            return CsvWriter(file, names, null)
        if kind == "jsonl":
            return JsonWriter(file, names)
        return ParquetWriter(file, names, [kind_of(field) for field in self._fields])

    def _statement(self) -> Any:  # noqa: ANN401  # a Select
        statement = select(*(field.column.label(field.name) for field in self._fields))
        if self._where is not None:
            statement = statement.where(text(self._where))
        return statement.order_by(*self._model.mapper.primary_key)

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
        count: Any = select(func.count()).select_from(self._model.table)
        if self._where is not None:
            count = count.where(text(self._where))
        # This also begins the transaction, which the driver itself knows nothing of.
        rows = int(connection.execute(count).scalar_one())
        dialect = connection.dialect
        query = self._statement().compile(dialect=dialect, compile_kwargs={"literal_binds": True})
        run_on_driver(connection, _COPIES[dialect.driver](str(query), file.write, null))
        return rows


def _same_text(field: Field) -> bool:
    kind = field.column.type
    inner = kind.impl_instance if isinstance(kind, TypeDecorator) and _is_time(kind) else kind
    return isinstance(inner, _SAME_TEXT)


def _is_time(kind: TypeDecorator[Any]) -> bool:
    return isinstance(kind.impl_instance, types.DateTime) and kind.impl_instance.timezone
