"""What the guides of pico-sqlalchemy show, written anew: programs move by changing their imports."""

# mypy: disable-error-code="empty-body"

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pico_ioc import DictSource, component, configuration, configured, factory, provides
from sqlalchemy import ForeignKey, Integer, String, event, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, relationship

from unitwork.integrations.pico_ioc import (
    AppBase,
    DatabaseConfigurer,
    Mapped,
    PageRequest,
    SessionManager,
    Sort,
    get_session,
    init,
    mapped_column,
    query,
    repository,
    transactional,
)

MEMORY = "sqlite+aiosqlite:///:memory:"


class Base(DeclarativeBase):
    """Of a program that uses the manager alone."""


class Guest(Base):
    __tablename__ = "guide_guests"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Author(AppBase):
    __tablename__ = "guide_authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    books: Mapped[list["Book"]] = relationship(back_populates="author", lazy="selectin")


class Book(AppBase):
    __tablename__ = "guide_books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    author_id: Mapped[int] = mapped_column(ForeignKey("guide_authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")


@component
class Tables(DatabaseConfigurer):
    def __init__(self, base: AppBase) -> None:
        self.base = base

    @property
    def priority(self) -> int:
        return 0

    def configure_database(self, engine: AsyncEngine) -> None:
        async def create() -> None:
            async with engine.begin() as connection:
                await connection.run_sync(self.base.metadata.create_all)
            await engine.dispose()

        asyncio.run(create())


@repository(entity=Author)
class Authors:
    def __init__(self, sm: SessionManager) -> None:
        self._sm = sm

    async def save(self, author: Author) -> Author:
        session = get_session(self._sm)
        session.add(author)
        return author

    @query(expr="name = :name", unique=True)
    async def find_by_name(self, name: str) -> Author | None: ...

    @query(expr="1=1", paged=True)
    async def find_all_paged(self, page: PageRequest):  # type: ignore[no-untyped-def]  # noqa: ANN201  # bare on purpose
        ...


@component
class Library:
    def __init__(self, authors: Authors) -> None:
        self.authors = authors

    @transactional
    async def publish(self, name: str, *titles: str) -> Author:
        return await self.authors.save(Author(name=name, books=[Book(title=title) for title in titles]))


def application(*members: Any) -> ModuleType:
    """A module that holds these."""
    module = ModuleType("a_program")
    vars(module).update({each.__name__: each for each in members})
    return module


@pytest.fixture
def manager() -> SessionManager:
    """Made by hand, its tables made in an event loop of their own."""
    manager = SessionManager(url=MEMORY, echo=False)

    async def create() -> None:
        async with manager.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    asyncio.run(create())
    return manager


async def guests(manager: SessionManager) -> list[str]:
    """Who is stored."""
    async with manager.transaction(read_only=True) as session:
        assert isinstance(session, AsyncSession)
        return list(await session.scalars(select(Guest.name).order_by(Guest.name)))


async def test_manager_without_container(manager: SessionManager) -> None:
    """Commits, and rolls back what fails, in another loop than that of the tables."""
    async with manager.transaction() as session:
        session.add(Guest(name="ann"))
    with pytest.raises(ValueError, match="boom"):
        async with manager.transaction() as session:
            session.add(Guest(name="bob"))
            raise ValueError("boom")

    assert await guests(manager) == ["ann"]
    await manager.dispose()


async def test_every_propagation(tmp_path: Path) -> None:
    """Which session is current, in each of them."""
    manager = SessionManager(url=f"sqlite+aiosqlite:///{tmp_path / 'guests.db'}", pool_size=2)
    await manager.create_all(Base)
    for propagation in ("NEVER", "NOT_SUPPORTED", "SUPPORTS", "REQUIRES_NEW", "REQUIRED"):
        async with manager.transaction(propagation=propagation) as alone:
            assert manager.get_current_session() is alone
        assert manager.get_current_session() is None
    with pytest.raises(RuntimeError, match="MANDATORY"):
        async with manager.transaction(propagation="MANDATORY"):
            pass
    async with manager.transaction() as outer:
        for propagation in ("REQUIRED", "SUPPORTS", "MANDATORY"):
            async with manager.transaction(propagation=propagation) as joined:  # type: ignore[arg-type]  # one of them
                assert joined is outer
        for propagation in ("REQUIRES_NEW", "NOT_SUPPORTED"):
            async with manager.transaction(propagation=propagation) as apart:  # type: ignore[arg-type]  # one of them
                assert apart is manager.get_current_session() is not outer
        with pytest.raises(RuntimeError, match="NEVER"):
            async with manager.transaction(propagation="NEVER"):
                pass
        assert manager.get_current_session() is outer
    await manager.dispose()


async def test_independent_transaction_survives(tmp_path: Path) -> None:
    """REQUIRES_NEW is stored although the block around it fails."""
    manager = SessionManager(f"sqlite+aiosqlite:///{tmp_path / 'guests.db'}")
    await manager.create_all(Base)
    with pytest.raises(LookupError):
        async with manager.transaction() as outer:
            async with manager.transaction(propagation="REQUIRES_NEW") as inner:
                inner.add(Guest(name="inner"))
            outer.add(Guest(name="outer"))
            raise LookupError

    assert await guests(manager) == ["inner"]
    await manager.dispose()


