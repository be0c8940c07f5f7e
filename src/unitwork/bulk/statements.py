"""This module inserts by statements: the driver's executemany, or many rows in one VALUES list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, insert, literal, null, select
from sqlalchemy.exc import DBAPIError, StatementError

from unitwork._logic.batches import light_portions
from unitwork._logic.conflicts import OnConflict
from unitwork.bulk.fields import Field
from unitwork.bulk.order import NEW
from unitwork.bulk.plan import InsertPlan, RowContext, as_rows
from unitwork.dialects.orders import SQLiteMany, run_on_driver
from unitwork.dialects.upserts import CONFLICTS_COUNTED, COUNT_FROM_ZERO, MariaDBUpserts, Upserts, upserts_for
from unitwork.errors import OptionError

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from unitwork.bulk.feed import Feed
    from unitwork.bulk.order import InsertOrder
    from unitwork.bulk.rows import Group

REFUSED = (StatementError, TypeError, ValueError)
"""What types and drivers raise about values. Only after `DBAPIError`, which is one of them."""
NOTHING_MADE: Mapping[Field, object] = {}


class Wording:
    """How one order is said in one dialect. Lives: one bulk write."""

    def __init__(self, order: InsertOrder, dialect: Dialect) -> None:
        self.order = order
        self.dialect = dialect
        self._kind = upserts_for(dialect)
        self._check()

    def _check(self) -> None:
        name = self.dialect.name
        if self._kind is None and self.order.on_conflict is not OnConflict.FAIL:
            raise OptionError("on_conflict", self.order.on_conflict.value, [f"'fail' on {name}"])
        if self.order.returning and not self.dialect.insert_returning:
            fix = [f"returning=False: {name} here has no INSERT ... RETURNING"]
            raise OptionError("returning", "True", fix)

    @property
    def counts_conflicts(self) -> bool:
        """Whether only a counter on the server tells which rows were new."""
        return self._kind is MariaDBUpserts and self.order.on_conflict is OnConflict.NOTHING

    @property
    def joins_values(self) -> bool:
        """Whether many rows are fastest in one VALUES list."""
        return self._kind is not None and self._kind.joins_values

    @property
    def upserts(self) -> Upserts | None:
        """The words for conflicts."""
        if self._kind is None:
            return None
        return self._kind(self.order.model.table, [field.column for field in self.order.target])

    def bare(self, into: Any) -> Any:  # noqa: ANN401  # a table or a mapped class
        """Return the INSERT into a table or a mapped class, without values and conflicts."""
        upserts = self.upserts
        return insert(into) if upserts is None else upserts.insert(into)

    def statement(self, into: Any, plan: InsertPlan) -> Any:  # noqa: ANN401  # a table or a mapped class
        """Return the same with what is NULL in all rows of the plan."""
        return with_sql_nulls(self.bare(into), into, plan)

    def with_conflict(
        self,
        statement: Any,  # noqa: ANN401  # an Insert
        plan: InsertPlan,
        made: Mapping[Field, object] = NOTHING_MADE,
    ) -> Any:  # noqa: ANN401  # an Insert
        """Add what to do on a conflict; `made` is what Python has made for this row alone."""
        upserts = self.upserts
        action = self.order.on_conflict
        if upserts is None or action is OnConflict.FAIL:
            return statement
        if action is OnConflict.NOTHING:
            return upserts.nothing(statement)
        values = {
            field.column: upserts.new(statement, field.column) if value is NEW else _bound(field, value)
            for field, value in {**self.order.changes(plan), **made}.items()
        }
        return upserts.update(statement, values)

    def for_each(
        self,
        statement: Any,  # noqa: ANN401  # an Insert
        plan: InsertPlan,
        columns: Sequence[Sequence[Any]],
    ) -> Iterator[Any]:
        """Yield the statement of each row, where Python makes something anew for each update."""
        fields = self.order.made_for_each(plan)
        context = RowContext(dict(zip(plan.fields, columns, strict=True)), (), {})
        count = len(columns[0])
        made = [context.made(field.on_update, None, count) for field in fields if field.on_update]
        for place in range(count):
            values = {field: made[i][place] for i, field in enumerate(fields)}
            yield self.with_conflict(statement, plan, values)

    def explain(self, error: DBAPIError) -> None:
        """Add to an error what the database could not say."""
        upserts = self.upserts
        if upserts is not None:
            upserts.explain(error)


def _bound(field: Field, value: object) -> Any:  # noqa: ANN401  # SQL or a value
    return (
        value
        if hasattr(value, "__clause_element__") or hasattr(value, "compile")
        else literal(value, field.column.type)
    )


def with_sql_nulls(statement: Any, into: Any, plan: InsertPlan) -> Any:  # noqa: ANN401  # an Insert
    """Let an INSERT write NULL where no type may make anything of it."""
    if not plan.sql_nulls:
        return statement
    of_table = into is plan.model.table
    return statement.values({f.column if of_table else f.name: null() for f in plan.sql_nulls})


class Statements:
    """Inserts groups by statements. Lives: one bulk write."""

    def __init__(self, wording: Wording) -> None:
        self._wording = wording
        self._known: dict[InsertPlan, _Compiled] = {}
        self._counting = False
        self.count = 0

    def write(self, connection: Connection, plan: InsertPlan, feed: Feed[InsertPlan]) -> None:
        """Insert the next group; SQLite takes with it those that have the same columns."""
        last: list[Group] = []
        try:
            alone = bool(self._wording.order.made_for_each(plan))
            if connection.dialect.driver == "aiosqlite" and plan.fields and not alone:
                self._on_sqlite(connection, plan, feed, last)
                return
            group = next(feed.alike(plan))
            last.append(group)
            self._write(connection, plan, group)
        except DBAPIError as error:
            self._wording.explain(error)
            if last:
                error.add_note(f"In rows {last[-1].numbers[0]:,} to {last[-1].numbers[-1]:,}.")
            raise
        except REFUSED:
            if last:
                plan.find_bad_value(last[-1], plan.filled(last[-1]))
            raise
        feed.take()
        feed.stored(len(group))

    def _on_sqlite(
        self, connection: Connection, plan: InsertPlan, feed: Feed[InsertPlan], last: list[Group]
    ) -> None:
        compiled = self._compiled(plan)
        sent = 0

        def batches() -> Iterator[list[tuple[Any, ...]]]:
            nonlocal sent
            for group in feed.alike(plan):
                rows = compiled.rows(plan.values(group, plan.filled(group)), group)
                last[:] = [group]
                yield rows
                sent += len(group)

        # What is wrong in the first rows is found before anything is sent.
        waiting = batches()
        order = SQLiteMany(compiled.sql, chain([next(waiting)], waiting))
        run_on_driver(connection, order)
        self.count += order.changed if self._wording.order.on_conflict is OnConflict.NOTHING else sent

    def _compiled(self, plan: InsertPlan) -> _Compiled:
        compiled = self._known.get(plan)
        if compiled is None:
            compiled = self._known[plan] = _Compiled(self._wording, plan)
        return compiled

    def _write(self, connection: Connection, plan: InsertPlan, group: Group) -> None:
        if self._wording.order.made_for_each(plan):
            self._one_by_one(connection, plan, group)
            return
        if not (self._wording.joins_values and plan.fields and connection.dialect.positional):
            self._by_core(connection, plan, group)
            return
        if self._wording.counts_conflicts and not self._counting:
            connection.exec_driver_sql(COUNT_FROM_ZERO)
            self._counting = True
        compiled = self._compiled(plan)
        columns = plan.values(group, plan.filled(group))
        for start, stop in light_portions(columns, len(group)):
            part = [column[start:stop] for column in columns]
            connection.exec_driver_sql(compiled.joined(stop - start), compiled.flat(part, stop - start))
        self.count += len(group)

    def _one_by_one(self, connection: Connection, plan: InsertPlan, group: Group) -> None:
        columns = plan.filled(group)
        rows = as_rows(columns, [column.key for column in plan.columns], len(group))
        statement = self._wording.statement(plan.model.table, plan)
        for one, row in zip(self._wording.for_each(statement, plan, columns), rows, strict=True):
            connection.execute(one, row)
        self.count += len(group)

    def _by_core(self, connection: Connection, plan: InsertPlan, group: Group) -> None:
        wording = self._wording
        statement = wording.with_conflict(wording.statement(plan.model.table, plan), plan)
        rows = as_rows(plan.filled(group), [column.key for column in plan.columns], len(group))
        if wording.order.on_conflict is OnConflict.NOTHING:
            self.count += len(connection.execute(statement.returning(literal(1)), rows).all())
        else:
            connection.execute(statement, rows)
            self.count += len(group)

    def finish(self, connection: Connection) -> None:
        """Ask the server what only it has counted."""
        if self._counting:
            conflicts = connection.execute(select(CONFLICTS_COUNTED)).scalar_one()
            self.count -= int(conflicts)


class _Compiled:
    """The text of one INSERT, and where its values go."""

    def __init__(self, wording: Wording, plan: InsertPlan) -> None:
        # Names of our own: those of columns may hold what a driver takes for a placeholder.
        names = [f"unitwork_{place}" for place in range(len(plan.fields))]
        binds = {c: bindparam(name, type_=c.type) for c, name in zip(plan.columns, names, strict=True)}
        plain = wording.statement(plan.model.table, plan).values(binds)
        dialect = wording.dialect
        whole: Any = wording.with_conflict(plain, plan).compile(dialect=dialect)
        self.sql: str = str(whole)
        self._order = places_of(whole, names)
        if not wording.joins_values:
            return
        bare: Any = plain.compile(dialect=dialect)
        rows_start = str(bare).index(" VALUES ") + len(" VALUES ")
        self._head = str(bare)[:rows_start]
        self._row = str(bare)[rows_start:]
        self._tail = self.sql[len(str(bare)) :]
        self._in_row = places_of(bare, names)
        self._in_tail = self._order[len(self._in_row) :]
        self._joined: tuple[int, str] = (0, "")

    def rows(self, columns: Sequence[Sequence[Any]], group: Group) -> list[tuple[Any, ...]]:
        """Return the values of each row, in the order of the text."""
        arranged = _arranged(self._order, columns, len(group))
        if group.rows is not None and list(map(id, arranged)) == list(map(id, group.columns)):
            return group.rows
        return list(zip(*arranged, strict=True))

    def joined(self, count: int) -> str:
        """Return the text for so many rows in one VALUES list."""
        if self._joined[0] != count:
            self._joined = (count, f"{self._head}{', '.join(repeat(self._row, count))}{self._tail}")
        return self._joined[1]

    def flat(self, columns: Sequence[Sequence[Any]], count: int) -> tuple[Any, ...]:
        """Return the values of all rows of one VALUES list, and of what follows it."""
        rows = zip(*_arranged(self._in_row, columns, count), strict=True)
        return (*(value for row in rows for value in row), *(place.value for place in self._in_tail))


class _Place:
    """Where a value comes from: a column, or a constant of the statement."""

    def __init__(self, column: int | None, value: object) -> None:
        self.column = column
        self.value = value


def places_of(compiled: Any, keys: Sequence[str]) -> list[_Place]:  # noqa: ANN401  # an SQLCompiler
    """Return where each value of a compiled statement comes from."""
    found: list[_Place] = []
    for name in compiled.positiontup or ():
        if name in keys:
            found.append(_Place(keys.index(name), None))
            continue
        value = compiled.params[name]
        processor = compiled.binds[name].type.dialect_impl(compiled.dialect).bind_processor(compiled.dialect)
        found.append(_Place(None, processor(value) if processor is not None else value))
    return found


def _arranged(places: Sequence[_Place], columns: Sequence[Sequence[Any]], count: int) -> list[Any]:
    return [
        columns[place.column] if place.column is not None else repeat(place.value, count) for place in places
    ]
