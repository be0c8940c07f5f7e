"""Behind PgBouncer in transaction mode each transaction meets another connection of its server."""

# mypy: disable-error-code="empty-body"

import asyncio
import enum
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
from sqlalchemy import URL, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Mapped, mapped_column, selectinload

from tests.fixtures.models import Account, Audit, Order
from tests.fixtures.observer import Observer
from tests.fixtures.poolers import SERVER_CONNECTIONS
from unitwork import (
    Base,
    Database,
    OptionError,
    Propagation,
    Repository,
    RetryPolicy,
    TransactionTimeoutError,
    query,
)
from unitwork.options import Lane

pytestmark = pytest.mark.only("postgresql", reason="such poolers are PostgreSQL's")

TASKS = 50


class Accounts(Repository[Account]):
    """Reads for each lane."""

    @query("name = :name")
    async def named(self, name: str) -> Account | None: ...

    @query.sql("SELECT balance FROM account WHERE name = :name")
    async def balance_of(self, name: str) -> int: ...

    @query("id > :least")
    async def above(self, least: int) -> AsyncIterator[Account]: ...


class Audits(Repository[Audit]):
    """What is written in bulk."""


class Mood(enum.Enum):
    """A type that a driver has to look up."""

    CALM = "calm"
    LOUD = "loud"


class Guest(Base):
    """Somebody with a value of that type, in tables that are made for the test."""

    __tablename__ = "guest_behind_pooler"
    id: Mapped[int] = mapped_column(primary_key=True)
    mood: Mapped[Mood]


class Guests(Repository[Guest]):
    """A query with a parameter of that type."""

    @query
    async def in_mood(self, *, mood: Mood) -> list[Guest]: ...


async def left_in_sessions(db: Database) -> list[tuple[object, ...]]:
    """What is prepared, set, locked, or there for the time being, on each connection that the pooler has."""
    held = asyncio.Barrier(SERVER_CONNECTIONS)

    async def look() -> list[tuple[object, ...]]:
        async with db.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            await held.wait()  # all of them have a transaction open now, each on a connection of its own
            found = await connection.execute(
                text(
                    "SELECT 'prepared', name::text FROM pg_prepared_statements WHERE name <> ''"
                    " UNION ALL SELECT 'temporary', relname::text FROM pg_class"
                    "  WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'"
                    " UNION ALL SELECT 'set', name FROM pg_settings WHERE source = 'session'"
                    "  AND setting IS DISTINCT FROM reset_val AND name NOT LIKE 'transaction%'"
                    " UNION ALL SELECT 'locked', objid::text FROM pg_locks"
                    "  WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
                    " UNION ALL SELECT 'listens', pg_listening_channels()"
                )
            )
            return [tuple(row) for row in found]

    found = await asyncio.gather(*(look() for _ in range(SERVER_CONNECTIONS)))
    return [row for rows in found for row in rows]


# -- many at once ------------------------------------------------------------------------------------


async def everything(db: Database, number: int) -> None:
    """One task's work: each kind of read and write."""
    accounts, audits, name = Accounts(db), Audits(db), f"account {number}"
    account = await accounts.create(name=name)
    assert (await accounts.get_one(account.id)).name == name
    assert await accounts.balance_of(name) == 0
    with_orders = accounts.select().options(selectinload(Account.orders)).where(Account.name == name)
    assert [each.orders for each in await with_orders.all()] == [[]]
    async with db.transaction() as session:
        found = await accounts.named(name)
        assert found is not None
        session.add(Order(account_id=found.id, total=number))
        await session.flush()
        found.balance += 5
        with pytest.raises(ValueError, match="undone"):
            async with db.transaction(propagation=Propagation.NESTED):
                await audits.create(note="undone")
                raise ValueError("undone")
    async with db.transaction(read_only=True):
        assert await accounts.balance_of(name) == 5
    async with db.transaction(isolation="SERIALIZABLE", timeout=30) as session:
        assert await session.scalar(text("SELECT current_setting('transaction_isolation')")) == "serializable"
    async with db.transaction() as session:
        assert (
            await session.scalar(text("SELECT current_setting('transaction_isolation')")) == "read committed"
        )
    rows = [{"id": number * 1_000 + place, "note": name} for place in range(60)]
    assert await audits.bulk_insert(rows, returning=False) == 60
    changed = [{**row, "note": f"changed {number}"} for row in rows]
    assert await audits.bulk_insert(changed, on_conflict="update", returning=False) == 60
    assert await audits.bulk_update([{**row, "note": name} for row in rows]) == 60
    count = 0
    async for each in await accounts.above(account.id - 1):
        count += each.id >= account.id
    assert count >= 1
    assert await audits.bulk_delete([row["id"] for row in rows[:30]]) == 30


