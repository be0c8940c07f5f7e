"""This module names modules that are imported when something of them is needed: most programs need few."""

from __future__ import annotations

import importlib
from typing import Any

from unitwork._collector import CollectorPaused

__all__ = ["later", "load"]


class _Named:
    """What stands for a module. Lives: as long as the program."""

    __slots__ = ("__dict__", "_name_of_module")

    _name_of_module: str


class _Loaded(_Named):
    """A module that has been imported: it has the very attributes of the module."""

    __slots__ = ()


class _Later(_Named):
    """A module that is imported when something of it is asked for."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        self._name_of_module = name

    def __getattr__(self, name: str) -> object:
        load(self)
        return getattr(self, name)


def later(name: str) -> Any:  # noqa: ANN401  # a module
    """Return what stands for a module until something of it is needed.

    For type checkers the module is imported beside it, under `TYPE_CHECKING`. Annotations that name something
    of it, as `module.Name`, are known to `typing.get_type_hints` too.
    """
    return _Later(name)


def load(*modules: Any) -> None:
    """Import modules now, so that nobody waits for them later. Several threads may do so at once."""
    with CollectorPaused():  # a program keeps what it has imported: there is nothing to collect
        for each in modules:
            if isinstance(each, _Named):
                # In this order: who finds the attributes needs no `__getattr__` any more.
                name = each._name_of_module  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # its own
                each.__dict__ = vars(importlib.import_module(name))
                each.__class__ = _Loaded
