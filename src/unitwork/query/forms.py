"""This module holds the ways to say what a query asks: text, parameter names, or a statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, select
from sqlalchemy import inspect as inspect_entity
from sqlalchemy.orm import aliased
from sqlalchemy.sql import Select

from unitwork._logic.paging import CursorPage, CursorRequest, Page, PageRequest
from unitwork._logic.shape import Item, Rows, Shape, ShapeError, shape_of
from unitwork._logic.values.annotations import allows_none
from unitwork._runtime.lanes.calls import StatementCall
from unitwork._runtime.lanes.results import ResultReader
from unitwork.query.declared import DeclaredQuery, page_parameter
from unitwork.query.derived import conditions_for
from unitwork.query.selecting import never_none, select_for
from unitwork.query.signature import values_in
from unitwork.query.text import (
    DeclaredText,
    mapper_of,
    takes_list,
)

if TYPE_CHECKING:
    from sqlalchemy import TextClause

    from unitwork.query.signature import QuerySignature

PAGES = {Page: Rows.PAGE, CursorPage: Rows.CURSOR_PAGE}
_REQUESTS = {Rows.PAGE: PageRequest, Rows.CURSOR_PAGE: CursorRequest}


def promised(signature: QuerySignature, entity: type | None) -> Shape:
    """Read the shape from the return annotation.

    Raises:
        QueryDeclarationError: Rows cannot become that, or a page has no request.
    """
    try:
        shape = shape_of(signature.returns, entity, PAGES)
    except ShapeError as error:
        raise signature.wrong(
            f"it returns {error}, which rows cannot become",
            "return the model, `Model | None`, `list[Model]`, a scalar, a dataclass or another record.",
        ) from None
    check_request(signature, shape.rows)
    return shape


def check_request(signature: QuerySignature, rows: Rows) -> None:
    """Refuse a page without its request, and a request without a page."""
    parameter = page_parameter(signature)
    wanted = _REQUESTS.get(rows)
    given = signature.parameters.get(parameter)
    if wanted is not None and given is not wanted:
        raise signature.wrong(
            f"it returns a page, but has no parameter of type {wanted.__name__}",
            f"add a parameter such as `page: {wanted.__name__}`.",
        )
    if wanted is None and parameter:
        raise signature.wrong(
            f"it takes a {given.__name__ if given else 'page request'}, but returns no page",
            "return `Page[Model]` or `CursorPage[Model]`.",
        )


def _needs_entity(signature: QuerySignature, entity: type | None) -> type:
    if entity is None:
        raise signature.wrong(
            "a condition needs an entity", "declare it in a `Repository[Model]`, or use `@query.sql`."
        )
    if inspect_entity(entity, raiseerr=False) is None:
        raise signature.wrong(
            f"{entity.__name__} is not mapped", "name a model: a class with `__tablename__` on a `Base`."
        )
    return entity


def _values(signature: QuerySignature) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that makes of the arguments of a call the values of a statement."""
    request = page_parameter(signature)
    lists = [name for name, annotation in signature.parameters.items() if takes_list(annotation)]
    if not request and not lists:
        return lambda arguments: arguments

    def values(arguments: dict[str, Any]) -> dict[str, Any]:
        chosen = {name: value for name, value in arguments.items() if name != request}
        for name in lists:
            if chosen[name] is not None or not allows_none(signature.parameters[name]):
                chosen[name] = values_in(name, chosen[name])
        return chosen

    return values


def _statement(signature: QuerySignature, shape: Shape, entity: type, criteria: Sequence[Any]) -> Select[Any]:
    """Select what the shape asks for from an entity, where the criteria hold."""
    if shape.kind is bool and shape.rows is Rows.ONE:
        return select(exists(select(1).select_from(entity).where(*criteria)))
    return select_for(signature, shape, entity).where(*criteria)


def _reader(signature: QuerySignature, shape: Shape, entity: type) -> ResultReader:
    """Return what reads the rows of one entity, whose model says which columns are never NULL."""
    known = frozenset[str]() if shape.item in (Item.ENTITY, Item.SCALAR) else never_none(entity)
    return ResultReader(signature.name, shape, never_none=known)


def _selecting(signature: QuerySignature, shape: Shape, entity: type, *criteria: Any) -> DeclaredQuery:
    """Build the statement once, for all calls."""
    statement = _statement(signature, shape, entity, criteria)
    values = _values(signature)
    return DeclaredQuery(
        signature,
        _reader(signature, shape, entity),
        lambda _owner, arguments: StatementCall(statement, values(arguments), fixed=True),
        target=entity,
    )


