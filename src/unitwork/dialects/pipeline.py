"""This module ends pipelines of psycopg around many statements, also if they were interrupted at once."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType


def end_pipelines(driver: Any) -> None:  # noqa: ANN401  # a connection of psycopg, which need not be installed
    """Let each pipeline that a connection begins for `executemany` end."""
    kind: Any = type(driver)
    if not hasattr(kind, "unitwork_ends_pipelines"):
        driver.__class__ = _ending_pipelines(kind)


@cache
def _ending_pipelines(kind: Any) -> Any:  # noqa: ANN401  # as above
    class Connection(kind):  # type: ignore[misc]  # as above
        __slots__ = ()
        unitwork_ends_pipelines = True

        def _pipeline_nolock(self) -> _Pipeline:
            return _Pipeline(self, super()._pipeline_nolock())

    return Connection


class _Pipeline:
    """What `executemany` sends its statements in. Lives: one call.

    If its task is cancelled while this begins, the driver raises an AssertionError in place of the
    cancellation, and leaves the connection in a pipeline, where the next one fails.

    Args:
        driver: A connection of psycopg.
        inside: The driver's own way to be in one.
    """

    def __init__(self, driver: Any, inside: AbstractAsyncContextManager[object]) -> None:  # noqa: ANN401  # as above
        self._driver = driver
        self._inside = inside

    async def __aenter__(self) -> object:
        try:
            return await self._inside.__aenter__()
        except BaseException as error:
            self._leave()
            interrupted = error.__context__
            if isinstance(error, AssertionError) and interrupted is not None:
                raise interrupted from None
            raise

    def _leave(self) -> None:
        """Leave a pipeline in which nothing was sent."""
        driver = self._driver
        driver._pipeline = None  # noqa: SLF001  # as the driver does
        if not driver.closed and driver.pgconn.pipeline_status:
            driver.pgconn.exit_pipeline_mode()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._inside.__aexit__(kind, error, trace)
