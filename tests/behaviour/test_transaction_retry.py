"""A transactional function can be tried again when the database asks for it."""

import asyncio

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError

from tests.fixtures.errors import ShopError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, RetryPolicy, UnexpectedRollbackError

PATIENT = RetryPolicy(attempts=40, first_delay_s=0.005, longest_delay_s=0.05)


class Gate:
    """Lets two tasks meet once, in their first attempts."""

    def __init__(self) -> None:
        self.waiting = 0
        self.open = asyncio.Event()

    async def meet(self) -> None:
        """Wait for the other task."""
        self.waiting += 1
        if self.waiting == 2:
            self.open.set()
        await self.open.wait()


async def two_accounts(db: Database) -> None:
    """Store two accounts without money."""
    async with db.transaction() as session:
        session.add_all([Account(name="a", balance=0), Account(name="b", balance=0)])


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has one writer, so that nothing can deadlock")
async def test_deadlock_is_tried_again(db: Database, observer: Observer) -> None:
    """Of two transactions that wait for each other both succeed, one of them in a later attempt."""
    await two_accounts(db)
    gate = Gate()
    attempts: list[str] = []

    @db.transactional(retry=PATIENT)
    async def add_to(first: str, second: str) -> None:
        attempts.append(first)
        for place, name in enumerate((first, second)):
            change = update(Account).where(Account.name == name).values(balance=Account.balance + 1)
            await db.session.execute(change.execution_options(synchronize_session=False))
            if place == 0 and len(attempts) <= 2:
                await gate.meet()

    await asyncio.gather(add_to("a", "b"), add_to("b", "a"))

    assert await observer.column("SELECT balance FROM account ORDER BY name") == [2, 2]
    assert len(attempts) == 3


@pytest.mark.only("postgresql", reason="the isolation level that fails at COMMIT")
async def test_serialization_failure_is_tried_again(db: Database, observer: Observer) -> None:
    """Of many read-modify-writes that collide none is lost."""
    await two_accounts(db)

    @db.transactional(retry=PATIENT, isolation="SERIALIZABLE")
    async def increment() -> None:
        account = (await db.session.scalars(select(Account).where(Account.name == "a"))).one()
        await asyncio.sleep(0)
        account.balance += 1

    await asyncio.gather(*(increment() for _ in range(8)))

    assert await observer.scalar("SELECT balance FROM account WHERE name = 'a'") == 8


@pytest.mark.only("postgresql", reason="an error class that a plain statement can raise")
async def test_last_attempt_raises_what_the_database_said(db: Database, observer: Observer) -> None:
    """When the attempts are used up the error leaves as it is, and says how many there were."""
    attempts: list[int] = []

    @db.transactional(retry=RetryPolicy(attempts=3, first_delay_s=0))
    async def never() -> None:
        attempts.append(1)
        db.session.add(Audit(note="lost"))
        await db.session.flush()
        raise_it = "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$"
        await (await db.session.connection()).exec_driver_sql(raise_it)

    with pytest.raises(DBAPIError) as caught:
        await never()

    assert (len(attempts), await observer.notes(Audit)) == (3, [])
    assert "This was attempt 3 of 3." in caught.value.__notes__


@pytest.mark.only("postgresql", reason="an error class that a plain statement can raise")
async def test_joined_function_is_not_tried_again(db: Database) -> None:
    """Inside an outer transaction only the outermost function may be tried again."""
    attempts: list[int] = []

    @db.transactional(retry=3)
    async def inner() -> None:
        attempts.append(1)
        raise_it = "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$"
        await (await db.session.connection()).exec_driver_sql(raise_it)

    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction():
            with pytest.raises(DBAPIError):
                await inner()

    assert len(attempts) == 1


async def test_hooks_run_for_the_last_attempt_only(db: Database) -> None:
    """What an attempt registered that was undone is not run after the commit of a later one."""
    told: list[str] = []
    attempts: list[int] = []

    class BusyError(Exception):
        """What the database says when another writer is at work."""

        sqlstate = "40001"
        sqlite_errorname = "SQLITE_BUSY"

    @db.transactional(retry=RetryPolicy(attempts=3, first_delay_s=0))
    async def tell() -> None:
        attempts.append(1)
        db.on_commit(lambda: told.append(f"attempt {len(attempts)}"))
        if len(attempts) == 1:
            raise DBAPIError("SELECT 1", {}, BusyError(1213))

    await tell()

    assert told == ["attempt 2"]


async def test_other_errors_are_not_tried_again(db: Database) -> None:
    """A failure of the program is no reason to repeat it."""
    attempts: list[int] = []

    @db.transactional(retry=5)
    async def wrong() -> None:
        attempts.append(1)
        raise ShopError

    with pytest.raises(ShopError):
        await wrong()

    assert len(attempts) == 1
