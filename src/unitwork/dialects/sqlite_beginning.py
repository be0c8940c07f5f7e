"""This module begins the transactions of SQLite: by themselves, or with the first statement."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.util import await_only, greenlet_spawn

from unitwork._sqlalchemy.lazy import BEGUN, LazyConnection, held_by
from unitwork.dialects.backend import CHECKOUT, LENT, backends_on, told_of
from unitwork.dialects.orders import Failed, run_on_driver
from unitwork.dialects.sqlite_driver import (
    begin_with_next,
    close_to_writes,
    limit_patience,
    sent_before,
    set_patience,
    stop,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine

    from sqlalchemy import Connection

BEGIN = "unitwork_begin"
"""The execution option that holds what begins a transaction, if not what does so usually; None for none."""
READ_ONLY = "BEGIN DEFERRED"
_IMMEDIATE = "BEGIN IMMEDIATE"
_READ_WRITE = "BEGIN"


async def begin(connection: Connection) -> None:
    """Send what begins a transaction, of which SQLAlchemy is told."""
    if _is_heard(connection):
        await greenlet_spawn(connection.begin)  # which sends it
        return
    statements = _beginning(connection)
    if statements:
        await _visit(connection, *statements)
    if not isinstance(connection, LazyConnection):
        connection.begin()


def goes_with_next(connection: LazyConnection) -> bool:
    """Let what begins a transaction go with its first statement; False if somebody hears it by itself."""
    engine = connection.engine
    if cast("Any", engine.dispatch).before_cursor_execute or engine.echo:
        return False
    statement = _statement(connection)
    if statement is not None:
        begin_with_next(_driver_of(connection), statement, read_only=statement == READ_ONLY)
    return True


def send_begin(connection: Connection) -> None:
    """Send what begins a transaction when SQLAlchemy begins. In a greenlet."""
    begun = BEGUN in vars(connection)
    statements = _to_begin_yet(connection) if begun else _beginning(connection)
    if statements and begun and not _is_heard(connection):
        await_only(_to_its_end(_visit(connection, *statements)))
    elif statements:
        _send(connection, *statements)


def _to_begin_yet(connection: Connection) -> tuple[str, ...]:
    """Return what the first statement was to begin with, if somebody else comes first."""
    try:
        return sent_before(_driver_of(connection), None)
    except Exception as error:
        statement = connection.get_execution_options().get(BEGIN, _IMMEDIATE)
        run_on_driver(connection, Failed(statement, error))
        raise


def _beginning(connection: Connection) -> tuple[str, ...]:
    """Return what is sent to begin a transaction on a connection."""
    statement = _statement(connection)
    if statement != READ_ONLY:
        return () if statement is None else (statement,)
    return close_to_writes(_driver_of(connection)), statement


def _statement(connection: Connection) -> str | None:
    """Return what begins a transaction on a connection; None if it is to have none, or has begun."""
    options = connection.get_execution_options()
    if options.get("isolation_level") == "AUTOCOMMIT" or LENT in options:
        return None
    if _driver_of(connection).in_transaction:
        return None  # it was sent ahead, or a listener of the program's own has begun
    found: str | None = options[BEGIN] if BEGIN in options else _usual(connection)
    return found


def _usual(connection: Connection) -> str:
    """Return how a transaction begins that may write."""
    if CHECKOUT in connection.info:
        return _IMMEDIATE
    # Those by hand, as any Database on their engine has been told.
    backends: Any = backends_on(connection.dialect)
    return _IMMEDIATE if any(backend.immediate_by_hand for backend in backends) else _READ_WRITE


def _send(connection: Connection, *statements: str) -> None:
    """Send statements, so that whoever listens to SQLAlchemy hears of them. In a greenlet."""
    if not _is_heard(connection):
        await_only(_visit(connection, *statements))
        return
    driver, left_s = _driver_of(connection), _time_left_s(connection)
    usual_ms = None if left_s is None else await_only(limit_patience(driver, left_s))
    try:
        for statement in statements:
            connection.exec_driver_sql(statement)
    finally:
        if usual_ms is not None:
            await_only(set_patience(driver, usual_ms))


def _is_heard(connection: Connection) -> bool:
    """Say whether somebody else than observers listens to what cursors send."""
    heard = _listeners(connection).before_cursor_execute
    return len(heard) > len(told_of(connection.dialect) if heard else ()) or bool(connection.engine.echo)


def _listeners(connection: Connection) -> Any:  # noqa: ANN401  # SQLAlchemy's dispatcher
    """Return those of a connection, or of its engine, if it can have none of its own yet."""
    return connection.engine.dispatch if isinstance(connection, LazyConnection) else connection.dispatch


async def _to_its_end(visit: Coroutine[Any, Any, None]) -> None:
    """Wait for what begins the transaction of a block, whatever cancels this task meanwhile."""
    visiting, cancelled = asyncio.ensure_future(visit), None
    while not visiting.done():
        try:
            await asyncio.wait((visiting,))
        except asyncio.CancelledError as error:
            cancelled = error
    visiting.result()
    if cancelled is not None:
        raise cancelled


async def _visit(connection: Connection, *statements: str) -> None:
    """Send statements in one visit to the driver's thread; through SQLAlchemy each takes four."""
    driver, left_s = _driver_of(connection), _time_left_s(connection)
    started = time.perf_counter()
    try:
        await (_sent(driver, *statements) if left_s is None else _sent_within(left_s, driver, *statements))
    except BaseException as error:
        if not isinstance(error, Exception):
            await stop(driver)
        # As if SQLAlchemy had sent it: its class of error, and its events.
        await greenlet_spawn(run_on_driver, connection, Failed(statements[-1], error))
        raise
    if _listeners(connection).before_cursor_execute:  # observers listen to cursors, too
        for tell in told_of(connection.dialect):
            for statement in statements:
                tell(statement, started, connection)


def _sent(driver: Any, *statements: str) -> Awaitable[object]:  # noqa: ANN401  # an aiosqlite connection
    """Send statements in one visit; of several, the driver commits first what is open."""
    if len(statements) == 1:
        visit: Awaitable[object] = driver.execute_fetchall(*statements)
        return visit
    script: Awaitable[object] = driver.executescript(";".join(statements))
    return script


async def _sent_within(left_s: float, driver: Any, *statements: str) -> None:  # noqa: ANN401  # as above
    """As `_sent`, where a lock that somebody else holds is waited for no longer than that."""
    usual_ms = await limit_patience(driver, left_s)
    try:
        await _sent(driver, *statements)
    finally:
        await set_patience(driver, usual_ms)


def _time_left_s(connection: Connection) -> float | None:
    """Return how long its block may wait still; None is without limit."""
    checkout: Any = connection.info.get(CHECKOUT)
    left_s: float | None = None if checkout is None else checkout.time_left()
    return left_s


def _driver_of(connection: Connection) -> Any:  # noqa: ANN401  # of any driver
    return held_by(connection).driver_connection
