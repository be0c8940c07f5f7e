"""This module adds to a database error which query it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitwork._runtime.lanes.calls import Call


class Noted:
    """Adds to a database error which query it came from. Lives: one call."""

    __slots__ = ("_call", "_name", "_place")

    def __init__(self, place: Callable[[], str], name: str, call: Call | None) -> None:
        self._place = place
        self._name = name
        self._call = call

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SQLAlchemyError):
            self.note(error)

    def note(self, error: SQLAlchemyError) -> None:
        """Add to an error which query it came from."""
        error.add_note(f"While running query {self._name}{self._place()}{self._parameters()}.")

    def _parameters(self) -> str:
        call = self._call
        names = (call.names or tuple(call.parameters or ())) if call is not None else ()
        return f" (parameters: {', '.join(names)})" if names else ""
