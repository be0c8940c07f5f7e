"""This module keeps Python's garbage collector away while thousands of objects are made that all stay."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class CollectorPaused:
    """Within it nothing is collected: for work that waits for nobody. Lives: one `with`.

    The collector would look through all that there is again and again, which takes longer than the work.
    """

    __slots__ = ("_collects",)

    def __enter__(self) -> None:
        self._collects = gc.isenabled()
        gc.disable()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._collects:
            gc.enable()
