"""This module finds which column each parameter of a statement is compared with, or stored in."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from unitwork._logic.sql.lexer import Kind
from unitwork._logic.sql.scopes import C, ColumnName, Columns, Scopes, Table, table_of

_COMPARES = frozenset({"=", "==", "<>", "!=", "<", ">", "<=", ">=", "<=>", "LIKE", "ILIKE"})
_COMPUTES = frozenset({"+", "-", "*", "/", "%", "|", "&", "^", "||", "->", "->>", "#", "[", "::", "~"})
_NO_COLUMNS = frozenset(
    {"NULL", "TRUE", "FALSE", "ALL", "ANY", "SOME", "END", "CASE", "SELECT", "NOT", "DEFAULT"}
)
_CONDITIONS = frozenset({"WHERE", "ON", "HAVING", "AND", "OR", "WHEN", "CASE", "FROM"})


class InsertPlace(NamedTuple):
    """A place in the rows of an INSERT: of the column named, or of that which stands there in the table."""

    table: Table
    name: str | None
    number: int


class Meeting(NamedTuple):
    """What a parameter is compared with, or stored in."""

    bind: str
    column: ColumnName | InsertPlace
    stores: bool
    """It becomes the value of the column."""
    exact: bool
    """It stands alone; otherwise it is only a part of an expression."""


def resolved(column: ColumnName | InsertPlace, columns: Columns[C]) -> C | None:
    """Return the column that is meant; None if that is not known for sure."""
    if isinstance(column, ColumnName):
        table = table_of(column, columns)
        return None if table is None else (columns(table) or {}).get(column.name.lower())
    known = columns(column.table) or {}
    if column.name is not None:
        return known.get(column.name.lower())
    return list(known.values())[column.number] if column.number < len(known) else None


def meetings(scopes: Scopes, cast: Collection[str] = ()) -> Iterator[Meeting]:
    """Return what the parameters of a statement meet, as far as it is plain to see.

    A parameter in a `::` cast meets the cast alone, unless it is one of `cast`: SQLAlchemy wrote it.
    """
    for place, token in enumerate(scopes.parts):
        ours = token.kind is Kind.BIND and scopes.word(place + 1) == "::" and token.name in cast
        if token.kind is Kind.BIND and (ours or scopes.word(place + 1) != "::"):
            yield from _of(scopes, place, alone=ours or scopes.word(place + 1) not in _COMPUTES)


def _of(scopes: Scopes, place: int, *, alone: bool) -> Iterator[Meeting]:
    bind = scopes.parts[place].name
    inserted = inserted_at(scopes, place)
    if inserted is not None:
        if scopes.word(place - 1) in ("(", ",") and scopes.word(place + 1) in (")", ",", "::"):
            yield Meeting(bind, inserted, stores=True, exact=True)
        return
    left = column_ending_at(scopes, _left_of(scopes, place))
    if left is not None:
        yield Meeting(bind, left, stores=_is_set(scopes, place), exact=alone)
        return
    right = _right_of(scopes, place)
    if right is not None:
        yield Meeting(bind, right, stores=False, exact=True)


def _left_of(scopes: Scopes, place: int) -> int:
    """Return where a column would end that stands before `= :bind` or `IN (…, :bind)`; -1 if nowhere."""
    word = scopes.word
    before = word(place - 1)
    end = -1
    if before in _COMPARES or before in ("BETWEEN", "IN"):
        end = place - 2
    elif before == "AND" and word(place - 3) == "BETWEEN":
        end = place - 4
    elif (word(place - 2), before) == ("DISTINCT", "FROM"):
        end = place - 4 - (word(place - 3) == "NOT")
    elif before in ("(", ","):
        opening = scopes.openings[place]
        if word(opening - 1) == "IN" or (before == "(" and word(opening - 1) in _COMPARES):
            end = opening - 2
    return end - (word(end) == "NOT") if end >= 0 else -1


def column_ending_at(scopes: Scopes, end: int) -> ColumnName | None:
    """Return the column whose name ends at a place, if it stands there alone."""
    if not scopes.is_name(end) or scopes.word(end) in _NO_COLUMNS:
        return None
    begin = end
    while scopes.word(begin - 1) == "." and scopes.is_name(begin - 2):
        begin -= 2
    if scopes.word(begin - 1) in _COMPUTES | _COMPARES | {"."}:
        return None
    qualifier = scopes.parts[end - 2].name if begin < end else ""
    return ColumnName(scopes.parts[end].name, qualifier, scopes.scopes[end])


def _right_of(scopes: Scopes, place: int) -> ColumnName | None:
    """Return the column behind `:bind =`."""
    if scopes.word(place + 1) not in _COMPARES or scopes.word(place - 1) in _COMPUTES:
        return None
    if not scopes.is_name(place + 2):
        return None
    end = scopes.end_of_name(place + 2)
    if scopes.word(end) in _NO_COLUMNS or scopes.word(end + 1) in _COMPUTES | {"(", "."}:
        return None
    qualifier = scopes.parts[end - 2].name if end > place + 2 else ""
    return ColumnName(scopes.parts[end].name, qualifier, scopes.scopes[end])


def _is_set(scopes: Scopes, place: int) -> bool:
    """Say whether `column = :bind` stands behind SET, and not in a condition."""
    for before in range(place - 1, -1, -1):
        if scopes.openings[before] == scopes.openings[place]:
            if scopes.word(before) in _CONDITIONS:
                return False
            if scopes.word(before) == "SET":
                return True
    return False


def inserted_at(scopes: Scopes, place: int) -> InsertPlace | None:
    """Return which column of an INSERT a value in parentheses behind VALUES is for."""
    opening = scopes.openings[place]
    if opening < 1 or scopes.word(opening - 1) not in ("VALUES", "VALUE", ","):
        return None
    head = _insert_head(scopes, opening)
    if head is None:
        return None
    table, names = head
    commas = (each for each in range(opening, place) if scopes.openings[each] == opening)
    number = sum(scopes.word(each) == "," for each in commas)
    if names is not None and number >= len(names):
        return None
    return InsertPlace(table, None if names is None else names[number], number)


def _insert_head(scopes: Scopes, opening: int) -> tuple[Table, list[str] | None] | None:
    outer = scopes.openings[opening]
    values = False
    for place in range(opening - 1, -1, -1):
        if scopes.openings[place] != outer:
            continue
        word = scopes.word(place)
        values = values or word in ("VALUES", "VALUE")
        if word in ("FROM", "SELECT", "SET", "ON", "WHERE"):
            return None
        if word == "INTO":
            break
    else:
        return None
    tables = [table for table in scopes.scopes[place].tables if table.place > place]
    if not values or not tables:
        return None
    return tables[0], scopes.names_in(behind_target(scopes, tables[0]))


def behind_target(scopes: Scopes, table: Table) -> int:
    """Return the place behind the name of the table of an INSERT, and its alias."""
    after = scopes.end_of_name(table.place) + 1
    return after + 2 if scopes.word(after) == "AS" else after
