"""This module runs the functions that wait for the end of a transaction."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING

from unitwork._runtime import context
from unitwork._runtime.finish import finish
from unitwork.errors import AfterCommitError

if TYPE_CHECKING:
    from unitwork._runtime.transactions.hooks import Hook, Hooks

_ROLLBACK_FAILED = "A function registered with `on_rollback` failed: {!r}"


async def call(hook: Hook) -> None:
    """Call a sync or async function."""
    result = hook()
    if inspect.isawaitable(result):
        await result


async def run_before_commit(hooks: Hooks) -> None:
    """Run inside the transaction; what they register for before the commit runs too."""
    while hooks.before_commit:
        await call(hooks.before_commit.pop(0))


async def run_apart(
    hooks: list[Hook], hidden: object | None
) -> tuple[list[BaseException], asyncio.CancelledError | None]:
    """Run all, in order, whatever one of them does; return what failed, and a cancellation that came.

    Args:
        hooks: The functions.
        hidden: The Database whose blocks they do not see, if they run outside of the transaction.
    """
    failures: list[BaseException] = []

    async def run() -> None:
        if hidden is not None:
            context.step_outside(hidden)
        for hook in hooks:
            try:
                await call(hook)
            except asyncio.CancelledError as cancelled:
                # Nobody cancels this task: the function itself waited for something that was cancelled.
                stopped = RuntimeError(f"{hook!r} was cancelled")
                stopped.__cause__ = cancelled
                failures.append(stopped)
            except BaseException as failure:  # noqa: BLE001  # handed over: the loop would not survive some of them
                failures.append(failure)

    done = await finish(run())
    if done.error is not None:
        failures.append(done.error)
    return failures, done.cancelled


def after_commit_failed(database: str, failures: list[BaseException]) -> BaseException | None:
    """Return what tells of all that failed after a commit; None if nothing did.

    What shall end the program goes before: it is that exception itself, and notes tell of the others.
    """
    stops = [failure for failure in failures if not isinstance(failure, Exception)]
    if not failures:
        return None
    if not stops:
        return AfterCommitError(database, [failure for failure in failures if isinstance(failure, Exception)])
    stop = stops[0]
    stop.add_note(f"The transaction on database {database!r} is committed; this came after it.")
    for other in failures:
        if other is not stop:
            stop.add_note(f"This failed after the commit, too: {other!r}")
    return stop


def after_rollback_failed(cause: BaseException | None, failures: list[BaseException]) -> BaseException | None:
    """Tell of what failed after a rollback on its cause; return what must be raised in its place, if so."""
    stop = next((failure for failure in failures if not isinstance(failure, Exception)), None)
    told = stop or cause
    if told is None:
        errors = [failure for failure in failures if isinstance(failure, Exception)]
        return ExceptionGroup("Work registered with `on_rollback` failed", errors) if errors else None
    for failure in failures:
        if failure is not stop:
            told.add_note(_ROLLBACK_FAILED.format(failure))
    if stop is not None:
        stop.__cause__ = stop.__cause__ or cause
    return stop


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
