"""What a user passes for the engine and its sessions arrives there."""

from typing import Any

import pytest
from sqlalchemy import URL, Engine, insert, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from tests.fixtures.errors import StockError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Base, Database, OptionError, Repository, TransactionRefusedError
from unitwork.options import Lane


class Counting(Session):
    """A session of the user's own."""

    made = 0

    def __init__(self, *arguments: object, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)  # type: ignore[arg-type]  # passed on
        Counting.made += 1


async def test_pool_of_the_users_own_class_is_used(database_url: URL) -> None:
    """With NullPool no connection is kept, and there is no limit."""
    async with Database(database_url, poolclass=NullPool) as db:
        async with db.transaction() as session:
            await session.connection()
            held = db.pool_status()
        left = db.pool_status()

    assert (held.checked_out, held.capacity) == (1, None)
    assert (left.checked_out, left.idle) == (0, 0)


async def test_size_of_the_pool_arrives(database_url: URL) -> None:
    """The options of `create_async_engine` are passed on."""
    async with Database(database_url, pool_size=2, max_overflow=1) as db:
        assert db.pool_status().capacity == 3


async def test_session_class_of_the_users_own_is_used(database_url: URL, observer: Observer) -> None:
    """The options of the session are passed on, and blocks behave as always."""
    before = Counting.made
    async with Database(database_url, session_options={"sync_session_class": Counting}) as db:
        async with db.transaction() as session:
            session.add(Account(name="ann"))
            assert isinstance(session.sync_session, Counting)

    assert await observer.names(Account) == ["ann"]
    assert Counting.made == before + 1


CANNOT_WORK: dict[str, Any] = {
    "autobegin": False,
    "twophase": True,
    "bind": object(),
    "join_transaction_mode": "create_savepoint",
    "close_resets_only": True,
}


@pytest.mark.parametrize("option", list(CANNOT_WORK))
def test_session_option_that_cannot_work_in_blocks_is_refused_by_name(database_url: URL, option: str) -> None:
    """Where the Database is made, not where a block fails of it."""
    with pytest.raises(OptionError, match=rf"(?s)session_options\['{option}'\].*Fix: use "):
        Database(database_url, name="refused", session_options={option: CANNOT_WORK[option]})


HARMLESS: dict[str, Any] = {
    "autobegin": True,
    "twophase": False,
    "bind": None,
    "join_transaction_mode": "control_fully",
    "close_resets_only": False,
    "autoflush": False,
    "info": {"key": "value"},
    "binds": {},
}


@pytest.mark.parametrize("option", list(HARMLESS))
async def test_session_option_that_can_work_does(database_url: URL, observer: Observer, option: str) -> None:
    """In blocks, in units of work and in sessions by hand."""
    options = {option: HARMLESS[option]}
    async with Database(database_url, name="harmless", session_options=options) as db:
        async with db.transaction() as session:
            session.add(Audit(note="block"))
        async with db.unit_of_work() as session:
            await Repository[Audit](db).all()
            session.add(Audit(note="unit"))
            await session.commit()
        async with db.session_factory() as session, session.begin():
            session.add(Audit(note="by hand"))

    assert await observer.notes(Audit) == ["block", "by hand", "unit"]


async def test_statement_that_is_routed_to_another_engine_is_refused(
    database_url: URL, observer: Observer
) -> None:
    """By `binds`, by `get_bind`, or by the statement: a block could not undo it; nothing is left open."""
    other = create_async_engine(database_url, pool_size=1, max_overflow=0)

    class Routing(Session):
        def get_bind(self, *_arguments: object, **_keywords: object) -> Engine:
            return other.sync_engine

    class RoutingAsync(AsyncSession):
        sync_session_class = Routing

    ways: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"session_options": {"binds": {Account: other}}}, {}),
        ({"session_options": {"sync_session_class": Routing}}, {}),
        ({"session_class": RoutingAsync}, {}),
        ({}, {"bind": other.sync_engine}),
    ]
    for options, bind_arguments in ways:
        async with Database(database_url, name="routed", **options) as db:
            if options:
                with pytest.raises(TransactionRefusedError, match="another one"):
                    await Repository[Account](db).add(Account(name="lost"))
                with pytest.raises(TransactionRefusedError, match="another one"):
                    await Repository[Account](db).all()
            for open_one in (db.transaction, db.unit_of_work):
                with pytest.raises(TransactionRefusedError, match=r"(?s)another one.*Fix: make a Database"):
                    async with open_one() as session:
                        statement = insert(Account).values(name="lost", balance=0)
                        await session.execute(statement, bind_arguments=bind_arguments)
        assert "Checked out connections: 0" in other.pool.status()
    await other.dispose()

    assert await observer.names(Account) == []


