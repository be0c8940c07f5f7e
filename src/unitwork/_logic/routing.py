"""This module says which way a read takes to the database, and why no faster one."""

from __future__ import annotations

from typing import NamedTuple

from unitwork.options import Lane

__all__ = ["LaneChoice", "LaneRefusal"]


class LaneChoice(NamedTuple):
    """The lane that a read takes here and now, and what keeps it from a faster one."""

    lane: Lane
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.lane.value} lane" + (f": {self.reason}" if self.reason else "")


class LaneRefusal:
    """Why a lane leaves something to a slower one. It is text only when somebody asks.

    Args:
        template: The reason, with a place in braces for each of the names.
        names: What it is about.
    """

    __slots__ = ("_names", "_template")

    def __init__(self, template: str, *names: object) -> None:
        self._template = template
        self._names = names

    def __str__(self) -> str:
        return self._template.format(*self._names)
