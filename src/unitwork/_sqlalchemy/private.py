"""This module holds what is private in SQLAlchemy, and the same in all versions that are supported.

Each function does one thing that has no public name. A test fails when SQLAlchemy changes it.
"""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from sqlalchemy.orm import LoaderCallableStatus, PassiveFlag, Session
from sqlalchemy.orm.evaluator import UnevaluatableError
from sqlalchemy.orm.persistence import _sort_states  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType]
from sqlalchemy.sql.base import CompileState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Result
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty, SessionTransaction
    from sqlalchemy.pool import PoolProxiedConnection
    from sqlalchemy.sql.cache_key import CacheKey
    from sqlalchemy.types import TypeEngine

_SCHEMA_CHANGED = "_invalidate_schema_cache_asof"


def cache_key(statement: Any) -> CacheKey | None:  # noqa: ANN401  # any statement
    """Return what SQLAlchemy knows a statement by, whatever its values; memoized in there."""
    key: CacheKey | None = statement._generate_cache_key()  # noqa: SLF001  # as its extensions do
    return key


def selected_in(compiled: Any) -> list[tuple[tuple[Any, ...], TypeEngine[Any]]]:  # noqa: ANN401  # a compiled SELECT
    """Return what each column of a SELECT was written for (elements, and names), and its type."""
    return [(each.objects, each.type) for each in compiled._result_columns]  # noqa: SLF001  # its results look there


def has_loader_options(statement: Any) -> bool:  # noqa: ANN401  # a SELECT, UPDATE or DELETE
    """Say whether a statement has options such as `selectinload`: they can be added in public, not seen."""
    return bool(statement._with_options)  # noqa: SLF001


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


def label_of(column: ColumnElement[Any]) -> str:
    """Return what the ORM calls the value of a key by which it finds the row that it updates."""
    label: str = column._label  # type: ignore[assignment]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage, reportAssignmentType]
    return label


def variants_of(kind: TypeEngine[Any]) -> Iterable[TypeEngine[Any]]:
    """Return the types that stand in for one, each on a dialect of its own."""
    return kind._variant_mapping.values()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def takes_context(default: Any) -> bool:  # noqa: ANN401  # a `default` or `onupdate` that is called
    """Say whether what fills a column is given a context; what takes none is inside of a function that is."""
    module = getattr(default.arg, "__globals__", {}).get("__name__")
    return bool(module != type(default).__module__)


def is_orphan(state: InstanceState[Any]) -> bool:
    """Say whether a flush deletes an entity, or leaves it out, since it belongs to nothing any more."""
    orphaned: bool = state.mapper._is_orphan(state)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return orphaned and (state.has_identity or state._orphaned_outside_of_session)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def refers_by_key(relationship: RelationshipProperty[Any]) -> bool:
    """Say whether a session looks for a related entity by its primary key, among those that it holds."""
    return bool(relationship._use_get)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def referred_columns(mapper: Mapper[Any]) -> set[ColumnElement[Any]]:
    """Return the columns whose values a flush copies to related entities, of this class and of others."""
    of_others: Any = mapper._dependency_processors  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    related = [*mapper.relationships, *(each.prop for each in of_others)]
    return {source for each in related for source, _target in each.synchronize_pairs}


def has_waiting_mutations(state: InstanceState[Any]) -> bool:
    """Say whether a collection has changes that was not loaded."""
    return "_pending_mutations" in vars(state)


def mappers_in_order(mappers: Iterable[Mapper[Any]]) -> list[Mapper[Any]]:
    """Return mappers in the order in which a flush goes through those that are not related."""
    return sorted(mappers, key=lambda mapper: mapper._sort_key)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def states_in_order(mapper: Mapper[Any], states: list[InstanceState[Any]]) -> list[InstanceState[Any]]:
    """Return states of a mapper in the order in which a flush sends them."""
    if len(states) == 1:
        return states
    found: list[InstanceState[Any]] = _sort_states(mapper, states)  # type: ignore[no-untyped-call]
    return found


class _Touched(NamedTuple):
    """What a session is told of an UPDATE or DELETE that was sent past it, as by a result."""

    expired: Sequence[Any]
    compiled_parameters: Sequence[Mapping[str, Any]] = ({},)

    @property
    def context(self) -> _Touched:
        return self

    def prefetch_cols(self) -> Sequence[Any]:
        return ()

    def postfetch_cols(self) -> Sequence[Any]:
        return self.expired


class Evaluated(NamedTuple):
    """An UPDATE or DELETE whose condition SQLAlchemy can evaluate in Python, for entities that are held."""

    statement: Any
    plugin: Any
    options: Any

    @classmethod
    def of(cls, statement: Any, mapper: Mapper[Any]) -> Evaluated | None:  # noqa: ANN401  # an UPDATE or DELETE
        """Look at a statement; None if its condition can only be asked of the database."""
        plugin: Any = CompileState._get_plugin_class_for_plugin(statement, "orm")  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        options = plugin.default_update_options + {"_subject_mapper": mapper}
        try:
            condition = plugin._eval_condition_from_statement(options, statement)  # noqa: SLF001
        except UnevaluatableError:
            return None
        return cls(statement, plugin, options + {"_eval_condition": condition})

    def tell(self, session: Session, expired: Sequence[Any]) -> None:
        """Let the entities know that are held, as after a statement of the session's own.

        Args:
            session: It holds them.
            expired: The columns whose values only the database knows.
        """
        self.plugin._do_post_synchronize_evaluate(session, self.statement, _Touched(expired), self.options)  # noqa: SLF001


