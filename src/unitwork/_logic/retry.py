"""This module decides whether to try again, and how long to wait before."""

from __future__ import annotations

from unitwork.options import RetryPolicy


def delay_s(policy: RetryPolicy, failed_attempts: int, chance: float) -> float:
    """Return the seconds to wait after so many failed attempts.

    The longest possible wait doubles each time; `chance`, from 0 to 1, chooses within it, so that
    those who failed together do not come back together.
    """
    longest: float = policy.first_delay_s * 2 ** (failed_attempts - 1)
    return min(longest, policy.longest_delay_s) * chance


def may_try_again(policy: RetryPolicy, failed_attempts: int, elapsed_s: float) -> bool:
    """Say whether another attempt is allowed after so many failed ones, in this time."""
    in_time = policy.total_s is None or elapsed_s < policy.total_s
    return failed_attempts < policy.attempts and in_time
