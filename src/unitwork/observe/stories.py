"""This module puts events together: what happened in each block, as a tree."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias

from unitwork._logic.sql.shown import one_line
from unitwork.events import BlockEnded, BlockEntered, Event, StatementExecuted

__all__ = ["BlockStory", "Happening", "Statements", "Stories"]


@dataclass(slots=True)
class Statements:
    """One statement, or several of the same text one after another."""

    sql: str
    database: str
    duration_s: float
    error: str | None
    times: int = 1


@dataclass(slots=True)
class BlockStory:
    """What is known about one block: its entry, what happened inside, and its end if it has ended."""

    entered: BlockEntered
    inside: list[Happening] = field(default_factory=list["Happening"])
    ended: BlockEnded | None = None


Happening: TypeAlias = BlockStory | Statements


class Stories:
    """Builds trees out of events. Lives: as long as its observer; keeps the newest `limit` trees."""

    def __init__(self, limit: int) -> None:
        self.outermost: deque[Happening] = deque(maxlen=limit)
        self._open: dict[int, BlockStory] = {}

    def take(self, event: Event) -> None:
        """Add one event to the tree that it belongs to."""
        if isinstance(event, BlockEntered):
            story = self._open[event.block_id] = BlockStory(event)
            self._around(event.parent_id).append(story)
        elif isinstance(event, StatementExecuted):
            _add(self._around(event.block_id), event)
        elif isinstance(event, BlockEnded) and event.block_id in self._open:
            # An attempt that is made again shows as a block of its own.
            self._open.pop(event.block_id).ended = event

    def databases(self) -> set[str]:
        """Return the names of the Databases that the trees tell of."""
        return {
            happening.entered.database if isinstance(happening, BlockStory) else happening.database
            for happening in self.outermost
        }

    def _around(self, block_id: int | None) -> list[Happening] | deque[Happening]:
        # A block that was entered before anybody observed, or none at all: it stands by itself.
        story = self._open.get(block_id) if block_id is not None else None
        return self.outermost if story is None else story.inside


def _add(happenings: list[Happening] | deque[Happening], event: StatementExecuted) -> None:
    sql = one_line(event.sql)
    last = happenings[-1] if happenings else None
    if isinstance(last, Statements) and (last.sql, last.error) == (sql, event.error):
        last.times += 1
        last.duration_s += event.duration_s
    else:
        happenings.append(Statements(sql, event.database, event.duration_s, event.error))
