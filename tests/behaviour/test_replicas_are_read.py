"""Reads outside of transactions and read-only blocks go to a replica, everything else to the primary."""

# mypy: disable-error-code="empty-body"

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import event, insert, select, text
from sqlalchemy.exc import DBAPIError

from tests.fixtures.clusters.replicated import Cluster, Here
from tests.fixtures.models import Account, Audit
from unitwork import Database, Propagation, Repository, TransactionRefusedError, query
from unitwork.options import Lane

pytestmark = pytest.mark.only("postgresql", "mariadb", reason="SQLite has no servers")

TASKS = 40


class Places(Repository[Here]):
    @query("id = :key")
    async def at(self, key: int) -> Here: ...

    @query.sql("SELECT port FROM here WHERE id = :key")
    async def port_at(self, key: int) -> int: ...

    @query
    async def by(self, *, id: int) -> list[Here]: ...  # noqa: A002 - an attribute

    @query("id > :key")
    def after(self, key: int) -> AsyncIterator[Here]: ...


async def get(places: Places) -> int:
    """By key."""
    return (await places.get_one(1)).port


async def text_query(places: Places) -> int:
    """By a declared query of text."""
    return (await places.at(1)).port


async def sql_query(places: Places) -> int:
    """By a declared query of SQL."""
    return await places.port_at(1)


async def derived_query(places: Places) -> int:
    """By a declared query that is derived."""
    return (await places.by(id=1))[0].port


async def fluent(places: Places) -> int:
    """By a query that is made on the spot."""
    return (await places.where(Here.id == 1).one()).port


async def stream(places: Places) -> int:
    """Row by row."""
    ports = [each.port async for each in places.after(0)]
    return ports[0]


READS: list[Callable[[Places], Awaitable[int]]] = [get, text_query, sql_query, derived_query, fluent, stream]


@pytest.mark.every_lane
@pytest.mark.parametrize("read", READS, ids=[each.__name__ for each in READS])
async def test_read_goes_to_a_replica(
    far: Database, cluster: Cluster, lane: Lane, read: Callable[[Places], Awaitable[int]]
) -> None:
    """Each way of reading: outside of blocks, in a read-only block, and in a unit that has not written."""
    places = Places(far)

    alone = await read(places)
    async with far.transaction(read_only=True):
        in_block = await read(places)
    async with far.unit_of_work():
        in_unit = await read(places)

    assert {alone, in_block, in_unit} <= cluster.replica_ports


@pytest.mark.every_lane
@pytest.mark.parametrize("read", READS, ids=[each.__name__ for each in READS])
async def test_read_goes_to_the_primary_where_it_has_to(
    far: Database, cluster: Cluster, lane: Lane, read: Callable[[Places], Awaitable[int]]
) -> None:
    """Each way of reading: in a block that may write, in a fresh one, and where the primary is asked for."""
    places = Places(far)

    async with far.transaction():
        in_block = await read(places)
    async with far.transaction(read_only=True, fresh=True):
        in_fresh_block = await read(places)
    with far.primary():
        asked_for = await read(places)
    async with far.unit_of_work():
        await Repository[Audit](far).add(Audit(note="one"))
        in_unit = await read(places)

    assert [in_block, in_fresh_block, asked_for, in_unit] == [cluster.primary.port] * 4


async def test_primary_is_asked_for_no_longer_than_the_block(far: Database, cluster: Cluster) -> None:
    """`with db.primary():` ends with its block, in its own task; the inner of two leaves the outer alone."""
    places = Places(far)

    with far.primary():
        async with far.primary():
            assert await get(places) == cluster.primary.port
        assert await get(places) == cluster.primary.port
        async with far.transaction(read_only=True):
            assert await get(places) == cluster.primary.port

    assert await get(places) in cluster.replica_ports


async def test_writes_go_to_the_primary(far: Database, cluster: Cluster) -> None:
    """Alone, in bulk, in blocks, by hand in a unit, by a session of one's own."""
    audits = Repository[Audit](far)
    await audits.add(Audit(note="alone"))
    await audits.bulk_insert([{"note": "bulk"}])
    async with far.transaction() as session:
        session.add(Audit(note="block"))
    async with far.unit_of_work():
        far.session.add(Audit(note="by hand"))
        await far.commit()
    async with far.session_factory() as own:
        own.add(Audit(note="own"))
        await own.commit()
    cluster.settle()

    notes = sorted(["alone", "block", "bulk", "by hand", "own"])
    assert sorted(each.note for each in await audits.all()) == notes


async def test_one_block_sees_one_server(far: Database) -> None:
    """However many blocks run at once, each keeps the server that it began with."""
    places = Places(far)

    async def several(number: int) -> set[int]:
        async with far.transaction(read_only=bool(number % 3)) as session:
            found = {await get(places), await sql_query(places)}
            await asyncio.sleep(0)
            found.add((await session.scalars(select(Here.port))).one())
            async with far.transaction(
                propagation=Propagation.NESTED if not number % 3 else Propagation.REQUIRED
            ):
                found.add(await fluent(places))
            return found | {await stream(places)}

    seen = await asyncio.gather(*(several(number) for number in range(TASKS)))

    assert {len(each) for each in seen} == {1}


async def test_reads_are_shared_by_all_replicas(far: Database, cluster: Cluster) -> None:
    """Many at once do not all go to one of them, and none to the primary."""
    places = Places(far)

    async def read() -> int:
        async with far.transaction(read_only=True) as session:
            return (await session.scalars(select(Here.port))).one()

    ports = await asyncio.gather(*(read() for _ in range(TASKS)), *(get(places) for _ in range(TASKS)))

    assert set(ports) == cluster.replica_ports