@pytest.mark.every_lane
async def test_many_tasks_share_two_connections_of_the_server(pooled: Database, observer: Observer) -> None:
    """Reads and writes of each kind, by 50 tasks at once, find and leave what they should."""
    await asyncio.gather(*(everything(pooled, number) for number in range(1, TASKS + 1)))

    assert await observer.scalar("SELECT count(*) FROM account WHERE balance = 5") == TASKS
    assert await observer.scalar('SELECT sum(total) FROM "order"') == TASKS * (TASKS + 1) // 2
    assert await observer.scalar("SELECT count(DISTINCT note) FROM audit") == TASKS
    assert await observer.count(Audit) == 30 * TASKS
    assert await left_in_sessions(pooled) == []


@pytest.mark.every_lane
async def test_without_the_option_it_fails_and_says_what_helps(
    pooled_url: URL, observer: Observer, lane: Lane
) -> None:
    """What was prepared is gone with the connection of the server; the error names the option."""
    async with Database(pooled_url, name="unaware", fastest_lane=lane, pool_size=1, max_overflow=0) as db:
        for _ in range(7):  # psycopg prepares what was sent so often
            assert await Accounts(db).named("nobody") is None
            async with db.transaction() as session:
                await session.scalar(select(Account.id))
        await observer.run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        async with Database(pooled_url, name="new", transaction_pooling=True) as new:
            await new.ping()  # the pooler knows by now that it needs another connection

        with pytest.raises(DBAPIError) as failed:
            await Accounts(db).named("nobody")
        with pytest.raises(DBAPIError) as failed_in_block:
            async with db.transaction() as session:
                await session.scalar(select(Account.id))

    for error in (failed.value, failed_in_block.value):
        assert (
            sum("Fix: write Database(url, transaction_pooling=True)." in note for note in error.__notes__)
            == 1
        )


@pytest.mark.only("asyncpg", reason="the recipe is for this driver")
async def test_a_name_for_each_statement_is_right_too(pooled_url: URL) -> None:
    """SQLAlchemy's own settings for PgBouncer work, also where no transaction is open."""
    options = {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: f"__own_{uuid.uuid4()}__",
    }
    db = Database(pooled_url, name="named", pool_size=20, max_overflow=0, connect_args=options)
    await asyncio.gather(*(everything(db, number) for number in range(1, 11)))

    assert await left_in_sessions(db) == []
    await db.dispose()


async def test_an_engine_of_ones_own_is_told(pooled_url: URL) -> None:
    """The option works for an engine that has not connected yet."""
    engine = create_async_engine(pooled_url, pool_size=20, max_overflow=0)
    db = Database(engine, name="own engine", transaction_pooling=True)
    await asyncio.gather(*(everything(db, number) for number in range(1, 11)))

    assert await left_in_sessions(db) == []
    await db.dispose()


