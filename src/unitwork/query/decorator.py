"""This module holds `@query`, the decorator that declares what a repository method asks."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    ParamSpec,
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    cast,
    overload,
)

from sqlalchemy.sql.base import Executable

from unitwork._later import later
from unitwork.errors import QueryDeclarationError
from unitwork.query.declaration import Declaration, Form

if TYPE_CHECKING:
    from sqlalchemy import Row, Select
    from sqlalchemy.sql.selectable import TypedReturnsRows

    from unitwork._logic.paging import CursorPage, Page

if TYPE_CHECKING:  # what a program that declares no query does not use
    from unitwork._logic import shape
    from unitwork.query import forms, statements
else:
    shape = later("unitwork._logic.shape")
    forms = later("unitwork.query.forms")
    statements = later("unitwork.query.statements")

Method = TypeVar("Method", bound=Callable[..., Any])
Owner = TypeVar("Owner")
M = TypeVar("M")
P = ParamSpec("P")

A = TypeVar("A")
B = TypeVar("B")
Ts = TypeVarTuple("Ts")

# Written as text: what `Select` is generic in differs between the versions of SQLAlchemy.
Body: TypeAlias = "Callable[Concatenate[Owner, P], Select[M]]"
"""A method that returns a Select of one thing."""
TupleBody: TypeAlias = "Callable[Concatenate[Owner, P], Select[tuple[M]]]"
"""The same, as SQLAlchemy 2.0 wrote the type."""
RowBody: TypeAlias = "Callable[Concatenate[Owner, P], Select[A, B, *Ts]]"
"""A method that returns a Select of several things."""
RecordBody: TypeAlias = "Callable[Concatenate[Owner, P], TypedReturnsRows[*tuple[Any, ...]]]"
"""A method that returns a statement whose rows become records."""
Asking: TypeAlias = Callable[Concatenate[Owner, P], Coroutine[Any, Any, M]]
"""A method that runs a query."""
Streaming: TypeAlias = Callable[Concatenate[Owner, P], AsyncIterator[M]]
"""A method that runs a query row by row."""


class QueryDecorator:
    """What `query` is: a decorator for methods of a repository.

    `@query("email = :email")` takes the WHERE clause as text, `@query.sql("…")` a whole statement,
    `@query` alone reads the names of the parameters, and `@query.one`, `.maybe`, `.many`,
    `.scalar`, `.page`, `.cursor_page`, `.stream` and `.execute` run the statement that the body
    returns. What cannot work is refused at import.

    The rows of a statement are what it selects: the entity or value of `Select[User]`, a `Row` of
    `Select[int, str]`. With `@query.many(into=Contact)` each becomes a record: a dataclass, NamedTuple,
    TypedDict, Pydantic model or msgspec Struct, filled by name, or a `dict`; of a statement that
    selects an entity alone, only the columns of the record are selected.
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
            return _declare(cast("Callable[..., Any]", what), forms.Derived())
        text = what if what is not None else expr
        form: Form = forms.Derived() if text is None else forms.TextCondition(text, unique=unique)
        return lambda method: _declare(method, form)

    def sql(self, text: str, /) -> Callable[[Method], Method]:
        """Declare a query by its whole SQL; the annotation says what the rows become.

        INSERT, UPDATE and DELETE run in the open transaction or one of their own; annotated with
        `int` they return the number of rows, with `None` nothing.
        """
        return lambda method: _declare(method, forms.FullSQL(text))

    @overload
    def one(self, body: TupleBody[Owner, P, M], /) -> Asking[Owner, P, M]: ...
    @overload
    def one(self, body: Body[Owner, P, M], /) -> Asking[Owner, P, M]: ...
    @overload
    def one(self, body: RowBody[Owner, P, A, B, *Ts], /) -> Asking[Owner, P, Row[A, B, *Ts]]: ...
    @overload
    def one(self, /, *, into: type[M]) -> Callable[[RecordBody[Owner, P]], Asking[Owner, P, M]]: ...
    def one(self, body: Any = None, /, *, into: Any = None) -> Any:
        """Run the statement that the body returns; exactly one row, else NoRowError or TooManyRowsError."""
        return _built(body, shape.Rows.ONE, into=into)

    @overload
    def maybe(self, body: TupleBody[Owner, P, M], /) -> Asking[Owner, P, M | None]: ...
    @overload
    def maybe(self, body: Body[Owner, P, M], /) -> Asking[Owner, P, M | None]: ...
    @overload
    def maybe(self, body: RowBody[Owner, P, A, B, *Ts], /) -> Asking[Owner, P, Row[A, B, *Ts] | None]: ...
    @overload
    def maybe(self, /, *, into: type[M]) -> Callable[[RecordBody[Owner, P]], Asking[Owner, P, M | None]]: ...
    def maybe(self, body: Any = None, /, *, into: Any = None) -> Any:
        """Run the statement that the body returns; one row or None, else TooManyRowsError."""
        return _built(body, shape.Rows.MAYBE, into=into)

    @overload
    def many(self, body: TupleBody[Owner, P, M], /) -> Asking[Owner, P, list[M]]: ...
    @overload
    def many(self, body: Body[Owner, P, M], /) -> Asking[Owner, P, list[M]]: ...
    @overload
    def many(self, body: RowBody[Owner, P, A, B, *Ts], /) -> Asking[Owner, P, list[Row[A, B, *Ts]]]: ...
    @overload
    def many(self, /, *, into: type[M]) -> Callable[[RecordBody[Owner, P]], Asking[Owner, P, list[M]]]: ...
    def many(self, body: Any = None, /, *, into: Any = None) -> Any:
        """Run the statement that the body returns; all rows."""
        return _built(body, shape.Rows.MANY, into=into)

    @overload
    def scalar(self, body: TupleBody[Owner, P, M], /) -> Asking[Owner, P, M]: ...
    @overload
    def scalar(self, body: Body[Owner, P, M], /) -> Asking[Owner, P, M]: ...
    def scalar(self, body: Callable[..., Any], /) -> Any:
        """Run the statement that the body returns; the first column of exactly one row."""
        return _built(body, shape.Rows.ONE, scalar=True)

    @overload
    def page(self, body: TupleBody[Owner, P, M], /) -> Asking[Owner, P, Page[M]]: ...
    @overload
    def page(self, body: Body[Owner, P, M], /) -> Asking[Owner, P, Page[M]]: ...
    @overload
    def page(self, body: RowBody[Owner, P, A, B, *Ts], /) -> Asking[Owner, P, Page[Row[A, B, *Ts]]]: ...
    @overload
    def page(self, /, *, into: type[M]) -> Callable[[RecordBody[Owner, P]], Asking[Owner, P, Page[M]]]: ...
    def page(self, body: Any = None, /, *, into: Any = None) -> Any:
        """Page the statement that the body returns; one parameter is a PageRequest."""
        return _built(body, shape.Rows.PAGE, into=into)

    @overload
    def cursor_page(self, body: TupleBody[Owner, P, M], /) -> Asking[Owner, P, CursorPage[M]]: ...
    @overload
    def cursor_page(self, body: Body[Owner, P, M], /) -> Asking[Owner, P, CursorPage[M]]: ...
    @overload
    def cursor_page(
        self, body: RowBody[Owner, P, A, B, *Ts], /
    ) -> Asking[Owner, P, CursorPage[Row[A, B, *Ts]]]: ...
    @overload
    def cursor_page(
        self, /, *, into: type[M]
    ) -> Callable[[RecordBody[Owner, P]], Asking[Owner, P, CursorPage[M]]]: ...
    def cursor_page(self, body: Any = None, /, *, into: Any = None) -> Any:
        """Page the statement that the body returns by cursors; one parameter is a CursorRequest."""
        return _built(body, shape.Rows.CURSOR_PAGE, into=into)

    @overload
    def stream(self, body: TupleBody[Owner, P, M], /) -> Streaming[Owner, P, M]: ...
    @overload
    def stream(self, body: Body[Owner, P, M], /) -> Streaming[Owner, P, M]: ...
    @overload
    def stream(self, body: RowBody[Owner, P, A, B, *Ts], /) -> Streaming[Owner, P, Row[A, B, *Ts]]: ...
    @overload
    def stream(self, /, *, into: type[M]) -> Callable[[RecordBody[Owner, P]], Streaming[Owner, P, M]]: ...
    def stream(self, body: Any = None, /, *, into: Any = None) -> Any:
        """Yield the rows of the statement that the body returns, in constant memory."""
        return _built(body, shape.Rows.STREAM, into=into)

    def execute(
        self, body: Callable[Concatenate[Owner, P], Executable], /
    ) -> Callable[Concatenate[Owner, P], Coroutine[Any, Any, int]]:
        """Run the INSERT, UPDATE or DELETE that the body returns; the number of rows it touched."""
        return _built(body, shape.Rows.NONE)


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


def _built(
    body: Callable[..., Any] | None,
    rows: shape.Rows,
    *,
    scalar: bool = False,
    into: Any = None,  # noqa: ANN401  # a record class
) -> Callable[..., Any]:
    if body is None:
        return lambda method: _built(method, rows, scalar=scalar, into=into)
    if inspect.iscoroutinefunction(body):
        raise QueryDeclarationError(
            _name_of(body), "its body returns a statement, but it is `async def`", "write `def`."
        )
    built = statements.Built(body, rows, scalar=scalar, into=into)
    return cast("Callable[..., Any]", Declaration(body, built, returns_statement=True))


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
