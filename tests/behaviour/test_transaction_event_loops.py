"""One Database, several event loops: it works, or says exactly what to do."""

import asyncio
import gc
import os
import select as select_module
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import URL, event, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.fixtures.models import Audit
from unitwork import Base, Database, TransactionRefusedError

THREADS = 3
ROUNDS = 15
PATIENCE_S = 20


async def write(db: Database, note: str) -> None:
    """Store one line, in a block of its own."""
    async with db.transaction():
        db.session.add(Audit(note=note))


async def notes(db: Database) -> list[str]:
    """All lines."""
    async with db.transaction(read_only=True):
        return sorted(await db.session.scalars(select(Audit.note)))


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads change places as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_database_serves_one_loop_after_another(database_url: URL) -> None:
    """`asyncio.run` twice, and a third time: without dispose between them."""
    db = Database(database_url)

    for number in ("1", "2", "3"):
        asyncio.run(write(db, number))

    assert asyncio.run(notes(db)) == ["1", "2", "3"]
    asyncio.run(db.dispose())
    gc.collect()


def test_database_serves_one_loop_after_another_with_dispose(database_url: URL) -> None:
    """And with dispose at the end of each, as people do it."""
    db = Database(database_url)

    async def whole(number: str) -> list[str]:
        await write(db, number)
        stored = await notes(db)
        await db.dispose()
        return stored

    assert asyncio.run(whole("1")) == ["1"]
    assert asyncio.run(whole("2")) == ["1", "2"]
    gc.collect()


def test_database_made_inside_a_loop_serves_the_next(database_url: URL) -> None:
    """It does not matter where it was made."""

    async def make() -> Database:
        made = Database(database_url)
        await write(made, "1")
        return made

    db = asyncio.run(make())
    asyncio.run(write(db, "2"))

    assert asyncio.run(notes(db)) == ["1", "2"]
    asyncio.run(db.dispose())
    gc.collect()


def test_loop_that_was_closed_in_the_middle_of_a_block_harms_no_other(database_url: URL) -> None:
    """A program that was stopped left a connection checked out; the next run works."""
    db = Database(database_url)

    async def interrupted() -> None:
        async with db.transaction():
            db.session.add(Audit(note="lost"))
            await db.session.flush()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(interrupted())
    asyncio.run(write(db, "kept"))

    assert asyncio.run(notes(db)) == ["kept"]
    asyncio.run(db.dispose())
    gc.collect()


@pytest.mark.only("sqlite", reason="others have no queue of writers")
@pytest.mark.filterwarnings("ignore:The garbage collector is trying:sqlalchemy.exc.SAWarning")
def test_loop_that_was_closed_by_hand_leaves_no_writer_in_the_queue(database_url: URL) -> None:
    """Nothing was cancelled, so the block has never ended; the next writer does not wait for it."""
    db = Database(database_url)

    async def begun() -> None:
        session = await db.transaction().__aenter__()
        session.add(Audit(note="lost"))
        await session.flush()

    async def quickly() -> None:
        async with asyncio.timeout(4):
            await write(db, "kept")

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begun())
    loop.close()
    asyncio.run(quickly())

    assert asyncio.run(notes(db)) == ["kept"]
    asyncio.run(db.dispose())
    gc.collect()


@pytest.mark.usefixtures("quick_switches")
def test_database_serves_several_loops_at_once(database_url: URL) -> None:
    """Threads with loops of their own share one Database."""
    db = Database(database_url)
    errors: list[BaseException] = []
    start = threading.Barrier(THREADS)

    async def rounds(thread: int) -> None:
        for number in range(ROUNDS):
            await write(db, f"{thread} {number}")
        await db.dispose()

    def run(thread: int) -> None:
        start.wait()
        try:
            asyncio.run(rounds(thread))
        except BaseException as error:  # noqa: BLE001 - told by the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert len(asyncio.run(notes(db))) == THREADS * ROUNDS
    asyncio.run(db.dispose())
    gc.collect()


def test_memory_keeps_its_rows_from_loop_to_loop() -> None:
    """A database in memory lives as long as its Database, not as its loop."""
    db = Database("sqlite+aiosqlite:///:memory:", name="memory")

    asyncio.run(db.create_all(Base))
    asyncio.run(write(db, "1"))
    asyncio.run(write(db, "2"))

    assert asyncio.run(notes(db)) == ["1", "2"]
    asyncio.run(db.dispose())
    gc.collect()


@pytest.mark.only("asyncpg", reason="one driver that is bound to its loop is enough")
def test_given_engine_on_a_second_living_loop_says_what_to_do(database_url: URL) -> None:
    """An engine of the user's cannot be doubled: the error says what to do instead."""
    db = Database(create_async_engine(database_url), name="given")
    first = asyncio.new_event_loop()
    first.run_until_complete(write(db, "1"))
    second = asyncio.new_event_loop()

    with pytest.raises(TransactionRefusedError, match="Fix:"):
        second.run_until_complete(write(db, "2"))

    first.run_until_complete(db.dispose())
    first.close()
    second.close()
    gc.collect()


def test_engine_and_sessions_that_were_taken_before_any_loop_serve_each(database_url: URL) -> None:
    """As constants of a module: in each loop they are those of that loop."""
    db = Database(database_url)
    engine, sessions = db.engine, db.session_factory
    by_itself = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def use() -> list[object]:
        found = []
        for opened in (engine.connect(), sessions(), by_itself.connect()):
            async with opened as each:
                found.append(await each.scalar(text("SELECT 1")))
        return found

    for _ in range(3):
        assert asyncio.run(use()) == [1, 1, 1]
    asyncio.run(db.dispose())
    gc.collect()


