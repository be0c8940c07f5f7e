"""This module remembers of an error that nothing was stored of what it has ended.

So it is with a connection that could not be opened, and with one that was lost before COMMIT was sent.
"""

from __future__ import annotations

_MARK = "_unitwork_nothing_stored"


def nothing_stored_with(error: BaseException) -> None:
    """Take note that the connection of this error has stored nothing, and never will."""
    setattr(error, _MARK, True)


def has_stored_nothing(error: BaseException) -> bool:
    """Say whether that is known. Of a statement that commits by itself it never is."""
    return getattr(error, _MARK, False)
