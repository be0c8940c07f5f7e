"""This module says what may lend connections in place of the pools of a Database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

    from sqlalchemy.ext.asyncio import AsyncEngine

    from unitwork.errors import TransactionRefusedError


class StandIn(Protocol):
    """Lends one connection to all who ask an engine for one, such as the connection of a test.

    Attributes:
        loop: The only event loop that it serves.
        engine: What lends.
    """

    loop: asyncio.AbstractEventLoop
    engine: AsyncEngine

    def in_another_loop(self) -> TransactionRefusedError:
        """Build the error for whoever asks in another event loop."""
        ...

    def open(self) -> list[str]:
        """Say whose connections are still in use."""
        ...

    def waiting(self) -> list[str]:
        """Say who waits for a turn."""
        ...
