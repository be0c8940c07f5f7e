"""This module decides what a conflict of a new row with a stored one is about."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, Index, Table, UniqueConstraint

from unitwork.errors import ConflictTargetError

Key = tuple[str, ...]


class OnConflict(enum.Enum):
    """What to do with a row whose key is stored already."""

    FAIL = "fail"
    NOTHING = "nothing"
    UPDATE = "update"


def unique_keys(table: Table) -> list[Key]:
    """Return the keys of the columns of each unique key, the primary key first."""
    constraints = {_names(key.columns) for key in table.constraints if isinstance(key, UniqueConstraint)}
    indexes = {_names(index.columns) for index in table.indexes if index.unique and _is_whole(index)}
    others = sorted(constraints | indexes)
    return [_names(table.primary_key.columns), *others] if table.primary_key.columns else others


def _names(columns: Iterable[Column[Any]]) -> Key:
    return tuple(column.key for column in columns)


def _is_whole(index: Index) -> bool:
    """Say whether an index covers plain columns of all rows."""
    partial = any(
        name.endswith("_where") and value is not None for name, value in index.dialect_kwargs.items()
    )
    return not partial and all(isinstance(part, Column) for part in index.expressions)


def check_target(table: Table, columns: Sequence[str]) -> None:
    """Refuse columns that no unique key covers exactly.

    Raises:
        ConflictTargetError: There is no such key.
    """
    keys = unique_keys(table)
    if not any(set(key) == set(columns) for key in keys):
        raise ConflictTargetError(table.name, columns, keys)
