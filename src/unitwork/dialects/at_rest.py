"""This module keeps the connections of MariaDB and MySQL in AUTOCOMMIT while no transaction is open.

A statement by itself costs one message then. A transaction is begun with BEGIN; where the server ends it by
itself, as for DDL, AUTOCOMMIT is off until the end, so that the server begins anew as it does elsewhere.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import AdaptedConnection, event
from sqlalchemy.util import await_only

from unitwork._logic.writes import changes_settings, runs_others
from unitwork.dialects.backend import LENT, told_of
from unitwork.dialects.mysql_driver import (
    doubt,
    has_more,
    is_at_rest,
    is_certain,
    is_open,
    misread_bytes,
    trust,
)
from unitwork.dialects.orders import Failed, order_of, run_on_driver

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.engine import Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect, ExceptionContext, ExecutionContext
    from sqlalchemy.pool import PoolProxiedConnection

BEGIN = "unitwork_begin"
"""The execution option that holds what begins a transaction, if not `BEGIN`; None for none at all."""


def keep_at_rest(engine: Engine) -> None:
    """Let an engine begin and end its transactions so; it may be one of several Databases."""
    event.listen(engine, "do_connect", _open_at_rest)
    event.listen(engine, "connect", put_to_rest)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "before_cursor_execute", _refuse_misread)
    event.listen(engine, "before_cursor_execute", _go_on)
    event.listen(engine, "after_cursor_execute", _read_to_the_end)
    event.listen(engine, "handle_error", _failed)
    _end_what_is_open(engine.dialect)
    _doubt_what_is_raw(engine)


def may_be_open(driver: Any) -> bool:  # noqa: ANN401  # of asyncmy, or of aiomysql
    """Say whether a transaction may be open, as far as the driver knows without asking."""
    return is_open(driver) or not is_certain(driver)


def _open_at_rest(_dialect: Dialect, _entry: object, _arguments: object, keywords: dict[str, Any]) -> None:
    keywords.setdefault("autocommit", True)


def put_to_rest(connection: Any, _entry: object = None) -> None:  # noqa: ANN401  # of SQLAlchemy's
    """Switch AUTOCOMMIT on, where it is not. In a greenlet."""
    driver = connection.driver_connection
    # It would commit what is open.
    if not (is_at_rest(driver) or may_be_open(driver)):
        connection.autocommit(True)  # noqa: FBT003  # the driver's


# -- begin -------------------------------------------------------------------------------------------


def _begin(connection: Connection) -> None:
    if _stands_alone(connection):
        return
    statement = connection.get_execution_options().get(BEGIN)
    if statement is not None:
        connection.exec_driver_sql(statement)
        return
    driver: Any = connection.connection.driver_connection
    if is_open(driver) and is_certain(driver):
        return  # a listener of the program's own has begun
    started = time.perf_counter()
    try:
        await_only(driver.begin())
        trust(driver)
    except BaseException as error:
        # As if SQLAlchemy had sent it: its class of error, and its events.
        run_on_driver(connection, Failed("BEGIN", error))
        raise
    for tell in told_of(connection.dialect):
        tell("BEGIN", started, connection)


def _stands_alone(connection: Connection) -> bool:
    """Say whether each statement commits by itself, or the transaction is a savepoint of another one."""
    options = connection.get_execution_options()
    if LENT in options or options.get(BEGIN, "") is None:
        return True
    level = options.get("isolation_level") or getattr(connection.dialect, "_on_connect_isolation_level", None)
    return str(level).upper() == "AUTOCOMMIT"


def _refuse_misread(
    connection: Connection,
    _cursor: object,
    sql: str,
    parameters: object,
    context: ExecutionContext,
    _many: object,
) -> None:
    """Send nothing whose bytes the server would read as something else."""
    error = misread_bytes(connection.connection.driver_connection, parameters)
    if error is not None and not isinstance(order_of(context), Failed):
        run_on_driver(connection, Failed(sql, error), parameters)


def _go_on(
    connection: Connection,
    _cursor: object,
    sql: str,
    _parameters: object,
    context: ExecutionContext,
    _many: object,
) -> None:
    """Let the server begin anew by itself, if it has ended the transaction, or may do so in a statement."""
    driver: Any = connection.connection.driver_connection
    inside = ";" in sql or runs_others(sql, "mysql")
    if is_open(driver) and is_certain(driver) and not inside:
        return
    if isinstance(order_of(context), Failed):
        return
    if not connection.in_transaction() or _stands_alone(connection):
        lent = LENT in connection.get_execution_options()
        if not lent and (inside or changes_settings(sql, "mysql")):
            doubt(driver)
        return
    if not is_certain(driver):
        with suppress(Exception):  # what is wrong with the connection, the statement itself will hear
            await_only(driver.ping(reconnect=False))
            trust(driver)
    if (inside or not is_open(driver)) and is_at_rest(driver):
        try:
            await_only(driver.autocommit(False))  # noqa: FBT003  # the driver's
        except BaseException as error:
            run_on_driver(connection, Failed("SET AUTOCOMMIT = 0", error))
            raise


def _read_to_the_end(
    connection: Connection,
    _cursor: object,
    _sql: str,
    _parameters: object,
    _context: ExecutionContext,
    _many: object,
) -> None:
    """Hear what a procedure, or several statements in one text, answer behind their first rows.

    SQLAlchemy shows those alone, and would leave an error behind them to the closing of the cursor, where
    it is only logged.
    """
    driver: Any = connection.connection.driver_connection
    while has_more(driver):
        await_only(driver.next_result())


# -- end ---------------------------------------------------------------------------------------------


def _doubt_what_is_raw(engine: Engine) -> None:
    """Let what `raw_connection` hands out be rolled back in the end: nobody hears what fails on it."""
    if "raw_connection" in vars(engine):
        return
    check_out = engine.raw_connection

    def raw_connection() -> PoolProxiedConnection:
        held = check_out()
        if isinstance(held.dbapi_connection, AdaptedConnection):
            doubt(held.driver_connection)
        return held

    vars(engine)["raw_connection"] = raw_connection
    event.listen(engine, "engine_connect", _hear)


def _hear(connection: Connection) -> None:
    """Trust a raw connection that SQLAlchemy itself has asked for."""
    if isinstance(connection.connection.dbapi_connection, AdaptedConnection):
        trust(connection.connection.driver_connection)


def _failed(context: ExceptionContext) -> None:
    connection = context.connection
    if connection is not None and not (connection.closed or connection.invalidated):
        doubt(connection.connection.driver_connection)


def _end_what_is_open(dialect: Dialect) -> None:
    """Let a dialect send COMMIT and ROLLBACK where there is something to end, and nothing beside them."""
    own = vars(dialect)
    if "do_commit" not in own:
        own["do_commit"] = partial(_end, lambda connection: connection.commit())
        own["do_rollback"] = partial(_end, lambda connection: connection.rollback())
        own["set_isolation_level"] = _set_level
        # It would keep SQLAlchemy from rolling back what was begun in AUTOCOMMIT.
        own["skip_autocommit_rollback"] = False


def _end(send: Callable[[Any], None], held: PoolProxiedConnection) -> None:
    connection: Any = held.dbapi_connection
    if not isinstance(held.dbapi_connection, AdaptedConnection):
        send(connection)  # it is lent, and its transaction a savepoint
        return
    driver = connection.driver_connection
    # Outside of AUTOCOMMIT a streamed statement may have begun one: its answer has told nothing.
    if may_be_open(driver) or not is_at_rest(driver):
        send(connection)
        if is_open(driver):  # `completion_type=CHAIN` has begun the next one
            await_only(driver.query("ROLLBACK AND NO CHAIN"))
    trust(driver)
    with suppress(Exception):  # the end has come; whoever is next finds what is wrong with the connection
        put_to_rest(connection)


def _set_level(connection: DBAPIConnection, level: str) -> None:
    """Set the isolation level of the transactions to come; SQLAlchemy would end AUTOCOMMIT with it."""
    put_to_rest(connection)
    if level != "AUTOCOMMIT":
        cursor = connection.cursor()
        cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")
        cursor.close()
