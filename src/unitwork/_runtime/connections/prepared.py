"""This module knows what a driver has prepared, and prepares it anew when the schema has changed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.util import await_only

from unitwork._logic.writes import leaves_nothing_when_it_fails
from unitwork._sqlalchemy.private import schema_has_changed, tell_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine
    from sqlalchemy.engine import Dialect
    from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

    from unitwork.dialects.direct import Direct

_KNOWN = "unitwork_schema_changes"


class PreparedStatements:
    """What was prepared on the connections of one engine. Lives: as long as the engine.

    A statement that was prepared before ALTER TABLE, or with a type that is gone, fails once on each
    connection. Where it is the first of its transaction, or alone, nothing is lost by sending it again.
    """

    def __init__(self, engine: Engine, direct: Direct | None) -> None:
        self._engine = engine
        self._direct = direct if direct is not None and direct.prepares else None
        self._changes = 0
        """How often it was noticed that the schema has changed."""

    def equip(self) -> None:
        """Let all that SQLAlchemy sends go through `send`."""
        if self._direct is None:
            return
        dialect: Any = self.dialect
        for name in ("do_execute", "do_executemany", "do_execute_no_params"):
            vars(dialect)[name] = partial(self._execute, getattr(dialect, name))
        event.listen(self._engine, "connect", self._opened)
        event.listen(self._engine, "handle_error", self._failed)

    def schema_changed(self) -> None:
        """Let each connection prepare anew before it sends anything."""
        self._changes += 1
        schema_has_changed(self.dialect)

    @property
    def dialect(self) -> Dialect:
        """SQLAlchemy's dialect of the engine."""
        return self._engine.dialect

    def send(self, held: PoolProxiedConnection, cursor: Any, sql: str, execute: Callable[[], None]) -> bool:  # noqa: ANN401  # of any driver
        """Execute on a cursor; again, if it was prepared for another schema and nothing is lost by that.

        In a greenlet. Say whether it was sent again.
        """
        direct = self._direct
        if direct is None or direct.in_transaction(held.driver_connection):
            execute()
            return False
        # Where nothing has changed, nothing is looked up: SQLAlchemy's first connection cannot be asked.
        if self._changes and not direct.hears_of_schema and held.info.get(_KNOWN, 0) < self._changes:
            self._renew(direct, held)
        try:
            execute()
        except Exception as error:
            if not (direct.is_outdated(error) and leaves_nothing_when_it_fails(sql, self.dialect.name)):
                raise
        else:
            return False
        connection: Any = held.dbapi_connection
        connection.rollback()
        self.schema_changed()
        self._renew(direct, held)
        tell_schema(cursor, self.dialect)
        execute()
        return True

    def _renew(self, direct: Direct, held: PoolProxiedConnection) -> None:
        await_only(direct.forget_statements(held.driver_connection))
        tell_schema(held.dbapi_connection, self.dialect)
        held.info[_KNOWN] = self._changes

    # -- what is heard ---------------------------------------------------------------------------

    def _execute(self, execute: Callable[..., None], cursor: Any, sql: str, *more: Any) -> None:  # noqa: ANN401  # as SQLAlchemy's
        root = getattr(more[-1], "root_connection", None) if more else None
        work = partial(execute, cursor, sql, *more)
        if root is None:
            work()
        else:
            self.send(root.connection, cursor, sql, work)

    def _opened(self, _connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        entry.info[_KNOWN] = self._changes

    def _failed(self, context: ExceptionContext) -> None:
        if self._direct is not None and self._direct.is_outdated(context.original_exception):
            self.schema_changed()
