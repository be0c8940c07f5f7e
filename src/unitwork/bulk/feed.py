"""This module hands the rows of a bulk write on, group by group, and tells how far it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from unitwork.bulk.plan import Plan
from unitwork.bulk.rows import Group, RowReader, split_by_none

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from unitwork.bulk.fields import Model
    from unitwork.bulk.order import Progress


class Feed:
    """The groups that were not written yet. Lives: one bulk write."""

    def __init__(
        self,
        model: Model,
        reader: RowReader,
        total: int | None,
        on_progress: Progress | None,
        *,
        new: bool = True,
    ) -> None:
        self._model = model
        self._new = new
        self._reader = reader
        self._total = total
        self._on_progress = on_progress
        self._groups: Iterator[Group] = iter(())
        self._next: Group | None = None
        self._plans: dict[tuple[str, ...], Plan] = {}
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
                if not self._new:
                    self._model.check_key(group.names, group.numbers[0])
                    yield group
                    continue
                for part in split_by_none(group, self._model.fields):
                    self._model.check_complete(part.names, part.numbers[0])
                    yield part

    def peek(self) -> Group | None:
        """Return the next group without taking it; None after the last one.

        Raises:
            RowError: A row of it cannot be stored.
        """
        if self._next is None:
            self._next = next(self._groups, None)
        return self._next

    def plan_of(self, group: Group) -> Plan:
        """Return what becomes of a group: the same object for the same attributes."""
        plan = self._plans.get(group.names)
        if plan is None:
            plan = self._plans[group.names] = Plan(self._model, group.names, self._connected, new=self._new)
        return plan

    @property
    def _connected(self) -> Dialect:
        if self.dialect is None:
            raise RuntimeError("rows are planned before the dialect is known")
        return self.dialect

    def alike(self, plan: Plan) -> Iterator[Group]:
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
