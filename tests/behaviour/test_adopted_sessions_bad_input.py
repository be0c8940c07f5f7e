"""What cannot be adopted, or is ended by the wrong hand, is one clear error, and nothing is lost."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import URL, Connection, NullPool, event, insert, select
from sqlalchemy.exc import DBAPIError, InvalidRequestError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from tests.fixtures.databases import Backend
from tests.fixtures.errors import ShopError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import (
    Database,
    OptionError,
    Repository,
    TransactionEndedError,
    TransactionRefusedError,
    TransactionTimeoutError,
    UnexpectedRollbackError,
)

ANN = insert(Account).values(name="ann", balance=0)


async def write(db: Database, note: str) -> None:
    """What new code does: a block that stores a row."""
    async with db.transaction():
        await Repository[Audit](db).create(note=note)


# -- what cannot be adopted ---------------------------------------------------------------------


async def test_session_of_another_engine(db: Database, database_url: URL) -> None:
    """The session says which engine it is of; nothing of it is changed."""
    other = create_async_engine(database_url, poolclass=NullPool)
    async with AsyncSession(other) as session:
        with pytest.raises(TransactionRefusedError, match=r"session adopted at .*it is of another engine"):
            async with db.adopt(session):
                pass
        assert type(session) is AsyncSession
    async with other.connect() as connection, AsyncSession(connection) as session:
        with pytest.raises(TransactionRefusedError, match="another engine"):
            async with db.adopt(session):
                pass
    await other.dispose()


async def test_session_of_several_engines(db: Database, database_url: URL, observer: Observer) -> None:
    """What is routed to another engine is refused when it is sent; what is of this one works."""
    other = create_async_engine(database_url, poolclass=NullPool)
    async with AsyncSession(binds={Audit: db.engine, Account: other}) as session:
        async with db.adopt(session):
            await write(db, "here")
            with pytest.raises(TransactionRefusedError, match="routes a statement to another one"):
                await session.execute(ANN)
        await session.commit()
    await other.dispose()

    assert await observer.notes(Audit) == ["here"]


def test_session_of_another_event_loop(database_url: URL) -> None:
    """One that has begun there, or knows that loop's engine, is refused here, and is whole there."""

    async def begin(db: Database) -> AsyncSession:
        session = db.session_factory()
        await session.execute(select(Audit))
        return session

    db = Database(database_url, name="loops")
    with asyncio.Runner() as first, asyncio.Runner() as second:
        session = first.run(begin(db))

        async def adopt_elsewhere() -> None:
            with pytest.raises(TransactionRefusedError, match="it is of another event loop"):
                async with db.adopt(session):
                    pass
            await db.dispose()

        async def go_on() -> None:
            async with db.adopt(session):
                await write(db, "x")
            await session.rollback()
            await session.close()
            await db.dispose()

        second.run(adopt_elsewhere())
        first.run(go_on())


async def test_session_whose_statements_commit(db: Database) -> None:
    """A block could undo nothing of it."""
    engine = db.engine.execution_options(isolation_level="AUTOCOMMIT")
    async with AsyncSession(engine) as session:
        with pytest.raises(OptionError, match="AUTOCOMMIT"):
            async with db.adopt(session):
                pass


async def test_what_is_no_session(db: Database) -> None:
    """A factory is refused with what to write, by `adopt` and by repositories; so is anything else."""
    factory: Any = async_sessionmaker(db.engine)
    with pytest.raises(OptionError, match="async with factory"):
        async with db.adopt(factory):
            pass
    with pytest.raises(OptionError, match="async with factory"):
        Repository[Audit](factory)
    others: list[Any] = [db.engine, "shop", AsyncSession, Database]
    for other in others:
        with pytest.raises(OptionError, match="a Database, which makes its own sessions"):
            Repository[Audit](other)
    with pytest.raises(OptionError, match="an AsyncSession"):
        async with db.adopt(cast("Any", Session())):
            pass


async def test_session_with_names_of_its_own(db: Database) -> None:
    """One that keeps something where ambient sessions keep theirs is refused, and keeps it."""
    async with db.session_factory() as session:
        vars(session)["turns"] = "mine"
        with pytest.raises(OptionError, match="'turns'"):
            async with db.adopt(session):
                pass
        assert vars(session)["turns"] == "mine"


async def test_adopted_by_another_task_already(db: Database) -> None:
    """A task that is not inside of the adoption cannot have it as well."""
    async with db.session_factory() as session:
        adopted, seen = asyncio.Event(), asyncio.Event()

        async def adopt() -> None:
            async with db.adopt(session):
                adopted.set()
                await seen.wait()

        task = asyncio.create_task(adopt())
        await adopted.wait()
        with pytest.raises(TransactionRefusedError, match="ambient already, and not the innermost"):
            async with db.adopt(session):
                pass
        seen.set()
        await task


