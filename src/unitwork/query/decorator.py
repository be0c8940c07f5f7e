"""This module holds `@query`, the decorator that declares what a repository method asks."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, overload

from sqlalchemy import Select
from sqlalchemy.sql.base import Executable

from unitwork._logic.paging import CursorPage, Page
from unitwork._logic.shape import Rows
from unitwork.errors import QueryDeclarationError
from unitwork.query.declared import Declaration, Form
from unitwork.query.forms import Built, Derived, FullSQL, TextCondition

Method = TypeVar("Method", bound=Callable[..., Any])
Owner = TypeVar("Owner")
M = TypeVar("M")
P = ParamSpec("P")

Body = Callable[Concatenate[Owner, P], Select[M]]
"""A method that returns a Select of one thing."""
TupleBody = Callable[Concatenate[Owner, P], Select[tuple[M]]]
"""The same, as SQLAlchemy 2.0 wrote the type."""
Asking = Callable[Concatenate[Owner, P], Coroutine[Any, Any, M]]
"""A method that runs a query."""


class QueryDecorator:
    """What `query` is: a decorator for methods of a repository.

    `@query("email = :email")` takes the WHERE clause as text, `@query.sql("…")` a whole statement,
    `@query` alone reads the names of the parameters, and `@query.one`, `.maybe`, `.many`,
    `.scalar`, `.page`, `.cursor_page`, `.stream` and `.execute` run the statement that the body
    returns. What cannot work is refused at import.
    """

    @overload
    def __call__(self, method: Method, /) -> Method: ...
    @overload
    def __call__(
        self, expression: str | None = None, /, *, expr: str | None = None, unique: bool | None = None
    ) -> Callable[[Method], Method]: ...
    def __call__(self, what: Any = None, /, *, expr: str | None = None, unique: bool | None = None) -> Any:
        """Declare a query by the text of its WHERE clause, or by the names of its parameters.

        The method needs no body. Its parameters are the names that the text binds with a colon; its
        return annotation is the promise: `Model` (exactly one row), `Model | None`, `list[Model]`,
        `Page[Model]`, `CursorPage[Model]`, `AsyncIterator[Model]`, `int` (a count), `bool` (exists),
        or a dataclass or other record of some attributes in place of the model.

        Without text, a parameter is an attribute that must be equal, or one with a suffix:
        `age__gte`, `name__in`, `email__like`, `deleted_at__isnull`.

        Args:
            what: SQL after WHERE, with column names and `:parameters`; or the method itself.
            expr: The same text, by keyword.
            unique: True if the annotation must promise at most one row, False if many; a check only.

        Raises:
            QueryDeclarationError: Names, shape and text do not fit; at import.

        Database:
            One SELECT. Commits nothing, and holds no connection afterwards unless a transaction is open.
        """
        if callable(what):
            return _declare(cast("Callable[..., Any]", what), Derived())
        text = what if what is not None else expr
        form: Form = Derived() if text is None else TextCondition(text, unique=unique)
        return lambda method: _declare(method, form)

    def sql(self, text: str, /) -> Callable[[Method], Method]:
        """Declare a query by its whole SQL; the annotation says what the rows become.

        INSERT, UPDATE and DELETE run in the open transaction or one of their own; annotated with
        `int` they return the number of rows, with `None` nothing.
        """
        return lambda method: _declare(method, FullSQL(text))

    @overload
    def one(self, body: TupleBody[Owner, P, M], /) -> Asking[Owner, P, M]: ...
    @overload
    def one(self, body: Body[Owner, P, M], /) -> Asking[Owner, P, M]: ...
    def one(self, body: Callable[..., Any], /) -> Any:
        """Run the statement that the body returns; exactly one row, else NoRowError or TooManyRowsError."""
        return _built(body, Rows.ONE)

    @overload
    def maybe(self, body: TupleBody[Owner, P, M], /) -> Asking[Owner, P, M | None]: ...
    @overload
    def maybe(self, body: Body[Owner, P, M], /) -> Asking[Owner, P, M | None]: ...
    def maybe(self, body: Callable[..., Any], /) -> Any:
        """Run the statement that the body returns; one row or None, else TooManyRowsError."""
        return _built(body, Rows.MAYBE)

    @overload
    def many(self, body: TupleBody[Owner, P, M], /) -> Asking[Owner, P, list[M]]: ...
    @overload
    def many(self, body: Body[Owner, P, M], /) -> Asking[Owner, P, list[M]]: ...
    def many(self, body: Callable[..., Any], /) -> Any:
        """Run the statement that the body returns; all rows."""
        return _built(body, Rows.MANY)

    @overload
    def scalar(self, body: TupleBody[Owner, P, M], /) -> Asking[Owner, P, M]: ...
    @overload
    def scalar(self, body: Body[Owner, P, M], /) -> Asking[Owner, P, M]: ...
    def scalar(self, body: Callable[..., Any], /) -> Any:
        """Run the statement that the body returns; the first column of exactly one row."""
        return _built(body, Rows.ONE, scalar=True)

    @overload
    def page(self, body: TupleBody[Owner, P, M], /) -> Asking[Owner, P, Page[M]]: ...
    @overload
    def page(self, body: Body[Owner, P, M], /) -> Asking[Owner, P, Page[M]]: ...
    def page(self, body: Callable[..., Any], /) -> Any:
        """Page the statement that the body returns; one parameter is a PageRequest."""
        return _built(body, Rows.PAGE)

    @overload
    def cursor_page(self, body: TupleBody[Owner, P, M], /) -> Asking[Owner, P, CursorPage[M]]: ...
    @overload
    def cursor_page(self, body: Body[Owner, P, M], /) -> Asking[Owner, P, CursorPage[M]]: ...
    def cursor_page(self, body: Callable[..., Any], /) -> Any:
        """Page the statement that the body returns by cursors; one parameter is a CursorRequest."""
        return _built(body, Rows.CURSOR_PAGE)

    @overload
    def stream(
        self, body: TupleBody[Owner, P, M], /
    ) -> Callable[Concatenate[Owner, P], AsyncIterator[M]]: ...
    @overload
    def stream(self, body: Body[Owner, P, M], /) -> Callable[Concatenate[Owner, P], AsyncIterator[M]]: ...
    def stream(self, body: Callable[..., Any], /) -> Any:
        """Yield the rows of the statement that the body returns, in constant memory."""
        return _built(body, Rows.STREAM)

    def execute(
        self, body: Callable[Concatenate[Owner, P], Executable], /
    ) -> Callable[Concatenate[Owner, P], Coroutine[Any, Any, int]]:
        """Run the INSERT, UPDATE or DELETE that the body returns; the number of rows it touched."""
        return _built(body, Rows.NONE)


def _declare(method: Method, form: Form) -> Method:
    if inspect.isasyncgenfunction(method) or inspect.isgeneratorfunction(method):
        raise QueryDeclarationError(
            _name_of(method), "its body has a `yield`", "leave the body empty: `...`."
        )
    if not inspect.iscoroutinefunction(method) and "Async" not in str(method.__annotations__.get("return")):
        raise QueryDeclarationError(_name_of(method), "it is not `async def`", "write `async def`.")
    if not _is_empty(method):
        raise QueryDeclarationError(
            _name_of(method),
            "it has a body, which would never run",
            "leave the body empty: `...`; to return a statement use `@query.many` and its siblings.",
        )
    return cast("Method", Declaration(method, form))


def _built(body: Callable[..., Any], rows: Rows, *, scalar: bool = False) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(body):
        raise QueryDeclarationError(
            _name_of(body), "its body returns a statement, but it is `async def`", "write `def`."
        )
    declaration = Declaration(body, Built(body, rows, scalar=scalar), returns_statement=True)
    return cast("Callable[..., Any]", declaration)


def _is_empty(method: Callable[..., Any]) -> bool:
    """Say whether a body is `...`, `pass`, a docstring, or raises NotImplementedError."""
    code = method.__code__
    stars = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    parameters = code.co_argcount + code.co_kwonlyargcount + stars
    used = {*code.co_names, *code.co_freevars, *code.co_varnames[parameters:]}
    return used <= {"NotImplementedError"}


def _name_of(method: Callable[..., Any]) -> str:
    return f"{method.__module__}.{method.__qualname__}"


query = QueryDecorator()
