"""This module gives a dishka container its Database, its repositories, and the ambient session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, NewType, get_origin

from sqlalchemy.ext.asyncio import AsyncSession

from unitwork.database import Database
from unitwork.errors import MissingExtraError, OptionError
from unitwork.repository import Repository

try:
    from dishka import Provider, Scope
except ModuleNotFoundError as missing:
    raise MissingExtraError("unitwork.integrations.dishka", "dishka", "dishka") from missing

__all__ = ["RepositoriesProvider", "UnitworkProvider"]

_Made = NewType("_Made", Database)


class UnitworkProvider(Provider):
    """Provides the `Database`, for the whole application, and the ambient `AsyncSession`.

    The Database is disposed of when the container is closed. The container opens no unit of work
    and commits nothing, whatever exceptions it is shown or not: the adapter of the framework does,
    such as `UnitOfWorkMiddleware`, or a block. The session is that of the innermost open block or
    unit of work, asked for anew each time; without one, `NoTransactionError`.

    Args:
        database: A Database, or a function that makes one; the container gives it its arguments.
        component: Of the container; one for each Database, when there are several.

    Examples:
        >>> from dishka import make_async_container
        >>> container = make_async_container(UnitworkProvider(db))
        >>> await container.get(Database) is db
        True
        >>> async with db.transaction() as session, container() as request:
        ...     print(await request.get(AsyncSession) is session)
        True
        >>> await container.close()
    """

    def __init__(self, database: Database | Callable[..., Database], *, component: str = "") -> None:
        super().__init__(component=component)
        if isinstance(database, Database):
            self.provide(lambda: _Made(database), scope=Scope.APP, provides=_Made)
        elif callable(database):
            self.provide(database, scope=Scope.APP, provides=_Made)
        else:
            raise OptionError("database", database, ["a Database", "a function that makes one"])
        self.provide(_until_the_end, scope=Scope.APP)
        self.provide(_ambient, scope=Scope.REQUEST, cache=False)


class RepositoriesProvider(Provider):
    """Provides repositories, one of each class for the whole application: they hold no session.

    Each gets the `Database` of its component. A class with an `__init__` of its own gets what
    that asks for, as any class does.

    Args:
        *kinds: Subclasses of `Repository`, or `Repository[Model]`.
        component: Of the container; that of their Database.

    Examples:
        >>> from dishka import make_async_container
        >>> class Users(Repository[User]): ...
        >>> container = make_async_container(UnitworkProvider(db), RepositoriesProvider(Users))
        >>> users = await container.get(Users)
        >>> await users.count()
        0
        >>> await container.close()
    """

    def __init__(self, *kinds: type[Repository[Any]], component: str = "") -> None:
        super().__init__(scope=Scope.APP, component=component)
        for kind in kinds:
            made: Any = get_origin(kind) or kind
            if not (isinstance(made, type) and issubclass(made, Repository)):
                raise OptionError("kinds", kind, ["subclasses of Repository", "Repository[Model]"])
            factory = _made_with_database(kind) if made.__init__ is Repository.__init__ else kind
            self.provide(factory, provides=kind)


async def _until_the_end(database: _Made) -> AsyncIterator[Database]:
    yield database
    await database.dispose()


def _ambient(database: Database) -> AsyncSession:
    return database.session


def _made_with_database(kind: type[Repository[Any]]) -> Callable[[Database], Repository[Any]]:
    def make(database: Database) -> Repository[Any]:
        return kind(database)

    return make
