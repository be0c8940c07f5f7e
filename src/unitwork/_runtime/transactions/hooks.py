"""This module keeps the functions that wait for the end of a transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutine
from typing import TypeAlias

from unitwork.errors import OptionError

Hook: TypeAlias = Callable[[], object | Awaitable[object]]


def check_hook(function: object) -> None:
    """Refuse what cannot be called, before the transaction that it would wait for is committed.

    Raises:
        OptionError: It is no function, such as what calling an `async def` function returns.
    """
    if callable(function):
        return
    if iscoroutine(function):
        function.close()
    raise OptionError("function", function, ["a function without arguments, such as `lambda: send(order)`"])


class Hooks:
    """The functions registered in one frame. Lives: as long as the frame."""

    __slots__ = ("after_commit", "after_rollback", "at_end", "before_commit")

    def __init__(self) -> None:
        self.before_commit: list[Hook] = []
        self.after_commit: list[Hook] = []
        self.after_rollback: list[Hook] = []
        self.at_end: list[Callable[[], None]] = []

    def take_over(self, other: Hooks) -> None:
        """Add what another frame hands on, behind what is here."""
        self.before_commit += other.before_commit
        self.after_commit += other.after_commit
        self.after_rollback += other.after_rollback
        self.at_end += other.at_end

    def tell_end(self) -> None:
        """Tell whoever lives as long as this frame that it has ended, whichever way."""
        while self.at_end:
            self.at_end.pop(0)()
