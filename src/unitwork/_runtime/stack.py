"""This module walks from the code that runs to what has called it, through the greenlets of SQLAlchemy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any


def callers(depth: int = 0) -> Iterator[FrameType]:
    """Yield the frame so far above that of the caller, and those around it, innermost first."""
    frame: FrameType | None = sys._getframe(depth + 1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # as `inspect.stack`, much faster
    # SQLAlchemy imports it when it needs it first.
    greenlet: Any = sys.modules.get("greenlet")
    thread: Any = None if greenlet is None else greenlet.getcurrent()
    while frame is not None:
        yield frame
        frame = frame.f_back
        while frame is None and thread is not None and thread.parent is not None:
            # SQLAlchemy runs in greenlets; what awaits it is suspended in the one around.
            thread = thread.parent
            frame = thread.gr_frame
