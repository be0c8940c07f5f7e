"""This module prepares statements that need no session: compiled once, with the values of one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.util import LRUCache

from unitwork._logic.routing import LaneRefusal
from unitwork._logic.shape import Item, Rows, Shape
from unitwork._runtime.connections.listeners import SessionListeners
from unitwork._runtime.lanes.calls import StatementCall
from unitwork._runtime.lanes.changes import ChangeCall, CompiledChange
from unitwork._runtime.lanes.eager import compiled_read
from unitwork._runtime.lanes.flushes import (
    Flush,
    FlushCall,
    Insertion,
    NewRow,
    planned,
    planned_deletion,
    planned_insertion,
)
from unitwork._runtime.lanes.inserts import CompiledInsert, InsertCall, given_values
from unitwork._runtime.lanes.known import VALUES, KnownStatements
from unitwork._runtime.lanes.many_inserts import CompiledInserts
from unitwork._runtime.lanes.mappings import MAPPINGS
from unitwork._runtime.lanes.reads import ReadCall
from unitwork._runtime.lanes.results import ResultReader
from unitwork._runtime.lanes.row_changes import CompiledRowChange, RowChangeCall, RowsOfModel
from unitwork.options import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Select
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import InstanceState, Mapper

    from unitwork._runtime.lanes.calls import Call
    from unitwork._runtime.lanes.known import Ready
    from unitwork._runtime.lanes.needs import Connections
    from unitwork._runtime.lanes.reads import CompiledRead

C = TypeVar("C")

_KNOWN_INSERTS = 500
_FLUSH = "flush"
_ENTITIES = ResultReader("a statement of the session", Shape(Rows.MANY, Item.ENTITY))
_COLUMN = ResultReader("a statement of the session", Shape(Rows.MANY, Item.SCALAR))
_HARMLESS_OPTIONS = frozenset({"expire_on_commit", "autoflush"})

NO_FASTER = LaneRefusal("the Database was told to use no faster one")
_PINNED = LaneRefusal("all work of this Database is rolled back")
_SESSION_OPTIONS = LaneRefusal("the sessions of this Database have options of their own")
_NO_CONNECTION_YET = LaneRefusal("no connection has been opened yet")
_REPEATS = LaneRefusal("its rows repeat, and need unique()")
_COMMIT_EXPIRES = LaneRefusal("the commit expires it")
_CHANGING_IS_HEARD = LaneRefusal("somebody listens to entities being changed")
_INSERTING_IS_HEARD = LaneRefusal("somebody listens to entities being inserted")
# Looked up once: the class of an enum takes long for that in Python 3.11.
_SLOWEST = Lane.SESSION


class CompiledStatements:
    """The statements of one Database that need no session. Lives: as long as its lanes.

    What is asked for is returned with the values of one call, or a refusal: it would not be the same without
    the session.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.fastest = Lane.DRIVER
        self._reads = KnownStatements(compiled_read, self._dialect)
        self._changes = KnownStatements(CompiledChange.of, self._dialect)
        self._inserts: LRUCache[Any, CompiledInsert | LaneRefusal] = LRUCache(_KNOWN_INSERTS)
        self._many_inserts: LRUCache[Any, CompiledInserts | LaneRefusal | None] = LRUCache(_KNOWN_INSERTS)
        self._models: LRUCache[Any, RowsOfModel | LaneRefusal] = LRUCache(_KNOWN_INSERTS)
        self._row_changes: LRUCache[Any, CompiledRowChange | LaneRefusal] = LRUCache(_KNOWN_INSERTS)
        self._mapped = MAPPINGS.changes
        self._has_options = not _HARMLESS_OPTIONS.issuperset(connections.session_options)
        # Never used, but what is being inserted belongs to it.
        self._claiming = Session()
        self.session_listeners = SessionListeners(lambda: connections.session_class.sync_session_class)

    def obstacle_below(self) -> LaneRefusal | None:
        """Say what of this Database's engine, or of its settings, would be passed by now, if anything."""
        if self._mapped != MAPPINGS.changes:
            self._forget()
        if self.fastest is _SLOWEST:
            return NO_FASTER
        if self._connections.pinned is not None:
            return _PINNED
        if self._has_options:
            return _SESSION_OPTIONS
        return self._connections.home().listeners.foreign()

    def _obstacle(self) -> LaneRefusal | None:
        """Say what on this Database would be passed by now, if anything."""
        return self.obstacle_below() or self.session_listeners.of_reads()

    def _forget(self) -> None:
        """Forget what was prepared for mappings that have changed."""
        self._mapped = MAPPINGS.changes
        prepared: Sequence[LRUCache[Any, Any] | KnownStatements[Any]] = (
            self._reads,
            self._changes,
            self._inserts,
            self._many_inserts,
            self._models,
            self._row_changes,
        )
        for each in prepared:
            each.clear()

    def _dialect(self) -> Dialect | LaneRefusal:
        """Return the dialect, if it knows the server; what is compiled before is for another one."""
        dialect = self._connections.dialect()
        known = getattr(dialect, "server_version_info", None) is not None
        return dialect if known else _NO_CONNECTION_YET

    # -- reads -----------------------------------------------------------------------------------

    def read(
        self, reader: ResultReader, call: StatementCall, identity: tuple[Any, ...] | None = None
    ) -> ReadCall | LaneRefusal:
        """Prepare a read."""
        ready = self._obstacle() or self._reads.ready(call, shortens=True)
        return ready if isinstance(ready, LaneRefusal) else _filled(ready, reader, identity)

    def read_of(self, statement: Select[Any]) -> ReadCall | LaneRefusal:
        """Prepare a statement that a session is given: for its entities, or its only column."""
        ready = self._obstacle() or self._reads.ready(StatementCall(statement), shortens=False)
        if isinstance(ready, LaneRefusal):
            return ready
        if ready.prepared.repeats:
            return _REPEATS
        return _filled(ready, _COLUMN if ready.prepared.mapper is None else _ENTITIES)

    def _once(
        self,
        known: LRUCache[Any, C | LaneRefusal],
        key: Any,  # noqa: ANN401  # whatever tells things of a kind apart
        prepare: Callable[..., C | LaneRefusal],
        *what: object,
    ) -> C | LaneRefusal:
        """Return what is prepared of something already, or is now, for the dialect; or why it is not."""
        found = known.get(key)
        if found is None:
            dialect = self._dialect()
            if isinstance(dialect, LaneRefusal):
                return dialect
            found = known[key] = prepare(*what, dialect)
        return found

    # -- rows by a condition ---------------------------------------------------------------------

    def change(self, name: str, call: Call) -> ChangeCall | LaneRefusal:
        """Prepare an UPDATE or DELETE."""
        ready = self._obstacle() or self._changes.ready(call, shortens=True)
        if isinstance(ready, LaneRefusal):
            return ready
        try:
            return ChangeCall(ready.prepared, name, ready.call, ready.fill())
        except Exception:  # noqa: BLE001  # the session lane raises what is right
            return VALUES

    # -- one new entity --------------------------------------------------------------------------

    def insert(self, name: str, entity: object, held: Session | None = None) -> InsertCall | LaneRefusal:
        """Prepare the INSERT of a new entity, but for what Python fills in.

        Args:
            name: What sends it, for people.
            entity: Any object.
            held: The session that is to hold it.
        """
        obstacle = self._insert_obstacle(held)
        if obstacle is not None:
            return obstacle
        try:
            row = self.new_row(entity)
            return row if isinstance(row, LaneRefusal) else row.call(name, entity, held)
        except Exception:  # noqa: BLE001  # the session lane raises what is right
            return VALUES

    def fill_in(self, insert: InsertCall) -> LaneRefusal | None:
        """Let Python fill in what a new entity was not given, right before it is sent."""
        try:
            return insert.fill_in()
        except Exception:  # noqa: BLE001  # the session lane raises what is right
            return VALUES

    def insertion(self, entities: Sequence[object], held: Session | None) -> Insertion | LaneRefusal:
        """Prepare the INSERT of new entities at once, if they are of one kind.

        Args:
            entities: Any objects.
            held: The session that is to hold them.
        """
        obstacle = self._insert_obstacle(held)
        if obstacle is not None:
            return obstacle
        try:
            return planned_insertion(entities, held, self)
        except Exception:  # noqa: BLE001  # the session lane raises what is right
            return VALUES

    def _insert_obstacle(self, held: Session | None) -> LaneRefusal | None:
        """Say why nothing that is new is inserted past the session, if so."""
        obstacle = self.flush_obstacle(held)
        if obstacle is None and self._connections.session_options.get("expire_on_commit"):
            return _COMMIT_EXPIRES
        return obstacle

    def new_row(
        self, entity: object, *, pending: bool = False, like: NewRow | None = None
    ) -> NewRow | LaneRefusal:
        """Return the statement of a new entity, and the values that it has been given.

        Args:
            entity: Any object.
            pending: It waits in a session.
            like: One before it, which may be of the same kind.
        """
        given = given_values(entity, pending=pending)
        if isinstance(given, LaneRefusal):
            return given
        mapper, values = given
        if like is not None and like.insert.mapper is mapper and like.values.keys() == values.keys():
            return NewRow(like.insert, values)
        key = (mapper, frozenset(values))
        known = self._once(self._inserts, key, CompiledInsert.of, *key)
        if isinstance(known, LaneRefusal):
            return known
        return _INSERTING_IS_HEARD if known.observed else NewRow(known, values)

    # -- what waits in a session -------------------------------------------------------------------

    def flush_obstacle(self, held: Session | None) -> LaneRefusal | None:
        """Say what of a flush would be passed by now, if anything."""
        return self._obstacle() or self.session_listeners.of_flushes(held)

    def flush(self, held: Session) -> Flush | LaneRefusal:
        """Prepare what waits in a session."""
        obstacle = self.flush_obstacle(held)
        if obstacle is not None:
            return obstacle
        try:
            return planned(held, self)
        except Exception:  # noqa: BLE001  # the session lane raises what is right
            return VALUES

    def deletion(self, entity: object, held: Session) -> Flush | LaneRefusal:
        """Prepare the DELETE of an entity that a session holds, which has nothing else to send."""
        obstacle = self.flush_obstacle(held)
        if obstacle is not None:
            return obstacle
        try:
            return planned_deletion(entity, held, self)
        except Exception:  # noqa: BLE001  # the session lane raises what is right
            return VALUES

    def waiting_insert(self, entity: object, held: Session) -> InsertCall | LaneRefusal:
        """Prepare the INSERT of an entity that waits in a session."""
        row = self.new_row(entity, pending=True)
        return row if isinstance(row, LaneRefusal) else row.call(_FLUSH, entity, held)

    def inserts(self, calls: Sequence[InsertCall]) -> Sequence[FlushCall] | LaneRefusal | None:
        """Prepare the INSERT of several entities at once; None if the ORM sends one by one."""
        one = calls[0].insert
        key = (one.mapper, one.given)
        if key not in self._many_inserts:
            dialect = self._dialect()
            if isinstance(dialect, LaneRefusal):
                return dialect
            self._many_inserts[key] = CompiledInserts.of(one, dialect)
        found = self._many_inserts[key]
        return found.calls(calls) if isinstance(found, CompiledInserts) else found

    def rows_of(self, mapper: Mapper[Any]) -> RowsOfModel | LaneRefusal:
        """Return what rows of a model need when they are changed."""
        found = self._models.get(mapper)
        if found is None:
            found = self._models[mapper] = RowsOfModel.of(mapper)
        return found

    def row_change(
        self, model: RowsOfModel, state: InstanceState[Any], changed: frozenset[str] | None
    ) -> RowChangeCall | LaneRefusal:
        """Prepare the UPDATE of these attributes of an entity, or its DELETE, if there are none."""
        key = (model.mapper, changed)
        found = self._once(self._row_changes, key, CompiledRowChange.of, model, changed)
        if isinstance(found, LaneRefusal):
            return found
        return _CHANGING_IS_HEARD if found.observed else found.call(state, _FLUSH)

    def claim(self, entity: object) -> InstanceState[Any]:
        """Let a new entity belong to a session until it is released: no other task may add it meanwhile."""
        claimed: InstanceState[Any] = instance_state(entity)
        claimed.session_id = self._claiming.hash_key
        return claimed

    def release(self, claimed: InstanceState[Any]) -> None:
        """End that, unless another session holds it by now."""
        if claimed.session_id == self._claiming.hash_key:
            claimed.session_id = None


def _filled(
    ready: Ready[CompiledRead], reader: ResultReader, identity: tuple[Any, ...] | None = None
) -> ReadCall | LaneRefusal:
    read = ready.prepared
    misfit = read.misfit(reader)
    if misfit is not None:
        return misfit
    try:
        return ReadCall(read, reader, ready.call, ready.fill(), identity, read.loading(reader.name))
    except Exception:  # noqa: BLE001  # the session lane raises what is right
        return VALUES
