"""However the owner of an adopted session ends it: no half is stored, and each is told what came of it."""

import asyncio
import gc
import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction, create_async_engine
from sqlalchemy.orm import Session

from tests.fixtures.errors import ShopError
from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from tests.fixtures.proxy import Proxy
from unitwork import Database, Repository, TransactionEndedError, UnexpectedRollbackError
from unitwork.testing import no_leaks

WHEN = pytest.mark.parametrize("late", [False, True], ids=["inside", "later"])
WAYS = pytest.mark.parametrize("way", ["session", "run_sync", "transaction"])
TURNS_OF_THE_LOOP = 12
JOIN_S = 5


async def write(db: Database, note: str) -> None:
    """What new code does: a block that stores a row."""
    async with db.transaction():
        await Repository[Audit](db).create(note=note)


async def fail_quietly(db: Database) -> None:
    """A block that writes and fails, and whose exception somebody swallows."""
    with suppress(ShopError):
        async with db.transaction():
            await Repository[Audit](db).create(note="half")
            raise ShopError


def told_of(db: Database, told: list[str] | None = None) -> list[str]:
    """What is told of the end, from now on."""
    told = [] if told is None else told
    db.on_commit(lambda: told.append("committed"))
    db.on_rollback(lambda: told.append("rolled back"))
    return told


async def commit(session: AsyncSession, way: str) -> None:
    """Commit in one of the ways that SQLAlchemy has."""
    begun = session.get_transaction()
    if way == "run_sync":
        await session.run_sync(lambda held: held.commit())
    elif way == "transaction" and begun is not None:
        await begun.commit()
    else:
        await session.commit()


# -- by the connection --------------------------------------------------------------------------


@WHEN
async def test_connection_stores_no_half(db: Database, observer: Observer, *, late: bool) -> None:
    """A COMMIT past the session is refused where a block has failed, also after the adoption."""
    async with db.session_factory() as session:
        connection = await session.connection()
        async with db.adopt(session):
            told = told_of(db)
            await fail_quietly(db)
            if not late:
                with pytest.raises(UnexpectedRollbackError):
                    await connection.commit()
        if late:
            with pytest.raises(UnexpectedRollbackError):
                await connection.commit()

    assert (await observer.notes(Audit), told) == ([], ["rolled back"])


@WHEN
async def test_connection_that_commits_is_told_of(db: Database, observer: Observer, *, late: bool) -> None:
    """What is stored is stored, though the session knows nothing of it."""
    async with no_leaks(db), db.session_factory() as session:
        connection = await session.connection()
        async with db.adopt(session):
            told = told_of(db)
            await write(db, "whole")
            if not late:
                await connection.commit()
        if late:
            await connection.commit()

    assert (await observer.notes(Audit), told) == (["whole"], ["committed"])


async def test_connection_around_the_session_stores_no_half(db: Database, observer: Observer) -> None:
    """The session on a connection need not even end: whoever commits the connection is refused."""
    async with db.engine.connect() as connection:
        session = AsyncSession(bind=connection)
        async with db.adopt(session):
            await fail_quietly(db)
        with pytest.raises(UnexpectedRollbackError):
            await connection.commit()
        await session.close()

    assert await observer.notes(Audit) == []


# -- what the database has said -------------------------------------------------------------------


@WHEN
async def test_listener_that_fails_after_the_commit(db: Database, observer: Observer, *, late: bool) -> None:
    """It is the program's own, and comes before ours: committed is committed all the same."""

    class ShopOrmSession(Session):
        """A class that is listened to."""

    @event.listens_for(ShopOrmSession, "after_commit")
    def fail(_session: Session) -> None:
        raise ShopError

    told: list[str] = []
    with pytest.raises(ShopError):
        async with db.session_factory(sync_session_class=ShopOrmSession) as session:
            async with db.adopt(session):
                told_of(db, told)
                await write(db, "whole")
                if not late:
                    await session.commit()
            await session.commit()

    assert (await observer.notes(Audit), told) == (["whole"], ["committed"])


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has no line")
@WHEN
async def test_line_cut_during_commit(proxy: Proxy, observer: Observer, *, late: bool) -> None:
    """Nobody knows what came of it: the owner gets the driver's error, and neither kind of function runs."""
    told: list[str] = []
    async with Database(proxy.url) as db, no_leaks(db):
        with pytest.raises(DBAPIError):
            async with db.session_factory() as session:
                async with db.adopt(session):
                    told_of(db, told)
                    await write(db, "perhaps")
                    proxy.cut_after = b"COMMIT"
                    if not late:
                        await session.commit()
                await session.commit()
        proxy.heal()
        assert told == []
        await write(db, "next")

    assert "next" in await observer.notes(Audit)


