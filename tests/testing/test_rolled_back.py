"""Under `rolled_back()` code commits as always, and at the end nothing of it is stored."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.fixtures.databases import Backend
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.fixtures.web import Web
from unitwork import Database, Propagation, Repository, TransactionRefusedError, TransactionTimeoutError
from unitwork._runtime.rolled_back import pinned
from unitwork.integrations.asgi import UnitOfWorkMiddleware

SLOW = {
    "sqlite": "SELECT count(*) FROM"
    " (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c)",
    "postgresql": "SELECT pg_sleep(60)",
    "mariadb": "SELECT sleep(60)",
}


class LocalError(Exception):
    pass


async def names(db: Database) -> list[str]:
    """The accounts that a session by hand sees."""
    async with db.session_factory() as session:
        return sorted(await session.scalars(select(Account.name)))


async def count(db: Database, model: type[DeclarativeBase]) -> int:
    """How many rows a connection by hand sees."""
    async with db.engine.connect() as connection:
        return await connection.scalar(select(func.count()).select_from(model)) or 0


@pytest.fixture
async def undone(db: Database, observer: Observer) -> AsyncIterator[Database]:
    """A Database that is undone at the end of the test, which leaves no row."""
    async with db.rolled_back():
        yield db
    assert await observer.count(Account) == 0
    assert await observer.count(Audit) == 0


async def test_commit_is_seen_inside_and_undone_at_the_end(db: Database, observer: Observer) -> None:
    """What a block commits is seen by all that is inside, by nobody outside, and gone at the end."""
    async with db.rolled_back():
        async with db.transaction() as session:
            session.add(Account(name="ann"))

        assert await names(db) == ["ann"]
        assert await observer.names(Account) == []

    assert await names(db) == []
    assert await observer.names(Account) == []


async def test_database_commits_again_afterwards(db: Database, observer: Observer) -> None:
    """After the end a transaction is a real one."""
    async with db.rolled_back(), db.transaction() as session:
        session.add(Account(name="undone"))

    async with db.transaction() as session:
        session.add(Account(name="kept"))

    assert await observer.names(Account) == ["kept"]
    assert db.pool_status().checked_out == 0


async def test_exception_leaves_and_all_is_undone(db: Database, observer: Observer) -> None:
    """A failing test undoes as much as one that passes, and fails with its own exception."""
    with pytest.raises(LocalError):
        async with db.rolled_back():
            async with db.transaction() as session:
                session.add(Account(name="ann"))
            raise LocalError

    assert await observer.names(Account) == []


async def test_failing_block_undoes_its_own_part(undone: Database) -> None:
    """A transaction that fails takes nothing else along."""
    async with undone.transaction() as session:
        session.add(Account(name="before"))
    with pytest.raises(LocalError):
        async with undone.transaction() as session:
            session.add(Account(name="failing"))
            await session.flush()
            raise LocalError
    with pytest.raises(IntegrityError):
        async with undone.transaction() as session:
            session.add(Account(name="before"))
    async with undone.transaction() as session:
        session.add(Account(name="after"))

    assert await names(undone) == ["after", "before"]


async def test_requires_new_is_a_savepoint(undone: Database) -> None:
    """REQUIRES_NEW commits by itself, but inside the transaction that it suspends."""
    async with undone.transaction() as session:
        session.add(Account(name="outer"))
        await session.flush()
        with pytest.raises(LocalError):
            async with undone.transaction(propagation=Propagation.REQUIRES_NEW):
                undone.session.add(Account(name="failing"))
                await undone.session.flush()
                raise LocalError
        async with undone.transaction(propagation=Propagation.REQUIRES_NEW):
            undone.session.add(Account(name="inner"))
    assert await names(undone) == ["inner", "outer"]

    with pytest.raises(LocalError):
        async with undone.transaction() as session:
            session.add(Account(name="other"))
            await session.flush()
            async with undone.transaction(propagation=Propagation.REQUIRES_NEW):
                undone.session.add(Account(name="undone with it"))
            raise LocalError
    assert await names(undone) == ["inner", "outer"]


async def test_savepoints_inside_each_other_keep_their_names_apart(undone: Database) -> None:
    """NESTED in REQUIRES_NEW in NESTED: each ends what it began."""
    async with undone.transaction(), undone.transaction(propagation=Propagation.NESTED):
        undone.session.add(Account(name="outer"))
        await undone.session.flush()
        async with undone.transaction(propagation=Propagation.REQUIRES_NEW):
            with pytest.raises(LocalError):
                async with undone.transaction(propagation=Propagation.NESTED):
                    undone.session.add(Account(name="failing"))
                    await undone.session.flush()
                    raise LocalError
            undone.session.add(Account(name="inner"))

    assert await names(undone) == ["inner", "outer"]


async def test_hooks_run(undone: Database) -> None:
    """Functions that wait for the commit or the rollback run as they do in the program."""
    told: list[str] = []

    async def follow_up() -> None:
        async with undone.transaction() as session:
            session.add(Account(name="follow-up"))
        told.append("committed")

    async with undone.transaction() as session:
        session.add(Account(name="ann"))
        undone.on_commit(follow_up)
        undone.before_commit(lambda: told.append("before"))
        assert told == []
    with pytest.raises(LocalError):
        async with undone.transaction() as session:
            session.add(Account(name="bob"))
            await session.flush()
            undone.on_commit(lambda: told.append("never"))
            undone.on_rollback(lambda: told.append("rolled back"))
            raise LocalError

    assert told == ["before", "committed", "rolled back"]
    assert await names(undone) == ["ann", "follow-up"]


async def test_tasks_take_turns(undone: Database) -> None:
    """Transactions of many tasks come one after another, and none is lost."""
    async with undone.transaction() as session:
        session.add(Account(name="ann"))

    async def pay() -> None:
        async with undone.transaction() as session:
            account = await session.scalar(select(Account))
            assert account is not None
            await asyncio.sleep(0)
            account.balance += 1

    await asyncio.gather(*(pay() for _ in range(20)))

    async with undone.session_factory() as session:
        assert await session.scalar(select(Account.balance)) == 20


async def test_one_beside_waits_for_the_end(undone: Database) -> None:
    """A transaction of another task begins when the one that is open has ended; reads do, too."""
    order: list[str] = []
    begun = asyncio.Event()

    async def first() -> None:
        async with undone.transaction() as session:
            session.add(Account(name="first"))
            await session.flush()
            begun.set()
            for _ in range(20):
                await asyncio.sleep(0)
            order.append("first")

    async def second() -> None:
        await begun.wait()
        async with undone.transaction() as session:
            await session.scalar(select(1))
            order.append("second")

    async def third() -> None:
        await begun.wait()
        await Repository[Account](undone).count()
        order.append("third")

    await asyncio.gather(first(), second(), third())

    assert order[0] == "first"
    assert sorted(order) == ["first", "second", "third"]


async def test_two_that_wait_for_each_other_are_told(
    undone: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that waits for a task beside it, which waits for its turn, hears who holds it."""
    monkeypatch.setattr(pinned, "_PATIENCE_S", 0.05)

    async def beside() -> None:
        async with undone.transaction() as session:
            session.add(Account(name="beside"))

    start = asyncio.Event()

    async def later() -> None:
        await start.wait()
        await beside()

    task = asyncio.create_task(later())
    async with undone.transaction() as session:
        session.add(Account(name="ann"))
        await session.flush()
        start.set()
        with pytest.raises(TransactionRefusedError, match=r"one connection[\s\S]*test_rolled_back.py"):
            await task

    assert await names(undone) == ["ann"]


