"""This module says an UPDATE of many rows in one statement: CASE tells the values apart by the key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import literal_column, update

from unitwork.bulk.statements import places_of

if TYPE_CHECKING:
    from unitwork.bulk.plan import UpdatePlan

_VALUE = "unitwork_value_{}_"
_ROWS = "unitwork_rows_"


class Cases:
    """The text of such an UPDATE for any number of rows. Lives: one bulk update.

    For dialects whose placeholder is `%s`. Of rows with the same key the last one wins.
    """

    def __init__(self, plan: UpdatePlan) -> None:
        quote = plan.dialect.identifier_preparer.quote
        self._key = len(plan.model.key)
        self._matched = len(plan.matched)
        self._names = [quote(field.column.name) for field in plan.matched]
        marks = [_VALUE.format(place) for place in range(len(plan.assigned))]
        # SQL comes first: a column that was set already is seen as it is now, not as it was.
        pairs: list[tuple[Any, Any]] = list(plan.constants.items())
        pairs += [(f.column, literal_column(mark)) for f, mark in zip(plan.assigned, marks, strict=True)]
        statement = update(plan.model.table).ordered_values(*pairs).where(literal_column(_ROWS))
        compiled: Any = statement.compile(dialect=plan.dialect)
        self._constants = [place.value for place in places_of(compiled, ())]
        self._marks = marks
        self._sql = str(compiled)
        self._known: tuple[int, str] = (0, "")

    def sql(self, rows: int) -> str:
        """Return the text for so many rows."""
        if self._known[0] != rows:
            same = " AND ".join(f"{name} = %s" for name in self._names[: self._key])
            case = f"CASE{f' WHEN {same} THEN %s' * rows} END"
            one = "%s" if self._matched == 1 else f"({', '.join(['%s'] * self._matched)})"
            left = self._names[0] if self._matched == 1 else f"({', '.join(self._names)})"
            text = self._sql.replace(_ROWS, f"{left} IN ({', '.join([one] * rows)})")
            for mark in self._marks:
                text = text.replace(mark, case)
            self._known = (rows, text)
        return self._known[1]

    def parameters(self, rows: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
        """Return the values of rows, each with those that match first, in the order of the text."""
        found = list(self._constants)
        last_first = rows[::-1]
        for place in range(self._matched, self._matched + len(self._marks)):
            for row in last_first:
                found += row[: self._key]
                found.append(row[place])
        for row in rows:
            found += row[: self._matched]
        return tuple(found)
