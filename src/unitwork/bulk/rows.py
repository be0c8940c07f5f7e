"""This module reads rows of any kind: mappings, entities, dataclasses, Pydantic models, tuples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy import Column, inspect
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.elements import Null

from unitwork.errors import OptionError, RowError

AsMapping = Callable[[Any], Mapping[str, Any]]

_KINDS = "a mapping, an entity, a dataclass, a Pydantic model, or a tuple with `columns=`"


@dataclass(slots=True)
class Group:
    """Rows that name the same attributes, column by column."""

    names: tuple[str, ...]
    columns: list[Sequence[Any]]
    numbers: Sequence[int]
    rows: list[tuple[Any, ...]] | None = None
    """The same values row by row, if they were read that way."""
    nulls: frozenset[str] = frozenset()
    """Attributes that these rows give as None, and that something else fills in."""
    sql_nulls: frozenset[str] = frozenset()
    """Attributes that these rows give as `null()`, where the type would make something of None."""

    def __len__(self) -> int:
        return len(self.numbers)

    def column(self, name: str) -> Sequence[Any]:
        """Return the values of one attribute."""
        return self.columns[self.names.index(name)]

    def part(
        self,
        places: Sequence[int],
        nulls: frozenset[str] = frozenset(),
        sql_nulls: frozenset[str] = frozenset(),
    ) -> Group:
        """Return some of the rows, without attributes that are None, or `null()`, in all of them."""
        kept = [i for i, name in enumerate(self.names) if name not in nulls and name not in sql_nulls]
        return Group(
            tuple(self.names[i] for i in kept),
            [[self.columns[i][place] for place in places] for i in kept],
            [self.numbers[place] for place in places],
            nulls=self.nulls | nulls,
            sql_nulls=self.sql_nulls | sql_nulls,
        )


class RowReader:
    """Turns rows into groups. Lives: one bulk write.

    Args:
        columns: The attributes of rows that are tuples.
        only_set: Take from Pydantic models only the fields that were set.
        in_order: Keep the order of rows also between groups.
    """

    def __init__(
        self, columns: Sequence[str] | None, *, only_set: bool = False, in_order: bool = False
    ) -> None:
        self._columns = tuple(columns) if columns is not None else None
        self._only_set = only_set
        self._in_order = in_order
        self._ways: dict[type, AsMapping | None] = {}

    def groups(self, rows: Sequence[Any], first: int) -> Iterator[Group]:
        """Yield the groups of these rows, of which the first has this number."""
        numbers = range(first, first + len(rows))
        quick = self._quick(rows, numbers)
        if quick is not None:
            yield quick
            return
        named = [self._mapping(row, number) for row, number in zip(rows, numbers, strict=True)]
        places: Iterable[int] = range(len(named))
        if not self._in_order:
            ranks: dict[frozenset[str], int] = {}
            places = sorted(places, key=lambda place: ranks.setdefault(frozenset(named[place]), len(ranks)))
        for keys, members in groupby(places, key=lambda place: frozenset(named[place])):
            taken = list(members)
            names = tuple(name for name in named[taken[0]] if name in keys)
            columns: list[Sequence[Any]] = [[named[place][name] for place in taken] for name in names]
            yield Group(names, columns, [numbers[place] for place in taken])

    def _quick(self, rows: Sequence[Any], numbers: range) -> Group | None:
        """Read rows that are all alike, without a step of Python for each."""
        kinds = set(map(type, rows))
        if len(kinds) != 1:
            return None
        (kind,) = kinds
        names = self._names_of(kind, rows[0])
        if not names or (kind in {dict, tuple} and set(map(len, rows)) != {len(names)}):
            return None
        if kind is tuple:
            return Group(names, list(zip(*rows, strict=True)), numbers, list(rows))
        pick = itemgetter(*names) if kind is dict else attrgetter(*names)
        try:
            picked: list[Any] = list(map(pick, rows))
        except KeyError:
            return None
        if len(names) == 1:
            return Group(names, [picked], numbers)
        return Group(names, list(zip(*picked, strict=True)), numbers, picked)

    def _names_of(self, kind: type, first: Any) -> tuple[str, ...] | None:  # noqa: ANN401  # a row
        if kind is dict:
            return tuple(first)
        if kind is tuple:
            return self._columns
        if dataclasses.is_dataclass(kind) and not _is_entity(kind):
            return tuple(field.name for field in dataclasses.fields(kind))
        return None

    def _mapping(self, row: Any, number: int) -> Mapping[str, Any]:  # noqa: ANN401  # a row
        kind = type(row)
        if kind not in self._ways:
            self._ways[kind] = self._way(kind)
        way = self._ways[kind]
        if way is None:
            raise RowError(number, "", f"is of type {kind.__name__}, not {_KINDS}")
        try:
            return way(row)
        except _WrongLengthError as error:
            raise RowError(number, "", f"has {len(row)} values for {error.names} columns") from None

    def _way(self, kind: type) -> AsMapping | None:
        if issubclass(kind, Mapping):
            return dict
        if _is_entity(kind):
            return _loaded
        if dataclasses.is_dataclass(kind):
            names = [field.name for field in dataclasses.fields(kind)]
            return lambda row: {name: getattr(row, name) for name in names}
        if hasattr(kind, "model_dump"):
            return lambda row: row.model_dump(exclude_unset=self._only_set)
        return self._way_of_sequence(kind)

    def _way_of_sequence(self, kind: type) -> AsMapping | None:
        if hasattr(kind, "_fields") and self._columns is None:
            return lambda row: row._asdict()
        if issubclass(kind, Sequence) and not issubclass(kind, str | bytes):
            return self._positional
        return None

    def _positional(self, row: Sequence[Any]) -> Mapping[str, Any]:
        if self._columns is None:
            raise OptionError("columns", None, ["the attribute names of rows that are tuples"])
        if len(row) != len(self._columns):
            raise _WrongLengthError(len(self._columns))
        return dict(zip(self._columns, row, strict=True))


class _WrongLengthError(Exception):
    def __init__(self, names: int) -> None:
        super().__init__(names)
        self.names = names


def _is_entity(kind: type) -> bool:
    return isinstance(inspect(kind, raiseerr=False), Mapper)


def _loaded(entity: object) -> Mapping[str, Any]:
    """Return the column attributes that an entity has values for; not what the database has computed."""
    state = inspect(entity)
    values = state.dict
    return {
        attribute.key: values[attribute.key]
        for attribute in state.mapper.column_attrs
        if attribute.key in values and _is_stored(attribute.columns[0])
    }


def _is_stored(column: object) -> bool:
    return isinstance(column, Column) and column.computed is None


def without_nones(group: Group, names: Sequence[str], *, in_order: bool) -> Iterator[Group]:
    """Leave these attributes out of those rows in which they are None."""
    for places, nulls in _alike(group, names, type(None), in_order=in_order):
        yield group if places is None else group.part(places, nulls)


def without_sql_nulls(group: Group, names: Sequence[str], *, in_order: bool) -> Iterator[Group]:
    """Leave these attributes out of those rows in which they are `null()` of SQLAlchemy."""
    for places, nulls in _alike(group, names, Null, in_order=in_order):
        yield group if places is None else group.part(places, sql_nulls=nulls)


def _alike(
    group: Group, names: Sequence[str], kind: type, *, in_order: bool
) -> Iterator[tuple[list[int] | None, frozenset[str]]]:
    """Yield the places of rows in which the same attributes are of a class; None for all of the group."""
    columns = {name: group.column(name) for name in names}
    # By class: SQLAlchemy's null() cannot be asked whether it is equal to None.
    some = [name for name, column in columns.items() if kind in set(map(type, column))]
    if not some:
        yield None, frozenset()
        return
    empty = [
        frozenset(name for name in some if type(columns[name][place]) is kind) for place in range(len(group))
    ]
    places: Iterable[int] = range(len(group))
    if not in_order:
        ranks: dict[frozenset[str], int] = {}
        places = sorted(places, key=lambda place: ranks.setdefault(empty[place], len(ranks)))
    for nulls, members in groupby(places, key=empty.__getitem__):
        yield list(members), nulls
