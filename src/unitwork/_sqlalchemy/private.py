"""This module holds what is private in SQLAlchemy, and the same in all versions that are supported.

Each function does one thing that has no public name. A test fails when SQLAlchemy changes it.
"""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from sqlalchemy import Select
from sqlalchemy.orm import Session
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Result
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty, Session, SessionTransaction
    from sqlalchemy.pool import PoolProxiedConnection
    from sqlalchemy.sql.cache_key import CacheKey
    from sqlalchemy.types import TypeEngine

M = TypeVar("M")
S = TypeVar("S", bound=Select[Any])

_SCHEMA_CHANGED = "_invalidate_schema_cache_asof"


def cache_key(statement: Any) -> CacheKey | None:  # noqa: ANN401  # any statement
    """Return what SQLAlchemy knows a statement by, whatever its values; memoized in there."""
    key: CacheKey | None = statement._generate_cache_key()  # noqa: SLF001  # as its extensions do
    return key


class WatchedSelect(Select[M]):
    """A `Select` that knows whether it was written as SQL, or looked for among those that were.

    One of both is done with a statement that is sent, by itself or inside another.
    """

    inherit_cache = True
    written = False

    @override
    def _gen_cache_key(self, am: Any, bindparams: Any) -> Any:
        self.written = True
        return super()._gen_cache_key(am, bindparams)

    @override
    def _compiler_dispatch(self, visitor: Any, **options: Any) -> Any:
        self.written = True
        return super()._compiler_dispatch(visitor, **options)


def selected_in(compiled: Any) -> list[tuple[tuple[Any, ...], TypeEngine[Any]]]:  # noqa: ANN401  # a compiled SELECT
    """Return what each column of a SELECT was written for (elements, and names), and its type."""
    return [(each.objects, each.type) for each in compiled._result_columns]  # noqa: SLF001  # its results look there


def has_loader_options(statement: Any) -> bool:  # noqa: ANN401  # a SELECT, UPDATE or DELETE
    """Say whether a statement has options such as `selectinload`: they can be added in public, not seen."""
    return bool(statement._with_options)  # noqa: SLF001


class LoaderFound(NamedTuple):
    """How one attribute is to be loaded at one place of a statement."""

    strategy: dict[str, Any]
    """As its class says, or an option."""
    asked: bool
    """An option says so."""
    settings: frozenset[str]
    """The names of what it is told beyond that; "and_" for conditions of its own."""


def loader_of(attribute: Any, state: Any, path: Any) -> LoaderFound:  # noqa: ANN401  # of SQLAlchemy's
    """Return how an attribute is loaded for the entities that stand at a place of a compiled statement."""
    found = attribute._get_context_loader(state, path)  # noqa: SLF001
    strategy = found.strategy if found is not None and found.strategy else attribute.strategy_key
    if found is None:
        return LoaderFound(dict(strategy), asked=False, settings=frozenset())
    settings = {name for name, value in found.local_opts.items() if value is not None}
    if found._extra_criteria:  # noqa: SLF001
        settings.add("and_")
    return LoaderFound(dict(strategy), asked=True, settings=frozenset(settings))


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


def mark_loaded(state: InstanceState[Any]) -> None:
    """Make what an entity holds now what the database holds; what it does not hold was NULL there."""
    state._commit_all(state.dict)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def needs_unique(result: Result[Any]) -> bool:
    """Say whether rows of a result repeat because a collection is loaded by a join.

    SQLAlchemy refuses to read them without `unique()`.
    """
    return getattr(result, "_unique_filter_state", None) is not None


def rows_fetched(cursor: Any) -> int | None:  # noqa: ANN401  # as SQLAlchemy adapts it
    """Return how many rows a statement has given or changed; None where that is not known yet, or never."""
    if getattr(cursor, "server_side", False):
        return None
    fetched = getattr(cursor, "_rows", None)
    count: int = len(fetched) if fetched is not None and cursor.description else cursor.rowcount
    return count if count >= 0 else None


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


def end_quietly(session: Session) -> None:
    """End the transaction of a session without a flush and without expiring, undoing or detaching anything.

    Its connections are let go of, not committed.
    """
    transaction = session.get_transaction()
    while transaction is not None:
        transaction.close()
        transaction = session._transaction  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the one around a savepoint


