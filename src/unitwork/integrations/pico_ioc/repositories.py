"""This module holds the `@repository` of containers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from sqlalchemy.ext.asyncio import AsyncSession

from unitwork._runtime.access.repository_access import RepositoryAccess
from unitwork.integrations.pico_ioc.binding import binds, held_by, source_of
from unitwork.integrations.pico_ioc.marks import component
from unitwork.query.owner import complete
from unitwork.repository import Repository

if TYPE_CHECKING:
    from unitwork._runtime.source import Source

R = TypeVar("R")


@overload
def repository(cls: type[R], /) -> type[R]: ...
@overload
def repository(
    *, entity: type | None = ..., scope: str = ..., **options: Any
) -> Callable[[type[R]], type[R]]: ...
def repository(
    cls: Any = None, /, *, entity: type | None = None, scope: str = "singleton", **options: Any
) -> Any:
    """Make a class a repository and a component of containers.

    Its public `async def` methods, also inherited ones, run in a read-write transaction, its declared
    queries in a read-only one: in that of the caller, or in one of their own. The Database is found
    as for `transactional`.

    Args:
        cls: The class; need not inherit anything, and may be a `unitwork.Repository[Model]`.
        entity: The mapped class that its queries are about.
        scope: How long the container keeps one: "singleton", "prototype", "request", …
        **options: As for `pico_ioc.component`: `name`, `qualifiers`, `primary`, `lazy`, …

    Raises:
        QueryDeclarationError: A declared query cannot work. At import.

    Examples:
        >>> from unitwork.integrations.pico_ioc import query, repository
        >>> @repository(entity=User)
        ... class Users:
        ...     @query(expr="email = :email", unique=True)
        ...     async def by_email(self, email: str) -> User | None: ...
    """

    def adorn(plain: Any) -> Any:  # noqa: ANN401  # a class that gets attributes
        plain.database_access = property(_access_of)
        plain.__unitwork_source__ = _source_of
        _adopt_inherited(plain)
        complete(plain, entity or getattr(plain, "_entity_class", None))
        for name, member in vars(plain).items():
            if not name.startswith("_") and inspect.iscoroutinefunction(member):
                binds(member)
        return component(plain, scope=scope, **options)

    return adorn if cls is None else adorn(cls)


def _adopt_inherited(cls: type) -> None:
    """Take over the coroutine methods of ordinary parents, so that they get their blocks as well."""
    for base in cls.__mro__[1:]:
        if not issubclass(Repository, base):
            for name, member in vars(base).items():
                is_public = not name.startswith("_")
                if is_public and name not in vars(cls) and inspect.iscoroutinefunction(member):
                    setattr(cls, name, member)


def _access_of(repository: object) -> RepositoryAccess:
    """Return how a repository reaches its database: as it was told, else through its container."""
    own: RepositoryAccess | None = getattr(repository, "_database_access", None)
    if own is not None and (own.source is not None or own.given is not None):
        return own
    sessions = held_by(repository, AsyncSession)
    return (
        RepositoryAccess(None, sessions[0])
        if len(sessions) == 1
        else RepositoryAccess(source_of(repository), None)
    )


def _source_of(repository: Any) -> Source | None:  # noqa: ANN401  # of any class
    access: RepositoryAccess = repository.database_access
    return access.source
