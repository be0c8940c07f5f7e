"""This module holds what is private in how SQLAlchemy loads what belongs to entities.

Each function does one thing that has no public name. A test fails when SQLAlchemy changes it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from sqlalchemy import Select

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import Load, Mapper, RelationshipProperty

S = TypeVar("S", bound=Select[Any])


class LoaderFound(NamedTuple):
    """How one attribute is to be loaded at one place of a statement."""

    strategy: dict[str, Any]
    """As its class says, or an option."""
    asked: bool
    """An option says so."""
    settings: frozenset[str]
    """The names of what it is told beyond that."""


def loader_of(attribute: Any, state: Any, path: Any) -> LoaderFound:  # noqa: ANN401  # of SQLAlchemy's
    """Return how an attribute is loaded for the entities that stand at a place of a compiled statement."""
    found = attribute._get_context_loader(state, path)  # noqa: SLF001
    strategy = found.strategy if found is not None and found.strategy else attribute.strategy_key
    if found is None:
        return LoaderFound(dict(strategy), asked=False, settings=frozenset())
    settings = frozenset(name for name, value in found.local_opts.items() if value is not None)
    return LoaderFound(dict(strategy), asked=True, settings=settings)


def set_for_later(
    relation: RelationshipProperty[Any],
    state: Any,  # noqa: ANN401  # of a compiled statement
    path: Any,  # noqa: ANN401  # of SQLAlchemy's
) -> list[Callable[..., object]]:
    """Return what is done to each entity for an option that leaves a relationship for later, or forbids it.

    Each is called with the state of an entity, its dictionary and a row, which is not looked at.
    """
    found: Any = relation._get_context_loader(state, path)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    strategy: Any = relation._get_strategy(found.strategy)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    context = SimpleNamespace(load_options=SimpleNamespace(_is_user_refresh=False), populate_existing=False)
    done: dict[str, list[tuple[str, Any]]] = {"new": []}
    strategy.create_row_processor(context, None, path, found, relation.parent, None, None, done)
    return [each for _key, each in done["new"]]


def in_order_of_loading(mapper: Mapper[Any]) -> Sequence[Any]:
    """Return the attributes of a class in the order in which SQLAlchemy loads them: that of a set."""
    return tuple(mapper._prop_set)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def root_path(mapper: Mapper[Any]) -> Any:  # noqa: ANN401  # a path of SQLAlchemy's
    """Return what SQLAlchemy calls the place of the entities that a statement selects."""
    return mapper._path_registry  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def joined_columns(state: Any, path: Any) -> Any:  # noqa: ANN401  # of SQLAlchemy's
    """Return the columns that a compiled statement has joined along a path, by those of the class."""
    adapter = path.get(state.attributes, "eager_row_processor")
    return None if adapter is None else adapter.columns


def repeats_rows(state: Any) -> bool:  # noqa: ANN401  # as above
    """Say whether rows of a compiled statement repeat because a collection is loaded by a join."""
    return bool(state.multi_row_eager_loaders)


def selects_from_itself(state: Any) -> bool:  # noqa: ANN401  # as above
    """Say whether a compiled statement stands inside another one, so that its limit does not count joins."""
    return state.compound_eager_adapter is not None


class AskedByKeys(NamedTuple):
    """How `selectinload` asks for the entities of a relationship."""

    columns: Sequence[Any]
    """What tells in each row to which key it belongs; they come before the entity."""
    condition: Any
    """What is compared with the keys: a column, or a tuple of them."""
    parent: Any
    """The alias of the class that has the relationship, if it is joined."""
    own: Sequence[Any] | None
    """The columns of the class itself which hold the keys; None if they are those of its entities."""


def asked_by_keys(relation: RelationshipProperty[Any]) -> AskedByKeys:
    """Return how `selectinload` asks for the entities of a relationship."""
    strategy: Any = relation._get_strategy((("lazy", "selectin"),))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    info = strategy._query_info  # noqa: SLF001
    parent = strategy._parent_alias if info.load_with_join else None  # noqa: SLF001
    return AskedByKeys(info.pk_cols, info.in_expr, parent, info.child_lookup_cols)


def secondary_join(relation: RelationshipProperty[Any]) -> Any:  # noqa: ANN401  # a condition
    """Return how the table between two others is joined with that of the related entities."""
    return relation._join_condition.secondaryjoin  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def loaded_along(statement: S, state: Any, path: Any) -> S:  # noqa: ANN401  # of a compiled statement, of SQLAlchemy's
    """Return a SELECT of what is loaded along a path from the entities of a compiled statement.

    The options of that one which go on from there hold for it.
    """
    found: Any = statement.options(*state.select_statement._with_options)  # noqa: SLF001
    found._compile_options = state.default_compile_options + {"_current_path": path}  # noqa: SLF001
    return cast("S", found)


def options_of(statement: Any) -> tuple[Any, ...]:  # noqa: ANN401  # a SELECT
    """Return the options that a statement has."""
    found: tuple[Any, ...] = statement._with_options  # noqa: SLF001
    return found


def has_conditions(option: Load) -> bool:
    """Say whether an option has conditions, as of `and_()`, at any place that it names."""
    return any(part._extra_criteria for part in option.context)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
