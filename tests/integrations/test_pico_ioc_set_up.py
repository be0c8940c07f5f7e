"""What prepares a database when a pico-ioc container starts: configurers and migrations."""

import asyncio
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pico_ioc import ContextConfig, DictSource, component, configuration
from sqlalchemy import URL, event, inspect, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.fixtures.models import Account
from unitwork import DatabaseChoiceError, DeclarationError, Repository
from unitwork.integrations.pico_ioc import DatabaseConfigurer, SessionManager, init, repository

MEMORY = make_url("sqlite+aiosqlite:///:memory:")


@repository
class Accounts(Repository[Account]): ...


def application(*components: Any) -> ModuleType:
    """A module that holds these."""
    module = ModuleType("an_application")
    vars(module).update({each.__name__: each for each in (Accounts, *components)})
    return module


def settings(url: URL, **more: object) -> ContextConfig:
    """The configuration of a container."""
    address = url.render_as_string(hide_password=False)
    return configuration(DictSource({"database": {"url": address, **more}}))


@component
class ByRun(DatabaseConfigurer):
    """The old name of the method; runs a loop of its own."""

    def configure(self, engine: AsyncEngine) -> None:
        asyncio.run(insert(engine))


@component
class ByAwait:
    """No subclass; a coroutine."""

    priority = -1

    async def configure_database(self, engine: AsyncEngine) -> None:
        await insert(engine)
        await insert(engine, "second")


async def insert(engine: AsyncEngine, name: str = "seed") -> None:
    """Add a row."""
    async with engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO account (name, balance) VALUES (:name, 1)"), {"name": name}
        )


@pytest.mark.parametrize("configurer", [ByRun, ByAwait])
async def test_hook_runs_inside_a_running_loop(database_url: URL, configurer: type) -> None:
    """The application uses the database afterwards, on connections of its own loop."""
    container = init(application(configurer), config=settings(database_url))
    accounts = container.get(Accounts)

    assert await accounts.exists(name="seed")
    await asyncio.gather(*(accounts.create(name=f"guest {number}") for number in range(4)))
    await container.cleanup_all_async()


@pytest.mark.parametrize("configurer", [ByRun, ByAwait])
def test_hook_runs_without_a_loop(database_url: URL, configurer: type) -> None:
    """A container may be started before the program's loop runs."""
    container = init(application(configurer), config=settings(database_url))

    async def main() -> bool:
        found = await container.get(Accounts).exists(name="seed")
        await container.cleanup_all_async()
        return found

    assert asyncio.run(main())


class Tuning:
    """Changes the engine, runs two loops, and disposes of what they pooled."""

    seen: list[str]

    def configure_database(self, engine: AsyncEngine) -> None:
        asyncio.run(insert(engine))
        asyncio.run(self.leave(engine))

        @event.listens_for(engine.sync_engine, "connect")
        def connected(*_about: object) -> None:
            self.seen.append("connected")

        @event.listens_for(engine.sync_engine, "commit")
        def committed(*_about: object) -> None:
            self.seen.append("committed")

    async def leave(self, engine: AsyncEngine) -> None:
        await insert(engine, "second")
        await engine.dispose()


async def test_hook_can_tune_the_engine_of_the_application(database_url: URL) -> None:
    """Its listeners hear the application; its own connections are gone."""

    class Tuner(Tuning):
        seen: list[str] = []  # noqa: RUF012  # of this test

    container = init(application(component(Tuner)), config=settings(database_url))
    assert container.get(SessionManager).pool_status().idle == 0

    await container.get(Accounts).create(name="guest")

    assert set(Tuner.seen) == {"connected", "committed"}
    await container.cleanup_all_async()


@component
class Seeding:
    """Uses the components of the application, in two loops of its own."""

    def __init__(self, accounts: Accounts, manager: SessionManager) -> None:
        self.accounts = accounts
        self.manager = manager

    def configure_database(self, engine: AsyncEngine) -> None:
        del engine
        asyncio.run(self.seed("one"))
        asyncio.run(self.seed("two"))

    async def seed(self, name: str) -> None:
        async with self.manager.transaction():
            await self.accounts.create(name=name)


async def test_hook_may_use_components(database_url: URL) -> None:
    """What they connect in the hook's loops is not left to the application's."""
    container = init(application(Seeding), config=settings(database_url))
    accounts = container.get(Accounts)

    found = await asyncio.gather(*(accounts.exists(name=name) for name in ("one", "two", "three")))

    assert found == [True, True, False]
    await container.cleanup_all_async()


