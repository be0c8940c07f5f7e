"""This module inserts through the ORM, where entities are wanted or a model has several tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from unitwork._logic.batches import runs_without_repeats
from unitwork._logic.conflicts import OnConflict
from unitwork.bulk.statements import REFUSED, Wording
from unitwork.dialects.upserts import CONFLICTS_COUNTED, COUNT_FROM_ZERO

if TYPE_CHECKING:
    from unitwork.bulk.feed import Feed
    from unitwork.bulk.plan import Plan
    from unitwork.bulk.rows import Group

_FRESH = {"populate_existing": True}


class Entities:
    """Inserts groups and keeps the entities. Lives: one bulk write."""

    def __init__(self, wording: Wording) -> None:
        self._wording = wording
        self._order = wording.order
        self._found: list[tuple[int, Any]] = []
        self._conflicts = 0
        self._counting = False
        self.count = 0

    def write(self, session: Session, plan: Plan, feed: Feed) -> None:
        """Insert the rows of the next group."""
        group = next(feed.alike(plan))
        for field, values in zip(plan.given, group.columns, strict=True):
            field.check(values, set(map(type, values)), group.numbers)
        try:
            self._write(session, plan, group)
        except DBAPIError as error:
            self._wording.explain(plan, error)
            error.add_note(f"In rows {group.numbers[0]:,} to {group.numbers[-1]:,}.")
            raise
        except REFUSED:
            plan.find_bad_value(group)
            raise
        feed.take()
        feed.stored(len(group))

    def entities(self) -> list[Any]:
        """Return the entities, in the order of their rows."""
        return [entity for _number, entity in sorted(self._found, key=lambda found: found[0])]

    def _write(self, session: Session, plan: Plan, group: Group) -> None:
        rows = group.dictionaries()
        if self._order.on_conflict is OnConflict.FAIL:
            self._insert(session, rows, group.numbers)
            return
        keys = self._keys(group)
        if self._order.on_conflict is OnConflict.NOTHING:
            self._insert_new(session, plan, rows, (keys, group.numbers))
            return
        # One statement cannot touch a row twice, nor load it twice.
        for start, stop in runs_without_repeats(keys):
            statement = self._statement(plan).returning(self._order.model.entity)
            loaded = session.scalars(statement, rows[start:stop], execution_options=_FRESH).all()
            entities = self._in_order(loaded, keys[start:stop])
            self._found.extend(zip(group.numbers[start:stop], entities, strict=False))
            self.count += len(loaded)

    def _insert(self, session: Session, rows: list[dict[str, Any]], numbers: Sequence[int]) -> None:
        entity = self._order.model.entity
        if not self._order.returning:
            session.execute(insert(entity), rows)
        else:
            statement = insert(entity).returning(entity, sort_by_parameter_order=True)
            loaded = session.scalars(statement, rows, execution_options=_FRESH).all()
            self._found.extend(zip(numbers, loaded, strict=True))
        self.count += len(rows)

    def _insert_new(
        self,
        session: Session,
        plan: Plan,
        rows: list[dict[str, Any]],
        places: tuple[Sequence[object], Sequence[int]],
    ) -> None:
        keys, numbers = places
        statement, entity = self._statement(plan), self._order.model.entity
        if not self._wording.counts_conflicts:
            new = session.scalars(statement.returning(entity), rows, execution_options=_FRESH).all()
            self._keep_new(new, keys, numbers)
            return
        if not self._counting:
            session.execute(text(COUNT_FROM_ZERO))
            self._counting = True
        returning = statement.returning(entity, CONFLICTS_COUNTED)
        counted: Any = session.execute(returning, rows, execution_options=_FRESH).all()
        for number, (found, conflicts) in zip(numbers, counted, strict=True):
            if int(conflicts) == self._conflicts:
                self._found.append((number, found))
                self.count += 1
            self._conflicts = int(conflicts)

    def _keep_new(self, new: Sequence[Any], keys: Sequence[object], numbers: Sequence[int]) -> None:
        self.count += len(new)
        waiting = {self._key_of(entity): entity for entity in new}
        found: list[tuple[int, Any]] = []
        for key, number in zip(keys, numbers, strict=True):
            entity = waiting.pop(key, None)
            if entity is not None:
                found.append((number, entity))
        if len(found) != len(new):
            # The database has changed the keys: its own order is that of the rows as well.
            found = list(zip(numbers, new, strict=False))
        self._found.extend(found)

    def _in_order(self, loaded: Sequence[Any], keys: Sequence[object]) -> Sequence[Any]:
        known = {self._key_of(entity): entity for entity in loaded}
        if len(known) == len(keys) and all(key in known for key in keys):
            return [known[key] for key in keys]
        return loaded

    def _statement(self, plan: Plan) -> Any:  # noqa: ANN401  # an Insert
        statement = self._wording.statement(plan, self._order.model.entity)
        return self._wording.with_conflict(statement, plan)

    def _keys(self, group: Group) -> list[object]:
        """Return the key of each row; rows that cannot conflict have keys that nothing else has."""
        names = [field.name for field in self._order.target]
        if not names or not set(names) <= set(group.names):
            return [object() for _ in group.numbers]
        columns = [group.column(name) for name in names]
        return [_comparable(key) for key in zip(*columns, strict=True)]

    def _key_of(self, entity: object) -> object:
        return _comparable(tuple(getattr(entity, field.name) for field in self._order.target))


def _comparable(key: tuple[Any, ...]) -> object:
    if None in key or not key:
        return object()
    try:
        hash(key)
    except TypeError:
        return repr(key)
    return key