async def test_children_of_a_transaction_nest_in_it(undone: Database) -> None:
    """Tasks that are started inside a transaction may have their own: they do not wait for it."""

    async def record(name: str) -> None:
        async with undone.transaction(propagation=Propagation.REQUIRES_NEW) as session:
            session.add(Account(name=name))

    async with undone.transaction() as session:
        session.add(Account(name="outer"))
        await session.flush()
        await asyncio.gather(*(record(f"child {number}") for number in range(5)))
        session.add(Account(name="outer again"))

    assert len(await names(undone)) == 7


async def test_unit_of_work_is_committed_by_hand(undone: Database) -> None:
    """`commit` and `rollback` by hand do what they do in the program."""
    async with undone.unit_of_work() as session:
        session.add(Account(name="kept"))
        await undone.commit()
        session.add(Account(name="undone"))
        await session.flush()
        await undone.rollback()

    assert await names(undone) == ["kept"]


async def test_parallel_runs_one_after_another(undone: Database) -> None:
    """`db.parallel` gives the results of all, inside a transaction as well."""

    async def add(name: str) -> str:
        await Repository[Account](undone).add(Account(name=name))
        return name

    assert await undone.parallel(add("a"), add("b"), add("c")) == ("a", "b", "c")
    async with undone.transaction() as session:
        await session.scalar(select(1))
        assert await undone.parallel(add("d"), add("e")) == ("d", "e")

    assert await names(undone) == ["a", "b", "c", "d", "e"]