async def test_block_object_is_entered_once_at_a_time(db: Database) -> None:
    """As transaction blocks."""
    async with db.session_factory() as session:
        block = db.adopt(session)
        async with block:
            with pytest.raises(TransactionRefusedError, match="cannot be entered twice"):
                await block.__aenter__()
        async with block:
            await write(db, "x")
            assert "open" in repr(block)


# -- what the wrong hand ends -------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["commit", "rollback", "close", "reset", "invalidate", "begin"])
async def test_old_code_ends_nothing_inside_a_block(db: Database, observer: Observer, verb: str) -> None:
    """The error says where it may; the block goes on, and its owner stores all of it."""
    async with db.session_factory() as session:
        async with db.adopt(session):
            async with db.transaction():
                await write(db, "before")
                with pytest.raises(TransactionRefusedError, match=rf"`{verb}` of the session adopted at"):
                    result = getattr(session, verb)()
                    await result
                with pytest.raises(TransactionRefusedError, match=r"refused inside a block or `run_sync`"):
                    await session.run_sync(lambda held: held.commit())
                await write(db, "after")
            assert await observer.notes(Audit) == []
        await session.commit()

    assert await observer.notes(Audit) == ["after", "before"]


@pytest.mark.parametrize("way", ["transaction", "connection"])
async def test_commit_by_what_sqlalchemy_hands_out(db: Database, observer: Observer, way: str) -> None:
    """An object that old code had before is no way around it: half of a block is never stored."""
    async with db.session_factory() as session:
        begun = await session.begin()
        connection = await session.connection()
        async with db.adopt(session):
            await write(db, "x")
            with pytest.raises(ShopError):
                async with db.transaction():
                    await write(db, "half")
                    with pytest.raises((TransactionRefusedError, UnexpectedRollbackError)):
                        await (begun if way == "transaction" else connection).commit()
                    raise ShopError
        await session.rollback()

    assert await observer.notes(Audit) == []


async def open_in_a_task(db: Database, go_on: asyncio.Event) -> asyncio.Task[None]:
    """A task in a block that has written once, and writes again when it is told to go on."""
    entered = asyncio.Event()

    async def block() -> None:
        async with db.transaction():
            await write(db, "first")
            entered.set()
            await go_on.wait()
            await write(db, "second")

    task = asyncio.create_task(block())
    await entered.wait()
    return task


async def test_owner_commits_while_a_block_of_a_task_is_open(db: Database, observer: Observer) -> None:
    """That would store half of the block: refused, the block goes on, and the owner commits after it."""
    go_on = asyncio.Event()
    async with db.session_factory() as session, db.adopt(session):
        task = await open_in_a_task(db, go_on)
        with pytest.raises(UnexpectedRollbackError, match="still open"):
            await session.commit()
        go_on.set()
        await task
        await session.commit()

    assert await observer.notes(Audit) == ["first", "second"]


async def test_owner_rolls_back_while_a_block_of_a_task_is_open(db: Database, observer: Observer) -> None:
    """The block hears that its transaction has ended; it stores no half of its work."""
    go_on = asyncio.Event()
    async with db.session_factory() as session, db.adopt(session):
        task = await open_in_a_task(db, go_on)
        await session.rollback()
        go_on.set()
        with pytest.raises(TransactionEndedError):
            await task
        await write(db, "next")
        await session.commit()

    assert await observer.notes(Audit) == ["next"]


async def test_closed_before_and_meanwhile(db: Database, observer: Observer) -> None:
    """As with SQLAlchemy: used again it begins anew; one that is closed for good says so."""
    async with db.session_factory() as session:
        await session.close()
        async with db.adopt(session):
            await write(db, "first")
            await session.commit()
            await session.close()
            await write(db, "second")
        await session.commit()
    for_good = db.session_factory(close_resets_only=False)
    async with db.adopt(for_good):
        await for_good.close()
        with pytest.raises(InvalidRequestError, match="permanently closed"):
            await write(db, "never")

    assert await observer.notes(Audit) == ["first", "second"]


async def test_session_that_begins_by_hand_alone(db: Database, observer: Observer) -> None:
    """With `autobegin=False` its owner begins; before that, SQLAlchemy's own error says so."""
    async with db.session_factory(autobegin=False) as session, db.adopt(session):
        with pytest.raises(InvalidRequestError, match="Autobegin is disabled"):
            await write(db, "never")
        async with session.begin():
            await write(db, "x")
        with pytest.raises(InvalidRequestError, match="Autobegin is disabled"):
            await write(db, "never")

    assert await observer.notes(Audit) == ["x"]


async def test_transaction_that_has_begun_is_not_begun_again(db: Database) -> None:
    """SQLAlchemy's own error, as without the adoption."""
    async with db.session_factory() as session, db.adopt(session):
        await write(db, "x")
        with pytest.raises(InvalidRequestError, match="already begun"):
            await session.begin()


# -- errors of the database -----------------------------------------------------------------------


