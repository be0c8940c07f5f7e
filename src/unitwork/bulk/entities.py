"""This module inserts through the ORM, where entities are wanted or a model has several tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from unitwork._logic.batches import runs_without_repeats
from unitwork._logic.conflicts import OnConflict
from unitwork.bulk.copying import SAME_ROW_TWICE
from unitwork.bulk.plan import as_rows
from unitwork.bulk.statements import REFUSED, Wording, with_sql_nulls
from unitwork.dialects.postgresql import sqlstate_of
from unitwork.dialects.upserts import CONFLICTS_COUNTED, COUNT_FROM_ZERO

if TYPE_CHECKING:
    from unitwork.bulk.copied_entities import CopiedEntities
    from unitwork.bulk.feed import Feed
    from unitwork.bulk.fields import Model
    from unitwork.bulk.plan import InsertPlan
    from unitwork.bulk.rows import Group

_AS_FILLED = {"populate_existing": True, "render_nulls": True}
"""The plan has filled in what None stands for: what is still None is NULL, or what its type makes of it."""
_Rows: TypeAlias = tuple[list[dict[str, Any]], Sequence[object], Sequence[int]]
"""The rows of a group, their keys, and their numbers."""


class _Into:
    """Where the rows of one plan go. Lives: one group."""

    def __init__(self, model: Model, plan: InsertPlan) -> None:
        self._entity = model.entity
        # The ORM begins each version anew; a version that rows bring is kept by the table alone.
        self._past_orm = model.whole and model.version is not None and model.version in plan.given
        self.target: Any = model.table if self._past_orm else model.entity
        columns = plan.columns
        self.keys = [c.key for c in columns] if self._past_orm else [field.name for field in plan.fields]

    def returning(self, statement: Any, *more: Any, sort_by_parameter_order: bool = False) -> Any:  # noqa: ANN401  # an Insert
        """Return what inserts and gives the entities, and more."""
        if not self._past_orm:
            return statement.returning(self._entity, *more, sort_by_parameter_order=sort_by_parameter_order)
        columns = self.target.columns
        given = statement.returning(*columns, *more, sort_by_parameter_order=sort_by_parameter_order)
        return select(self._entity, *more).from_statement(given)


class Entities:
    """Inserts groups and keeps the entities. Lives: one bulk write."""

    def __init__(self, wording: Wording, copied: CopiedEntities | None) -> None:
        self._wording = wording
        self._copied = copied
        self._order = wording.order
        self._numbers: list[int] = []
        self._entities: list[Any] = []
        self._conflicts = 0
        self._counting = False
        self.count = 0

    def write(self, session: Session, plan: InsertPlan, feed: Feed[InsertPlan]) -> None:
        """Insert the rows of the next group; of many, also those after it that have the same columns."""
        connection = session.connection(bind_arguments={"mapper": self._order.model.mapper})
        if self._copied is not None and self._copied.takes(connection, plan, feed):
            numbers, entities = self._copied.write(session, connection, plan, feed)
            self._keep(numbers, entities)
            self.count += len(numbers)
            return
        group = next(feed.alike(plan))
        columns = plan.filled(group)
        try:
            self._write(session, plan, group, columns)
        except DBAPIError as error:
            self._wording.explain(error)
            error.add_note(f"In rows {group.numbers[0]:,} to {group.numbers[-1]:,}.")
            raise
        except REFUSED:
            plan.find_bad_value(group, columns)
            raise
        feed.take()
        feed.stored(len(group))

    def entities(self) -> list[Any]:
        """Return the entities, in the order of their rows."""
        numbers, entities = self._numbers, self._entities
        if all(one < other for one, other in pairwise(numbers)):
            return entities
        return [entities[place] for place in sorted(range(len(numbers)), key=numbers.__getitem__)]

    def _keep(self, numbers: Sequence[int], entities: Sequence[Any]) -> None:
        if len(numbers) != len(entities):
            raise ValueError(f"{len(entities)} entities of {len(numbers)} rows")
        self._numbers += numbers
        self._entities += entities

    def _write(
        self, session: Session, plan: InsertPlan, group: Group, columns: Sequence[Sequence[Any]]
    ) -> None:
        into = _Into(self._order.model, plan)
        rows = as_rows(columns, into.keys, len(group))
        if self._order.on_conflict is OnConflict.FAIL:
            self._insert(session, into, plan, (rows, (), group.numbers))
            return
        keys = self._keys(group)
        if self._order.on_conflict is OnConflict.NOTHING:
            self._insert_new(session, plan, into, (rows, keys, group.numbers))
        elif self._order.made_for_each(plan):
            statement = self._wording.statement(into.target, plan)
            for place, one in enumerate(self._wording.for_each(statement, plan, columns)):
                self._update(session, into, one, (rows, keys, group.numbers), slice(place, place + 1))
        else:
            statement = self._wording.with_conflict(self._wording.statement(into.target, plan), plan)
            # One statement cannot touch a row twice, nor load it twice.
            for start, stop in runs_without_repeats(keys):
                self._update_many(session, into, statement, (rows, keys, group.numbers), slice(start, stop))

    def _update_many(
        self,
        session: Session,
        into: _Into,
        statement: Any,  # noqa: ANN401  # an Insert
        all_rows: _Rows,
        part: slice,
    ) -> None:
        """Insert or update, and one by one only if PostgreSQL finds keys equal that differ in Python."""
        exact = all(field.is_exact for field in self._order.target)
        if exact or part.stop - part.start == 1 or self._wording.dialect.name != "postgresql":
            self._update(session, into, statement, all_rows, part)
            return
        savepoint = session.connection(bind_arguments={"mapper": self._order.model.mapper}).begin_nested()
        try:
            self._update(session, into, statement, all_rows, part)
        except DBAPIError as error:
            savepoint.rollback()
            if sqlstate_of(error) != SAME_ROW_TWICE:
                raise
        else:
            savepoint.commit()
            return
        for place in range(part.start, part.stop):
            self._update(session, into, statement, all_rows, slice(place, place + 1))

    def _update(self, session: Session, into: _Into, statement: Any, all_rows: _Rows, part: slice) -> None:  # noqa: ANN401  # an Insert
        rows, keys, numbers = all_rows
        loaded = session.scalars(into.returning(statement), rows[part], execution_options=_AS_FILLED).all()
        entities = self._in_order(loaded, keys[part])
        self._keep(numbers[part][: len(entities)], entities[: len(numbers[part])])
        self.count += len(loaded)

    def _insert(self, session: Session, into: _Into, plan: InsertPlan, all_rows: _Rows) -> None:
        rows, _keys, numbers = all_rows
        plain = with_sql_nulls(insert(into.target), into.target, plan)
        if not self._order.returning:
            session.execute(plain, rows, execution_options=_AS_FILLED)
        else:
            statement = into.returning(plain, sort_by_parameter_order=True)
            loaded = session.scalars(statement, rows, execution_options=_AS_FILLED).all()
            self._keep(numbers, loaded)
        self.count += len(rows)

    def _insert_new(self, session: Session, plan: InsertPlan, into: _Into, all_rows: _Rows) -> None:
        rows, keys, numbers = all_rows
        statement = self._wording.with_conflict(self._wording.statement(into.target, plan), plan)
        if not self._wording.counts_conflicts:
            new = session.scalars(into.returning(statement), rows, execution_options=_AS_FILLED).all()
            self._keep_new(new, keys, numbers)
            return
        if not self._counting:
            session.execute(text(COUNT_FROM_ZERO))
            self._counting = True
        returning = into.returning(statement, CONFLICTS_COUNTED)
        counted: Any = session.execute(returning, rows, execution_options=_AS_FILLED).all()
        for number, (found, conflicts) in zip(numbers, counted, strict=True):
            if int(conflicts) == self._conflicts:
                self._keep([number], [found])
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
        self._keep([number for number, _entity in found], [entity for _number, entity in found])

    def _in_order(self, loaded: Sequence[Any], keys: Sequence[object]) -> Sequence[Any]:
        known = {self._key_of(entity): entity for entity in loaded}
        if len(known) == len(keys) and all(key in known for key in keys):
            return [known[key] for key in keys]
        return loaded

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
