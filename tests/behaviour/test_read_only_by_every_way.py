"""A read-only extent refuses every way of writing, and blames nobody for what others change."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Propagation, Repository, TransactionRefusedError, UnexpectedRollbackError

Open = Callable[[Database], Any]
Write = Callable[[Session], Any]
ANN = "INSERT INTO account (id, name, balance) VALUES (900, 'ann', 0)"
ROW = {"note": "lost"}
PATIENCE_S = 10


def _of_transaction(session: Session) -> object:
    """Go to the connection past the session."""
    transaction = session.get_transaction()
    assert transaction is not None
    return transaction.connection(Audit.__mapper__).execute(insert(Audit).values(ROW))


WRITES: list[Any] = [
    pytest.param(lambda session: session.bulk_save_objects([Audit(**ROW)]), id="bulk_save_objects"),
    pytest.param(lambda session: session.bulk_insert_mappings(Audit, [ROW]), id="bulk_insert_mappings"),
    pytest.param(
        lambda session: session.bulk_update_mappings(Account, [{"id": 900, "balance": 9}]),
        id="bulk_update_mappings",
    ),
    pytest.param(lambda session: session.execute(insert(Audit), [ROW]), id="execute many"),
    pytest.param(lambda session: session.execute(insert(Audit).values(ROW)), id="execute"),
    pytest.param(lambda session: session.execute(text("DELETE FROM account")), id="text"),
    pytest.param(lambda session: session.query(Account).update({"balance": 9}), id="query.update"),
    pytest.param(lambda session: session.query(Account).delete(), id="query.delete"),
    pytest.param(lambda session: session.add(Audit(**ROW)), id="add"),
    pytest.param(
        lambda session: session.connection().execute(insert(Audit).values(ROW)), id="session.connection"
    ),
    pytest.param(
        lambda session: session.connection().exec_driver_sql("DELETE FROM account"), id="exec_driver_sql"
    ),
]
PAST_THE_SESSION: Any = pytest.param(_of_transaction, id="get_transaction().connection")
AROUND: list[Any] = [
    pytest.param(lambda db: db.transaction(), id="in a block"),
    pytest.param(lambda db: db.unit_of_work(), id="in a unit"),
]
NARROW: list[Any] = [
    pytest.param(lambda db: db.transaction(read_only=True), id="joined"),
    pytest.param(lambda db: db.transaction(read_only=True, propagation=Propagation.NESTED), id="nested"),
    pytest.param(lambda db: db.transaction(read_only=True, propagation=Propagation.SUPPORTS), id="supports"),
]


@pytest.mark.parametrize("write", [*WRITES, PAST_THE_SESSION])
@pytest.mark.parametrize("narrow", NARROW)
@pytest.mark.parametrize("around", AROUND)
async def test_extent_inside_a_transaction_that_writes_refuses(
    db: Database, observer: Observer, around: Open, narrow: Open, write: Write
) -> None:
    """The refusal names the block; the work around it is stored if the caller goes on."""
    await observer.run(ANN)

    async with around(db) as session:
        await session.execute(insert(Audit).values(note="around"))
        async with db.transaction(propagation=Propagation.NESTED):
            with pytest.raises(TransactionRefusedError, match="read-only"):
                async with narrow(db) as narrowed:
                    await narrowed.run_sync(write)
            db.set_rollback_only()
        await session.execute(insert(Audit).values(note="goes on"))

    assert await observer.notes(Audit) == ["around", "goes on"]
    assert await observer.values(Account, "balance") == [0]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    "propagation",
    [Propagation.REQUIRED, Propagation.SUPPORTS, Propagation.NEVER, Propagation.NOT_SUPPORTED],
)
@pytest.mark.parametrize("around", [pytest.param(lambda _db: nullcontext(), id="alone"), AROUND[1]])
async def test_read_only_block_refuses_with_and_without_a_transaction(
    db: Database, observer: Observer, around: Open, propagation: Propagation, write: Write
) -> None:
    """Each propagation, alone and as the first block of a unit."""
    await observer.run(ANN)

    with suppress(UnexpectedRollbackError):  # where it has joined, it condemns
        async with around(db):
            with pytest.raises(TransactionRefusedError):
                async with db.transaction(read_only=True, propagation=propagation) as session:
                    await session.execute(text("SELECT 1"))
                    await session.run_sync(write)

    assert await observer.notes(Audit) == []
    assert await observer.values(Account, "balance") == [0]
    assert db.pool_status().checked_out == 0


REPOSITORY: list[Any] = [
    pytest.param(lambda db: Repository[Audit](db).add(Audit(**ROW)), id="add"),
    pytest.param(lambda db: Repository[Audit](db).add_all([Audit(**ROW)]), id="add_all"),
    pytest.param(lambda db: Repository[Audit](db).create(**ROW), id="create"),
    pytest.param(lambda db: Repository[Account](db).delete_where(Account.id == 900), id="delete_where"),
    pytest.param(lambda db: Repository[Audit](db).bulk_insert([ROW]), id="bulk_insert"),
    pytest.param(lambda db: Repository[Account](db).bulk_update([{"id": 900, "balance": 9}]), id="bulk"),
]


@pytest.mark.parametrize("write", REPOSITORY)
@pytest.mark.parametrize(
    "propagation",
    [Propagation.REQUIRED, Propagation.SUPPORTS, Propagation.NEVER, Propagation.NOT_SUPPORTED],
)
async def test_repository_refuses_in_every_read_only_block(
    db: Database, observer: Observer, propagation: Propagation, write: Callable[[Database], Any]
) -> None:
    """Also where each statement would commit by itself."""
    await observer.run(ANN)

    with pytest.raises(TransactionRefusedError, match="read-only"):
        async with db.transaction(read_only=True, propagation=propagation):
            await write(db)

    assert await observer.notes(Audit) == []
    assert await observer.values(Account, "balance") == [0]


@pytest.mark.parametrize("reads", [0, 1], ids=["that sends nothing", "that reads"])
@pytest.mark.parametrize("narrow", NARROW[:1])
async def test_report_is_not_blamed_for_what_a_sibling_changes(
    db: Database, observer: Observer, narrow: Open, reads: int
) -> None:
    """Both succeed: the change was made outside of the read-only block, and is sent after it."""
    await observer.run(ANN)
    began, changed = asyncio.Event(), asyncio.Event()

    async def rename(account: Account) -> None:
        await began.wait()
        account.name = "ben"
        changed.set()

    async def report() -> int:
        async with narrow(db):
            began.set()
            await changed.wait()
            return await Repository[Account](db).count() if reads else 1

    async with db.transaction(), asyncio.timeout(PATIENCE_S):
        account = await Repository[Account](db).get_one(900)
        results = await asyncio.gather(rename(account), report())

    assert list(results) == [None, 1]
    assert await observer.names(Account) == ["ben"]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("narrow", NARROW)
async def test_entity_whose_change_was_refused_is_as_before(
    db: Database, observer: Observer, around: Open, narrow: Open
) -> None:
    """Now, when it is loaded again, and when it is changed where that is allowed."""
    await observer.run(ANN)
    async with around(db) as session:
        ann = await session.get_one(Account, 900)
        async with narrow(db):
            with pytest.raises(TransactionRefusedError, match="is read-only"):
                ann.name = "refused"
        assert ann.name == "ann"
        assert ann not in session.dirty
        session.expire_all()
        assert [each.name for each in await Repository[Account](db).all()] == ["ann"]
        assert ann.name == "ann"
        ann.name = "bea"

    assert await observer.names(Account) == ["bea"]
