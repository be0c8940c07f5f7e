"""This module holds the queries whose body returns the statement: `@query.many` and its siblings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Executable
from sqlalchemy.sql import Select

from unitwork._logic.shape import Item, Rows, Shape, ShapeError, item_of, shape_of
from unitwork._logic.values.annotations import class_or_none
from unitwork._logic.writes import is_write
from unitwork._runtime.lanes.calls import StatementCall
from unitwork._runtime.lanes.results import ResultReader
from unitwork.query.clauses import only_entity
from unitwork.query.declared import DeclaredQuery
from unitwork.query.forms import PAGES, check_request
from unitwork.query.selecting import columns_for

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from unitwork.errors import QueryDeclarationError
    from unitwork.query.signature import QuerySignature

_RECORDS = frozenset({Item.RECORD, Item.MAPPING})


class Built:
    """One query whose body returns the statement.

    Args:
        function: The body.
        rows: How many rows it promises.
        scalar: The first column alone is what it promises.
        into: The class of records that rows become; without one they are what the statement selects.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        rows: Rows,
        *,
        scalar: bool = False,
        into: Any = None,  # noqa: ANN401  # a record class
    ) -> None:
        self._function = function
        self._rows = rows
        self._scalar = scalar
        self._into = into
        self._columns: dict[type, list[ColumnElement[Any]]] = {}

    def query(self, signature: QuerySignature, entity: type | None) -> DeclaredQuery:
        """Call the body for each call, and run what it returns."""
        shape = self._records(signature, entity)
        if shape is None:
            self._refuse_annotation(signature)
            # `Select[Model]` is plain `Select` at run time: each statement tells what its rows are.
            shape = Shape(self._rows, Item.SCALAR if self._scalar else Item.ENTITY)
        check_request(signature, self._rows)
        # What a statement computes, the database may answer in another type than SQLAlchemy says.
        reader = ResultReader(signature.name, shape, convert=shape.item in _RECORDS)
        query = DeclaredQuery(signature, reader, self._asker(signature, shape))
        query.counts = self._rows is Rows.NONE
        return query

    def _records(self, signature: QuerySignature, entity: type | None) -> Shape | None:
        """Return the shape of the records that `into` or the annotation names; None if they name none."""
        shape = None
        with contextlib.suppress(ShapeError):
            if self._into is not None:
                self._refuse_annotation(signature)
                shape = item_of(self._into, entity).with_rows(self._rows)
            else:
                shape = shape_of(signature.returns, entity, PAGES)
        if shape is None or shape.item not in _RECORDS:
            if self._into is None:
                return None
            raise signature.wrong(
                f"`into={getattr(self._into, '__name__', self._into)}` is no record",
                "name a dataclass, NamedTuple, TypedDict, Pydantic model, msgspec Struct or `dict`.",
            )
        if shape.rows is not self._rows:
            raise signature.wrong(
                f"it is annotated as @query.{shape.rows.value} returns, but declared with {self._decorator}",
                "make both the same.",
            )
        return shape

    @property
    def _decorator(self) -> str:
        return f"@query.{'scalar' if self._scalar else self._rows.value}"

    def _refuse_annotation(self, signature: QuerySignature) -> None:
        returns = class_or_none(signature.returns)
        if returns is not None and not issubclass(returns, Executable):
            raise self._wrong(signature, returns)

    def _wrong(self, signature: QuerySignature, returned: type) -> QueryDeclarationError:
        needed = "statement" if self._rows is Rows.NONE else "Select"
        fix = "return `update(Model)...`, `delete(Model)...` or `insert(Model)...`."
        if self._rows is not Rows.NONE:
            fix = (
                "return `select(Model).where(...)`; for raw SQL return "
                "`select(Model).from_statement(text(...))`."
            )
        problem = f"it returns {returned.__name__}, but {self._decorator} needs a SQLAlchemy {needed}"
        return signature.wrong(problem, fix)

    def _asker(
        self, signature: QuerySignature, shape: Shape
    ) -> Callable[[Any, dict[str, Any]], StatementCall]:
        function = self._function
        wanted = Select if self._rows in (Rows.PAGE, Rows.CURSOR_PAGE) else Executable
        records = shape.item in _RECORDS

        def ask(owner: object, arguments: dict[str, Any]) -> StatementCall:
            statement = function(owner, **arguments)
            if not isinstance(statement, wanted):
                raise self._wrong(signature, type(statement))
            if not isinstance(statement, Select):
                return StatementCall(statement, None, writes=is_write(statement))
            return StatementCall(self._of_columns(signature, shape, statement) if records else statement)

        return ask

    def _of_columns(self, signature: QuerySignature, shape: Shape, statement: Select[Any]) -> Select[Any]:
        """Return a statement that selects no entity as a whole where its columns are to fill records."""
        entity = only_entity(statement)
        if entity is None:
            return statement
        columns = self._columns.get(entity)
        if columns is None:
            columns = columns_for(signature, shape, entity)
            if isinstance(entity, type):  # an alias may be another one in each call
                self._columns[entity] = columns
        return statement.with_only_columns(*columns)