async def test_error_that_old_code_swallows(db: Database, observer: Observer, backend: Backend) -> None:
    """In no block it is as without the adoption, but that PostgreSQL's ROLLBACK for a COMMIT is told."""
    await observer.run("INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)")
    async with db.session_factory() as session, db.adopt(session):
        await session.execute(insert(Audit).values(note="x"))
        with pytest.raises(DBAPIError):
            await session.execute(ANN)
        if backend.database == "postgresql":
            with pytest.raises(UnexpectedRollbackError):
                await session.commit()
            await session.rollback()
        else:
            await session.execute(insert(Audit).values(note="y"))
            await session.commit()

    assert await observer.notes(Audit) == ([] if backend.database == "postgresql" else ["x", "y"])


async def test_error_that_new_code_swallows(db: Database, observer: Observer) -> None:
    """A block that has failed inside cannot be stored on any database; a savepoint keeps it apart."""
    await observer.run("INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)")
    async with db.session_factory() as session, db.adopt(session):
        async with db.transaction():
            await write(db, "half")
            with pytest.raises(DBAPIError):
                await db.session.execute(ANN)
        with pytest.raises(UnexpectedRollbackError):
            await session.commit()
        await session.rollback()
        async with db.transaction():
            await write(db, "whole")
            with pytest.raises(DBAPIError):
                async with db.transaction(propagation="NESTED"):
                    await db.session.execute(ANN)
        await session.commit()

    assert await observer.notes(Audit) == ["whole"]


async def test_time_limit_of_a_block(db: Database, observer: Observer) -> None:
    """Its work cannot be stored any more; the owner's session is used again after his rollback."""
    async with db.session_factory() as session, db.adopt(session):
        with pytest.raises(TransactionTimeoutError):
            async with db.transaction(timeout=0.05):
                await write(db, "late")
                await asyncio.Event().wait()
        # SQLAlchemy says it, where the time was over in the middle of a flush.
        with pytest.raises((UnexpectedRollbackError, PendingRollbackError)):
            await session.commit()
        await session.rollback()
        await write(db, "next")
        await session.commit()

    assert await observer.notes(Audit) == ["next"]


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has one writer at a time")
async def test_begun_before_rolled_back(db: Database, observer: Observer) -> None:
    """What began outside of the block of tests could not be undone by it, so it has no part in that."""
    async with db.session_factory() as session:
        session.add(Audit(note="outside"))
        await session.flush()
        async with db.rolled_back():
            with pytest.raises(TransactionRefusedError, match="has begun before `rolled_back"):
                async with db.adopt(session):
                    pass
        await session.commit()

    assert await observer.notes(Audit) == ["outside"]


async def test_nothing_is_kept_alive(db: Database) -> None:
    """A session that was adopted is freed with its last reference, as one that never was."""

    async def use() -> weakref.ref[Session]:
        async with db.session_factory() as session:
            async with db.adopt(session):
                db.on_commit(lambda: None)
                await write(db, "x")
            await session.commit()
            return weakref.ref(session.sync_session)

    gc.collect()
    gc.disable()
    try:
        assert (await use())() is None
    finally:
        gc.enable()


# -- SQLite: how sessions by hand begin -------------------------------------------------------------


def begins(engine: AsyncEngine) -> list[str]:
    """What is sent to begin, from now on."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    return sent


@pytest.mark.parametrize(
    ("make", "options", "by_hand"),
    [
        (create_async_engine, {}, "BEGIN"),
        (create_async_engine, {"begin_immediate": True}, "BEGIN IMMEDIATE"),
        (str, {}, "BEGIN IMMEDIATE"),
        (str, {"begin_immediate": False}, "BEGIN"),
    ],
)
async def test_sessions_by_hand_on_sqlite(
    tmp_path: Path, make: Callable[[str], Any], options: dict[str, Any], by_hand: str
) -> None:
    """On an engine of yours they begin as SQLite does, unless you say otherwise; blocks take the lock."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}"
    async with Database(make(url), name="old", **options) as db:
        await db.create_all(Audit.metadata)
        sent = begins(db.engine)
        async with db.session_factory.begin() as session:
            session.add(Audit(note="by hand"))
        async with db.transaction():
            await write(db, "block")

    assert sent == [by_hand, "BEGIN IMMEDIATE"]


async def test_engine_that_begins_by_itself_on_sqlite(tmp_path: Path) -> None:
    """The listener of SQLAlchemy's manual, which programs have for their savepoints, goes on to work."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    async with Database(engine, name="old") as db:
        await db.create_all(Audit.metadata)
        async with db.session_factory() as session:
            async with db.adopt(session), db.transaction(propagation="NESTED"):
                await write(db, "adopted")
            await session.commit()
        await write(db, "block")
        async with db.transaction(read_only=True):
            assert await Repository[Audit](db).count() == 2


def test_begin_immediate_is_for_sqlite() -> None:
    """Other databases have no such lock."""
    with pytest.raises(OptionError, match="begin_immediate"):
        Database("postgresql+asyncpg://db/shop", name="other", begin_immediate=True)
