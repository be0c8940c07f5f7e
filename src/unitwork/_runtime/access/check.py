"""This module checks the declared queries of a program against a live database."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, inspect
from sqlalchemy.exc import SQLAlchemyError

from unitwork._logic.families import fits_parameter, fits_result, plain_type, sample
from unitwork._logic.findings import CheckReport, Finding, Severity
from unitwork._logic.records import field_types_of, required_fields_of
from unitwork._logic.shape import Item
from unitwork._runtime.access.registry import declared_queries
from unitwork.dialects import BeginMode
from unitwork.dialects.describing import Column, Ready, describer_for
from unitwork.errors import DeclarationError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from unitwork._runtime.access.registry import Checkable
    from unitwork._runtime.lanes.asked import Asked
    from unitwork._runtime.source import Source

_WHERE = re.compile(r"\bWHERE\b", re.IGNORECASE)

LARGE_ROWS = 10_000
"""A table with at least so many rows should not be read as a whole."""


class Check:
    """One check of declared queries on one database. Lives: one call.

    Args:
        source: The database.
        explain: Also look for large tables that a query reads as a whole.
    """

    def __init__(self, source: Source, *, explain: bool) -> None:
        self._source = source
        self._explain = explain
        self._large: dict[str, bool] = {}

    async def run(self, *owners: type) -> CheckReport:
        """Check the queries of these classes, or of all that live."""
        queries = declared_queries(*owners)
        read_only = describer_for(self._source.home_engine().dialect.name).read_only
        options = self._source.backend.execution_options(BeginMode(read_only=read_only))
        findings: list[Finding] = []
        async with self._source.home_engine().connect() as connection:
            await connection.execution_options(**options)
            for owner, query in queries:
                findings += await connection.run_sync(self._checked, owner, query)
        return CheckReport(self._source.name, tuple(query.name for _, query in queries), tuple(findings))

    def _checked(self, connection: Connection, owner: type, query: Checkable) -> list[Finding]:
        try:
            arguments = {name: sample(annotation) for name, annotation in query.parameters.items()}
            asked = query.asked(object.__new__(owner), arguments)
            ready = _ready(asked, connection)
        except DeclarationError as error:
            return [Finding(query.name, Severity.ERROR, f"{error.problem}.", error.fix)]
        except Exception as error:  # noqa: BLE001  # a body of the user's, with values of ours
            return [
                Finding(
                    query.name,
                    Severity.WARNING,
                    f"its statement could not be built with sample values: {type(error).__name__}.",
                    "let the body return a statement for any value of its parameters' types.",
                )
            ]
        try:
            with connection.begin() as transaction:
                findings = list(self._findings(connection, query, asked, ready))
                transaction.rollback()
        except SQLAlchemyError as error:
            findings = [self._refused(query, error)]
        with connection.begin():
            describer_for(connection.dialect.name).finish(connection)
        return findings

    def _findings(
        self, connection: Connection, query: Checkable, asked: Asked, ready: _ReadyStatement
    ) -> Iterable[Finding]:
        describer = describer_for(connection.dialect.name)
        told = {**describer.accept(connection, ready.ready), **ready.kinds}
        yield from _parameter_findings(query, told, ready.bases)
        if not asked.writes and not isinstance(asked.statement, Select):
            yield from _column_findings(query, describer.columns(connection, ready.ready))
        if self._explain and _WHERE.search(ready.ready.sql):
            for table in dict.fromkeys(describer.scanned(connection, ready.ready)):
                if self._is_large(connection, table):
                    yield Finding(
                        query.name,
                        Severity.WARNING,
                        f"it reads all rows of table {table!r}, which has {LARGE_ROWS:,} or more.",
                        "add an index on the columns of its condition.",
                    )

    def _is_large(self, connection: Connection, table: str) -> bool:
        if table not in self._large:
            quoted = connection.dialect.identifier_preparer.quote(table)
            some = f"SELECT 1 FROM {quoted} LIMIT {LARGE_ROWS}"  # noqa: S608  # a table of the plan
            rows = connection.exec_driver_sql(f"SELECT count(*) FROM ({some}) AS unitwork_rows").scalar_one()  # noqa: S608
            self._large[table] = rows >= LARGE_ROWS
        return self._large[table]

    def _refused(self, query: Checkable, error: SQLAlchemyError) -> Finding:
        cause = getattr(error, "orig", None) or error
        text = " ".join(str(cause).split("\n")[0].split())
        return Finding(query.name, Severity.ERROR, f"the database refuses it: {text}.")


class _ReadyStatement:
    """A statement for the driver, and what SQLAlchemy knows of its parameters."""

    def __init__(self, ready: Ready, kinds: dict[str, type], bases: dict[str, str]) -> None:
        self.ready = ready
        self.kinds = kinds
        self.bases = bases


def _ready(asked: Asked, connection: Connection) -> _ReadyStatement:
    compiled: Any = asked.statement.compile(dialect=connection.dialect)
    state = compiled.construct_expanded_state(dict(asked.parameters) if asked.parameters else None)
    processors = {**compiled._bind_processors, **state.processors}  # noqa: SLF001  # as an execution does
    values = {
        name: processors[name](value) if name in processors else value
        for name, value in state.parameters.items()
    }
    bases = {name: name for name in values}
    for base, expanded in state.parameter_expansion.items():
        bases.update(dict.fromkeys(expanded, base))
    kinds: dict[str, type] = {}
    for name, base in bases.items():
        known = _python_type(compiled.binds[base].type) if base in compiled.binds else None
        if known is not None:
            kinds[name] = known
    order = list(state.positiontup) if compiled.positional else None
    return _ReadyStatement(Ready(state.statement, values, order), kinds, bases)


def _python_type(kind: Any) -> type | None:  # noqa: ANN401  # a type of SQLAlchemy
    try:
        found: type = kind.python_type
    except NotImplementedError:
        return None
    return found


def _parameter_findings(query: Checkable, told: dict[str, type], bases: dict[str, str]) -> Iterable[Finding]:
    seen: set[str] = set()
    for name, wanted in told.items():
        base = bases.get(name, name)
        annotation = query.parameters.get(base)
        if annotation is None or base in seen or fits_parameter(annotation, wanted):
            continue
        seen.add(base)
        given = getattr(plain_type(annotation), "__name__", str(annotation))
        yield Finding(
            query.name,
            Severity.ERROR,
            f"the parameter {base!r} is {given}, but the database compares it with {wanted.__name__}.",
            f"annotate it as `{base}: {wanted.__name__}`.",
        )


def _column_findings(query: Checkable, columns: list[Column]) -> Iterable[Finding]:
    shape = query.shape
    names = [column.name for column in columns]
    if shape.item is Item.ENTITY and shape.kind is not None:
        mapper: Any = inspect(shape.kind)
        wanted = [column.name for column in mapper.local_table.columns]
        yield from _missing(query, wanted, names)
    elif shape.item is Item.RECORD:
        yield from _missing(query, sorted(required_fields_of(shape.kind)), names)
        kind: Any = shape.kind
        types = field_types_of(kind)
        for column in columns:
            yield from _misfit(query, column, types.get(column.name), f"{kind.__name__}.{column.name}")
    elif shape.item is Item.SCALAR and len(columns) > 1:
        yield Finding(
            query.name,
            Severity.ERROR,
            f"it promises one value for each row, but selects {len(columns)} columns.",
            f"select one of: {', '.join(names)}.",
        )
    elif shape.item is Item.SCALAR:
        for column in columns:
            yield from _misfit(query, column, shape.kind, "it")


def _missing(query: Checkable, wanted: list[str], names: list[str]) -> Iterable[Finding]:
    for name in wanted:
        if name not in names:
            yield Finding(
                query.name,
                Severity.ERROR,
                f"{query.shape.kind.__name__} needs the column {name!r}, which it does not select.",
                f"select it, or promise another record; the columns are: {', '.join(names)}.",
            )


def _misfit(query: Checkable, column: Column, annotation: object, who: str) -> Iterable[Finding]:
    if annotation is None or column.kind is None or fits_result(annotation, column.kind):
        return
    wanted = getattr(plain_type(annotation), "__name__", str(annotation))
    yield Finding(
        query.name,
        Severity.ERROR,
        f"{who} is {wanted}, but the column {column.name!r} holds {column.kind.__name__}.",
        f"annotate it as {column.kind.__name__}, or convert it with `CAST(... AS ...)`.",
    )