@pytest.mark.only("asyncpg", reason="psycopg is told on the connection itself")
async def test_connections_that_others_make_are_refused(pooled_url: URL) -> None:
    """What an `async_creator` has made may prepare statements, and cannot be told."""
    made: list[asyncpg.Connection[asyncpg.Record]] = []

    async def make() -> object:
        made.append(await asyncpg.connect(host=pooled_url.host, port=pooled_url.port, user="postgres"))
        return made[0]

    async with Database(
        pooled_url, name="made by others", transaction_pooling=True, async_creator=make
    ) as db:
        with pytest.raises(OptionError, match="transaction_pooling") as refused:
            await Accounts(db).get(1)

    made[0].terminate()
    assert "use `connect_args`, in place of an `async_creator` of yours" in str(refused.value)


@pytest.mark.every_lane
async def test_types_are_looked_up_without_touching_settings(pooled: Database) -> None:
    """An enum's type is looked up by the driver, outside of a transaction too, and no setting is left."""
    await pooled.create_all(Base)
    guests = Guests(pooled)
    await guests.create(mood=Mood.LOUD)

    async def read() -> int:
        return len(await guests.in_mood(mood=Mood.LOUD))

    assert await asyncio.gather(*(read() for _ in range(TASKS))) == [1] * TASKS
    assert await left_in_sessions(pooled) == []


@pytest.mark.every_lane
async def test_a_value_that_is_refused_keeps_no_connection(pooled: Database) -> None:
    """A driver refuses what it cannot send after the server has parsed it; the connection is free again."""
    accounts = Accounts(pooled)
    await accounts.create(name="there")

    async def refused() -> None:
        with pytest.raises(DBAPIError):
            await accounts.get("no number")

    async def refused_in_session() -> None:
        with pytest.raises(DBAPIError):
            await (
                accounts.select().options(selectinload(Account.orders)).where(Account.id == "no number").all()
            )

    await asyncio.gather(*(work() for _ in range(5) for work in (refused, refused_in_session)))

    # All connections of the pool are there, and none of them keeps one of the server.
    assert await asyncio.gather(*(accounts.balance_of("there") for _ in range(TASKS))) == [0] * TASKS
    assert await left_in_sessions(pooled) == []


# -- blocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("propagation", [Propagation.NOT_SUPPORTED, Propagation.SUPPORTS, Propagation.NEVER])
async def test_statements_that_commit_by_themselves(
    pooled: Database, observer: Observer, propagation: Propagation
) -> None:
    """A block without a transaction may meet another connection with each statement, bulk writes included."""
    audits = Audits(pooled)

    async def work(number: int) -> None:
        async with pooled.transaction(propagation=propagation) as session:
            for place in range(3):
                await audits.create(note=f"{number} {place}")
                assert await session.scalar(text("SELECT 1")) == 1
            rows = [{"id": number * 1_000 + place, "note": "bulk"} for place in range(60)]
            await audits.bulk_insert(rows, on_conflict="update", returning=False)

    await asyncio.gather(*(work(number) for number in range(1, 11)))

    assert await observer.count(Audit) == 10 * 63
    assert await left_in_sessions(pooled) == []


async def test_read_only_holds_and_does_not_stay(pooled: Database, observer: Observer) -> None:
    """It is part of BEGIN: whoever gets the connection next may write."""
    audits = Audits(pooled)

    setting = text("SELECT current_setting('transaction_read_only')")

    async def only_read() -> object:
        async with pooled.transaction(read_only=True) as session:
            return await session.scalar(setting)

    async def written() -> object:
        async with pooled.transaction() as session:
            await audits.create(note="yes")
            return await session.scalar(setting)

    found = await asyncio.gather(*(work() for _ in range(20) for work in (only_read, written)))

    assert found == ["on", "off"] * 20
    assert await observer.count(Audit) == 20


async def test_retry_does_it_again_on_another_connection(pooled: Database, observer: Observer) -> None:
    """Serialization failures are tried again until all have counted."""
    await Accounts(pooled).create(name="shared")

    @pooled.transactional(isolation="SERIALIZABLE", retry=RetryPolicy(attempts=100, first_delay_s=0.001))
    async def count() -> None:
        account = await Accounts(pooled).named("shared")
        assert account is not None
        account.balance += 1

    await asyncio.gather(*(count() for _ in range(10)))

    assert await observer.scalar("SELECT balance FROM account") == 10


