"""This module sends reads to the primary, where replicas could answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitwork._runtime import context

if TYPE_CHECKING:
    from types import TracebackType


class ReadFromPrimary:
    """What `db.primary()` returns. Lives: one `with` or `async with`."""

    __slots__ = ("_servers",)

    def __init__(self, servers: object) -> None:
        self._servers = servers

    def __enter__(self) -> None:
        context.read_latest(self._servers, on=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        context.read_latest(self._servers, on=False)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
