"""The private PostgreSQL clusters do what the tests of replicas need of them."""

from collections.abc import Callable

import pytest
from sqlalchemy.exc import OperationalError

from tests.fixtures.clusters.postgresql import Replication
from tests.fixtures.models import TABLES

pytestmark = pytest.mark.only("postgresql", reason="it is about a cluster of PostgreSQL")

COUNT = "SELECT count(*) FROM audit"


def write(cluster: Replication, note: str) -> None:
    """Commit one row on the primary."""
    cluster.primary.tell(f"INSERT INTO audit (note) VALUES ('{note}')")


def test_paused_standby_is_stale_until_it_resumes(private_replication: Callable[..., Replication]) -> None:
    """Rows arrive on every standby, but on one that is paused."""
    cluster = private_replication()
    cluster.create(TABLES)
    held = cluster.replicas[0]
    held.pause()
    write(cluster, "one")
    cluster.catch_up(1)

    assert [standby.ask(COUNT) for standby in cluster.replicas] == [0, 1]
    held.resume()
    cluster.catch_up()
    assert held.ask(COUNT) == 1


def test_standby_follows_the_promoted_one(private_replication: Callable[..., Replication]) -> None:
    """After a crash the most advanced standby has every acknowledged row, the other goes on from it."""
    cluster = private_replication()
    cluster.create(TABLES)
    cluster.acknowledge(1)
    cluster.replicas[0].pause()
    write(cluster, "before")
    cluster.fail_over()
    write(cluster, "after")
    cluster.replicas[0].resume()
    cluster.catch_up()

    assert [server.ask(COUNT) for server in (cluster.primary, *cluster.replicas)] == [2, 2]
    cluster.rejoin()
    write(cluster, "again")
    cluster.catch_up()
    assert [standby.ask(COUNT) for standby in cluster.replicas] == [3, 3]
    assert {standby.ask("SELECT pg_is_in_recovery()") for standby in cluster.replicas} == {True}


def test_commit_waits_for_the_standbys_that_are_asked_for(
    private_replication: Callable[..., Replication],
) -> None:
    """What is acknowledged is seen on so many standbys at once."""
    cluster = private_replication()
    cluster.create(TABLES)
    cluster.acknowledge(2)

    for number in range(20):
        write(cluster, f"{number}")
        assert [standby.ask(COUNT) for standby in cluster.replicas] == [number + 1] * 2


def test_servers_stop_start_crash_and_freeze(private_replication: Callable[..., Replication]) -> None:
    """Each server by itself, keeping its data and its address."""
    cluster = private_replication(standbys=1)
    cluster.create(TABLES)
    (standby,) = cluster.replicas
    standby.stop()
    write(cluster, "one")
    with pytest.raises(OperationalError):
        standby.ask(COUNT)
    standby.start()
    cluster.catch_up()
    cluster.primary.crash()
    with pytest.raises(OperationalError):
        cluster.primary.ask(COUNT)
    cluster.primary.start()
    write(cluster, "two")
    standby.freeze()
    write(cluster, "three")
    standby.thaw()
    cluster.catch_up()

    assert [server.ask(COUNT) for server in (cluster.primary, standby)] == [3, 3]
