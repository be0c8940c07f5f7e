"""This module runs the functions that wait for the end of a transaction."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING

from unitwork._runtime import context
from unitwork._runtime.finish import finish
from unitwork.errors import AfterCommitError

if TYPE_CHECKING:
    from unitwork._runtime.transactions.frame import Frame
    from unitwork._runtime.transactions.hooks import Hook

_ROLLBACK_FAILED = "A function registered with `on_rollback` failed: {!r}"


async def run_before_commit(frame: Frame) -> None:
    """Run inside the transaction; what they register for before the commit runs too."""
    hooks = frame.hooks
    while hooks.before_commit:
        await _call(hooks.before_commit.pop(0), frame, "before commit")


async def run_after_commit(frame: Frame) -> tuple[list[BaseException], asyncio.CancelledError | None]:
    """Run what waited for the commit of a frame, outside of it; as `_run_apart`."""
    return await _run_apart(frame.hooks.after_commit, frame, "after commit", outside=True)


async def run_after_rollback(
    frame: Frame, *, outside: bool
) -> tuple[list[BaseException], asyncio.CancelledError | None]:
    """Run what waited for the rollback of a frame, outside of all if nothing is open any more."""
    return await _run_apart(frame.hooks.after_rollback, frame, "after rollback", outside=outside)


async def _call(hook: Hook, frame: Frame, phase: str) -> None:
    """Call a sync or async function, and tell of it."""
    watch = frame.source.watch
    if not watch.active:
        result = hook()
        if inspect.isawaitable(result):
            await result
        return
    started, error = time.perf_counter(), None
    try:
        result = hook()
        if inspect.isawaitable(result):
            await result
    except BaseException as failure:
        error = failure
        raise
    finally:
        watch.hook_ran(frame.block_id, (phase, _name_of(hook)), time.perf_counter() - started, error)


def _name_of(hook: object) -> str:
    """Return the qualified name of a function, or of the class of what is called like one."""
    while isinstance(hook, functools.partial):
        hook = hook.func
    return str(getattr(hook, "__qualname__", None) or type(hook).__qualname__)


async def _run_apart(
    hooks: list[Hook], frame: Frame, phase: str, *, outside: bool
) -> tuple[list[BaseException], asyncio.CancelledError | None]:
    """Run all, in order, whatever one of them does; return what failed, and a cancellation that came."""
    failures: list[BaseException] = []

    async def run() -> None:
        if outside:
            context.step_outside(frame.source)
        for hook in hooks:
            try:
                await _call(hook, frame, phase)
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