@pytest.mark.parametrize("turns", range(TURNS_OF_THE_LOOP))
@WHEN
async def test_cancelled_commit(db: Database, observer: Observer, turns: int, *, late: bool) -> None:
    """What was sent is seen through, and told of, before the cancellation goes on."""
    told: list[str] = []
    begins = asyncio.Event()

    async def work() -> None:
        async with db.session_factory() as session:
            async with db.adopt(session):
                told_of(db, told)
                await write(db, "x")
                if not late:
                    begins.set()
                    await session.commit()
            begins.set()
            await session.commit()

    async with no_leaks(db):
        task = asyncio.create_task(work())
        await begins.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    stored = await observer.notes(Audit)
    assert told == (["committed"] if stored else ["rolled back"])


# -- before the commit ----------------------------------------------------------------------------


@WHEN
@WAYS
async def test_before_commit_is_inside(db: Database, observer: Observer, way: str, *, late: bool) -> None:
    """It takes part in the transaction that is about to be stored, also when the session was handed back."""
    order: list[str] = []
    async with no_leaks(db), db.session_factory() as session:

        async def last() -> None:
            assert db.session is session
            await write(db, "in hook")
            session.add(Audit(note="pending"))
            db.before_commit(lambda: order.append("again"))
            db.on_commit(lambda: order.append("committed"))

        async with db.adopt(session):
            await write(db, "first")
            db.before_commit(last)
            if not late:
                await commit(session, "transaction" if way == "run_sync" else way)
        if late:
            assert type(session) is AsyncSession
            await commit(session, way)

    assert await observer.notes(Audit) == ["first", "in hook", "pending"]
    assert order == ["again", "committed"]


@WHEN
@WAYS
@pytest.mark.parametrize("quietly", [False, True])
async def test_before_commit_that_fails(
    db: Database, observer: Observer, way: str, *, late: bool, quietly: bool
) -> None:
    """Half of it is done: the commit fails, and so does another one, until the owner has rolled back."""
    async with no_leaks(db), db.session_factory() as session:

        async def last() -> None:
            await fail_quietly(db)
            if not quietly:
                raise ShopError

        async with db.adopt(session):
            told = told_of(db)
            await write(db, "first")
            db.before_commit(last)
            if not late:
                with pytest.raises(UnexpectedRollbackError if quietly else ShopError):
                    await commit(session, "transaction" if way == "run_sync" else way)
        if late:
            with pytest.raises(UnexpectedRollbackError if quietly else ShopError):
                await commit(session, way)
        with pytest.raises(UnexpectedRollbackError):
            await session.commit()
        await session.rollback()
        assert told == ["rolled back"]

    assert await observer.notes(Audit) == []


# -- what is left behind --------------------------------------------------------------------------


async def test_stream_that_is_open_at_the_end(db: Database) -> None:
    """It says that its session is its owner's alone again; closing it is nothing any more."""
    async with db.session_factory() as session:
        session.add_all([Audit(note=str(number)) for number in range(9)])
        await session.commit()
        async with db.adopt(session):
            rows = await session.stream(select(Audit))
            scalars = rows.scalars()
            await rows.fetchmany(3)
        if not db.engine.dialect.name.startswith(("mysql", "mariadb")):  # there they are fetched at once
            for stream in (rows, scalars):
                with pytest.raises(TransactionEndedError):
                    await stream.fetchmany(3)
                await stream.close()
        assert len((await session.scalars(select(Audit))).all()) == 9


async def test_functions_that_have_run_are_let_go(db: Database) -> None:
    """What knows the adoption for long, such as a connection that was made in it, keeps nothing of theirs."""
    session = db.session_factory()
    known = weakref.ref(session)
    async with session:
        async with db.adopt(session):
            db.on_commit(partial(id, session))
            await write(db, "x")
        await session.commit()
    del session
    gc.collect()

    assert known() is None


