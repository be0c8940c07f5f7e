"""This module checks the declared queries of a program against a live database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, inspect
from sqlalchemy.exc import CompileError, DBAPIError

from unitwork._logic.findings import CheckReport, Finding, Severity, Unchecked
from unitwork._logic.promises import Promise, Result, Told
from unitwork._logic.shape import Item, Rows
from unitwork._logic.sql.answers import Answers
from unitwork._logic.sql.meetings import behind_target, meetings, resolved
from unitwork._logic.sql.scopes import Scopes, Table
from unitwork._logic.sql.statement import CHANGES, QUERIES
from unitwork._logic.values.columns import class_of_type
from unitwork._logic.values.parameters import sample
from unitwork._runtime.lanes.registry import declared_queries
from unitwork.dialects.describing import (
    Answer,
    Catalog,
    Question,
    RefusedError,
    StoredColumn,
    describer_for,
    question_of,
)
from unitwork.errors import DeclarationError

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.types import TypeEngine

    from unitwork._runtime.lanes.calls import StatementCall
    from unitwork._runtime.lanes.registry import Checkable
    from unitwork._runtime.source import Source

_ROW_NUMBERS = ("rowid", "oid", "_rowid_")

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
        self._describer = describer_for(source.home_engine().dialect.name)
        self._findings: list[Finding] = []
        self._unchecked: list[Unchecked] = []
        self._large: dict[tuple[str, str], bool] = {}

    async def run(self, *owners: type) -> CheckReport:
        """Check the queries of these classes, or of all that live."""
        queries = declared_queries(*owners)
        options = self._source.backend.execution_options(self._describer.mode)
        async with self._source.home_engine().connect() as connection:
            await connection.execution_options(**options)
            await connection.run_sync(self._check_all, queries)
        names = tuple(query.name for _, query in queries)
        return CheckReport(self._source.name, names, tuple(self._findings), tuple(self._unchecked))

    def _check_all(self, connection: Connection, queries: list[tuple[type, Checkable]]) -> None:
        with connection.begin():
            self._describer.begin(connection)
            catalog = Catalog(connection)
        try:
            for owner, query in queries:
                self._check(connection, catalog, owner, query)
        finally:
            with connection.begin():
                self._describer.end(connection)

    def _check(self, connection: Connection, catalog: Catalog, owner: type, query: Checkable) -> None:
        sending = self._describer.sending(connection)
        promise = Promise(query.name, query.shape, query.parameters, sending)
        try:
            asked = _built(owner, query)
            question = question_of(asked.statement, asked.parameters, connection.dialect)
            with connection.begin() as transaction:
                answer = self._describer.describe(connection, question)
                transaction.rollback()
            with connection.begin() as transaction:
                one = _OneCheck(promise, query, asked, question, answer)
                self._findings += one.findings(catalog)
                self._unchecked += one.unchecked()
                transaction.rollback()
            if self._explain and not answer.unseen:
                self._findings += self._scans(connection, catalog, promise, question)
        except DeclarationError as error:
            self._findings.append(promise.wrong(f"{error.problem}.", error.fix))
        except CompileError as error:
            self._findings.append(promise.wrong(f"it cannot be written for this database: {error}"))
        except RefusedError as error:
            said = str(error) if error.by_driver else f"the database refuses it: {error}."
            self._findings.append(promise.wrong(said, error.fix))
        except _NotBuiltError as error:
            problem = f"its statement could not be built with sample values: {error}."
            fix = "let the body return a statement for any value of its parameters' types."
            self._findings.append(promise.wrong(problem, fix, Severity.WARNING))

    def _scans(
        self, connection: Connection, catalog: Catalog, promise: Promise, question: Question
    ) -> Iterator[Finding]:
        if not any("WHERE" in statement.words for statement in question.text.statements):
            return
        with connection.begin() as transaction:
            for table in dict.fromkeys(self._scanned(connection, question)):
                if catalog.columns(table) is not None and self._is_large(connection, table):
                    yield promise.wrong(
                        f"it reads all rows of table {table.name!r}, which has {LARGE_ROWS:,} or more.",
                        "add an index on the columns of its condition.",
                        Severity.WARNING,
                    )
            transaction.rollback()

    def _scanned(self, connection: Connection, question: Question) -> list[Table]:
        try:
            return self._describer.scanned(connection, question)
        except (RefusedError, DBAPIError):  # there is no plan with the values that we have
            return []

    def _is_large(self, connection: Connection, table: Table) -> bool:
        key = (table.schema, table.name)
        if key not in self._large:
            quote = connection.dialect.identifier_preparer.quote
            name = ".".join(quote(part) for part in key if part)
            some = f"SELECT 1 FROM {name} LIMIT {LARGE_ROWS}"  # noqa: S608  # a table of the catalog
            rows = connection.exec_driver_sql(f"SELECT count(*) FROM ({some}) AS unitwork_rows").scalar_one()  # noqa: S608
            self._large[key] = rows >= LARGE_ROWS
        return self._large[key]


class _NotBuiltError(Exception):
    """The body of a query raises for values of the right types; the text is the class of its error."""


def _built(owner: type, query: Checkable) -> StatementCall:
    """Ask a query for its statement, with values that its parameters may have.

    Raises:
        DeclarationError: What it returns is no statement.
    """
    failed: Exception | None = None
    for zone in (None, dt.UTC):  # columns differ in which of them they take
        try:
            arguments = {name: _zoned(sample(each), zone) for name, each in query.parameters.items()}
            return query.asked(object.__new__(owner), arguments)
        except DeclarationError:
            raise
        except Exception as error:  # noqa: BLE001  # a body of the user's, with values of ours
            failed = error
    raise _NotBuiltError(type(failed).__name__) from failed


def _zoned(value: Any, zone: dt.tzinfo | None) -> Any:  # noqa: ANN401  # a sample of any type
    if isinstance(value, list):
        return [_zoned(each, zone) for each in value]
    return value.replace(tzinfo=zone) if isinstance(value, dt.datetime) else value


class _OneCheck:
    """What a database tells of one query, beside what it promises. Lives: one query."""

    def __init__(
        self, promise: Promise, query: Checkable, asked: StatementCall, question: Question, answer: Answer
    ) -> None:
        self._promise = promise
        self._query = query
        self._statement = asked.statement
        self._question = question
        self._answer = answer
        self._told: Mapping[str, Told] = {}
        self._met: Mapping[str, list[tuple[StoredColumn, bool]]] = {}
        self._results: list[Result] | None = None

    def findings(self, catalog: Catalog) -> Iterator[Finding]:
        """Compare, after the database has accepted the statement."""
        yield from self._missing_tables(catalog)
        yield from self._missing_columns(catalog)
        for name in self._answer.taken_as_text:
            yield self._promise.wrong(
                f'the database takes "{name}" as text, because there is no such column.',
                f"write '{name}' if it is text, or the name of a column.",
                Severity.WARNING,
            )
        self._met = self._meetings(catalog)
        self._told = self._parameters()
        wrong = list(self._promise.parameter_findings(self._told.items()))
        yield from wrong or list(self._promise.parameter_findings(self._contradictions()))[:1]
        if self._query.counts or self._query.shape.rows is Rows.NONE or self._answer.columns is None:
            return
        self._results = list(self._columns(catalog))
        if isinstance(self._statement, Select):
            mapped = [(column.key or "", column.type) for column in self._statement.selected_columns]
            converts = self._query.converts
            yield from self._promise.mapped_findings(mapped, self._results, converts=converts)
            return
        shape = self._query.shape
        if not self._results:
            if not self._answer.unseen:
                yield self._promise.wrong("it answers with no rows.", "promise `None`, or add RETURNING.")
        elif shape.item is Item.ENTITY and shape.kind is not None:
            mapper: Any = inspect(shape.kind)
            names = [result.name for result in self._results]
            yield from self._promise.missing([column.name for column in mapper.local_table.columns], names)
        else:
            yield from self._promise.column_findings(self._results)

    def unchecked(self) -> Iterator[Unchecked]:
        """Tell what could not be compared; after `findings`."""
        if self._answer.unseen:
            yield Unchecked(self._query.name, self._answer.unseen)
            return
        built = (
            isinstance(self._statement, Select) or self._query.counts or self._query.shape.rows is Rows.NONE
        )
        results = [] if built else self._results
        unknown = self._promise.unseen(self._told, results)
        if unknown:
            yield Unchecked(self._query.name, f"{' and '.join(unknown)}, which the database does not tell")

    def _missing_tables(self, catalog: Catalog) -> Iterator[Finding]:
        """Look for the tables of a statement that the database does not look at before it runs it."""
        for statement in self._question.text.statements:
            if statement.verb in ("TRUNCATE", "LOCK", "ANALYZE", "COPY") and statement.inner is None:
                for table in Scopes(statement).tables:
                    if catalog.columns(table) is None:
                        yield self._promise.wrong(
                            f"the database refuses it: there is no table {table.name!r}."
                        )

    def _missing_columns(self, catalog: Catalog) -> Iterator[Finding]:
        """Look for the columns that `INSERT INTO t (…) SELECT` names, which MariaDB does not look at."""
        for statement in self._question.text.statements:
            scopes = Scopes(statement)
            inserts = statement.verb in ("INSERT", "REPLACE")
            for table in scopes.tables if inserts else ():
                known = catalog.columns(table) if scopes.word(table.place - 1) == "INTO" else None
                for name in scopes.names_in(behind_target(scopes, table)) or ():
                    if known is not None and name.lower() not in {*known, *_ROW_NUMBERS}:
                        yield self._promise.wrong(
                            f"the database refuses it: table {table.name!r} has no column {name!r}."
                        )

    def _parameters(self) -> dict[str, Told]:
        """Return what is known of each parameter of the query."""
        told: dict[str, Told] = {
            name: Told(mapped=kind, expands=True, compared=True) for name, kind in self._named_types().items()
        }
        for name, base in self._question.bases.items():
            met = self._met.get(name, [])
            refuses = [column.name for column, stores in met if stores and column.refuses_null]
            told[base] = Told(
                mapped=self._question.types.get(name),
                guessed=base in getattr(self._query, "guessed_types", ()),
                server=self._answer.types.get(name),
                stored=met[0][0].type if met else None,
                expands=name != base,
                compared=bool(met) and not any(stores for _, stores in met),
                refuses_null=refuses[0] if refuses else "",
            )
        return told

    def _named_types(self) -> Mapping[str, TypeEngine[Any]]:
        found: Mapping[str, TypeEngine[Any]] = getattr(self._query, "column_types", {})
        return found

    def _contradictions(self) -> Iterator[tuple[str, Told]]:
        """Return what a parameter meets besides, where it meets columns of different classes."""
        for name, met in self._met.items():
            if len({class_of_type(column.type) for column, _ in met}) > 1:
                for column, stores in met:
                    told = Told(stored=column.type, expands=True, compared=not stores)
                    yield self._question.bases.get(name, name), told

    def _meetings(self, catalog: Catalog) -> dict[str, list[tuple[StoredColumn, bool]]]:
        found: dict[str, list[tuple[StoredColumn, bool]]] = {}
        cast = {name for name, kind in self._question.types.items() if class_of_type(kind) is not None}
        for statement in self._question.text.statements:
            for meeting in meetings(Scopes(statement), cast):
                column = resolved(meeting.column, catalog.columns) if meeting.exact else None
                if column is not None:
                    found.setdefault(meeting.bind, []).append((column, meeting.stores))
        return found

    def _columns(self, catalog: Catalog) -> Iterator[Result]:
        """Return the columns of the rows, and which of them may be NULL."""
        statement = self._question.text.statements[0]
        answers = Answers(statement) if statement.verb in CHANGES | QUERIES else None
        items = answers.items if answers is not None else None
        columns = self._answer.columns or ()

        def nullable(table: Table) -> Mapping[str, bool] | None:
            known = catalog.columns(table) if catalog.is_table(table) else None
            return None if known is None else {name: column.nullable for name, column in known.items()}

        for number, column in enumerate(columns):
            item = items[number] if items is not None and len(items) == len(columns) else None
            if answers is None or item is None:
                yield Result(column.name, column.type, stored=column.declared)
                continue
            named = answers.column_of(item)
            stored = None if named is None else resolved(named, catalog.columns)
            reason = answers.null_reason(item, nullable)
            yield Result(column.name, column.type, reason, column.declared if stored is None else stored.type)
