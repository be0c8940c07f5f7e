"""`Repository.add` outside of a transaction: stored once or not at all, whatever happens meanwhile."""

import asyncio
import datetime as dt
import warnings
from collections.abc import AsyncIterator
from contextlib import closing
from sqlite3 import Connection, connect
from typing import Any

import pytest
from sqlalchemy import URL, MetaData, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InvalidRequestError, OperationalError, SAWarning
from sqlalchemy.orm import Mapped, mapped_column

from tests.behaviour.test_transaction_cancellation import (
    MOST_AWAITS,
    STRIKES,
    Striking,
    cancel_current_task,
    completion,
)
from tests.fixtures.leaks import left_in_context
from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from tests.fixtures.proxy import Proxy
from unitwork import Base, CommitOutcomeUnknownError, Database, Repository
from unitwork.observe import StatementLog
from unitwork.options import Lane

SERVERS = pytest.mark.only("postgresql", "mariadb", reason="SQLite has no server to lose")


class Audits(Repository[Audit]):
    """The door to audits."""


@pytest.mark.every_lane
async def test_added_by_two_tasks_at_once_is_stored_once(db: Database, observer: Observer) -> None:
    """The second is told so, as by SQLAlchemy."""
    audits = Audits(db)
    await audits.add(Audit(note="first"))
    entity = Audit(note="once")

    ended = await asyncio.gather(audits.add(entity), audits.add(entity), return_exceptions=True)

    assert [type(each) for each in ended if each is not entity] == [InvalidRequestError]
    assert await observer.notes(Audit) == ["first", "once"]


@pytest.mark.every_lane
async def test_key_that_was_free_again(db: Database, observer: Observer) -> None:
    """The unit of work holds the new entity then, and what changes in it is sent."""
    audits = Audits(db)
    async with db.unit_of_work(atomic=False) as session:
        old = await audits.add(Audit(id=7, note="old"))
        await observer.run("DELETE FROM audit")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # it conflicts, and then replaces
            new = await audits.add(Audit(id=7, note="new"))
        assert old not in session
        new.note = "changed"
        await db.commit()

    assert await observer.notes(Audit) == ["changed"]


@pytest.mark.only("sqlite", reason="others do not give a key again")
@pytest.mark.every_lane
async def test_key_that_the_database_gave_again(db: Database, observer: Observer) -> None:
    """SQLite gives the key of the last row again, once it is deleted."""
    audits = Audits(db)
    async with db.unit_of_work(atomic=False) as session:
        old = await audits.add(Audit(note="old"))
        await observer.run("DELETE FROM audit")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # it replaces
            new = await audits.add(Audit(note="new"))
        assert new in session
        assert old not in session
        new.note = "changed"
        await db.commit()

    assert await observer.notes(Audit) == ["changed"]


@pytest.mark.every_lane
async def test_unit_whose_other_task_is_in_a_block(db: Database, observer: Observer) -> None:
    """It waits until the block has ended, and the block for nothing."""
    audits = Audits(db)
    inside = asyncio.Event()

    async def block() -> None:
        async with db.transaction():
            inside.set()
            for _ in range(5):
                await asyncio.sleep(0)
            await audits.add(Audit(note="block"))

    async def alone() -> None:
        await inside.wait()
        await audits.add(Audit(note="alone"))

    async with db.unit_of_work(), asyncio.timeout(4):
        await asyncio.gather(block(), alone())

    assert await observer.notes(Audit) == ["alone", "block"]


@pytest.mark.only("sqlite", reason="the driver begins by itself then")
@pytest.mark.parametrize("level", [None, "SERIALIZABLE"])
async def test_isolation_level_set_by_hand_makes_no_driver_begin(
    db: Database, observer: Observer, level: str | None
) -> None:
    """What is added afterwards is stored."""
    options: dict[str, Any] = {"isolation_level": level} if level is not None else {}
    async with Database(db.engine.url, name="levels", pool_size=1, **options) as apart:
        async with apart.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.exec_driver_sql("VACUUM")
        await Audits(apart).add(Audit(note="added"))
        assert await Audits(apart).count() == 1

    assert await observer.notes(Audit) == ["added"]


