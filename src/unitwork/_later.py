"""This module names modules that are imported when something of them is needed: most programs need few."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["later"]


class _Later:
    """A module that is imported when something of it is asked for. What was asked for is kept."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> object:
        value = getattr(importlib.import_module(self._name), name)
        setattr(self, name, value)
        return value


def later(name: str) -> Any:  # noqa: ANN401  # a module
    """Return what stands for a module until something of it is needed.

    For type checkers the module is imported beside it, under `TYPE_CHECKING`.
    """
    return _Later(name)
