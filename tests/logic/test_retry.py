"""Whether to try again, and how long to wait."""

from itertools import pairwise

import pytest

from unitwork import OptionError, RetryPolicy
from unitwork._logic.retry import delay_s, may_try_again


def test_wait_doubles_until_the_longest() -> None:
    """The longest possible wait doubles with each failure, and stops growing."""
    policy = RetryPolicy(first_delay_s=0.1, longest_delay_s=0.5)

    waits = [delay_s(policy, failed, 1.0) for failed in range(1, 6)]

    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])
    assert all(earlier <= later for earlier, later in pairwise(waits))


def test_wait_is_chosen_by_chance() -> None:
    """Those who failed together wait differently."""
    policy = RetryPolicy(first_delay_s=0.1)

    assert [delay_s(policy, 1, chance) for chance in (0.0, 0.5)] == pytest.approx([0.0, 0.05])


@pytest.mark.parametrize(("failed", "elapsed_s", "again"), [(1, 0, True), (3, 0, False), (1, 2, False)])
def test_attempts_and_time_are_limits(failed: int, elapsed_s: float, again: bool) -> None:  # noqa: FBT001
    """Neither more attempts than allowed, nor a new one after the time is over."""
    assert may_try_again(RetryPolicy(attempts=3, total_s=1), failed, elapsed_s) is again


@pytest.mark.parametrize("options", [{"attempts": 0}, {"first_delay_s": -1}, {"longest_delay_s": -1}])
def test_policy_refuses_numbers_out_of_range(options: dict[str, int]) -> None:
    """A policy that cannot work is refused where it is made."""
    with pytest.raises(OptionError):
        RetryPolicy(**options)
