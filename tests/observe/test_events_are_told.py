"""An observer hears of all that happens: units, blocks, hooks, connections, waits, swallowed errors."""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, select, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tests.fixtures.clusters.replicated import Cluster, Here
from tests.fixtures.heard import Heard
from tests.fixtures.models import Account, Audit
from tests.fixtures.web import Exchange
from unitwork import Database, Repository, UnexpectedRollbackError
from unitwork.events import (
    BlockCondemned,
    BlockEnded,
    BlockEntered,
    ConnectionReturned,
    ConnectionTaken,
    ErrorSwallowed,
    Event,
    HookRan,
    Outcome,
    PoolTimedOut,
    ServerChosen,
    StatementExecuted,
    TurnAwaited,
    WorkEnded,
    WorkStarted,
)
from unitwork.integrations.asgi import UnitOfWorkMiddleware

HERE = str(Path(__file__))
OK = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"fine"}


class ShopError(Exception):
    """Something failed."""


class Accounts(Repository[Account]):
    """With a method that is one transaction."""

    async def open_two(self) -> None:  # mark: method
        """Store two."""
        await self.add(Account(name="one"))
        await self.add(Account(name="two"))


@pytest.fixture
def heard(db: Database) -> Heard:
    """What an observer of the database hears."""
    heard = Heard()
    db.observe(heard)
    return heard


def line_of(words: str) -> str:
    """The place of the only line of this module that ends with a mark."""
    lines = Path(__file__).read_text().splitlines()
    return f"{HERE}:{next(number for number, line in enumerate(lines, 1) if line.endswith(f'# {words}'))}"


async def test_unit_and_its_blocks_are_told_as_one_story(db: Database, heard: Heard) -> None:
    """Who opened each block, what condemned the transaction, which hooks ran, and that all is of one unit."""

    @db.transactional  # mark: inner
    async def inner() -> None:
        raise ShopError

    def undone() -> None:
        raise ShopError

    with pytest.raises(UnexpectedRollbackError):
        async with db.unit_of_work():
            await Repository[Account](db).add(Account(name="three"))  # mark: call
            await Accounts(db).open_two()
            db.on_rollback(undone)
            async with db.transaction():
                with pytest.raises(ShopError):
                    await inner()

    started, ended = heard.of(WorkStarted)[0], heard.of(WorkEnded)[0]
    blocks = heard.of(BlockEntered)
    of_unit = next(block for block in blocks if block.name == started.name)
    assert heard.kinds[0] == "WorkStarted"
    assert heard.kinds[-1] == "WorkEnded"
    assert (ended.work_id, ended.error) == (started.work_id, "UnexpectedRollbackError")
    assert {block.work_id for block in blocks} == {started.work_id}
    assert {each.work_id for each in heard.of(StatementExecuted)} == {started.work_id}
    openers = {block.opener for block in blocks}
    assert {block.name.partition(" at ")[2] for block in blocks if " at " in block.name} < openers
    assert {line_of("mark: inner"), line_of("mark: method"), line_of("mark: call")} < openers
    assert [(each.block_id, each.by, each.error) for each in heard.of(BlockCondemned)] == [
        (of_unit.block_id, f"{__name__}.{inner.__qualname__}", "ShopError")
    ]
    outcomes: dict[int | None, tuple[Outcome, str | None]]
    outcomes = {each.block_id: (each.outcome, each.condemned_by) for each in heard.of(BlockEnded)}
    assert outcomes[of_unit.block_id] == (Outcome.ROLLED_BACK, f"{__name__}.{inner.__qualname__}")
    assert [(each.block_id, each.phase, each.name, each.error) for each in heard.of(HookRan)] == [
        (of_unit.block_id, "after rollback", undone.__qualname__, "ShopError")
    ]


async def test_what_a_savepoint_undoes_condemns_nothing(db: Database, heard: Heard) -> None:
    """An error that `begin_nested` has undone is told; the block commits, and its end names no culprit."""
    ran: list[str] = []
    async with db.transaction() as session:
        db.before_commit(partial(ran.append, "before"))
        db.on_commit(lambda: ran.append("after"))
        with pytest.raises(Exception, match="no_such_table"):
            async with session.begin_nested():
                await session.execute(text("SELECT * FROM no_such_table"))
        session.add(Audit(note="kept"))

    entered, inner = heard.of(BlockEntered)
    ends = {each.block_id: (each.outcome, each.condemned_by) for each in heard.of(BlockEnded)}
    assert [each.block_id for each in heard.of(BlockCondemned)] == [inner.block_id]
    failed = next(each for each in heard.of(StatementExecuted) if each.error)
    assert heard.events.index(failed) + 1 == heard.events.index(heard.of(BlockCondemned)[0])
    assert ends[inner.block_id] == (Outcome.SAVEPOINT_UNDONE, inner.name)
    assert ends[entered.block_id] == (Outcome.COMMITTED, None)
    hooks = [(each.block_id, each.phase, each.error) for each in heard.of(HookRan)]
    assert hooks == [(entered.block_id, "before commit", None), (entered.block_id, "after commit", None)]
    assert ran == ["before", "after"]


