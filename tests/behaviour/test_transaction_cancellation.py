"""Cancellation leaves nothing behind, wherever it strikes."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from sqlalchemy import URL, insert, select, text

from tests.fixtures.dialogue import Dialogue
from tests.fixtures.errors import StockError
from tests.fixtures.leaks import left_in_context
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Propagation, Repository
from unitwork.options import Lane

NESTED = Propagation.NESTED
MOST_AWAITS = 500


@dataclass
class Striking(Awaitable[None]):
    """Awaits a program, and strikes when it suspends for the nth time.

    Or, `late`, when what it waits for then is there, and the program has not been told yet.
    Lives: one run of the program.
    """

    program: Coroutine[Any, Any, None]
    at: frozenset[int]
    strike: Callable[[], object]
    seen: int = 0
    late: bool = False

    def __await__(self) -> Generator[Any, Any, None]:
        """Hand every suspension through, and count them."""
        steps = self.program.__await__()
        send: Callable[[], Any] = lambda: next(steps)  # noqa: E731 - replaced below
        while True:
            try:
                waited = send()
            except StopIteration:
                return
            self.seen += 1
            if self.seen in self.at:
                self._strike_at(waited)
            try:
                answer = yield waited
            except BaseException as error:  # noqa: BLE001 - handed to the program
                send = self._throwing(steps, error)
            else:
                send = self._sending(steps, answer)

    def _strike_at(self, waited: Any) -> None:  # noqa: ANN401  # a future, or None
        if self.late and asyncio.isfuture(waited):
            waited.add_done_callback(lambda _done: self.strike())
        else:
            self.strike()

    @staticmethod
    def _throwing(steps: Generator[Any, Any, None], error: BaseException) -> Callable[[], Any]:
        return lambda: steps.throw(error)

    @staticmethod
    def _sending(steps: Generator[Any, Any, None], answer: object) -> Callable[[], Any]:
        return lambda: steps.send(answer)


@dataclass
class Run:
    """One run of the program: what it has told, and what it should have stored."""

    db: Database
    number: int
    separate: bool
    story: list[str] = field(default_factory=list)

    def note(self, what: str) -> str:
        """A line that no other run writes."""
        return f"{self.number} {what}"

    async def insert(self, what: str) -> None:
        """Write at once."""
        await self.db.session.execute(insert(Audit).values(note=self.note(what)))

    def watch(self, what: str) -> None:
        """Tell how the frame here ends."""
        self.db.on_commit(lambda: self.story.append(f"{what} kept"))
        self.db.on_rollback(lambda: self.story.append(f"{what} undone"))

    async def hook(self) -> None:
        """Run after the commit, with a block of its own."""
        async with self.db.transaction():
            await self.insert("hook")

    async def program(self) -> None:
        """Blocks in blocks, with statements everywhere."""
        db = self.db
        if self.separate:
            async with db.transaction() as outer:
                await outer.scalars(select(Account))
                async with db.transaction(propagation=Propagation.REQUIRES_NEW):
                    self.watch("new")
                    await self.insert("new")
        async with db.transaction():
            self.watch("main")
            await self.insert("main 1")
            async with db.transaction(propagation=NESTED):
                db.session.add(Audit(note=self.note("main 2")))
            with suppress(StockError):
                async with db.transaction(propagation=NESTED):
                    await self.insert("never")
                    raise StockError
            async with db.transaction():
                await db.session.scalars(select(Account))
                db.session.add(Audit(note=self.note("main 3")))
        async with db.transaction(read_only=True):
            await db.session.scalars(select(Audit).limit(1))
        async with db.transaction(propagation=Propagation.SUPPORTS):
            await self.insert("alone")
        async with db.transaction(no_rollback_for=StockError):
            db.on_commit(self.hook)
            await self.insert("last")

    async def check(self, observer: Observer) -> None:
        """All or nothing is stored, of each transaction; the functions agree; nothing is left."""
        assert left_in_context() == {}
        assert self.db.pool_status().checked_out == 0
        stored = await observer.column(
            "SELECT note FROM audit WHERE note LIKE :mine", mine=f"{self.number} %"
        )
        told = {note.removeprefix(f"{self.number} ") for note in stored}
        main = {"main 1", "main 2", "main 3"}
        assert len(stored) == len(told)
        assert told & main in (set(), main)
        assert "never" not in told
        assert ("main kept" in self.story) is (main <= told)
        assert ("new kept" in self.story) is ("new" in told)
        assert not {"main kept", "main undone"} <= set(self.story)
        assert not ("new undone" in self.story and "new" in told)
        assert self.story.count("main kept") <= 1
        if "hook" in told:
            assert "last" in told
        async with self.db.transaction(durable=True):
            await self.insert("next")


Strikes = Callable[[int], frozenset[int]]
STRIKES: dict[str, Strikes] = {
    "once": lambda at: frozenset({at}),
    "twice": lambda at: frozenset({at, at + 1}),
    "again and again": lambda at: frozenset(range(at, at + 12)),
}


@pytest.mark.timeout(120)
async def test_cancelled_with_each_answer_leaves_nothing_behind(db: Database, observer: Observer) -> None:
    """The answer of the database is there, and the cancellation comes before the program has it."""
    separate = db.engine.dialect.name != "sqlite"
    for at in range(1, MOST_AWAITS):
        run = Run(db, at, separate)
        tasks: list[asyncio.Task[None]] = []
        striking = Striking(run.program(), frozenset({at}), lambda: tasks[0].cancel(), late=True)  # noqa: B023, PLW0108
        tasks.append(asyncio.create_task(completion(striking)))
        await asyncio.wait(tasks)

        await run.check(observer)
        if striking.seen < at:
            tasks[0].result()
            return
    pytest.fail("the program has more awaits than this test expects")


def cancel_current_task() -> None:
    """Cancel the task that runs this."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def completion(awaited: Awaitable[None]) -> None:
    """Make a coroutine of what can be awaited."""
    await awaited


