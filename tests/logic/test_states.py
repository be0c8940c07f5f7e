"""A transaction goes from state to state by the allowed steps alone."""

from itertools import product

import pytest

from unitwork._logic.states import ENDED, Change, ImpossibleStepError, State, after

FINAL = {State.COMMITTED, State.ROLLED_BACK, State.UNKNOWN}


def steps() -> dict[tuple[State, Change], State]:
    """Every step that is allowed, found by trying all."""
    found: dict[tuple[State, Change], State] = {}
    for state, change in product(State, Change):
        try:
            found[state, change] = after(state, change)
        except ImpossibleStepError:
            continue
    return found


def reachable(begin: State) -> set[State]:
    """The states that can follow."""
    seen, todo = {begin}, [begin]
    while todo:
        state = todo.pop()
        for (before, _change), following in steps().items():
            if before is state and following not in seen:
                seen.add(following)
                todo.append(following)
    return seen


def test_every_state_can_be_reached_from_the_beginning() -> None:
    """No state is there for nothing."""
    assert reachable(State.IDLE) == set(State)


@pytest.mark.parametrize("state", sorted(FINAL, key=str))
def test_final_states_are_final(state: State) -> None:
    """Committed is a point of no return, and so are the other ends."""
    assert reachable(state) == {state}
    for change in Change:
        with pytest.raises(ImpossibleStepError):
            after(state, change)


@pytest.mark.parametrize("state", [state for state in State if state not in FINAL])
def test_every_other_state_can_end(state: State) -> None:
    """Whatever happens, a transaction can be rolled back."""
    assert State.ROLLED_BACK in reachable(state)


def test_only_an_ending_transaction_commits() -> None:
    """COMMIT comes when nobody can come in any more; what is condemned is never open again by itself."""
    assert {state for (state, change) in steps() if change is Change.COMMIT} == {State.ENDING}
    assert {change for (state, change), to in steps().items() if state is State.CONDEMNED and to is State.OPEN} == {
        Change.CLEAR
    }


def test_what_has_ended_admits_nobody() -> None:
    """The states in which nothing may be sent are those from which no statement follows."""
    assert {state for state in State if State.OPEN not in reachable(state)} == ENDED
