"""This module inserts by COPY: straight into the table, or through a temporary one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import Connection, Table, case, column, false, func, literal_column, or_, select, table, text
from sqlalchemy.exc import DBAPIError

from unitwork._collector import CollectorPaused
from unitwork._logic.conflicts import OnConflict
from unitwork._sqlalchemy.versions import select_distinct_on
from unitwork.bulk.plan import Plan
from unitwork.bulk.statements import Statements, Wording
from unitwork.dialects.orders import AsyncpgCopyIn, CopyTarget, PsycopgCopyIn, run_on_driver
from unitwork.dialects.postgresql import sqlstate_of

if TYPE_CHECKING:
    from unitwork.bulk.feed import Feed
    from unitwork.bulk.fields import Model
from unitwork.bulk.plan import InsertPlan

P = TypeVar("P", bound=Plan)

COPIES = {"asyncpg": AsyncpgCopyIn, "psycopg": PsycopgCopyIn}

FEWEST_ROWS = 50
"""Fewer rows are faster in an INSERT, which needs no question beforehand."""
SAME_ROW_TWICE = "21000"
"""The SQLSTATE of an INSERT that would update one row two times."""
_PLACE = re.compile(r"COPY .*?, line (\d+)(?:, column (\w+))?")
_QUESTION = text(
    # An INSERT runs the rules of a table, COPY passes them by.
    "SELECT c.relkind IN ('r', 'p') AND NOT (c.relhasrules OR row_security_active(c.oid)),"
    " has_database_privilege(current_database(), 'TEMP'),"
    " ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attidentity = 'a')"
    " FROM pg_class AS c WHERE c.oid = to_regclass(:name)"
)


@dataclass(frozen=True, slots=True)
class Rights:
    """What PostgreSQL allows with one table. Lives: one bulk write."""

    straight: bool = True
    """Whether COPY may write into the table."""
    temporary: bool = True
    """Whether temporary tables may be created."""
    generated: frozenset[str] = frozenset()
    """Columns that an INSERT may not give values, GENERATED ALWAYS AS IDENTITY; COPY would take them."""

    @classmethod
    def of(cls, connection: Connection, table: Table) -> Rights:
        """Ask; this also begins the transaction, which the driver itself knows nothing of."""
        if connection.get_execution_options().get("schema_translate_map"):
            return cls(straight=False, temporary=False)
        name = connection.dialect.identifier_preparer.format_table(table)
        answer = connection.execute(_QUESTION, {"name": name}).one_or_none()
        return cls() if answer is None else cls(bool(answer[0]), bool(answer[1]), frozenset(answer[2]))


class Stage(Generic[P]):
    """A temporary table with the columns of one plan. Lives: until its rows are merged."""

    def __init__(self, plan: P) -> None:
        self.plan = plan
        self.name = f"unitwork_{secrets.token_hex(6)}"
        # Names of our own: one column may come twice, and its name may hold anything.
        self.columns: list[Any] = [column(f"v{n}", c.type) for n, c in enumerate(plan.columns)]
        self.table = table(self.name, *self.columns)

    @property
    def target(self) -> CopyTarget:
        """Where COPY writes."""
        return CopyTarget(None, self.name, [column.name for column in self.columns])

    def create(self, connection: Connection) -> None:
        """Create it; it goes with the transaction if nobody drops it."""
        preparer = connection.dialect.identifier_preparer
        pairs = zip(self.plan.columns, self.columns, strict=True)
        names = ", ".join(f"{preparer.quote(source.name)} AS {column.name}" for source, column in pairs)
        source = preparer.format_table(self.plan.model.table)
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE {self.name} AS SELECT {names} FROM {source} WITH NO DATA"  # noqa: S608  # quoted
        )

    def drop(self, connection: Connection) -> None:
        """Drop it."""
        connection.exec_driver_sql(f"DROP TABLE {self.name}")

    def rows(self) -> Any:  # noqa: ANN401  # a Select
        """Return a SELECT of all rows."""
        return select(*self.columns)

    def last_rows(self, key: Sequence[Any]) -> Any:  # noqa: ANN401  # a Select
        """Return a SELECT of the last row of each key."""
        parts = [*key, self._apart(key)]
        return select_distinct_on(self.rows(), *parts).order_by(*parts, _PLACE_IN_TABLE.desc())

    def turns(self, key: Sequence[Any]) -> Any:  # noqa: ANN401  # a subquery
        """Return the rows with a number: the how manieth of its key each one is."""
        turn = func.row_number().over(partition_by=[*key, self._apart(key)], order_by=_PLACE_IN_TABLE)
        return self.rows().add_columns(turn.label("turn")).subquery()

    @staticmethod
    def _apart(key: Sequence[Any]) -> Any:  # noqa: ANN401  # SQL
        # A key with NULL is a key of its own.
        return case((or_(false(), *(part.is_(None) for part in key)), _PLACE_IN_TABLE))


_PLACE_IN_TABLE: Any = literal_column("ctid")


class Copying:
    """Inserts by COPY where PostgreSQL allows it, by statements where not. Lives: one bulk write."""

    def __init__(self, wording: Wording, statements: Statements) -> None:
        self._wording = wording
        self._statements = statements
        self._model: Model = wording.order.model
        self._stage: Stage[InsertPlan] | None = None
        self._rights: Rights | None = None
        self._count = 0

    @property
    def count(self) -> int:
        """Rows inserted, and those updated."""
        return self._count + self._statements.count

    def write(self, connection: Connection, plan: InsertPlan, feed: Feed[InsertPlan]) -> None:
        """Write the next group, and those after it that have the same columns."""
        if self._stage is not None and self._stage.plan is not plan:
            self._merge(connection)
        if self._stage is None and (self.are_few(feed) or not self._may_copy(connection, plan)):
            self._statements.write(connection, plan, feed)
            return
        numbers: list[Sequence[int]] = []
        blocks = self._blocks(plan, feed, numbers)
        # What is wrong in the first rows is found before anything is sent.
        blocks = chain([next(blocks)], blocks)
        if self._direct(plan):
            place = CopyTarget(self._model.table.schema, self._model.table.name, _names(plan))
        else:
            if self._stage is None:
                self._stage = Stage(plan)
                self._stage.create(connection)
            place = self._stage.target
        self._send(connection, plan, place, blocks, numbers)
        if self._stage is None:
            self._count += sum(map(len, numbers))

    def are_few(self, feed: Feed[InsertPlan]) -> bool:
        """Say whether an INSERT is faster for the next group."""
        group = feed.peek()
        return group is None or len(group) < FEWEST_ROWS

    def _direct(self, plan: InsertPlan) -> bool:
        return self._wording.order.on_conflict is OnConflict.FAIL and not plan.expressions

    def _may_copy(self, connection: Connection, plan: InsertPlan) -> bool:
        if not plan.copyable or self._wording.order.made_for_each(plan):
            return False
        rights = self._rights
        if rights is None:
            rights = self._rights = Rights.of(connection, self._model.table)
        if any(column.name in rights.generated for column in plan.columns):
            return False
        return rights.straight and (rights.temporary or self._direct(plan))

    def may_stage(self, connection: Connection, plan: InsertPlan) -> bool:
        """Say whether rows may go by way of a temporary table."""
        return self._may_copy(connection, plan) and self._rights is not None and self._rights.temporary

    def returned(
        self,
        connection: Connection,
        plan: InsertPlan,
        rows: tuple[Iterable[bytes], list[Sequence[int]]],
        columns: Sequence[Any],
    ) -> Sequence[Any]:
        """Insert rows, given as COPY reads them and by their numbers, and return these columns of each."""
        blocks, numbers = rows
        stage = Stage(plan)
        stage.create(connection)
        self._send(connection, plan, stage.target, blocks, numbers)
        in_order = stage.rows().order_by(_PLACE_IN_TABLE)
        try:
            result = connection.execute(self._insert(stage, in_order).returning(*columns))
        except DBAPIError as error:
            error.add_note(f"In rows {numbers[0][0]:,} to {numbers[-1][-1]:,}.")
            raise
        with CollectorPaused():
            found = result.all()
        stage.drop(connection)
        return found

    def _blocks(
        self, plan: InsertPlan, feed: Feed[InsertPlan], numbers: list[Sequence[int]]
    ) -> Iterator[bytes]:
        for group in feed.alike(plan):
            piece = plan.text(group, plan.filled(group))
            numbers.append(group.numbers)
            yield piece

    def _send(
        self,
        connection: Connection,
        plan: InsertPlan,
        place: CopyTarget,
        blocks: Iterable[bytes],
        numbers: list[Sequence[int]],
    ) -> None:
        try:
            run_on_driver(connection, COPIES[connection.dialect.driver](place, blocks))
        except DBAPIError as error:
            attributes = dict(zip(place.columns, (field.name for field in plan.fields), strict=True))
            _say_where(error, numbers, attributes)
            raise

    def finish(self, connection: Connection) -> None:
        """Move what is in a temporary table to its place."""
        self._merge(connection)

    def _merge(self, connection: Connection) -> None:
        stage, self._stage = self._stage, None
        if stage is None:
            return
        if self._wording.order.on_conflict is not OnConflict.UPDATE:
            self._count += connection.execute(self._insert(stage, stage.rows())).rowcount
        else:
            self._count += self._merged(connection, stage)
        stage.drop(connection)

    def _merged(self, connection: Connection, stage: Stage[InsertPlan]) -> int:
        """Insert or update, and only if PostgreSQL refuses a key that comes twice, look for those."""
        savepoint = connection.begin_nested()
        try:
            count = connection.execute(self._insert(stage, stage.rows())).rowcount
        except DBAPIError as error:
            savepoint.rollback()
            if sqlstate_of(error) != SAME_ROW_TWICE:
                raise
        else:
            savepoint.commit()
            return count
        key = self._key(stage)
        if self._wording.order.is_last_row_enough(stage.plan):
            connection.execute(self._insert(stage, stage.last_rows(key)))
        else:
            self._merge_in_turns(connection, stage, stage.turns(key))
        count = connection.exec_driver_sql(f"SELECT count(*) FROM {stage.name}").scalar_one()  # noqa: S608
        return int(count)

    def _merge_in_turns(self, connection: Connection, stage: Stage[InsertPlan], rows: Any) -> None:  # noqa: ANN401  # a subquery
        """Let each row of a key see what those before it have done, as rows do that come alone."""
        turns = connection.execute(select(func.max(rows.c.turn))).scalar_one()
        columns = [rows.c[column.name] for column in stage.columns]
        for turn in range(1, int(turns) + 1):
            connection.execute(self._insert(stage, select(*columns).where(rows.c.turn == turn)))

    def _key(self, stage: Stage[InsertPlan]) -> list[Any]:
        fields = stage.plan.fields
        return [stage.columns[fields.index(field)] for field in self._wording.order.target if field in fields]

    def _insert(self, stage: Stage[InsertPlan], rows: Any) -> Any:  # noqa: ANN401  # an Insert
        into: Table = self._model.table
        statement = self._wording.bare(into)
        statement = statement.from_select([c.key for c in stage.plan.columns], rows)
        return self._wording.with_conflict(statement, stage.plan).execution_options(preserve_rowcount=True)


def _say_where(error: DBAPIError, numbers: Sequence[Sequence[int]], attributes: Mapping[str, str]) -> None:
    context = _context_of(error)
    found = _PLACE.search(context) if context else None
    if found is None:
        return
    line = int(found[1]) - 1
    for known in numbers:
        if line < len(known):
            attribute = f", attribute {attributes.get(found[2], found[2])!r}" if found[2] else ""
            error.add_note(f"In row {known[line]:,}{attribute}.")
            return
        line -= len(known)


def _names(plan: InsertPlan) -> list[str]:
    return [column.name for column in plan.columns]


def _context_of(error: DBAPIError) -> str | None:
    """Return where in its work the server was."""
    orig: Any = error.orig
    diagnosis = getattr(orig, "diag", None)
    found: str | None = getattr(diagnosis if diagnosis is not None else orig.__cause__, "context", None)
    return found
