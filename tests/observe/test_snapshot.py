"""`db.snapshot()` tells who has which connection and who waits for whom, without a word to the database."""

import asyncio
from collections.abc import Callable
from contextvars import Context

import pytest
from sqlalchemy import URL, select

from tests.fixtures.clusters.replicated import Cluster, Here
from tests.fixtures.heard import Heard
from tests.fixtures.models import Account, Audit
from unitwork import Database, Repository
from unitwork.events import StatementExecuted
from unitwork.snapshot import PoolNow, Snapshot


def pool_of(snapshot: Snapshot) -> PoolNow:
    """The only pool of the only server."""
    [server] = snapshot.servers
    [pool] = server.pools
    return pool


async def seen(db: Database, wanted: Callable[[Snapshot], object]) -> Snapshot:
    """The first snapshot that shows what is waited for; a test that waits for ever is ended from outside."""
    while not wanted(db.snapshot()):  # noqa: ASYNC110  # no event tells of somebody who waits still
        await asyncio.sleep(0)
    return db.snapshot()


async def test_it_shows_who_holds_and_who_waits(database_url: URL) -> None:
    """The block, its line, its last statement; the task that waits for its connection. From a thread, too."""
    heard = Heard()
    async with Database(database_url, name="small", pool_size=1, max_overflow=0, observers=[heard]) as db:
        untouched = pool_of(db.snapshot())
        async with db.transaction() as session:
            await session.scalar(select(Account.id))
            count = Repository[Audit](db).count()
            waiter = asyncio.get_running_loop().create_task(count, name="counts", context=Context())
            await seen(db, lambda snapshot: pool_of(snapshot).waiting)
            sent = len(heard.of(StatementExecuted))
            pool = pool_of(await asyncio.to_thread(db.snapshot))
            assert len(heard.of(StatementExecuted)) == sent
        await waiter
        await db.dispose()
        disposed = pool_of(db.snapshot())

    assert (untouched.size, untouched.capacity, untouched.in_use, untouched.held) == (1, 1, 0, ())
    [held], [waiting] = pool.held, pool.waiting
    assert (pool.in_use, pool.idle, pool.overflow) == (1, 0, 0)
    assert held.opener is not None
    assert held.owner == f"the block at {held.opener}"
    assert held.opener.startswith(__file__)
    assert (held.last_statement, held.in_transaction) == ("SELECT account.id FROM account", True)
    assert waiting.who == "task 'counts'"
    assert min(held.held_s, waiting.wait_s) >= 0
    assert (disposed.in_use, disposed.idle, disposed.held) == (0, 0, ())


async def test_it_shows_whose_turn_is_awaited(db: Database) -> None:
    """Tasks that share a session wait for the one that uses it, or for a savepoint to end."""
    held, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with db.transaction(propagation="NESTED") as session:
            session.add(Audit(note="held"))
            await session.flush()
            held.set()
            await go.wait()

    async def wait() -> None:
        await db.session.scalar(select(Account.id))

    async with db.transaction() as session:
        await session.scalar(select(Account.id))
        holding = asyncio.create_task(hold(), name="holds")
        await held.wait()
        waiting = asyncio.create_task(wait(), name="waits")
        snapshot = await seen(db, lambda snapshot: snapshot.sessions)
        go.set()
        await asyncio.gather(holding, waiting)

    [found] = snapshot.sessions
    [behind] = found.waiting
    assert (found.task, found.owner.startswith("the block at")) == (None, True)
    assert behind.who.startswith("task 'waits' for the block at")
    assert db.snapshot().sessions == ()


@pytest.mark.only("sqlite", reason="others have many writers")
async def test_it_shows_the_queue_of_writers(db: Database) -> None:
    """Who has the only write lock, and who wants it."""
    async with db.transaction() as session:
        session.add(Audit(note="first"))
        await session.flush()
        add = Repository[Audit](db).add(Audit(note="second"))
        second = asyncio.get_running_loop().create_task(add, context=Context())
        snapshot = await seen(db, lambda snapshot: pool_of(snapshot).writer.waiting)  # type: ignore[union-attr]
    await second

    writer = pool_of(snapshot).writer
    assert writer is not None
    assert writer.owner.startswith("the block at")
    assert [each.who for each in writer.waiting] == ["Repository[Audit].add"]
    assert pool_of(db.snapshot()).writer is None


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has no servers")
async def test_it_shows_each_server(far: Database, cluster: Cluster) -> None:
    """Before anybody has asked them nothing is claimed; after that who is reachable, and how far behind."""
    before = far.snapshot().servers
    await Repository[Here](far).get_one(1)
    await far.ping()
    after = far.snapshot().servers

    assert [each.role for each in after] == ["primary", "replica", "replica"]
    assert {each.reachable for each in before} == {None}
    assert [each.reachable for each in after] == [True, True, True]
    assert after[0].address == f"{cluster.primary.host}:{cluster.primary.port}"
    assert after[0].lag_s is None
    assert all(each.lag_s is not None and each.problem is None for each in after[1:])
    assert sum(pool.idle for each in after for pool in each.pools) >= 1