async def test_request_that_uses_nothing_is_told_and_sleeps_on(db: Database, heard: Heard) -> None:
    """Each request is a unit of work, also one that nobody looks for, or that fails before anybody does."""
    asleep: list[bool] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        if scope["path"] == "/refuse":
            db.session.add(Audit(note="x"))
            db.on_rollback(fail)
        if scope["path"] == "/fail":
            raise ShopError
        await send(OK if scope["path"] == "/nothing" else {**OK, "status": 409})
        await send(END)

    def fail() -> None:
        raise ShopError

    def look(event: Event) -> None:
        if isinstance(event, WorkEnded):
            asleep.append(not heard.of(BlockEntered))

    class Looks:
        """Looks for what the unit has done at its end."""

        notice = staticmethod(look)

    db.observe(Looks())
    middleware = UnitOfWorkMiddleware(app, database=db)
    for path in ("/nothing", "/fail", "/refuse"):
        await Exchange(path=path).run(middleware)

    works = [(each.work_id, each.database) for each in heard.of(WorkStarted)]
    ends = [each.error for each in heard.of(WorkEnded)]
    assert [(each.work_id, each.database) for each in heard.of(WorkEnded)] == works
    assert (len(set(works)), ends) == (3, [None, "ShopError", "ExceptionGroup"])
    assert asleep == [True, True, False]
    swallowed = [(each.place, each.error) for each in heard.of(ErrorSwallowed)]
    assert swallowed == [("after ROLLBACK", "ExceptionGroup")]


async def test_each_connection_is_told_once_and_with_its_return(db: Database, heard: Heard) -> None:
    """Whichever way it is taken, on whichever lane; also one that is discarded, and after `dispose()`."""
    accounts = Repository[Account](db)
    await accounts.add(Account(name="by the driver"))
    async with db.transaction() as session:
        session.add(Account(name="in a block"))
    async with db.unit_of_work():
        await accounts.count()
        await accounts.add(Account(name="in a unit"))
    async with db.engine.connect() as connection:
        await connection.scalar(select(Account.id))
        await connection.invalidate()
    await db.ping()
    first = {each.connection_id for each in heard.of(ConnectionTaken)}
    await db.dispose()
    await accounts.count()

    taken, returned = heard.of(ConnectionTaken), heard.of(ConnectionReturned)
    story = [each for each in heard.events if isinstance(each, ConnectionTaken | ConnectionReturned)]
    assert [type(each) for each in story] == [ConnectionTaken, ConnectionReturned] * len(taken)
    assert [each.connection_id for each in taken] == [each.connection_id for each in returned]
    assert taken[-1].connection_id not in first
    opened = [each.connection_id for each in taken if each.opened]
    assert len(opened) == len(set(opened)) == len({each.connection_id for each in taken})
    assert sum(each.discarded for each in returned) == 1
    in_block = next(each for each in heard.of(BlockEntered) if HERE in each.name)
    assert sum(each.block_id == in_block.block_id for each in taken) == 1
    assert all(each.wait_s >= 0 for each in taken)


async def test_pool_tells_whoever_observes_meanwhile_and_nobody_else(db: Database) -> None:
    """A connection that was taken unseen comes back unseen; reads keep to their lane all the time."""
    heard = Heard()
    accounts = Repository[Account](db)
    async with db.transaction() as session:
        session.add(Account(name="unseen"))
        await session.flush()
        db.observe(heard)
    lanes = [str(db.explain_lane(select(Account)))]
    await accounts.count()
    async with db.transaction() as session:
        await session.scalar(select(Account.id))
        db.unobserve(heard)
    lanes.append(str(db.explain_lane(select(Account))))
    await accounts.count()

    kinds = [each for each in heard.kinds if each.startswith("Connection")]
    assert kinds == ["ConnectionTaken", "ConnectionReturned", "ConnectionTaken"]
    assert len(set(lanes)) == 1
    own = vars(db.source.home_engine().sync_engine.pool)
    assert not {"connect", "_do_return_conn"} & own.keys()


async def test_waits_are_told(database_url: URL) -> None:
    """For a connection, in vain and not; for the turn of a session; and for SQLite's only writer."""
    heard = Heard()
    small: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.01}
    async with Database(database_url, name="small", observers=[heard], **small) as db:
        async with db.transaction(read_only=True) as session:
            await session.scalar(select(Account.id))
            other = asyncio.ensure_future(_outside(db))
            with pytest.raises(PoolTimeoutError):
                await other
        await _outside(db)

        async def two(note: str) -> None:
            db.session.add(Audit(note=note))
            await db.session.flush()

        async with db.transaction():
            await asyncio.gather(two("one"), two("two"))
    [late] = heard.of(PoolTimedOut)
    assert late.wait_s >= small["pool_timeout"]
    waited = heard.of(TurnAwaited)
    assert waited
    assert {each.block_id for each in waited} == {heard.of(BlockEntered)[-1].block_id}
    assert all("the block at" in each.holder and each.wait_s >= 0 for each in waited)