def note_new(session: Session, state: InstanceState[Any]) -> None:
    """Let the innermost transaction of a session know that it has inserted an entity, as a flush does."""
    transaction: Any = session.get_nested_transaction() or session.get_transaction()
    transaction._new[state] = True  # noqa: SLF001  # what a rollback makes new again


async def begin_on_driver(adapted: Any) -> None:  # noqa: ANN401  # SQLAlchemy's for this driver
    """Send the BEGIN that SQLAlchemy would send with the next statement (asyncpg)."""
    await adapted._start_transaction()  # noqa: SLF001  # or the driver's own would be none of SQLAlchemy's


def return_unreset(held: PoolProxiedConnection) -> None:
    """Return a connection to its pool without the ROLLBACK that SQLAlchemy sends to be sure."""
    held._close_special(transaction_reset=True)  # noqa: SLF001  # as a `Connection` does


def savepoint_names(transaction: SessionTransaction) -> set[str]:
    """Return what the savepoint that a session has begun is called on its connections, where it was sent."""
    begun: Any = transaction._connections  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # by connection and by engine
    return {getattr(each[1], "_savepoint", "") for each in begun.values()}


def connection_of(transaction: SessionTransaction | None) -> Connection | None:
    """Return the connection that a session has taken for this transaction, or for those around it."""
    begun: Any = None
    while transaction is not None and not begun:
        begun = transaction._connections  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # by connection and by engine
        transaction = transaction.parent
    return next((each[0] for each in begun.values()), None) if begun else None


def has_unsent(session: Session) -> bool:
    """Say whether entities wait in a session to be inserted or deleted: `new` and `deleted` copy them all."""
    return bool(session._new or session._deleted)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


class _Watched(set["InstanceState[Any]"]):
    """The states of a session that have changes; tells of each when its first change is made."""

    def __init__(self, known: set[InstanceState[Any]], tell: Callable[[InstanceState[Any]], None]) -> None:
        super().__init__(known)
        self._tell = tell

    def add(self, state: InstanceState[Any], /) -> None:
        self._tell(state)
        super().add(state)


def watch_changes(session: Session, tell: Callable[[InstanceState[Any]], None]) -> None:
    """Call a function in the code that changes an entity of the session, when it does; it may raise.

    An entity that has changes already is not told of again before they are sent.
    """
    held: Any = session.identity_map
    if not isinstance(held._modified, _Watched):  # noqa: SLF001  # InstanceState puts itself in there
        held._modified = _Watched(held._modified, tell)  # noqa: SLF001


def ignore_changes(session: Session) -> None:
    """Tell of changes no more."""
    held: Any = session.identity_map
    if isinstance(held._modified, _Watched):  # noqa: SLF001  # as above
        held._modified = set(held._modified)  # noqa: SLF001


def forget_changes(state: InstanceState[Any]) -> None:
    """Take back that an entity has changes, where the first of them was refused."""
    state.modified = False


def add_listener(engine: Any, name: str, listener: Callable[..., object]) -> None:  # noqa: ANN401  # as below
    """Listen to an event of an engine as `event.listen` with `retval=True` does, but at one stroke.

    SQLAlchemy changes the very collection that others may go through now, here or in another thread: these
    would raise an error in the middle of their statement.
    """
    collection = getattr(engine.dispatch, name).for_modify(engine.dispatch)
    collection.listeners = deque((*collection.listeners, listener))
    engine._has_events = True  # noqa: SLF001  # as the event itself does


def remove_listener(engine: Any, name: str, listener: Callable[..., object]) -> None:  # noqa: ANN401  # not in its type
    """Listen to it no more, in the same way."""
    collection = getattr(engine.dispatch, name)
    collection.listeners = deque(each for each in collection.listeners if each != listener)


def fail_without_cursor(
    connection: Connection,
    error: BaseException,
    sql: str,
    parameters: Any,  # noqa: ANN401  # of any driver
) -> None:
    """Fail as a statement does for which there is no cursor: its class of error, its events, what follows."""
    connection._handle_dbapi_exception(error, sql, parameters, None, None)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
