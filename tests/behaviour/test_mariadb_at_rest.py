"""A connection of MariaDB rests in AUTOCOMMIT: no message is sent in vain, and nothing is stored by half."""

# mypy: disable-error-code="empty-body"

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from inspect import signature
from typing import Any

import asyncmy
import pytest
from asyncmy.converters import conversions
from asyncmy.cursors import SSCursor
from sqlalchemy import URL, LargeBinary, String, insert, select, text
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.fixtures.errors import StockError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Isolation, Propagation, Repository, TransactionTimeoutError, query
from unitwork.dialects.mysql_driver import is_certain, is_closed, is_open
from unitwork.options import Lane

pytestmark = pytest.mark.only("mariadb", reason="it is about its AUTOCOMMIT")

SENT = text("SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'QUESTIONS'")
PROCEDURES = {
    "answers": "BEGIN SELECT 1; INSERT INTO audit (note) VALUES ('inside'); COMMIT; SELECT 2; END",
    "undone": "BEGIN ROLLBACK; SIGNAL SQLSTATE '45000'; END",
    "begins": "BEGIN START TRANSACTION; INSERT INTO audit (note) VALUES ('begun'); END",
}


class Audits(Repository[Audit]):
    """The door to notes."""


class Sealed(DeclarativeBase):
    """The table of this file."""


class Letter(Sealed):
    """What has bytes."""

    __tablename__ = "letter"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(20))
    seal: Mapped[bytes | None] = mapped_column(LargeBinary)


class Letters(Repository[Letter]):
    """The door to letters."""


class Sleeping(Repository[Audit]):
    """What takes its time."""

    @query.sql("SELECT SLEEP(:seconds)")
    async def sleep(self, seconds: int) -> int: ...


class Wide(Repository[Audit]):
    """All columns, whatever there are."""

    @query.sql("SELECT * FROM audit")
    async def rows(self) -> list[dict[str, Any]]: ...


@pytest.fixture
async def narrow(database_url: URL) -> AsyncIterator[Database]:
    """A Database with one connection, which has been opened."""
    async with Database(database_url, name="narrow", pool_size=1, max_overflow=0) as database:
        async with database.engine.connect():
            pass
        yield database
        assert database.pool_status().checked_out == 0


async def asked(db: Database) -> int:
    """How many messages the only connection has sent, this one included."""
    async with db.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        return int(await connection.scalar(SENT) or 0)


async def read(db: Database) -> None:
    """A read by key."""
    await Audits(db).get(1)


async def add(db: Database) -> None:
    """A row."""
    await Audits(db).add(Audit(note="one"))


async def block(db: Database) -> None:
    """Two statements that belong together."""
    async with db.transaction():
        await read(db)
        await add(db)


async def read_only(db: Database) -> None:
    """A read in a block that cannot write."""
    async with db.transaction(read_only=True):
        await read(db)


async def by_itself(db: Database) -> None:
    """A statement of a session without a transaction."""
    async with db.transaction(propagation=Propagation.SUPPORTS) as session:
        await session.execute(insert(Audit).values(note="one"))


async def serializable(db: Database) -> None:
    """A read in a block with a level of its own, which is set and set back."""
    async with db.transaction(isolation=Isolation.SERIALIZABLE):
        await read(db)


@pytest.mark.parametrize(
    ("work", "messages"), [(read, 1), (add, 1), (block, 4), (read_only, 3), (by_itself, 1), (serializable, 5)]
)
async def test_no_message_is_sent_in_vain(
    narrow: Database, work: Callable[[Database], Awaitable[None]], messages: int
) -> None:
    """BEGIN, the statements and COMMIT; for a statement by itself that alone."""
    await work(narrow)
    alone = await asked(narrow)
    between = await asked(narrow) - alone
    before = await asked(narrow)

    await work(narrow)

    assert await asked(narrow) - before - between == messages


@pytest.mark.parametrize("ends", ["CREATE TABLE IF NOT EXISTS made (a INT)", "COMMIT", "CALL answers()"])
async def test_what_comes_after_an_end_inside_is_one_transaction(
    db: Database, observer: Observer, ends: str
) -> None:
    """On a connection by hand: what the server has ended goes on as a new transaction."""
    await observer.run(f"CREATE PROCEDURE answers() {PROCEDURES['answers']}")
    with pytest.raises(StockError):
        async with db.engine.begin() as connection:
            await connection.exec_driver_sql(ends)
            await connection.execute(insert(Audit).values(note="undone"))
            await connection.exec_driver_sql(ends)
            await connection.execute(insert(Audit).values(note="undone too"))
            raise StockError

    stored = await observer.notes(Audit)
    assert [note for note in stored if note != "inside"] == ["undone"]
    await Audits(db).add(Audit(note="at rest"))
    assert "at rest" in await observer.notes(Audit)


