"""This module names fields."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

from unitwork.schemas.entity import EntitySchema

__all__: list[str] = []


def field_names(keys: Iterable[str]) -> dict[str, str]:
    """Return the name of each attribute's field: its own, unless Python or Pydantic cannot have that."""
    wanted = {key: _possible(key) for key in keys}
    # Who can keep a name comes before who would get it.
    in_turn = sorted(wanted, key=lambda key: wanted[key] != key)
    taken: set[str] = set()
    names: dict[str, str] = {}
    for key in in_turn:
        names[key] = free_name(wanted[key], taken)
        taken.add(names[key])
    return {key: names[key] for key in wanted}


def free_name(name: str, taken: Iterable[str]) -> str:
    """Return a name with as many underscores at its end as it needs to be none of the others."""
    others = frozenset(taken)
    while name in others:
        name += "_"
    return name


def _possible(key: str) -> str:
    name = re.sub(r"\W", "_", key)
    if not name[:1].isidentifier() or name.startswith("_"):
        name = f"field_{name.lstrip('_')}"
    return f"{name}_" if keyword.iskeyword(name) or hasattr(EntitySchema, name) else name