async def test_program_with_container_and_pages() -> None:
    """Service, repository, related models, a page; in memory, started inside the program's loop."""
    config = configuration(DictSource({"database": {"url": MEMORY, "echo": False}}))
    container = init(modules=[application(Tables, Authors, Library), "pico_sqlalchemy"], config=config)
    library = await container.aget(Library)

    created = await library.publish("ann", "one", "two")
    await library.publish("bob")
    found = await library.authors.find_by_name("ann")
    page = await library.authors.find_all_paged(
        page=PageRequest(page=0, size=1, sorts=[Sort("name", "DESC")])
    )

    assert found is not None
    assert (found.id, [book.title for book in found.books]) == (created.id, ["one", "two"])
    assert (page.total_elements, page.total_pages, [row.name for row in page.content]) == (2, 2, ["bob"])
    await container.cleanup_all_async()


class SecondManager(SessionManager):
    """Tells the second database from the first."""


@configured(target="self", prefix="database_second", mapping="tree")
@dataclass
class SecondSettings:
    url: str = ""
    pool_size: int = 5


@factory
class SecondFactory:
    @provides(SecondManager, scope="singleton")
    def create(self, settings: SecondSettings) -> SecondManager:
        return SecondManager(url=settings.url, pool_size=settings.pool_size)


@repository(entity=Author)
class SecondAuthors:
    def __init__(self, sm: SecondManager) -> None:
        self.sm = sm

    async def save(self, author: Author) -> Author:
        get_session(self.sm).add(author)
        return author

    @query.sql("SELECT count(*) FROM guide_authors")
    async def how_many(self) -> int: ...


async def test_two_databases_with_settings_of_their_own(tmp_path: Path) -> None:
    """Both managers have the usual name; a failure on one leaves the other alone."""
    urls = [f"sqlite+aiosqlite:///{tmp_path / name}.db" for name in ("first", "second")]
    config = configuration(DictSource({"database": {"url": urls[0]}, "database_second": {"url": urls[1]}}))
    members = application(Tables, Authors, Library, SecondSettings, SecondFactory, SecondAuthors)
    container = init(["pico_sqlalchemy", members], config=config)
    second = container.get(SecondAuthors)
    await container.get(SecondManager).create_all(AppBase)

    await second.save(Author(name="ann"))
    with pytest.raises(LookupError):
        async with container.get(SessionManager).transaction():
            await container.get(Library).publish("bob")
            await second.save(Author(name="cyd"))
            raise LookupError

    assert await second.how_many() == 2
    assert await container.get(Authors).find_by_name("bob") is None
    await container.cleanup_all_async()


@component
class Pragma(DatabaseConfigurer):
    priority = 50

    def configure_database(self, engine: AsyncEngine) -> None:
        @event.listens_for(engine.sync_engine, "connect")
        def limit(connection: DBAPIConnection, _record: object) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA cache_size=77")
            cursor.close()


async def test_configurer_sets_a_pragma(tmp_path: Path) -> None:
    """On all connections of the application."""
    config = configuration(DictSource({"database": {"url": f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}"}}))
    container = init(application(Tables, Pragma), config=config)

    async with container.get(SessionManager).transaction() as session:
        connection = await session.connection()
        assert (await connection.exec_driver_sql("PRAGMA cache_size")).scalar() == 77
    await container.cleanup_all_async()


@transactional(read_only=True)
async def names_in(authors: Authors, name: str) -> list[str]:
    """A function of no class; the repository that it is given tells the database."""
    found = await authors.find_by_name(name)
    return [] if found is None else [book.title for book in found.books]


async def test_function_is_transactional(tmp_path: Path) -> None:
    """Its first argument is bound to a database, with another one alive."""
    config = configuration(DictSource({"database": {"url": f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}"}}))
    container = init(application(Tables, Authors, Library), config=config)
    other = SessionManager(MEMORY)
    await container.get(Library).publish("ann", "one")

    assert await names_in(container.get(Authors), "ann") == ["one"]
    await container.cleanup_all_async()
    await other.dispose()


PROGRAM = """
import asyncio

from pico_ioc import DictSource, component, configuration
from sqlalchemy import String

from unitwork.integrations.pico_ioc import *


class User(AppBase):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


@component
class Schema(DatabaseConfigurer):
    def __init__(self, base: AppBase):
        self.base = base

    def configure_database(self, engine) -> None:
        async def create():
            async with engine.begin() as connection:
                await connection.run_sync(self.base.metadata.create_all)

        asyncio.run(create())


@repository(entity=User)
class Users:
    def __init__(self, manager: SessionManager):
        self.manager = manager

    async def save(self, name: str) -> User:
        get_session(self.manager).add(user := User(name=name))
        return user

    @query(expr="name = :name")
    async def named(self, name: str) -> list[User]: ...


@component
class Service:
    def __init__(self, users: Users):
        self.users = users

    @transactional
    async def register(self, name: str) -> int:
        await self.users.save(name)
        return len(await self.users.named(name))


async def main():
    config = configuration(DictSource({"database": {"url": URL}}))
    container = init(modules=["__main__"], config=config)
    service = await container.aget(Service)
    print(await service.register("ann"), await service.register("ann"))
    await container.cleanup_all_async()
    await container.ashutdown()


asyncio.run(main())
"""


@pytest.mark.parametrize("url", [MEMORY, "sqlite+aiosqlite:///users.db"], ids=["memory", "file"])
def test_program_leaves_nothing_open(tmp_path: Path, url: str) -> None:
    """Under `-X dev`, with every warning an error."""
    program = tmp_path / "program.py"
    program.write_text(f"URL = {url!r}\n{PROGRAM}")

    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(program)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert (done.stdout, done.returncode) == ("1 2\n", 0), done.stderr
    assert "Traceback" not in done.stderr
