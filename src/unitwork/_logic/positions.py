"""This module says how far the changes of a cluster have come, and compares that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_TEXT = 2_000


@dataclass(frozen=True, slots=True)
class Position:
    """How far a server has come in each stream of changes that it has.

    PostgreSQL has one stream, named by the system identifier of the cluster and counted in bytes of its
    log; MariaDB one for each GTID domain; Galera one, named by the UUID of the cluster.

    Examples:
        >>> Position.of({"0": 7}).covers(Position.of({"0": 5}))
        True
        >>> str(Position.of({"0": 7, "1": 2}))
        '0=7,1=2'
    """

    parts: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, numbers: Mapping[str, int]) -> Position:
        """Return the position with these numbers, by stream."""
        return cls(tuple(sorted(numbers.items())))

    @classmethod
    def read(cls, text: str) -> Position | None:
        """Return the position that was written as this text; None if none was."""
        if not text or len(text) > _LONGEST_TEXT:
            return None
        numbers: dict[str, int] = {}
        for part in text.split(","):
            stream, equals, number = part.partition("=")
            if not (stream and equals and number.isascii() and number.isdigit()):
                return None
            numbers[stream] = int(number)
        return cls.of(numbers)

    def __str__(self) -> str:
        return ",".join(f"{stream}={number}" for stream, number in self.parts)

    def covers(self, other: Position) -> bool:
        """Say whether all that has happened up to the other one has happened here."""
        if self.parts == other.parts:
            return True
        mine = dict(self.parts)
        return all(mine.get(stream, -1) >= number for stream, number in other.parts)
