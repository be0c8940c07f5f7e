"""This module holds the unit of work: one session for one request, message, job or script."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from unitwork._later import later
from unitwork._runtime.blocks.generators import caller_in_generator
from unitwork.errors import TransactionRefusedError

if TYPE_CHECKING:  # what a program needs when it has a Database
    from unitwork._runtime import source as sources
    from unitwork._runtime.blocks import starvation, unit
else:
    sources = later("unitwork._runtime.source")
    starvation = later("unitwork._runtime.blocks.starvation")
    unit = later("unitwork._runtime.blocks.unit")

__all__ = ["UnitOfWork"]

T = TypeVar("T")

Running: TypeAlias = Coroutine[Any, Any, T]
"""What calling an `async def` function returns."""


class UnitOfWork:
    """What `db.unit_of_work()` returns. Lives: one request, message, job or script.

    One session, made at its first use. With `atomic=True` the unit is one transaction that begins
    with the first write, lock or block, and that all blocks join; else its session sees several, one
    after another. What is open at the end is committed, or rolled back when an exception leaves.
    """

    __slots__ = ("_atomic", "_name", "_source", "_unit")

    def __init__(self, source: sources.Source, name: str, *, atomic: bool) -> None:
        self._source = source
        self._name = name
        self._atomic = atomic
        self._unit: unit.Unit | None = None

    def __repr__(self) -> str:
        status = "new" if self._unit is None else "ended" if self._unit.left else "open"
        return f"<UnitOfWork {self._name} on database {self._source.name!r}: {status}>"

    async def __aenter__(self) -> AsyncSession:
        if self._unit is not None and not self._unit.left:
            raise TransactionRefusedError(
                self._source.name,
                f"{self._name} is open already: one unit of work cannot be entered twice at a time.",
                "call `db.unit_of_work()` for each `async with`.",
            )
        caller = caller_in_generator()
        self._source.remember_here()
        self._unit = unit.Unit(self._source, self._name, atomic=self._atomic, caller=caller)
        session: AsyncSession = self._unit.frame.session
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._unit is not None:
            await self._unit.close(error)


async def run_parallel(source: sources.Source, name: str, work: Sequence[Running[Any]]) -> tuple[Any, ...]:
    """Run each coroutine in a unit of work of its own, at most as many at once as the pool allows.

    The first one that fails cancels the others, and its exception is raised when all have ended.
    """
    source.remember_here()
    try:
        at_once = _places(source, name)
    except BaseException:
        for coroutine in work:
            coroutine.close()
        raise
    gate = asyncio.Semaphore(at_once or max(1, len(work)))
    started: set[int] = set()

    async def run(number: int, coroutine: Running[Any]) -> object:
        async with gate, UnitOfWork(source, name, atomic=False):
            started.add(number)
            return await coroutine

    tasks = [asyncio.ensure_future(run(number, coroutine)) for number, coroutine in enumerate(work)]
    try:
        return tuple(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for number, coroutine in enumerate(work):
            if number not in started:
                coroutine.close()


def _places(source: sources.Source, name: str) -> int | None:
    held = starvation.held_by_this_task(source)
    if held:
        starvation.refuse_starvation(source, name, held, writes=True)
    capacity = source.capacity()
    return None if capacity is None else capacity - len(starvation.of_this_pool(held))
