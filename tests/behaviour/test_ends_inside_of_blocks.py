"""A transaction that something else than its block has ended is never taken for one that is still open."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from tests.fixtures.errors import StockError
from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from unitwork import (
    Database,
    Propagation,
    Repository,
    RetryPolicy,
    TransactionRefusedError,
    UnexpectedRollbackError,
)
from unitwork.testing import statements

Open = Callable[[Database], Any]
AROUND: list[Any] = [
    pytest.param(lambda db: db.transaction(), id="block"),
    pytest.param(lambda db: db.unit_of_work(), id="unit"),
]
COMMITS = "INSERT INTO audit (note) VALUES ('inside'); COMMIT;"
PROCEDURES = {
    "commits": f"BEGIN {COMMITS} END",
    "goes_on": f"BEGIN {COMMITS} INSERT INTO audit (note) VALUES ('lost'); END",
    "answers": f"BEGIN SELECT 1; {COMMITS} SELECT note FROM audit; END",
    "fails": f"BEGIN {COMMITS} SIGNAL SQLSTATE '45000'; END",
    "behaves": "BEGIN INSERT INTO audit (note) VALUES ('inside'); SELECT 1; END",
}
ENDS = [
    "CALL commits()",
    "CALL goes_on()",
    "CALL answers()",
    "BEGIN NOT ATOMIC INSERT INTO audit (note) VALUES ('inside'); COMMIT; END",
    "SET STATEMENT max_statement_time = 10 FOR CALL commits()",
    "EXECUTE IMMEDIATE CONCAT('CALL ', 'commits()')",
]
mariadb = pytest.mark.only("mariadb", reason="its procedures may end the transaction that calls them")


async def write(db: Database, note: str) -> None:
    """Send one row."""
    await db.session.execute(insert(Audit).values(note=note))


@pytest.fixture
async def procedures(observer: Observer) -> None:
    """Some that commit, and one that does not."""
    for name, body in PROCEDURES.items():
        await observer.run(f"CREATE PROCEDURE {name}() {body}")


@mariadb
@pytest.mark.usefixtures("procedures")
@pytest.mark.parametrize("statement", ENDS)
@pytest.mark.parametrize("around", AROUND)
async def test_procedure_that_commits_is_told_at_once(
    db: Database, observer: Observer, around: Open, statement: str
) -> None:
    """What was written before it is stored; nothing that comes after it is."""
    with pytest.raises(TransactionRefusedError, match=r"was committed in the middle[\s\S]*Fix"):
        async with around(db) as session:
            await write(db, "before")
            await session.execute(text(statement))

    assert await observer.notes(Audit) == ["before", "inside"]


@mariadb
@pytest.mark.usefixtures("procedures")
async def test_swallowed_end_lets_nothing_more_in(db: Database, observer: Observer) -> None:
    """The block can only roll back, and says so."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction() as session:
            await write(db, "before")
            with suppress(TransactionRefusedError):
                await session.execute(text("CALL commits()"))
            with pytest.raises(TransactionRefusedError):
                await write(db, "after")

    assert await observer.notes(Audit) == ["before", "inside"]


