"""This module decides what the end of a block means."""

from __future__ import annotations

import enum
from typing import NamedTuple

from unitwork.errors import RowCountError
from unitwork.options import TransactionOptions


class Verdict(enum.Enum):
    """What to do with the frame when a block ends."""

    COMMIT = enum.auto()
    ROLL_BACK = enum.auto()
    ROLL_BACK_AND_RAISE = enum.auto()
    LEAVE = enum.auto()
    CONDEMN = enum.auto()


class Marks(NamedTuple):
    """What is known about a frame when its block ends."""

    condemned: bool = False
    rollback_only: bool = False
    joiners: bool = False


def rolls_back(error: BaseException, options: TransactionOptions) -> bool:
    """Say whether an exception that leaves a block rolls back.

    Of all rules that name the class or a base, the nearest in its hierarchy decides; ties roll
    back; what is not an `Exception` always does.
    """
    if not isinstance(error, Exception):
        return True
    if not options.no_rollback_for:
        return True
    undo = _distance(type(error), options.rollback_for)
    keep = _distance(type(error), options.no_rollback_for)
    return keep is None or (undo is not None and undo <= keep)


def _distance(raised: type[BaseException], rules: tuple[type[BaseException], ...]) -> int | None:
    """Count the steps up the hierarchy from a class to the nearest one that the rules name."""
    steps = 0
    generation: set[type] = {raised}
    while generation:
        if not generation.isdisjoint(rules):
            return steps
        generation = {base for member in generation for base in member.__bases__}
        steps += 1
    return None


def verdict_for_owner(error: BaseException | None, options: TransactionOptions, marks: Marks) -> Verdict:
    """Say what the end of the block that began a frame does to it."""
    if error is None:
        if marks.rollback_only:
            return Verdict.ROLL_BACK
        if marks.condemned or marks.joiners:
            return Verdict.ROLL_BACK_AND_RAISE
        return Verdict.COMMIT
    if marks.rollback_only or rolls_back(error, options):
        return Verdict.ROLL_BACK
    # Whoever sees this exception may rely on the work being stored, which it cannot be.
    return Verdict.ROLL_BACK_AND_RAISE if marks.condemned or marks.joiners else Verdict.COMMIT


def verdict_for_joined(error: BaseException | None, options: TransactionOptions) -> Verdict:
    """Say what the end of a joined block does to the frame that it joined."""
    # A read that found another number of rows than it promised has changed nothing.
    if error is None or isinstance(error, RowCountError) or not rolls_back(error, options):
        return Verdict.LEAVE
    return Verdict.CONDEMN
