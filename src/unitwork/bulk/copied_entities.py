"""This module inserts many rows by COPY and makes their entities, where a row is all that one needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Identity, select
from sqlalchemy import Sequence as Counter
from sqlalchemy.exc import InvalidRequestError

from unitwork._collector import CollectorPaused
from unitwork._logic.conflicts import OnConflict
from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.lanes.loading import EntityLoader, is_observed, why_not_simple
from unitwork._runtime.sessions.session import AmbientSession

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from unitwork.bulk.copying import Copying
    from unitwork.bulk.feed import Feed
    from unitwork.bulk.order import InsertOrder
    from unitwork.bulk.plan import InsertPlan

ROWS_AT_ONCE = 10_000
"""Rows that one INSERT gives back: more are no faster, and are all in memory at once."""


def loader_for(session: AsyncSession, order: InsertOrder) -> EntityLoader | None:
    """Return what makes the entities of new rows past the ORM; None if the ORM has a part in that."""
    model = order.model
    if not isinstance(session, AmbientSession) or not model.whole or model.version is not None:
        return None
    if order.on_conflict is not OnConflict.FAIL or why_not_simple(model.mapper) or is_observed(model.mapper):
        return None
    statements = session.source.lanes.statements
    # What keeps a read of the class from the faster lanes keeps its rows from this, too.
    if isinstance(statements.read_of(select(model.entity)), LaneRefusal):
        return None
    if statements.session_listeners.of_reads(session.held) is not None:
        return None
    loader = EntityLoader.of(model.mapper, [column.name for column in _columns(order)])
    return None if isinstance(loader, LaneRefusal) else loader


def _counts_up(column: Any) -> bool:  # noqa: ANN401  # the only one of a key
    """Say whether the database numbers rows so that each one has a greater number than that before it."""
    counter = column.identity or column.default
    falls = isinstance(counter, Identity | Counter) and (counter.increment or 1) < 0
    return column is column.table.autoincrement_column and not falls


def _columns(order: InsertOrder) -> list[Any]:
    return [attribute.columns[0] for attribute in order.model.mapper.column_attrs]


class CopiedEntities:
    """Rows by way of a temporary table, from which one INSERT takes thousands. Lives: one bulk write."""

    def __init__(self, copying: Copying, loader: EntityLoader, order: InsertOrder) -> None:
        self._copying = copying
        self._loader = loader
        self._columns = _columns(order)
        self._key = order.model.mapper.primary_key
        self._counts_up = len(self._key) == 1 and _counts_up(self._key[0])

    def takes(self, connection: Connection, plan: InsertPlan, feed: Feed[InsertPlan]) -> bool:
        """Say whether the next rows go this way: they are many, and come back in a known order."""
        known = self._counts_up or all(column in plan.columns for column in self._key)
        return known and not self._copying.are_few(feed) and self._copying.may_stage(connection, plan)

    def write(
        self, session: Session, connection: Connection, plan: InsertPlan, feed: Feed[InsertPlan]
    ) -> tuple[list[int], Sequence[Any]]:
        """Insert the next rows, and return their numbers and entities.

        Raises:
            sqlalchemy.exc.InvalidRequestError: A trigger has left rows out.
        """
        groups: list[Sequence[int]] = []
        blocks = _blocks(plan, feed, groups)
        # What is wrong in the first rows is found before anything is sent.
        rows = self._copying.returned(
            connection, plan, (chain([next(blocks)], blocks), groups), self._columns
        )
        numbers = [number for group in groups for number in group]
        if len(rows) != len(numbers):
            raise InvalidRequestError(
                f"{len(numbers):,} rows were sent and {len(rows):,} came back: nobody knows which is which.\n"
                "  Fix: write `returning=False`, if a trigger leaves rows out."
            )
        if self._key[0] not in plan.columns:
            # The numbers were given in the order of the rows; RETURNING alone promises none.
            rows = sorted(rows, key=itemgetter(self._columns.index(self._key[0])))
        with CollectorPaused():
            return numbers, self._loader.load_new(rows, session)


def _blocks(plan: InsertPlan, feed: Feed[InsertPlan], groups: list[Sequence[int]]) -> Iterator[bytes]:
    """Yield the next rows of a plan as COPY reads them, as many as one INSERT takes."""
    count = 0
    while count < ROWS_AT_ONCE and (group := feed.peek()) is not None and feed.plan_of(group) is plan:
        piece = plan.text(group, plan.filled(group))
        groups.append(group.numbers)
        count += len(group)
        yield piece
        feed.take()
        feed.stored(len(group))
