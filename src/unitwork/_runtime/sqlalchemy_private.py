"""This module holds what is private in SQLAlchemy, or differs between its versions.

Each function does one thing that has no public name. A test fails when SQLAlchemy changes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.engine.result import SimpleResultMetaData

if TYPE_CHECKING:
    from sqlalchemy import Result, Select
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import InstanceState
    from sqlalchemy.sql.cache_key import CacheKey

_SCHEMA_CHANGED = "_invalidate_schema_cache_asof"


def cache_key(statement: Any) -> CacheKey | None:  # noqa: ANN401  # any statement
    """Return what SQLAlchemy knows a statement by, whatever its values; memoized in there."""
    key: CacheKey | None = statement._generate_cache_key()  # noqa: SLF001  # as its extensions do
    return key


def has_loader_options(statement: Select[Any]) -> bool:
    """Say whether a statement has options such as `selectinload`: they can be added in public, not seen."""
    return bool(statement._with_options)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def mark_loaded(state: InstanceState[Any]) -> None:
    """Make what an entity holds now what the database holds; what it does not hold was NULL there."""
    state._commit_all(state.dict)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def entity_result(name: str, entity: Any) -> SimpleResultMetaData:  # noqa: ANN401  # class or alias
    """Return the description of a result whose only column is an entity, each of which counts once."""
    return SimpleResultMetaData([name], [(entity,)], _create_unique_filters=lambda _result: [id])


def needs_unique(result: Result[Any]) -> bool:
    """Say whether rows of a result repeat because a collection is loaded by a join.

    SQLAlchemy refuses to read them without `unique()`.
    """
    return getattr(result, "_unique_filter_state", None) is not None


def heard_of_schema(connection: Any, dialect: Dialect) -> bool:  # noqa: ANN401  # as SQLAlchemy adapts it
    """Say whether a connection knows of all changes of the schema that SQLAlchemy has noticed (asyncpg)."""
    noticed: float = getattr(dialect, _SCHEMA_CHANGED, 0)
    return not noticed or noticed <= getattr(connection, _SCHEMA_CHANGED, noticed)


def tell_schema(target: Any, dialect: Dialect) -> None:  # noqa: ANN401  # a connection or cursor, as above
    """Tell a connection, or a cursor that SQLAlchemy has not set up, when the schema last changed."""
    if hasattr(target, _SCHEMA_CHANGED):
        setattr(target, _SCHEMA_CHANGED, getattr(dialect, _SCHEMA_CHANGED, 0))


def schema_has_changed(dialect: Dialect) -> None:
    """Let all connections of a dialect learn that the schema has changed (asyncpg)."""
    notice = getattr(dialect, "_invalidate_schema_cache", None)
    if notice is not None:
        notice()
