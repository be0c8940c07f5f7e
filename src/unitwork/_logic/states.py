"""This module holds the states of a transaction, and the steps between them."""

from __future__ import annotations

import enum


class State(enum.Enum):
    """What a transaction, or a savepoint, is at this moment."""

    __hash__ = object.__hash__
    """Each is one object, and is looked up with every step: without a call of `enum`'s own."""

    IDLE = "idle"
    """Nothing was sent yet: BEGIN goes with the first statement."""
    OPEN = "open"
    CONDEMNED = "condemned"
    """It can only roll back."""
    ENDING = "ending"
    """Nobody may come in any more; COMMIT or ROLLBACK is under way."""
    COMMITTED = "committed"
    """The database has said so: whatever fails now has come after it."""
    ROLLED_BACK = "rolled back"
    UNKNOWN = "unknown"
    """COMMIT was sent, and the answer never came."""


class Change(enum.Enum):
    """What happens to it."""

    __hash__ = object.__hash__
    """As above."""

    BEGIN = enum.auto()
    CONDEMN = enum.auto()
    CLEAR = enum.auto()
    """The savepoint in which it was condemned has been rolled back."""
    END = enum.auto()
    COMMIT = enum.auto()
    ROLL_BACK = enum.auto()
    LOSE = enum.auto()


_STEPS: dict[tuple[State, Change], State] = {
    (State.IDLE, Change.BEGIN): State.OPEN,
    (State.IDLE, Change.CONDEMN): State.CONDEMNED,
    (State.IDLE, Change.END): State.ENDING,
    (State.OPEN, Change.CONDEMN): State.CONDEMNED,
    (State.OPEN, Change.END): State.ENDING,
    # Joined by a block before its first statement, and failed there: BEGIN changes nothing of that.
    (State.CONDEMNED, Change.BEGIN): State.CONDEMNED,
    (State.CONDEMNED, Change.CONDEMN): State.CONDEMNED,
    (State.CONDEMNED, Change.CLEAR): State.OPEN,
    (State.CONDEMNED, Change.END): State.ENDING,
    (State.ENDING, Change.COMMIT): State.COMMITTED,
    (State.ENDING, Change.ROLL_BACK): State.ROLLED_BACK,
    (State.ENDING, Change.LOSE): State.UNKNOWN,
}

ENDED = frozenset({State.ENDING, State.COMMITTED, State.ROLLED_BACK, State.UNKNOWN})
"""Nothing may be sent there any more."""


class ImpossibleStepError(Exception):
    """A transaction was told to do what it cannot do in its state: a fault of this library."""


def after(state: State, change: Change) -> State:
    """Return the state that a change leads to.

    Raises:
        ImpossibleStepError: There is no such step.
    """
    following = _STEPS.get((state, change))
    if following is None:
        raise ImpossibleStepError(f"no {change.name} in state {state.name}")
    return following
