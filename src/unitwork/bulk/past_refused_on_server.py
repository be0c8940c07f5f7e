"""This module lets PostgreSQL itself insert rows one by one, past those that it refuses: in one exchange."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import literal_column, select, text

from unitwork.bulk.copying import COPIES
from unitwork.dialects.orders import CopyTarget, run_on_driver

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from unitwork.bulk.plan import InsertPlan
    from unitwork.bulk.statements import Wording

_ALLOWED = text(
    "SELECT has_database_privilege(current_database(), 'TEMP') AND EXISTS ("
    "SELECT FROM pg_language WHERE lanname = 'plpgsql' AND has_language_privilege(oid, 'USAGE'))"
)
# Without their lengths: a cast to varchar(5) cuts what an INSERT refuses.
_TYPES = text(
    "SELECT attname, format_type(atttypid, -1) FROM pg_attribute"
    " WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped"
)
# The conditions are those of `dialects/refusals.py`, as PL/pgSQL calls them.
_PROGRAM = """
DO $unitwork$
#variable_conflict use_column
DECLARE
    r record;
    said text;
    of_column text;
    more text;
    new_rows bigint;
    stored bigint := 0;
BEGIN
    FOR r IN SELECT * FROM {stage} ORDER BY unitwork_row LOOP
        BEGIN
            {insert};
            GET DIAGNOSTICS new_rows = ROW_COUNT;
            stored := stored + new_rows;
        EXCEPTION WHEN data_exception OR integrity_constraint_violation OR with_check_option_violation
            OR raise_exception OR program_limit_exceeded THEN
            GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, of_column = COLUMN_NAME, more = PG_EXCEPTION_DETAIL;
            INSERT INTO {stage}_refused VALUES (r.unitwork_row, said, of_column, more);
        END;
    END LOOP;
    INSERT INTO {stage}_refused VALUES (0, stored::text, '', '');
END $unitwork$
"""


class ServerRefusalError(Exception):
    """What PostgreSQL says of one row of many."""

    def __init__(self, message: str, column_name: str, detail: str) -> None:
        super().__init__(f"{message} DETAIL: {detail}" if detail else message)
        self.column_name = column_name or None


def is_possible(connection: Connection) -> bool:
    """Say whether this is PostgreSQL, and may run a program."""
    if connection.dialect.name != "postgresql" or connection.dialect.driver not in COPIES:
        return False
    # This also begins the transaction, which the driver itself knows nothing of.
    return bool(connection.execute(_ALLOWED).scalar_one())


class RowsOnServer:
    """Rows that PostgreSQL tries one by one, in savepoints of its own. Lives: one transaction."""

    def __init__(self, connection: Connection, wording: Wording, plan: InsertPlan) -> None:
        self._connection = connection
        self._plan = plan
        preparer = connection.dialect.identifier_preparer
        rows = connection.execute(_TYPES, {"name": preparer.format_table(plan.model.table)})
        self._types: dict[str, str] = {name: kind for name, kind in rows}  # noqa: C416  # of rows
        self._insert = self._worded(wording) if self._types else None

    def _worded(self, wording: Wording) -> str | None:
        """Return the INSERT of the row `r`; None if it has values of its own, which are no SQL text."""
        plan = self._plan
        kinds = [self._types[column.name] for column in plan.columns]
        values: list[Any] = [literal_column(f"r.v{place}::{kind}") for place, kind in enumerate(kinds)]
        statement = wording.bare(plan.model.table).inline()
        statement = statement.from_select([column.key for column in plan.columns], select(*values))
        compiled = wording.with_conflict(statement, plan).compile(dialect=wording.dialect)
        return None if compiled.params else str(compiled)

    @property
    def takes(self) -> bool:
        """Whether rows of this plan can be inserted so."""
        return self._insert is not None and self._plan.copyable and not self._plan.expressions

    def insert(
        self, pieces: Sequence[bytes], numbers: Sequence[int]
    ) -> tuple[int, list[tuple[int, Exception]]]:
        """Insert rows that are written as COPY has them; return how many, and which were refused."""
        connection = self._connection
        stage = f"unitwork_{secrets.token_hex(6)}"
        columns = [f"v{place}" for place in range(len(self._plan.fields))]
        texts = ", ".join(f"{column} text" for column in columns)
        connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {stage} (unitwork_row serial, {texts})")
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE {stage}_refused"
            " (unitwork_row int, message text, column_name text, detail text)"
        )
        target = CopyTarget(None, stage, columns)
        run_on_driver(connection, COPIES[connection.dialect.driver](target, pieces))
        connection.exec_driver_sql(_PROGRAM.format(stage=stage, insert=self._insert))
        found = connection.exec_driver_sql(f"SELECT * FROM {stage}_refused ORDER BY unitwork_row").all()  # noqa: S608  # ours
        connection.exec_driver_sql(f"DROP TABLE {stage}, {stage}_refused")
        refused = [
            (numbers[place - 1], ServerRefusalError(message, column, detail))
            for place, message, column, detail in found[1:]
        ]
        return int(found[0].message), list(refused)
