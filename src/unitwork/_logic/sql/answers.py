"""This module reads what a statement answers: the items behind SELECT or RETURNING."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from unitwork._logic.sql.meetings import column_ending_at
from unitwork._logic.sql.reading import SQLText, read
from unitwork._logic.sql.scopes import ColumnName, Columns, Scopes, Table, table_of
from unitwork._logic.sql.statement import CHANGES, Statement

_EMPTY_SETS_ARE_NULL = frozenset({"MAX", "MIN", "SUM", "AVG"})
_UNITES = frozenset({"UNION", "INTERSECT", "EXCEPT"})


@dataclass(frozen=True, slots=True)
class Item:
    """One item that a statement answers with: the tokens from `first` to before `last`, without its alias."""

    first: int
    last: int


class Answers:
    """What the outermost SELECT, or the RETURNING, of a statement answers. Lives: one question."""

    def __init__(self, statement: Statement) -> None:
        self._statement = statement
        self._words = statement.words
        self.scopes = Scopes(statement)
        self._first, self._last = self._bounds()

    @property
    def items(self) -> list[Item] | None:
        """The items in order; None if they are not plain to see, as behind `*` or beside a UNION."""
        if not self._first or any(self._words[place] in _UNITES for place in self._statement.top):
            return None
        inside = self.scopes.openings[self._first]
        commas = [
            place
            for place in range(self._first, self._last)
            if self._words[place] == "," and self.scopes.openings[place] == inside
        ]
        edges = [self._first - 1, *commas, self._last]
        found = [self._item(begin + 1, end) for begin, end in pairwise(edges)]
        stars = any(self._words[item.last - 1] == "*" and item.last - item.first <= 3 for item in found)  # noqa: PLR2004  # `t.*`
        return None if stars else found

    def _bounds(self) -> tuple[int, int]:
        """Return where the list of items begins and ends; 0 where there is none."""
        top = self._statement.top
        main = self._statement.main
        if self._words[main : main + 1] == ("SELECT",):
            first = main + 1
            if self.scopes.word(first) in ("DISTINCT", "ALL"):
                first += 1
                if self.scopes.word(first) == "ON":
                    first = self.scopes.behind(first + 1)
            ends = ("FROM", "WHERE", "GROUP", "ORDER", "LIMIT", "FOR", "HAVING", "WINDOW", "INTO", ";")
            last = next(
                (place for place in top if place >= first and self._words[place] in ends), len(self._words)
            )
            return first, last
        returning = [place for place in top if place > main and self._words[place] == "RETURNING"]
        if self._statement.verb in CHANGES and returning:
            return returning[-1] + 1, len(self._words)
        return 0, 0

    def _item(self, first: int, last: int) -> Item:
        if last - first > 2 and self._words[last - 2] == "AS":  # noqa: PLR2004  # `x AS name`
            return Item(first, last - 2)
        lone = last - first > 1 and self.scopes.is_name(last - 1)
        if lone and (self.scopes.is_name(last - 2) or self._words[last - 2] == ")"):
            return Item(first, last - 1)
        return Item(first, last)

    def null_reason(self, item: Item, columns: Columns[bool]) -> str:
        """Say why an item may be NULL, whatever is stored; empty if that is not known.

        `columns` tells of each column whether it may be NULL, and None of what is no table.
        """
        words = self._words[item.first : item.last]
        if words == ("NULL",):
            return "is NULL"
        if len(words) > 2 and words[0] in _EMPTY_SETS_ARE_NULL and words[1] == "(":  # noqa: PLR2004  # `max (`
            inside = (each for each in range(item.first, item.last) if self._words[each] == ",")
            # SQLite's `max(a, b)` looks at one row alone.
            several = any(self.scopes.openings[each] == item.first + 1 for each in inside)
            whole = self.scopes.behind(item.first + 1) == item.last and not several
            outside = {self._words[place] for place in self._statement.top}
            return (
                f"is NULL if there are no rows for {words[0].lower()}()"
                if whole and not outside & {"GROUP", "HAVING"}
                else ""
            )
        column = self.column_of(item)
        return "" if column is None else self._reason_of(column, columns)

    def column_of(self, item: Item) -> ColumnName | None:
        """Return the column that an item is; None if it is another expression."""
        column = column_ending_at(self.scopes, item.last - 1)
        begins = item.last - (3 if column is not None and column.qualifier else 1)
        return None if column is None or begins != item.first else column

    def _reason_of(self, column: ColumnName, columns: Columns[bool]) -> str:
        table = table_of(column, columns)
        known = columns(table) if table is not None else None
        if table is None or known is None or self._is_conditional(column, table):
            return ""
        if known.get(column.name.lower()):
            return "may be NULL there"
        return f"is NULL where the outer join finds no {table.name!r}" if table.optional else ""

    def _is_conditional(self, column: ColumnName, table: Table) -> bool:
        """Say whether a condition speaks of the column, or of its outer joined table."""
        names = {column.name.lower()}
        conditions = [place for place, word in enumerate(self._words) if word in ("WHERE", "HAVING")]
        if table.optional and conditions:
            spoken = {token.name.lower() for token in self.scopes.parts[conditions[0] :] if token.is_name}
            return bool(spoken & {*names, table.called})
        outside = (
            self.scopes.parts[self._last :]
            if self._statement.verb == "SELECT"
            else self.scopes.parts[: self._first]
        )
        return any(token.name.lower() in names for token in outside if token.is_name)


def returned_as_query(text: SQLText) -> SQLText | None:
    """Return a SELECT with the columns that RETURNING answers with; None if that is not plain to see."""
    statement = text.statements[0]
    answers = Answers(statement)
    places = [place for place in statement.top if statement.words[place] == "RETURNING"]
    if not places or statement.words[:1] == ("WITH",):
        return None
    parts = statement.parts
    tables = [table for table in answers.scopes.tables if table.place > statement.main]
    if not tables:
        return None
    last = answers.scopes.end_of_name(tables[0].place)
    name = text.sql[parts[tables[0].place].start : parts[last].end]
    alias = f" AS {tables[0].alias}" if tables[0].alias else ""
    items = text.sql[parts[places[-1]].end :].rstrip().removesuffix(";")
    query = f"SELECT {items} FROM {name}{alias}"  # noqa: S608  # parts of the statement itself
    return read(query, text.grammar)


def inserted_as_query(text: SQLText) -> tuple[SQLText, int] | None:
    """Return the SELECT whose rows an INSERT stores, and in how many columns; None if that is not plain."""
    statement = text.statements[0]
    words, parts = statement.words, statement.parts
    first = next((place for place in statement.top if words[place] == "SELECT"), 0)
    if statement.verb not in ("INSERT", "REPLACE") or not first or words[first - 1] != ")":
        return None
    opening = max(place for place in range(first) if words[place] == "(")
    scopes = Scopes(statement)
    names = scopes.names_in(opening)
    if not names or scopes.behind(opening) != first or words[opening - 1] == "PARTITION":
        return None
    last = next((place for place in statement.top if place > first and _ends_query(words, place)), None)
    end = len(text.sql) if last is None else parts[last].start
    return read(text.sql[parts[first].start : end], text.grammar), len(names)


def _ends_query(words: Sequence[str], place: int) -> bool:
    return words[place] in ("RETURNING", ";") or tuple(words[place : place + 2]) == ("ON", "DUPLICATE")