@pytest.mark.only("sqlite", "postgresql", reason="MariaDB has no read-only savepoints")
async def test_read_only_is_enforced_by_the_database(undone: Database) -> None:
    """A write that only the database can see is refused in a read-only block, and allowed after it."""
    with pytest.raises(Exception, match=r"read-?only"):
        async with undone.transaction(read_only=True) as session:
            await session.scalar(select(1))
            raw: Any = await (await session.connection()).get_raw_connection()
            await raw.driver_connection.execute("INSERT INTO audit (note) VALUES ('no')")
    async with (
        undone.transaction() as session,
        undone.transaction(read_only=True, propagation="REQUIRES_NEW"),
    ):
        assert await undone.session.scalar(select(func.count()).select_from(Audit)) == 0

    async with undone.transaction() as session:
        session.add(Audit(note="yes"))
    assert await count(undone, Audit) == 1


async def test_read_only_is_enforced_by_the_session(undone: Database) -> None:
    """A write in a read-only block raises at the write."""
    async with undone.transaction(read_only=True) as session:
        with pytest.raises(TransactionRefusedError, match="read-only"):
            session.add(Account(name="no"))


async def test_failing_statement_without_a_transaction_breaks_nothing(undone: Database) -> None:
    """Where each statement commits by itself, one that fails undoes only itself."""
    async with undone.transaction() as session:
        session.add(Account(name="ann"))
        await session.flush()
        async with undone.transaction(propagation=Propagation.NOT_SUPPORTED):
            await undone.session.execute(insert(Account).values(name="bob", balance=0))
            with pytest.raises(IntegrityError):
                await undone.session.execute(insert(Account).values(name="bob", balance=0))

    assert await names(undone) == ["ann", "bob"]


async def test_connection_by_hand_is_undone(undone: Database) -> None:
    """`db.engine` is part of it: begin, commit, roll back, autocommit."""
    async with undone.engine.begin() as connection:
        await connection.execute(insert(Audit).values(note="begun"))
    async with undone.engine.connect() as connection:
        await connection.execute(insert(Audit).values(note="forgotten"))
    async with undone.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(insert(Audit).values(note="autocommit"))

    assert await count(undone, Audit) == 2


async def test_sessions_by_hand_may_end_in_any_order(undone: Database) -> None:
    """Two sessions of one task commit in the order in which they began."""
    async with undone.session_factory() as first, undone.session_factory() as second:
        first.add(Audit(note="first"))
        await first.flush()
        second.add(Audit(note="second"))
        await second.flush()
        await first.commit()
        await second.commit()
    assert await count(undone, Audit) == 2

    async with undone.session_factory() as first, undone.session_factory() as second:
        first.add(Audit(note="third"))
        await first.flush()
        second.add(Audit(note="fourth"))
        await second.flush()
        await first.commit()
        await second.rollback()
    assert await count(undone, Audit) == 3


