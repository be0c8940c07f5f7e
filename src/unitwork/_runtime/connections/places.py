"""This module says which line of a program something came from: a block, or a statement."""

from __future__ import annotations

import asyncio
import os
import re
import sysconfig
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import sqlalchemy

from unitwork._runtime.stack import callers

_UNITWORK = Path(__file__).parents[2]
_FOLDERS = (_UNITWORK, *(Path(str(module.__file__)).parent for module in (asyncio, sqlalchemy)))
_LIBRARIES = ("<", *(f"{folder}{os.sep}" for folder in _FOLDERS))
# Programs that come with the package, and are those of a user all the same.
_EXAMPLES = f"{_UNITWORK / '_examples'}{os.sep}"
_INSTALLED = tuple(f"{sysconfig.get_path(kind)}{os.sep}" for kind in ("purelib", "platlib", "stdlib"))
_LOOPS = tuple(str(Path(asyncio.__file__).parent / name) for name in ("events.py", "runners.py"))
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
        return None if _is_ours(name.place) else name.place or None
    found = _ANONYMOUS.search(name)
    return found[1] if found is not None else None


def opener_of(name: str) -> str | None:
    """Return what opens a block of this name: where it is written, else the line of the program that runs.

    None where the task that runs is one of the library alone.
    """
    return written_at(name) or call_site(within_task=True)


def call_site(*, within_task: bool = False) -> str | None:
    """Return `file:line` of the innermost code that belongs neither to unitwork nor to SQLAlchemy.

    Args:
        within_task: In no installed package, if there is such, and not that of whoever runs the loop.
    """
    asked: str | None = None
    for frame in callers():
        file = frame.f_code.co_filename
        if not _is_ours(file):
            place = f"{file}:{frame.f_lineno}"
            if not (within_task and file.startswith(_INSTALLED)):
                return place
            asked = asked or place
        elif within_task and file in _LOOPS:
            break
    return asked


@lru_cache(maxsize=4096)
def _is_ours(file: str) -> bool:
    return file.startswith(_LIBRARIES) and not file.startswith(_EXAMPLES)
