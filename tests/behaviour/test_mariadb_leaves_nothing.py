"""What MariaDB is told by hand, or does in a procedure, is heard to its end and left to nobody."""

# mypy: disable-error-code="empty-body"

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import URL, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import greenlet_spawn

from tests.fixtures.errors import StockError
from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Propagation, Repository, TransactionRefusedError, query
from unitwork.options import Lane

pytestmark = pytest.mark.only("mariadb", reason="it is about its status, and its procedures")

ONE: dict[str, Any] = {"pool_size": 1, "max_overflow": 0}
INSERT = "INSERT INTO audit (note) VALUES ('inside')"
LEFT = {
    "off": "SET autocommit = 0",
    "off and read": "SET autocommit = 0; SELECT 1",
    "off inside": "BEGIN NOT ATOMIC SET autocommit = 0; END",
    "off and open": f"BEGIN NOT ATOMIC SET autocommit = 0; {INSERT}; END",
    "off and failed": f"BEGIN NOT ATOMIC SET autocommit = 0; {INSERT}; SIGNAL SQLSTATE '45000'; END",
    "begun and failed": f"BEGIN NOT ATOMIC START TRANSACTION; {INSERT}; SIGNAL SQLSTATE '45000'; END",
    "begun": f"START TRANSACTION; {INSERT}",
    "read-only": "/* the next one */ SET TRANSACTION READ ONLY",
    "level": "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "two phases": f"XA START 'x'; {INSERT}",
}
LATE = {
    "late": "BEGIN SELECT 1; SIGNAL SQLSTATE '45000'; END",
    "undone": "BEGIN SELECT 1; ROLLBACK; SIGNAL SQLSTATE '45000'; END",
    "begun": f"BEGIN SELECT 1; ROLLBACK; START TRANSACTION; {INSERT}; SIGNAL SQLSTATE '45000'; END",
}
MESSAGES = text(
    "SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'QUESTIONS'"
)


class Audits(Repository[Audit]):
    """The door to notes."""

    @query.sql("CALL named()")
    async def call(self) -> list[dict[str, Any]]: ...


@pytest.fixture
async def narrow(database_url: URL) -> AsyncIterator[Database]:
    """A Database with one connection, which everybody has in turn."""
    async with Database(database_url, name="narrow", **ONE) as database:
        yield database
        assert database.pool_status().checked_out == 0


async def with_autocommit(db: Database, sql: str) -> None:
    """On a connection whose statements commit by themselves."""
    async with db.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.exec_driver_sql(sql)


async def in_block(db: Database, sql: str) -> None:
    """In a block without a transaction."""
    async with db.transaction(propagation=Propagation.SUPPORTS) as session:
        await session.execute(text(sql))


async def past_sqlalchemy(db: Database, sql: str) -> None:
    """On the driver's own connection."""
    raw = await db.engine.raw_connection()
    try:
        driver: Any = raw.driver_connection
        async with driver.cursor() as cursor:
            await cursor.execute(sql)
    finally:
        await greenlet_spawn(raw.close)


async def stored(db: Database, lane: Lane) -> None:
    """What the next users do; all of it is to be stored, but what one of them undoes."""
    db.source.lanes.fastest = lane
    await Audits(db).add(Audit(note="added"))
    async with db.transaction(propagation=Propagation.SUPPORTS) as session:
        await session.execute(insert(Audit).values(note="by itself"))
    with pytest.raises(StockError):
        async with db.transaction():
            await Audits(db).add(Audit(note="undone"))
            raise StockError
    async with db.transaction():
        await Audits(db).add(Audit(note="in block"))


@pytest.mark.parametrize("sql", LEFT.values(), ids=LEFT.keys())
@pytest.mark.parametrize("way", [with_autocommit, in_block, past_sqlalchemy])
@pytest.mark.parametrize("lane", [Lane.DRIVER, Lane.SESSION])
async def test_next_user_finds_a_connection_at_rest(
    narrow: Database,
    observer: Observer,
    sql: str,
    way: Callable[[Database, str], Awaitable[None]],
    lane: Lane,
) -> None:
    """Whatever was left on it, with an error or without one: nothing of it is stored, all that follows is."""
    with suppress(Exception):  # some of it fails, which is not the point
        await way(narrow, sql)
    await stored(narrow, lane)

    assert await observer.notes(Audit) == ["added", "by itself", "in block"]


