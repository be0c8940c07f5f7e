"""This module makes the operations of a shared session wait for their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from unitwork._runtime.deadline import check

if TYPE_CHECKING:
    from unitwork._runtime.context import OpenScope
    from unitwork._runtime.sessions.turns import Place, Turns
    from unitwork._runtime.transactions.frame import Frame

_Operation = TypeVar("_Operation", bound=Callable[..., Coroutine[Any, Any, Any]])


R = TypeVar("R")


class OperatedSession(Protocol):
    """A session whose operations take turns."""

    turns: Turns
    started: bool
    running_in: Place | None

    def place(self) -> Place:
        """Return the scope and the frame that the calling code is in."""
        ...

    def failed(self, scope: OpenScope | None, frame: Frame, error: BaseException) -> None:
        """Condemn the frame if this error has left its transaction unusable."""
        ...

    def begin_as_block(self) -> None:
        """Let the session inside know that a transaction is open."""
        ...


S = TypeVar("S", bound=OperatedSession)


async def do_in_turn(session: S, work: Callable[[S], Awaitable[R]], place: Place | None = None) -> R:
    """Do something with a session when it is this task's turn, and mark what a failure means.

    Args:
        session: With which.
        work: What it is.
        place: The scope and the frame that the calling code is in, if that is known.
    """
    turns = session.turns
    scope, frame = place = place or session.place()
    frame.admit()
    waited = not turns.take_at_once(frame)
    if waited:
        await turns.take(frame)
        # Somebody may have begun or ended the transaction of the unit while this one waited.
        scope, frame = place = session.place()
    outer, session.running_in = session.running_in, place
    failed = True
    try:
        if waited:
            frame.admit()
        if scope is not None and scope.limits:
            check(scope.limits)
        result = await work(session)
        failed = False
    except BaseException as error:
        stopped = turns.interruption() if isinstance(error, asyncio.CancelledError) else None
        session.failed(scope, session.running_in[1], stopped or error)
        if stopped is not None:
            raise stopped from None
        raise
    finally:
        (_scope, frame), session.running_in = session.running_in, outer
        try:
            if frame.settles:
                await frame.settle(failed=failed)
        finally:
            turns.give()
    return result


def in_its_turn(operation: _Operation) -> _Operation:
    """Make an operation of the session wait for its turn, and mark what a failure means."""

    @wraps(operation)
    async def run(self: OperatedSession, *arguments: Any, **keywords: Any) -> object:
        return await do_in_turn(self, lambda session: operation(session, *arguments, **keywords))

    return cast("_Operation", run)


def with_session_begun(operation: _Operation) -> _Operation:
    """Let the session inside begin before an operation of its own."""

    @wraps(operation)
    def run(self: OperatedSession, *arguments: Any, **keywords: Any) -> object:
        if self.started:
            self.begin_as_block()
        return operation(self, *arguments, **keywords)

    return cast("_Operation", run)
