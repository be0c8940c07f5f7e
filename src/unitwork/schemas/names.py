"""This module names fields."""

from __future__ import annotations

from pydantic import BaseModel

__all__: list[str] = []


def field_name(key: str) -> str:
    """Return the name of an attribute's field; one that Pydantic uses itself gets an underscore."""
    return f"{key}_" if hasattr(BaseModel, key) else key
