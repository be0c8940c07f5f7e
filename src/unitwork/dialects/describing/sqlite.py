"""This module asks SQLite, which compiles a statement behind EXPLAIN and runs nothing of it."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import re
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import Float, Integer, String
from typing_extensions import override

from unitwork._logic.promises import Sending
from unitwork._logic.sql.answers import returned_as_query
from unitwork._logic.sql.lexer import Kind
from unitwork._logic.sql.reading import read
from unitwork._logic.sql.scopes import Scopes, Table
from unitwork._logic.sql.statement import CHANGES, QUERIES
from unitwork._logic.values.columns import class_of_type
from unitwork.dialects.backend import BeginMode
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

# EXPLAIN does not keep all of these from acting: a PRAGMA may do so while it is compiled.
_AT_ONCE = frozenset(
    {
        *("PRAGMA", "BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE", "ATTACH", "DETACH"),
        *("VACUUM", "ANALYZE", "REINDEX", "CREATE", "DROP", "ALTER"),
    }
)
_VIEW = "unitwork_check"
# A view numbers columns of the same name.
_NUMBERED = re.compile(r":\d+$")
_SCAN = re.compile(r"SCAN (\w+)")
# What the driver answers for a column of a declared class; for others it may be anything.
_STORED: Mapping[type | None, TypeEngine[Any]] = {
    **dict.fromkeys((str, dt.datetime, dt.date, dt.time, uuid.UUID), String()),
    **dict.fromkeys((int, bool), Integer()),
    **dict.fromkeys((float, decimal.Decimal), Float()),
}

# A number is compared as it is, whatever the column is called.
_SENDING = Sending(
    refused=frozenset({decimal.Decimal, uuid.UUID, dt.time, dt.timedelta, enum.Enum}),
    alone={(float, int): True},
    mapped={(float, int): True},
)


class SQLiteDescriber(Describer):
    """Its columns have names, and the types that were declared; those of expressions nobody knows."""

    mode = BeginMode(autocommit=True)  # BEGIN takes the write lock, and read-only forbids a view of our own

    @override
    def sending(self, connection: Connection) -> Sending:
        return _SENDING

    @override
    def describe(self, connection: Connection, question: Question) -> Answer:
        (statement, *more) = question.text.statements
        if more:
            raise refused_as_several(question, connection.dialect.driver)
        if statement.verb in _AT_ONCE:
            return Answer({}, None, f"SQLite looks at {statement.verb} only when it runs it")
        try:
            self._compile(connection, question)
            return Answer(
                {}, self._columns(connection, question), "", self._taken_as_text(connection, question)
            )
        except DBAPIError as error:
            raise RefusedError(first_line(error)) from error

    def _compile(self, connection: Connection, question: Question) -> None:
        explained = question.marked(lambda _name: "NULL")
        if question.text.statements[0].inner is None:
            explained = f"EXPLAIN {explained}"
        connection.exec_driver_sql(explained).close()

    def _taken_as_text(self, connection: Connection, question: Question) -> list[str]:
        """Return the names in double quotes that are text to SQLite, as in backticks they are nothing."""
        text, found = question.text, []
        names = {
            token.text: token.name
            for token in text.tokens
            if token.kind is Kind.NAME and token.text[0] == '"'
        }
        for quoted, name in names.items():
            ticked = "`" + name.replace("`", "``") + "`"
            sql = "".join(ticked if token.text == quoted else token.text for token in text.tokens)
            try:
                self._compile(connection, replace(question, text=read(sql, text.grammar)))
            except DBAPIError:
                found.append(name)
        return found

    def _columns(self, connection: Connection, question: Question) -> list[Column] | None:
        statement = question.text.statements[0]
        if statement.inner is not None:
            return None
        if not statement.returns_rows:
            return []
        query = returned_as_query(question.text) if statement.verb in CHANGES else question.text
        if query is None:
            return None
        bare = replace(question, text=query).marked(lambda _name: "NULL")
        connection.exec_driver_sql(f"CREATE TEMP VIEW {_VIEW} AS {bare}")
        try:
            found = inspect(connection).get_columns(_VIEW, schema="temp")
        finally:
            connection.exec_driver_sql(f"DROP VIEW temp.{_VIEW}")
        return [
            Column(_NUMBERED.sub("", each["name"]), _STORED.get(class_of_type(each["type"])), each["type"])
            for each in found
        ]

    @override
    def scanned(self, connection: Connection, question: Question) -> list[Table]:
        if question.text.statements[0].verb not in CHANGES | QUERIES:
            return []
        sql = question.marked(question.literal)
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}")
        steps = [_SCAN.fullmatch(str(row[-1])) for row in plan]
        return tables_called([step.group(1) for step in steps if step is not None], question)


def tables_called(names: list[str], question: Question) -> list[Table]:
    """Return the tables that a plan calls by their names or aliases; others are no tables."""
    known = {
        table.called: table for statement in question.text.statements for table in Scopes(statement).tables
    }
    return [known[name.lower()] for name in dict.fromkeys(names) if name.lower() in known]
