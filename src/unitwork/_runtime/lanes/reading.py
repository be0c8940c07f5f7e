"""This module turns results into what a query promises."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, Select

from unitwork._logic.records import MissingColumnError, record_builder
from unitwork._logic.shape import Item, Rows, Shape
from unitwork._logic.values import ValueTypeError, converter_for
from unitwork.errors import NoRowError, QueryDeclarationError, TooManyRowsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import Result

_SINGLE = frozenset({Item.ENTITY, Item.SCALAR})


class Reading:
    """What becomes of the rows of a query. Lives: as long as the query that declares it.

    Args:
        name: Of the query, for errors.
        shape: What it promises.
        convert: The values come from SQL text, which has no result types: make them what the
            annotations say.
    """

    __slots__ = ("_built", "_convert", "name", "shape")

    def __init__(self, name: str, shape: Shape, *, convert: bool = False) -> None:
        self.name = name
        self.shape = shape
        self._convert = convert
        self._built: tuple[tuple[str, ...], Callable[[Any], Any] | None] | None = None

    def with_rows(self, rows: Rows) -> Reading:
        """Return a reading of the same items in another number."""
        return Reading(self.name, self.shape.with_rows(rows), convert=self._convert)

    def collect(self, result: Result[Any], statement: object) -> object:
        """Turn a result into what the shape promises.

        Raises:
            NoRowError: Exactly one row is promised, but there is none.
            TooManyRowsError: At most one row is promised, but there are more.
            QueryDeclarationError: The columns or their types are not what the annotation says.
        """
        if self.shape.rows is Rows.NONE:
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
        if rows is Rows.MANY:
            return items
        if rows is Rows.NONE:
            return None
        if len(items) > 1:
            raise TooManyRowsError(self.name, str(statement))
        if items:
            return _typed(items[0], statement) if self.shape.kind is None else items[0]
        if rows is Rows.MAYBE:
            return None
        raise NoRowError(self.name, str(statement))

    def items(self, result: Result[Any]) -> Sequence[Any]:
        """Turn all rows of a result into items.

        Raises:
            QueryDeclarationError: The columns or their types are not what the annotation says.
        """
        build = self._builder(tuple(result.keys()))
        if _repeats(result):
            result = result.unique()
        return result.scalars().all() if build is None else self._all(build, result)

    def items_of(self, rows: Sequence[Sequence[Any]], names: Sequence[str]) -> Sequence[Any]:
        """Turn rows with columns of these names into items.

        Raises:
            QueryDeclarationError: The columns or their types are not what the annotation says.
        """
        build = self._builder(tuple(names))
        return [row[0] for row in rows] if build is None else self._all(build, rows)

    def _all(self, build: Callable[[Any], Any], rows: Iterable[Sequence[Any]]) -> list[Any]:
        try:
            return [build(row) for row in rows]
        except ValueTypeError as error:
            raise self._wrong_type(error) from None

    def _builder(self, names: tuple[str, ...]) -> Callable[[Any], Any] | None:
        """Return what makes an item of a row; None for the first column as it is."""
        # The columns of `SELECT *` may change while the program runs.
        if self._built is None or self._built[0] != names:
            self._built = (names, self._new_builder(names))
        return self._built[1]

    def _new_builder(self, names: tuple[str, ...]) -> Callable[[Any], Any] | None:
        item = self.shape.item
        if item is Item.ROW or (item in _SINGLE and len(names) > 1 and self.shape.kind is None):
            return lambda row: row
        if item in _SINGLE:
            return self._single_builder()
        try:
            kind = dict if item is Item.MAPPING else self.shape.kind
            return record_builder(kind, names, convert=self._convert)
        except MissingColumnError as error:
            raise QueryDeclarationError(
                self.name,
                f"{self.shape.kind.__name__}.{error} is no column of its result",
                f"select it, or give the field a default; the columns are: {', '.join(names)}.",
            ) from None

    def _single_builder(self) -> Callable[[Any], Any] | None:
        convert = self._convert or self.shape.kind is bool
        converter = converter_for(self.shape.kind) if convert and self.shape.item is Item.SCALAR else None
        if converter is None:
            return None
        return lambda row: converter(row[0])

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
    return (result.unique() if _repeats(result) else result).all(), names


def _repeats(result: Result[Any]) -> bool:
    # SQLAlchemy marks results whose rows repeat because a collection is loaded by a join, and
    # refuses to read them without `unique()`.
    return getattr(result, "_unique_filter_state", None) is not None
