"""This package holds what the tests of a program need: statements counted, leaks found, databases lent."""

from unitwork.testing.assertions import assert_no_repeats, assert_queries
from unitwork.testing.leaks import no_leaks
from unitwork.testing.recorder import Recorder, Statement, statements

__all__ = ["Recorder", "Statement", "assert_no_repeats", "assert_queries", "no_leaks", "statements"]
