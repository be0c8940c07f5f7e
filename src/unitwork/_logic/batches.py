"""This module cuts many rows into batches, and says how many fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

R = TypeVar("R")

_LONGEST = 3_000_000


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


def light_portions(
    columns: Sequence[Sequence[Any]], count: int, rows: int | None = None
) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of rows whose text a server takes in one statement, at most `rows` of them.

    A character becomes four bytes at most, and a byte two: this stays below the 16 MB that servers
    take unless they are told otherwise. A row that is longer goes alone.
    """
    most = count if rows is None else rows
    long = [column for column in columns if any(isinstance(value, str | bytes) for value in column)]
    if sum(len(value) for column in long for value in column if isinstance(value, str | bytes)) <= _LONGEST:
        long = []
    start = length = 0
    for place in range(count):
        here = sum(len(column[place]) for column in long if isinstance(column[place], str | bytes))
        if place > start and (length + here > _LONGEST or place - start >= most):
            yield start, place
            start, length = place, 0
        length += here
    if count > start:
        yield start, count
