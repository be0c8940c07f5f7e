"""The private MariaDB clusters do what the tests of replicas need of them."""

from collections.abc import Callable

import pytest
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import OperationalError

from tests.fixtures.clusters.mariadb import MariadbReplication
from tests.fixtures.models import TABLES

pytestmark = pytest.mark.only("mariadb", reason="it is about a cluster of MariaDB")

COUNT = "SELECT count(*) FROM app.audit"


def write(cluster: MariadbReplication, note: str) -> None:
    """Commit one row on the primary."""
    cluster.primary.tell(f"INSERT INTO app.audit (note) VALUES ('{note}')")


def test_paused_replica_is_stale_until_it_resumes(
    private_mariadb_replication: Callable[..., MariadbReplication],
) -> None:
    """Rows arrive on every replica, but on one that is paused; programs cannot write there."""
    cluster = private_mariadb_replication()
    cluster.create(TABLES)
    held = cluster.replicas[0]
    held.pause()
    write(cluster, "one")
    cluster.catch_up(1)

    assert [replica.ask(COUNT) for replica in cluster.replicas] == [0, 1]
    held.resume()
    cluster.catch_up()
    assert held.ask(COUNT) == 1
    engine = create_engine(cluster.replica_urls("mysql+pymysql")[0], poolclass=NullPool)
    with pytest.raises(OperationalError, match="read-only"), engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO audit (note) VALUES ('refused')")


def test_replica_follows_the_promoted_one(
    private_mariadb_replication: Callable[..., MariadbReplication],
) -> None:
    """After a crash the most advanced replica has every acknowledged row, the other goes on from it."""
    cluster = private_mariadb_replication()
    cluster.create(TABLES)
    cluster.acknowledge()
    cluster.replicas[0].pause()
    write(cluster, "before")
    cluster.fail_over()
    write(cluster, "after")
    cluster.catch_up()

    assert [server.ask(COUNT) for server in (cluster.primary, *cluster.replicas)] == [2, 2]
    cluster.rejoin()
    write(cluster, "again")
    cluster.catch_up()
    assert [replica.ask(COUNT) for replica in cluster.replicas] == [3, 3]


def test_servers_stop_start_crash_and_freeze(
    private_mariadb_replication: Callable[..., MariadbReplication],
) -> None:
    """Each server by itself, keeping its data and its address."""
    cluster = private_mariadb_replication(replicas=1)
    cluster.create(TABLES)
    (replica,) = cluster.replicas
    replica.stop()
    write(cluster, "one")
    with pytest.raises(OperationalError):
        replica.ask(COUNT)
    replica.start()
    cluster.catch_up()
    replica.freeze()
    write(cluster, "two")
    replica.thaw()
    cluster.catch_up()

    assert [server.ask(COUNT) for server in (cluster.primary, replica)] == [2, 2]
