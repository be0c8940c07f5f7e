"""This module finds the line of a program that a statement came from."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from types import FrameType

import greenlet
import sqlalchemy

_UNITWORK = Path(__file__).parents[1]
_FOLDERS = (_UNITWORK, *(Path(str(module.__file__)).parent for module in (asyncio, greenlet, sqlalchemy)))
_LIBRARIES = ("<", *(f"{folder}{os.sep}" for folder in _FOLDERS))


def call_site() -> str:
    """Return `file:line` of the innermost code that belongs neither to unitwork nor to SQLAlchemy."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    thread: greenlet.greenlet | None = greenlet.getcurrent()
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_LIBRARIES):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
        while frame is None and thread is not None and thread.parent is not None:
            # SQLAlchemy runs in greenlets; what awaits it is suspended in the one around.
            thread = thread.parent
            frame = thread.gr_frame
    return "a place that is not known"
