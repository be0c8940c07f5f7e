"""This module opens connections at the server that takes writes, wherever in its cluster that is now."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.util import await_only

from unitwork._runtime.connections.addresses import SERVER, shown_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
    from sqlalchemy.pool import ConnectionPoolEntry

    from unitwork._runtime.connections.server import Server
    from unitwork.dialects import Backend
    from unitwork.dialects.replication import ServerState

_AGAIN_S = 0.1
_PLACE = ("host", "port", "user", "password", "database", "db", "dbname", "unix_socket")


class Writable:
    """Finds the server that takes writes. Lives: as long as its Database.

    Args:
        backend: What its kind of database needs.
        servers: All that may be it, the likeliest first.
        limit_s: How many seconds to look for it.

    Attributes:
        current: Where it was found last.
    """

    def __init__(self, backend: Backend, servers: Sequence[Server], limit_s: float) -> None:
        self._backend = backend
        self._servers = servers
        self._limit_s = limit_s
        self.current = servers[0]
        self._origins: frozenset[str] = frozenset()

    def open(
        self,
        dialect: Dialect,
        entry: ConnectionPoolEntry | None,
        arguments: list[Any],
        keywords: dict[str, Any],
    ) -> DBAPIConnection:
        """Open a connection at the server that takes writes; wait for one that is about to. In a greenlet.

        Raises:
            Exception: The driver's: none has taken writes in time, or one refuses for another reason.
        """
        over = time.monotonic() + self._limit_s
        answers: dict[str, str] = {}
        while True:
            last: Exception | None = None
            for server in self._in_order():
                try:
                    found = self._opened(dialect, server, arguments, keywords)
                except Exception as error:
                    if not self._is_away(dialect, error):
                        error.add_note(f"At {server.name}.")
                        raise
                    last = error
                    answers[server.name] = f"{type(error).__name__}: {error}"
                    continue
                if not isinstance(found, str):
                    self.current = server
                    if entry is not None:
                        entry.info[SERVER] = shown_address(server.url)
                    return found
                answers[server.name] = found
            if time.monotonic() >= over:
                raise self._none_found(dialect, last, answers)
            await_only(asyncio.sleep(_AGAIN_S))

    def _in_order(self) -> list[Server]:
        """Return the last one first; of the others those that have answered lately, and may be it."""
        current = self.current
        others = [server for server in self._servers if server is not current]
        others.sort(key=lambda server: server.state is None or not server.state.writable)
        # One that has stopped answering is asked when the others were.
        return [*others, current] if current.silent else [current, *others]

    def _opened(
        self, dialect: Dialect, server: Server, arguments: list[Any], keywords: dict[str, Any]
    ) -> DBAPIConnection | str:
        """Connect, and ask whether it takes writes; say why it does not, if so."""
        _none, there = dialect.create_connect_args(server.url)
        place = {name: there[name] for name in _PLACE if name in there}
        connection = dialect.connect(*arguments, **{**self._backend.connect_limit, **keywords, **place})
        try:
            state = state_on(connection, self._backend)
        except BaseException:
            with suppress(Exception):
                connection.close()
            raise
        if state.writable and self.belongs(state):
            self._origins |= state.origins
            return connection
        connection.close()
        return "it is of another cluster" if state.writable else "it takes no writes"

    def belongs(self, state: ServerState) -> bool:
        """Say whether a server is of the cluster that was written to, as far as that is known."""
        return state.may_succeed(self._origins)

    def _is_away(self, dialect: Dialect, error: Exception) -> bool:
        """Say whether a server cannot be reached or takes no statements now, which may change."""
        if isinstance(error, OSError | TimeoutError) or self._backend.takes_no_writes(error):
            return True
        return self._backend.is_lost(error) or bool(dialect.is_disconnect(error, None, None))  # type: ignore[arg-type]  # any error of a driver

    def _none_found(self, dialect: Dialect, last: Exception | None, answers: dict[str, str]) -> Exception:
        module: Any = dialect.loaded_dbapi
        error: Exception = last or module.OperationalError("no server takes writes")
        told = "\n".join(f"  {server}: {answer}" for server, answer in answers.items())
        error.add_note(f"No server has taken writes for {self._limit_s:g} s:\n{told}")
        return error


def state_on(connection: DBAPIConnection, backend: Backend) -> ServerState:
    """Ask a server about itself, on a connection that was just opened. In a greenlet."""
    assert backend.replication is not None  # noqa: S101  # only such have several servers
    cursor = connection.cursor()
    try:
        cursor.execute(backend.replication.question)
        row = cursor.fetchone()
    finally:
        cursor.close()
        connection.rollback()
    return backend.replication.state_of(cast("Any", row))
