"""This module holds one server of a Database: an address, what is known of it, and its pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitwork._logic.freshness import BEGINNING

if TYPE_CHECKING:
    from sqlalchemy import URL

    from unitwork._logic.positions import Position
    from unitwork._runtime.connections.engines import Engines
    from unitwork.dialects.replication import ServerState

NOT_ASKED = "it was not asked yet"
_LONGEST_PROBLEM = 300
NOT_CAUGHT_UP = "it has not been seen to catch up with the primary yet"


class Server:
    """One server. Lives: as long as its Database.

    Args:
        url: Its address.
        engines: What reads on it use, if it is one of the replicas.

    Attributes:
        state: What it has said of itself last; None if it has not, or is gone.
        problem: Why it is not used, for a person; None if nothing is wrong.
        as_of: It has all that was committed before this moment.
        asked_at: When it has answered last.
        answers_ms: How long its last answer took.
        has_followed: It was seen as a replica, so that it may have become the primary since.
        follows: What it has said last agrees with what the primary has said.
        silent: How often in a row it has not answered in time.
        timed_out: That is all that is known of its last failure: it may be alive.
    """

    def __init__(self, url: URL, engines: Engines | None = None) -> None:
        self.url = url
        self.engines = engines
        self.state: ServerState | None = None
        self.problem: str | None = NOT_ASKED
        self.as_of = BEGINNING
        self.asked_at = BEGINNING
        self.answers_ms: float | None = None
        self._came_to: Position | None = None
        self.has_followed = False
        self.follows = False
        self.silent = 0
        self.timed_out = False

    @property
    def name(self) -> str:
        """What messages call it."""
        return name_of(self.url)

    @property
    def position(self) -> Position | None:
        """How far it has come."""
        return self.state.position if self.state is not None else None

    @property
    def busy(self) -> int:
        """How many of its connections are in use here."""
        return self.engines.here().in_use() if self.engines is not None else 0

    def answered(self, state: ServerState, asked_at: float, took_s: float) -> None:
        """Take note of what it has said."""
        if self._came_to is not None and not state.position.covers(self._came_to):
            self.as_of = BEGINNING  # it has crashed, and is older than it was; or is another one
        self._came_to = state.position
        self.state = state
        self.asked_at = asked_at
        self.answers_ms = took_s * 1_000
        self.silent = 0
        self.problem = None if state.ready else "it is not ready"
        self.has_followed = self.has_followed or not state.writable or state.equals

    def failed(self, error: BaseException) -> None:
        """Take note that it does not answer, or not as it should."""
        self.state = None
        self.timed_out = isinstance(error, TimeoutError)
        self.problem = f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST_PROBLEM]


def name_of(url: URL) -> str:
    """Return what messages call a server: never with its user or password."""
    in_query = url.query.get("host", "localhost")
    host = url.host or (in_query if isinstance(in_query, str) else ",".join(in_query))
    return f"{host}:{url.port}" if url.port else host