class TextCondition:
    """`@query("email = :email")`: the WHERE clause as text."""

    def __init__(self, expression: str, *, unique: bool | None = None) -> None:
        self.expression = expression
        self.unique = unique

    def query(self, signature: QuerySignature, entity: type | None) -> DeclaredQuery:
        """Select the entity where the condition holds."""
        known = _needs_entity(signature, entity)
        text = DeclaredText(signature, self.expression, besides=frozenset({page_parameter(signature)}))
        shape = self._fitting(signature, promised(signature, known))
        query = _selecting(signature, shape, known, text.condition(inspect_entity(known)))
        query.guessed_types = text.guessed
        return query

    def _fitting(self, signature: QuerySignature, shape: Shape) -> Shape:
        if not self.expression.strip():
            raise signature.wrong("its text is empty", "write what stands after WHERE, or `@query` alone.")
        if shape.rows is Rows.NONE:
            raise signature.wrong("it returns nothing", "say what it returns, for example `-> list[Model]`.")
        if self.unique is True and shape.rows is Rows.MANY:
            raise signature.wrong(
                "`unique=True` promises one row, but it returns a list", "return `Model | None`."
            )
        if self.unique is False and shape.rows in (Rows.ONE, Rows.MAYBE):
            raise signature.wrong(
                "`unique=False` promises many rows, but it returns one", "return `list[Model]`."
            )
        if shape.item is Item.SCALAR and shape.rows is not Rows.ONE:
            raise signature.wrong("a condition has no scalar for each row", "write `@query.sql`.")
        return shape


class FullSQL:
    """`@query.sql("SELECT …")`: the whole statement as text; also INSERT, UPDATE and DELETE."""

    def __init__(self, sql: str) -> None:
        self.sql = sql

    def query(self, signature: QuerySignature, entity: type | None) -> DeclaredQuery:
        """Run the text, and make of its rows what the annotation says."""
        text = DeclaredText(signature, self.sql, besides=frozenset({page_parameter(signature)}))
        shape = promised(signature, entity)
        clause = text.clause(mapper_of(entity))
        statement: Any = clause
        target: Any = None
        if shape.rows in _REQUESTS:
            statement, target = self._subquery(signature, shape, text, clause)
        elif shape.item is Item.ENTITY:
            statement = select(shape.kind).from_statement(clause)
        values, writes = _values(signature), text.writes
        query = DeclaredQuery(
            signature,
            ResultReader(signature.name, shape, convert=True),
            lambda _owner, arguments: StatementCall(statement, values(arguments), writes=writes, fixed=True),
            target=target,
        )
        query.counts = self._counts(signature, shape, text)
        query.guessed_types = text.guessed
        return query

    def _counts(self, signature: QuerySignature, shape: Shape, text: DeclaredText) -> bool:
        """Say whether the query returns how many rows it touches; refuse rows that cannot come."""
        if text.returns_rows or shape.rows is Rows.NONE:
            return False
        if text.writes and shape.rows is Rows.ONE and shape.kind in (int, bool):
            return True
        if text.calls:
            return False
        if text.writes:
            raise signature.wrong(
                "it changes rows and returns none of them",
                "return `None`, `int` (how many rows), `bool` (any row), or add RETURNING to the text.",
            )
        raise signature.wrong("its statement returns no rows", "return `None`.")

    def _subquery(
        self, signature: QuerySignature, shape: Shape, text: DeclaredText, clause: TextClause
    ) -> tuple[Any, Any]:
        if shape.item is not Item.ENTITY:
            raise signature.wrong(
                "only entities can be paged from SQL text", "return `Page[Model]`, or build a statement."
            )
        if text.is_ordered:
            raise signature.wrong(
                "its text has an ORDER BY or LIMIT, which a page replaces",
                "take it out; the request says the order: `PageRequest(sorts=[Sort(...)])`.",
            )
        mapper = inspect_entity(shape.kind)
        rows = clause.columns(*mapper.local_table.columns).subquery("unitwork_rows")
        target = aliased(shape.kind, rows)
        return select(target), target


class Derived:
    """`@query` alone: the names of the parameters say what must hold."""

    def query(self, signature: QuerySignature, entity: type | None) -> DeclaredQuery:
        """Select the entity where all parameters hold."""
        known = _needs_entity(signature, entity)
        shape = promised(signature, known)
        if shape.rows is Rows.NONE or (shape.item is Item.SCALAR and shape.rows is not Rows.ONE):
            raise signature.wrong(
                "it has no rows of the entity to return", "return `list[Model]`, int or bool."
            )
        derived = conditions_for(signature, known, besides=page_parameter(signature))
        if derived.fixed is not None:
            return _selecting(signature, shape, known, *derived.fixed)
        _statement(signature, shape, known, ())  # refuses at import what would fail at the call

        def ask(_owner: object, arguments: dict[str, Any]) -> StatementCall:
            return StatementCall(_statement(signature, shape, known, derived.for_values(arguments)))

        query = DeclaredQuery(signature, _reader(signature, shape, known), ask, target=known)
        query.column_types = derived.column_types
        return query