async def test_read_only_block_refuses_writes_on_a_replica(far: Database, cluster: Cluster) -> None:
    """As on the primary, by the same error; text that the session cannot read, the replica itself refuses."""
    async with far.transaction(read_only=True) as session:
        with pytest.raises(TransactionRefusedError):
            await session.execute(insert(Audit).values(note="refused"))

    async with far.transaction(read_only=True) as session:
        assert (await session.execute(text("SELECT port FROM here"))).scalar_one() in cluster.replica_ports


async def test_new_transaction_inside_of_a_read_goes_to_the_primary(far: Database, cluster: Cluster) -> None:
    """The block on the replica goes on where it was."""
    places = Places(far)
    async with far.transaction(read_only=True):
        before = await get(places)
        async with far.transaction(propagation=Propagation.REQUIRES_NEW) as session:
            session.add(Audit(note="written"))
            inner = await get(places)
        after = await get(places)

    assert inner == cluster.primary.port
    assert before == after
    assert before in cluster.replica_ports


async def test_row_locks_go_to_the_primary(far: Database, cluster: Cluster) -> None:
    """A read that locks begins a transaction that may write."""
    accounts = Repository[Account](far)
    await accounts.add(Account(name="ann"))

    async with far.unit_of_work():
        await far.session.scalars(select(Account).with_for_update())
        port = await get(Places(far))

    assert port == cluster.primary.port


async def test_reads_go_on_when_a_replica_ends(far: Database, cluster: Cluster) -> None:
    """The other one answers; when both are gone, the primary. What was on its way fails once, at most."""
    places = Places(far)
    await asyncio.gather(*(get(places) for _ in range(TASKS)))

    cluster.servers.replicas[0].crash()
    await asyncio.gather(*(get(places) for _ in range(TASKS)), return_exceptions=True)
    assert set(await asyncio.gather(*(get(places) for _ in range(TASKS)))) == {cluster.replicas[1].port}
    cluster.servers.replicas[1].crash()
    await asyncio.gather(*(get(places) for _ in range(TASKS)), return_exceptions=True)
    assert set(await asyncio.gather(*(get(places) for _ in range(TASKS)))) == {cluster.primary.port}


async def test_reads_come_back_to_a_replica_that_comes_back(far: Database, cluster: Cluster) -> None:
    """It is asked again, without anybody's doing."""
    places = Places(far)
    cluster.servers.replicas[0].stop()
    cluster.servers.replicas[1].stop()
    assert await get(places) == cluster.primary.port

    cluster.servers.replicas[0].start()
    async with asyncio.timeout(20):
        while await get(places) == cluster.primary.port:  # noqa: ASYNC110 - a server has no event
            await asyncio.sleep(0.05)

    assert await get(places) == cluster.replicas[0].port


@pytest.mark.timeout(60)
async def test_frozen_replica_is_left_alone(far: Database, cluster: Cluster) -> None:
    """One that keeps its connections and answers nobody gets no reads once that is known."""
    places = Places(far)
    await asyncio.gather(*(get(places) for _ in range(TASKS)))
    cluster.servers.replicas[0].freeze()
    try:
        ports: list[int] = []
        async with asyncio.timeout(40):
            while len(ports) < TASKS:
                try:
                    async with asyncio.timeout(1):
                        ports.append(await get(places))
                except TimeoutError:
                    ports.clear()
    finally:
        cluster.servers.replicas[0].thaw()

    assert cluster.replicas[0].port not in ports


@pytest.mark.timeout(60)
async def test_what_reads_on_a_replica_that_freezes_ends(far: Database, cluster: Cluster) -> None:
    """It has no time limit, and hears of the lost connection once others know that the replica is silent."""

    async def read_on() -> None:
        async with far.transaction(read_only=True) as session:
            port = (await session.scalars(select(Here.port))).one()
            frozen = cluster.servers.replicas[[url.port for url in cluster.replicas].index(port)]
            frozen.freeze()
            try:
                await session.scalars(select(Here.port))
            finally:
                frozen.thaw()

    with pytest.raises(DBAPIError):
        await read_on()
    assert await get(Places(far)) in cluster.replica_ports


async def test_no_read_fails_while_connections_end(far: Database, cluster: Cluster) -> None:
    """In mid-read or before it, alone or in a unit: another server answers, or the same one again."""
    places = Places(far)
    ended = asyncio.Event()

    async def read() -> None:
        while not ended.is_set():
            await get(places)
            await text_query(places)
            await fluent(places)
            async with far.unit_of_work():
                await derived_query(places)

    readers = [asyncio.create_task(read()) for _ in range(4)]
    for _ in range(10):
        for replica in cluster.servers.replicas:
            await asyncio.to_thread(replica.end_connections)
        await far.ping()
    ended.set()
    await asyncio.gather(*readers)


async def test_listeners_to_the_engine_hear_of_replicas(cluster: Cluster) -> None:
    """What they set on a connection, they set on those of all servers."""
    heard: list[str] = []
    async with cluster.database() as db:
        for name in ("do_connect", "connect", "checkout"):
            event.listen(db.engine.sync_engine, name, lambda *_, of=name: heard.append(of))
        async with db.transaction(read_only=True) as session:
            port = await session.scalar(select(Here.port))

    assert port in cluster.replica_ports
    assert heard[-3:] == ["do_connect", "connect", "checkout"]
