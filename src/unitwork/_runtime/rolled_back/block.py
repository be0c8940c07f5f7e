"""This module holds the block that undoes all that is done on a Database while it is open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from unitwork._runtime import context
from unitwork._runtime.finish import finish
from unitwork._runtime.rolled_back.pinned import Level
from unitwork.errors import TransactionRefusedError

if TYPE_CHECKING:
    from types import TracebackType

    from unitwork._runtime.source import Source


class RolledBack:
    """What `db.rolled_back()` returns. Lives: one test, or as long as the tests that share its rows."""

    __slots__ = ("_level", "_name", "_open", "_source")

    def __init__(self, source: Source, name: str) -> None:
        self._source = source
        self._name = name
        self._level: Level | None = None
        self._open = False

    def __repr__(self) -> str:
        return f"<{self._name} on database {self._source.name!r}: {'open' if self._open else 'closed'}>"

    async def __aenter__(self) -> None:
        source = self._source
        source.home_engine()  # refuses another event loop
        if source.pinned is None:
            self._refuse_open()
            await source.pin()
        else:
            self._level = Level(self._name, None, None, read_only=False)
            await source.pinned.begin(self._level, asyncio.current_task())
        self._open = True

    def _refuse_open(self) -> None:
        """Refuse to begin while something is open that began without it."""
        source = self._source
        inside = context.innermost(source)
        owners = [frame.owner for frame in source.frames.values()]
        if inside is not None and inside.name not in owners:
            owners.append(inside.name)
        if owners:
            raise TransactionRefusedError(
                source.name,
                f"{self._name} cannot begin: database {source.name!r} is in use already.",
                "open rolled_back() before all blocks, units of work and sessions.",
                [f"Open: {', '.join(owners)}"],
            )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pinned = self._source.pinned
        self._open = False
        if pinned is None:
            return
        left = pinned.open()
        ended = pinned.failure
        if self._level is not None:
            done = await finish(pinned.undo(self._level, None))
        else:
            done = await finish(pinned.end())
            self._source.unpin()
        failure = ended or done.error or self._left_open(left)
        if error is None and failure is not None:
            raise failure
        if done.cancelled is not None:
            raise done.cancelled

    def _left_open(self, owners: list[str]) -> TransactionRefusedError | None:
        if not owners:
            return None
        return TransactionRefusedError(
            self._source.name,
            f"{self._name} ends while database {self._source.name!r} is in use; all was rolled back.",
            "await the tasks that the test starts, and close its sessions and connections.",
            [f"Open: {', '.join(sorted(owners))}"],
        )
