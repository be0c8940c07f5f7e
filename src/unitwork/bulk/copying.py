"""This module inserts by COPY: straight into the table, or through a temporary one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, case, column, literal_column, or_, select, table, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.exc import DBAPIError

from unitwork._logic.conflicts import OnConflict
from unitwork.bulk.statements import Statements, Wording
from unitwork.dialects.orders import AsyncpgCopyIn, CopyTarget, PsycopgCopyIn, quoted, run_on_driver
from unitwork.dialects.postgresql import sqlstate_of

if TYPE_CHECKING:
    from unitwork.bulk.feed import Feed
    from unitwork.bulk.fields import Model
    from unitwork.bulk.plan import Plan

COPIES = {"asyncpg": AsyncpgCopyIn, "psycopg": PsycopgCopyIn}

FEWEST_ROWS = 50
"""Fewer rows are faster in an INSERT, which needs no question beforehand."""
_SAME_ROW_TWICE = "21000"
_PLACE = re.compile(r"COPY .*?, line (\d+)(?:, column (\w+))?")
_QUESTION = text(
    "SELECT c.relkind IN ('r', 'p') AND NOT row_security_active(c.oid),"
    " has_database_privilege(current_database(), 'TEMP')"
    " FROM pg_class AS c WHERE c.oid = to_regclass(:name)"
)


class Stage:
    """A temporary table with the columns of one plan. Lives: until its rows are merged."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.name = f"unitwork_{secrets.token_hex(6)}"
        self.rows = 0

    def create(self, connection: Connection) -> None:
        """Create it; it goes with the transaction if nobody drops it."""
        names = ", ".join(quoted(column.name) for column in self.plan.columns)
        source = connection.dialect.identifier_preparer.format_table(self.plan.model.table)
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE {self.name} AS SELECT {names} FROM {source} WITH NO DATA"  # noqa: S608  # quoted
        )

    def drop(self, connection: Connection) -> None:
        """Drop it."""
        connection.exec_driver_sql(f"DROP TABLE {self.name}")

    def rows_once(self, target: Sequence[Any], *, last_of_key: bool) -> Any:  # noqa: ANN401  # a Select
        """Return a SELECT of its rows; of those with the same key, only the last one."""
        staged = table(self.name, *(column(c.name, c.type) for c in self.plan.columns))
        found = select(*staged.columns)
        if not last_of_key:
            return found
        place: Any = literal_column("ctid")
        keys = [staged.c[c.name] for c in target]
        # A key with NULL is a key of its own.
        keys.append(case((or_(*(key.is_(None) for key in keys)), place)))
        return found.ext(distinct_on(*keys)).order_by(*keys, place.desc())


class Copying:
    """Inserts by COPY where PostgreSQL allows it, by statements where not. Lives: one bulk write."""

    def __init__(self, wording: Wording, statements: Statements) -> None:
        self._wording = wording
        self._statements = statements
        self._model: Model = wording.order.model
        self._stage: Stage | None = None
        self._allowed: tuple[bool, bool] | None = None
        self._count = 0

    @property
    def count(self) -> int:
        """Rows inserted, and those updated."""
        return self._count + self._statements.count

    def write(self, connection: Connection, plan: Plan, feed: Feed) -> None:
        """Write the next group, and those after it that have the same columns."""
        if self._stage is not None and self._stage.plan is not plan:
            self._merge(connection)
        if self._stage is None and (self._are_few(feed) or not self._may_copy(connection, plan)):
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
            place = CopyTarget(None, self._stage.name, _names(plan))
        self._send(connection, place, blocks, numbers)
        if self._stage is None:
            self._count += sum(map(len, numbers))

    def _are_few(self, feed: Feed) -> bool:
        group = feed.peek()
        return group is None or len(group) < FEWEST_ROWS

    def _direct(self, plan: Plan) -> bool:
        return self._wording.order.on_conflict is OnConflict.FAIL and not plan.expressions

    def _may_copy(self, connection: Connection, plan: Plan) -> bool:
        if not plan.copyable or connection.get_execution_options().get("schema_translate_map"):
            return False
        if self._allowed is None:
            # This also begins the transaction, which the driver itself knows nothing of.
            name = connection.dialect.identifier_preparer.format_table(self._model.table)
            answer = connection.execute(_QUESTION, {"name": name}).one_or_none()
            self._allowed = (bool(answer[0]), bool(answer[1])) if answer is not None else (True, True)
        plain, temporary = self._allowed
        return plain and (temporary or self._direct(plan))

    def _blocks(self, plan: Plan, feed: Feed, numbers: list[Sequence[int]]) -> Iterator[bytes]:
        for group in feed.alike(plan):
            piece = plan.text(group)
            numbers.append(group.numbers)
            yield piece

    def _send(
        self, connection: Connection, place: CopyTarget, blocks: Iterable[bytes], numbers: list[Sequence[int]]
    ) -> None:
        try:
            run_on_driver(connection, COPIES[connection.dialect.driver](place, blocks))
        except DBAPIError as error:
            self._say_where(error, numbers)
            raise

    def _say_where(self, error: DBAPIError, numbers: Sequence[Sequence[int]]) -> None:
        context = _context_of(error)
        found = _PLACE.search(context) if context else None
        if found is None:
            return
        line = int(found[1]) - 1
        for known in numbers:
            if line < len(known):
                names = {c.name: f.name for c, f in self._model.by_column.items()}
                attribute = f", attribute {names.get(found[2], found[2])!r}" if found[2] else ""
                error.add_note(f"In row {known[line]:,}{attribute}.")
                return
            line -= len(known)

    def finish(self, connection: Connection) -> None:
        """Move what is in a temporary table to its place."""
        self._merge(connection)

    def _merge(self, connection: Connection) -> None:
        stage, self._stage = self._stage, None
        if stage is None:
            return
        if self._wording.order.on_conflict is not OnConflict.UPDATE:
            self._count += connection.execute(self._insert(stage)).rowcount
        else:
            self._count += self._merged(connection, stage)
        stage.drop(connection)

    def _merged(self, connection: Connection, stage: Stage) -> int:
        """Insert or update, and only if PostgreSQL refuses a key that comes twice, look for those."""
        savepoint = connection.begin_nested()
        try:
            count = connection.execute(self._insert(stage)).rowcount
        except DBAPIError as error:
            savepoint.rollback()
            if sqlstate_of(error) != _SAME_ROW_TWICE:
                raise
        else:
            savepoint.commit()
            return count
        connection.execute(self._insert(stage, last_of_key=True))
        count = connection.exec_driver_sql(f"SELECT count(*) FROM {stage.name}").scalar_one()  # noqa: S608
        return int(count)

    def _insert(self, stage: Stage, *, last_of_key: bool = False) -> Any:  # noqa: ANN401  # an Insert
        target: list[Any] = [field.column for field in self._wording.order.target]
        rows = stage.rows_once(target, last_of_key=last_of_key)
        into: Table = self._model.table
        statement = self._wording.statement(stage.plan, into)
        statement = statement.from_select([c.key for c in stage.plan.columns], rows)
        return self._wording.with_conflict(statement, stage.plan).execution_options(preserve_rowcount=True)


def _names(plan: Plan) -> list[str]:
    return [column.name for column in plan.columns]


def _context_of(error: DBAPIError) -> str | None:
    """Return where in its work the server was."""
    orig: Any = error.orig
    diagnosis = getattr(orig, "diag", None)
    found: str | None = getattr(diagnosis if diagnosis is not None else orig.__cause__, "context", None)
    return found
