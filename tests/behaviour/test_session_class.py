"""The ambient session is of a class of the program's own, if it asks for one, and all else is as always."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import URL, Executable, Result, ScalarResult, Select, insert, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.util import greenlet_spawn

from tests.fixtures.heard import Heard
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, OptionError, Propagation, Repository, TransactionRefusedError
from unitwork.events import StatementExecuted
from unitwork.options import Lane


class PlainSession(Session):
    """A synchronous session with a method of its own, as SQLModel's `exec`."""

    def exec(self, statement: Executable) -> ScalarResult[Any]:
        """Run a statement and return its first column."""
        return super().execute(statement).scalars()


class ShopSession(AsyncSession):
    """A session with methods and attributes of its own."""

    sync_session_class = PlainSession
    sync_session: PlainSession

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.asked: list[str] = []

    async def exec(self, statement: Executable) -> ScalarResult[Any]:
        """As SQLModel's: it asks the synchronous session."""
        return await greenlet_spawn(self.sync_session.exec, statement)

    async def names(self) -> list[str]:
        """Read with what every session has."""
        self.asked.append("names")
        return list(await self.scalars(select(Account.name).order_by(Account.name)))

    async def execute(self, *arguments: Any, **keywords: Any) -> Result[Any]:
        """Override what SQLAlchemy has, and go on."""
        self.asked.append("execute")
        result: Result[Any] = await super().execute(*arguments, **keywords)
        return result


@pytest.fixture
async def shop(database_url: URL) -> AsyncIterator[Database]:
    """A Database with that class of sessions."""
    async with Database(database_url, name="shop", session_class=ShopSession) as db:
        yield db
        assert db.pool_status().checked_out == 0


def own(db: Database) -> ShopSession:
    """The ambient session, of its class."""
    session = db.session
    assert isinstance(session, ShopSession)
    return session


async def test_ambient_session_has_what_its_class_has(shop: Database, observer: Observer) -> None:
    """In blocks, savepoints and units of work; its own attributes are there from the start."""
    async with shop.transaction():
        assert own(shop).asked == []
        own(shop).add(Account(name="ann"))
        assert await own(shop).names() == ["ann"]
        assert own(shop).asked == ["names", "execute"]
        async with shop.transaction(propagation=Propagation.NESTED):
            assert (await own(shop).exec(select(Account.name))).all() == ["ann"]
    async with shop.unit_of_work():
        assert (await own(shop).exec(select(Account.name))).all() == ["ann"]
        assert shop.pool_status().checked_out == 0
        await own(shop).exec(insert(Account).values(name="bob", balance=0).returning(Account.name))
    async with shop.transaction(propagation=Propagation.SUPPORTS):
        assert await own(shop).names() == ["ann", "bob"]

    assert await observer.names(Account) == ["ann", "bob"]


async def test_what_it_overrides_is_asked_and_guarded(shop: Database) -> None:
    """A read-only block refuses a write by every method, and its end by hand is refused as always."""
    writes = insert(Account).values(name="ann", balance=0)
    async with shop.transaction(read_only=True):
        for method in (own(shop).exec, own(shop).execute):
            with pytest.raises(TransactionRefusedError, match="is read-only"):
                await method(writes)
        with pytest.raises(TransactionRefusedError, match="is read-only"):
            await own(shop).run_sync(lambda held: held.execute(writes))
        with pytest.raises(TransactionRefusedError, match="refused inside the transaction block"):
            await own(shop).commit()


async def test_lanes_are_kept(shop: Database) -> None:
    """Repositories read as fast as with SQLAlchemy's own class, and past what this one overrides."""
    async with shop.transaction() as session:
        session.add(Account(name="ann"))
    heard = Heard()
    plain: Select[Account] = select(Account).where(Account.name == "ann")
    lane = shop.explain_lane(plain).lane
    shop.observe(heard)
    async with shop.transaction():
        assert (await Repository[Account](shop).where(Account.name == "ann").one()).name == "ann"
        asked = list(own(shop).asked)

    assert asked == []
    assert lane is Lane.DRIVER
    assert [each.lane for each in heard.of(StatementExecuted) if "SELECT" in each.sql] == [Lane.FUSED]


async def test_factory_makes_the_same(shop: Database) -> None:
    """`db.session_factory` makes plain sessions of the class, which are adopted as they are."""
    async with shop.session_factory() as session:
        assert type(session).__mro__[1:2] == (ShopSession,) or type(session) is ShopSession
        async with shop.adopt(session) as same:
            assert same is session is own(shop)
            await Repository[Account](shop).create(name="ann")
            assert await own(shop).names() == ["ann"]
            assert (await own(shop).exec(select(Account.name))).all() == ["ann"]
        await session.commit()
        assert await own_names(session) == ["ann"]


async def own_names(session: AsyncSession) -> list[str]:
    """What a session of that class reads by itself."""
    assert isinstance(session, ShopSession)
    return await session.names()


async def test_another_class_is_adopted(db: Database, observer: Observer) -> None:
    """A session need not be of the Database's class: it keeps its own."""
    factory = async_sessionmaker(db.engine, class_=ShopSession)
    async with factory() as session:
        async with db.adopt(session):
            async with db.transaction(read_only=True):
                with pytest.raises(TransactionRefusedError, match="is read-only"):
                    await session.exec(insert(Audit).values(note="x"))
            async with db.transaction():
                await session.exec(insert(Audit).values(note="x").returning(Audit.id))
        await session.commit()

    assert await observer.notes(Audit) == ["x"]


def test_what_is_no_class_of_sessions_is_refused(database_url: URL) -> None:
    """Where the Database is made: a class of something else, or one that uses names of ambient sessions."""

    class Taken(AsyncSession):
        turns: int = 3

        def place(self) -> None:
            """Something else."""

    wrong: list[tuple[Any, str]] = [(Session, "subclass of"), (3, "subclass of"), (Taken, "'place', 'turns'")]
    for kind, message in wrong:
        with pytest.raises(OptionError, match=message):
            Database(database_url, name="refused", session_class=kind)


@pytest.mark.parametrize("option", ["session_class", "session_options"])
def test_factory_of_synchronous_sessions_is_refused(database_url: URL, option: str) -> None:
    """The class that it makes is what is asked for, and has the listeners of the factory."""
    factory = sessionmaker()
    kind: Any = type("MadeSession", (AsyncSession,), {"sync_session_class": factory})
    options: dict[str, Any] = {"session_class": kind}
    if option == "session_options":
        options = {"session_options": {"sync_session_class": factory}}
    with pytest.raises(OptionError, match=rf"(?s){option}.*Fix: use .*the `class_` of"):
        Database(database_url, name="made", **options)
