"""This module takes idle connections out of a pool, and back, where nothing is waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.pool import AsyncAdaptedQueuePool, reset_none

from unitwork._runtime.connections.pool import Place, TurnPool
from unitwork._sqlalchemy.private import return_unreset

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import Pool, PoolProxiedConnection

    from unitwork._runtime.connections.listeners import Audience
    from unitwork.dialects import Backend
    from unitwork.dialects.direct import Direct


class Lender:
    """Lends idle connections of one pool. Lives: as long as the pool is that of its engine, or one is lent.

    SQLAlchemy expects a greenlet around whatever may wait for the database: to open a connection, test it,
    replace it, reset it or close it. Where none of that is to be done, none is needed. What cannot be
    known of a pool counts as if it waited.

    Args:
        pool: The pool.
        backend: What its kind of database needs.
        audience: Who else listens to its connections.
        doubtful: Those of its connections that it will replace.
        may_lend: Whoever opens a connection where nothing can be waited for is told so.
    """

    def __init__(
        self,
        pool: Pool,
        backend: Backend,
        audience: Audience,
        doubtful: Collection[object],
        *,
        may_lend: bool,
    ) -> None:
        self.pool: Any = pool
        self._direct = direct = cast("Direct", backend.direct)
        self._is_closed = backend.is_closed
        self._audience = audience
        self._doubtful = doubtful
        tests = getattr(pool, "_pre_ping", True) or getattr(pool, "_recycle", 0) >= 0
        self.may_lend = may_lend
        self._lends = may_lend and isinstance(pool, AsyncAdaptedQueuePool) and not tests
        resets = getattr(pool, "_reset_on_return", None) is not reset_none
        self._resets_silently = direct.rolls_back_silently or not resets

    def idle(self) -> PoolProxiedConnection | None:
        """Return an idle connection; None if it takes a greenlet to get one."""
        pool = self.pool
        if not self._lends or self._doubtful or pool.checkedin() < 1 or self._audience.event():
            return None
        try:
            held: PoolProxiedConnection = pool.connect()
        except MissingGreenlet:
            return None  # its connection was closed, and is opened by the next one
        if self._direct.is_broken(held.driver_connection):
            held.invalidate()
            return None
        return held

    def lend(self) -> PoolProxiedConnection | Place | None:
        """As `idle`, for one statement that leaves nothing behind: past SQLAlchemy's wrapper, if it may."""
        pool = self.pool
        if type(pool) is not TurnPool or "connect" in vars(pool):  # somebody is told of connections
            return self.idle()
        if not self._lends or self._doubtful or pool.checkedin() < 1 or self._audience.event():
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

    def wrapped(self, held: PoolProxiedConnection | Place) -> PoolProxiedConnection:
        """Return what was lent as SQLAlchemy knows it, which may be closed and invalidated."""
        if isinstance(held, Place):
            found: PoolProxiedConnection = self.pool.wrapped(held)
            return found
        return held

    @property
    def resets_at_once(self) -> bool:
        """Whether a connection that SQLAlchemy resets goes back to the pool without a greenlet."""
        return self._resets_silently and self._has_room

    @property
    def _has_room(self) -> bool:
        pool = self.pool
        # A pool that is full, or disposed of, closes what is returned. One of no size is without limit.
        if not self._lends or 0 < pool.size() <= pool.checkedin() or getattr(pool, "disposed", False):
            return False
        return not self._audience.event()

    def take_back(self, held: PoolProxiedConnection | Place) -> bool:
        """Return a connection to the pool; False if it takes a greenlet to do so."""
        # A listener may have left a transaction open when it was opened.
        if not self._has_room or self._direct.in_transaction(held.driver_connection):
            return False
        if isinstance(held, Place):
            self.pool.bring_back(held)
        elif self._resets_silently:
            held.close()
        else:
            return_unreset(held)
        return True
