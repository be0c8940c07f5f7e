"""FastAPI, by its own conventions: a session as a dependency, a lifespan, `Depends` of function scope."""

import asyncio
from collections.abc import AsyncIterator
from inspect import signature
from typing import Annotated, Any, Literal

import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.fixtures.web import Exchange, Web
from unitwork import (
    Database,
    DatabaseChoiceError,
    Repository,
    TransactionEndedError,
    TransactionRefusedError,
)
from unitwork.integrations.fastapi import SessionDep, UnitOfWorkMiddleware, lifespan, session_of

# FastAPI has scopes from 0.121 on; before, no dependency can be asked to end before the response.
SCOPED: dict[str, Any] = {"scope": "function"} if "scope" in signature(Depends).parameters else {}
in_time = pytest.mark.skipif(not SCOPED, reason="this FastAPI ends dependencies after the response")
with_and_without = pytest.mark.parametrize("middleware", [pytest.param(False, marks=in_time), True])

TAKEN = "INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)"


def shop(db: Database, *, middleware: bool) -> FastAPI:
    """An application whose endpoints are given their session."""
    app = FastAPI(lifespan=lifespan(db))
    if middleware:
        app.add_middleware(UnitOfWorkMiddleware, database=db)
    own: Any = session_of(db)

    @app.post("/{name}")
    async def create(name: str, session: SessionDep, same: Annotated[AsyncSession, own]) -> bool:
        session.add(Account(name=name))
        return session is db.session is same

    @app.post("/refused/{name}")
    async def refused(name: str, session: SessionDep) -> None:
        session.add(Account(name=name))
        await session.flush()
        raise HTTPException(409)

    @app.post("/broken/{name}")
    async def broken(name: str, session: SessionDep) -> None:
        session.add(Account(name=name))
        await session.flush()
        raise RuntimeError("broken on purpose")

    return app


@with_and_without
async def test_session_dependency_commits_before_the_answer(
    db: Database, web: Web, observer: Observer, *, middleware: bool
) -> None:
    """With or without the middleware the endpoint and the functions below it share one session."""
    client = await web.client(shop(db, middleware=middleware))

    answer = await client.post("/ann")

    assert (answer.status_code, answer.json()) == (200, True)
    assert await observer.names(Account) == ["ann"]


@with_and_without
@pytest.mark.parametrize(("path", "status"), [("/refused/ann", 409), ("/broken/ann", 500)])
async def test_session_dependency_rolls_back(
    db: Database, observer: Observer, path: str, status: int, *, middleware: bool
) -> None:
    """`HTTPException` and any other exception leave nothing behind."""
    exchange = await Exchange(path, "POST").run(shop(db, middleware=middleware))

    assert exchange.statuses == [status]
    assert await observer.names(Account) == []
    assert db.pool_status().checked_out == 0


@with_and_without
async def test_failing_commit_of_the_dependency_is_no_success(
    db: Database, observer: Observer, *, middleware: bool
) -> None:
    """COMMIT runs before the response is sent; when it fails, the client gets 500."""
    await observer.run(TAKEN)

    exchange = await Exchange("/ann", "POST").run(shop(db, middleware=middleware))

    assert exchange.statuses == [500]
    assert isinstance(exchange.raised, IntegrityError)


@in_time
async def test_exception_handler_answers_a_failing_commit_of_the_dependency(
    db: Database, observer: Observer
) -> None:
    """Without the middleware a failing COMMIT is an exception of the endpoint like any other."""
    await observer.run(TAKEN)
    app = shop(db, middleware=False)

    @app.exception_handler(IntegrityError)
    async def conflict(_request: object, _error: Exception) -> JSONResponse:
        return JSONResponse({}, 409)

    exchange = await Exchange("/ann", "POST").run(app)

    assert (exchange.statuses, exchange.raised) == ([409], None)