@pytest.mark.parametrize("lane", [Lane.DRIVER, Lane.SESSION])
async def test_server_that_begins_anew_with_each_end(
    database_url: URL, observer: Observer, lane: Lane
) -> None:
    """With `completion_type=CHAIN` a COMMIT begins a transaction, which nobody would end."""
    arguments: dict[str, Any] = {"connect_args": {"init_command": "SET completion_type = CHAIN"}, **ONE}
    async with Database(database_url, name="chained", **arguments) as db:
        for _ in range(2):
            await stored(db, lane)

    assert await observer.notes(Audit) == ["added"] * 2 + ["by itself"] * 2 + ["in block"] * 2


@pytest.mark.parametrize("lane", [Lane.DRIVER, Lane.SESSION])
async def test_procedure_that_switches_autocommit_off_costs_no_connection(
    narrow: Database, observer: Observer, lane: Lane
) -> None:
    """A query that calls it leaves the connection at rest, and in the pool."""
    await observer.run("CREATE PROCEDURE named() BEGIN SET autocommit = 0; SELECT CONNECTION_ID() AS id; END")
    narrow.source.lanes.fastest = lane
    first = await Audits(narrow).call()
    await stored(narrow, lane)

    assert await Audits(narrow).call() == first
    assert await observer.notes(Audit) == ["added", "by itself", "in block"]


@pytest.mark.parametrize("body", LATE.values(), ids=LATE.keys())
@pytest.mark.parametrize("rolled_back", [False, True])
async def test_error_behind_the_first_rows_is_raised_and_condemns(
    narrow: Database, observer: Observer, body: str, *, rolled_back: bool
) -> None:
    """SQLAlchemy would only log it: what came before it would be lost, and what comes then stored."""
    await observer.run(f"CREATE PROCEDURE named() {body}")

    async def work() -> None:
        with pytest.raises(TransactionRefusedError):
            async with narrow.transaction() as session:
                session.add(Audit(note="before"))
                await session.flush()
                with pytest.raises(DBAPIError, match="1644"):
                    await session.execute(text("CALL named()"))
                session.add(Audit(note="behind"))
                await session.flush()

    if not rolled_back:
        await work()
    else:
        with suppress(TransactionRefusedError):  # the procedure may have ended its transaction
            async with narrow.rolled_back():
                await work()
    assert await observer.notes(Audit) == []


@pytest.mark.parametrize("sql", [f"{INSERT}; SELEC", f"SELECT 1; {INSERT}; SELEC", "SELECT 1; SELEC"])
async def test_error_of_a_later_statement_in_one_text_is_raised(
    narrow: Database, observer: Observer, sql: str
) -> None:
    """In a block, and by hand."""
    with pytest.raises(DBAPIError, match="1064"):
        async with narrow.transaction() as session:
            await session.execute(text(sql))
    with pytest.raises(DBAPIError, match="1064"):
        async with narrow.engine.begin() as connection:
            await connection.exec_driver_sql(sql)

    assert await observer.notes(Audit) == []


async def test_raw_connection_alone_costs_a_rollback(narrow: Database) -> None:
    """Nobody hears what fails on it; on all others the server has told that nothing is open."""

    async def asked() -> int:
        async with narrow.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            return int(await connection.scalar(MESSAGES) or 0)

    first = await asked()
    between = await asked() - first
    before = await asked()
    await greenlet_spawn((await narrow.engine.raw_connection()).close)

    assert await asked() - before - between == 1


async def test_read_after_a_procedure_that_failed_stores_nothing(
    narrow: Database, observer: Observer
) -> None:
    """In a block without a transaction: a read commits nothing that the procedure has left open."""
    await observer.run(
        f"CREATE PROCEDURE named() BEGIN START TRANSACTION; {INSERT}; SIGNAL SQLSTATE '45000'; END"
    )
    async with narrow.transaction(propagation=Propagation.SUPPORTS) as session:
        with pytest.raises(DBAPIError, match="1644"):
            await session.execute(text("CALL named()"))
        await Audits(narrow).get(1)

    assert await observer.notes(Audit) == []
