"""This module stores rows past those that the database refuses, and finds out which those are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unitwork.bulk.fields import Model
from unitwork.bulk.order import InsertOrder
from unitwork.bulk.past_refused import PastRefused
from unitwork.cli._blocks import block
from unitwork.dialects.refusals import column_of, reason_of, refuses_values
from unitwork.errors import RowError
from unitwork.repository import Repository

if TYPE_CHECKING:
    from unitwork.cli._reading import Found
    from unitwork.database import Database

_PARTS = 10
"""Into how many parts rows are cut when one of them is refused."""
_ALONE = 500
"""So few rows are tried one by one: to cut them further would send more."""
_ALONE_ON_SERVER = 5_000
"""The same where the server does so by itself."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is not stored, and why."""

    record: Found
    attribute: str | None
    problem: str

    @property
    def reason(self) -> str:
        """The problem, with the attribute that has it."""
        return f"{self.attribute}: {self.problem}" if self.attribute else self.problem


@dataclass(frozen=True, slots=True)
class Readable:
    """A record whose values are those of a row."""

    record: Found
    row: dict[str, Any]


class Storing:
    """Stores the rows of one load. Lives: one load.

    Raises:
        OptionError: The key names what is no attribute.
        ConflictTargetError: No unique key covers exactly these.
    """

    def __init__(self, database: Database, entity: type[Any], on_conflict: Any, key: Any) -> None:  # noqa: ANN401  # as bulk_insert has them
        self._database = database
        self._repository: Repository[Any] = Repository[entity](database)  # type: ignore[valid-type]  # known at run time
        self._model = Model.of(entity)
        self._attributes = {column.name: field.name for column, field in self._model.by_column.items()}
        self._on_conflict = on_conflict
        self._key = key
        # Before a record is read: of this none of them is guilty.
        self._order = InsertOrder.of(self._model, on_conflict, key, None, returning=False)
        on_server = database.engine.dialect.name == "postgresql"
        self._alone = _ALONE_ON_SERVER if on_server else _ALONE
        self.stored = 0

    async def store(self, rows: Sequence[Readable], *, past_refused: bool) -> list[Refused]:
        """Store rows in the transaction that is open, and return those that the database refuses.

        Without `past_refused` it ends after the first ones; what was stored before is up to the caller.
        """
        refused: list[Refused] = []
        waiting = [rows] if rows else []
        while waiting and (past_refused or not refused):
            piece = waiting.pop()
            error = await self._insert(piece)
            if error is None:
                continue
            if len(piece) == 1:
                refused.append(self._refused(piece[0], error))
                continue
            alone = await self._insert_alone(piece) if len(piece) <= self._alone else None
            if alone is not None:
                refused += alone
                continue
            step = -(-len(piece) // _PARTS)
            # The first part comes first: of rows with one key the last one wins.
            waiting += [piece[start : start + step] for start in range(0, len(piece), step)][::-1]
        return refused

    async def _insert_alone(self, rows: Sequence[Readable]) -> list[Refused] | None:
        """Insert rows one by one, and return those that are refused; None if this is no way here."""
        singly = PastRefused(self._order)
        async with block(self._database, "a part of the load", propagation="NESTED") as session:
            if not await session.run_sync(singly.insert, [each.row for each in rows]):
                return None
        self.stored += singly.stored
        return [self._refused(rows[number - 1], error) for number, error in singly.refused]

    async def _insert(self, rows: Sequence[Readable]) -> Exception | None:
        """Insert all of these rows, or return why one of them cannot be."""
        try:
            async with block(self._database, "a part of the load", propagation="NESTED"):
                stored = await self._repository.bulk_insert(
                    [each.row for each in rows],
                    on_conflict=self._on_conflict,
                    index_elements=self._key,
                    returning=False,
                )
        except Exception as error:
            if not refuses_values(error):
                raise
            return error
        self.stored += stored
        return None

    def _refused(self, readable: Readable, error: Exception) -> Refused:
        if isinstance(error, RowError):
            return Refused(readable.record, error.attribute or None, error.problem)
        column = column_of(error)
        attribute = self._attributes.get(column) if column is not None else None
        return Refused(readable.record, attribute, reason_of(error))