async def test_several_statements_in_one_text_are_one_transaction_after_its_end(
    db: Database, observer: Observer
) -> None:
    """Also what comes in the same text behind COMMIT."""
    several = "INSERT INTO audit (note) VALUES ('a'); COMMIT; INSERT INTO audit (note) VALUES ('b')"
    with pytest.raises(StockError):
        async with db.engine.begin() as connection:
            await connection.exec_driver_sql(several)
            await connection.execute(insert(Audit).values(note="c"))
            raise StockError

    assert await observer.notes(Audit) == ["a"]


@pytest.mark.parametrize(("ends", "stored"), [("CALL undone()", []), ("CREATE TABLE audit (a INT)", ["a"])])
async def test_what_comes_after_an_error_that_ended_all_is_one_transaction(
    db: Database, observer: Observer, ends: str, stored: list[str]
) -> None:
    """With an error the server does not tell what is open, so it is asked."""
    await observer.run(f"CREATE PROCEDURE undone() {PROCEDURES['undone']}")
    with pytest.raises(StockError):
        async with db.engine.begin() as connection:
            await connection.execute(insert(Audit).values(note="a"))
            with suppress(DBAPIError):
                await connection.exec_driver_sql(ends)
            await connection.execute(insert(Audit).values(note="b"))
            raise StockError

    assert await observer.notes(Audit) == stored


async def test_locked_tables_stay_locked(db: Database, observer: Observer) -> None:
    """BEGIN would unlock them: LOCK TABLES has ended the transaction, and it is not begun anew with that."""
    async with db.engine.begin() as connection:
        await connection.exec_driver_sql("LOCK TABLES audit WRITE")
        await connection.execute(insert(Audit).values(note="a"))
        with pytest.raises(DBAPIError, match="Lock wait timeout"):
            await observer.run("SET STATEMENT lock_wait_timeout=1 FOR INSERT INTO audit (note) VALUES ('b')")
        await connection.exec_driver_sql("UNLOCK TABLES")

    assert await observer.notes(Audit) == ["a"]


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE"])
async def test_level_by_hand_is_set_back(narrow: Database, observer: Observer, level: str) -> None:
    """What comes then is at rest: a row is stored by its statement, and a block can be undone."""
    engine = narrow.engine.execution_options(isolation_level=level)
    async with engine.connect() as connection:
        await connection.execute(insert(Audit).values(note="by hand"))

    async with narrow.engine.connect() as connection:
        assert await connection.get_isolation_level() == "REPEATABLE READ"
    await Audits(narrow).add(Audit(note="kept"))
    with pytest.raises(StockError):
        async with narrow.transaction():
            await Audits(narrow).add(Audit(note="undone"))
            raise StockError
    assert await observer.notes(Audit) == (["by hand", "kept"] if level == "AUTOCOMMIT" else ["kept"])


async def switched_off(connection: AsyncConnection) -> None:
    """As a program may write it."""
    await connection.exec_driver_sql("SET autocommit = 0")


async def begun_inside(connection: AsyncConnection) -> None:
    """A procedure that leaves its transaction open."""
    await connection.exec_driver_sql("CALL begins()")


@pytest.mark.parametrize("leave", [switched_off, begun_inside])
async def test_connection_that_was_left_otherwise_rests_again(
    narrow: Database, observer: Observer, leave: Callable[[AsyncConnection], Awaitable[None]]
) -> None:
    """What was left open is ended at once, and the next row is stored by its statement."""
    await observer.run(f"CREATE PROCEDURE begins() {PROCEDURES['begins']}")
    async with narrow.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await leave(connection)

    for lane in (Lane.DRIVER, Lane.SESSION):
        narrow.source.lanes.fastest = lane
        await Audits(narrow).add(Audit(note=lane.value))
    assert set(await observer.notes(Audit)) >= {"driver", "session"}


@pytest.mark.skipif(
    "skip_autocommit_rollback" not in signature(DefaultDialect).parameters,
    reason="SQLAlchemy 2.0.40 has no such option",
)
async def test_rollback_is_sent_though_autocommit_needs_none(database_url: URL, observer: Observer) -> None:
    """SQLAlchemy can be told that AUTOCOMMIT needs no ROLLBACK; a transaction that was begun needs it."""
    async with Database(database_url, name="skipping", skip_autocommit_rollback=True) as db:
        with pytest.raises(StockError):
            async with db.transaction():
                await Audits(db).add(Audit(note="undone"))
                raise StockError
        await Audits(db).add(Audit(note="kept"))

    assert await observer.notes(Audit) == ["kept"]


