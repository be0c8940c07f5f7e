"""This module makes the fetches of a streamed result take turns with the tasks that share its session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from sqlalchemy.ext.asyncio import AsyncMappingResult, AsyncResult, AsyncScalarResult

from unitwork._sqlalchemy.versions import part_source

if TYPE_CHECKING:
    from sqlalchemy import Result


_Fetch = TypeVar("_Fetch", bound=Callable[..., Coroutine[Any, Any, Any]])

_FETCHES = (
    "all",
    "close",
    "fetchall",
    "fetchmany",
    "fetchone",
    "first",
    "freeze",
    "one",
    "one_or_none",
    "scalar",
    "scalar_one",
    "scalar_one_or_none",
    "__anext__",
)


class StreamingSession(Protocol):
    """A session whose results are fetched in turns."""

    async def fetch(self, rows: Coroutine[Any, Any, object]) -> object:
        """Fetch more rows, when it is this task's turn."""
        ...


class TurnedResult(AsyncResult[Any]):
    """An `AsyncResult` whose fetches wait for their turn. Its transaction closes it at the end."""

    __slots__ = ("__weakref__", "ambient")

    def __init__(self, result: Result[Any], ambient: StreamingSession) -> None:
        super().__init__(result)
        self.ambient = ambient

    def scalars(self, index: Any = 0) -> AsyncScalarResult[Any]:  # noqa: ANN401  # as SQLAlchemy's
        """As `AsyncResult.scalars`."""
        return _TurnedScalars(self, index)

    def mappings(self) -> AsyncMappingResult:
        """As `AsyncResult.mappings`."""
        return _TurnedMappings(self)

    async def partitions(self, size: int | None = None) -> AsyncIterator[Sequence[Any]]:
        """As `AsyncResult.partitions`."""
        while rows := await self.fetchmany(size):
            yield rows


class _TurnedScalars(AsyncScalarResult[Any]):
    __slots__ = ("ambient",)

    def __init__(self, turned: TurnedResult, index: Any) -> None:  # noqa: ANN401  # as SQLAlchemy's
        super().__init__(part_source(turned), index)
        self.ambient = turned.ambient

    async def partitions(self, size: int | None = None) -> AsyncIterator[Sequence[Any]]:
        while rows := await self.fetchmany(size):
            yield rows


class _TurnedMappings(AsyncMappingResult):
    __slots__ = ("ambient",)

    def __init__(self, turned: TurnedResult) -> None:
        super().__init__(part_source(turned))
        self.ambient = turned.ambient

    async def partitions(self, size: int | None = None) -> AsyncIterator[Sequence[Any]]:
        while rows := await self.fetchmany(size):
            yield rows


def _in_turn(fetch: _Fetch) -> _Fetch:
    @wraps(fetch)
    async def run(self: TurnedResult, *arguments: Any, **keywords: Any) -> object:
        return await self.ambient.fetch(fetch(self, *arguments, **keywords))

    return cast("_Fetch", run)


for _kind in (TurnedResult, _TurnedScalars, _TurnedMappings):
    for _name in _FETCHES:
        if hasattr(_kind, _name):
            setattr(_kind, _name, _in_turn(getattr(_kind, _name)))
