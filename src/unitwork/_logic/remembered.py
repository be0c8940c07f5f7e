"""This module keeps what is known of a class, such as of a model, where nobody else writes it down."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import inspect as inspect_entity

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Mapper

K = TypeVar("K", bound=type)
T = TypeVar("T")


def once_for_class(make: Callable[[K], T]) -> Callable[[K], T]:
    """Let what is made of a class be remembered; mypy counts no class as something to remember by."""
    return cast("Callable[[K], T]", lru_cache(make))


def remembered(entity: type[Any], name: str, made: Callable[[type[Any], Mapper[Any]], T]) -> T:
    """Return what is known of a model under this name; made at its first use.

    Not kept in `Table.info`, which Alembic writes into migrations.
    """
    mapper: Mapper[Any] = vars(entity).get("__mapper__") or inspect_entity(entity)
    return known_of_mapper(mapper, name, lambda mapper: made(entity, mapper))


def known_of_mapper(mapper: Mapper[Any], name: str, made: Callable[[Mapper[Any]], T]) -> T:
    """Return what is known of the model of a mapper, as `remembered`."""
    known = mapper.class_manager.info
    if name not in known:
        known[name] = made(mapper)
    found: T = known[name]
    return found
