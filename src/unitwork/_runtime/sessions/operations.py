"""This module makes the operations of a shared session wait for their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from unitwork._runtime.deadline import check

if TYPE_CHECKING:
    from unitwork._runtime.context import OpenScope
    from unitwork._runtime.sessions.turns import Turns
    from unitwork._runtime.transactions.frame import Frame

_Operation = TypeVar("_Operation", bound=Callable[..., Coroutine[Any, Any, Any]])


class OperatedSession(Protocol):
    """A session whose operations take turns."""

    turns: Turns
    started: bool
    running_in: tuple[OpenScope | None, Frame] | None

    def place(self) -> tuple[OpenScope | None, Frame]:
        """Return the scope and the frame that the calling code is in."""
        ...

    def failed(self, scope: OpenScope | None, frame: Frame, error: BaseException) -> None:
        """Condemn the frame if this error has left its transaction unusable."""
        ...

    def begin_as_block(self) -> None:
        """Let the session inside know that a transaction is open."""
        ...


def in_its_turn(operation: _Operation) -> _Operation:
    """Make an operation of the session wait for its turn, and mark what a failure means."""

    @wraps(operation)
    async def run(self: OperatedSession, *arguments: Any, **keywords: Any) -> object:
        scope, frame = self.place()
        frame.admit()
        waited = not self.turns.take_at_once(frame)
        if waited:
            await self.turns.take(frame)
            # Somebody may have begun or ended the transaction of the unit while this one waited.
            scope, frame = self.place()
        outer, self.running_in = self.running_in, (scope, frame)
        failed = True
        try:
            if waited:
                frame.admit()
            if scope is not None and scope.limits:
                check(scope.limits)
            result = await operation(self, *arguments, **keywords)
            failed = False
        except BaseException as error:
            stopped = self.turns.interruption() if isinstance(error, asyncio.CancelledError) else None
            self.failed(scope, self.running_in[1], stopped or error)
            if stopped is not None:
                raise stopped from None
            raise
        finally:
            (_scope, frame), self.running_in = self.running_in, outer
            try:
                if frame.settles:
                    await frame.settle(failed=failed)
            finally:
                self.turns.give()
        return result

    return cast("_Operation", run)


def with_session_begun(operation: _Operation) -> _Operation:
    """Let the session inside begin before an operation of its own."""

    @wraps(operation)
    def run(self: OperatedSession, *arguments: Any, **keywords: Any) -> object:
        if self.started:
            self.begin_as_block()
        return operation(self, *arguments, **keywords)

    return cast("_Operation", run)