# -- cancellation and time limits --------------------------------------------------------------------


async def running(observer: Observer) -> int:
    """How many statements of tests sleep on the server."""
    found = await observer.scalar(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'"
    )
    return int(found)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that the server reports."""
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.01)


async def test_cancellation_frees_the_connection_of_the_server(pooled: Database, observer: Observer) -> None:
    """What was cancelled runs no longer, nothing of it is stored, and both connections are free again."""

    async def sleeping() -> None:
        async with pooled.transaction() as session:
            session.add(Audit(note="never"))
            await session.flush()
            await session.execute(text("SELECT pg_sleep(60)"))

    tasks = [asyncio.create_task(sleeping()) for _ in range(SERVER_CONNECTIONS)]

    async def all_sleep() -> bool:
        return await running(observer) == SERVER_CONNECTIONS

    await until(all_sleep)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

    assert all(task.cancelled() for task in tasks)
    await asyncio.gather(*(everything(pooled, number) for number in range(1, 11)))
    assert await running(observer) == 0
    assert await observer.scalar("SELECT count(*) FROM audit WHERE note = 'never'") == 0


async def test_time_limit_frees_the_connection_of_the_server(pooled: Database, observer: Observer) -> None:
    """A block whose time is over is rolled back; its limit is nobody else's."""

    async def sleeping() -> None:
        async with pooled.transaction(timeout=0.3) as session:
            await session.execute(text("SELECT pg_sleep(60)"))

    for _ in range(SERVER_CONNECTIONS + 1):
        with pytest.raises(TransactionTimeoutError):
            await sleeping()

    async def none_sleeps() -> bool:
        return await running(observer) == 0

    await until(none_sleeps)
    async with pooled.transaction() as session:
        assert await session.scalar(text("SELECT current_setting('statement_timeout')")) == "0"
    assert await left_in_sessions(pooled) == []


# -- what asks more of a connection ------------------------------------------------------------------


async def test_check_leaves_nothing_prepared(pooled: Database) -> None:
    """Queries are prepared to be checked, also those that cannot be planned, and forgotten at once."""

    class Checked(Repository[Audit]):
        @query.sql("INSERT INTO audit (id, note) VALUES (1, :note) ON CONFLICT (id) DO NOTHING")
        async def kept(self, note: str) -> int: ...

        @query.sql("INSERT INTO audit (id, note) VALUES (1, :note) ON CONFLICT (note) DO NOTHING")
        async def wrong(self, note: str) -> int: ...

    reports = await asyncio.gather(*(pooled.check(Checked, explain=True) for _ in range(4)))

    assert [len(report.errors) for report in reports] == [1] * 4
    assert await left_in_sessions(pooled) == []


async def test_rolled_back_works_through_it(pooled: Database, observer: Observer) -> None:
    """For tests: all of it is one transaction, on one connection of the server."""
    async with pooled.rolled_back():
        account = await Accounts(pooled).create(name="for a while")
        async with pooled.transaction():
            assert (await Accounts(pooled).get_one(account.id)).name == "for a while"
            await Audits(pooled).bulk_insert([{"note": "many"}] * 60, returning=False)
        assert await Audits(pooled).count() == 60

    assert await observer.count(Account) == await observer.count(Audit) == 0
    assert await left_in_sessions(pooled) == []


async def test_what_was_changed_in_the_schema_is_seen(pooled: Database, observer: Observer) -> None:
    """Nothing is prepared that could grow old."""
    await asyncio.gather(*(everything(pooled, number) for number in range(1, 11)))
    await observer.run("ALTER TABLE account ALTER name TYPE text")
    await observer.run("ALTER TABLE audit ALTER note TYPE text")

    await asyncio.gather(*(everything(pooled, number) for number in range(11, 21)))
