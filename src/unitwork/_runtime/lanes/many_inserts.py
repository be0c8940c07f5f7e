"""This module holds the INSERT of several entities of a simple model at once, as a flush sends it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert
from sqlalchemy.orm.exc import FlushError
from typing_extensions import override

from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.lanes.inserts import Returned
from unitwork._runtime.lanes.sending import StatementThatWrites, parameters_of
from unitwork._sqlalchemy.private import goes_row_by_row, text_for_rows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import Mapper, Session

    from unitwork._runtime.lanes.inserts import CompiledInsert, InsertCall
    from unitwork.dialects.direct import Column, Direct, Rows

_SENT_AT_ONCE = LaneRefusal("the driver sends several rows at once")
_NO_COUNTER = LaneRefusal("the database does not number new rows")


class CompiledInserts:
    """The INSERT of several rows of a model that have no keys yet. Lives: as long as it is cached."""

    @classmethod
    def of(cls, one: CompiledInsert, dialect: Dialect) -> CompiledInserts | LaneRefusal | None:
        """Compile it; or say why only the ORM can send it; None if the ORM sends one row after the other."""
        if not one.returned:
            return _SENT_AT_ONCE
        table: Any = one.mapper.local_table
        if not (table.implicit_returning and dialect.insert_executemany_returning_sort_by_parameter_order):
            return None
        statement: Any = insert(table)
        filled = [column for _key, column in one.returned.columns if not column.primary_key]
        if filled:
            statement = statement.return_defaults(*filled, sort_by_parameter_order=True)
        statement = statement.return_defaults(*table.primary_key, sort_by_parameter_order=True)
        compiled: Any = statement.compile(dialect=dialect, column_keys=one.names, for_executemany=True)
        if goes_row_by_row(compiled):
            return cls(one.mapper, None)
        places = list(compiled.positiontup) if compiled.positional else None
        if places != one.places or text_for_rows(compiled, 2) is None:
            return _NO_COUNTER
        return cls(one.mapper, compiled)

    def __init__(self, mapper: Mapper[Any], compiled: Any) -> None:  # noqa: ANN401  # of SQLAlchemy's
        self.statement = compiled and compiled.statement
        self.mapper = mapper
        self._compiled = compiled
        self._keys = {column: mapper.get_property_by_column(column).key for column in mapper.local_table.c}
        self._texts: dict[int, tuple[str, Returned]] = {}

    def calls(self, calls: Sequence[InsertCall]) -> Sequence[InsertCall | InsertsCall] | LaneRefusal:
        """Return the statement for several entities, or those that are sent row by row."""
        if self._compiled is None:
            return calls
        count = len(calls)
        if count not in self._texts:
            sql = text_for_rows(self._compiled, count)
            if sql is None:
                return _NO_COUNTER
            returned = [(self._keys[column], column) for column in self._compiled.effective_returning]
            self._texts[count] = sql, Returned(sql, self._compiled.dialect, returned)
        sql, returned_rows = self._texts[count]
        return [InsertsCall(self, calls, sql, returned_rows)]

    def arguments(self, calls: Sequence[InsertCall]) -> Any:  # noqa: ANN401  # as the driver takes them
        """Return what the driver is given for several entities."""
        if self._compiled.positional:
            return list(chain.from_iterable(call.arguments for call in calls))
        return {
            f"{name}__{place}": value
            for place, call in enumerate(calls)
            for name, value in call.arguments.items()
        }


@dataclass(frozen=True, slots=True)
class InsertsCall(StatementThatWrites):
    """Several new entities to be inserted."""

    inserts: CompiledInserts
    calls: Sequence[InsertCall]
    sql: str
    returned: Returned

    def fill_in(self) -> LaneRefusal | None:
        """Let Python fill in what the entities were not given; say why the ORM must do that, if so."""
        return next(filter(None, (call.fill_in() for call in self.calls)), None)

    @property
    @override
    def parameters(self) -> Any:
        return parameters_of(self.inserts.arguments(self.calls))

    @property
    def name(self) -> str:
        return self.calls[0].name

    @property
    def statement(self) -> object:
        return self.inserts.statement

    def rows(self, direct: Direct, driver: Any) -> Awaitable[Rows]:  # noqa: ANN401  # of any driver
        return self.returned.rows(direct, driver, self.inserts.arguments(self.calls))

    def described_by(self, cursor: Any) -> None:  # noqa: ANN401  # as the DBAPI says
        self.returned.described_by(cursor)

    def learnt(self, columns: list[Column]) -> None:
        self.returned.learnt(columns)

    def forget_columns(self) -> None:
        self.returned.forget_columns()

    def flushed(self, rows: Rows, session: Session) -> None:  # noqa: ARG002  # as others that a flush sends
        """Give the entities what was filled in.

        Raises:
            sqlalchemy.orm.exc.FlushError: Not all were inserted: a trigger or a rule of its own forbids it.
        """
        if len(rows) != len(self.calls):
            raise not_all_inserted(self.inserts.mapper)
        # The last column numbers the rows in the order in which they were given.
        for call, row in zip(self.calls, sorted(rows, key=itemgetter(-1)), strict=True):
            call.fill(self.returned.values(row))


def not_all_inserted(mapper: Mapper[Any]) -> FlushError:
    """Build the error for rows that the database has not all inserted."""
    return FlushError(
        f"Multi-row INSERT statement for {mapper} did not produce the correct number of INSERTed rows for "
        "RETURNING.  Ensure there are no triggers or special driver issues preventing INSERT from "
        "functioning properly."
    )
