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

    What a task writes is seen by those that have started it too, and by the tasks that it starts later;
    not by those beside it. Lives: as long as the context of its task.

    Args:
        task: Whose it is.
        start: That of the task which has started this one: what that one has seen, this one has.
        position: Returns how far a server must have come besides, once somebody asks; such as from a cookie.
    """

    __slots__ = (
        "__weakref__",
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
    ) -> None:
        self._task = weakref.ref(task) if task is not None else None
        self._others: tuple[weakref.ref[Seen], ...] = ()
        self._position: Position | None = None
        self._unread = position
        self._reading_from: Observed | None = None
        self._until = BEGINNING
        self.floor = BEGINNING
        """A server must have all that was committed before this moment."""
        self.wrote_at = BEGINNING
        """When it, or a task that it has started, was last told that something is stored."""
        if start is not None:
            start.hand_on(self, whole=position is None)

    def hand_on(self, other: Seen, *, whole: bool) -> None:
        """Let a task that was started here tell what it writes; if `whole`, it has seen what this one has."""
        other._others = (weakref.ref(self), *(each for each in self._others if each() is not None))
        if whole:
            other._position, other.floor = self.position, self.floor
            other._reading_from, other._until = self._reading_from, self._until

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
        """Say whether a server has all that was seen."""
        if server.as_of < (self.floor if server is self._reading_from else max(self.floor, self._until)):
            return False
        needed = self.position
        return needed is None or (server.position is not None and server.position.covers(needed))

    def read(self, server: Observed, now: float) -> None:
        """Take note of what a replica has answered up to now."""
        if server is not self._reading_from:
            self.floor = max(self.floor, self._until)
            self._reading_from = server
        self._until = now

    def read_latest(self, now: float) -> None:
        """Take note of what the primary has answered up to now."""
        self.floor = now

    def wrote(self, now: float) -> None:
        """Take note that what was written is stored, or may be."""
        self.floor = self.wrote_at = now
        for other in self._others:
            above = other()
            if above is not None:
                above.floor = above.wrote_at = now
