"""This module reaches up: to the edges, for methods whose work needs an outside library."""

from __future__ import annotations

import importlib
from typing import Any


def edge(module: str) -> Any:  # noqa: ANN401  # a module, found when it is needed
    """Return a module of an edge, such as `integrations.alembic`; the one import that does not point down.

    Raises:
        MissingExtraError: Its outside library is not installed.
    """
    return importlib.import_module(f"unitwork.{module}")
