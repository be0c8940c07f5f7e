"""This module knows the words that people bring from other libraries, and what they are called here."""

from __future__ import annotations

from collections.abc import Mapping

_OURS = {
    "commit": "leave it out. A block commits at its end, a call outside of blocks commits by itself, "
    "and on a session of yours `await session.commit()` does",
    "on_conflict_index_elements": "write `index_elements=` in its place",
}


def refuse_foreign(method: str, keywords: Mapping[str, object]) -> None:
    """Refuse keywords that a method does not have.

    Raises:
        TypeError: There is one; it says our word for it, if there is.
    """
    for name in keywords:
        fix = f"\n  Fix: {_OURS[name]}." if name in _OURS else ""
        raise TypeError(f"{method}() has no keyword {name!r}.{fix}")
