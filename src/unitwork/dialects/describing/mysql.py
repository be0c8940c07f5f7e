"""This module asks MariaDB and MySQL, whose protocol prepares a statement without running it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.types import Date, DateTime, Float, Integer, Interval, LargeBinary, Numeric, String
from sqlalchemy.util import await_only
from typing_extensions import override

from unitwork._logic.promises import Sending
from unitwork._logic.sql.answers import inserted_as_query, returned_as_query
from unitwork._logic.sql.scopes import Table
from unitwork._logic.sql.statement import CHANGES, QUERIES
from unitwork.dialects.backend import READ_WRITE
from unitwork.dialects.describing.question import (
    Answer,
    Column,
    Describer,
    Question,
    RefusedError,
    first_line,
)
from unitwork.dialects.describing.sqlite import tables_called

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.types import TypeEngine

_PREPARE, _CLOSE = 0x16, 0x19
_LOCK_WAIT = 1205
_CANNOT_PREPARE = 1295
_BINARY = 63
# What the drivers answer for the types of the protocol, texts and binaries apart.
_TYPES: Mapping[int, TypeEngine[Any]] = {
    **dict.fromkeys((1, 2, 3, 8, 9, 13), Integer()),
    **dict.fromkeys((4, 5), Float()),
    **dict.fromkeys((0, 246), Numeric()),
    **dict.fromkeys((7, 12), DateTime()),
    10: Date(),
    11: Interval(),
}
_TEXTS = frozenset({15, 247, 248, 249, 250, 251, 252, 253, 254})
_ANALYSED = CHANGES | QUERIES | {"SHOW", "EXPLAIN", "DESCRIBE", "DESC", "DO"}

# A number is compared as it is, whatever the column is called.
_SENDING = Sending(alone={(float, int): True}, mapped={(float, int): True})


class MySQLDescriber(Describer):
    """Preparing a statement that writes counts as a write, so that its transactions are read-write."""

    mode = READ_WRITE

    @override
    def sending(self, connection: Connection) -> Sending:
        return _SENDING

    @override
    def begin(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET @unitwork_wait = @@lock_wait_timeout, lock_wait_timeout = 3")

    @override
    def end(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET lock_wait_timeout = @unitwork_wait")

    @override
    def describe(self, connection: Connection, question: Question) -> Answer:
        (statement, *more) = question.text.statements
        if more:
            return Answer({}, None, "it is several statements")
        try:
            columns = self._prepared(connection, question)
            self._check_width(connection, question)
            if not columns and statement.verb in CHANGES and statement.returns_rows:
                query = returned_as_query(question.text)
                columns = self._prepared(connection, replace(question, text=query)) if query else None
        except _NotPreparedError as error:
            return Answer({}, None, str(error))
        looked_at = (statement.inner or statement).verb in _ANALYSED
        unseen = "" if looked_at else f"the server looks at {statement.verb} only when it runs it"
        return Answer({}, columns, unseen)

    def _prepared(self, connection: Connection, question: Question) -> list[Column] | None:
        driver: Any = connection.connection.driver_connection
        if not hasattr(driver, "_execute_command"):
            raise _NotPreparedError("this driver cannot prepare statements")
        # SHOW and its like have no place for parameters but in text, into which the drivers write values.
        plain = question.text.statements[0].verb in CHANGES | QUERIES
        sql = question.marked((lambda _name: "?") if plain else question.literal)
        try:
            return await_only(_described(driver, sql))
        except connection.dialect.loaded_dbapi.Error as error:
            code = error.args[0] if error.args else None
            if code == _CANNOT_PREPARE:
                raise _NotPreparedError("the server cannot prepare it") from error
            if code == _LOCK_WAIT:
                raise _NotPreparedError("a table is locked by somebody else") from error
            raise RefusedError(first_line(error)) from error

    def _check_width(self, connection: Connection, question: Question) -> None:
        """Count the columns of INSERT … SELECT, which the server does only when it runs it."""
        inserted = inserted_as_query(question.text)
        if inserted is None:
            return
        query, width = inserted
        try:
            columns = self._prepared(connection, replace(question, text=query))
        except RefusedError:
            return  # it is a part that does not stand alone
        if columns and len(columns) != width:
            raise RefusedError(f"it inserts {len(columns)} values into {width} columns")

    @override
    def scanned(self, connection: Connection, question: Question) -> list[Table]:
        if question.text.statements[0].verb not in CHANGES | QUERIES:
            return []
        plain = {"no_parameters": True}
        sql = f"EXPLAIN {question.marked(question.literal)}"
        plan = connection.exec_driver_sql(sql, execution_options=plain).mappings().all()
        return tables_called(
            [step["table"] for step in plan if step["type"] == "ALL" and step["table"]], question
        )


class _NotPreparedError(Exception):
    """A statement cannot be prepared, right or wrong; the text says why."""


async def _described(driver: Any, sql: str) -> list[Column]:  # noqa: ANN401  # a connection of asyncmy or aiomysql
    """Prepare a statement, read what the server tells of its columns, and forget it."""
    read: Any = getattr(driver, "read_packet", None) or driver._read_packet  # noqa: SLF001  # no public way
    await driver._execute_command(_PREPARE, sql.encode())  # noqa: SLF001  # as above
    number, columns, parameters = struct.unpack_from("<IHH", (await read()).get_all_data(), 1)
    short = getattr(driver, "_deprecate_eof", False)
    for _ in range(parameters + bool(parameters and not short)):
        await read()
    found = [_column((await read()).get_all_data()) for _ in range(columns)]
    if columns and not short:
        await read()
    await driver._execute_command(_CLOSE, struct.pack("<I", number))  # noqa: SLF001  # as above
    return found


def _column(packet: bytes) -> Column:
    texts, place = [], 0
    for _ in range(6):
        length, place = _length(packet, place)
        texts.append(packet[place : place + length])
        place += length
    charset, kind = struct.unpack_from("<xHxxxxB", packet, place)
    if kind in _TEXTS and charset == _BINARY:  # of an expression that says little: numbers are such texts too
        return Column(texts[4].decode(), LargeBinary() if texts[3] else None)
    if kind in _TEXTS:
        return Column(texts[4].decode(), String())
    return Column(texts[4].decode(), _TYPES.get(kind))


def _length(packet: bytes, place: int) -> tuple[int, int]:
    first = packet[place]
    if first < 0xFB:  # noqa: PLR2004  # as the protocol writes lengths
        return first, place + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
    return int.from_bytes(packet[place + 1 : place + 1 + size], "little"), place + 1 + size