@pytest.mark.every_lane
@pytest.mark.timeout(120)
async def test_cancelled_at_every_await_of_many_rows_leaves_a_connection_that_takes_more(
    database_url: URL, lane: Lane, observer: Observer
) -> None:
    """They go to the server in a way of their own, of which nothing is left on the connection."""
    async with Database(database_url, pool_size=1, max_overflow=0, fastest_lane=lane) as db:
        accounts = Repository[Account](db)

        async def program() -> None:
            async with db.transaction():
                added = await accounts.add_all(Account(id=key, name=f"{key}") for key in range(1, 4))
                for account in added:
                    account.balance += 1

        for at in range(1, MOST_AWAITS):
            await observer.run("DELETE FROM account")
            striking = Striking(program(), frozenset({at}), cancel_current_task)
            task = asyncio.create_task(completion(striking))
            await asyncio.wait({task})

            assert await observer.count(Account) in {0, 3}
            if striking.seen < at:
                task.result()
                return
            assert task.cancelled(), task.exception()
            await accounts.add_all(Account(id=key, name=f"{key}") for key in range(4, 7))
    pytest.fail("the program has more awaits than this test expects")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("strikes", list(STRIKES))
async def test_cancelled_at_every_await_leaves_nothing_behind(
    db: Database, observer: Observer, strikes: str
) -> None:
    """A program of blocks, cancelled at its first await, then at its second, and so on to the end."""
    separate = db.engine.dialect.name != "sqlite"
    step = 1 if strikes == "once" else 3
    for at in range(1, MOST_AWAITS, step):
        run = Run(db, at, separate)
        striking = Striking(run.program(), STRIKES[strikes](at), cancel_current_task)
        task = asyncio.create_task(completion(striking))
        await asyncio.wait({task})

        await run.check(observer)
        if striking.seen < at:
            task.result()
            return
        assert task.cancelled(), task.exception()
    pytest.fail("the program has more awaits than this test expects")


