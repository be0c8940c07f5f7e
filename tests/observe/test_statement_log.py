"""StatementLog keeps what a program asks of the database."""

from sqlalchemy import select

from tests.fixtures.models import Account
from unitwork import Database
from unitwork.observe import StatementLog


async def test_log_counts_what_the_program_asked(db: Database) -> None:
    """Statements are counted; what only controls the transaction is kept apart, on every database."""
    with StatementLog(db) as log:
        async with db.transaction():
            db.session.add(Account(name="ann"))
            await db.session.flush()
            async with db.transaction(propagation="NESTED"):
                await db.session.scalars(select(Account.name))

    assert len(log) == 2
    assert log.count("insert into") == 1
    assert log.texts[1].startswith("SELECT account")
    assert "\n" not in "".join(log.texts)
    assert any(statement.sql.startswith("SAVEPOINT") for statement in log.control)


async def test_log_tells_the_same_under_a_time_limit(db: Database) -> None:
    """How a database is told a time limit does not change what was asked."""
    with StatementLog(db) as log:
        async with db.transaction(timeout=10):
            await db.session.scalars(select(Account.name))

    assert log.texts == ["SELECT account.name FROM account"]


async def test_log_hears_nothing_after_its_block(db: Database) -> None:
    """`with StatementLog(db)` observes from its start to its end."""
    with StatementLog(db) as log:
        pass
    async with db.transaction():
        await db.session.scalars(select(Account))

    assert log.texts == []


async def test_log_keeps_no_parameters(db: Database) -> None:
    """A value never shows in what is kept."""
    with StatementLog(db) as log:
        async with db.transaction():
            await db.session.scalars(select(Account).where(Account.name == "secret"))

    assert len(log) == 1
    assert "secret" not in repr(log.statements)


async def test_empty_block_sends_nothing(db: Database) -> None:
    """A block without statements costs no round trip."""
    with StatementLog(db) as log:
        async with db.transaction(), db.transaction():
            pass

    assert (log.statements, log.control) == ([], [])


async def test_log_forgets_when_cleared(db: Database) -> None:
    """One log can be used for several measurements."""
    log = StatementLog(db)
    with log:
        await db.ping()
        log.clear()

    assert repr(log) == "<StatementLog of 0 statements>"