async def test_server_is_told_the_time_limit_of_a_unit(db: Database, observer: Observer) -> None:
    """It would work on when nobody waits any more; so the driver lane, which does not tell, is not taken."""
    sent: list[str] = []

    async def see() -> None:
        while not sent:
            sent.extend(
                await observer.column(
                    "SELECT info FROM information_schema.processlist"
                    " WHERE info LIKE '%SLEEP(20)%' AND id <> CONNECTION_ID()"
                )
            )

    await Sleeping(db).sleep(0)
    with pytest.raises(TransactionTimeoutError):
        async with db.transaction(timeout=2), db.unit_of_work(), asyncio.TaskGroup() as tasks:
            tasks.create_task(see())
            await Sleeping(db).sleep(20)

    assert [sql[:33] for sql in sent] == ["SET STATEMENT max_statement_time="]


async def test_columns_may_change_under_a_text(db: Database, observer: Observer) -> None:
    """The driver tells the columns with each answer."""
    await Audits(db).add(Audit(note="a"))
    for places in (2, 3, 4):
        assert [len(row) for row in await Wide(db).rows()] == [places]
        async with db.transaction():
            assert [len(row) for row in await Wide(db).rows()] == [places]
        await observer.run(f"ALTER TABLE audit ADD COLUMN more_{places} INT FIRST")


async def test_answer_that_cannot_be_read_costs_no_place_in_the_pool(database_url: URL) -> None:
    """Nobody knows what comes next on such a connection; the read fails as on the session lane."""

    def refuse(_value: Any) -> Any:  # noqa: ANN401  # of the driver
        raise LookupError

    decoders = {**conversions, 3: refuse}
    arguments: dict[str, Any] = {"connect_args": {"conv": decoders}, "pool_size": 1, "max_overflow": 0}
    async with Database(database_url, name="blind", **arguments) as db:
        async with db.transaction() as session:
            session.add(Account(name="ann"))
        for _ in range(3):
            with pytest.raises(LookupError):
                await Repository[Account](db).all()
            async with db.transaction() as session:
                assert await session.scalar(select(Account.name)) == "ann"
                with pytest.raises(LookupError):
                    await session.scalars(select(Account))
                db.set_rollback_only()
        assert db.pool_status().checked_out == 0


async def test_driver_shows_what_is_relied_on(database_url: URL) -> None:
    """The status of the server, and the result that is read last: which the drivers have, and do not show."""
    driver = await asyncmy.connect(
        host=database_url.host, port=database_url.port, user=database_url.username, autocommit=True
    )
    told = []
    for sql in ("SELECT 1", "BEGIN", "SELECT 1; SELECT 2"):
        async with driver.cursor() as cursor:
            await cursor.execute(sql)
            told.append((is_open(driver), is_certain(driver), driver.get_autocommit()))
    async with driver.cursor(SSCursor) as unread:
        await unread.execute("SELECT 1")
        told.append((is_open(driver), is_certain(driver), driver.get_autocommit()))
    await driver.ensure_closed()

    assert told == [(False, True, True), (True, True, True), (True, False, True), (True, False, True)]
    assert is_closed(driver)


@pytest.mark.parametrize("lane", list(Lane))
@pytest.mark.parametrize("way", ["add", "add in a block", "execute", "many", "bulk", "update"])
async def test_bytes_are_refused_where_a_backslash_is_a_character(
    database_url: URL, observer: Observer, lane: Lane, way: str
) -> None:
    """Both drivers escape bytes with backslashes, whatever the mode: a quote would end the literal."""
    mode = {"init_command": "SET sql_mode = 'NO_BACKSLASH_ESCAPES'"}
    evil = b"\\' OR 1 = 1 -- "
    async with Database(database_url, name="plain", connect_args=mode, fastest_lane=lane) as db:
        await db.create_all(Sealed)
        letters = Letters(db)
        await letters.add(Letter(text="it's \\"))  # text is escaped by the mode
        with pytest.raises(DBAPIError, match="NO_BACKSLASH_ESCAPES"):
            if way == "add":
                await letters.add(Letter(text="new", seal=evil))
            elif way == "add in a block":
                async with db.transaction():
                    await letters.add(Letter(text="new", seal=evil))
            elif way == "execute":
                async with db.transaction() as session:
                    await session.execute(select(Letter).where(Letter.seal == evil))
            elif way == "many":
                written = text("INSERT INTO letter (text, seal) VALUES (:text, :seal)")
                async with db.transaction() as session:
                    await session.execute(written, [{"text": "new", "seal": seal} for seal in (evil, b"")])
            elif way == "bulk":
                await letters.add_all([Letter(text="new", seal=evil), Letter(text="other", seal=evil)])
            else:
                await letters.where(Letter.seal.is_(None)).update(seal=evil)
        stored = [(letter.text, letter.seal) for letter in await letters.all()]
        await observer.run("DROP TABLE letter")

    assert stored == [("it's \\", None)]