@pytest.fixture
async def locked(db: Database, database_url: URL) -> AsyncIterator[Connection]:
    """Somebody else holds the write lock, and nobody waits long for it."""

    def be_impatient(connection: DBAPIConnection, _entry: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout=300")
        cursor.close()

    event.listen(db.engine.sync_engine, "connect", be_impatient)
    await Audits(db).count()
    assert database_url.database is not None
    with closing(connect(database_url.database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


@pytest.mark.only("sqlite", reason="others lock no file")
async def test_locked_file_is_waited_for_once(db: Database, locked: Connection, observer: Observer) -> None:
    """Not again through the session; the next one is stored."""
    with pytest.raises(OperationalError, match="locked") as caught:
        await Audits(db).add(Audit(note="refused"))

    assert caught.value.statement is not None
    assert caught.value.statement.startswith("INSERT")
    assert "In " in "\n".join(caught.value.__notes__)
    locked.execute("ROLLBACK")
    await Audits(db).add(Audit(note="stored"))
    assert await observer.notes(Audit) == ["stored"]


@pytest.mark.only("sqlite", reason="others lock no file")
@pytest.mark.parametrize("observed", [False, True])
async def test_block_that_cannot_begin_says_why(
    db: Database, locked: Connection, observer: Observer, *, observed: bool
) -> None:
    """The error of the file itself, whose class decides whether it is tried again; the next one is stored."""
    log = StatementLog(*[db] * observed)

    with log, pytest.raises(OperationalError, match="locked") as caught:
        async with db.transaction() as session:
            session.add(Audit(note="refused"))

    assert caught.value.statement == "BEGIN IMMEDIATE"
    assert "In the block" in "\n".join(caught.value.__notes__)
    assert [told.error for told in log.control] == ["OperationalError"] * observed
    locked.execute("ROLLBACK")
    async with db.transaction() as session:
        session.add(Audit(note="stored"))
    assert await observer.notes(Audit) == ["stored"]


@pytest.mark.only("sqlite", reason="others lock no file")
@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("how", ["alone", "in a block"])
async def test_cancelled_while_the_file_is_locked(db: Database, how: str) -> None:
    """It stays a cancellation, though the lock was not had in the end."""

    async def add() -> None:
        if how == "alone":
            await Audits(db).add(Audit(note="x"))
        else:
            await Audits(db).add_all([Audit(note="x")])

    task = asyncio.create_task(add())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert db.pool_status().checked_out == 0


@pytest.mark.only("postgresql", "sqlite", reason="MariaDB has no trigger that drops a row")
async def test_row_that_a_trigger_drops(db: Database, observer: Observer) -> None:
    """It is told as through the session."""
    if db.engine.dialect.name == "sqlite":
        await observer.run("CREATE TRIGGER dropping BEFORE INSERT ON audit BEGIN SELECT RAISE(IGNORE); END")
    else:
        await observer.run(
            "CREATE FUNCTION dropping() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
        )
        await observer.run(
            "CREATE TRIGGER dropping BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION dropping()"
        )
    ended: list[object] = []
    for lane in (Lane.DRIVER, Lane.SESSION):
        async with Database(db.engine.url, name="dropped", fastest_lane=lane) as apart:
            try:
                ended.append((await Audits(apart).add(Audit(note="x"))).id)
            except Exception as error:  # noqa: BLE001  # compared
                ended.append((type(error), str(error)))

    assert ended[0] == ended[1]


@SERVERS
@pytest.mark.timeout(60)
async def test_connection_lost_after_the_statement_was_sent(
    db: Database, proxy: Proxy, observer: Observer
) -> None:
    """Nobody can know the outcome, and it is never inserted twice."""
    async with Database(proxy.url, name="cut") as cut:
        await Audits(cut).add(Audit(note="before"))
        proxy.cut_after = b"doubtful"
        with pytest.raises((CommitOutcomeUnknownError, DBAPIError)):
            await Audits(cut).add(Audit(note="doubtful"))
        proxy.cut_after = b""
        assert cut.pool_status().checked_out == 0
        await Audits(cut).add(Audit(note="after"))

    assert (await observer.notes(Audit)).count("doubtful") <= 1


@pytest.mark.only("asyncpg", reason="its own time limit for each statement")
async def test_time_limit_of_the_driver_inserts_once(db: Database, observer: Observer) -> None:
    """The limit is over on the client alone: what the server does, nobody knows."""
    await observer.run("CREATE SEQUENCE calls")
    await observer.run(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN"
        " IF nextval(''calls'') = 1 THEN BEGIN PERFORM pg_sleep(1);"
        " EXCEPTION WHEN query_canceled THEN NULL; END; END IF; RETURN NEW; END'"
    )
    await observer.run("CREATE TRIGGER slowly BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION slowly()")
    async with Database(db.engine.url, name="limited", connect_args={"command_timeout": 0.3}) as limited:
        await limited.ping()
        with pytest.raises(CommitOutcomeUnknownError):
            await Audits(limited).add(Audit(note="slow"))
        await asyncio.sleep(2)

    assert (await observer.notes(Audit)).count("slow") <= 1


@pytest.mark.parametrize("strikes", list(STRIKES))
@pytest.mark.parametrize("place", ["outside", "unit"])
@pytest.mark.timeout(120)
async def test_cancelled_at_every_await_leaves_nothing_behind(
    db: Database, observer: Observer, strikes: str, place: str
) -> None:
    """The row is there once or not, and the next one can be added."""
    audits = Audits(db)
    await audits.add(Audit(note="first"))

    async def program() -> None:
        if place == "outside":
            await audits.add(Audit(note="struck"))
            return
        async with db.unit_of_work():
            await audits.add(Audit(note="struck"))

    for at in range(1, MOST_AWAITS):
        striking = Striking(program(), STRIKES[strikes](at), cancel_current_task)
        task = asyncio.create_task(completion(striking))
        await asyncio.wait({task})

        assert db.pool_status().checked_out == 0
        assert left_in_context() == {}
        assert (await observer.notes(Audit)).count("struck") <= 1
        await observer.run("DELETE FROM audit WHERE note = 'struck'")
        async with asyncio.timeout(4):
            await audits.add(Audit(note=f"next {at}"))
        if striking.seen < at:
            task.result()
            return
        assert task.cancelled(), task.exception()
    pytest.fail("the program has more awaits than this test expects")


class Strange(Base):
    """What the database fills in is no time that Python knows."""

    __tablename__ = "strange_of_adding"
    metadata = MetaData()

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[dt.datetime] = mapped_column(server_default=text("'0044-03-15 BC'"))


@pytest.mark.only("sqlite", "asyncpg", "psycopg", reason="MariaDB knows no such time")
async def test_row_whose_default_cannot_be_read_is_told_to_be_stored(
    db: Database, observer: Observer
) -> None:
    """It is sent once, and the error says that it is there."""
    await db.create_all(Strange.metadata)
    strange = Repository[Strange](db)
    await strange.count()

    with pytest.raises(Exception, match=r"year|date|isoformat") as caught:
        await strange.add(Strange())

    assert caught.value.__notes__[0].startswith("The row is stored")
    assert await observer.scalar("SELECT count(*) FROM strange_of_adding") == 1
    assert db.pool_status().checked_out == 0
