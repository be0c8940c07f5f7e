"""Servers that cannot be what they are given as are refused, and what is down is told."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError

from tests.fixtures.clusters.mariadb import USER
from tests.fixtures.clusters.replicated import GENEROUS_S, Cluster, Here
from tests.fixtures.models import TABLES, Audit
from tests.fixtures.private_servers import LentServer
from unitwork import Database, OptionError, ReplicaError, Repository

ON_SERVERS = pytest.mark.only("postgresql", "mariadb", reason="SQLite has no servers")
PG = "postgresql+asyncpg://app:secret@{}/shop"


async def port_of_read(db: Database) -> int:
    """Which server answers a read outside of transactions."""
    return (await Repository[Here](db).get_one(1)).port


# -- what is refused before anything is sent ------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "options"),
    [
        ("replicas", {"url": PG.format("one"), "replicas": [PG.format("two"), PG.format("two")]}),
        ("replicas", {"url": PG.format("one"), "replicas": [PG.format("one")]}),
        ("replicas", {"url": PG.format("one"), "replicas": [PG.format("two:5432"), PG.format("two")]}),
        ("urls", {"urls": [PG.format("one"), PG.format("two"), PG.format("one")]}),
        ("urls", {"urls": [PG.format("one"), PG.format("one:5432")]}),
        ("url", {"url": PG.format("one"), "urls": [PG.format("two")]}),
        ("url", {}),
        ("replicas", {"url": "sqlite+aiosqlite://", "replicas": ["sqlite+aiosqlite:///other.db"]}),
        ("urls", {"urls": ["sqlite+aiosqlite:///one.db", "sqlite+aiosqlite:///two.db"]}),
        ("replicas", {"url": PG.format("one"), "replicas": ["mysql+asyncmy://app@two/shop"]}),
        ("replicas", {"url": PG.format("one"), "replicas": ["postgresql+psycopg://app@two/shop"]}),
        ("replica_wait_s", {"url": PG.format("one"), "replica_wait_s": -1}),
        ("max_lag_s", {"url": PG.format("one"), "max_lag_s": -0.1}),
        ("failover_s", {"url": PG.format("one"), "failover_s": float("nan")}),
    ],
)
def test_servers_that_cannot_be_meant_are_refused(option: str, options: dict[str, object]) -> None:
    """When the Database is made, by the name of the option, and without the password."""
    with pytest.raises(OptionError, match=option) as caught:
        Database(**options)  # type: ignore[arg-type]  # what nobody would write

    assert "secret" not in str(caught.value)


# -- what only the servers can tell ------------------------------------------------------------------


@pytest.fixture
def stranger(
    cluster: Cluster,
    private_postgresql: Callable[[], LentServer],
    private_mariadb: Callable[[], LentServer],
) -> LentServer:
    """A server of another cluster, with the same tables."""
    if cluster.primary.get_backend_name() == "postgresql":
        server = private_postgresql()
        with server.administrator() as connection:
            for table in TABLES:
                table.create(connection)
        return server
    server = private_mariadb()
    server.tell(
        "CREATE DATABASE app", f"CREATE USER {USER}@'127.0.0.1'", f"GRANT ALL ON app.* TO {USER}@'127.0.0.1'"
    )
    with server.administrator() as connection:
        connection.exec_driver_sql("USE app")
        for table in TABLES:
            table.create(connection)
    return server


def at(server: LentServer, like: URL) -> URL:
    """The address of a server, with the rest as there."""
    return like.set(port=server.process.port)


@ON_SERVERS
async def test_server_of_another_cluster_is_no_replica(cluster: Cluster, stranger: LentServer) -> None:
    """Refused at the first read, by its address, without user and password."""
    url = at(stranger, cluster.primary)
    async with cluster.database(replicas=[url, *cluster.replicas]) as db:
        with pytest.raises(ReplicaError) as caught:
            await Repository[Audit](db).all()

    assert f"{url.host}:{url.port}" in str(caught.value)
    assert f"{url.username}@" not in str(caught.value)
    assert "secret" not in repr(db)


@pytest.mark.only("mariadb", reason="a server of PostgreSQL that follows nobody takes writes")
async def test_server_that_follows_nobody_is_no_replica(cluster: Cluster, stranger: LentServer) -> None:
    """It takes no writes, and has none of the primary's: nothing is ever read from it."""
    stranger.tell("SET GLOBAL read_only = ON")
    stranger.tell("INSERT INTO app.audit (note) VALUES ('foreign')")
    url = at(stranger, cluster.primary)
    async with cluster.database(replicas=[url], replica_wait_s=0.1) as db:
        try:
            seen = [await Repository[Audit](db).all() for _ in range(5)]
        except ReplicaError as error:
            assert f"{url.host}:{url.port}" in str(error)  # noqa: PT017 - the other good outcome
        else:
            assert seen == [[]] * 5


