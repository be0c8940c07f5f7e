"""This module knows which row an entity is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from sqlalchemy import inspect

from unitwork.errors import StaleRowError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import InstanceState

M = TypeVar("M")


def held_in(session: AsyncSession, entity: M) -> M:
    """Return the object that a session holds for the row of an entity, else the entity itself."""
    state: InstanceState[M] = inspect(entity)
    if state.key is None:
        return entity
    return cast("M", session.sync_session.identity_map.get(state.key, entity))


def key_of(entity: object) -> object:
    """Return the primary key of an entity, for a person."""
    identity = inspect(entity).identity
    if identity is None:
        return "a new row"
    return identity[0] if len(identity) == 1 else tuple(identity)


def stale_row(entity: type, keys: Sequence[object]) -> StaleRowError:
    """Build the error for rows with these keys, one of which somebody else has changed meanwhile."""
    told = "of one of these: " + ", ".join(map(repr, keys)) if len(keys) > 1 else repr(keys[0])
    return StaleRowError(entity.__name__, told)