@pytest.mark.only(
    "sqlite", "asyncpg", "mariadb", reason="psycopg itself warns of what is left to the collector"
)
async def test_session_that_nobody_closes(db: Database) -> None:
    """It is freed as without the adoption, with its connection, though somebody waits for its end."""

    async def forget() -> list[str]:
        session = db.session_factory()
        async with db.adopt(session):
            await write(db, "x")
            return told_of(db)

    told = await forget()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLAlchemy's own, of a connection that was not given back
        gc.collect()

    assert db.pool_status().checked_out == 0
    assert told == []
    await db.dispose()
    # aiosqlite tells the loop that it has closed the connection, from a thread of its own.
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join, JOIN_S)


async def test_rollback_only_is_remembered(db: Database, observer: Observer) -> None:
    """What new code has asked for holds when the session is adopted again, too."""
    async with db.session_factory() as session:
        async with db.adopt(session):
            await write(db, "x")
            db.set_rollback_only()
        async with db.adopt(session):
            await write(db, "y")
        with pytest.raises(UnexpectedRollbackError):
            await session.commit()

    assert await observer.notes(Audit) == []


def begin_nested(db: Database) -> AsyncSessionTransaction:
    """A savepoint by hand."""
    return db.session.begin_nested()


@pytest.mark.parametrize("way", [lambda db: db.transaction(propagation="NESTED"), begin_nested])
async def test_savepoint_that_is_first_to_need_a_connection(
    db: Database, observer: Observer, way: Callable[[Database], Any]
) -> None:
    """The connection is that of the owner's transaction: it goes back with that, and its errors count."""
    async with db.session_factory() as session:
        async with db.adopt(session):
            async with way(db):
                await session.execute(text("INSERT INTO audit (note) VALUES ('kept')"))
            await (await session.connection()).execute(insert(Audit).values(note="kept, too"))
        await session.commit()
        async with db.adopt(session):
            async with way(db):
                await session.execute(text("INSERT INTO audit (note) VALUES ('undone')"))
            async with db.transaction():
                with suppress(DBAPIError):
                    await session.execute(text("SELECT nothing FROM nowhere"))
        with pytest.raises(UnexpectedRollbackError):
            await session.commit()
        await session.rollback()

    assert await observer.notes(Audit) == ["kept", "kept, too"]
    assert db.pool_status().checked_out == 0


@pytest.mark.parametrize("way", ["session", "connection"])
@pytest.mark.parametrize(("verb", "outcome"), [("commit", "committed"), ("rollback", "rolled back")])
async def test_each_database_that_has_adopted_a_session_hears_of_its_end(
    db: Database, observer: Observer, way: str, verb: str, outcome: str
) -> None:
    """One after the other on one engine; whichever way the owner ends it."""
    engine = create_async_engine(db.engine.url)
    told: dict[str, list[str]] = {}
    async with Database(engine, name="first") as first, Database(engine, name="second") as second:
        async with AsyncSession(engine) as session:
            for each in (first, second, first):
                async with each.adopt(session):
                    await write(each, "x")
                    if each.name not in told:
                        told[each.name] = told_of(each)
            ending = session if way == "session" else await session.connection()
            await getattr(ending, verb)()

    assert told == {"first": [outcome], "second": [outcome]}
    assert len(await observer.notes(Audit)) == (3 if verb == "commit" else 0)


@pytest.mark.parametrize("way", ["session", "connection"])
@pytest.mark.parametrize("failing", ["first", "second"])
async def test_half_of_the_work_of_any_database_is_refused(
    db: Database, observer: Observer, way: str, failing: str
) -> None:
    """A block of one of them has failed; the COMMIT would store what the other has written."""
    engine = create_async_engine(db.engine.url)
    async with Database(engine, name="first") as first, Database(engine, name="second") as second:
        async with AsyncSession(engine) as session:
            for each in (first, second):
                async with each.adopt(session):
                    await (fail_quietly(each) if each.name == failing else write(each, "x"))
            ending = session if way == "session" else await session.connection()
            with pytest.raises(UnexpectedRollbackError):
                await ending.commit()
            await session.rollback()

    assert await observer.notes(Audit) == []