async def test_rollback_of_an_outer_session_takes_the_inner_along_and_says_so(undone: Database) -> None:
    """A session that was undone with the one around it cannot commit as if nothing had happened."""
    async with undone.session_factory() as first, undone.session_factory() as second:
        first.add(Audit(note="first"))
        await first.flush()
        second.add(Audit(note="second"))
        await second.flush()
        await first.rollback()
        with pytest.raises(TransactionRefusedError, match="was undone, with one around it"):
            await second.commit()

    assert await count(undone, Audit) == 0


async def test_inside_another_undoes_its_own_part(undone: Database) -> None:
    """A test shares the rows of its module, and leaves them as they were."""
    async with undone.transaction() as session:
        session.add(Account(name="shared"))
    for _ in range(2):
        async with undone.rolled_back():
            async with undone.transaction() as session:
                session.add(Account(name="own"))
            assert await names(undone) == ["own", "shared"]
        assert await names(undone) == ["shared"]


async def test_is_refused_inside_a_block(db: Database) -> None:
    """What has begun before could not be undone."""
    async with db.transaction() as session:
        await session.scalar(select(1))
        with pytest.raises(TransactionRefusedError, match=r"in use already[\s\S]*test_rolled_back.py"):
            async with db.rolled_back():
                pass
    async with db.unit_of_work():
        with pytest.raises(TransactionRefusedError, match="unit of work"):
            async with db.rolled_back():
                pass
    async with db.rolled_back():
        assert await names(db) == []


