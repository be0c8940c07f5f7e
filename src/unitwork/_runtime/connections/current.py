"""This module is the engine that a program may keep: of whichever event loop it is used in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncEngine
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine


class CurrentEngine(AsyncEngine):
    """An `AsyncEngine` that is, at each use, the one of the event loop that runs.

    Lives: as long as its Database. A module may take it before any loop runs, and several loops may use it.

    Args:
        find: Returns SQLAlchemy's engine for the loop that runs.
    """

    __slots__ = ("_find",)

    def __init__(self, find: Callable[[], Engine]) -> None:
        # AsyncEngine.__init__ would tie it to one engine.
        self._find = find

    @property
    def sync_engine(self) -> Engine:  # type: ignore[override]  # fixed in SQLAlchemy's
        """SQLAlchemy's own engine, of the event loop that runs."""
        return self._find()

    @override
    def execution_options(self, **opt: Any) -> AsyncEngine:
        return CurrentEngine(_WithOptions(self._find, opt))


class _WithOptions:
    """Finds the engine of the loop that runs, with execution options of its own."""

    def __init__(self, find: Callable[[], Engine], options: dict[str, Any]) -> None:
        self._find = find
        self._options = options
        self._known: tuple[Engine, Engine] | None = None

    def __call__(self) -> Engine:
        engine = self._find()
        if self._known is None or self._known[0] is not engine:
            self._known = (engine, engine.execution_options(**self._options))
        return self._known[1]
