"""SQLModel: its session, with `exec`, is the ambient one; its models are entities."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import URL
from sqlmodel import Field, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from tests.fixtures.observer import Observer
from unitwork import Database, Repository, TransactionRefusedError
from unitwork.options import Lane


class Hero(SQLModel, table=True):
    """A model of SQLModel's."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=100)


@pytest.fixture
async def heroes(database_url: URL) -> AsyncIterator[Database]:
    """A Database whose sessions are SQLModel's."""
    async with Database(database_url, name="heroes", session_class=AsyncSession) as db:
        await db.create_all(SQLModel.metadata)
        yield db
        assert db.pool_status().checked_out == 0


def session_of(db: Database) -> AsyncSession:
    """The ambient session, of its class."""
    session = db.session
    assert isinstance(session, AsyncSession)
    return session


async def test_exec_on_the_ambient_session(heroes: Database, observer: Observer) -> None:
    """In blocks and units of work, with what a repository has written; a read-only block refuses a write."""
    repository = Repository[Hero](heroes)
    async with heroes.transaction():
        await repository.create(name="Deadpond")
        found = await session_of(heroes).exec(select(Hero).where(Hero.name == "Deadpond"))
        assert found.one() is await repository.get(1)
    async with heroes.unit_of_work():
        assert (await session_of(heroes).exec(select(Hero.name))).all() == ["Deadpond"]
        assert heroes.pool_status().checked_out == 0
    async with heroes.transaction(read_only=True):
        with pytest.raises(TransactionRefusedError, match="is read-only"):
            session_of(heroes).add(Hero(name="Spider-Boy"))

    assert await observer.column("SELECT name FROM hero") == ["Deadpond"]


async def test_lanes_of_its_models(heroes: Database) -> None:
    """Entities of SQLModel take the lanes that all take."""
    await Repository[Hero](heroes).create(name="Deadpond")

    assert heroes.explain_lane(select(Hero).where(Hero.name == "Deadpond")).lane is Lane.DRIVER
    assert [hero.name for hero in await Repository[Hero](heroes).all()] == ["Deadpond"]


async def test_adopted(heroes: Database, observer: Observer) -> None:
    """A session that the program has made keeps its `exec`."""
    async with AsyncSession(heroes.engine) as session:
        async with heroes.adopt(session) as same:
            await Repository[Hero](heroes).create(name="Tarantula")
            assert [hero.name for hero in (await same.exec(select(Hero))).all()] == ["Tarantula"]
        await session.commit()

    assert await observer.column("SELECT name FROM hero") == ["Tarantula"]
