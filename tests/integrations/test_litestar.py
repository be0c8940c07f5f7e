"""Litestar, by its own conventions: one plugin gives the unit of work, the session, and the end."""

import asyncio

import pytest
from litestar import Litestar, post
from litestar.di import Provide
from litestar.exceptions import HTTPException
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tests.fixtures.litestar import FromPath, NamedDependency
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.fixtures.web import Exchange, Web
from unitwork import Database, Repository
from unitwork.integrations.litestar import UnitworkPlugin

TAKEN = "INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)"


def shop(db: Database, plugin: UnitworkPlugin) -> Litestar:
    """An application whose handlers are given their session."""

    @post("/{name:str}")
    async def create(name: FromPath[str], session: NamedDependency[AsyncSession]) -> bool:
        session.add(Account(name=name))
        return session is db.session

    @post("/refused/{name:str}")
    async def refused(name: FromPath[str], session: NamedDependency[AsyncSession]) -> None:
        session.add(Account(name=name))
        await session.flush()
        raise HTTPException(status_code=409)

    return Litestar([create, refused], plugins=[plugin], openapi_config=None, logging_config=None)


async def test_plugin_gives_the_session_of_the_request(db: Database, web: Web, observer: Observer) -> None:
    """The dependency `session` is the ambient session, committed before the answer."""
    client = await web.client(shop(db, UnitworkPlugin(db)))

    answer = await client.post("/ann")

    assert (answer.status_code, answer.json()) == (201, True)
    assert await observer.names(Account) == ["ann"]


async def test_plugin_rolls_back_an_error_answer(db: Database, web: Web, observer: Observer) -> None:
    """An exception of Litestar's own kind leaves nothing behind."""
    client = await web.client(shop(db, UnitworkPlugin(db)))

    answer = await client.post("/refused/ann")

    assert answer.status_code == 409
    assert await observer.names(Account) == []


@pytest.mark.parametrize("status", [500, 409])
async def test_plugin_answers_a_failing_commit(
    db: Database, web: Web, observer: Observer, status: int
) -> None:
    """A COMMIT that fails is 500, or what the rule says."""
    await observer.run(TAKEN)
    rule = (lambda _error: 409) if status == 409 else None
    client = await web.client(shop(db, UnitworkPlugin(db, on_commit_error=rule)))

    answer = await client.post("/ann")

    assert answer.status_code == status
    assert await observer.names(Account) == ["ann"]


async def test_plugin_passes_its_rules_on(db: Database, observer: Observer) -> None:
    """`commit_when` and `atomic` are those of the middleware."""
    plugin = UnitworkPlugin(db, atomic=True, commit_when=lambda status: status == 409)

    exchange = await Exchange("/refused/ann", "POST").run(shop(db, plugin))

    assert exchange.statuses == [409]
    assert await observer.names(Account) == ["ann"]


async def test_plugin_for_several_databases(db: Database, observer: Observer) -> None:
    """Each Database has a dependency that is called by its name."""
    async with Database("sqlite+aiosqlite:///:memory:", name="reports") as reports:
        await reports.create_all(Audit)

        @post("/{note:str}")
        async def write(
            note: FromPath[str],
            default_session: NamedDependency[AsyncSession],
            reports_session: NamedDependency[AsyncSession],
        ) -> None:
            default_session.add(Audit(note=note))
            reports_session.add(Audit(note=note))

        plugin = UnitworkPlugin([db, reports])
        app = Litestar([write], plugins=[plugin], openapi_config=None, logging_config=None)
        exchange = await Exchange("/x", "POST").run(app)
        async with reports.transaction() as session:
            stored = list(await session.scalars(select(Audit.note)))

    assert exchange.statuses == [201]
    assert (stored, await observer.notes(Audit)) == (["x"], ["x"])


async def test_plugin_closes_the_connections(db: Database, web: Web) -> None:
    """When the server ends, the pool is empty."""
    server = await web.serve(shop(db, UnitworkPlugin(db)))
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"POST /ann HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    used = db.pool_status().idle
    await server.stop()

    assert answer.startswith(b"HTTP/1.1 201")
    assert (used, db.pool_status().idle) == (1, 0)


async def test_repository_as_a_dependency(db: Database, observer: Observer) -> None:
    """`Provide` gives handlers a repository, whose work is committed or rolled back with the request."""

    def accounts() -> Repository[Account]:
        return Repository[Account](db)

    @post("/{name:str}")
    async def create(name: FromPath[str], accounts: NamedDependency[Repository[Account]]) -> None:
        await accounts.create(name=name)
        if name == "bob":
            raise HTTPException(status_code=409)

    app = Litestar(
        [create],
        plugins=[UnitworkPlugin(db, atomic=True)],
        dependencies={"accounts": Provide(accounts, sync_to_thread=False)},
        openapi_config=None,
        logging_config=None,
    )
    answers = [await Exchange(f"/{name}", "POST").run(app) for name in ("ann", "bob")]

    assert [answer.statuses for answer in answers] == [[201], [409]]
    assert await observer.names(Account) == ["ann"]
