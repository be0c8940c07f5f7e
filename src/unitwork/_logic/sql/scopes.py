"""This module finds which tables a statement names, and which of them a column belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from unitwork._logic.sql.statement import CHANGES, QUERIES, Statement

C = TypeVar("C")

_NO_ALIAS = frozenset(
    {
        *("AS", "ON", "USING", "SET", "WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "OFFSET", "FETCH", "FOR"),
        *("JOIN", "LEFT", "RIGHT", "INNER", "OUTER", "FULL", "CROSS", "NATURAL", "STRAIGHT_JOIN", "LOCK"),
        *("UNION", "INTERSECT", "EXCEPT", "RETURNING", "VALUES", "VALUE", "SELECT", "DEFAULT", "WINDOW"),
        *("INDEXED", "NOT", "USE", "FORCE", "IGNORE", "PARTITION", "DO", "OVERRIDING", "WITH", "IN", "WHEN"),
        *("CASCADE", "RESTRICT", "CONTINUE", "INTO", "END", "AND", "OR", "RESTART", "TABLESAMPLE"),
    }
)
_BEFORE_NAMES = frozenset(
    {"ONLY", "LATERAL", "IGNORE", "LOW_PRIORITY", "OR", "TABLE", "TABLES", "IF", "EXISTS"}
)
_UNITES = frozenset({"UNION", "INTERSECT", "EXCEPT"})
_ENDS_TABLES = frozenset(
    {"WHERE", "SET", "GROUP", "ORDER", "HAVING", "RETURNING", "VALUES", "SELECT", "WINDOW"}
)
_NAMES_TABLES = frozenset({"TRUNCATE", "LOCK", "ANALYZE", "COPY", "OPTIMIZE", "TABLE", "TABLES"})


class Table(NamedTuple):
    """A table as a statement names it; `name` is empty for what the database does not keep as a table."""

    name: str
    schema: str = ""
    alias: str = ""
    place: int = -1
    """Where its name stands in the statement."""
    optional: bool = False
    """An outer join may give rows without it."""

    @property
    def called(self) -> str:
        """What qualifies its columns."""
        return (self.alias or self.name).lower()


class Scope:
    """The tables that one SELECT, or another statement, sees. Lives: as long as the reading of it."""

    __slots__ = ("outer", "tables")

    def __init__(self, outer: Scope | None = None, tables: Sequence[Table] = ()) -> None:
        self.outer = outer
        self.tables = list(tables)


class ColumnName(NamedTuple):
    """A column as a statement names it."""

    name: str
    qualifier: str
    scope: Scope


Columns: TypeAlias = Callable[[Table], Mapping[str, C] | None]
"""Gives the columns of a table by their names in small letters, in its order; None if it is not known."""


def table_of(column: ColumnName, columns: Columns[Any]) -> Table | None:
    """Return the table that a column belongs to; None if that is not known for sure."""
    scope: Scope | None = column.scope
    while scope is not None:
        if column.qualifier:
            named = [table for table in scope.tables if table.called == column.qualifier.lower()]
            if named:
                return named[0] if named[0].name else None
        else:
            known = [columns(table) if table.name else None for table in scope.tables]
            for table, there in zip(scope.tables, known, strict=True):
                if there is not None and column.name.lower() in there:
                    return table
            if None in known:  # it may be a column of that
                return None
        scope = scope.outer
    return None


class _Here(NamedTuple):
    scope: Scope
    opening: int = -1
    lists: bool = False
    """A comma is followed by another table."""
    target: Scope | None = None
    """What stood before the SELECT of an INSERT, and goes on behind it."""


class Scopes:
    """The scopes of one statement. Lives: one question.

    Args:
        statement: Whole, or a condition that stands behind WHERE.
        around: The tables that a condition is about.
    """

    def __init__(self, statement: Statement, around: Sequence[Table] = ()) -> None:
        self.parts = statement.parts
        self._words = statement.words
        self._derived = frozenset(self._names_of_ctes())
        self.scopes: list[Scope] = []
        """The scope of each token."""
        self.openings: list[int] = []
        """For each token the place of the parenthesis around it; -1 outside of all."""
        self._walk(Scope(tables=around))

    @property
    def tables(self) -> list[Table]:
        """The tables that the statement names itself, in the order of their names' places."""
        seen = {id(scope): scope for scope in self.scopes}
        found = (table for scope in seen.values() for table in scope.tables)
        return sorted(
            (table for table in found if table.name and table.place >= 0), key=lambda each: each.place
        )

    def word(self, place: int) -> str:
        """Return the word or symbol at a place in capital letters; empty for all else."""
        return self._words[place] if 0 <= place < len(self._words) else ""

    def is_query(self, place: int) -> bool:
        """Say whether a statement begins at a place."""
        return self.word(place) in CHANGES | QUERIES | {"WITH"}

    def behind(self, opening: int) -> int:
        """Return the place behind the parenthesis that closes this one."""
        depth = 0
        for place in range(opening, len(self._words)):
            depth += (self._words[place] == "(") - (self._words[place] == ")")
            if depth == 0:
                return place + 1
        return len(self._words)

    def names_in(self, opening: int) -> list[str] | None:
        """Return the names that a list in parentheses holds; None if there is no such list."""
        if self.word(opening) != "(" or self.is_query(opening + 1):
            return None
        return [token.name for token in self.parts[opening : self.behind(opening)] if token.is_name]

    def is_name(self, place: int) -> bool:
        """Say whether a name may stand at a place."""
        return 0 <= place < len(self.parts) and self.parts[place].is_name

    def _names_of_ctes(self) -> Iterator[str]:
        for place, token in enumerate(self.parts):
            if not token.is_name or self.word(place - 1) not in ("WITH", "RECURSIVE", ","):
                continue
            after = self.behind(place + 1) if self.word(place + 1) == "(" else place + 1
            if self.word(after) == "AS":
                after += 1 + {"NOT": 2, "MATERIALIZED": 1}.get(self.word(after + 1), 0)
                if self.word(after) == "(" and self.is_query(after + 1):
                    yield token.name.lower()

    def _walk(self, root: Scope) -> None:
        here, around = _Here(root), list[_Here]()
        for place, word in enumerate(self._words):
            if word == ")" and around:
                here = around.pop()
            self.scopes.append(here.scope)
            self.openings.append(here.opening)
            if word == "(":
                around.append(here)
                here = self._inside(place, here)
            else:
                here = self._after(place, here)

    def _inside(self, opening: int, here: _Here) -> _Here:
        if self.is_query(opening + 1):
            return _Here(Scope(here.scope), opening)
        before = self.word(opening - 1)
        joins = here.lists and before in ("FROM", "JOIN", ",", "(", "LATERAL", "USING")
        joins = joins and not (before == "USING" and self._is_of_join(opening - 1))
        if joins:  # FROM (a JOIN b ON …)
            self._add_table(opening + 1, here.scope)
        return _Here(here.scope, opening, lists=joins)

    def _after(self, place: int, here: _Here) -> _Here:
        word, before = self.word(place), self.word(place - 1)
        if word in _UNITES:
            return here._replace(scope=Scope(here.scope.outer), lists=False)
        if here.target is not None and (word == "RETURNING" or (before, word) in _GOES_ON):
            return here._replace(scope=here.target, lists=False, target=None)
        if word == "SELECT" and here.scope.tables and here.target is None and before not in ("ALL", *_UNITES):
            return here._replace(scope=Scope(here.scope.outer), lists=False, target=here.scope)
        if self._begins_tables(place, here.opening) or (word == "," and here.lists):
            self._add_table(place + 1, here.scope)
            return here._replace(lists=True)
        return here._replace(lists=False) if word in _ENDS_TABLES else here

    def _begins_tables(self, place: int, opening: int) -> bool:
        word, before, after = self.word(place), self.word(place - 1), self.word(place + 1)
        if word == "FROM":  # not `extract(year FROM seen)`, nor `IS DISTINCT FROM`
            called = self.is_name(opening - 1) and self.word(opening - 1) not in ("FROM", "JOIN", "AS", "IN")
            return before != "DISTINCT" and not (called and not self.is_query(opening + 1))
        if word == "UPDATE":
            return place == 0 or before in ("(", ")")
        if word == "USING":  # not `JOIN b USING (id)`
            return after != "(" or self.is_query(place + 2)
        if word in _NAMES_TABLES and self.word(0) in _NAMES_TABLES:
            return place == 0 or before in _NAMES_TABLES
        return word == "JOIN" or (word == "INTO" and self.word(place - 1) != "SELECT")

    def _is_of_join(self, using: int) -> bool:
        """Say whether columns stand behind USING, not tables as in `DELETE FROM a USING (b JOIN c)`."""
        before = (self.word(place) for place in range(using - 1, -1, -1))
        return next((word for word in before if word in ("JOIN", "FROM", "USING")), "") == "JOIN"

    def _add_table(self, place: int, scope: Scope) -> None:
        while self.word(place) in _BEFORE_NAMES:
            place += 1
        before = {self.word(each) for each in range(max(place - 4, 0), place)}
        optional = "JOIN" in before and not before.isdisjoint({"LEFT", "FULL"})
        if not {"RIGHT", "FULL"}.isdisjoint(before) and "JOIN" in before:
            scope.tables[:] = [table._replace(optional=True) for table in scope.tables]
        if self.word(place) == "(" and self.is_query(place + 1):
            alias = self._alias(self.behind(place))
            scope.tables.append(Table("", alias=alias, place=place, optional=optional))
        elif self.is_name(place) and self.word(place) not in _NO_ALIAS:
            scope.tables.append(self._named(place, optional=optional))

    def _named(self, place: int, *, optional: bool) -> Table:
        last, names = self.end_of_name(place), [self.parts[place].name]
        if last > place:
            names = [self.parts[last - 2].name, self.parts[last].name]
        after = last + 1 + (self.word(last + 1) == "*")
        inserts = self.word(place - 1) in ("INTO", "COPY")
        if self.word(after) == "(" and not inserts:  # a function
            return Table("", alias=self._alias(self.behind(after)) or names[-1], place=place)
        if len(names) == 1 and names[0].lower() in self._derived:
            return Table("", alias=self._alias(after) or names[0], place=place, optional=optional)
        schema = names[0] if len(names) > 1 else ""
        return Table(names[-1], schema, self._alias(after), place, optional)

    def end_of_name(self, place: int) -> int:
        """Return the place of the last part of a name such as `schema.name`."""
        while self.word(place + 1) == "." and self.is_name(place + 2):
            place += 2
        return place

    def _alias(self, place: int) -> str:
        if self.word(place) == "AS":
            place += 1
        if not self.is_name(place) or self.word(place) in _NO_ALIAS:
            return ""
        return self.parts[place].name


_GOES_ON = frozenset({("ON", "CONFLICT"), ("ON", "DUPLICATE")})
