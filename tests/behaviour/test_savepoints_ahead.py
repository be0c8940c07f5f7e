"""Savepoints that go past SQLAlchemy's own way of sending them are, for all that is seen, the same."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import URL, event, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from tests.behaviour.test_transaction_cancellation import (
    MOST_AWAITS,
    STRIKES,
    Striking,
    cancel_current_task,
    completion,
)
from tests.fixtures.errors import StockError
from tests.fixtures.heard import Heard
from tests.fixtures.leaks import left_in_context
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.fixtures.saboteur import Saboteur
from unitwork import Database, Propagation, Repository
from unitwork.events import StatementExecuted
from unitwork.options import Lane

NESTED = Propagation.NESTED
LANES = (Lane.DRIVER, Lane.SESSION)
"""All of them, and SQLAlchemy's own way alone."""

Program = Callable[[Database], Awaitable[None]]


async def add(db: Database, note: str) -> None:
    """Insert a row in the block that is open."""
    await Repository[Audit](db).add(Audit(note=note))


async def kept(db: Database) -> None:
    """Two, one after the other, the first of which begins the transaction."""
    async with db.transaction():
        for note in ("one", "two"):
            async with db.transaction(propagation=NESTED):
                await add(db, note)


async def undone(db: Database) -> None:
    """One that is left with an exception, and one that asks for it."""
    async with db.transaction():
        await add(db, "outer")
        with suppress(StockError):
            async with db.transaction(propagation=NESTED):
                await add(db, "one")
                raise StockError
        async with db.transaction(propagation=NESTED):
            await add(db, "two")
            db.set_rollback_only()


async def empty(db: Database) -> None:
    """Nothing is sent in them."""
    async with db.transaction():
        async with db.transaction(propagation=NESTED):
            pass
        await add(db, "outer")
        with suppress(StockError):
            async with db.transaction(propagation=NESTED):
                raise StockError


async def inside_of_each_other(db: Database) -> None:
    """The inner one sends first."""
    async with db.transaction(), db.transaction(propagation=NESTED):
        async with db.transaction(propagation=NESTED):
            await add(db, "inner")
        await add(db, "outer")
        with suppress(StockError):
            async with db.transaction(propagation=NESTED):
                await add(db, "undone")
                raise StockError


async def by_hand(db: Database) -> None:
    """In one of each kind, one that SQLAlchemy's session begins."""

    def more(session: Session) -> None:
        with suppress(StockError), session.begin_nested():
            session.add(Audit(note="sync"))
            session.flush()
            raise StockError
        with session.begin_nested():
            session.add(Audit(note="synchronous"))

    async with db.transaction() as session:
        async with session.begin_nested() as first:
            await add(db, "first")
            async with db.transaction(propagation=NESTED):
                await session.run_sync(more)
                await add(db, "second")
            await first.rollback()
        await session.run_sync(more)
        async with session.begin_nested():
            await add(db, "third")


async def left_open(db: Database) -> None:
    """SQLAlchemy's session has begun one in there, and nobody ends it."""
    async with db.transaction() as session:
        async with db.transaction(propagation=NESTED):
            await session.run_sync(lambda inside: inside.begin_nested())
            await add(db, "in there")
        await add(db, "after it")


async def pending(db: Database) -> None:
    """What waits to be sent goes before its beginning, and before its end."""
    async with db.transaction() as session:
        session.add(Audit(note="before"))
        async with db.transaction(propagation=NESTED):
            session.add(Audit(note="inside"))
        async with db.transaction(propagation=NESTED):
            session.add(Audit(note="undone"))
            db.set_rollback_only()


async def set_to_the_same(db: Database) -> None:
    """Something is set in there that was so before."""
    async with db.transaction():
        held = await Repository[Audit](db).add(Audit(note="same"))
        async with db.transaction(propagation=NESTED):
            held.note = "same"
        held.note = "same"
        async with db.transaction(propagation=NESTED):
            held.note = "other"
            held.note = "same"
            await add(db, "inside")
            held.note = "same"
        held.note = "same"


async def refused(db: Database) -> None:
    """The database refuses a row; what is around goes on."""
    async with db.transaction() as session:
        await add(db, "outer")
        for way in (
            Repository[Account](db).add,
            lambda each: session.execute(insert(Account).values(id=each.id)),
        ):
            with suppress(DBAPIError):
                async with db.transaction(propagation=NESTED):
                    await add(db, "inside")
                    await way(Account(id=1, name=None))
        await add(db, "after")


