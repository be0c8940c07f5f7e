"""This module hands the rows of a bulk write on, group by group, and tells how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from unitwork.bulk.plan import InsertPlan, Plan, UpdatePlan
from unitwork.bulk.rows import Group, RowReader, without_nones, without_sql_nulls

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from unitwork.bulk.fields import Field, Model
    from unitwork.bulk.order import Progress

P = TypeVar("P", bound=Plan)


class Kind(Generic[P]):
    """What a feed has to know of the kind of its rows: new ones, or changes of stored ones."""

    def __init__(
        self, parts: Callable[[Group], Iterator[Group]], plan: Callable[[Group, Dialect], P]
    ) -> None:
        self.parts = parts
        """Checks a group, and cuts it into groups whose rows are written alike."""
        self.plan = plan


def new_rows(model: Model, *, updates: bool) -> Kind[InsertPlan]:
    """Return what is done with new rows; `updates` if those whose key is stored change that row."""
    fields = model.fields

    def is_fixed(field: Field) -> bool:
        return field.filled_by_database or model.constant(field) is not None

    def is_left_out(name: str) -> bool:
        field = fields[name]
        if field.values.keeps_none:
            return False
        if not model.whole:
            # What the ORM fills in of such rows, it fills in where nothing is.
            return field.column.primary_key or field.default is not None or is_fixed(field)
        # Where the stored row gets NULL and a new one its default, these rows need their own words.
        return updates if field.default is not None else field.filled_by_database

    def parts(group: Group) -> Iterator[Group]:
        left_out = [name for name in group.names if is_left_out(name)]
        for whole in without_sql_nulls(group, _own_nulls(model, group), in_order=updates):
            names = [name for name in left_out if name in whole.names]
            for part in without_nones(whole, names, in_order=updates):
                model.check_complete([*part.names, *part.sql_nulls], part.numbers[0])
                yield part

    return Kind(parts, lambda group, dialect: InsertPlan(model, group, dialect))


def _own_nulls(model: Model, group: Group) -> list[str]:
    """Return the attributes of which `null()` needs words of its own: their types would see None."""
    fields = (model.fields[name] for name in group.names)
    return [field.name for field in fields if field.values.may_fill_none and field.column.nullable]


def changes(model: Model) -> Kind[UpdatePlan]:
    """Return what is done with rows that change stored ones."""

    def parts(group: Group) -> Iterator[Group]:
        model.check_key(group.names, group.numbers[0])
        yield from without_sql_nulls(group, _own_nulls(model, group), in_order=True)

    return Kind(parts, lambda group, dialect: UpdatePlan(model, group, dialect))


class Feed(Generic[P]):
    """The groups that were not written yet. Lives: one bulk write."""

    def __init__(
        self, model: Model, kind: Kind[P], reader: RowReader, total: int | None, on_progress: Progress | None
    ) -> None:
        self._model = model
        self._kind = kind
        self._reader = reader
        self._total = total
        self._on_progress = on_progress
        self._groups: Iterator[Group] = iter(())
        self._next: Group | None = None
        self._plans: dict[tuple[tuple[str, ...], frozenset[str], frozenset[str]], P] = {}
        self.dialect: Dialect | None = None
        self.read = 0
        self.done = 0

    def refill(self, chunks: Iterable[list[Any]]) -> None:
        """Go on with the rows of these lists, which are read one after another."""
        self._groups = self._grouped(chunks)

    def _grouped(self, chunks: Iterable[list[Any]]) -> Iterator[Group]:
        for chunk in chunks:
            first = self.read + 1
            self.read += len(chunk)
            for group in self._reader.groups(chunk, first):
                self._model.check_names(group.names, group.numbers[0])
                yield from self._kind.parts(group)

    def peek(self) -> Group | None:
        """Return the next group without taking it; None after the last one.

        Raises:
            RowError: A row of it cannot be stored.
        """
        if self._next is None:
            self._next = next(self._groups, None)
        return self._next

    def plan_of(self, group: Group) -> P:
        """Return what becomes of a group: the same object for the same attributes."""
        alike = (group.names, group.nulls, group.sql_nulls)
        plan = self._plans.get(alike)
        if plan is None:
            plan = self._plans[alike] = self._kind.plan(group, self._connected)
        return plan

    @property
    def _connected(self) -> Dialect:
        if self.dialect is None:
            raise RuntimeError("rows are planned before the dialect is known")
        return self.dialect

    def alike(self, plan: P) -> Iterator[Group]:
        """Yield the next groups of one plan; each counts as stored when the next one is asked for."""
        while (group := self.peek()) is not None and self.plan_of(group) is plan:
            yield group
            self.take()
            self.stored(len(group))

    def take(self) -> None:
        """Count the next group as taken."""
        self._next = None

    def stored(self, rows: int) -> None:
        """Tell whoever wants to know that so many more rows are written."""
        self.done += rows
        if self._on_progress is not None:
            self._on_progress(self.done, self._total)
