"""Histories of many clients: nothing acknowledged is lost, nothing doubled, nothing read that is too old."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import URL, NullPool
from sqlalchemy.ext.asyncio import create_async_engine

from tests.clusters.history import Outcome
from tests.clusters.workload import Workload, assert_nothing_is_left, stored
from tests.fixtures.clusters.replicated import Cluster
from tests.fixtures.observer import Observer
from unitwork import Database

pytestmark = [
    pytest.mark.only("postgresql", "mariadb", reason="SQLite has no servers"),
    pytest.mark.timeout(180),
]

CLIENTS = 100
POOL: Any = {"pool_size": 25, "max_overflow": 0, "pool_timeout": 60}
FAILOVER_S = 30.0


async def final(url: URL) -> dict[str, list[str]]:
    """What each key holds in the end, seen past unitwork."""
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        return await stored(Observer(engine))
    finally:
        await engine.dispose()


async def test_replicas_that_fall_behind_and_catch_up(cluster: Cluster) -> None:
    """Replicas stop and go at random; each client sees its own writes, and never less than before."""
    async with cluster.database(replica_wait_s=0.05, **POOL) as db:
        workload = Workload(db, seed=1)
        await workload.prepare()
        cluster.settle()
        over = asyncio.Event()

        async def trouble() -> None:
            chosen = random.Random(1)  # noqa: S311 - to be repeated
            while not over.is_set():
                number = chosen.randrange(2)
                await asyncio.to_thread(cluster.servers.replicas[number].pause)
                await asyncio.sleep(chosen.random() / 2)
                await asyncio.to_thread(cluster.servers.replicas[number].resume)

        troubling = asyncio.create_task(trouble())
        await workload.run(CLIENTS, 1_000)
        over.set()
        await troubling

        assert workload.check(await final(cluster.primary)) == []
        assert not workload.failures
        await assert_nothing_is_left(db)


def primary_and_replicas(cluster: Cluster) -> Database:
    """The primary by itself, and where reads may go."""
    return cluster.database(failover_s=FAILOVER_S, **POOL)


def all_addresses(cluster: Cluster) -> Database:
    """All servers, of which whoever is the primary takes writes and reads."""
    return Database(urls=[*cluster.replicas, cluster.primary], failover_s=FAILOVER_S, **POOL)


def all_addresses_with_replicas(cluster: Cluster) -> Database:
    """All servers, each of which may be the primary, and each a replica."""
    urls = [cluster.primary, *cluster.replicas]
    return Database(urls=urls, replicas=urls, failover_s=FAILOVER_S, **POOL)


def one_url(cluster: Cluster) -> Database:
    """One URL that names all."""
    hosts = [f"{url.host}:{url.port}" for url in (cluster.primary, *cluster.replicas)]
    url = cluster.primary.set(host=None, port=None, query={"host": hosts})
    return Database(url, failover_s=FAILOVER_S, **POOL)


@pytest.fixture
async def failing_over(request: pytest.FixtureRequest, mortal_cluster: Cluster) -> AsyncIterator[Database]:
    """A Database whose primary may end, given in the way of the parameter."""
    way: Callable[[Cluster], Database] = request.param
    async with way(mortal_cluster) as db:
        yield db


def given(*ways: Callable[[Cluster], Database]) -> pytest.MarkDecorator:
    """Run the test with the servers given in each of these ways."""
    return pytest.mark.parametrize("failing_over", ways, indirect=True, ids=[way.__name__ for way in ways])


async def under_load(db: Database, cluster: Cluster, fail_over: Callable[[], object]) -> Workload:
    """Let clients work before, while and after the primary changes."""
    workload = Workload(db, seed=2)
    await workload.prepare()
    cluster.servers.acknowledge()
    cluster.settle()
    running = asyncio.create_task(workload.run(CLIENTS, 500))
    while len(workload.history) < 150 and not running.done():  # noqa: ASYNC110 - somewhere in the middle
        await asyncio.sleep(0.01)
    await asyncio.to_thread(fail_over)
    await running
    # What follows is work on the new primary alone, whatever was left over of the old one.
    await workload.run(CLIENTS, 150)
    acknowledged = [each for each in workload.history.writes[-20:] if each.outcome is Outcome.ACKNOWLEDGED]
    assert acknowledged
    again = [each for each in workload.failures if each.startswith("_add_again")]
    assert not again, f"a block that is tried again failed for good: {again}"
    return workload


@given(primary_and_replicas, all_addresses, all_addresses_with_replicas, one_url)
async def test_primary_that_crashes_under_load(failing_over: Database, mortal_cluster: Cluster) -> None:
    """Killed, and a standby promoted: clients go on there; what failed is told as failed."""
    workload = await under_load(failing_over, mortal_cluster, mortal_cluster.servers.fail_over)

    assert workload.check(await final(mortal_cluster.primary)) == []
    await assert_nothing_is_left(failing_over)


# Without replicas nobody asks a server that hangs: see the docs.
@given(primary_and_replicas, all_addresses_with_replicas)
async def test_primary_that_hangs_under_load(failing_over: Database, mortal_cluster: Cluster) -> None:
    """It keeps its connections and answers nobody: others go on at the standby that is promoted."""
    servers = mortal_cluster.servers
    former = servers.primary
    workload: list[Workload] = []

    def hang() -> None:
        former.freeze()
        servers.take_over()

    try:
        workload.append(await under_load(failing_over, mortal_cluster, hang))
    finally:
        former.thaw()
        former.crash()

    assert workload[0].check(await final(mortal_cluster.primary)) == []
    await assert_nothing_is_left(failing_over)


@given(all_addresses_with_replicas, one_url)
async def test_primary_that_is_stopped_under_load(failing_over: Database, mortal_cluster: Cluster) -> None:
    """It ends in an orderly way, as for maintenance, and comes back as a replica."""
    servers = mortal_cluster.servers

    def switch() -> None:
        servers.primary.stop()
        servers.take_over()
        servers.rejoin()

    workload = await under_load(failing_over, mortal_cluster, switch)

    assert workload.check(await final(mortal_cluster.primary)) == []
    await assert_nothing_is_left(failing_over)


@given(all_addresses_with_replicas, all_addresses)
async def test_primary_that_crashes_twice_under_load(failing_over: Database, mortal_cluster: Cluster) -> None:
    """Each time another standby takes over; the former primary has come back as a standby meanwhile."""
    servers = mortal_cluster.servers

    def fail_over_twice() -> None:
        servers.fail_over()
        servers.rejoin()
        servers.acknowledge()
        servers.fail_over()

    workload = await under_load(failing_over, mortal_cluster, fail_over_twice)

    assert workload.check(await final(mortal_cluster.primary)) == []
    await assert_nothing_is_left(failing_over)
