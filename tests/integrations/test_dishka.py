"""dishka, by its own conventions: providers for the Database, repositories and the ambient session."""

from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from typing import Annotated, Any

import pytest
from dishka import AsyncContainer, FromComponent, Provider, Scope, make_async_container
from dishka.exceptions import NoFactoryError
from dishka.integrations import fastapi as dishka_fastapi
from dishka.integrations import litestar as dishka_litestar
from fastapi import FastAPI, HTTPException
from litestar import Litestar, post
from litestar.exceptions import HTTPException as LitestarHTTPException
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncSession

from tests.fixtures.litestar import FromPath
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.fixtures.web import Exchange
from unitwork import Database, NoTransactionError, OptionError, Repository, query
from unitwork.integrations.asgi import UnitOfWorkMiddleware
from unitwork.integrations.dishka import RepositoriesProvider, UnitworkProvider
from unitwork.integrations.litestar import UnitworkPlugin


class Accounts(Repository[Account]):
    @query("name = :name")
    async def by_name(self, name: str) -> Account | None: ...


class Audits(Repository[Audit]):
    """Needs another repository besides the Database."""

    def __init__(self, database: Database, accounts: Accounts) -> None:
        super().__init__(database)
        self.accounts = accounts


class Register:
    """A service of the program, made for each request."""

    def __init__(self, accounts: Accounts, session: AsyncSession) -> None:
        self.accounts = accounts
        self.session = session

    async def __call__(self, name: str) -> None:
        """Write through the repository, and with the session."""
        await self.accounts.create(name=name)
        self.session.add(Audit(note=name))


@pytest.fixture
async def container(db: Database) -> AsyncIterator[AsyncContainer]:
    """A container as a program makes it."""
    services = Provider(scope=Scope.REQUEST)
    services.provide(Register)
    made = make_async_container(
        UnitworkProvider(db), RepositoriesProvider(Accounts, Audits, Repository[Account]), services
    )
    yield made
    await made.close()


def fastapi_app(db: Database, container: AsyncContainer, *, middleware: bool = True) -> FastAPI:
    """An application whose endpoints are injected."""
    app = FastAPI()

    @app.post("/created/{name}", status_code=201)
    @dishka_fastapi.inject
    async def created(name: str, register: dishka_fastapi.FromDishka[Register]) -> None:
        await register(name)

    @app.post("/refused/{name}")
    @dishka_fastapi.inject
    async def refused(name: str, register: dishka_fastapi.FromDishka[Register]) -> None:
        await register(name)
        raise HTTPException(409)

    @app.post("/broken/{name}")
    @dishka_fastapi.inject
    async def broken(name: str, register: dishka_fastapi.FromDishka[Register]) -> None:
        await register(name)
        raise RuntimeError("broken on purpose")

    dishka_fastapi.setup_dishka(container, app)
    if middleware:
        app.add_middleware(UnitOfWorkMiddleware, database=db, atomic=True)
    return app


def litestar_app(db: Database, container: AsyncContainer) -> Litestar:
    """The same, in Litestar."""

    @post("/created/{name:str}")
    @dishka_litestar.inject
    async def created(name: FromPath[str], register: dishka_litestar.FromDishka[Register]) -> None:
        await register(name)

    @post("/refused/{name:str}")
    @dishka_litestar.inject
    async def refused(name: FromPath[str], register: dishka_litestar.FromDishka[Register]) -> None:
        await register(name)
        raise LitestarHTTPException(status_code=409)

    @post("/broken/{name:str}")
    @dishka_litestar.inject
    async def broken(name: FromPath[str], register: dishka_litestar.FromDishka[Register]) -> None:
        await register(name)
        raise RuntimeError("broken on purpose")

    handlers = [created, refused, broken]
    plugin = UnitworkPlugin(db, atomic=True)
    app = Litestar(handlers, plugins=[plugin], openapi_config=None, logging_config=None)
    dishka_litestar.setup_dishka(container, app)
    return app


@pytest.fixture(params=[fastapi_app, litestar_app])
def app(request: pytest.FixtureRequest, db: Database, container: AsyncContainer) -> Any:  # noqa: ANN401 - each framework has types of its own
    """The application of one framework."""
    build: Callable[[Database, AsyncContainer], Any] = request.param
    return build(db, container)


async def test_request_is_one_transaction(app: Any, observer: Observer) -> None:  # noqa: ANN401 - of any framework
    """What the injected service writes through repository and session is committed with the answer."""
    exchange = await Exchange("/created/ann", "POST").run(app)

    assert exchange.statuses == [201]
    assert (await observer.names(Account), await observer.notes(Audit)) == (["ann"], ["ann"])