async def _outside(db: Database) -> object:
    """A read of a task that has nothing open."""
    work = db.engine.connect()
    async with work as connection:
        return await connection.scalar(select(Account.id))


@pytest.mark.only("sqlite", reason="others have many writers")
async def test_wait_for_the_only_writer_is_told(db: Database, heard: Heard) -> None:
    """Whoever queues for the write lock of SQLite hears whom it has waited for."""

    async def write(note: str) -> None:
        async with db.transaction() as session:
            session.add(Audit(note=note))
            await session.flush()
            await asyncio.sleep(0)

    await asyncio.gather(write("one"), write("two"))

    [waited] = heard.of(TurnAwaited)
    assert "the only write lock, which the block at" in waited.holder


class Meddling:
    """Uses the Database while it is told."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.heard = 0
        self.other = Heard()

    def notice(self, _event: Event, /) -> None:
        """Look, let another one observe, and end that; leave at the tenth event."""
        self.heard += 1
        assert self.db.snapshot().database == self.db.name
        self.db.observe(self.other)
        self.db.unobserve(self.other)
        if self.heard == 10:
            self.db.unobserve(self)


async def test_observer_may_use_the_database(db: Database, heard: Heard) -> None:
    """One that looks, and lets others observe while it is told, changes nothing."""
    db.unobserve(heard)
    meddling = Meddling(db)
    db.observe(meddling)

    for note in ("one", "two", "three"):
        async with db.transaction() as session:
            session.add(Audit(note=note))
        await Repository[Audit](db).count()

    assert meddling.heard == 10
    assert await Repository[Audit](db).count() == 3


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has no servers")
async def test_choice_of_a_server_is_told_with_its_reason(far: Database, cluster: Cluster) -> None:
    """A read says which replica it got, or why none; a block that may write chooses none."""
    heard = Heard()
    far.observe(heard)
    places = Repository[Here](far)
    await places.get_one(1)
    async with far.transaction(read_only=True):
        await places.get_one(1)
    async with far.transaction(read_only=True, fresh=True):
        await places.get_one(1)
    with far.primary():
        await places.get_one(1)
    async with far.transaction() as session:
        await session.get_one(Here, 1)
    async with far.unit_of_work():
        await Repository[Audit](far).add(Audit(note="x"))
        async with far.transaction(read_only=True, propagation="REQUIRES_NEW"):
            await places.get_one(1)

    chosen = heard.of(ServerChosen)
    reasons = ["`fresh=True`", "`db.primary()`", "a transaction is open on the primary"]
    assert [each.role for each in chosen] == ["replica"] * 2 + ["primary"] * 3
    assert [each.reason for each in chosen[:2]] == [None, None]
    assert all(part in str(each.reason) for part, each in zip(reasons, chosen[2:], strict=True))
    addresses = {f"{url.host}:{url.port}" for url in cluster.replicas}
    assert {each.server for each in chosen[:2]} <= addresses
    assert {each.server for each in chosen[2:]} == {f"{cluster.primary.host}:{cluster.primary.port}"}
    taken = {each.server for each in heard.of(ConnectionTaken)}
    assert taken == {each.server for each in chosen}


async def test_statements_of_a_generator_are_those_of_its_block(db: Database) -> None:
    """On every lane, BEGIN and COMMIT and the connection included; those of whoever iterates are not."""
    heard = Heard()

    async def numbers() -> AsyncGenerator[int, None]:
        async with db.transaction() as session:
            await session.execute(text("SELECT 7"))
            await Repository[Account](db).count()
            yield 1
            await session.scalars(select(Audit))

    db.observe(heard)
    async for _number in numbers():
        async with db.transaction(read_only=True) as session:
            await session.execute(text("SELECT 8"))

    generator, consumer = [event.block_id for event in heard.of(BlockEntered)]
    told = [event for event in heard.events if isinstance(event, ConnectionTaken | StatementExecuted)]
    assert {event.block_id for event in told} == {generator, consumer}
    assert [event.block_id for event in heard.of(ConnectionTaken)] == [generator, consumer]
    assert [
        (event.block_id, event.sql.partition("FROM")[0].strip())
        for event in heard.of(StatementExecuted)
        if event.sql.startswith(("SELECT", "COMMIT"))
    ] == [
        (generator, "SELECT 7"),
        (generator, "SELECT count(*) AS count_1"),
        (consumer, "SELECT 8"),
        (consumer, "COMMIT"),
        (generator, "SELECT audit.id, audit.note"),
        (generator, "COMMIT"),
    ]
