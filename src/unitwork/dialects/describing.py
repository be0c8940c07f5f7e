"""This module asks databases what they make of a statement, without running it."""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import override

if TYPE_CHECKING:
    from sqlalchemy import Connection

_NUMBERS = itertools.count()
_NAMED = re.compile(r"%(?:\((\w+)\)s|%)")
_SOURCES = r"\b(?:FROM|JOIN|UPDATE)\s+[\"`]?(\w+)[\"`]?\s+(?:AS\s+)?[\"`]?{alias}\b"


@dataclass(frozen=True, slots=True)
class Ready:
    """A statement as its driver takes it. `order` names the parameters by position, if it has any."""

    sql: str
    values: Mapping[str, Any]
    order: Sequence[str] | None

    def for_driver(self) -> Any:  # noqa: ANN401  # a tuple or a dict
        """Return the values as the driver takes them."""
        return dict(self.values) if self.order is None else tuple(self.values[name] for name in self.order)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a result; `kind` is None if the database does not tell its type."""

    name: str
    kind: type | None


class Describer:
    """Asks a database by EXPLAIN. This one knows what most databases have in common. Lives: one statement."""

    read_only = True
    """Its questions are allowed in read-only transactions, also those about statements that write."""

    def accept(self, connection: Connection, ready: Ready) -> Mapping[str, type]:
        """Let the database look at a statement; return the types of the parameters that it tells.

        Raises:
            sqlalchemy.exc.DBAPIError: It cannot run there.
        """
        connection.exec_driver_sql(f"EXPLAIN {ready.sql}", ready.for_driver()).close()
        return {}

    def columns(self, connection: Connection, ready: Ready) -> list[Column]:
        """Return the columns of a query, without its rows."""
        empty = f"SELECT * FROM ({ready.sql}) AS unitwork_rows LIMIT 0"  # noqa: S608  # declared by the program
        return _columns(connection.exec_driver_sql(empty, ready.for_driver()), {})

    def scanned(self, connection: Connection, ready: Ready) -> list[str]:  # noqa: ARG002  # for those that tell
        """Return the tables that the plan of a statement reads as a whole."""
        return []

    def finish(self, connection: Connection) -> None:
        """Remove what is left of the last statement; its transaction is rolled back already."""


class SQLiteDescriber(Describer):
    """SQLite: EXPLAIN compiles a statement and runs nothing."""

    @override
    def scanned(self, connection: Connection, ready: Ready) -> list[str]:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {ready.sql}", ready.for_driver())
        steps = [re.fullmatch(r"SCAN (\w+)", str(row[-1])) for row in plan]
        return [_table(ready.sql, step.group(1)) for step in steps if step is not None]


class MySQLDescriber(Describer):
    """MariaDB and MySQL: EXPLAIN of a statement that writes counts as a write."""

    read_only = False

    @override
    def columns(self, connection: Connection, ready: Ready) -> list[Column]:
        if not getattr(connection.dialect, "is_mariadb", False):
            return super().columns(connection, ready)
        # Inside of another SELECT two columns could not have the same name.
        empty = f"SET STATEMENT sql_select_limit=0 FOR {ready.sql}"
        return _columns(connection.exec_driver_sql(empty, ready.for_driver()), _MYSQL_KINDS)

    @override
    def scanned(self, connection: Connection, ready: Ready) -> list[str]:
        plan = connection.exec_driver_sql(f"EXPLAIN {ready.sql}", ready.for_driver()).mappings().all()
        return [_table(ready.sql, step["table"]) for step in plan if step["type"] == "ALL" and step["table"]]


class PostgreSQLDescriber(Describer):
    """PostgreSQL: PREPARE tells the types of parameters; no value is needed."""

    def __init__(self) -> None:
        self._places: list[str] = []
        self._name = ""

    @override
    def accept(self, connection: Connection, ready: Ready) -> Mapping[str, type]:
        self._prepare(connection, self._numbered(ready))
        found = connection.exec_driver_sql(
            "SELECT parameter_types::text[] FROM pg_prepared_statements "  # noqa: S608  # our own name
            f"WHERE name = '{self._name}'"
        ).scalar_one()
        pairs = zip(self._places, found, strict=False)
        return {name: _POSTGRESQL_KINDS[kind] for name, kind in pairs if kind in _POSTGRESQL_KINDS}

    @override
    def columns(self, connection: Connection, ready: Ready) -> list[Column]:
        self._prepare(connection, f"SELECT * FROM ({self._numbered(ready)}) AS unitwork_rows LIMIT 0")  # noqa: S608
        return _columns(connection.exec_driver_sql(f"EXECUTE {self._call()}"), _OIDS)

    @override
    def scanned(self, connection: Connection, ready: Ready) -> list[str]:
        self._prepare(connection, self._numbered(ready))
        connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) EXECUTE {self._call()}").scalar_one()
        return _sequential(json.loads(plan) if isinstance(plan, str) else plan)

    @override
    def finish(self, connection: Connection) -> None:
        known = "SELECT name FROM pg_prepared_statements WHERE left(name, 14) = 'unitwork_check'"
        for name in connection.exec_driver_sql(known).scalars().all():
            connection.exec_driver_sql(f"DEALLOCATE {name}")

    def _prepare(self, connection: Connection, numbered: str) -> None:
        # A name for each: asyncpg remembers what EXECUTE of a name returns.
        self._name = f"unitwork_check_{next(_NUMBERS)}"
        # Without parameters a percent sign is no placeholder.
        plain = {"no_parameters": True}
        connection.exec_driver_sql(f"PREPARE {self._name} AS {numbered}", execution_options=plain)

    def _call(self) -> str:
        return f"{self._name}({', '.join('NULL' for _ in self._places)})" if self._places else self._name

    def _numbered(self, ready: Ready) -> str:
        """Return the statement with its parameters written as `$1`."""
        if ready.order is not None:
            self._places = list(ready.order)
            return ready.sql
        self._places = places = []

        def number(match: re.Match[str]) -> str:
            name = match.group(1)
            if name is None:
                return "%"
            if name not in places:
                places.append(name)
            return f"${places.index(name) + 1}"

        return _NAMED.sub(number, ready.sql)


def describer_for(dialect: str) -> Describer:
    """Return what asks this kind of database."""
    kinds = {"postgresql": PostgreSQLDescriber, "mysql": MySQLDescriber, "mariadb": MySQLDescriber}
    return kinds.get(dialect, SQLiteDescriber if dialect == "sqlite" else Describer)()


def _columns(result: Any, kinds: Mapping[Any, type]) -> list[Column]:  # noqa: ANN401  # a cursor result
    described = result.cursor.description or ()
    columns = [Column(part[0], kinds.get(part[1])) for part in described]
    result.close()
    return columns


def _table(sql: str, alias: str) -> str:
    found = re.search(_SOURCES.format(alias=re.escape(alias)), sql, re.IGNORECASE)
    return found.group(1) if found is not None else alias


def _sequential(plan: Any) -> list[str]:  # noqa: ANN401  # JSON
    if isinstance(plan, list):
        return [table for part in plan for table in _sequential(part)]
    if not isinstance(plan, dict):
        return []
    own = [plan["Relation Name"]] if plan.get("Node Type") == "Seq Scan" else []
    return own + [table for key in ("Plan", "Plans") for table in _sequential(plan.get(key))]


_POSTGRESQL_KINDS: Mapping[str, type] = {
    "boolean": bool,
    "smallint": int,
    "integer": int,
    "bigint": int,
    "real": float,
    "double precision": float,
    "numeric": decimal.Decimal,
    "text": str,
    "character varying": str,
    "character": str,
    "bytea": bytes,
    "date": dt.date,
    "timestamp without time zone": dt.datetime,
    "timestamp with time zone": dt.datetime,
    "time without time zone": dt.time,
    "interval": dt.timedelta,
    "uuid": uuid.UUID,
}
_OIDS: Mapping[int, type] = {
    **dict.fromkeys((20, 21, 23), int),
    **dict.fromkeys((700, 701), float),
    **dict.fromkeys((25, 1042, 1043), str),
    **dict.fromkeys((1114, 1184), dt.datetime),
    16: bool,
    17: bytes,
    1082: dt.date,
    1083: dt.time,
    1186: dt.timedelta,
    1700: decimal.Decimal,
    2950: uuid.UUID,
}
_MYSQL_KINDS: Mapping[int, type] = {
    **dict.fromkeys((1, 2, 3, 8, 9), int),
    **dict.fromkeys((4, 5), float),
    **dict.fromkeys((0, 246), decimal.Decimal),
    **dict.fromkeys((253, 254, 15), str),
    **dict.fromkeys((7, 12), dt.datetime),
    10: dt.date,
    11: dt.time,
}
