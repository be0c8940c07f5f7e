"""Nodes that commit together: one ends under load, two write the same rows, one falls behind."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import NullPool, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.clusters.history import Outcome
from tests.clusters.workload import Workload, assert_nothing_is_left, stored
from tests.fixtures.clusters.galera import Galera
from tests.fixtures.clusters.replicated import connections_in_use
from tests.fixtures.models import TABLES, Account, Audit
from tests.fixtures.observer import Observer
from unitwork import CommitOutcomeUnknownError, Database, Repository, RetryPolicy

pytestmark = [
    pytest.mark.only("mariadb", reason="Galera is MariaDB's"),
    pytest.mark.timeout(240),
]

DRIVER = "mysql+asyncmy"
CLIENTS = 200
POOL: Any = {"pool_size": 40, "max_overflow": 0, "pool_timeout": 60}
PATIENT = RetryPolicy(attempts=50, first_delay_s=0.005, longest_delay_s=0.2)


@pytest.fixture
def galera(private_galera: Callable[..., Galera]) -> Iterator[Galera]:
    """Three nodes with the tables of `models`, all empty."""
    cluster = private_galera()
    cluster.create(TABLES)
    yield cluster
    for node in cluster.nodes:
        node.thaw()


async def final(galera: Galera, number: int) -> dict[str, list[str]]:
    """What each key holds on a node, once it has applied all."""
    engine = create_async_engine(galera.urls(DRIVER)[number], poolclass=NullPool)
    observer = Observer(engine)
    await observer.scalar("SELECT 1")
    galera.wait_until_agreed()
    try:
        return await stored(observer)
    finally:
        await engine.dispose()


@pytest.mark.parametrize("read_everywhere", [True, False], ids=["replicas", "urls alone"])
async def test_node_that_is_killed_under_load(galera: Galera, *, read_everywhere: bool) -> None:
    """The one that is written to: the others go on with all that was acknowledged, once."""
    urls = galera.urls(DRIVER)
    async with Database(urls=urls, replicas=urls if read_everywhere else [], failover_s=30, **POOL) as db:
        workload = Workload(db, seed=3)
        await workload.prepare()
        running = asyncio.create_task(workload.run(CLIENTS, 1_200))
        while len(workload.history) < 400 and not running.done():  # noqa: ASYNC110 - somewhere in the middle
            await asyncio.sleep(0.01)
        await asyncio.to_thread(galera.kill, galera.nodes[0])
        await running
        await workload.run(CLIENTS, 300)

        await asyncio.to_thread(galera.wait_until_agreed)
        assert workload.check(await final(galera, 1)) == []
        assert not [each for each in workload.failures if each.startswith("_add_again")]
        assert workload.history.writes[-1].outcome is Outcome.ACKNOWLEDGED
        await assert_nothing_is_left(db)
    assert await final(galera, 1) == await final(galera, 2)


async def test_conflicts_of_two_nodes_are_tried_again(galera: Galera) -> None:
    """Two nodes add to the same counters: who loses at COMMIT adds again, and every addition counts once."""
    first, second, _third = galera.urls(DRIVER)
    conflicts = 0
    async with Database(first, name="first", **POOL) as one, Database(second, name="second", **POOL) as two:
        async with one.transaction() as session:
            session.add_all([Account(id=number, name=f"{number}") for number in (1, 2)])

        async def add(db: Database, number: int) -> None:
            @db.transactional(retry=PATIENT)
            async def attempt() -> None:
                nonlocal conflicts
                conflicts += 1
                account = await db.session.get_one(Account, 1 + number % 2)
                await asyncio.sleep(0)
                await db.session.execute(
                    update(Account).where(Account.id == account.id).values(balance=Account.balance + 1)
                )

            await attempt()

        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(add(one if number % 4 < 2 else two, number))
        assert connections_in_use(one) == connections_in_use(two) == 0

    galera.wait_until_agreed()
    totals = "SET STATEMENT wsrep_sync_wait = 1 FOR SELECT group_concat(balance ORDER BY id) FROM app.account"
    assert [node.ask(totals) for node in galera.nodes] == ["50,50"] * 3
    assert conflicts > 100


async def read_alone(db: Database) -> bool:
    """Outside of blocks."""
    return await Repository[Audit](db).where(Audit.note == "mine").exists()


async def read_in_block(db: Database) -> bool:
    """In a read-only block."""
    async with db.transaction(read_only=True):
        return await read_alone(db)


@pytest.mark.parametrize("read", [read_alone, read_in_block], ids=lambda each: each.__name__)
async def test_own_write_is_read_while_other_nodes_are_behind(
    galera: Galera, read: Callable[[Database], Awaitable[bool]]
) -> None:
    """Nodes that have received it and do not show it yet are passed over."""
    urls = galera.urls(DRIVER)
    async with Database(urls=urls, replicas=urls, replica_wait_s=0.2) as db:
        await read(db)
        held = [node.administrator() for node in galera.nodes[1:]]
        for connection in held:
            connection.exec_driver_sql("FLUSH TABLES WITH READ LOCK")
        try:
            async with db.transaction() as session:
                session.add(Audit(note="mine"))
            assert [await read(db) for _ in range(10)] == [True] * 10
        finally:
            for connection in held:
                connection.close()


async def test_node_without_a_majority_is_left(galera: Galera) -> None:
    """Two of three are killed: the last one takes nothing, which is told after `failover_s`."""
    urls = galera.urls(DRIVER)
    async with Database(urls=urls, failover_s=1) as db:
        await Repository[Audit](db).add(Audit(note="before"))
        for node in galera.nodes[1:]:
            await asyncio.to_thread(galera.kill, node)
        told = await told_by_writing(db)
        assert all(f"127.0.0.1:{url.port}" in told for url in urls)
        assert connections_in_use(db) == 0


async def told_by_writing(db: Database) -> str:
    """Write until no server takes it any more, and return what is said of each."""
    for _ in range(100):
        try:
            async with asyncio.timeout(60), db.transaction() as session:
                session.add(Audit(note="after"))
        except CommitOutcomeUnknownError:
            continue  # the connection that was there before
        except DBAPIError as error:
            notes = "\n".join(error.__notes__)
            if "No server has taken writes" in notes:
                return notes
    return "it goes on"
