"""This module keeps and runs the functions that wait for the end of a transaction."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, TypeAlias

from unitwork._runtime import context
from unitwork.errors import AfterCommitError

if TYPE_CHECKING:
    from unitwork._runtime.source import Source

Hook: TypeAlias = Callable[[], object | Awaitable[object]]


class Callbacks:
    """The functions registered in one frame. Lives: as long as the frame."""

    __slots__ = ("after_commit", "after_rollback", "at_end", "before_commit")

    def __init__(self) -> None:
        self.before_commit: list[Hook] = []
        self.after_commit: list[Hook] = []
        self.after_rollback: list[Hook] = []
        self.at_end: list[Callable[[], None]] = []

    def take_over(self, other: Callbacks) -> None:
        """Add what a released savepoint hands up."""
        self.before_commit += other.before_commit
        self.after_commit += other.after_commit
        self.after_rollback += other.after_rollback
        self.at_end += other.at_end

    def tell_end(self) -> None:
        """Tell whoever lives as long as this frame that it has ended, whichever way."""
        while self.at_end:
            self.at_end.pop(0)()

    async def run_before_commit(self) -> None:
        """Run inside the transaction; what they register for before the commit runs too."""
        while self.before_commit:
            await call(self.before_commit.pop(0))

    async def run_after_commit(self, source: Source) -> None:
        """Run all, in order, whatever one of them does.

        Raises:
            AfterCommitError: One or more of them failed.
        """
        context.step_outside(source)
        failures = await _run_all(self.after_commit)
        if failures:
            raise AfterCommitError(source.name, failures)

    async def run_after_rollback(self, cause: BaseException | None, source: Source | None) -> None:
        """Run all, in order; failures become notes on the exception that caused the rollback.

        With a source, no transaction of it is current; a savepoint's run inside the transaction.
        """
        if source is not None:
            context.step_outside(source)
        failures = await _run_all(self.after_rollback)
        if failures and cause is None:
            raise ExceptionGroup("Work registered with `on_rollback` failed", failures)
        for failure in failures:
            if cause is not None:
                cause.add_note(f"A function registered with `on_rollback` failed: {failure!r}")


async def call(hook: Hook) -> None:
    """Call a sync or async function."""
    result = hook()
    if inspect.isawaitable(result):
        await result


def run_at_once(hook: Hook) -> Awaitable[object]:
    """Call a function now, where there is no transaction to wait for; an async one in a task."""
    result = hook()
    if not inspect.isawaitable(result):
        return NothingToAwait()
    task = asyncio.ensure_future(result)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


# Tasks that nobody has to await must be held, or the loop may forget them.
_running: set[asyncio.Future[object]] = set()


class NothingToAwait:
    """An awaitable that has nothing to wait for."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


async def _run_all(hooks: list[Hook]) -> list[Exception]:
    failures: list[Exception] = []
    for hook in hooks:
        try:
            await call(hook)
        except Exception as failure:  # noqa: BLE001  # collected, and raised together by the caller
            failures.append(failure)
        except asyncio.CancelledError as cancelled:
            # Nobody cancels this task: the function itself waited for something that was cancelled.
            stopped = RuntimeError(f"{hook!r} was cancelled")
            stopped.__cause__ = cancelled
            failures.append(stopped)
    return failures