async def on_its_connection(db: Database) -> None:
    """Somebody has asked for the connection."""
    async with db.transaction() as session:
        async with db.transaction(propagation=NESTED):
            connection = await session.connection()
            await connection.execute(insert(Audit).values(note="raw"))
        async with db.transaction(propagation=NESTED):
            await add(db, "inside")
        async with db.transaction(propagation=NESTED):
            await add(db, "undone")
            db.set_rollback_only()


async def narrowed(db: Database) -> None:
    """Read-only inside."""
    async with db.transaction() as session:
        await add(db, "outer")
        async with db.transaction(propagation=NESTED, read_only=True):
            await session.scalars(select(Audit.note))
            await Repository[Audit](db).count()


async def in_time(db: Database) -> None:
    """There is a limit to it."""
    async with db.transaction(timeout=30), db.transaction(propagation=NESTED, timeout=20):
        await add(db, "in time")


async def of_a_unit(db: Database) -> None:
    """The transaction is that of a unit of work."""
    async with db.unit_of_work():
        for note in ("one", "two"):
            async with db.transaction(propagation=NESTED):
                await add(db, note)
        async with db.transaction(propagation=NESTED):
            await add(db, "undone")
            db.set_rollback_only()


PROGRAMS: list[Program] = [
    *(kept, undone, empty, inside_of_each_other, by_hand, left_open, pending, set_to_the_same, refused),
    *(on_its_connection, narrowed, in_time, of_a_unit),
]


def without_answers(sql: str) -> str:
    """SQL without what comes back, for which the session may ask the driver, and the time that is left."""
    return re.sub(r" RETURNING .*|(?<=time)(out)? ?= ?[\d.]+", "", sql)


@pytest.mark.parametrize("program", PROGRAMS)
async def test_what_is_sent_is_the_same(database_url: URL, observer: Observer, program: Program) -> None:
    """In the same order, under the same names, and with the same rows in the end."""
    told: list[object] = []
    for lane in LANES:
        heard = Heard()
        async with Database(database_url, name="ahead", fastest_lane=lane) as db:
            await db.ping()
            db.observe(heard)
            await program(db)
            assert db.pool_status().checked_out == 0
        sent = [without_answers(each.sql) for each in heard.of(StatementExecuted)]
        told.append([sent, await observer.notes(Audit)])
        await observer.run("DELETE FROM audit")

    assert told[0] == told[1]


async def test_savepoints_take_no_lane(db: Database) -> None:
    """What begins and ends them is sent past SQLAlchemy, where nobody listens to that."""
    heard = Heard()
    await db.ping()
    db.observe(heard)

    await undone(db)

    sent = [each for each in heard.of(StatementExecuted) if "SAVEPOINT" in each.sql]
    assert [(each.sql, each.lane) for each in sent] == [
        ("SAVEPOINT sa_savepoint_1", None),
        ("ROLLBACK TO SAVEPOINT sa_savepoint_1", None),
        ("SAVEPOINT sa_savepoint_2", None),
        ("ROLLBACK TO SAVEPOINT sa_savepoint_2", None),
    ]


OF_ENGINES = ("savepoint", "release_savepoint", "rollback_savepoint", "before_execute")
OF_SESSIONS = (
    *("after_transaction_create", "after_transaction_end", "after_begin", "before_commit", "after_commit"),
    *("after_rollback", "after_soft_rollback", "pending_to_persistent"),
)


@pytest.mark.parametrize("name", [*OF_ENGINES, *OF_SESSIONS])
async def test_who_listens_to_savepoints_hears_of_them(database_url: URL, name: str) -> None:
    """As often as where SQLAlchemy does all by itself, and before it is sent."""
    heard: dict[Lane, list[object]] = {}
    for lane in LANES:
        told = Heard()
        async with Database(database_url, name="heard", fastest_lane=lane) as db:
            await db.ping()
            db.observe(told)
            target: Any = db.engine.sync_engine if name in OF_ENGINES else Session
            counts = heard.setdefault(lane, [])

            def hear(*_told: object, counts: list[object] = counts, told: Heard = told) -> None:
                counts.append(len(told.of(StatementExecuted)))

            event.listen(target, name, hear)
            try:
                for program in (kept, undone):
                    await program(db)
            finally:
                event.remove(target, name, hear)

    assert heard[LANES[0]] == heard[LANES[1]] != []


