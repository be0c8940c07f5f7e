"""This module holds the `@query` of components: its rows need no annotation, it runs read-only."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, overload

from unitwork._logic.paging import Page, PageRequest
from unitwork._logic.writes import text_returns_rows, text_writes
from unitwork.errors import OptionError, QueryDeclarationError
from unitwork.integrations.pico_ioc.binding import binds
from unitwork.integrations.pico_ioc.paged_sql import PagedSQL
from unitwork.integrations.pico_ioc.transactions import DECORATION, TAKES_DECORATION, ComponentDecoration
from unitwork.options import TransactionOptions
from unitwork.query.declaration import Declaration, Form
from unitwork.query.decorator import QueryDecorator
from unitwork.query.forms import Derived, FullSQL, TextCondition

if TYPE_CHECKING:
    from sqlalchemy import Row

Method = TypeVar("Method", bound=Callable[..., Any])

_READ_ONLY = ComponentDecoration(TransactionOptions.of(read_only=True))


class Promise(NamedTuple):
    """How many rows the arguments of `@query` promise, for a method whose annotation does not say."""

    paged: bool = False
    unique: bool | None = None

    @property
    def annotation(self) -> Any:  # noqa: ANN401  # any annotation
        """What the method would return."""
        if self.paged:
            return Page[Any]
        return Any | None if self.unique else list[Any]


class ComponentQuery(Declaration):
    """A query of a component, before the class that holds it is complete. Lives: until it is."""

    def __init__(self, function: Callable[..., Any], form: Form, promise: Promise) -> None:
        super().__init__(function, form)
        setattr(self, TAKES_DECORATION, True)
        self._promise = promise

    def bound_to(self, owner: type, entity: type | None) -> Callable[..., Any]:
        """Return the method that runs the query, in a block that is read-only unless it says otherwise.

        Raises:
            QueryDeclarationError: The declaration cannot work.
        """
        annotations = self.function.__annotations__
        sql = self.form.sql if isinstance(self.form, FullSQL) else ""
        writes = text_writes(sql)
        counts = writes and not text_returns_rows(sql)
        bare = "return" not in annotations and not counts
        annotations.setdefault("return", int if counts else self._promise.annotation)
        if self._promise.paged and "page" in inspect.signature(self.function).parameters:
            annotations["page"] = PageRequest
        method = super().bound_to(owner, entity)
        if not inspect.iscoroutinefunction(method):
            binds(method)  # a stream has a transaction of its own
            return method
        # `@transactional` may stand above `@query` or below it.
        below: ComponentDecoration = getattr(self.function, DECORATION, _READ_ONLY)
        decoration: ComponentDecoration = getattr(self, DECORATION, below)
        if writes and decoration is _READ_ONLY:
            raise QueryDeclarationError(
                f"{owner.__module__}.{owner.__qualname__}.{self.function.__name__}",
                "it changes rows, but a query's block is read-only",
                "add `@transactional`, whose block is read-write.",
            )
        return decoration.wrap(_as_mappings(method) if bare else method)


def _as_mappings(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the rows of a method without promise as SQLAlchemy's own mappings."""

    @wraps(method)
    async def run(*arguments: Any, **keywords: Any) -> object:
        found = await method(*arguments, **keywords)
        if isinstance(found, Page):
            return replace(found, content=[_mapping(row) for row in found.content])
        if isinstance(found, list):
            return [_mapping(row) for row in found]
        return None if found is None else _mapping(found)

    return run


def _mapping(row: Row[Any]) -> object:
    return row._mapping  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # it is public


class ComponentQueryDecorator(QueryDecorator):
    """What `query` is in components: `unitwork.query`, with the arguments that pico applications know.

    `@query(expr="owner = :owner", unique=True)` selects the entity of the repository, `@query.sql("…")`
    runs a whole statement, `paged=True` pages either. A body is never run. The return annotation is the
    promise, as for `unitwork.query`; a method without one returns SQLAlchemy's `RowMapping`: one or None
    (`unique=True`), a page of them, or a list.
    """

    @overload
    def __call__(self, method: Method, /) -> Method: ...
    @overload
    def __call__(
        self,
        expression: str | None = None,
        /,
        *,
        expr: str | None = None,
        sql: str | None = None,
        paged: bool = False,
        unique: bool | None = None,
    ) -> Callable[[Method], Method]: ...
    def __call__(
        self,
        what: Any = None,
        /,
        *,
        expr: str | None = None,
        sql: str | None = None,
        paged: bool = False,
        unique: bool | None = None,
    ) -> Any:
        """Declare a query by the text of its WHERE clause, by SQL, or by the names of its parameters.

        Args:
            what: SQL after WHERE, with column names and `:parameters`; or the method itself.
            expr: The same text, by keyword.
            sql: A whole statement instead.
            paged: The method takes a `PageRequest` and returns a page.
            unique: True if at most one row is promised, False if many.

        Raises:
            OptionError: Both a condition and a statement are given.
            QueryDeclarationError: Names, shape and text do not fit; at import.
            TooManyRowsError: `unique=True`, but there are more. At the call.

        Database:
            One SELECT, two for a page, in the open transaction or in a read-only one of their own.
        """
        if callable(what):
            return ComponentQuery(cast("Callable[..., Any]", what), Derived(), Promise())
        text = what if what is not None else expr
        if text is not None and sql is not None:
            raise OptionError("sql", sql, ["`expr` or `sql`, not both"])
        promise = Promise(paged, unique)
        return lambda method: _declare(method, _form(text, sql, promise), promise)

    def sql(
        self, text: str, /, *, paged: bool = False, unique: bool | None = None
    ) -> Callable[[Method], Method]:
        """Declare a query by its whole SQL; the annotation says what the rows become.

        The block around it is read-only: to change rows, add `@transactional`.
        """
        return self(sql=text, paged=paged, unique=unique)


def _form(expression: str | None, sql: str | None, promise: Promise) -> Form:
    if sql is not None:
        return PagedSQL(sql) if promise.paged else FullSQL(sql)
    return Derived() if expression is None else TextCondition(expression, unique=promise.unique)


def _declare(method: Method, form: Form, promise: Promise) -> Method:
    if inspect.isasyncgenfunction(method) or inspect.isgeneratorfunction(method):
        raise QueryDeclarationError(
            f"{method.__module__}.{method.__qualname__}", "its body has a `yield`", "leave it empty: `...`."
        )
    return cast("Method", ComponentQuery(method, form, promise))


query = ComponentQueryDecorator()
