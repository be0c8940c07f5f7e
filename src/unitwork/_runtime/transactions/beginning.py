"""This module begins a transaction: in a greenlet, ahead of SQLAlchemy, or with the first statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.util import greenlet_spawn

from unitwork._sqlalchemy.lazy import LazyConnection
from unitwork.dialects.orders import Failed, run_on_driver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitwork.dialects import Backend, BeginMode


class Beginning:
    """How transactions of one mode begin. Lives: as long as the backend of a Database.

    Attributes:
        is_loud: It sends something by itself, which must not be interrupted.
        needs_no_greenlet: It sends nothing, or can be sent ahead of SQLAlchemy.
        kind: The kind of connection to begin on then.
        queues_to_write: Only one at a time may do what it is for.
    """

    __slots__ = ("_backend", "_options", "is_loud", "kind", "needs_no_greenlet", "queues_to_write")

    def __init__(self, backend: Backend, mode: BeginMode) -> None:
        self._backend = backend
        self._options: Mapping[str, Any] = backend.execution_options(mode)
        sets_silently = backend.sets_silently or not self._options
        self.is_loud = not (backend.begins_silently and sets_silently)
        self.needs_no_greenlet = sets_silently and (backend.begins_silently or backend.begins_ahead)
        self.queues_to_write = backend.one_writer and not (mode.read_only or mode.autocommit)
        self.kind: type[Connection] = LazyConnection if backend.begins_lazily(mode) else Connection

    @classmethod
    def in_mode(cls, backend: Backend, mode: BeginMode) -> Beginning:
        """Return that of a mode, which is made once."""
        known: Beginning | None = backend.beginnings.get(mode)
        if known is None:
            known = backend.beginnings[mode] = cls(backend, mode)
        return known

    def goes_with_next(self, connection: Connection) -> bool:
        """Begin with the first statement, if that is possible; say whether it is."""
        if not isinstance(connection, LazyConnection):
            return False
        connection.options = self._options
        return self._backend.begin_with_next(connection)

    def of(self, connection: Connection) -> None:
        """Begin as SQLAlchemy does. In a greenlet, if that is loud."""
        try:
            self._set(connection)
            connection.begin()
        except BaseException:
            connection.close()
            raise

    async def ahead(self, connection: Connection) -> None:
        """Send what begins it, before SQLAlchemy begins, which has nothing to send then."""
        try:
            self._set(connection)
            await self._backend.begin(connection)
        except BaseException:
            await greenlet_spawn(connection.close)
            raise

    def _set(self, connection: Connection) -> None:
        """Set the options. Some are sent, and SQLAlchemy leaves their errors as they come."""
        if isinstance(connection, LazyConnection):
            connection.options = self._options
            return
        if not self._options:
            return
        try:
            connection.execution_options(**self._options)
        except SQLAlchemyError:
            raise
        except Exception as error:
            run_on_driver(connection, Failed(f"SET {', '.join(self._options)}", error))
            raise
