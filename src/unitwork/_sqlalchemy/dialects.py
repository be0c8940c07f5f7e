"""This module names what stands in modules that may not be imported: each dialect of SQLAlchemy takes long.

An object of a class exists only where the module of the class was imported: to ask for it imports nothing.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.dialects import mysql, postgresql, sqlite
else:

    class _Later:
        """A module that is imported when something of it is needed."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> object:
            return getattr(importlib.import_module(self._name), name)

    mysql, postgresql, sqlite = (
        _Later(f"sqlalchemy.dialects.{name}") for name in ("mysql", "postgresql", "sqlite")
    )

__all__ = ["is_of", "mysql", "postgresql", "sqlite"]


def is_of(value: object, module: str, *names: str) -> bool:
    """Say whether an object is of one of these classes of a module, which is not imported for that."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, tuple(getattr(loaded, name, ()) for name in names))
