"""Seven propagations, as in Spring."""

import asyncio
from contextlib import nullcontext, suppress

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from tests.fixtures.errors import StockError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import (
    Database,
    NoTransactionError,
    Propagation,
    TransactionRefusedError,
    transactional,
)

P = Propagation
WITHOUT = [P.SUPPORTS, P.NOT_SUPPORTED, P.NEVER]
JOINS = [P.REQUIRED, P.SUPPORTS, P.MANDATORY]


async def note(db: Database, text_: str) -> None:
    """Write one line in the ambient session, at once."""
    await db.session.execute(insert(Audit).values(note=text_))


@pytest.mark.parametrize("propagation", [P.REQUIRED, P.REQUIRES_NEW, P.NESTED])
async def test_block_begins_when_none_is_open(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """Without a transaction these begin one: what fails inside is undone."""
    with pytest.raises(StockError):
        async with db.transaction(propagation=propagation):
            await note(db, "lost")
            raise StockError

    assert await observer.notes(Audit) == []


@pytest.mark.parametrize("propagation", WITHOUT)
async def test_statement_commits_by_itself_without_a_transaction(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """Without a transaction each statement commits by itself, also when the block fails later."""
    with pytest.raises(StockError):
        async with db.transaction(propagation=propagation):
            await note(db, "kept")
            seen = await observer.notes(Audit)
            raise StockError

    assert seen == ["kept"]
    assert await observer.notes(Audit) == ["kept"]


@pytest.mark.parametrize("propagation", WITHOUT)
async def test_block_without_a_transaction_holds_no_connection_between_statements(
    db: Database, propagation: Propagation
) -> None:
    """Between two statements the connection is back in the pool."""
    async with db.transaction(propagation=propagation):
        await db.session.scalars(select(Audit))
        held = db.pool_status().checked_out

    assert held == 0


@pytest.mark.parametrize("propagation", WITHOUT)
async def test_failed_statement_without_a_transaction_fails_alone(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """A statement that failed has nothing to do with the next one."""
    async with db.transaction(propagation=propagation):
        with pytest.raises(DBAPIError):
            await db.session.execute(text("SELECT * FROM nowhere"))
        await note(db, "after")

    assert await observer.notes(Audit) == ["after"]


@pytest.mark.parametrize("propagation", WITHOUT)
async def test_failed_flush_without_a_transaction_fails_alone(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """After a flush that failed the session goes on."""
    await observer.run("INSERT INTO account (id, name, balance) VALUES (1, 'taken', 0)")

    async with db.transaction(propagation=propagation):
        db.session.add(Account(name="taken"))
        with pytest.raises(IntegrityError):
            await db.session.flush()
        await note(db, "after")

    assert await observer.notes(Audit) == ["after"]


@pytest.mark.parametrize("statement_between", [True, False])
async def test_pending_entity_without_a_transaction_is_stored_or_raises(
    db: Database, observer: Observer, *, statement_between: bool
) -> None:
    """What cannot be stored raises; it is never forgotten silently."""
    await observer.run("INSERT INTO account (id, name, balance) VALUES (1, 'taken', 0)")

    with pytest.raises(IntegrityError):
        async with db.transaction(propagation=P.NOT_SUPPORTED):
            db.session.add(Account(name="taken"))
            if statement_between:
                await db.session.execute(text("SELECT 1"))


async def test_pending_entity_without_a_transaction_is_stored_at_the_end(
    db: Database, observer: Observer
) -> None:
    """What was added without a transaction is flushed when the block returns."""
    async with db.transaction(propagation=P.SUPPORTS):
        db.session.add(Account(name="ann"))

    assert await observer.names(Account) == ["ann"]


async def test_stream_without_a_transaction_reads_to_its_end(db: Database, observer: Observer) -> None:
    """A streamed result can be read where no transaction is open."""
    for number in range(30):
        await observer.run(f"INSERT INTO audit (note) VALUES ('{number}')")

    async with db.transaction(propagation=P.SUPPORTS):
        rows = [row async for row in await db.session.stream(select(Audit.id))]

    assert len(rows) == 30


@pytest.mark.parametrize("propagation", JOINS)
async def test_block_joins_the_open_transaction(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """A joined block works on the outer session, and is undone with the outer transaction."""
    with pytest.raises(StockError):
        async with db.transaction() as outer:
            async with db.transaction(propagation=propagation) as inner:
                await note(db, "lost")
            assert inner is outer
            raise StockError

    assert await observer.notes(Audit) == []


async def test_requires_new_keeps_its_work_when_the_outer_fails(db: Database, observer: Observer) -> None:
    """REQUIRES_NEW commits on its own connection."""
    with pytest.raises(StockError):
        async with db.transaction():
            async with db.transaction(propagation=P.REQUIRES_NEW):
                await note(db, "kept")
            seen = await observer.notes(Audit)
            await note(db, "lost")
            raise StockError

    assert seen == ["kept"]
    assert await observer.notes(Audit) == ["kept"]


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has one write lock")
async def test_requires_new_does_not_see_the_outer_work(db: Database, observer: Observer) -> None:
    """The suspended transaction is another one: its uncommitted rows are not visible inside."""
    async with db.transaction():
        await note(db, "outer")
        async with db.transaction(propagation=P.REQUIRES_NEW):
            seen = list(await db.session.scalars(select(Audit.note)))

    assert seen == []
    assert await observer.notes(Audit) == ["outer"]


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has one write lock")
@pytest.mark.parametrize("raised", [StockError, asyncio.CancelledError, KeyboardInterrupt])
async def test_requires_new_that_fails_leaves_the_outer_unharmed(
    db: Database, observer: Observer, raised: type[BaseException]
) -> None:
    """The outer transaction goes on, whatever happened inside."""
    async with db.transaction() as outer:
        await note(db, "outer")
        with pytest.raises(raised):
            async with db.transaction(propagation=P.REQUIRES_NEW):
                await note(db, "inner")
                raise raised
        assert db.session is outer
        await note(db, "outer again")

    assert await observer.notes(Audit) == ["outer", "outer again"]


@pytest.mark.parametrize("propagation", [P.REQUIRES_NEW, P.NOT_SUPPORTED])
@pytest.mark.parametrize("raised", [None, StockError, asyncio.CancelledError, KeyboardInterrupt])
async def test_suspended_transaction_is_restored(
    db: Database, propagation: Propagation, raised: type[BaseException] | None
) -> None:
    """After the block the outer session is the ambient one again, whatever happened inside."""
    async with db.transaction() as outer:
        with pytest.raises(raised) if raised else nullcontext():
            async with db.transaction(propagation=propagation) as inner:
                assert db.session is inner
                if raised:
                    raise raised
        restored = db.session

    assert inner is not outer
    assert restored is outer


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has one write lock")
async def test_not_supported_writes_at_once_beside_the_outer(db: Database, observer: Observer) -> None:
    """NOT_SUPPORTED inside a transaction: each statement commits by itself, the outer fails alone."""
    with pytest.raises(StockError):
        async with db.transaction():
            await note(db, "lost")
            async with db.transaction(propagation=P.NOT_SUPPORTED):
                await note(db, "kept")
            raise StockError

    assert await observer.notes(Audit) == ["kept"]


async def test_not_supported_reads_what_is_committed(db: Database, observer: Observer) -> None:
    """NOT_SUPPORTED does not see the rows of the transaction that it suspends."""
    await observer.run("INSERT INTO audit (note) VALUES ('old')")

    async with db.transaction():
        await note(db, "new")
        async with db.transaction(propagation=P.NOT_SUPPORTED):
            seen = list(await db.session.scalars(select(Audit.note)))

    assert seen == ["old"]


async def test_mandatory_is_refused_without_a_transaction(db: Database) -> None:
    """MANDATORY needs an open transaction, and says so on entry."""
    with pytest.raises(TransactionRefusedError, match="MANDATORY"):
        async with db.transaction(propagation=P.MANDATORY):
            pytest.fail("entered")


@pytest.mark.parametrize("around", WITHOUT)
async def test_mandatory_is_refused_inside_a_block_without_a_transaction(
    db: Database, around: Propagation
) -> None:
    """A block without a transaction is not a transaction."""
    async with db.transaction(propagation=around):
        with pytest.raises(TransactionRefusedError, match="MANDATORY"):
            async with db.transaction(propagation=P.MANDATORY):
                pytest.fail("entered")


@pytest.mark.parametrize("around", WITHOUT)
async def test_required_begins_inside_a_block_without_a_transaction(
    db: Database, observer: Observer, around: Propagation
) -> None:
    """Inside a block without a transaction REQUIRED begins one of its own."""
    async with db.transaction(propagation=around):
        with pytest.raises(StockError):
            async with db.transaction():
                await note(db, "lost")
                raise StockError
        await note(db, "kept")

    assert await observer.notes(Audit) == ["kept"]


@pytest.mark.parametrize(
    "refused",
    [
        {"propagation": P.NEVER},
        {"durable": True},
        {"isolation": "SERIALIZABLE"},
        {"propagation": P.NESTED, "isolation": "SERIALIZABLE"},
        {"propagation": P.NESTED, "durable": True},
    ],
    ids=str,
)
async def test_refusal_condemns_nothing(db: Database, observer: Observer, refused: dict[str, object]) -> None:
    """A block that is refused on entry leaves the transaction as it was."""
    async with db.transaction():
        await note(db, "before")
        with pytest.raises(TransactionRefusedError):
            async with db.transaction(**refused):  # type: ignore[arg-type]  # given by name
                pytest.fail("entered")
        await note(db, "after")

    assert await observer.notes(Audit) == ["after", "before"]


async def test_refusal_of_a_decorated_function_condemns_nothing(db: Database, observer: Observer) -> None:
    """The same with the decorator: the function is not called."""

    @transactional(using=db, propagation=P.NEVER)
    async def alone() -> None:
        pytest.fail("called")

    async with db.transaction():
        await note(db, "before")
        with pytest.raises(TransactionRefusedError):
            await alone()

    assert await observer.notes(Audit) == ["before"]


async def test_block_that_was_refused_can_be_entered_later(db: Database) -> None:
    """A block object is 'new' after a refusal, and works where it fits."""
    block = db.transaction(propagation=P.MANDATORY)
    with pytest.raises(TransactionRefusedError):
        async with block:
            pytest.fail("entered")

    async with db.transaction(), block:
        assert block.status == "open"


@pytest.mark.parametrize("outer", list(Propagation))
async def test_context_is_restored_after_each_pair(db: Database, outer: Propagation) -> None:
    """Whatever is entered inside whatever, afterwards no transaction is current."""
    for inner in Propagation:
        with suppress(StockError, TransactionRefusedError):
            async with db.transaction(propagation=outer) as session:
                with suppress(StockError, TransactionRefusedError):
                    async with db.transaction(propagation=inner):
                        raise StockError
                assert db.session is session
                raise StockError

        with pytest.raises(NoTransactionError):
            db.session.add(Audit(note="nowhere"))


async def test_many_levels_are_restored_one_by_one(db: Database, observer: Observer) -> None:
    """Each end gives back exactly the session that was ambient before."""
    sessions = []
    async with db.transaction() as a:
        async with db.transaction(propagation=P.REQUIRES_NEW) as b:
            async with db.transaction(propagation=P.NOT_SUPPORTED) as c:
                async with db.transaction(propagation=P.REQUIRED) as d:
                    await note(db, "innermost")
                    sessions.append(db.session)
                sessions.append(db.session)
            sessions.append(db.session)
        sessions.append(db.session)

    assert sessions == [d, c, b, a]
    assert await observer.notes(Audit) == ["innermost"]


async def test_two_databases_never_share_a_block(
    db: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Context is kept per Database: a block of one is no transaction of the other."""
    folder = tmp_path_factory.mktemp("second")
    async with Database(f"sqlite+aiosqlite:///{folder}/second.db", name="second") as second:
        block = db.transaction()
        async with block as session:
            with pytest.raises(NoTransactionError):
                second.session.add(Audit(note="nowhere"))
            async with second.transaction(propagation=P.NEVER):
                assert db.session is session
                assert second.session is not session
