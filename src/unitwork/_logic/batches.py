"""This module cuts many rows into batches, and says how many fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

R = TypeVar("R")


def sliced(rows: Iterable[R], size: int) -> Iterator[list[R]]:
    """Yield lists of at most this many rows, in order, reading no further than needed."""
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch


def rows_that_fit(wanted: int, values_in_row: int, limit: int | None) -> int:
    """Return how many rows go into one statement that takes at most `limit` values."""
    if limit is None or values_in_row == 0:
        return wanted
    return max(1, min(wanted, limit // values_in_row))


def runs_without_repeats(keys: Iterable[object]) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the longest runs in which no key comes twice."""
    start = position = 0
    seen: set[object] = set()
    for key in keys:
        if key in seen:
            yield start, position
            start = position
            seen = set()
        seen.add(key)
        position += 1
    if position > start:
        yield start, position