def has_modified(session: Session) -> bool:
    """Say whether an entity in a session, which is not to be deleted, is another than it was."""
    held: Any = session.identity_map
    for state in held._modified:  # noqa: SLF001
        if state in session._deleted:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            continue
        manager, values = state.manager, state.dict
        for key, before in state.committed_state.items():
            if before is LoaderCallableStatus.PASSIVE_NO_RESULT:
                return True  # what it was is for a flush to load
            history = manager[key].impl.get_history(state, values, PassiveFlag.NO_CHANGE)
            if history.added or history.deleted:
                return True
        entity = state.obj()
        if entity is not None and session.is_modified(entity):
            return True  # in a collection that is not loaded
    return False


def goes_row_by_row(compiled: Any) -> bool:  # noqa: ANN401  # as below
    """Say whether a flush sends row after row, since the database cannot tell which of many is which."""
    many = compiled._insertmanyvalues  # noqa: SLF001
    return many is not None and many.sort_by_parameter_order and many.sentinel_columns is None


def text_for_rows(compiled: Any, count: int) -> str | None:  # noqa: ANN401  # an INSERT for many rows
    """Return the SQL that inserts so many rows and returns them numbered, as a flush has it.

    The number is the last column; the parameters are those of the rows one after the other, or end with the
    place of their row. None if the database, or what the rows are given, makes no such numbers.
    """
    many = compiled._insertmanyvalues  # noqa: SLF001
    if many is None or not many.implicit_sentinel or count > compiled.dialect.insertmanyvalues_page_size:
        return None
    names = list(compiled.bind_names.values())
    if compiled.positional and many.num_positional_params_counted != len(names):
        return None
    rows: list[Any] = [dict.fromkeys(names)] * count
    given = [(None,) * len(names)] * count if compiled.positional else rows
    (batch,) = compiled._deliver_insertmanyvalues_batches(  # noqa: SLF001
        compiled.string, given, rows, None, count, many.sort_by_parameter_order, None
    )
    text: str = batch.replaced_statement
    return text


def waiting_states(
    session: Session,
) -> tuple[list[InstanceState[Any]], list[InstanceState[Any]], list[InstanceState[Any]]]:
    """Return what a flush would insert, look at for changes, and delete."""
    deleted = session._deleted  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the public ones copy them all
    modified: Any = session.identity_map._modified  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    new = session._new  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return list(new), [state for state in modified if state not in deleted], list(deleted)


def register_flushed(
    session: Session, saved: Iterable[InstanceState[Any]], deleted: Iterable[InstanceState[Any]]
) -> None:
    """Let a session know what was inserted, updated and deleted, as the end of a flush does."""
    session._remove_newly_deleted(deleted)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    session._register_persistent(set(saved))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def fail_flush(session: Session, error: BaseException) -> None:
    """Undo what a session holds, as a flush does that has failed, and raise the error."""
    transaction: Any = session._autobegin_t()._begin()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    try:
        raise error  # noqa: TRY301  # what is raised now is what SQLAlchemy remembers
    except BaseException:
        # A cancellation goes on, also where the database has ended what is to be rolled back with it.
        with nullcontext() if isinstance(error, Exception) else suppress(Exception):
            transaction.rollback(_capture_exception=True)
        raise


async def begin_on_driver(adapted: Any) -> None:  # noqa: ANN401  # SQLAlchemy's for this driver
    """Send the BEGIN that SQLAlchemy would send with the next statement (asyncpg)."""
    await adapted._start_transaction()  # noqa: SLF001  # or the driver's own would be none of SQLAlchemy's


def fail_as_adapted(adapted: Any, error: Exception) -> NoReturn:  # noqa: ANN401  # SQLAlchemy's for this driver
    """Raise what SQLAlchemy makes of an error of the driver."""
    adapted._handle_exception(error)  # noqa: SLF001  # as it does itself
    raise error


def return_unreset(held: PoolProxiedConnection) -> None:
    """Return a connection to its pool without the ROLLBACK that SQLAlchemy sends to be sure."""
    held._close_special(transaction_reset=True)  # noqa: SLF001  # as a `Connection` does


def connection_of(transaction: SessionTransaction | None) -> Connection | None:
    """Return the connection that a session has taken for this transaction, or for those around it."""
    begun: Any = None
    while transaction is not None and not begun:
        begun = transaction._connections  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # by connection and by engine
        transaction = transaction.parent
    return next((each[0] for each in begun.values()), None) if begun else None


def is_changed(session: Session) -> bool:
    """Say whether a session has something to send: `new`, `dirty` and `deleted` copy all that they return."""
    if session._new or session._deleted:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return True
    held: Any = session.identity_map
    return bool(held._modified) and has_modified(session)  # noqa: SLF001


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
    state.committed_state.clear()  # what is in there would not be loaded again


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


def own_listeners(target: Any) -> list[tuple[str, Callable[..., Any]]]:  # noqa: ANN401  # whatever has events
    """Return who listens to an engine, a pool or a dialect itself, not to its class, and to what."""
    own: Any = getattr(target.dispatch, "local", target.dispatch)  # one with options has two
    collections = list(own._event_descriptors)  # noqa: SLF001  # no public way tells of all
    return [(each.name, listener) for each in collections for listener in each.listeners]


def fail_without_cursor(
    connection: Connection,
    error: BaseException,
    sql: str,
    parameters: Any,  # noqa: ANN401  # of any driver
) -> None:
    """Fail as a statement does for which there is no cursor: its class of error, its events, what follows."""
    try:
        raise error  # noqa: TRY301  # SQLAlchemy looks for what is being handled: nothing in a new greenlet
    except BaseException:  # noqa: BLE001  # raised again by that
        connection._handle_dbapi_exception(error, sql, parameters, None, None)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