def test_engine_and_sessions_that_are_kept_serve_two_loops_at_once(database_url: URL) -> None:
    """Taken in one loop, used in another one that runs beside it."""
    db = Database(database_url)

    async def use(engine: AsyncEngine) -> object:
        async with engine.connect() as connection:
            return await connection.scalar(text("SELECT 1"))

    async def take() -> tuple[object, object]:
        taken = db.engine
        here = await use(taken)
        there = await asyncio.to_thread(asyncio.run, use(taken))
        await db.dispose()
        return here, there

    assert asyncio.run(take()) == (1, 1)
    asyncio.run(db.dispose())
    gc.collect()


def test_pool_of_another_loop_is_not_held_by_this_one(database_url: URL) -> None:
    """A thread with a loop of its own has a pool of its own, though its context is a copy."""
    db = Database(database_url, pool_size=1, max_overflow=0)

    async def beside() -> object:
        async with db.transaction(propagation="REQUIRES_NEW", read_only=True) as session:
            return await session.scalar(text("SELECT 7"))

    async def several() -> tuple[object, ...]:
        return await db.parallel(beside(), beside(), beside())

    async def outer() -> list[object]:
        async with db.transaction(read_only=True) as session:
            await session.scalar(text("SELECT 1"))
            found = [await asyncio.to_thread(asyncio.run, work) for work in (beside(), several())]
        await db.dispose()
        return found

    assert asyncio.run(outer()) == [7, (7, 7, 7)]
    asyncio.run(db.dispose())
    gc.collect()


def test_memory_is_refused_to_a_second_loop_while_the_first_one_runs() -> None:
    """Its one connection cannot serve both; the error says what to do, and nothing is lost or seen."""
    db = Database("sqlite+aiosqlite:///:memory:", name="memory of two")
    asyncio.run(db.create_all(Base))

    async def first() -> None:
        async with db.transaction():
            db.session.add(Audit(note="1"))
            await db.session.flush()
            for work in (write(db, "2"), notes(db), db.ping()):
                with pytest.raises(TransactionRefusedError, match=r"(?s)in memory.*another event loop.*Fix:"):
                    await asyncio.to_thread(asyncio.run, work)

    asyncio.run(first())

    assert asyncio.run(notes(db)) == ["1"]
    asyncio.run(db.dispose())
    gc.collect()


@pytest.mark.filterwarnings("ignore:The garbage collector is trying:sqlalchemy.exc.SAWarning")
def test_memory_forgets_what_a_closed_loop_has_left_open() -> None:
    """The next loop uses the same connection, and finds no transaction on it."""
    db = Database("sqlite+aiosqlite:///:memory:", name="memory left open")
    asyncio.run(db.create_all(Base))

    async def begun() -> None:
        session = await db.transaction().__aenter__()
        session.add(Audit(note="lost"))
        await session.flush()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begun())
    loop.close()
    asyncio.run(write(db, "kept"))

    assert asyncio.run(notes(db)) == ["kept"]
    asyncio.run(db.dispose())
    gc.collect()


def in_a_child(work: Callable[[], object]) -> str:
    """What a forked process says that does this."""
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            said = str(work())
        except BaseException as error:  # noqa: BLE001 - told by the test
            said = f"{type(error).__name__}: {error}"
        os.write(tell, said.encode())
        os._exit(0)
    os.close(tell)
    with os.fdopen(told) as answer:
        ready, _, _ = select_module.select([answer], [], [], PATIENCE_S)
        if not ready:
            os.kill(child, signal.SIGKILL)
        said = answer.read() if ready else "it hangs"
    os.waitpid(child, 0)
    return said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_process_has_connections_of_its_own(database_url: URL) -> None:
    """A server that forks its workers after a first use; the parent's connections stay whole."""
    db = Database(database_url)

    async def parent() -> list[str]:
        await write(db, "1")
        async with db.transaction(read_only=True) as session:
            await session.scalar(select(Audit.note))
            said = in_a_child(lambda: asyncio.run(write(db, "2")))
            assert await session.scalar(text("SELECT 7")) == 7
        assert said == "None"
        await write(db, "3")
        stored = await notes(db)
        await db.dispose()
        return stored

    assert asyncio.run(parent()) == ["1", "2", "3"]
    assert in_a_child(lambda: asyncio.run(notes(db))) == "['1', '2', '3']"
    asyncio.run(db.dispose())
    gc.collect()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_process_is_told_that_memory_stays_behind() -> None:
    """It cannot be shared, and an empty one in its place would be a lie."""
    db = Database("sqlite+aiosqlite:///:memory:", name="memory of a parent")
    asyncio.run(db.create_all(Base))

    said = in_a_child(lambda: asyncio.run(notes(db)))

    assert said.startswith("TransactionRefusedError: Database 'memory of a parent' is in the memory")
    assert "Fix:" in said
    assert asyncio.run(notes(db)) == []
    asyncio.run(db.dispose())
    gc.collect()


def test_listeners_to_the_engine_hear_of_two_loops_at_once(database_url: URL) -> None:
    """Those that were there, once each: of connections that are opened and lent, and of statements."""
    db = Database(database_url)
    heard: list[tuple[str, int]] = []
    names = ("do_connect", "connect", "checkout", "before_execute")
    for name in names:
        event.listen(
            db.engine.sync_engine, name, lambda *_, of=name: heard.append((of, threading.get_ident()))
        )

    async def use() -> int:
        async with db.transaction() as session:
            await session.execute(text("SELECT 1"))
        return threading.get_ident()

    async def twice() -> list[int]:
        found = [await use(), await asyncio.to_thread(asyncio.run, use())]
        await db.dispose()
        return found

    threads = asyncio.run(twice())

    assert heard == [(name, thread) for thread in threads for name in names]
    asyncio.run(db.dispose())
    gc.collect()
