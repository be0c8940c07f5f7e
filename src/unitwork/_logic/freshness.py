"""This module decides which servers are as new as what somebody has seen already.

Times are those of one process and one clock that never jumps. They stand for positions: the time of a
replica is the moment of the latest question to the primary whose answer it has caught up with.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitwork._logic.positions import Position

BEGINNING = float("-inf")


class Observed(Protocol):
    """What is known of a replica."""

    as_of: float
    """It has all that was committed before this moment."""

    @property
    def position(self) -> Position | None:
        """How far it has come, as far as it was asked."""
        ...


class Seen:
    """What one task has written and read. It only grows.

    What a task has seen is seen by those that have started it too, and by the tasks that it starts later;
    not by those beside it. Lives: as long as the context of its task.

    Args:
        task: Whose it is.
        start: That of the task which has started this one: what that one has seen, this one has.
        position: Returns how far a server must have come besides, once somebody asks; such as from a cookie.
        now: When that is.
    """

    __slots__ = (
        "__weakref__",
        "_open",
        "_others",
        "_position",
        "_reading_from",
        "_task",
        "_unread",
        "_until",
        "floor",
        "wrote_at",
    )

    def __init__(
        self,
        task: object,
        start: Seen | None = None,
        position: Callable[[], Position | None] | None = None,
        now: float = BEGINNING,
    ) -> None:
        self._task = weakref.ref(task) if task is not None else None
        self._others: tuple[weakref.ref[Seen], ...] = ()
        self._position: Position | None = None
        self._unread = position
        # Weak: the context of a task may outlive the Database.
        self._reading_from: weakref.ref[Observed] | None = None
        self._until = BEGINNING
        self._open: list[Observed] = []
        self.floor = BEGINNING
        """A server must have all that was committed before this moment."""
        self.wrote_at = BEGINNING
        """When it, or a task that it has started, was last told that something is stored."""
        if start is not None:
            start.hand_on(self, now, whole=position is None)

    def hand_on(self, other: Seen, now: float, *, whole: bool) -> None:
        """Let a task that was started here hand up what it sees; `whole`: it has seen what this one has."""
        other._others = (weakref.ref(self), *(each for each in self._others if each() is not None))
        if whole:
            other._position, other.floor = self.position, self.floor
            other._reading_from, other._until = self._reading_from, self._until
            for server in self._open:
                other.read(server, now)

    def belongs_to(self, task: object) -> bool:
        """Say whether it is that of this task, and not inherited by it."""
        return self._task is not None and self._task() is task

    @property
    def position(self) -> Position | None:
        """How far a server must have come at least, if that was said."""
        unread, self._unread = self._unread, None
        if unread is not None:
            self._position = unread()
        return self._position

    def may_read(self, server: Observed) -> bool:
        """Say whether a server has all that was seen, and goes on being seen where something is open."""
        if self._open and server not in self._open:
            return False
        if server.as_of < (self.floor if self._reads_from(server) else max(self.floor, self._until)):
            return False
        needed = self.position
        return needed is None or (server.position is not None and server.position.covers(needed))

    def _reads_from(self, server: Observed) -> bool:
        return self._reading_from is not None and self._reading_from() is server

    def opened(self, server: Observed) -> None:
        """Take note that a replica is read from until `closed`: meanwhile no other one is."""
        self._open.append(server)

    def closed(self, server: Observed, now: float) -> None:
        """Take note that a replica is read from no longer."""
        self._open.remove(server)
        self.read(server, now)

    def read(self, server: Observed, now: float) -> None:
        """Take note of what a replica has answered up to now."""
        if not self._reads_from(server):
            self.floor = max(self.floor, self._until)
            self._reading_from = weakref.ref(server)
        self._until = now
        self._hand_up(now)

    def read_latest(self, now: float) -> None:
        """Take note of what the primary has answered up to now."""
        self.floor = now
        self._hand_up(now)

    def wrote(self, now: float) -> None:
        """Take note that what was written is stored, or may be."""
        self.floor = self.wrote_at = now
        self._hand_up(now, wrote=True)

    def _hand_up(self, now: float, *, wrote: bool = False) -> None:
        """Let the tasks that have started this one see it too."""
        for other in self._others:
            above = other()
            if above is not None:
                above.floor = now
                if wrote:
                    above.wrote_at = now
