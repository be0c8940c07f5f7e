"""This module waits between the attempts of a function that is tried again."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from unitwork._logic.retry import delay_s, may_try_again
from unitwork._runtime.connections.losses import has_stored_nothing

if TYPE_CHECKING:
    from unitwork._runtime.blocks.block import Scope
    from unitwork._runtime.source import Source
    from unitwork.options import RetryPolicy


class Attempts:
    """The attempts of one call. Lives: one call."""

    __slots__ = ("_failed", "_policy", "_source", "_started")

    def __init__(self, source: Source, policy: RetryPolicy) -> None:
        self._source = source
        self._policy = policy
        self._failed = 0
        self._started = asyncio.get_running_loop().time()

    async def wait_or_raise(self, scope: Scope, error: Exception) -> None:
        """Return when it is time for the next attempt, or raise the error of the last one.

        A block that joined an outer transaction is never tried again by itself.
        """
        self._failed += 1
        elapsed_s = asyncio.get_running_loop().time() - self._started
        again = may_try_again(self._policy, self._failed, elapsed_s) and self._may_pass(error)
        if not (again and await scope.is_undone(error)):
            if self._failed > 1:
                error.add_note(f"This was attempt {self._failed} of {self._policy.attempts}.")
            raise error
        wait_s = delay_s(self._policy, self._failed, random.random())  # noqa: S311  # spreads load, hides nothing
        if self._source.watch.active:
            self._source.watch.retried(scope, self._failed + 1, wait_s, error)
        await asyncio.sleep(wait_s)

    def _may_pass(self, error: Exception) -> bool:
        """Say whether the same work may succeed another time, without doing anything twice."""
        backend = self._source.backend
        return backend.is_retryable(error) or (has_stored_nothing(error) and backend.is_lost(error))
