"""This module takes idle connections out of a pool, and back, where nothing is waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.pool import AsyncAdaptedQueuePool, reset_none

from unitwork._runtime.connections.listeners import LOGGED_AT
from unitwork._runtime.connections.pool import Place, TurnPool, queue_of
from unitwork._sqlalchemy.private import return_unreset

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ManagesConnection, PoolProxiedConnection

    from unitwork._runtime.connections.listeners import EngineListeners
    from unitwork.dialects import Backend
    from unitwork.dialects.direct import Direct


class Lender:
    """Lends idle connections of one pool. Lives: as long as the pool is that of its engine, or one is lent.

    SQLAlchemy expects a greenlet around whatever may wait for the database: to open a connection, test it,
    replace it, reset it or close it. Where none of that is to be done, none is needed. What cannot be
    known of a pool counts as if it waited.

    Args:
        engine: That of the pool.
        backend: What its kind of database needs.
        listeners: Who else listens to its connections.
        doubtful: Those of its connections that it will replace.

    Attributes:
        pool: The pool.
        may_lend: Whoever opens a connection where nothing can be waited for is told so.
    """

    def __init__(
        self, engine: Engine, backend: Backend, listeners: EngineListeners, doubtful: Collection[object]
    ) -> None:
        pool: Any = engine.pool
        self.pool = pool
        self.may_lend = False
        self._direct = direct = cast("Direct", backend.direct)
        self._is_closed = backend.is_closed
        self._logger = engine.logger
        self._audience = listeners.of_pool(pool)
        self._audience_of_ends = listeners.of_ends(pool)
        self._doubtful = doubtful
        tests = getattr(pool, "_pre_ping", True) or getattr(pool, "_recycle", 0) >= 0
        # None is lent of a pool whose idle places are not known.
        self._idle: Any = queue_of(pool) if isinstance(pool, AsyncAdaptedQueuePool) and not tests else None
        resets = getattr(pool, "_reset_on_return", None) is not reset_none
        self._resets_silently = direct.rolls_back_silently or not resets

    def idle(self) -> PoolProxiedConnection | None:
        """Return an idle connection; None if it takes a greenlet to get one."""
        if not self._has_idle():
            return None
        try:
            held: PoolProxiedConnection = self.pool.connect()
        except MissingGreenlet:
            return None  # its connection was closed, and is opened by the next one
        if self._direct.is_broken(held.driver_connection):
            held.invalidate()
            return None
        return held

    def lend(self) -> PoolProxiedConnection | Place | None:
        """As `idle`, for who needs no more than the driver: past SQLAlchemy's wrapper, if it may."""
        pool = self.pool
        if type(pool) is not TurnPool or "connect" in vars(pool):  # somebody is told of connections
            return self.idle()
        if not self._has_idle():
            return None
        place = pool.lend()
        if place is None:
            return None
        if self._is_closed(cast("DBAPIConnection", place.dbapi_connection)) or self._direct.is_broken(
            place.driver_connection
        ):
            pool.bring_back(place)
            return None
        return place

    def wrapped(self, held: ManagesConnection) -> PoolProxiedConnection:
        """Return what was lent as SQLAlchemy knows it, which may be closed and invalidated."""
        found: Any = self.pool.wrapped(held) if isinstance(held, Place) else held
        return cast("PoolProxiedConnection", found)

    def takes_back_ended(self) -> bool:
        """Say whether a connection goes back to the pool at once when its transaction has ended.

        Nothing is waited for then, and nobody else hears of the end.
        """
        if not (self._resets_silently and self._has_room) or self._logger.isEnabledFor(LOGGED_AT):
            return False
        return not self._audience_of_ends.event()

    def take_back_ended(self, held: ManagesConnection) -> None:
        """Return a connection whose transaction has ended, if `takes_back_ended` says that it can be."""
        if isinstance(held, Place):
            self.pool.bring_back(held)
        else:
            return_unreset(cast("PoolProxiedConnection", held))

    def _has_idle(self) -> bool:
        """Say whether an idle connection may be lent, and nobody else hears of that."""
        idle = self._idle
        if idle is None or not self.may_lend or self._doubtful or idle.empty():
            return False
        return not self._audience.event()

    @property
    def _has_room(self) -> bool:
        # A pool that is full, or disposed of, closes what is returned. One of no size is without limit.
        idle = self._idle
        return not (idle is None or idle.full() or not self.may_lend or getattr(self.pool, "disposed", False))

    def take_back(self, held: PoolProxiedConnection | Place) -> bool:
        """Return a connection to the pool; False if it takes a greenlet to do so."""
        if not self._has_room or self._audience.event():
            return False
        # A listener may have left a transaction open when it was opened.
        if self._direct.in_transaction(held.driver_connection):
            return False
        if self._resets_silently and not isinstance(held, Place):
            held.close()
        else:
            self.take_back_ended(held)
        return True
