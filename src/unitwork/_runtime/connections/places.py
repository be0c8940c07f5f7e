"""This module says which line of a program has opened a block."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import sqlalchemy

_UNITWORK = Path(__file__).parents[2]
_ASYNCIO = Path(asyncio.__file__).parent
_FOLDERS = (_UNITWORK, _ASYNCIO, Path(sqlalchemy.__file__).parent)
_LIBRARIES = ("<", *(f"{folder}{os.sep}" for folder in _FOLDERS))
_LOOPS = tuple(str(_ASYNCIO / f"{module}.py") for module in ("base_events", "events", "runners"))
_ANONYMOUS = re.compile(r" at (.+:\d+)$")


class FunctionName(str):
    """The name of a function as messages have it, which knows where the function is written."""

    __slots__ = ("place",)

    place: str
    """As `file:line`."""


def name_of(function: Callable[..., object]) -> FunctionName:
    """Return what messages call a function."""
    module = getattr(function, "__module__", None) or "?"
    name = FunctionName(f"{module}.{getattr(function, '__qualname__', repr(function))}")
    code = getattr(function, "__code__", None)
    name.place = f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""
    return name


def written_at(name: str) -> str | None:
    """Return where the block of this name is written, as far as the name knows: as `file:line`."""
    if isinstance(name, FunctionName):
        # Those of the library itself are called everywhere.
        return None if name.place.startswith(_LIBRARIES) else name.place or None
    found = _ANONYMOUS.search(name)
    return found[1] if found is not None else None


def opener_of(name: str) -> str | None:
    """Return what opens a block of this name: where it is written, else the line of the program that runs.

    None where the task that runs is one of the library alone.
    """
    found = written_at(name)
    frame: FrameType | None = sys._getframe(1) if found is None else None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_LOOPS):
            return None
        if not file.startswith(_LIBRARIES):
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return found
