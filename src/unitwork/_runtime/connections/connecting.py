"""This module opens connections that must not be opened half."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy.util import await_only, greenlet_spawn

from unitwork._runtime.finish import Finished, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect

    from unitwork.dialects import Backend

_THREAD_ENDS_S = 0.05

Opens: TypeAlias = "Callable[[Dialect, Any, list[Any], dict[str, Any]], DBAPIConnection]"


def after_others(opens: Opens, set_up: Callable[[DBAPIConnection], object] | None = None) -> Opens:
    """Make what is listening to `do_connect` as the last one: the program's own may change what it is given.

    Args:
        opens: Opens a connection.
        set_up: Sets one up that somebody else has opened.
    """

    def open_last(
        dialect: Dialect,
        entry: Any,  # noqa: ANN401  # of SQLAlchemy
        arguments: list[Any],
        keywords: dict[str, Any],  # of SQLAlchemy
    ) -> DBAPIConnection:
        listeners: Iterator[Any] = iter(dialect.dispatch.do_connect)
        for _before in iter(partial(next, listeners), open_last):
            pass
        for listener in listeners:
            opened: DBAPIConnection | None = listener(dialect, entry, arguments, keywords)
            if opened is not None:
                if set_up is not None:
                    set_up(opened)
                return opened
        return opens(dialect, entry, arguments, keywords)

    return open_last


def connect_whole(backend: Backend) -> Callable[..., DBAPIConnection]:
    """Make what opens and sets up a connection; a cancellation waits until that is done, and closes it."""

    def open_one(
        dialect: Dialect, _entry: object, arguments: list[Any], keywords: dict[str, Any]
    ) -> DBAPIConnection:
        kept = backend.kept
        if kept is not None:
            backend.end_transaction(kept)
            return kept
        opened: list[DBAPIConnection] = []

        def connect() -> None:
            opened.append(dialect.connect(*arguments, **keywords))
            backend.connected(opened[0])

        async def open_whole() -> Finished:
            return await finish(greenlet_spawn(connect))

        done = await_only(open_whole())
        failure = done.cancelled or done.error
        if failure is None:
            return opened[0]
        if opened:
            await_only(finish(greenlet_spawn(opened[0].close)))
        else:
            # aiosqlite's thread tells this loop that it has stopped, and must not find it closed.
            await_only(asyncio.sleep(_THREAD_ENDS_S))
        raise failure

    return open_one
