"""This module completes a class that declares queries: binds them, and opens blocks around its methods."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, overload

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker

from unitwork._later import later
from unitwork.errors import DatabaseChoiceError, DeclarationError, OptionError
from unitwork.lifecycle import Lifecycle
from unitwork.options import TransactionOptions
from unitwork.query.declaration import QUERY, bind_declarations
from unitwork.transaction import TRANSACTIONAL, HasSource, begins_with_first_write

if TYPE_CHECKING:  # what a program needs when it has a Database
    from unitwork._runtime.access import repository_access as accesses
    from unitwork.query import declared
else:
    accesses = later("unitwork._runtime.access.repository_access")
    declared = later("unitwork.query.declared")

R = TypeVar("R")

_HANDLES = (Lifecycle, AsyncSession, async_scoped_session)


def access_of(owner: Any) -> accesses.RepositoryAccess:  # noqa: ANN401  # of any class
    """Return how an object with declared queries reaches its database.

    Its own way, if it has one; else the Database or `AsyncSession` that it holds as an attribute;
    else the ambient one.

    Raises:
        DatabaseChoiceError: It holds several.
    """
    access: accesses.RepositoryAccess | None = getattr(owner, "_database_access", None)
    if access is not None:
        return access
    held = [each for each in getattr(owner, "__dict__", {}).values() if isinstance(each, _HANDLES)]
    if len(held) > 1:
        raise DatabaseChoiceError(
            f"The repository {type(owner).__name__} holds several Databases or sessions.",
            [each.name for each in held if isinstance(each, Lifecycle)],
            "hold one, or open a block of the one that is meant and hold none.",
        )
    return access_to(held[0]) if held else accesses.ANYWHERE


def access_to(where: HasSource | accesses.GivenSession) -> accesses.RepositoryAccess:
    """Return the way to a Database, or to a session that is given.

    Raises:
        OptionError: It is neither, such as a factory of sessions: nobody would end those that it makes.
    """
    if isinstance(where, (AsyncSession, async_scoped_session)):
        return accesses.RepositoryAccess(None, where)
    written: Any = where
    if isinstance(written, type) or not hasattr(written, "source"):
        is_factory = isinstance(written, async_sessionmaker)
        of_it = "a session of it: `async with factory() as session:`" if is_factory else "an AsyncSession"
        given = written if isinstance(written, type) else type(written)
        allowed = [of_it, "a Database, which makes its own sessions"]
        raise OptionError("where", given.__name__, allowed)
    return accesses.RepositoryAccess(where.source, None)


def complete(cls: type, entity: type | None) -> None:
    """Bind the declared queries of a class, and make its public coroutine methods transactional.

    Raises:
        QueryDeclarationError: A query cannot work.
        DeclarationError: A public method is an async generator.
    """
    bind_declarations(cls, entity)
    for name, value in list(vars(cls).items()):
        if name.startswith("_"):
            continue
        if inspect.isasyncgenfunction(value):
            raise DeclarationError(
                f"{cls.__module__}.{cls.__qualname__}.{name}",
                "an async generator cannot be one transaction",
                "return a list; or declare a query that returns `AsyncIterator[...]`; or, if it only reads, "
                f"call it `_{name}` and return it from a plain `def {name}`.",
            )
        if _is_plain_coroutine(value):
            setattr(cls, name, _transactional_unless_given(value))


def entity_in_bases(cls: type) -> type | None:
    """Return the entity that a class names where it inherits: `Repository[User]`."""
    for base in getattr(cls, "__orig_bases__", ()):
        for argument in typing.get_args(base):
            if isinstance(argument, type) and argument is not Any:
                return argument
    return None


def _is_plain_coroutine(value: object) -> bool:
    return (
        inspect.iscoroutinefunction(value) and not hasattr(value, QUERY) and not hasattr(value, TRANSACTIONAL)
    )


def _transactional_unless_given(method: Callable[..., Any]) -> Callable[..., Any]:
    in_block = begins_with_first_write(method)

    @wraps(method)
    async def run(self: declared.HasAccess, *arguments: Any, **keywords: Any) -> object:
        # On a session of the caller's, the caller commits.
        chosen = method if self.database_access.given is not None else in_block
        return await chosen(self, *arguments, **keywords)

    setattr(run, TRANSACTIONAL, TransactionOptions.of())
    return run


@overload
def repository(cls: type[R], /) -> type[R]: ...
@overload
def repository(*, entity: type) -> Callable[[type[R]], type[R]]: ...
def repository(cls: Any = None, /, *, entity: type | None = None) -> Any:
    """Make a plain class a repository: its queries run, its coroutine methods are transactional.

    Args:
        cls: The class; need not inherit anything.
        entity: The mapped class that its queries are about.

    Raises:
        QueryDeclarationError: A declared query cannot work. At import.
        DeclarationError: A public method is an async generator. At import.

    Examples:
        >>> @repository(entity=User)
        ... class Users:
        ...     @query("email = :email")
        ...     async def by_email(self, email: str) -> User | None: ...
    """

    def adorn(plain: Any) -> Any:  # noqa: ANN401  # a class that gets attributes
        if not hasattr(plain, "database_access"):
            plain.database_access = property(access_of)
        if not hasattr(plain, "__unitwork_source__"):
            plain.__unitwork_source__ = lambda self: access_of(self).source
        complete(plain, entity)
        return plain

    return adorn if cls is None else adorn(cls)
