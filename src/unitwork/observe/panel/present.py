"""This module tells what is so now on a Database: its connections, who waits for whom, its replicas."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unitwork.database import Database


def present(database: Database) -> dict[str, Any]:
    """Return it, for JSON. Sends nothing, and connects nothing."""
    told: dict[str, Any] = {"name": database.name, "kind": database.source.backend.dialect}
    told["closed"] = database.source.engines.disposed
    try:
        now = dataclasses.asdict(database.snapshot())
    except Exception as error:  # noqa: BLE001  # such as a pool of the program's own that tells nothing
        return {**told, "servers": [], "sessions": [], "error": f"{type(error).__name__}: {error}"}
    return {**told, **now}
