"""This module takes idle connections out of a pool, and back, where nothing is waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.pool import AsyncAdaptedQueuePool, reset_none

if TYPE_CHECKING:
    from sqlalchemy.pool import Pool, PoolProxiedConnection

    from unitwork._runtime.engine import Source


class Lender:
    """Lends idle connections of the pool of one Database. Lives: as long as its source.

    SQLAlchemy expects a greenlet around whatever may wait for the database: to open a connection, test it,
    replace it, reset it or close it. Where none of that is to be done, none is needed.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._pool: Any = None
        self._lends = False
        self._resets = True

    def idle(self) -> PoolProxiedConnection | None:
        """Return an idle connection; None if it takes a greenlet to get one."""
        home = self._source.home()
        pool: Any = home.engine.sync_engine.pool
        if pool is not self._pool:
            self._meet(pool, asked_to_open=home.asked_to_open)
        if not self._lends or home.doubtful or pool.checkedin() < 1 or home.listeners.are_on_pool():
            return None
        try:
            held: PoolProxiedConnection = pool.connect()
        except MissingGreenlet:
            return None  # its connection was closed, and is opened by the next one
        if self._source.backend.direct.is_broken(held.driver_connection):  # type: ignore[union-attr]  # who comes here has one
            held.invalidate()
            return None
        return held

    def take_back(self, held: PoolProxiedConnection) -> bool:
        """Return a connection to the pool; False if it takes a greenlet to do so."""
        pool = self._pool
        # A full pool closes what is returned.
        if self._resets or not self._lends or pool.checkedin() >= pool.size():
            return False
        if self._source.home().listeners.are_on_pool():
            return False
        held.close()
        return True

    def _meet(self, pool: Pool, *, asked_to_open: bool) -> None:
        """Look at a pool that is new here. What cannot be known of it counts as if it waited."""
        self._pool = pool
        tests = getattr(pool, "_pre_ping", True) or getattr(pool, "_recycle", 0) >= 0
        self._lends = asked_to_open and isinstance(pool, AsyncAdaptedQueuePool) and not tests
        direct = self._source.backend.direct
        silent = direct is not None and direct.rolls_back_silently
        self._resets = not silent and getattr(pool, "_reset_on_return", None) is not reset_none
