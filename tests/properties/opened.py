"""This module counts connections as the operating system sees them, where no garbage collector hides one."""

from __future__ import annotations

import contextlib
import gc
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine


def strays(engines: Iterable[AsyncEngine]) -> int:
    """How many connections are open that are idle in none of the pools, plus what else is always open.

    Meant for the difference between two moments: a connection that was lost between them makes one more,
    whether anybody refers to it still or not.
    """
    engines = tuple(engines)
    opened = _workers() if engines[0].dialect.name == "sqlite" else _sockets()
    return opened - sum(map(_idle, engines))


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector from closing what is lost before it was counted."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _workers() -> int:
    """The threads, of which each connection to SQLite has one; its files are shared with others."""
    return sum(not isinstance(thread, threading.Timer) for thread in threading.enumerate())


def _sockets() -> int:
    return sum(_is_socket(int(entry.name)) for entry in Path("/dev/fd").iterdir())


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:  # that of the listing itself
        return False


def _idle(engine: AsyncEngine) -> int:
    """How many connections wait in a pool. A place may have none, since its last one broke."""
    queue: Any = engine.sync_engine.pool._pool  # type: ignore[attr-defined]  # no public way
    places = [queue.get_nowait() for _ in range(queue.qsize())]
    for place in reversed(places) if queue.use_lifo else places:
        queue.put_nowait(place)
    return sum(place.dbapi_connection is not None for place in places)
