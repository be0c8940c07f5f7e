"""This module finds what a test has left open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from unitwork.testing.recorder import only_databases

if TYPE_CHECKING:
    from types import TracebackType

    from unitwork._runtime.source import Source
    from unitwork.database import Database

_CHANCES = 10
"""How often what is about to end by itself may go on before it counts."""


class NoLeaks:
    """What `no_leaks()` returns. Lives: one `async with`."""

    def __init__(self, databases: tuple[Database, ...]) -> None:
        self._databases = databases

    async def __aenter__(self) -> None:
        for database in self._databases:
            database.source.ledger = set()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            left = self._left()
            for _ in range(_CHANCES if left else 0):
                await asyncio.sleep(0)
            left = left and self._left()
        finally:
            for database in self._databases:
                database.source.ledger = None
        if left and error is None:
            __tracebackhide__ = True
            raise AssertionError("\n".join(["The test leaves something open.", *left, _FIX]))

    def _left(self) -> list[str]:
        return [line for database in self._databases for line in _left_on(database)]


_FIX = "  Fix: await the tasks that the test starts, and leave each block, session and connection."


def _left_on(database: Database) -> list[str]:
    source = database.source
    lines: list[str] = []
    for scope in source.ledger or ():
        if not scope.left:
            lines.append(f"  Open on database {source.name!r}: {scope.name}")
            if not scope.frame.ended and scope.frame.session.turns.contested:
                lines.append(f"    its session: {scope.frame.session.turns.describe()}")
    return lines + _connections_of(database, source)


def _connections_of(database: Database, source: Source) -> list[str]:
    holders = [holder.owner for holder in source.engines.holders()]
    if source.pinned is not None:
        waiting = [f"  Waits for its turn: {owner}" for owner in source.pinned.waiting()]
        return waiting + [f"  Connection in use: {owner}" for owner in source.pinned.open()]
    number = database.pool_status().checked_out
    if not number:
        return []
    known = f": {', '.join(holders)}" if holders else ", by sessions or connections by hand"
    return [f"  {number} connections of database {source.name!r} are in use{known}"]


def no_leaks(*databases: Database) -> NoLeaks:
    """Demand that an `async with` block leaves nothing open.

    The fixtures of the pytest plugin do it for each test.

    Args:
        *databases: Those that are looked at.

    Raises:
        AssertionError: A block or a unit of work is open, a connection is checked out, or an operation
            waits for its turn; the message names who. At the end.
        OptionError: Something else than Databases is given.

    Examples:
        >>> async with no_leaks(db), db.transaction():
        ...     db.session.add(User(email="ann@example.com"))
    """
    return NoLeaks(only_databases(databases))
