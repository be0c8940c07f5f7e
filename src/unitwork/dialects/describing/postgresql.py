"""This module asks PostgreSQL, whose protocol tells all of a statement that is parsed and not run."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, Enum
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only
from typing_extensions import override

from unitwork._logic.promises import Sending
from unitwork._logic.sql.scopes import Table
from unitwork._logic.sql.statement import CHANGES, QUERIES
from unitwork.dialects.describing.question import (
    Answer,
    Column,
    Describer,
    Question,
    RefusedError,
    first_line,
    refused_as_several,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.types import TypeEngine

_ANALYSED = CHANGES | QUERIES | {"CALL", "EXPLAIN", "SHOW", "DECLARE"}
_TYPES = (
    "SELECT t.oid::bigint, format_type(t.oid, NULL), t.typtype::text, "
    "t.typelem::bigint, t.typbasetype::bigint, "
    "ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder) "
    "FROM pg_type t WHERE t.oid IN ({oids})"
)
_NO_TYPE = ("42P18", "42P08")
_LOCKED = "55P03"

_SENDING = {
    # It makes of each value what the server infers: of 1.5 the whole number 1.
    "asyncpg": Sending(alone={(Decimal, int): False}, mapped={(Decimal, int): False}),
    # It says what its values are, and the server compares; SQLAlchemy writes a cast for mapped columns.
    "psycopg": Sending(
        alone={(float, int): True, (bool, int): False}, mapped={(Decimal, int): False}, enums=True
    ),
}


@dataclass(frozen=True, slots=True)
class _Parsed:
    """What the protocol tells: the types of parameters, and the columns."""

    parameters: Sequence[int]
    columns: Sequence[tuple[str, int]]


class PostgreSQLDescriber(Describer):
    """Parses and describes each statement without a name, so that nothing is left of it."""

    def __init__(self) -> None:
        self._types: dict[int, TypeEngine[Any] | None] = {}

    @override
    def sending(self, connection: Connection) -> Sending:
        return _SENDING.get(connection.dialect.driver, Sending())

    @override
    def describe(self, connection: Connection, question: Question) -> Answer:
        (statement, *more) = question.text.statements
        driver = connection.dialect.driver
        if more and (question.bases or driver == "asyncpg"):  # psycopg sends several that have no parameters
            raise refused_as_several(question, driver)
        if more:
            return Answer({}, None, "it is several statements")
        connection.exec_driver_sql("SET LOCAL lock_timeout = 3000")
        sql, names = question.numbered()
        try:
            parsed = self._parse(connection, sql, question, names)
        except Exception as error:
            if not _is_of_server(error):
                raise
            if _code_of(error) == _LOCKED:
                return Answer({}, None, "a table is locked by somebody else")
            raise RefusedError(first_line(error)) from error
        types = self._types_of(connection, [*parsed.parameters, *(kind for _, kind in parsed.columns)])
        told = {name: types[kind] for name, kind in zip(names, parsed.parameters, strict=False)}
        columns = [Column(name, types[kind]) for name, kind in parsed.columns]
        if ("ON", "CONFLICT") in statement.pairs:
            self._plan(connection, sql, names)
        looked_at = (statement.inner or statement).verb in _ANALYSED
        unseen = "" if looked_at else f"PostgreSQL looks at {statement.verb} only when it runs it"
        return Answer({name: kind for name, kind in told.items() if kind is not None}, columns, unseen)

    def _parse(self, connection: Connection, sql: str, question: Question, names: Sequence[str]) -> _Parsed:
        driver: Any = connection.connection.driver_connection
        if connection.dialect.driver == "asyncpg":
            return await_only(_parsed_by_asyncpg(driver, sql))
        connection.exec_driver_sql("SAVEPOINT unitwork_check")
        try:
            return await_only(_parsed_by_psycopg(driver, sql, ()))
        except Exception as error:
            # This driver says what its values are, where nothing else does.
            if _code_of(error) not in _NO_TYPE:
                raise
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT unitwork_check")
            return await_only(_parsed_by_psycopg(driver, sql, [question.samples.get(name) for name in names]))

    def _types_of(self, connection: Connection, oids: Iterable[int]) -> Mapping[int, TypeEngine[Any] | None]:
        missing = {oid for oid in oids if oid not in self._types}
        if missing:
            listed = ", ".join(map(str, sorted(missing)))
            rows = connection.exec_driver_sql(_TYPES.format(oids=listed)).all()
            inner = {row[3] or row[4] for row in rows if row[3] or row[4]}
            known = self._types_of(connection, inner) if inner else {}
            for oid, name, kind, element, base, labels in rows:
                self._types[oid] = _type(connection, name, kind, known.get(element or base), labels)
            for oid in missing:
                self._types.setdefault(oid, None)
        return self._types

    def _plan(self, connection: Connection, sql: str, names: Sequence[str], *options: str) -> Any:  # noqa: ANN401  # JSON
        """Plan a statement for any values: that finds what parsing leaves, such as the key of ON CONFLICT."""
        name = f"unitwork_check_{secrets.token_hex(6)}"
        call = f"{name}({', '.join('NULL' for _ in names)})" if names else name
        plain = {"no_parameters": True}
        connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        connection.exec_driver_sql(f"PREPARE {name} AS {sql}", execution_options=plain)
        connection.exec_driver_sql("SAVEPOINT unitwork_plan")
        try:
            explained = f"EXPLAIN ({', '.join(('FORMAT JSON', *options))}) EXECUTE {call}"
            plan = connection.exec_driver_sql(explained, execution_options=plain).scalar_one()
        except DBAPIError as error:
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT unitwork_plan")
            raise RefusedError(first_line(error)) from error
        finally:
            # Behind a pooler this connection of the server is another one's after the transaction.
            connection.exec_driver_sql(f"DEALLOCATE {name}")
        return json.loads(plan) if isinstance(plan, str) else plan

    @override
    def scanned(self, connection: Connection, question: Question) -> list[Table]:
        if question.text.statements[0].verb not in CHANGES | QUERIES:
            return []
        return list(_sequential(self._plan(connection, *question.numbered(), "VERBOSE")))

    @override
    def end(self, connection: Connection) -> None:
        known = "SELECT name FROM pg_prepared_statements WHERE left(name, 14) = 'unitwork_check'"
        for name in connection.exec_driver_sql(known).scalars().all():
            connection.exec_driver_sql(f"DEALLOCATE {name}")


async def _parsed_by_asyncpg(driver: Any, sql: str) -> _Parsed:  # noqa: ANN401  # its connection
    statement = await driver.prepare(sql, name="")
    columns = [(column.name, column.type.oid) for column in statement.get_attributes()]
    return _Parsed([kind.oid for kind in statement.get_parameters()], columns)


async def _parsed_by_psycopg(driver: Any, sql: str, values: Sequence[object]) -> _Parsed:  # noqa: ANN401  # as above
    psycopg: Any = sys.modules["psycopg"]
    changed = psycopg.adapt.Transformer.from_context(driver)
    kinds = ()
    if values:
        changed.dump_sequence(list(values), [psycopg.adapt.PyFormat.AUTO] * len(values))
        kinds = changed.types
    server, execute = driver.pgconn, psycopg.generators.execute
    async with driver.lock:
        server.send_prepare(b"", sql.encode(), kinds)
        await driver.wait(_checked(psycopg, execute(server)))
        server.send_describe_prepared(b"")
        (told,) = await driver.wait(_checked(psycopg, execute(server)))
    names = [(told.fname(each) or b"").decode() for each in range(told.nfields)]
    columns = list(zip(names, map(told.ftype, range(told.nfields)), strict=True))
    return _Parsed([told.param_type(each) for each in range(told.nparams)], columns)


def _checked(psycopg: Any, asking: Any) -> Any:  # noqa: ANN401  # a generator of psycopg
    results = yield from asking
    for result in results:
        if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
    return results


def _is_of_server(error: Exception) -> bool:
    return _code_of(error) is not None


def _code_of(error: Exception) -> str | None:
    code: str | None = getattr(error, "sqlstate", None)
    return code


def _type(
    connection: Connection, name: str, kind: str, inner: TypeEngine[Any] | None, labels: Sequence[str]
) -> TypeEngine[Any] | None:
    if kind == "e":
        return Enum(*labels, name=name)
    if kind == "d":
        return inner
    if name.endswith("[]"):
        return None if inner is None else ARRAY(inner)
    known: Mapping[str, Any] = connection.dialect.ischema_names  # type: ignore[attr-defined]  # of each dialect
    return known[name]() if name in known else None


def _sequential(plan: Any) -> Iterable[Table]:  # noqa: ANN401  # JSON
    if isinstance(plan, list):
        for part in plan:
            yield from _sequential(part)
    elif isinstance(plan, dict):
        if plan.get("Node Type") == "Seq Scan":
            yield Table(plan["Relation Name"], plan.get("Schema", ""))
        for key in ("Plan", "Plans"):
            yield from _sequential(plan.get(key))
