"""This module tells what is so now on a Database: its connections, who waits for whom, its replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unitwork.database import Database


def present(database: Database) -> dict[str, Any]:
    """Return it, for JSON. Sends nothing, and connects nothing."""
    return {
        "name": database.name,
        "kind": database.source.backend.dialect,
        "pools": [],
        "turns": [],
        "servers": [],
    }
