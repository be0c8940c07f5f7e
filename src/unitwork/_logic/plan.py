"""This module decides what entering a transaction block does."""

from __future__ import annotations

import enum
from typing import NamedTuple

from unitwork.options import Isolation, Propagation, TransactionOptions

P = Propagation


class Step(enum.Enum):
    """What a block does on entry."""

    __hash__ = object.__hash__

    BEGIN = "new transaction"
    BEGIN_APART = "new transaction, outer one suspended"
    SAVEPOINT = "savepoint"
    JOIN = "joins"
    PLAIN = "no transaction"
    PLAIN_APART = "no transaction, outer one suspended"
    REFUSE = "refused"


_STEPS: dict[tuple[Propagation, bool], Step] = {
    # (asked for, transaction open): step taken
    (P.REQUIRED, False): Step.BEGIN,
    (P.REQUIRED, True): Step.JOIN,
    (P.REQUIRES_NEW, False): Step.BEGIN,
    (P.REQUIRES_NEW, True): Step.BEGIN_APART,
    (P.NESTED, False): Step.BEGIN,
    (P.NESTED, True): Step.SAVEPOINT,
    (P.SUPPORTS, False): Step.PLAIN,
    (P.SUPPORTS, True): Step.JOIN,
    (P.NOT_SUPPORTED, False): Step.PLAIN,
    (P.NOT_SUPPORTED, True): Step.PLAIN_APART,
    (P.MANDATORY, False): Step.REFUSE,
    (P.MANDATORY, True): Step.JOIN,
    (P.NEVER, False): Step.PLAIN,
    (P.NEVER, True): Step.REFUSE,
}


_STEPS_AT_REST: dict[Propagation, tuple[bool, Step]] = {
    # asked for: (the transaction of the unit begins, step taken)
    P.REQUIRED: (True, Step.JOIN),
    P.REQUIRES_NEW: (False, Step.BEGIN_APART),
    P.NESTED: (True, Step.SAVEPOINT),
    P.SUPPORTS: (False, Step.JOIN),
    P.NOT_SUPPORTED: (False, Step.PLAIN_APART),
    P.MANDATORY: (True, Step.JOIN),
    P.NEVER: (False, Step.REFUSE),
}


def next_step_at_rest(propagation: Propagation, *, only_reads: bool) -> tuple[bool, Step]:
    """Say what a block does in a unit of work that is one transaction, which has not begun yet.

    Args:
        propagation: What the block asks for.
        only_reads: It is read-only, and nothing waits to be sent: then it is a transaction of its own, after
            which the unit may still write.
    """
    if only_reads and propagation is P.REQUIRED:
        return False, Step.BEGIN
    return _STEPS_AT_REST[propagation]


def next_step(propagation: Propagation, *, active: bool) -> Step:
    """Say what a block with this propagation does when a transaction is open, or not."""
    return _STEPS[propagation, active]


class Refusal(NamedTuple):
    """Why a block may not be entered, and what to do."""

    sentence: str
    fix: str


class Surroundings(NamedTuple):
    """What a block finds open on its Database."""

    owner: str
    isolation: Isolation | None
    condemned_by: str | None


def refusal(
    block: str, options: TransactionOptions, step: Step, around: Surroundings | None
) -> Refusal | None:
    """Say why this block may not be entered here, or None."""
    if around is None:
        return _missing(block) if step is Step.REFUSE else None
    if step is Step.REFUSE:
        return Refusal(
            f"{block} has propagation NEVER, but a transaction of {around.owner} is open.",
            "call it outside of any transaction, or use propagation NOT_SUPPORTED.",
        )
    if options.durable and step is not Step.PLAIN:
        return Refusal(
            f"{block} is durable, but runs inside the transaction of {around.owner}.",
            "call it outside of any transaction, or drop `durable=True`.",
        )
    if step in (Step.JOIN, Step.SAVEPOINT):
        return _shared(block, options, step, around)
    return None


def _missing(block: str) -> Refusal:
    return Refusal(
        f"{block} has propagation MANDATORY, but no transaction is open.",
        "call it inside `async with db.transaction():`, or use propagation REQUIRED.",
    )


def _shared(block: str, options: TransactionOptions, step: Step, around: Surroundings) -> Refusal | None:
    if options.isolation is not None and options.isolation is not around.isolation:
        has = around.isolation.value if around.isolation else "the database's default"
        return Refusal(
            f"{block} asks for isolation {options.isolation.value} inside a transaction that has {has}.",
            "set the isolation on the outermost block, or use propagation REQUIRES_NEW.",
        )
    if step is Step.SAVEPOINT and around.condemned_by is not None:
        return Refusal(
            f"{block} asks for a savepoint in a transaction that can only roll back.",
            f"let the failure of {around.condemned_by} end the outer block first.",
        )
    return None
