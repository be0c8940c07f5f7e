"""This module plans what a flush sends, in the order of the ORM, where each entity is a row of its own."""

from __future__ import annotations

from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state
from typing_extensions import override

from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.lanes.inserts import InsertCall
from unitwork._runtime.lanes.many_inserts import InsertsCall, not_all_inserted
from unitwork._runtime.lanes.row_changes import RowChangeCall, RowChangesCall, RowsOfModel
from unitwork._sqlalchemy.private import (
    is_orphan,
    mappers_in_order,
    register_flushed,
    states_in_order,
    waiting_states,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import InstanceState, Mapper

    from unitwork._runtime.lanes.inserts import CompiledInsert
    from unitwork.dialects.direct import Rows

_ORPHAN = LaneRefusal("it belongs to nothing any more")
_TWICE = LaneRefusal("the same entity is added twice")
_SEVERAL_KINDS = LaneRefusal("they are of several models, or have been given other attributes")
_KNOWN_KEY = LaneRefusal("the session holds an entity with this key")
_NOT_HELD = LaneRefusal("the session does not hold it")
_RELATED = LaneRefusal("what waits is related")

FlushCall: TypeAlias = InsertCall | InsertsCall | RowChangeCall | RowChangesCall
Step: TypeAlias = "tuple[Sequence[InstanceState[Any]], Sequence[FlushCall]]"
"""Entities, and what is sent before they know of it: nothing, if nothing of them is another than before."""


class NewRow(NamedTuple):
    """What is to be inserted, and by which statement."""

    insert: CompiledInsert
    values: dict[str, Any]
    """Those that the entity has been given."""

    def call(self, name: str, entity: object, held: Session | None) -> InsertCall | LaneRefusal:
        """Return the statement with all of its values, unless the session knows their key."""
        arguments = self.insert.arguments(self.values)
        if isinstance(arguments, LaneRefusal):
            return arguments
        identity = self.insert.identity(self.values)
        if identity is not None and held is not None and identity in held.identity_map:
            return _KNOWN_KEY
        return InsertCall(self.insert, name, entity, self.values, arguments)


class Preparing(Protocol):
    """What prepares the statements."""

    def rows_of(self, mapper: Mapper[Any]) -> RowsOfModel | LaneRefusal:
        """Return what rows of a model need when they are changed."""
        ...

    def new_row(self, entity: object, *, like: NewRow | None) -> NewRow | LaneRefusal:
        """Return the statement of a new entity, and its values; those before it may be like it."""
        ...

    def waiting_insert(self, entity: object, held: Session) -> InsertCall | LaneRefusal:
        """Prepare the INSERT of an entity that waits in a session."""
        ...

    def inserts(self, calls: Sequence[InsertCall]) -> Sequence[FlushCall] | LaneRefusal | None:
        """Prepare the INSERT of several entities at once; None if the ORM sends one by one."""
        ...

    def row_change(
        self, model: RowsOfModel, state: InstanceState[Any], changed: frozenset[str] | None
    ) -> RowChangeCall | LaneRefusal:
        """Prepare the UPDATE of these attributes of an entity, or its DELETE, if there are none."""
        ...


class Noting(Protocol):
    """A transaction that takes note of what a session does not know that has not begun."""

    def inserted(self, entity: object) -> None:
        """Take note of what a rollback makes new again."""
        ...

    def deleted(self, state: InstanceState[Any]) -> None:
        """Take note of what a rollback brings back."""
        ...


class Flush:
    """What waits in a session, as statements. Lives: while they are sent."""

    def __init__(self, saves: Sequence[Step], deletes: Sequence[Step]) -> None:
        self.steps = [*saves, *deletes]
        self._saves = len(saves)

    def fill_in(self) -> LaneRefusal | None:
        """Let Python fill in what it does when rows are written; say why the ORM must do that, if so."""
        calls = chain.from_iterable(calls for _states, calls in self.steps)
        return next(filter(None, (call.fill_in() for call in calls)), None)

    def take(self, place: int, answers: Sequence[Rows | LaneRefusal], held: Session) -> LaneRefusal | None:
        """Let the entities of a step know what the database has answered; say why the ORM must send it.

        Raises:
            sqlalchemy.orm.exc.FlushError: A part of what belongs together was not inserted.
            sqlalchemy.orm.exc.StaleDataError: The row of an entity is not there.
        """
        states, calls = self.steps[place]
        for call, rows in zip(calls, answers, strict=True):
            refusal = rows if isinstance(rows, LaneRefusal) else call.flushed(rows, held)
            if refusal is not None and len(calls) > 1:
                raise not_all_inserted(states[0].mapper)
            if refusal is not None:
                return refusal
        return None

    def register(self, done: int, held: Session, transaction: Noting) -> None:
        """Let the session know of the first steps, which are done; and the transaction, if need be."""
        saved = [state for states, _call in self.steps[: min(done, self._saves)] for state in states]
        deleted = [state for states, _call in self.steps[self._saves : done] for state in states]
        if not Session.in_transaction(held):
            for state in saved:
                if state.key is None:
                    transaction.inserted(state.obj())
            for state in deleted:
                transaction.deleted(state)
        register_flushed(held, saved, deleted)


class Insertion(Flush):
    """New entities of one model that wait in no session yet. Lives: while they are sent."""

    def __init__(self, saves: Sequence[Step], insert: CompiledInsert) -> None:
        super().__init__(saves, ())
        self._insert = insert

    @override
    def register(self, done: int, held: Session, transaction: Noting) -> None:
        for states, _calls in self.steps[:done]:
            for state in states:
                entity = state.obj()
                self._insert.hold(entity, held)
                transaction.inserted(entity)


def planned(held: Session, preparing: Preparing) -> Flush | LaneRefusal:
    """Plan what a session would flush; or say why only the ORM can."""
    new, modified, deleted = waiting_states(held)
    models = _models((*new, *modified, *deleted), preparing)
    if isinstance(models, LaneRefusal):
        return models
    saves: list[Step] = []
    deletes: list[Step] = []
    mappers = mappers_in_order(models)
    for mapper in mappers:
        refusal = _deletes(deletes, models[mapper], _of(mapper, deleted), preparing)
        if refusal is not None:
            return refusal
    states = (*new, *modified, *deleted)
    if any(_is_related(state, models, alone=len(states) == 1) for state in states):
        return _RELATED
    for mapper in mappers:
        refusal = _updates(saves, models[mapper], _of(mapper, modified), preparing)
        refusal = refusal or _inserts(saves, _of(mapper, new), preparing, held)
        if refusal is not None:
            return refusal
    # What Python fills in comes last: where the ORM has to send it, it is asked again.
    flush = Flush(saves, deletes)
    return flush.fill_in() or flush


def planned_insertion(
    entities: Sequence[object], held: Session | None, preparing: Preparing
) -> Insertion | LaneRefusal:
    """Plan the INSERT of new entities that wait in no session, if they are of one kind."""
    rows = _new_rows(entities, preparing)
    if isinstance(rows, LaneRefusal):
        return rows
    calls: list[InsertCall] = []
    for entity, row in zip(entities, rows, strict=True):
        call = row.call("add_all", entity, held)
        if isinstance(call, LaneRefusal):
            return call
        calls.append(call)
    many = preparing.inserts(calls)
    if isinstance(many, LaneRefusal):
        return many
    states: list[InstanceState[Any]] = [instance_state(entity) for entity in entities]
    steps: list[Step] = [(states, many or ())]
    if many is None:
        steps = [((state,), (call,)) for state, call in zip(states, calls, strict=True)]
    insertion = Insertion(steps, rows[0].insert)
    return insertion.fill_in() or insertion


def _new_rows(entities: Sequence[object], preparing: Preparing) -> list[NewRow] | LaneRefusal:
    if len(set(map(id, entities))) < len(entities):
        return _TWICE
    rows: list[NewRow] = []
    for entity in entities:
        row = preparing.new_row(entity, like=rows[0] if rows else None)
        if isinstance(row, LaneRefusal):
            return row
        if rows and not row.insert.goes_with(rows[0].insert):
            return _SEVERAL_KINDS
        rows.append(row)
    return rows


def planned_deletion(entity: object, held: Session, preparing: Preparing) -> Flush | LaneRefusal:
    """Plan the DELETE of an entity that a session holds, which has nothing else to send."""
    state: InstanceState[Any] = instance_state(entity)
    if state.key is None or held.identity_map.get(state.key) is not entity:
        return _NOT_HELD
    model = preparing.rows_of(state.mapper)
    if isinstance(model, LaneRefusal):
        return model
    deletes: list[Step] = []
    return _deletes(deletes, model, [state], preparing) or Flush((), deletes)


def _models(
    states: Iterable[InstanceState[Any]], preparing: Preparing
) -> dict[Mapper[Any], RowsOfModel] | LaneRefusal:
    found: dict[Mapper[Any], RowsOfModel] = {}
    for state in states:
        model = preparing.rows_of(state.mapper)
        if isinstance(model, LaneRefusal):
            return model
        found[state.mapper] = model
    return found


def _of(mapper: Mapper[Any], states: list[InstanceState[Any]]) -> list[InstanceState[Any]]:
    own = [state for state in states if state.mapper is mapper]
    return states_in_order(mapper, own) if own else own


def _is_related(state: InstanceState[Any], models: dict[Mapper[Any], RowsOfModel], *, alone: bool) -> bool:
    """Say whether relationships decide what goes first, or whether it waits for itself."""
    model = models[state.mapper]
    if model.targets.isdisjoint(models) and model.related.isdisjoint(state.dict):
        return False
    return not alone or any(state.dict.get(key) is state.obj() for key in model.related)


def _updates(
    saves: list[Step], model: RowsOfModel, states: list[InstanceState[Any]], preparing: Preparing
) -> LaneRefusal | None:
    waiting: list[RowChangeCall] = []
    for state in states:
        values = model.changed(state)
        if isinstance(values, LaneRefusal):
            return values
        if not values:
            saves.append(((state,), ()))
            continue
        call = preparing.row_change(model, state, frozenset(values))
        if isinstance(call, LaneRefusal):
            return call
        waiting.append(call)
    for change, each in groupby(waiting, lambda call: call.change):
        calls = list(each)
        # What the database returns of each row, the ORM asks for row by row.
        saves.extend(map(_alone, calls) if change.returned else _at_once(calls))
    return None


def _alone(call: RowChangeCall) -> Step:
    return (call.state,), (call,)


def _at_once(calls: list[RowChangeCall]) -> list[Step]:
    """Return the step that changes or deletes the rows of some entities, which is one with any number."""
    if len(calls) == 1:
        return [_alone(calls[0])]
    return [([call.state for call in calls], (RowChangesCall(calls[0].change, calls[0].name, calls),))]


def _inserts(
    saves: list[Step], states: list[InstanceState[Any]], preparing: Preparing, held: Session
) -> LaneRefusal | None:
    waiting: list[tuple[InstanceState[Any], InsertCall]] = []
    for state in states:
        if is_orphan(state):
            return _ORPHAN
        call = preparing.waiting_insert(state.obj(), held)
        if isinstance(call, LaneRefusal):
            return call
        waiting.append((state, call))
    for _given, each in groupby(waiting, lambda step: step[1].insert.given):
        group = list(each)
        calls = [call for _state, call in group]
        many = preparing.inserts(calls) if len(calls) > 1 else calls
        if isinstance(many, LaneRefusal):
            return many
        if many is None:
            saves.extend(((state,), (call,)) for state, call in group)
        else:
            saves.append(([state for state, _call in group], many))
    return None


def _deletes(
    deletes: list[Step], model: RowsOfModel, states: list[InstanceState[Any]], preparing: Preparing
) -> LaneRefusal | None:
    waiting: list[RowChangeCall] = []
    for state in states:
        call = model.why_not_deleted(state) or preparing.row_change(model, state, None)
        if isinstance(call, LaneRefusal):
            return call
        waiting.append(call)
    if waiting:
        deletes.extend(_at_once(waiting))
    return None
