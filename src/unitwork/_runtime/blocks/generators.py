"""This module finds out whether a block is held by an async generator, and who drives that."""

from __future__ import annotations

import asyncio
import dis
import sys
from functools import lru_cache
from inspect import CO_ASYNC_GENERATOR
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType, FrameType

_LOOP = asyncio.Handle._run.__code__  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no other way to know it
"""What takes the steps of tasks in asyncio's own event loop: all that has called the code is below it."""
_NEXT = "GET_ANEXT"
_STEPS_OF_WAITING = 6
"""Instructions from the one that asks for the next item to the last that waits for it, in all Pythons."""


def caller_in_generator(depth: int = 1) -> FrameType | None:
    """Return the frame of Python so far above, if an async generator may be below it; None if there is none.

    asyncio's own event loop knows all that were iterated in it; of others nothing is known.
    """
    known: Any = getattr(asyncio.get_running_loop(), "_asyncgens", None)
    if known is not None and not len(known):
        return None
    return sys._getframe(depth + 1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # as `inspect.currentframe`


def iterated_generator(caller: FrameType | None) -> CodeType | None:
    """Return the async generator that this frame is in, if `async for` asks for its items.

    Its consumer is another piece of code, which must not find itself in the generator's block. One that is
    driven in another way (`@asynccontextmanager`, a dependency, a fixture) opens it for whoever drives it.
    """
    while caller is not None:
        code = caller.f_code
        if code.co_flags & CO_ASYNC_GENERATOR:
            consumer = caller.f_back
            if consumer is not None and consumer.f_lasti in _waits(consumer.f_code):
                return code
        elif code is _LOOP:
            return None
        caller = caller.f_back
    return None


@lru_cache(maxsize=500)
def _waits(code: CodeType) -> frozenset[int]:
    """Return the places in a code where it waits for the next item of `async for`."""
    instructions = list(dis.get_instructions(code))
    places: set[int] = set()
    for number, instruction in enumerate(instructions):
        if instruction.opname == _NEXT:
            places.update(each.offset for each in instructions[number : number + _STEPS_OF_WAITING])
    return frozenset(places)
