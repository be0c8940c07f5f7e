"""This module updates and deletes many rows by their primary keys."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    func,
    inspect,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import Null

from unitwork._logic.batches import light_portions, rows_that_fit, runs_without_repeats, sliced
from unitwork.bulk.cases import Cases
from unitwork.bulk.copying import COPIES, Rights, Stage
from unitwork.bulk.feed import Feed, changes
from unitwork.bulk.insert import AllOrNothing, chunks_of
from unitwork.bulk.plan import as_rows
from unitwork.bulk.rows import Group, RowReader
from unitwork.bulk.statements import REFUSED
from unitwork.dialects.orders import run_on_driver
from unitwork.dialects.upserts import upserts_for
from unitwork.errors import RowError, StaleRowError

if TYPE_CHECKING:
    from unitwork.bulk.fields import Field, Model
    from unitwork.bulk.order import Progress
    from unitwork.bulk.plan import UpdatePlan

_KEYS_AT_ONCE = 500
_CASES = 100
"""Rows of one UPDATE with CASE, which compares each row with all keys."""
_ALL_ROWS = {"populate_existing": True, "include_deleted": True}


class BulkUpdate:
    """One bulk update. Lives: one call."""

    def __init__(
        self, model: Model, reader: RowReader, total: int | None, on_progress: Progress | None
    ) -> None:
        self._model = model
        self._feed = Feed(model, changes(model), reader, total, on_progress)
        self._rights: Rights | None = None
        self._cases: dict[UpdatePlan, Cases] = {}
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
            keys = list(zip(*(group.column(field.name) for field in plan.matched), strict=True))
            for start, stop in runs_without_repeats(keys):
                part = group if stop - start == len(group) else group.part(range(start, stop))
                found = self._update(connection, plan, part, around)
                if plan.version is not None and found != len(part):
                    raise StaleRowError(self._model.entity.__name__, f"in rows {part.numbers[0]:,} and after")
                self._count += found
            feed.take()
            if not plan.is_empty:
                self._show(session, keys)
            feed.stored(len(group))

    def _update(self, connection: Connection, plan: UpdatePlan, group: Group, around: AllOrNothing) -> int:
        columns = plan.filled(group)
        if plan.is_empty:
            return self._among_stored(connection, columns)
        try:
            if self._may_stage(connection, plan):
                text = plan.text(group, columns)
                around.sent = True
                return self._by_stage(connection, plan, text)
            around.sent = True
            upserts = upserts_for(connection.dialect)
            if upserts is not None and upserts.joins_values and plan.plainly_bound:
                return self._by_cases(connection, plan, plan.values(group, columns))
            return self._by_rows(connection, plan, columns)
        except DBAPIError:
            raise
        except REFUSED:
            plan.find_bad_value(group, columns)
            raise

    def _may_stage(self, connection: Connection, plan: UpdatePlan) -> bool:
        if connection.dialect.driver not in COPIES or not plan.copyable:
            return False
        if self._rights is None:
            self._rights = Rights.of(connection, self._model.table)
        return self._rights.temporary

    def _among_stored(self, connection: Connection, columns: Sequence[Sequence[Any]]) -> int:
        """Count the rows that are there; to name nothing but the key changes nothing."""
        count = select(func.count()).select_from(self._model.table)
        found = 0
        for some in sliced(zip(*columns, strict=True), _KEYS_AT_ONCE):
            found += connection.execute(count.where(_among(self._model, some))).scalar_one()
        return found

    def _by_stage(self, connection: Connection, plan: UpdatePlan, text: bytes) -> int:
        """PostgreSQL: copy the rows into a temporary table, and join it."""
        stage = Stage(plan)
        stage.create(connection)
        run_on_driver(connection, COPIES[connection.dialect.driver](stage.target, [text]))
        keys = stage.columns[: len(plan.matched)]
        source: Any = stage.table
        if not self._model.has_exact_key:
            # Keys that differ in Python can be one key for the database: the last one wins.
            source = stage.last_rows(keys).subquery()
            keys = [source.c[each.name] for each in keys]
        new = [source.c[each.name] for each in stage.columns[len(plan.matched) :]]
        same = [field.column == key for field, key in zip(plan.matched, keys, strict=True)]
        values = {field.column: value for field, value in zip(plan.assigned, new, strict=True)}
        statement = update(self._model.table).where(*same).values({**values, **plan.constants})
        found: int = connection.execute(statement).rowcount
        stage.drop(connection)
        return found

    def _by_cases(self, connection: Connection, plan: UpdatePlan, columns: Sequence[Sequence[Any]]) -> int:
        """MariaDB: one UPDATE of many rows, whose values CASE tells apart by the key.

        Not a join: an UPDATE of joined tables cuts what is too long for its column, without an error.
        """
        cases = self._cases.get(plan)
        if cases is None:
            cases = self._cases[plan] = Cases(plan)
        found = 0
        for start, stop in light_portions(columns, len(columns[0]), _CASES):
            rows = list(zip(*(column[start:stop] for column in columns), strict=True))
            found += connection.exec_driver_sql(cases.sql(len(rows)), cases.parameters(rows)).rowcount
        return found

    def _by_rows(self, connection: Connection, plan: UpdatePlan, columns: Sequence[Sequence[Any]]) -> int:
        """Send an UPDATE that is prepared once; each row by itself where a driver would not count them."""
        names = [f"unitwork_{place}" for place in range(len(plan.fields))]
        binds = [bindparam(name, type_=f.column.type) for name, f in zip(names, plan.fields, strict=True)]
        same = [field.column == bind for field, bind in zip(plan.matched, binds, strict=False)]
        new = binds[len(plan.matched) :]
        values = {field.column: bind for field, bind in zip(plan.assigned, new, strict=True)}
        statement = update(self._model.table).where(*same).values({**values, **plan.constants})
        rows = as_rows(columns, names, len(columns[0]))
        if connection.dialect.supports_sane_multi_rowcount:
            found: int = connection.execute(statement, rows).rowcount
            return found
        return sum(connection.execute(statement, row).rowcount for row in rows)

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
            field.check(values, set(map(type, values)), numbers, none=False)
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
    return _matching(model.key, list(zip(*keys, strict=True)))


def _matching(fields: Sequence[Field], columns: Sequence[Sequence[Any]]) -> Any:  # noqa: ANN401  # a condition
    if len(fields) == 1:
        return fields[0].column.in_(list(columns[0]))
    keys = [
        tuple_(*(_literal(field, value) for field, value in zip(fields, key, strict=True)))
        for key in zip(*columns, strict=True)
    ]
    return tuple_(*(field.column for field in fields)).in_(keys)


def _literal(field: Field, value: object) -> Any:  # noqa: ANN401  # a parameter
    return value if isinstance(value, Null) else literal(value, field.column.type)
