"""This module holds what a test may demand of the statements that its code sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitwork.errors import OptionError
from unitwork.testing.recorder import Recorder, only_databases

if TYPE_CHECKING:
    from types import TracebackType

    from unitwork.database import Database

_SHOWN = 50


class _Demand(Recorder):
    """Records, and complains at the end unless an exception is leaving already."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        complaint = self.complaint() if error is None else None
        if complaint is not None:
            __tracebackhide__ = True
            raise AssertionError(complaint)

    def complaint(self) -> str | None:
        """Return what is wrong, or None."""
        raise NotImplementedError


class _Counted(_Demand):
    def __init__(self, databases: tuple[Database, ...], most: int | None, exactly: int | None) -> None:
        super().__init__(databases)
        self._most = most
        self._exactly = exactly

    def complaint(self) -> str | None:
        number = len(self)
        if self._exactly is not None and number != self._exactly:
            return self._told(f"{number} statements were sent, but {self._exactly} are expected.")
        if self._most is not None and number > self._most:
            return self._told(f"{number} statements were sent, but at most {self._most} are allowed.")
        return None

    def _told(self, sentence: str) -> str:
        shown = [f"  {place}. {statement}" for place, statement in enumerate(self, 1)][:_SHOWN]
        more = len(self) - len(shown)
        return "\n".join([sentence, *shown, *([f"  and {more} more"] if more else [])])


class _Unrepeated(_Demand):
    def __init__(self, databases: tuple[Database, ...], at_most: int) -> None:
        super().__init__(databases)
        self._at_most = at_most

    def complaint(self) -> str | None:
        lines = []
        for statement, number in self.repeated(self._at_most):
            lines.append(f"  {number} times: {statement.sql}")
            lines += [f"    sent by {place}" for place in self.senders(statement.sql)]
        if not lines:
            return None
        sentence = f"The same statement was sent more than {_times(self._at_most)}."
        fix = "  Fix: read all rows with one statement (`in_`, a join, `selectinload`), or allow more."
        return "\n".join([sentence, *lines, fix])


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def assert_queries(
    *databases: Database,
    max: int | None = None,  # noqa: A002  # the word that a reader expects
    exactly: int | None = None,
) -> Recorder:
    """Demand that a `with` block sends few statements, such as `max=3`.

    Args:
        *databases: Those that are counted; without any, all that are alive when the block begins.
        max: At most so many.
        exactly: Just as many.

    Raises:
        AssertionError: There were more (or not just as many); the message lists them. At the end.
        OptionError: Neither `max` nor `exactly` is given, or a number without either.

    Examples:
        >>> with assert_queries(db, max=1):
        ...     await Repository[User](db).all()
        []
    """
    chosen = only_databases(databases, "max", "exactly")
    if max is None and exactly is None:
        raise OptionError("max", max, ["a number, or `exactly`"])
    return _Counted(chosen, max, exactly)


def assert_no_repeats(*databases: Database, at_most: int = 1) -> Recorder:
    """Demand that a `with` block sends no statement again and again (N+1).

    Two statements are the same when their text is; parameters do not count.

    Args:
        *databases: Those that are recorded; without any, all that are alive when the block begins.
        at_most: How often the same text may be sent.

    Raises:
        AssertionError: One was sent more often; the message has its text, how often it was sent, and
            the lines of code that sent it. At the end.
        OptionError: A number is given without `at_most`.

    Examples:
        >>> with assert_no_repeats(db, at_most=2):
        ...     users = await Repository[User](db).all()
    """
    return _Unrepeated(only_databases(databases, "at_most"), at_most)