@pytest.mark.timeout(120)
async def test_plain_statement_of_a_busy_loop_gives_its_connection_back(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled at every await, also where psycopg only lets other tasks go first."""
    monkeypatch.setattr("psycopg.waiting.MAX_BUSY_TIME", 0, raising=False)  # an older one has none

    async def plain() -> None:
        async with db.transaction(propagation=Propagation.NOT_SUPPORTED):
            await db.session.execute(select(Account.__table__))

    await plain()
    for at in range(1, MOST_AWAITS):
        striking = Striking(plain(), frozenset({at}), cancel_current_task)
        task = asyncio.create_task(completion(striking))
        await asyncio.wait({task})

        assert db.pool_status().checked_out == 0
        if striking.seen < at:
            task.result()
            return
    pytest.fail("the program has more awaits than this test expects")


@pytest.mark.timeout(120)
async def test_cancel_scope_at_every_await_leaves_nothing_behind(db: Database, observer: Observer) -> None:
    """The same with anyio, whose scopes cancel again until the program has ended."""
    separate = db.engine.dialect.name != "sqlite"
    for at in range(1, MOST_AWAITS, 2):
        run = Run(db, at, separate)
        with anyio.CancelScope() as scope:
            striking = Striking(run.program(), frozenset({at}), scope.cancel)
            await striking

        await run.check(observer)
        if striking.seen < at:
            assert not scope.cancelled_caught
            return
    pytest.fail("the program has more awaits than this test expects")


async def test_cancelled_while_connecting_leaves_no_connection_open(
    database_url: URL, observer: Observer
) -> None:
    """The first statement of a Database also connects: a cancellation there leaves nothing open."""

    async def first(db: Database) -> None:
        async with db.transaction():
            await db.session.execute(insert(Audit).values(note="lost"))
            await asyncio.Event().wait()

    for at in range(1, 16):
        async with Database(database_url, name="fresh") as db:
            striking = Striking(first(db), frozenset({at}), cancel_current_task)
            task = asyncio.create_task(completion(striking))
            done, _ = await asyncio.wait({task}, timeout=0.3)
            task.cancel()
            await asyncio.wait({task})
            assert db.pool_status().checked_out == 0
        if not done:
            break
    del db, striking, task, done
    gc.collect()

    assert await observer.notes(Audit) == []


async def test_cancelled_statement_is_stopped(db: Database, observer: Observer, dialogue: Dialogue) -> None:
    """A running statement is given up at once; its transaction is undone."""
    running = asyncio.Event()

    async def work() -> None:
        async with db.transaction():
            await db.session.execute(insert(Audit).values(note="lost"))
            running.set()
            await db.session.execute(text(dialogue.slow))

    task = asyncio.create_task(work())
    await running.wait()
    await asyncio.sleep(0.05)
    task.cancel()

    async with asyncio.timeout(8):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert db.pool_status().checked_out == 0
    async with asyncio.timeout(8), db.transaction():
        db.session.add(Audit(note="next"))
    assert await observer.notes(Audit) == ["next"]


async def test_cancellation_while_waiting_for_the_pool_leaves_the_others_unharmed(
    db: Database, observer: Observer
) -> None:
    """Requests that are cancelled in the queue disturb nobody."""
    capacity = db.pool_status().capacity
    assert capacity is not None
    go = asyncio.Event()
    held = asyncio.Semaphore(0)

    async def hold() -> None:
        async with db.transaction(read_only=True):
            await db.session.scalars(select(Audit))
            held.release()
            await go.wait()

    async def wait() -> None:
        async with db.transaction():
            db.session.add(Audit(note="late"))

    holders = [asyncio.create_task(hold()) for _ in range(capacity)]
    for _ in holders:
        await held.acquire()
    waiters = [asyncio.create_task(wait()) for _ in range(10)]
    await asyncio.sleep(0.02)
    for waiter in waiters[:5]:
        waiter.cancel()
    go.set()
    ended = await asyncio.gather(*holders, *waiters, return_exceptions=True)

    assert [end for end in ended if end is not None and not isinstance(end, asyncio.CancelledError)] == []
    assert await observer.notes(Audit) == ["late"] * 5
    assert db.pool_status().checked_out == 0


async def test_task_group_that_fails_cancels_its_blocks(db: Database, observer: Observer) -> None:
    """Siblings with transactions of their own are rolled back when one of them fails."""
    together = asyncio.Barrier(4)

    async def work(number: int) -> None:
        async with db.transaction():
            db.session.add(Audit(note=str(number)))
            await together.wait()
            if number == 0:
                raise StockError
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(work(number))

    assert await observer.notes(Audit) == []
    assert db.pool_status().checked_out == 0
