"""This module tells observers of each connection that a pool gives out and takes back, whoever asks for it.

It knows more of SQLAlchemy's pools than is public: `_do_return_conn`, which all that comes back goes through.
No event of theirs tells how long somebody has waited; and where nobody listens, no lane takes another way.
"""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import event
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from unitwork._later import later
from unitwork._runtime.connections.addresses import server_of, shown_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

    from unitwork.events import Event


if TYPE_CHECKING:
    from unitwork import events
else:  # who is not watched tells nothing
    events = later("unitwork.events")

_ID, _OPENED, _TAKEN = "unitwork_connection_id", "unitwork_opened", "unitwork_taken"
_RETURN = "_do_return_conn"
_ids = itertools.count(1)


class _Taken(NamedTuple):
    """A connection that is out, of which observers were told."""

    while_observed: object
    number: int
    since: float


class PoolWatch:
    """Tells of the connections that one engine gives out. Lives: as long as the engine.

    Without observers nothing of it is in the way of anybody: two methods of the pool are replaced while there
    are some.

    Args:
        engine: Whose pool.
        database: What the Database is called.
        tell: Tells all observers.
        place: Returns the block and the unit of work of the calling code, by their numbers.
    """

    def __init__(
        self,
        engine: Engine,
        database: str,
        tell: Callable[[Event], None],
        place: Callable[[], tuple[int | None, int | None]],
    ) -> None:
        self._engine = engine
        self._database = database
        self._tell = tell
        self._place = place
        self._while_observed: object | None = None
        """What stands for the time since the first observer came; None if there is none."""

    def begin(self) -> None:
        """Tell of all that is given out from now on."""
        self._while_observed = object()
        event.listen(self._engine, "engine_disposed", self._replaced)
        self._replaced(self._engine)

    def end(self) -> None:
        """Tell of nothing any more."""
        self._while_observed = None
        event.remove(self._engine, "engine_disposed", self._replaced)
        own = vars(self._engine.pool)
        for name, ours in (("connect", self._connect), (_RETURN, self._put_back)):
            # Where another Database watches the same engine, its method may be around ours: that one stays.
            found = own.get(name)
            if isinstance(found, partial) and found.func == ours:
                if isinstance(found.args[0], partial):
                    own[name] = found.args[0]
                else:
                    del own[name]

    def opened(self, entry: ConnectionPoolEntry) -> None:
        """Take note of a connection that was just opened."""
        if self._while_observed is not None:
            entry.info[_OPENED] = time.perf_counter()

    def _replaced(self, engine: Engine) -> None:
        """Stand before the pool that the engine has now."""
        pool: Any = engine.pool
        for name, ours in (("connect", self._connect), (_RETURN, self._put_back)):
            before = getattr(pool, name)
            if not _is_among(ours, before):
                vars(pool)[name] = partial(ours, before)

    def _connect(self, connect: Callable[[], PoolProxiedConnection]) -> PoolProxiedConnection:
        while_observed = self._while_observed
        if while_observed is None:
            return connect()
        started = time.perf_counter()
        try:
            held = connect()
        except PoolTimeoutError:
            wait_s = time.perf_counter() - started
            server = shown_address(self._engine.url)
            self._tell(events.PoolTimedOut(self._place()[0], self._database, server, wait_s))
            raise
        now = time.perf_counter()
        info = held.info
        number: int = info.get(_ID) or info.setdefault(_ID, next(_ids))
        # One connection may be given out several times at once.
        info.setdefault(_TAKEN, []).append(_Taken(while_observed, number, now))
        opened = info.pop(_OPENED, started - 1) >= started
        server = server_of(self._engine, info)
        block, wait_s = self._place()[0], now - started
        try:
            self._tell(events.ConnectionTaken(block, self._database, number, server, wait_s, opened))
        except BaseException:  # what ends the program goes through: nobody would return it
            held.close()
            raise
        return held

    def _put_back(self, put: Callable[[ConnectionPoolEntry], None], entry: ConnectionPoolEntry) -> None:
        info = entry.info
        out: list[_Taken] = info.get(_TAKEN, [])
        taken = out.pop() if out else None
        try:
            put(entry)
        finally:
            if taken is not None and taken.while_observed is self._while_observed:
                server = server_of(self._engine, info)
                use_s = time.perf_counter() - taken.since
                discarded = entry.dbapi_connection is None
                self._tell(events.ConnectionReturned(self._database, taken.number, server, use_s, discarded))


def _is_among(ours: object, method: object) -> bool:
    """Say whether a method was replaced by ours, or by one that calls ours."""
    while isinstance(method, partial):
        if method.func == ours:
            return True
        method = method.args[0]
    return False