@mariadb
@pytest.mark.usefixtures("procedures")
@pytest.mark.parametrize("statement", ["CALL commits()", "CALL fails()"])
async def test_end_inside_of_a_savepoint_ends_all(db: Database, observer: Observer, statement: str) -> None:
    """The savepoint is gone with the transaction; what is around it cannot go on either."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction() as session:
            await write(db, "before")
            with suppress(TransactionRefusedError, DBAPIError):
                async with db.transaction(propagation=Propagation.NESTED):
                    await session.execute(text(statement))
            with pytest.raises(TransactionRefusedError):
                await write(db, "after")

    assert await observer.notes(Audit) == ["before", "inside"]


@mariadb
@pytest.mark.usefixtures("procedures")
async def test_procedure_that_commits_and_fails_says_both(db: Database, observer: Observer) -> None:
    """The error of the database stays what it is, and says that a part is stored."""
    with pytest.raises(DBAPIError) as caught:
        async with db.transaction() as session:
            await write(db, "before")
            await session.execute(text("CALL fails()"))

    assert "was committed in the middle" in "\n".join(caught.value.__notes__)
    assert await observer.notes(Audit) == ["before", "inside"]


@mariadb
@pytest.mark.usefixtures("procedures")
async def test_connection_that_was_asked_for_is_watched_too(db: Database, observer: Observer) -> None:
    """Whatever the statement is sent with."""
    with pytest.raises(TransactionRefusedError, match="was committed in the middle"):
        async with db.transaction() as session:
            connection = await session.connection()
            await connection.execute(insert(Audit).values(note="before"))
            await connection.exec_driver_sql("CALL commits()")

    assert await observer.notes(Audit) == ["before", "inside"]


@mariadb
@pytest.mark.usefixtures("procedures")
async def test_procedure_that_commits_may_be_the_first_statement(db: Database, observer: Observer) -> None:
    """As DDL may: nothing is half stored by it."""
    with pytest.raises(StockError):
        async with db.transaction() as session:
            await session.execute(text("CALL commits()"))
            await write(db, "undone")
            raise StockError

    assert await observer.notes(Audit) == ["inside"]


@mariadb
@pytest.mark.usefixtures("procedures")
async def test_procedure_that_does_not_commit_is_part_of_the_block(db: Database, observer: Observer) -> None:
    """It goes with what is around it, and nobody sees how that was found out."""
    with pytest.raises(StockError), statements(db) as sent:
        async with db.transaction() as session:
            await write(db, "before")
            assert (await session.execute(text("CALL behaves()"))).scalars().all() == [1]
            await write(db, "after")
            raise StockError

    assert [each.sql.split()[0] for each in sent] == ["INSERT", "CALL", "INSERT"]
    assert await observer.notes(Audit) == []


@mariadb
@pytest.mark.usefixtures("procedures")
async def test_attempt_that_is_half_stored_is_not_tried_again(db: Database, observer: Observer) -> None:
    """What is stored already would be stored twice."""
    attempts: list[str] = []

    @db.transactional(retry=RetryPolicy(attempts=3, first_delay_s=0))
    async def work() -> None:
        attempts.append("attempt")
        await write(db, "before")
        await db.session.execute(text("CALL commits()"))

    with pytest.raises(TransactionRefusedError):
        await work()

    assert (len(attempts), await observer.notes(Audit)) == (1, ["before", "inside"])


@mariadb
@pytest.mark.parametrize(
    "statement", ["EXECUTE IMMEDIATE 'COMMIT'", "EXECUTE IMMEDIATE 'rollback'", "EXECUTE IMMEDIATE 'BEGIN'"]
)
async def test_text_in_text_that_ends_the_transaction_is_refused(
    db: Database, observer: Observer, statement: str
) -> None:
    """It is not sent, as the text inside of it would not be."""
    async with db.transaction() as session:
        await write(db, "before")
        with pytest.raises(TransactionRefusedError, match="by hand"):
            await session.execute(text(statement))
        await write(db, "after")

    assert await observer.notes(Audit) == ["after", "before"]


@pytest.mark.only("postgresql", reason="its procedures may commit outside of a transaction alone")
@pytest.mark.parametrize("statement", ["CALL commits()", "DO $$ BEGIN COMMIT; END $$"])
async def test_server_refuses_a_procedure_that_commits(
    db: Database, observer: Observer, statement: str
) -> None:
    """Nothing is half stored."""
    await observer.run("CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$")

    with pytest.raises(DBAPIError, match="invalid transaction termination"):
        async with db.transaction() as session:
            await write(db, "before")
            await session.execute(text(statement))

    assert await observer.notes(Audit) == []


# -- past SQLAlchemy ------------------------------------------------------------------------------


async def end_on_driver(db: Database, statement: str = "COMMIT") -> None:
    """End the transaction where neither SQLAlchemy nor the block can hear of it."""
    connection = await db.session.connection()
    driver: Any = (await connection.get_raw_connection()).driver_connection
    await driver.execute(statement)


async def run_script(db: Database) -> None:
    """Run a script of SQLite, whose driver commits before it."""
    connection = await db.session.connection()
    driver: Any = (await connection.get_raw_connection()).driver_connection
    await driver.executescript("SELECT 1")


knows = pytest.mark.only("sqlite", "asyncpg", reason="the driver tells whether a transaction is open")


@pytest.mark.only("sqlite", reason="its driver runs scripts, and commits before them")
async def test_script_that_commits_is_told_by_the_end_of_the_block(db: Database, observer: Observer) -> None:
    """The driver knows of no transaction where the block believes in one."""
    with pytest.raises(TransactionRefusedError, match="was ended past SQLAlchemy"):
        async with db.transaction():
            await write(db, "before")
            await run_script(db)

    assert await observer.notes(Audit) == ["before"]


@knows
@pytest.mark.parametrize(("statement", "stored"), [("COMMIT", ["before"]), ("ROLLBACK", [])])
@pytest.mark.parametrize("around", AROUND)
async def test_end_on_the_driver_is_told_by_the_end_of_the_block(
    db: Database, observer: Observer, around: Open, statement: str, stored: list[str]
) -> None:
    """The driver knows of no transaction where the block believes in one, and not what has become of it."""
    with pytest.raises(TransactionRefusedError, match="stored if that was a COMMIT, and lost if") as caught:
        async with around(db):
            await write(db, "before")
            await end_on_driver(db, statement)

    assert "was ended past SQLAlchemy" in str(caught.value)
    assert await observer.notes(Audit) == stored


@knows
@pytest.mark.parametrize("error", [None, StockError()])
async def test_block_whose_end_is_unknown_promises_neither(db: Database, error: Exception | None) -> None:
    """What waits for a COMMIT or for a ROLLBACK hears of none."""
    told: list[str] = []
    block = db.transaction()
    with pytest.raises((TransactionRefusedError, StockError)):
        async with block:
            db.on_commit(lambda: told.append("committed"))
            db.on_rollback(lambda: told.append("rolled back"))
            await write(db, "before")
            await end_on_driver(db)
            if error is not None:
                raise error

    assert told == []
    assert block.status == "outcome unknown"


@knows
async def test_exception_that_cannot_undo_says_so(db: Database, observer: Observer) -> None:
    """It stays what it is, and has a note."""
    with pytest.raises(StockError) as caught:
        async with db.transaction():
            await write(db, "before")
            await end_on_driver(db)
            raise StockError

    assert "was ended past SQLAlchemy" in "\n".join(caught.value.__notes__)
    assert await observer.notes(Audit) == ["before"]


@knows
async def test_rollback_that_was_asked_for_and_cannot_be_is_told(db: Database, observer: Observer) -> None:
    """`set_rollback_only` is silent where it can keep its promise alone."""
    with pytest.raises(TransactionRefusedError, match="was ended past SQLAlchemy"):
        async with db.transaction():
            await write(db, "before")
            await end_on_driver(db)
            db.set_rollback_only()

    assert await observer.notes(Audit) == ["before"]


@pytest.mark.only("asyncpg", reason="the driver tells whether a transaction is open")
@pytest.mark.parametrize("act", ["add", "get", "update"])
async def test_statement_after_the_end_on_the_driver_is_refused(
    db: Database, observer: Observer, act: str
) -> None:
    """It would be in another transaction, which nobody has begun."""
    audits = Repository[Audit](db)
    with pytest.raises(TransactionRefusedError, match="was ended past SQLAlchemy"):
        async with db.transaction():
            await write(db, "before")
            await end_on_driver(db)
            if act == "add":
                await audits.add(Audit(note="after"))
            elif act == "get":
                await audits.get(1)
            else:
                await audits.where(Audit.note == "before").update(note="after")

    assert await observer.notes(Audit) == ["before"]
