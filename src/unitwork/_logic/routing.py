"""This module says which way a read takes to the database, and why no faster one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unitwork.options import Lane

__all__ = ["LaneChoice"]


@dataclass(frozen=True, slots=True)
class LaneChoice:
    """The lane that a read takes here and now, and what keeps it from a faster one."""

    lane: Lane
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.lane.value} lane" + (f": {self.reason}" if self.reason else "")
