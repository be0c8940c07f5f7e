"""This module turns results into what a query promises."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Integer, Select

from unitwork._logic.nulls import PromisedValue, promised_values
from unitwork._logic.records import Builder, MissingColumnError, record_builder
from unitwork._logic.shape import Item, Rows, Shape
from unitwork._logic.values import ValueTypeError, converter_for
from unitwork._sqlalchemy.private import needs_unique
from unitwork.errors import NoRowError, QueryDeclarationError, TooManyRowsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from sqlalchemy import Result

_SINGLE = frozenset({Item.ENTITY, Item.SCALAR})
_CONVERTED = frozenset({Item.RECORD, Item.SCALAR})
# Looked up once: the class of an enum takes long for that in Python 3.11.
_NONE, _MANY, _MAYBE = Rows.NONE, Rows.MANY, Rows.MAYBE


class _Making(NamedTuple):
    """What makes items of rows whose columns have certain names."""

    names: tuple[str, ...]
    build: Builder | None
    """None for the first column as it is."""
    values: Sequence[PromisedValue]
    """Where NULL breaks the promise."""
    unseen: Sequence[PromisedValue]
    """Those that `build` takes as they come."""


class ResultReader:
    """Makes of rows what a query promises. Lives: as long as the query that declares it.

    Args:
        name: Of the query, for errors.
        shape: What it promises.
        convert: The values come from SQL text, which has no result types: make them what the
            annotations say.
        never_none: The columns that hold no NULL for sure: nobody looks whether it breaks the promise.
    """

    __slots__ = ("_made", "_never_none", "converts", "name", "shape")

    def __init__(
        self, name: str, shape: Shape, *, convert: bool = False, never_none: AbstractSet[str] = frozenset()
    ) -> None:
        self.name = name
        self.shape = shape
        self.converts = convert
        self._never_none = never_none
        self._made: _Making | None = None

    def with_rows(self, rows: Rows) -> ResultReader:
        """Return a reader of the same items in another number."""
        shape = self.shape.with_rows(rows)
        return ResultReader(self.name, shape, convert=self.converts, never_none=self._never_none)

    def collect(self, result: Result[Any], statement: object) -> object:
        """Turn a result into what the shape promises.

        Raises:
            NoRowError: Exactly one row is promised, but there is none.
            TooManyRowsError: At most one row is promised, but there are more.
            QueryDeclarationError: The columns or their types are not what the annotation says.
        """
        if self.shape.rows is _NONE:
            result.close()
            return None
        return self.settled(self.items(result), statement)

    def settled(self, items: Sequence[Any], statement: object) -> object:
        """Return as many items as the shape promises.

        Raises:
            NoRowError: Exactly one row is promised, but there is none.
            TooManyRowsError: At most one row is promised, but there are more.
        """
        rows = self.shape.rows
        if rows is _MANY:
            return items
        if rows is _NONE:
            return None
        if len(items) > 1:
            raise TooManyRowsError(self.name, str(statement))
        if items:
            return _typed(items[0], statement) if self.shape.kind is None else items[0]
        if rows is _MAYBE:
            return None
        raise NoRowError(self.name, str(statement))

    def items(self, result: Result[Any]) -> Sequence[Any]:
        """Turn all rows of a result into items.

        Raises:
            QueryDeclarationError: The columns or their types are not what the annotation says.
        """
        making = self._making(tuple(result.keys()))
        if needs_unique(result):
            result = result.unique()
        if making.build is None and not making.values:
            return result.scalars().all()
        return self._all(making, result.all())

    def items_of(self, rows: Sequence[Sequence[Any]], names: Sequence[str]) -> Sequence[Any]:
        """Turn rows with columns of these names into items.

        Raises:
            QueryDeclarationError: The columns or their types are not what the annotation says.
        """
        return self._all(self._making(tuple(names)), rows)

    def _all(self, making: _Making, rows: Sequence[Sequence[Any]]) -> list[Any]:
        for value in making.unseen:
            # Column by column: a loop over all rows costs less than one more step for each of them.
            place = value.place
            for row in rows:
                if row[place] is None:
                    raise self._null(value)
        build = making.build
        if build is None:
            return [row[0] for row in rows]
        try:
            return build(rows)
        except ValueTypeError as error:
            for value in making.values:
                if any(row[value.place] is None for row in rows):
                    raise self._null(value) from None
            raise self._wrong_type(error) from None

    def _making(self, names: tuple[str, ...]) -> _Making:
        # The columns of `SELECT *` may change while the program runs.
        if self._made is None or self._made.names != names:
            self._made = self._new_making(names)
        return self._made

    def _new_making(self, names: tuple[str, ...]) -> _Making:
        build = self._new_builder(names)
        values = promised_values(self.shape, names, self._never_none)
        converts = self.converts and self.shape.item in _CONVERTED
        unseen = [value for value in values if not converts or converter_for(value.annotation) is None]
        return _Making(names, build, values, unseen)

    def _new_builder(self, names: tuple[str, ...]) -> Builder | None:
        """Return what makes items of rows; None for the first column as it is."""
        item = self.shape.item
        if item is Item.ROW or (item in _SINGLE and len(names) > 1 and self.shape.kind is None):
            return list
        if item in _SINGLE:
            return self._single_builder()
        try:
            kind = dict if item is Item.MAPPING else self.shape.kind
            return record_builder(kind, names, convert=self.converts)
        except MissingColumnError as error:
            raise QueryDeclarationError(
                self.name,
                f"{self.shape.kind.__name__}.{error} is no column of its result",
                f"select it, or give the field a default; the columns are: {', '.join(names)}.",
            ) from None

    def _single_builder(self) -> Builder | None:
        convert = self.converts or self.shape.kind is bool
        scalar = self.shape.item is Item.SCALAR
        converter = converter_for(self.shape.annotation) if convert and scalar else None
        if converter is None:
            return None
        return lambda rows: [converter(row[0]) for row in rows]

    def _null(self, value: PromisedValue) -> QueryDeclarationError:
        return QueryDeclarationError(self.name, value.problem(), value.fix())

    def _wrong_type(self, error: ValueTypeError) -> QueryDeclarationError:
        wanted, given = error.args
        return QueryDeclarationError(
            self.name,
            f"it promises {wanted}, but the database returns {given}",
            f"annotate what comes, or convert it in the statement with `CAST(... AS ...)` to {wanted}.",
        )


def _typed(value: object, statement: Any) -> object:  # noqa: ANN401  # any statement
    """Return a number of the type that the statement says: MariaDB sums integers up to a decimal."""
    if not isinstance(value, Decimal) or not isinstance(statement, Select):
        return value
    kind = next(iter(statement.selected_columns)).type
    return int(value) if isinstance(kind, Integer) and value == int(value) else value


def rows_of(result: Result[Any]) -> tuple[Sequence[Any], Sequence[str]]:
    """Return all rows of a result, each once, and the names of their columns."""
    names = tuple(result.keys())
    return (result.unique() if needs_unique(result) else result).all(), names
