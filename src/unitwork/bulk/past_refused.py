"""This module inserts rows one by one, past those that cannot be stored, and tells which those are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select
from sqlalchemy.exc import StatementError

from unitwork.bulk.feed import Feed, new_rows
from unitwork.bulk.insert import keeps_order
from unitwork.bulk.past_refused_on_server import RowsOnServer, is_possible
from unitwork.bulk.rows import RowReader
from unitwork.bulk.statements import Wording
from unitwork.dialects.one_by_one import ONE_BY_ONE
from unitwork.dialects.orders import run_on_driver
from unitwork.dialects.upserts import CONFLICTS_COUNTED, COUNT_FROM_ZERO
from unitwork.errors import RowError

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from unitwork.bulk.order import InsertOrder
    from unitwork.bulk.plan import InsertPlan
    from unitwork.bulk.rows import Group


_NUL = b"\x00"
# What is raised about values before anything is sent.
_REFUSED = (RowError, StatementError, ValueError, TypeError, ArithmeticError, RecursionError)


class PastRefused:
    """Inserts what can be inserted of some rows. Lives: one transaction."""

    def __init__(self, order: InsertOrder) -> None:
        self._order = order
        self._statements: dict[InsertPlan, _Statement] = {}
        self.stored = 0
        self.refused: list[tuple[int, Exception]] = []
        """The numbers of the rows that are not stored, from 1, and why."""

    def insert(self, session: Session, rows: Sequence[Any]) -> bool:
        """Insert rows into the table of the model, or say that there is no way to do so one by one."""
        connection = session.connection(bind_arguments={"mapper": self._order.model.mapper})
        if not self._order.model.whole or connection.dialect.driver not in ONE_BY_ONE:
            return False
        wording = Wording(self._order, connection.dialect)
        feed = self._feed(connection, rows)
        groups = list(self._groups(feed))
        plans = [feed.plan_of(group) for group in groups]
        if any(not plan.fields or self._order.made_for_each(plan) for plan in plans):
            return False
        on_server = is_possible(connection)
        for plan, group in zip(plans, groups, strict=True):
            server = RowsOnServer(connection, wording, plan) if on_server else None
            if server is not None and server.takes:
                self._send_together(server, plan, group)
            else:
                self._send(connection, self._statement(wording, plan), group)
        return True

    def _feed(self, connection: Connection, rows: Sequence[Any]) -> Feed[InsertPlan]:
        reader = RowReader(None, in_order=True)
        kind = new_rows(self._order.model, updates=keeps_order(self._order))
        feed = Feed(self._order.model, kind, reader, len(rows), None)
        feed.dialect = connection.dialect
        feed.refill([list(rows)])
        return feed

    def _groups(self, feed: Feed[InsertPlan]) -> Iterator[Group]:
        while (group := feed.peek()) is not None:
            yield group
            feed.take()

    def _statement(self, wording: Wording, plan: InsertPlan) -> _Statement:
        if plan not in self._statements:
            self._statements[plan] = _Statement(wording, plan)
        return self._statements[plan]

    def _send(self, connection: Connection, statement: _Statement, group: Group) -> None:
        numbers: list[int] = []
        rows: list[Any] = []
        for number, row in self._bound(statement.plan, group):
            numbers.append(number)
            rows.append(statement.arranged(row))
        order = ONE_BY_ONE[connection.dialect.driver](statement.sql, rows)
        if statement.counts_conflicts:
            connection.exec_driver_sql(COUNT_FROM_ZERO)
        run_on_driver(connection, order)
        self.stored += order.stored
        if statement.counts_conflicts:
            self.stored -= int(connection.execute(select(CONFLICTS_COUNTED)).scalar_one())
        self.refused += [(numbers[place], error) for place, error in order.refused]

    def _send_together(self, server: RowsOnServer, plan: InsertPlan, group: Group) -> None:
        written = list(self._written(plan, group))
        numbers = [number for part, _piece in written for number in part]
        stored, refused = server.insert([piece for _part, piece in written], numbers)
        self.stored += stored
        self.refused += refused

    def _written(self, plan: InsertPlan, group: Group) -> Iterator[tuple[Sequence[int], bytes]]:
        """Yield rows as COPY reads them; those that cannot be written so are refused."""
        try:
            piece = plan.text(group, plan.filled(group))
            if _NUL in piece:
                raise ValueError("a text holds a NUL character, which PostgreSQL does not store")
        except _REFUSED as error:
            if len(group) == 1:
                self.refused.append((group.numbers[0], error))
                return
            for part in _halves(group):
                yield from self._written(plan, part)
        else:
            yield group.numbers, piece

    def _bound(self, plan: InsertPlan, group: Group) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yield the values of each row as the driver takes them; a row that has none is refused."""
        try:
            columns = plan.values(group, plan.filled(group))
        except _REFUSED as error:
            if len(group) == 1:
                self.refused.append((group.numbers[0], error))
                return
            for part in _halves(group):
                yield from self._bound(plan, part)
        else:
            yield from zip(group.numbers, zip(*columns, strict=True), strict=True)


def _halves(group: Group) -> Iterator[Group]:
    half = len(group) // 2
    yield group.part(range(half))
    yield group.part(range(half, len(group)))


class _Statement:
    """The INSERT of one row, in the words of a driver."""

    def __init__(self, wording: Wording, plan: InsertPlan) -> None:
        self.plan = plan
        names = [f"unitwork_{place}" for place in range(len(plan.fields))]
        binds = {c: bindparam(name, type_=c.type) for c, name in zip(plan.columns, names, strict=True)}
        plain = wording.statement(plan.model.table, plan).inline().values(binds)
        compiled: Any = wording.with_conflict(plain, plan).compile(dialect=wording.dialect)
        self.sql = str(compiled)
        self.counts_conflicts = wording.counts_conflicts
        self._positions: list[str] | None = compiled.positiontup
        self._places = {name: place for place, name in enumerate(names)}
        self._constants = {
            name: _bound(compiled, name) for name in compiled.params if name not in self._places
        }

    def arranged(self, row: Sequence[Any]) -> Any:  # noqa: ANN401  # a tuple, or a mapping by name
        """Return the values of a row, and of the statement itself, as the driver asks for them."""
        if self._positions is None:
            return {**self._constants, **{name: row[place] for name, place in self._places.items()}}
        places, constants = self._places, self._constants
        return tuple(row[places[name]] if name in places else constants[name] for name in self._positions)


def _bound(compiled: Any, name: str) -> Any:  # noqa: ANN401  # an SQLCompiler, a value
    processor = compiled.binds[name].type.dialect_impl(compiled.dialect).bind_processor(compiled.dialect)
    value = compiled.params[name]
    return value if processor is None else processor(value)