@pytest.mark.parametrize(("path", "status"), [("/refused/ann", 409), ("/broken/ann", 500)])
async def test_error_that_the_container_never_sees_rolls_back(
    app: Any,  # noqa: ANN401 - of any framework
    observer: Observer,
    path: str,
    status: int,
) -> None:
    """An exception that the framework answers before the container is closed leaves nothing behind."""
    exchange = await Exchange(path, "POST").run(app)

    assert exchange.statuses == [status]
    assert (await observer.names(Account), await observer.notes(Audit)) == ([], [])


async def test_container_alone_gives_no_session(
    db: Database, container: AsyncContainer, observer: Observer
) -> None:
    """Without the middleware a request has no session, and says so; nothing is lost in silence."""
    exchange = await Exchange("/created/ann", "POST").run(fastapi_app(db, container, middleware=False))

    assert exchange.statuses == [500]
    assert isinstance(exchange.raised, NoTransactionError)
    assert await observer.names(Account) == []


async def test_session_is_that_of_the_innermost_block(db: Database, container: AsyncContainer) -> None:
    """The ambient session is asked for anew each time, so it is never one that has ended."""
    async with container() as request:
        async with db.transaction() as first:
            found_first = await request.get(AsyncSession)
        async with db.transaction() as second:
            found_second = await request.get(AsyncSession)
        with pytest.raises(NoTransactionError):
            await request.get(AsyncSession)

    assert (found_first, found_second) == (first, second)


@pytest.mark.parametrize("fails", [False, True])
async def test_script_opens_its_unit_around_the_container(
    db: Database, container: AsyncContainer, observer: Observer, *, fails: bool
) -> None:
    """Outside of frameworks the unit of work decides, and an exception rolls back."""
    with nullcontext() if not fails else pytest.raises(ZeroDivisionError):
        async with db.unit_of_work(), container() as request:
            await (await request.get(Register))("ann")
            assert 1 // (not fails)

    assert await observer.notes(Audit) == ([] if fails else ["ann"])


async def test_repositories_are_made_once(container: AsyncContainer) -> None:
    """One of each class for all requests; a class with an `__init__` gets what it asks for."""
    async with container() as request:
        accounts = await request.get(Accounts)

    assert accounts is await container.get(Accounts)
    assert (await container.get(Audits)).accounts is accounts
    plain = await container.get(Repository[Account])
    assert (plain.entity, await plain.count()) == (Account, 0)


async def test_database_is_made_from_what_the_container_has(database_url: URL) -> None:
    """A function makes the Database with the settings of the container, which closes it at the end."""

    def connected(url: URL) -> Database:
        return Database(url)

    settings = Provider(scope=Scope.APP)
    settings.provide(lambda: database_url, provides=URL)
    container = make_async_container(settings, UnitworkProvider(connected), RepositoriesProvider(Accounts))
    database = await container.get(Database)

    assert await (await container.get(Accounts)).by_name("ann") is None
    assert database.pool_status().idle == 1
    await container.close()
    assert database.pool_status().idle == 0


async def test_each_database_is_a_component(db: Database) -> None:
    """Several Databases are told apart as dishka does it; each repository gets that of its component."""

    class Report:
        def __init__(
            self, ours: Database, theirs: Annotated[Database, FromComponent("reports")], audits: Accounts
        ) -> None:
            self.databases = (ours.name, theirs.name)

    reports = Database("sqlite+aiosqlite:///:memory:", name="reports")
    await reports.create_all(Audit)
    services = Provider(scope=Scope.APP)
    services.provide(Report)
    container = make_async_container(
        UnitworkProvider(db),
        UnitworkProvider(reports, component="reports"),
        RepositoriesProvider(Accounts),
        RepositoriesProvider(Repository[Audit], component="reports"),
        services,
    )
    audits = await container.get(Repository[Audit], component="reports")
    await audits.create(note="there")

    assert (await container.get(Report)).databases == ("default", "reports")
    assert await audits.count() == 1
    await container.close()


def test_what_is_no_repository_is_refused() -> None:
    """A class that is no repository, and a Database that is none, are one clear error each, at start-up."""
    with pytest.raises(OptionError, match=r"kinds does not take .*Account.*\n.*subclasses of Repository"):
        RepositoriesProvider(Account)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(OptionError, match=r"database does not take 'sqlite://'"):
        UnitworkProvider("sqlite://")  # type: ignore[arg-type]  # wrong on purpose


def test_repositories_without_a_database_are_refused() -> None:
    """Dishka itself says at start-up that there is no Database."""
    with pytest.raises(NoFactoryError, match="Database"):
        make_async_container(RepositoriesProvider(Accounts))