async def test_what_is_open_at_the_end_is_named(db: Database, observer: Observer) -> None:
    """A task that is left behind is told of, and cannot write afterwards."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def left_behind() -> None:
        async with db.transaction() as session:
            session.add(Account(name="ann"))
            await session.flush()
            begun.set()
            await go_on.wait()

    with pytest.raises(
        TransactionRefusedError, match=r"all was rolled back[\s\S]*left_behind|test_rolled_back"
    ):
        async with db.rolled_back():
            task = asyncio.create_task(left_behind())
            await begun.wait()
    go_on.set()
    with pytest.raises(TransactionRefusedError, match="has ended"):
        await task

    assert await observer.names(Account) == []


async def test_dispose_leaves_it_open(undone: Database) -> None:
    """A program under test may end inside: its `dispose` does not take the rows away."""
    async with undone.transaction() as session:
        session.add(Account(name="ann"))
    await undone.dispose()
    await undone.engine.dispose()

    assert await names(undone) == ["ann"]


async def test_another_event_loop_is_refused(undone: Database) -> None:
    """The connection belongs to one loop; whoever comes from another hears which setting to change."""

    async def elsewhere() -> None:
        async with undone.transaction() as session:
            await session.scalar(select(1))

    with pytest.raises(TransactionRefusedError, match=r"another event loop[\s\S]*loop_scope"):
        await asyncio.to_thread(asyncio.run, elsewhere())


@pytest.mark.only("mariadb", reason="elsewhere DDL is part of the transaction")
async def test_statement_that_commits_is_refused(undone: Database) -> None:
    """MariaDB commits before DDL, so that it is refused before it is sent."""
    async with undone.transaction() as session:
        session.add(Account(name="ann"))
    with pytest.raises(TransactionRefusedError, match="could not undo it"):
        async with undone.engine.begin() as connection:
            await connection.execute(text("CREATE TABLE other (id INT)"))

    assert await names(undone) == ["ann"]


@pytest.mark.only("mariadb", reason="elsewhere DDL is part of the transaction")
async def test_statement_that_has_committed_is_told(db: Database, observer: Observer) -> None:
    """A commit that only the server knows of is told at once: something stays."""
    await observer.run("CREATE PROCEDURE stealthy() BEGIN INSERT INTO audit (note) VALUES ('x'); COMMIT; END")
    with pytest.raises(TransactionRefusedError, match=r"ended by the database[\s\S]*CALL stealthy"):
        async with db.rolled_back(), db.engine.begin() as connection:
            await connection.execute(text("CALL stealthy()"))


@pytest.mark.only("sqlite", "postgresql", reason="MariaDB commits before DDL")
async def test_tables_are_undone(undone: Database) -> None:
    """A table that a test creates is gone after it."""
    async with undone.rolled_back(), undone.engine.begin() as connection:
        await connection.execute(text("CREATE TABLE other (id INT)"))
        await connection.execute(text("INSERT INTO other VALUES (1)"))
    with pytest.raises(DBAPIError):
        async with undone.engine.begin() as connection:
            await connection.execute(text("INSERT INTO other VALUES (1)"))


@pytest.mark.only("postgresql", reason="elsewhere no constraint waits for COMMIT")
async def test_commit_checks_deferred_constraints(undone: Database) -> None:
    """What COMMIT would refuse is refused, and undone; it is deferred for the next one as well."""
    unique = "ALTER TABLE account ADD CONSTRAINT one UNIQUE (balance) DEFERRABLE INITIALLY DEFERRED"
    async with undone.engine.begin() as connection:
        await connection.execute(text(unique))
    ended: list[str] = []

    for _ in range(2):
        with pytest.raises(IntegrityError):
            async with undone.transaction() as session:
                undone.on_rollback(lambda: ended.append("rolled back"))
                session.add_all([Account(name="ann"), Account(name="bob")])
                await session.flush()
                ended.append("flushed")

    assert ended == ["flushed", "rolled back"] * 2
    assert await names(undone) == []


@pytest.mark.parametrize("by_hand", ["block", "session by hand"])
async def test_cancelled_task_leaves_the_others_unharmed(undone: Database, by_hand: str) -> None:
    """A task is cancelled at any of its steps: its own transaction is undone, nothing else."""
    opened = undone.transaction if by_hand == "block" else undone.session_factory
    async with undone.transaction() as session:
        session.add(Account(name="ann"))

    async def busy() -> None:
        async with opened() as session:
            session.add(Account(name="cancelled"))
            await session.flush()
            for _ in range(1000):
                await session.execute(update(Account).values(balance=Account.balance + 1))

    for steps in range(1, 60):
        task = asyncio.create_task(busy())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert undone.pool_status().checked_out == 0
        assert await names(undone) == ["ann"]
    async with undone.session_factory() as session:
        assert await session.scalar(select(Account.balance)) == 0


async def test_time_limit_interrupts(undone: Database, backend: Backend) -> None:
    """A block that takes too long is undone, what was done before stays, and the next one has its time."""
    async with undone.transaction() as session:
        session.add(Account(name="before"))
    with pytest.raises(TransactionTimeoutError):
        async with undone.transaction(timeout=0.05) as session:
            await session.execute(text(SLOW[backend.database]))
    async with undone.transaction(timeout=20) as session:
        session.add(Account(name="after"))

    assert await names(undone) == ["after", "before"]


async def test_stream_may_write_in_its_loop(undone: Database) -> None:
    """Rows that are read one by one and written meanwhile need one connection only."""
    accounts = Repository[Account](undone)
    await accounts.add_all([Account(name=f"n{number}") for number in range(5)])

    async for account in accounts.select().order_by(Account.id).stream(batch=2):
        await Repository[Audit](undone).add(Audit(note=account.name))

    assert await count(undone, Audit) == 5


async def test_several_databases(undone: Database) -> None:
    """Each Database has its own; what runs on another one is not part of it."""
    async with Database("sqlite+aiosqlite:///:memory:", name="other") as other:
        await other.create_all(Account)
        async with undone.transaction(), other.rolled_back():
            undone.session.add(Account(name="ann"))
            async with other.transaction():
                other.session.add(Account(name="bob"))
            assert await names(other) == ["bob"]
        assert await names(other) == []
        assert await names(undone) == ["ann"]


@pytest.mark.parametrize("way", ["socket", "same task"])
async def test_requests_are_undone(undone: Database, web: Web, way: str) -> None:
    """A request of a server in the same loop commits, and the test sees it; and the other way round."""

    async def sign_up(_request: Request) -> Response:
        await Repository[Account](undone).add(Account(name="by request"))
        return PlainTextResponse(",".join(await names(undone)))

    app = Starlette(
        routes=[Route("/", sign_up)], middleware=[Middleware(UnitOfWorkMiddleware, database=undone)]
    )
    async with undone.transaction() as session:
        session.add(Account(name="by test"))
    if way == "socket":
        response = await (await web.client(app)).get("/")
    else:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            response = await client.get("/")

    assert response.text == "by request,by test"
    assert await names(undone) == ["by request", "by test"]


async def test_memory_needs_no_second_connection() -> None:
    """What SQLite in memory refuses for its one connection works, as savepoints."""
    async with Database("sqlite+aiosqlite:///:memory:", name="memory") as db:
        await db.create_all(Account)
        async with db.rolled_back(), db.transaction() as session:
            session.add(Account(name="outer"))
            await session.flush()
            async with db.transaction(propagation=Propagation.REQUIRES_NEW):
                db.session.add(Account(name="inner"))
        assert await names(db) == []


async def test_many_rows_at_once(undone: Database) -> None:
    """Bulk writes, with the driver's own ways, are undone as well."""
    rows = [{"name": f"n{number}", "balance": number} for number in range(3000)]

    assert await Repository[Account](undone).bulk_insert(rows, returning=False) == 3000

    assert await count(undone, Account) == 3000