async def test_hook_fills_a_database_in_memory() -> None:
    """Data in memory is in the connection of the application, so the hook gets that."""

    @component
    class CreateTable(DatabaseConfigurer):
        def configure(self, engine: AsyncEngine) -> None:
            asyncio.run(create(engine))

    async def create(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await connection.run_sync(Account.metadata.create_all)
        await insert(engine)
        await engine.dispose()

    container = init(application(CreateTable), config=settings(MEMORY))

    assert await container.get(Accounts).exists(name="seed")
    await container.cleanup_all_async()


async def test_hooks_run_in_the_order_of_their_priority(database_url: URL) -> None:
    """The lowest first, wherever the classes stand; 0 is where none is said."""
    calls: list[int] = []

    def with_priority(number: int) -> type:
        @component
        class Configurer:
            priority = property(lambda _self: number)

            def configure_database(self, engine: AsyncEngine) -> None:
                assert isinstance(engine, AsyncEngine)
                calls.append(number)

        Configurer.__name__ = f"Configurer{number + 20}"
        return Configurer

    hooks = application(*map(with_priority, [5, -10, 1]))
    container = init(hooks, config=settings(database_url))

    assert calls == [-10, 1, 5]
    await container.cleanup_all_async()


@component
class Again:
    def configure_database(self, engine: AsyncEngine) -> None:
        raise AssertionError("the order is not known")


@component
class Wordy:
    priority = "first"

    def configure_database(self, engine: AsyncEngine) -> None: ...


@component
class Idle(DatabaseConfigurer):
    """Has nothing to do."""


@component
class Failing:
    def configure_database(self, engine: AsyncEngine) -> None:
        raise LookupError("no such file")


@pytest.mark.parametrize(
    ("components", "told"),
    [
        ((ByRun, Again), r"(ByRun|Again) is declared wrongly: its priority 0 is also that of (ByRun|Again)"),
        ((Wordy,), "its priority is 'first'"),
        ((Idle,), "Idle is declared wrongly(.|\n)*configure_database"),
    ],
    ids=["equal", "no number", "nothing"],
)
def test_wrong_configurers_are_refused(components: tuple[type, ...], told: str) -> None:
    """The error names the class, and says what to write."""
    with pytest.raises(DeclarationError, match=told):
        init(application(*components), config=settings(MEMORY))


def test_failing_hook_stops_the_start() -> None:
    """Its own error comes out of `init`, and no Database is left behind."""
    with pytest.raises(LookupError, match="no such file"):
        init(application(Failing), config=settings(MEMORY))

    with pytest.raises(DatabaseChoiceError, match="No live Database"):
        _ = Repository[Account]().session


# -- migrations -------------------------------------------------------------------------------

MIGRATION = """
from alembic import op
from sqlalchemy import Column, Integer

revision = "{id}"
down_revision = {after}

def upgrade():
    op.create_table("migrated_{id}", Column("id", Integer, primary_key=True))

def downgrade():
    op.drop_table("migrated_{id}")
"""

OURS = "from unitwork.integrations.alembic import run_environment\n\nrun_environment()\n"

THEIRS = """
import asyncio

from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine


def migrate(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()


async def main():
    engine = create_async_engine(context.config.get_main_option("sqlalchemy.url"))
    async with engine.begin() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(main())
"""


@pytest.fixture(params=[OURS, THEIRS], ids=["ours", "theirs"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two migrations, and an `env.py` of unitwork or one written by hand."""
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(request.param)
    for name, after in (("one", None), ("two", "one")):
        text_of = MIGRATION.format(id=name, after=repr(after))
        (folder / "versions" / f"{name}.py").write_text(text_of)
    return folder


@component
class AfterMigrations:
    """Needs a table that a migration makes."""

    priority = -1000

    async def configure_database(self, engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO migrated_one (id) VALUES (1)"))


@pytest.mark.parametrize(("target", "expected"), [("head", 2), ("one", 1)])
async def test_migrations_run_before_the_hooks(
    database_url: URL, folder: Path, target: str, expected: int
) -> None:
    """As far as the configuration says; a second start finds nothing to do."""
    config = settings(database_url, migrations_path=str(folder), migrations_target=target)

    container = init(application(AfterMigrations), config=config)
    again = init(application(), config=config)

    manager = container.get(SessionManager)
    async with manager.engine.connect() as connection:
        tables = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    assert len([name for name in tables if name.startswith("migrated_")]) == expected
    await again.cleanup_all_async()
    await container.cleanup_all_async()


async def test_migrations_of_a_database_in_memory(folder: Path) -> None:
    """With an `env.py` of unitwork they run on the application's own connection."""
    if "run_environment" not in (folder / "env.py").read_text():
        return
    container = init(application(AfterMigrations), config=settings(MEMORY, migrations_path=str(folder)))

    async with container.get(SessionManager).transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM migrated_one")) == 1
    await container.cleanup_all_async()


PUBLISHED = """
from unitwork.integrations.pico_ioc import (
    AppBase, DatabaseConfigurer, DatabaseSettings, Mapped, Page, PageRequest, SessionManager, Sort,
    get_session, mapped_column, query, repository, transactional,
)
"""


def test_names_of_the_published_package_are_there() -> None:
    """Only the import line changes."""
    exec(PUBLISHED, {})  # noqa: S102  # as an application has it


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("TransactionalInterceptor", "put `@transactional` on the method"),
        ("RepositoryQueryInterceptor", "`@query` runs the query itself"),
        ("SqlAlchemyFactory", "@provides(SessionManager)"),
        ("AlembicMigrator", "set `database.migrations_path`"),
    ],
)
def test_names_without_use_are_answered(name: str, instead: str) -> None:
    """What the published package needs inside has nothing to do here; the import says what does it."""
    with pytest.raises(ImportError) as caught:
        exec(f"from unitwork.integrations.pico_ioc import {name}", {})  # noqa: S102  # as an application has it

    assert f"has no {name}" in str(caught.value)
    assert instead in str(caught.value)
    assert not hasattr(importlib.import_module("unitwork.integrations.pico_ioc"), "nonsense")