async def test_session_knows_that_it_is_in_a_savepoint(db: Database) -> None:
    """From the beginning to the end, whether something was sent or not."""
    async with db.transaction() as session:
        seen = [session.in_nested_transaction()]
        async with db.transaction(propagation=NESTED):
            seen.append(session.in_nested_transaction())
            await add(db, "inside")
            seen.append(session.in_nested_transaction())
            assert (await session.connection()).in_nested_transaction()
        seen.append(session.in_nested_transaction())
        assert not (await session.connection()).in_nested_transaction()

    assert seen == [False, True, True, False]


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has no server to lose")
@pytest.mark.parametrize("when", ["before it", "in it", "before its rollback"])
async def test_connection_that_is_lost_is_told_in_the_same_way(
    database_url: URL, observer: Observer, saboteur: Saboteur, when: str
) -> None:
    """The same error with the same notes, and nothing is stored or left."""

    async def program(db: Database) -> None:
        async with db.transaction() as session:
            await add(db, "outer")
            if when == "before it":
                await saboteur.end_connection_of(session)
            async with db.transaction(propagation=NESTED):
                await add(db, "inside")
                await saboteur.end_connection_of(session)
                if when == "before its rollback":
                    raise StockError

    told: list[object] = []
    for lane in LANES:
        async with Database(database_url, name="lost", fastest_lane=lane) as db:
            with pytest.raises((DBAPIError, StockError)) as caught:
                await program(db)
            error: Any = caught.value
            notes = [re.sub(r" at /.*? on|'.*", "", each) for each in getattr(error, "__notes__", [])]
            told.append((type(error), getattr(error, "statement", None), notes))
            assert db.pool_status().checked_out == 0
            assert left_in_context() == {}

    assert told[0] == told[1]
    assert await observer.notes(Audit) == []


@pytest.mark.parametrize("strikes", list(STRIKES))
@pytest.mark.timeout(120)
async def test_cancelled_at_every_await_of_savepoints(db: Database, observer: Observer, strikes: str) -> None:
    """All of it is stored or nothing, and the next one can be done."""

    async def program() -> None:
        async with db.transaction():
            async with db.transaction(propagation=NESTED):
                await add(db, "kept")
            with suppress(StockError):
                async with db.transaction(propagation=NESTED):
                    await add(db, "undone")
                    raise StockError
            await add(db, "after")

    await db.ping()
    for at in range(1, MOST_AWAITS):
        await observer.run("DELETE FROM audit")
        striking = Striking(program(), STRIKES[strikes](at), cancel_current_task)
        task = asyncio.create_task(completion(striking))
        await asyncio.wait({task})

        assert db.pool_status().checked_out == 0
        assert left_in_context() == {}
        stored = await observer.notes(Audit)
        assert stored in ([], ["after", "kept"])
        if striking.seen < at:
            task.result()
            assert stored
            return
        assert task.cancelled(), task.exception()
    pytest.fail("the program has more awaits than this test expects")


@pytest.mark.only("sqlite", reason="its triggers can roll back all of the transaction")
@pytest.mark.parametrize(
    "way",
    [
        lambda db: add(db, "stop"),
        lambda db: db.session.execute(insert(Audit).values(note="stop")),
        lambda db: db.session.run_sync(lambda session: flush_in_a_savepoint(session, "stop")),
        lambda db: nested_by_hand(db, "stop"),
    ],
    ids=["add", "execute", "sync", "by hand"],
)
async def test_error_that_ends_the_transaction_is_the_one_that_is_raised(
    db: Database, observer: Observer, way: Callable[[Database], Awaitable[None]]
) -> None:
    """Nothing tells that the savepoint is gone with it; what is around can only roll back."""
    await observer.run(
        "CREATE TRIGGER stopping BEFORE INSERT ON audit WHEN NEW.note = 'stop' "
        "BEGIN SELECT RAISE(ROLLBACK, 'stopped by the trigger'); END"
    )

    with pytest.raises(DBAPIError, match="stopped by the trigger") as caught:
        async with db.transaction():
            await add(db, "outer")
            async with db.transaction(propagation=NESTED):
                await way(db)

    assert [each for each in caught.value.__notes__ if "savepoint:" in each] == []
    assert await observer.notes(Audit) == []


def flush_in_a_savepoint(session: Session, note: str) -> None:
    """Insert a row as SQLAlchemy does."""
    with session.begin_nested():
        session.add(Audit(note=note))


async def nested_by_hand(db: Database, note: str) -> None:
    """Insert a row in a savepoint that is begun by hand."""
    async with db.session.begin_nested():
        await db.session.execute(text("INSERT INTO audit (note) VALUES (:note)"), {"note": note})