@in_time
@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize("scope", ["function", "request", None])
async def test_session_under_a_dependency_that_yields(
    db: Database, observer: Observer, scope: Literal["function", "request"] | None, *, middleware: bool
) -> None:
    """Whether that ends before the response or after it, the endpoint's work is stored before the answer."""
    app = FastAPI()
    if middleware:
        app.add_middleware(UnitOfWorkMiddleware, database=db)
    ends: list[object] = []

    async def accounts(session: SessionDep) -> AsyncIterator[AsyncSession]:
        yield session
        try:
            session.add(Account(name="at-the-end"))
            ends.append("in time")
        except TransactionEndedError:
            ends.append(await observer.names(Account))

    Accounts = Annotated[AsyncSession, Depends(accounts, scope=scope)]  # noqa: N806 - a type

    @app.post("/{name}")
    async def create(name: str, session: Accounts) -> bool:
        session.add(Account(name=name))
        if name == "bob":
            raise HTTPException(409)
        return session is db.session

    answers = [await Exchange(f"/{name}", "POST").run(app) for name in ("ann", "bob")]

    assert [answer.statuses for answer in answers] == [[200], [409]]
    assert answers[0].body == b"true"
    ends_in_time = scope == "function"
    assert ends == (["in time"] if ends_in_time else [["ann"]])
    assert await observer.names(Account) == (["ann", "at-the-end"] if ends_in_time else ["ann"])
    assert db.pool_status().checked_out == 0


async def test_session_where_fastapi_could_only_commit_late(db: Database) -> None:
    """Without the middleware, a FastAPI before 0.121, which ends nothing in time, is refused."""
    given: Any = session_of(db)

    with pytest.raises(TransactionRefusedError, match="add `UnitOfWorkMiddleware`"):
        await given.dependency(HTTPConnection({"type": "http"}))


@in_time
async def test_dependencies_of_users_join_the_unit(db: Database, observer: Observer) -> None:
    """A dependency of function scope that opens a block ends it before the response starts."""
    app = FastAPI()
    app.add_middleware(UnitOfWorkMiddleware, database=db)

    async def in_transaction() -> AsyncIterator[None]:
        async with db.transaction():
            yield

    @app.post("/{name}", dependencies=[Depends(in_transaction, **SCOPED)])
    async def create(name: str) -> None:
        db.session.add(Account(name=name))

    exchange = await Exchange("/ann", "POST").run(app)

    assert exchange.statuses == [200]
    assert await observer.names(Account) == ["ann"]


async def test_default_session_needs_a_default_database(db: Database) -> None:
    """`SessionDep` outside of a unit means the Database called "default", and says so if there is none."""
    async with Database("sqlite+aiosqlite:///:memory:") as rival:
        app = FastAPI()

        @app.get("/")
        async def read(session: SessionDep) -> None:
            await session.execute(select(Audit))

        exchange = await Exchange().run(app)

    assert rival.name == db.name
    assert isinstance(exchange.raised, DatabaseChoiceError)


@in_time
async def test_each_database_has_its_own_dependency(db: Database, observer: Observer) -> None:
    """`session_of` names the Database; each commits by itself."""
    async with Database("sqlite+aiosqlite:///:memory:", name="reports") as reports:
        await reports.create_all(Audit)
        app = FastAPI()
        main: Any = session_of(db)
        other: Any = session_of(reports)

        @app.post("/{note}")
        async def write(
            note: str, ours: Annotated[AsyncSession, main], theirs: Annotated[AsyncSession, other]
        ) -> None:
            ours.add(Audit(note=note))
            theirs.add(Audit(note=note))

        exchange = await Exchange("/x", "POST").run(app)
        async with reports.transaction() as session:
            stored = list(await session.scalars(select(Audit.note)))

    assert exchange.statuses == [200]
    assert (stored, await observer.notes(Audit)) == (["x"], ["x"])


async def test_lifespan_closes_the_connections(db: Database, web: Web) -> None:
    """When the server ends, the pool is empty."""
    app = shop(db, middleware=True)
    server = await web.serve(app)
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"POST /ann HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    used = db.pool_status().idle
    await server.stop()

    assert answer.startswith(b"HTTP/1.1 200")
    assert (used, db.pool_status().idle) == (1, 0)


async def test_repository_as_a_dependency(db: Database, observer: Observer) -> None:
    """`Depends` gives endpoints a repository, whose work is committed or rolled back with the request."""

    async def accounts() -> Repository[Account]:
        return Repository[Account](db)

    app = FastAPI()
    app.add_middleware(UnitOfWorkMiddleware, database=db, atomic=True)

    @app.post("/{name}")
    async def create(name: str, accounts: Annotated[Repository[Account], Depends(accounts)]) -> None:
        await accounts.create(name=name)
        if name == "bob":
            raise HTTPException(409)

    answers = [await Exchange(f"/{name}", "POST").run(app) for name in ("ann", "bob")]

    assert [answer.statuses for answer in answers] == [[200], [409]]
    assert await observer.names(Account) == ["ann"]