async def test_binds_to_the_engine_of_the_database_itself_work(database_url: URL, observer: Observer) -> None:
    """What is routed to where it goes anyway is not refused."""
    engine = create_async_engine(database_url)
    async with Database(engine, session_options={"binds": {Account: engine}}) as db:
        async with db.transaction() as session:
            session.add(Account(name="ann"))
            assert await session.scalar(select(Account.name)) == "ann"

    assert await observer.names(Account) == ["ann"]


COMMITS: dict[str, dict[str, Any]] = {
    "isolation level": {"isolation_level": "AUTOCOMMIT"},
    "in small letters": {"isolation_level": "autocommit"},
    "execution option": {"execution_options": {"isolation_level": "AUTOCOMMIT"}},
    "driver": {"connect_args": {"autocommit": True}},
}


@pytest.mark.parametrize("way", list(COMMITS))
def test_engine_that_commits_each_statement_is_refused(database_url: URL, way: str) -> None:
    """A block could roll nothing back; the error says how to send single statements so."""
    with pytest.raises(OptionError, match=r"(?s)Fix: use another one: a block could roll nothing back"):
        Database(database_url, name="commits", **COMMITS[way])


@pytest.mark.parametrize("way", ["isolation level", "execution option"])
def test_given_engine_that_commits_each_statement_is_refused(database_url: URL, way: str) -> None:
    """An engine of the user's own is looked at, too."""
    with pytest.raises(OptionError, match="isolation_level"):
        Database(create_async_engine(database_url, **COMMITS[way]), name="commits")


async def test_engine_that_is_told_later_to_commit_each_statement_is_refused(
    db: Database, observer: Observer
) -> None:
    """An engine made of it may do so, and is not that of the blocks."""
    by_itself = db.engine.execution_options(isolation_level="AUTOCOMMIT")

    with pytest.raises(OptionError, match="isolation_level"):
        db.engine.update_execution_options(isolation_level="AUTOCOMMIT")
    async with by_itself.connect() as connection:
        await connection.execute(insert(Audit).values(note="stored"))
    with pytest.raises(KeyError):
        async with db.transaction() as session:
            session.add(Audit(note="undone"))
            await session.flush()
            raise KeyError

    assert await observer.notes(Audit) == ["stored"]


async def test_database_is_the_default_again_when_it_is_used_again(database_url: URL) -> None:
    """After `dispose()`, by entering it or by a first statement."""
    db = Database(database_url)
    people = Repository[Account]()
    await db.dispose()

    async with db:
        assert await people.count() == 0
    await db.ping()
    assert await people.count() == 0
    await db.dispose()


@pytest.mark.only("sqlite", "mariadb", reason="those without such a pooler")
async def test_transaction_pooling_is_refused_where_there_is_no_such_pooler(database_url: URL) -> None:
    """It could mean nothing there, and says so."""
    with pytest.raises(OptionError) as refused:
        Database(database_url, name="refused", transaction_pooling=True)

    first, fix = str(refused.value).splitlines()
    assert first == "The option transaction_pooling does not take True."
    assert fix == (
        "  Fix: use False: it is for PostgreSQL with asyncpg or psycopg, "
        f"and this is {database_url.drivername}."
    )


@pytest.mark.every_lane
async def test_engine_that_was_used_before_its_database_was_made(
    database_url: URL, observer: Observer, lane: Lane
) -> None:
    """Its connections were opened as SQLAlchemy does: what is stored is stored, what is undone is undone."""
    engine = create_async_engine(database_url, pool_size=1, max_overflow=0)
    async with engine.begin() as connection:
        await connection.execute(insert(Audit).values(note="before"))
    async with Database(engine, name="late", fastest_lane=lane) as db:
        audits = Repository[Audit](db)
        await audits.add(Audit(note="added"))
        assert await observer.notes(Audit) == ["added", "before"]
        await audits.where(Audit.note == "before").update(note="changed")
        assert await observer.notes(Audit) == ["added", "changed"]
        with pytest.raises(StockError):
            async with db.transaction() as session:
                session.add(Audit(note="undone"))
                await audits.where(Audit.note == "added").update(note="undone")
                raise StockError
        async with db.transaction() as session:
            session.add(Audit(note="block"))
        await audits.where(Audit.note == "changed").delete()

    assert await observer.notes(Audit) == ["added", "block"]


async def test_memory_that_was_used_before_its_database_was_made() -> None:
    """It is in the one connection that the engine has, which is kept."""
    url = "sqlite+aiosqlite:///:memory:"
    engine = create_async_engine(url, poolclass=AsyncAdaptedQueuePool, pool_size=1, max_overflow=0)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(insert(Audit).values(note="before"))
    async with Database(engine, name="memory") as db:
        audits = Repository[Audit](db)
        await audits.add(Audit(note="after"))
        async with db.transaction():
            assert [each.note for each in await audits.all()] == ["before", "after"]
