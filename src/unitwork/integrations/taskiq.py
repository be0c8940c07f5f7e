"""This module opens a unit of work around each task that a taskiq worker executes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from unitwork.database import Database
from unitwork.errors import MissingExtraError
from unitwork.integrations.units import Units, several

try:
    from taskiq import TaskiqMessage, TaskiqMiddleware, TaskiqResult
except ModuleNotFoundError as missing:
    raise MissingExtraError("unitwork.integrations.taskiq", "taskiq", "taskiq") from missing

__all__ = ["UnitOfWorkMiddleware"]


class UnitOfWorkMiddleware(TaskiqMiddleware):
    """Gives each task a unit of work: committed before its result is stored and its message acknowledged.

    A COMMIT that fails is the error of the task, as if it had raised it. Put this last among the
    middlewares: then a task that raises is rolled back before others are told, and what they try
    again finds nothing half done. Lives: as long as the broker.

    Args:
        database: One Database, or several: each gets a unit of its own.
        atomic: Each unit is one transaction, which begins with the first write, lock or block; else each
            block, and each write of a repository, commits by itself.

    Database:
        Nothing for a task that never touches it.

    Examples:
        >>> from taskiq import InMemoryBroker
        >>> broker = InMemoryBroker().with_middlewares(UnitOfWorkMiddleware(db))
    """

    def __init__(self, database: Database | Sequence[Database], *, atomic: bool = True) -> None:
        super().__init__()
        self._databases = several(database)
        self._atomic = atomic
        # An asyncio task executes one message, or several inside each other where the broker awaits them.
        self._open: dict[asyncio.Task[Any] | None, list[tuple[str, Units]]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @override
    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        units = Units(self._databases, f"the task {message.task_name}", atomic=self._atomic)
        await units.__aenter__()
        task = asyncio.current_task()
        if task is not None and task not in self._open:
            task.add_done_callback(self._forget)
        self._open.setdefault(task, []).append((message.task_id, units))
        return message

    @override
    async def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        await self._end(message, commit=False)

    @override
    async def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        try:
            await self._end(message, commit=not result.is_err)
        except Exception as failure:  # noqa: BLE001  # it becomes the result
            result.is_err, result.return_value, result.error = True, None, failure
            for other in reversed(self.broker.middlewares):
                if other is not self:
                    told = other.on_error(message, result, failure)
                    if told is not None:
                        await told

    async def _end(self, message: TaskiqMessage, *, commit: bool) -> None:
        opened = self._open.get(asyncio.current_task(), [])
        ours = message.task_id not in (task_id for task_id, _ in opened)
        while not ours:
            # Above those of this message are those that taskiq gave up without telling.
            task_id, units = opened.pop()
            ours = task_id == message.task_id
            try:
                await units.finish(commit=commit and ours)
            finally:
                await units.leave(None)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        """Roll back what taskiq gave up without telling, as when a dependency fails at its end."""
        for _, units in self._open.pop(task):
            closing = asyncio.ensure_future(units.end(commit=False))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