@ON_SERVERS
async def test_server_that_takes_writes_is_no_replica(mortal_cluster: Cluster) -> None:
    """One that was promoted beside the primary would be written to by somebody, and missed by all."""
    cluster = mortal_cluster
    former = cluster.primary
    cluster.promote(0)
    async with Database(former, replicas=[cluster.primary]) as db:
        with pytest.raises(ReplicaError, match="takes writes"):
            await Repository[Audit](db).all()


@ON_SERVERS
async def test_former_primary_that_takes_writes_still_is_left_out(mortal_cluster: Cluster) -> None:
    """It is named in both lists; whoever writes reads from the others."""
    cluster = mortal_cluster
    former = cluster.primary
    cluster.servers.promote(cluster.servers.replicas[0])  # type: ignore[arg-type]  # each has servers of its own kind
    everywhere = [cluster.primary, former, *cluster.replicas]
    async with Database(urls=everywhere, replicas=everywhere, replica_wait_s=20) as db:
        await Repository[Audit](db).add(Audit(note="new"))
        ports = {await port_of_read(db) for _ in range(5)}

        assert former.port not in ports
        assert [audit.note for audit in await Repository[Audit](db).all()] == ["new"]


@ON_SERVERS
async def test_replica_that_is_not_there_is_told_and_left_out(cluster: Cluster) -> None:
    """Nobody listens there, or it has no such database: the primary answers, and `ping` says why."""
    nowhere = cluster.primary.set(port=1)
    without = cluster.replicas[0].set(database="nothing_like_it")
    async with cluster.database(replicas=[nowhere, without]) as db:
        assert await port_of_read(db) == cluster.primary.port
        async with db.transaction(read_only=True):
            assert await port_of_read(db) == cluster.primary.port


@ON_SERVERS
async def test_no_server_takes_writes(cluster: Cluster) -> None:
    """The error of the driver, after `failover_s`, with what each server has answered; reads go on."""
    async with Database(urls=cluster.replicas, replicas=cluster.replicas, failover_s=0.5) as db:
        with pytest.raises(DBAPIError) as caught:
            async with asyncio.timeout(GENEROUS_S), db.transaction() as session:
                session.add(Audit(note="refused"))

    notes = "\n".join(caught.value.__notes__)
    assert all(f"{url.host}:{url.port}" in notes for url in cluster.replicas)


@ON_SERVERS
async def test_pool_of_each_server_is_limited_alike(cluster: Cluster) -> None:
    """`pool_size` is that of each server; a Database of several in little holds no more."""
    async with cluster.database(pool_size=2, max_overflow=0, pool_timeout=GENEROUS_S) as db:

        async def work(number: int) -> object:
            async with db.transaction(read_only=bool(number % 2)) as session:
                return await session.scalar(text("SELECT port FROM here"))

        ports = await asyncio.gather(*(work(number) for number in range(40)))

    assert set(ports) == {cluster.primary.port, *cluster.replica_ports}


@ON_SERVERS
async def test_url_of_several_hosts_finds_the_primary(cluster: Cluster) -> None:
    """In any order of the hosts, in each form of writing them."""
    places = [*cluster.replicas, cluster.primary]
    together = {"host": [f"{url.host}:{url.port}" for url in places]}
    apart = {
        "host": ",".join(f"{url.host}" for url in places),
        "port": ",".join(f"{url.port}" for url in places),
    }
    for query in (together, apart):
        async with Database(cluster.primary.set(host=None, port=None, query=query)) as db:
            async with db.transaction() as session:
                assert await session.scalar(text("SELECT port FROM here")) == cluster.primary.port
            assert await port_of_read(db) == cluster.primary.port


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("host=[::1]:1&host=[::1]:2", ["::1:1", "::1:2"]),
        ("host=::1,localhost&port=1,2", ["::1:1", "localhost:2"]),
        ("host=localhost,127.0.0.1&port=1", ["localhost:1", "127.0.0.1:1"]),
    ],
)
@ON_SERVERS
async def test_hosts_are_read_as_the_tools_of_postgresql_read_them(query: str, names: list[str]) -> None:
    """With addresses of IPv6, and one port for all."""
    async with Database(f"postgresql+asyncpg://app@/shop?{query}", failover_s=0.1) as db:
        with pytest.raises(OSError) as raised:  # noqa: PT011  # which one depends on the machine
            await Repository[Audit](db).all()

    for name in names:
        assert f"{name}: " in str(raised.value.__notes__)
