"""This module opens a unit of work around each message that FastStream consumes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from typing_extensions import override

from unitwork.database import Database
from unitwork.errors import MissingExtraError
from unitwork.integrations.units import Units, several

try:
    from faststream import BaseMiddleware, ContextRepo, StreamMessage
except ModuleNotFoundError as missing:
    raise MissingExtraError("unitwork.integrations.faststream", "faststream", "faststream") from missing

__all__ = ["UnitOfWorkMiddleware"]


class UnitOfWorkMiddleware:
    """Gives each message a unit of work: committed before the reply is published.

    And before the message is acknowledged. Every exception rolls back, also those that tell
    FastStream what to do with the message, such as `AckMessage`. A COMMIT that fails is raised as
    if the handler had raised it. Put this last among the middlewares, so that it sees an exception
    before others turn it into a reply. Lives: as long as the broker.

    Args:
        database: One Database, or several: each gets a unit of its own.
        atomic: Each unit is one transaction, which begins with the first write, lock or block; else each
            block, and each write of a repository, commits by itself.

    Database:
        Nothing for a message that never touches it.

    Examples:
        >>> from faststream.nats import NatsBroker
        >>> broker = NatsBroker(middlewares=[UnitOfWorkMiddleware(db)])
    """

    def __init__(self, database: Database | Sequence[Database], *, atomic: bool = True) -> None:
        self._databases = several(database)
        self._atomic = atomic

    def __call__(self, msg: Any, /, *, context: ContextRepo) -> BaseMiddleware[Any, Any]:  # noqa: ANN401  # of each broker
        """Make the middleware of one message; called by FastStream."""
        return _Message(msg, context, self._databases, atomic=self._atomic)


class _Message(BaseMiddleware[Any, Any]):
    """One message. Lives: as long as it is processed."""

    def __init__(
        self, message: object, context: ContextRepo, databases: tuple[Database, ...], *, atomic: bool
    ) -> None:
        super().__init__(message, context=context)
        self._databases = databases
        self._atomic = atomic

    @override
    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: StreamMessage[Any]) -> Any:
        async with Units(self._databases, f"the message {msg.message_id}", atomic=self._atomic):
            return await call_next(msg)
