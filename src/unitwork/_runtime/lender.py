"""This module takes idle connections out of a pool without a greenlet, where nothing is waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.pool import AsyncAdaptedQueuePool, reset_none

if TYPE_CHECKING:
    from sqlalchemy.pool import Pool, PoolProxiedConnection

    from unitwork._runtime.engine import Source


class Lender:
    """Lends idle connections of the pool of one Database. Lives: as long as its source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._pool: Pool | None = None
        self._lends = False
        self.takes_back_at_once = False
        """What was lent comes back without a word to the database."""

    def idle(self) -> PoolProxiedConnection | None:
        """Return an idle connection; None if it takes a greenlet to get one."""
        source = self._source
        pool: Any = source.home_engine().pool
        if pool is not self._pool:
            self._meet(pool)
        if not self._lends or pool.checkedin() < 1 or source.home_listeners().are_on_pool():
            return None
        try:
            held: PoolProxiedConnection = pool.connect()
        except MissingGreenlet:
            return None  # its turn to be replaced has come; it has gone back
        if source.backend.direct.is_broken(held.driver_connection):  # type: ignore[union-attr]  # who comes here has one
            held.invalidate()
            return None
        return held

    def _meet(self, pool: Pool) -> None:
        """Look at a pool that is new here. What cannot be known of it counts as if it waited."""
        self._pool = pool
        direct = self._source.backend.direct
        queued = isinstance(pool, AsyncAdaptedQueuePool) and self._source.can_lend()
        self._lends = queued and not getattr(pool, "_pre_ping", True)
        resets = getattr(pool, "_reset_on_return", None) is not reset_none
        silent = direct is not None and direct.rolls_back_silently
        self.takes_back_at_once = self._lends and (silent or not resets)
