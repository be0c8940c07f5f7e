"""This module writes the rows of a model to a file, as they come from the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any

import click
from sqlalchemy import Interval, literal_column, null, select
from sqlalchemy.dialects.postgresql.base import PGDialect

from unitwork._logic.values.texts import UnreadableValueError
from unitwork.bulk.fields import Model
from unitwork.cli._blocks import block
from unitwork.cli._values import Attribute
from unitwork.cli._writing import RecordWriter, writer_of
from unitwork.dialects.orders import AsyncpgCopyOut, PsycopgCopyOut, run_on_driver
from unitwork.models import UTCDateTime

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from unitwork.database import Database

_ROWS = 1_000
_COPIES = {"asyncpg": AsyncpgCopyOut, "psycopg": PsycopgCopyOut}
# How PostgreSQL writes values as `load` reads them, whatever the server's own settings are.
_SETTINGS = {"DateStyle": "ISO", "bytea_output": "hex", "extra_float_digits": "1", "TimeZone": "UTC"}


class Dumping:
    """One dump of one model. Lives: one command."""

    def __init__(
        self, database: Database, model: type[Any], names: Sequence[str] | None, where: str | None
    ) -> None:
        self._database = database
        self._model = Model.of(model)
        self._attributes = [self._attribute(name) for name in names or self._model.fields]
        # JSON's own null comes as None, just as NULL does.
        self._asked = [each for each in self._attributes if each.asks_for_null]
        self._where = where

    def _attribute(self, name: str) -> Attribute:
        entity = self._model.entity
        if name not in self._model.fields:
            known = ", ".join(self._model.fields)
            raise click.ClickException(f"{entity.__name__} has no attribute {name!r}.\n  It has: {known}")
        return Attribute(self._model.fields[name], entity, self._database.engine.dialect)

    async def run(self, file: IO[bytes], kind: str, null_text: str) -> int:
        """Write all rows, and return how many."""
        async with block(
            self._database, f"the dump of {self._model.entity.__name__}", read_only=True
        ) as session:
            dialect = (await session.connection()).dialect
            if kind == "csv" and dialect.driver in _COPIES and self._is_copied_alike(dialect):
                return await session.run_sync(self._copy, file, null_text)
            return await self._stream(session, lambda: writer_of(kind, file, self._attributes, null_text))

    def _is_copied_alike(self, dialect: Dialect) -> bool:
        # An empty text, alone in its line, would be an empty line: no record.
        alone = len(self._attributes) == 1
        return not alone and all(_is_copied_alike(each, dialect) for each in self._attributes)

    def _statement(self, *more: Any) -> Any:  # noqa: ANN401  # columns, a Select
        """Return the SELECT of all that is stored; of no entity, so that nothing hides a row."""
        mapper = self._model.mapper
        statement = select(*(each.selected.label(each.name) for each in self._attributes), *more)
        statement = statement.select_from(mapper.persist_selectable)
        if mapper.single and mapper.polymorphic_on is not None:
            kinds = [each.polymorphic_identity for each in mapper.self_and_descendants]
            statement = statement.where(mapper.polymorphic_on.in_(kinds))
        if self._where is not None:
            # No `text()`: a colon in it would be a parameter. The line end closes a comment.
            statement = statement.where(literal_column(f"({self._where}\n)"))
        return statement.order_by(*mapper.primary_key)

    async def _stream(self, session: AsyncSession, opened: Callable[[], RecordWriter]) -> int:
        rows = 0
        flags = [each.field.column.is_not(null()) for each in self._asked]
        result = await session.stream(self._statement(*flags), execution_options={"yield_per": _ROWS})
        is_plain = not any(each.is_seen_changed for each in self._attributes)
        writer = opened()
        try:
            async for part in result.partitions():
                writer.write(part if is_plain else self._seen(part))
                rows += len(part)
        except UnreadableValueError as error:
            raise self._unwritable(error) from None
        finally:
            # Also of a file that nobody will see: pyarrow writes to it when it is collected.
            writer.close()
        return rows

    def _seen(self, rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
        asked = {each: len(self._attributes) + place for place, each in enumerate(self._asked)}
        return [
            [
                each.seen(value, is_there=bool(row[asked[each]]) if each in asked else None)
                for each, value in zip(self._attributes, row, strict=False)
            ]
            for row in rows
        ]

    def _unwritable(self, error: UnreadableValueError) -> click.ClickException:
        pickles = [each.name for each in self._attributes if each.values.is_pickled]
        what = f"{', '.join(pickles)}: {error}" if pickles else str(error)
        return click.ClickException(
            f"A value cannot be written: {what}.\n  Fix: name others by --attributes."
        )

    def _copy(self, session: Session, file: IO[bytes], null_text: str) -> int:
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
        order = _COPIES[connection.dialect.driver](str(compiled), file.write, null_text)
        run_on_driver(connection, order)
        return order.rows


def _is_copied_alike(attribute: Attribute, dialect: Dialect) -> bool:
    """Say whether PostgreSQL itself writes the values as `load` reads them."""
    values = attribute.values
    same = not values.changed or isinstance(values.type, UTCDateTime)
    return same and values.is_copyable(dialect) and not isinstance(values.inner, Interval)
