"""This module begins a transaction on a connection, in a greenlet or ahead of SQLAlchemy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.util import greenlet_spawn

from unitwork.dialects.orders import Failed, run_on_driver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from unitwork.dialects import Backend, BeginMode


class Beginning:
    """How one transaction begins. Lives: as long as its check-out."""

    __slots__ = ("_backend", "_options")

    def __init__(self, backend: Backend, mode: BeginMode) -> None:
        self._backend = backend
        self._options: Mapping[str, Any] = backend.execution_options(mode)

    @property
    def is_loud(self) -> bool:
        """Whether it sends something by itself, which must not be interrupted."""
        return not (self._backend.begins_silently and self._sets_silently)

    @property
    def needs_no_greenlet(self) -> bool:
        """Whether it sends nothing, or can be sent ahead of SQLAlchemy."""
        return self._sets_silently and (self._backend.begins_silently or self._backend.begins_ahead)

    @property
    def _sets_silently(self) -> bool:
        return self._backend.sets_silently or not self._options

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
        if not self._options:
            return
        try:
            connection.execution_options(**self._options)
        except SQLAlchemyError:
            raise
        except Exception as error:
            run_on_driver(connection, Failed(f"SET {', '.join(self._options)}", error))
            raise