@pytest.mark.only("postgresql", reason="its transactions refuse all after an error")
async def test_block_inside_one_that_has_failed_is_told_why_it_cannot_begin(undone: Database) -> None:
    """REQUIRES_NEW would go on in the program; under rolled_back() it is inside, and the error says so."""
    opening = undone.transaction(propagation=Propagation.REQUIRES_NEW)
    with pytest.raises(TransactionRefusedError, match=r"(?s)cannot begin under rolled_back\(\).*Fix:"):
        async with undone.transaction() as session:
            with pytest.raises(DBAPIError):
                await session.execute(text("SELECT nothing FROM nowhere"))
            async with opening as inner:
                inner.add(Account(name="inner"))

    async with undone.transaction(), undone.transaction(propagation=Propagation.REQUIRES_NEW) as inner:
        inner.add(Account(name="next"))
    assert await names(undone) == ["next"]


async def test_engine_and_sessions_that_were_taken_before_are_undone_too(
    db: Database, observer: Observer
) -> None:
    """A module that keeps them is code under test as well."""
    engine, sessions = db.engine, db.session_factory

    async with db.rolled_back():
        async with engine.begin() as connection:
            await connection.execute(insert(Account).values(name="engine", balance=0))
        async with sessions() as session, session.begin():
            session.add(Account(name="session"))
        assert await names(db) == ["engine", "session"]

    assert await observer.count(Account) == 0


@pytest.mark.only("postgresql", reason="it answers COMMIT with ROLLBACK after an error")
async def test_commit_by_hand_after_an_error_rolls_back_silently(undone: Database) -> None:
    """As without rolled_back(): whoever swallows an error on a connection by hand hears no more of it."""
    async with undone.engine.begin() as connection:
        await connection.execute(insert(Account).values(name="lost", balance=0))
        with pytest.raises(DBAPIError):
            await connection.execute(text("SELECT nothing FROM nowhere"))

    assert await names(undone) == []
