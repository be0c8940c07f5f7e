"""This program runs contenders in their own environment: an order per line comes in, an answer goes out.

It needs nothing but the standard library and what its contenders import.
"""

import asyncio
import gc
import importlib
import itertools
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import distributions
from typing import Any

from benchmarks.place import Place
from benchmarks.plan import WORKLOADS, number_of, wrong

_WRITES = {workload.name for workload in WORKLOADS if workload.writes}
_WARM_UP_CALLS = 24


class Worker:
    """The contenders of one environment, on one database."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._contenders: dict[str, Any] = {}
        self._numbers = itertools.count(1)

    async def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what one order says."""
        kind = order["do"]
        if kind == "open":
            return await self._open(order["contender"], order["module"])
        if kind == "measure":
            return await self._measure(order)
        await self._close()
        return {}

    async def _open(self, name: str, module: str) -> dict[str, Any]:
        """Make a contender, let it do everything once, and check what it answers."""
        contender = await importlib.import_module(module).connect(self._place)
        self._contenders[name] = contender
        able, refused = [], {}
        for workload in WORKLOADS:
            call = self._call(name, workload.name)
            if call is None:
                continue
            problem = await self._problem(workload.name, call)
            if problem:
                refused[workload.name] = problem
            else:
                able.append(workload.name)
        # A full collection would look through all that was imported, at the cost of whom it meets by chance.
        gc.collect()
        gc.freeze()
        return {"able": able, "refused": refused, "versions": _versions()}

    async def _problem(self, workload: str, call: Callable[[int], Awaitable[Any]]) -> str | None:
        number = next(self._numbers)
        try:
            return wrong(workload, await call(number), number_of(number))
        except Exception as error:  # noqa: BLE001  # told, and left out
            return _first_line(error)

    async def _measure(self, order: dict[str, Any]) -> dict[str, Any]:
        call = self._call(order["contender"], order["workload"])
        assert call is not None
        tasks, seconds = order["tasks"], order["seconds"]
        calls = order.get("calls") or await self._calls_for(call, tasks, seconds)
        # The youngest alone: a whole collection takes longer than what is measured.
        gc.collect(1)
        wall, cpu = await self._timed(call, tasks, calls)
        return {"calls": calls, "wall_s": wall / calls, "cpu_s": cpu / calls}

    async def _calls_for(self, call: Callable[[int], Awaitable[Any]], tasks: int, seconds: float) -> int:
        """Return how many calls fill the time, after a warm-up."""
        calls = tasks * max(4, _WARM_UP_CALLS // tasks) if seconds else tasks
        await self._timed(call, tasks, calls)
        wall, _cpu = await self._timed(call, tasks, calls)
        return max(tasks, round(seconds / (wall / calls) / tasks) * tasks)

    async def _timed(
        self, call: Callable[[int], Awaitable[Any]], tasks: int, calls: int
    ) -> tuple[float, float]:
        numbers = self._numbers

        async def repeat(times: int) -> None:
            for _ in range(times):
                await call(next(numbers))

        work = [repeat(calls // tasks) for _ in range(tasks)]
        cpu, wall = time.process_time(), time.perf_counter()
        if tasks == 1:
            await work[0]
        else:
            await asyncio.gather(*work)
        return time.perf_counter() - wall, time.process_time() - cpu

    def _call(self, name: str, workload: str) -> Callable[[int], Awaitable[Any]] | None:
        method: Callable[[Any], Awaitable[Any]] | None = getattr(self._contenders[name], workload, None)
        if method is None:
            return None
        known = method
        if workload in _WRITES:
            # No two processes and no two calls write the same address.
            return lambda number: known(f"{name}-{os.getpid()}-{time.time_ns()}-{number}@example.com")
        return lambda number: known(number_of(number))

    async def _close(self) -> None:
        for contender in self._contenders.values():
            await contender.close()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _versions() -> dict[str, str]:
    return {found.name.lower().replace("_", "-"): found.version for found in distributions()}


def main() -> None:
    """Answer until the input ends."""
    # What libraries print must not end up between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(Place(**json.loads(sys.argv[1])))
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            try:
                answer = runner.run(worker.answer(json.loads(line)))
            except Exception as error:  # noqa: BLE001  # told to the parent, which skips this contender
                answer = {"error": _first_line(error)}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
