"""This module holds the row locks that a read may take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from unitwork.errors import OptionError

if TYPE_CHECKING:
    from sqlalchemy.sql.selectable import ForUpdateArg

Lock: TypeAlias = Literal["update", "share", "skip_locked", "nowait"]
_LOCKS: Mapping[str, Mapping[str, bool]] = {
    "update": {},
    "share": {"read": True},
    "skip_locked": {"skip_locked": True},
    "nowait": {"nowait": True},
}


def lock_of(lock: Lock | None) -> ForUpdateArg | None:
    """Return what SQLAlchemy takes for a lock.

    Raises:
        OptionError: There is no such lock.
    """
    if lock is None:
        return None
    if lock not in _LOCKS:
        raise OptionError("lock", lock, [repr(known) for known in _LOCKS])
    return cast("ForUpdateArg", dict(_LOCKS[lock]) or True)
