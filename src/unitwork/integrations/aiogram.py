"""This module opens a unit of work around each update that aiogram handles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from typing_extensions import override

from unitwork.database import Database
from unitwork.errors import MissingExtraError
from unitwork.integrations.units import Units, several

try:
    from aiogram import BaseMiddleware
    from aiogram.types import TelegramObject
except ModuleNotFoundError as missing:
    raise MissingExtraError("unitwork.integrations.aiogram", "aiogram", "aiogram") from missing

__all__ = ["UnitOfWorkMiddleware"]


class UnitOfWorkMiddleware(BaseMiddleware):  # type: ignore[misc]  # its types are not installed here
    """Gives each update a unit of work: committed when its handler returns.

    Install it with `dispatcher.update.outer_middleware(...)`: there it rolls back on an exception
    before `@dispatcher.errors()` swallows it. Handlers may ask for the session by the parameter
    `session`; with several Databases by `<name>_session`. Lives: as long as the dispatcher.

    Args:
        database: One Database, or several: each gets a unit of its own.
        atomic: Each unit is one transaction, which begins with the first write, lock or block; else each
            block, and each write of a repository, commits by itself.

    Database:
        Nothing for an update that never touches it.

    Examples:
        >>> from aiogram import Dispatcher
        >>> dispatcher = Dispatcher()
        >>> _ = dispatcher.update.outer_middleware(UnitOfWorkMiddleware(db))
    """

    def __init__(self, database: Database | Sequence[Database], *, atomic: bool = True) -> None:
        self._databases = several(database)
        self._atomic = atomic
        names = [f"{each.name}_session" for each in self._databases]
        self._parameters = names if len(names) > 1 else ["session"]

    @override
    async def __call__(
        self,
        handler: Callable[[TelegramObject, dict[str, Any]], Awaitable[Any]],
        event: TelegramObject,
        data: dict[str, Any],
    ) -> Any:
        name = f"the update {getattr(event, 'update_id', type(event).__name__)}"
        async with Units(self._databases, name, atomic=self._atomic) as units:
            return await handler(event, {**data, **dict(zip(self._parameters, units.sessions, strict=True))})
