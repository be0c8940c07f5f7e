"""This module names what stands in modules that may not be imported: each dialect of SQLAlchemy takes long.

An object of a class exists only where the module of the class was imported: to ask for it imports nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from unitwork._later import later

if TYPE_CHECKING:
    from sqlalchemy.dialects import mysql, postgresql, sqlite
else:
    mysql, postgresql, sqlite = (
        later(f"sqlalchemy.dialects.{name}") for name in ("mysql", "postgresql", "sqlite")
    )

__all__ = ["is_of", "mysql", "postgresql", "sqlite"]


def is_of(value: object, module: str, *names: str) -> bool:
    """Say whether an object is of one of these classes of a module, which is not imported for that."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, tuple(getattr(loaded, name, ()) for name in names))
