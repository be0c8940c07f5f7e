"""This module updates and deletes many rows by their primary keys."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, column, delete, inspect, select, table, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from unitwork._logic.batches import rows_that_fit, runs_without_repeats, sliced
from unitwork.bulk.copying import COPIES, Stage
from unitwork.bulk.feed import Feed
from unitwork.bulk.insert import AllOrNothing, chunks_of
from unitwork.bulk.plan import Plan, onupdate_values
from unitwork.bulk.rows import Group, RowReader
from unitwork.bulk.statements import places_of
from unitwork.dialects.orders import CopyTarget, run_on_driver
from unitwork.dialects.upserts import upserts_for
from unitwork.errors import RowError, StaleRowError

if TYPE_CHECKING:
    from unitwork.bulk.fields import Field, Model
    from unitwork.bulk.order import Progress

_ROWS = "unitwork_rows"
_OLD = "unitwork_old_"
_KEYS_AT_ONCE = 500
_ALL_ROWS = {"populate_existing": True, "include_deleted": True}


class BulkUpdate:
    """One bulk update. Lives: one call."""

    def __init__(
        self, model: Model, reader: RowReader, total: int | None, on_progress: Progress | None
    ) -> None:
        self._model = model
        self._feed = Feed(model, reader, total, on_progress, new=False)
        self._count = 0

    async def run(self, session: AsyncSession, name: str, rows: Any, batch_rows: int) -> int:  # noqa: ANN401  # rows of any kind
        """Update the rows, and return how many were found."""
        async with AllOrNothing(session, name) as around:
            if isinstance(rows, AsyncIterable):
                async for chunk in chunks_of(rows, batch_rows):
                    await session.run_sync(self._write, [chunk], around)
            else:
                await session.run_sync(self._write, sliced(rows, batch_rows), around)
        return self._count

    def _write(self, session: Session, chunks: Iterable[list[Any]], around: AllOrNothing) -> None:
        feed = self._feed
        feed.refill(chunks)
        if feed.peek() is None:
            return
        if session.autoflush:
            session.flush()
        connection = session.connection(bind_arguments={"mapper": self._model.mapper})
        feed.dialect = connection.dialect
        while (group := feed.peek()) is not None:
            plan = feed.plan_of(group)
            keys = list(zip(*(group.column(field.name) for field in self._matched(group)), strict=True))
            for start, stop in runs_without_repeats(keys):
                part = group if stop - start == len(group) else group.part(range(start, stop))
                plan.checked(part)
                around.sent = True
                found = self._update(connection, plan, part)
                if self._version(group) is not None and found != len(part):
                    raise StaleRowError(self._model.entity.__name__, f"in rows {part.numbers[0]:,} and after")
                self._count += found
            feed.take()
            self._show(session, keys)
            feed.stored(len(group))

    def _version(self, group: Group) -> Field | None:
        field = self._model.version
        return field if field is not None and field.name in group.names else None

    def _matched(self, group: Group) -> tuple[Field, ...]:
        version = self._version(group)
        return self._model.key if version is None else (*self._model.key, version)

    def _update(self, connection: Connection, plan: Plan, group: Group) -> int:
        matched = self._matched(group)
        changed = [field for field in plan.given if field not in matched]
        if not changed:
            return len(group)
        if connection.dialect.name == "postgresql" and connection.dialect.driver in COPIES and plan.copyable:
            return self._by_stage(connection, plan, group, changed)
        upserts = upserts_for(connection.dialect)
        if upserts is not None and upserts.joins_values:
            return self._by_union(connection, plan, group, changed)
        return self._by_rows(connection, plan, group, changed)

    def _by_stage(self, connection: Connection, plan: Plan, group: Group, changed: Sequence[Field]) -> int:
        stage = Stage(plan)
        stage.create(connection)
        target = CopyTarget(None, stage.name, [c.name for c in plan.columns])
        run_on_driver(connection, COPIES[connection.dialect.driver](target, [plan.text(group)]))
        statement = self._joined(plan, group, changed, stage.name)
        found: int = connection.execute(statement).rowcount
        stage.drop(connection)
        return found

    def _by_union(self, connection: Connection, plan: Plan, group: Group, changed: Sequence[Field]) -> int:
        """Join the table with the rows themselves: MariaDB has no VALUES to name columns of."""
        compiled: Any = self._joined(plan, group, changed, _ROWS).compile(dialect=connection.dialect)
        preparer = connection.dialect.identifier_preparer
        first = "SELECT " + ", ".join(f"%s AS {preparer.quote(c.name)}" for c in plan.columns)
        other = " UNION ALL SELECT " + ", ".join(repeat("%s", len(plan.columns)))
        rows = first + other * (len(group) - 1)
        sql = str(compiled).replace(f", {_ROWS} SET ", f", ({rows}) AS {_ROWS} SET ", 1)
        values = [value for row in zip(*plan.values(group), strict=True) for value in row]
        constants = [place.value for place in places_of(compiled, ())]
        found: int = connection.exec_driver_sql(sql, (*values, *constants)).rowcount
        return found

    def _joined(self, plan: Plan, group: Group, changed: Sequence[Field], name: str) -> Any:  # noqa: ANN401  # an Update
        rows = table(name, *(column(c.name, c.type) for c in plan.columns))
        values: dict[Any, Any] = {field.column: rows.c[field.column.name] for field in changed}
        same = [field.column == rows.c[field.column.name] for field in self._matched(group)]
        return update(self._model.table).where(*same).values({**values, **self._onupdate(changed)})

    def _by_rows(self, connection: Connection, plan: Plan, group: Group, changed: Sequence[Field]) -> int:
        same = [
            field.column == bindparam(_OLD + field.column.key, type_=field.column.type)
            for field in self._matched(group)
        ]
        values: dict[Any, Any] = {field.column: bindparam(f"new_{field.column.key}") for field in changed}
        statement = update(self._model.table).where(*same).values({**values, **self._onupdate(changed)})
        names = [f"new_{f.column.key}" if f in changed else _OLD + f.column.key for f in plan.given]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*group.columns, strict=True)]
        found: int = connection.execute(statement, rows).rowcount
        return found if found >= 0 else len(group)

    def _onupdate(self, changed: Sequence[Field]) -> dict[Any, Any]:
        chosen = dict.fromkeys(changed, None)
        return {field.column: value for field, value in onupdate_values(self._model, chosen).items()}

    def _show(self, session: Session, keys: Sequence[tuple[Any, ...]]) -> None:
        """Load again what the session holds of these rows."""
        if not len(session.identity_map):
            return
        mapper, length = self._model.mapper, len(self._model.key)
        held = [
            key[:length]
            for key in keys
            if mapper.identity_key_from_primary_key(key[:length]) in session.identity_map
        ]
        for some in sliced(held, _KEYS_AT_ONCE):
            statement = select(self._model.entity).where(_among(self._model, some))
            session.scalars(statement, execution_options=_ALL_ROWS).all()


class BulkDelete:
    """One bulk delete. Lives: one call."""

    def __init__(self, model: Model, total: int | None, on_progress: Progress | None) -> None:
        self._model = model
        self._total = total
        self._on_progress = on_progress
        self._count = 0
        self._done = 0

    async def run(self, session: AsyncSession, name: str, keys: Any, batch_rows: int) -> int:  # noqa: ANN401  # keys of any kind
        """Delete the rows, and return how many there were."""
        limit = rows_that_fit(batch_rows, len(self._model.key), 30_000)
        async with AllOrNothing(session, name) as around:
            if isinstance(keys, AsyncIterable):
                async for chunk in chunks_of(keys, limit):
                    await self._delete(session, chunk, around)
            else:
                for chunk in sliced(keys, limit):
                    await self._delete(session, chunk, around)
        return self._count

    async def _delete(self, session: AsyncSession, chunk: list[Any], around: AllOrNothing) -> None:
        numbers = range(self._done + 1, self._done + 1 + len(chunk))
        keys = [self._key(key, number) for key, number in zip(chunk, numbers, strict=True)]
        for field, values in zip(self._model.key, zip(*keys, strict=True), strict=True):
            field.check(values, set(map(type, values)), numbers)
        around.sent = True
        result: Any = await session.execute(delete(self._model.entity).where(_among(self._model, keys)))
        self._count += result.rowcount
        self._done += len(chunk)
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)

    def _key(self, given: Any, number: int) -> tuple[Any, ...]:  # noqa: ANN401  # a key, an entity, a mapping
        fields = self._model.key
        if isinstance(given, self._model.entity):
            return tuple(inspect(given).mapper.primary_key_from_instance(given))
        if isinstance(given, Mapping):
            self._model.check_key(list(given), number)
            return tuple(given[field.name] for field in fields)
        key = tuple(given) if isinstance(given, tuple | list) else (given,)
        if len(key) != len(fields):
            raise RowError(number, "", f"has {len(key)} values for a key of {len(fields)}")
        return key


def _among(model: Model, keys: Sequence[tuple[Any, ...]]) -> Any:  # noqa: ANN401  # a condition
    columns = [field.column for field in model.key]
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return tuple_(*columns).in_(keys)
