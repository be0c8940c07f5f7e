"""This module holds the one connection that everything runs on while `db.rolled_back()` is open."""

from __future__ import annotations


class Pinned:
    """The one connection of a Database, and who uses it. Lives: as long as `rolled_back()`."""
