"""The private Galera clusters do what the tests of nodes need of them."""

from collections.abc import Callable

import pytest
from sqlalchemy.exc import OperationalError

from tests.fixtures.clusters.galera import Galera
from tests.fixtures.models import TABLES

pytestmark = pytest.mark.only("mariadb", reason="it is about a cluster of MariaDB")

COUNT = "SELECT count(*) FROM app.audit"
SYNCED_COUNT = f"SET STATEMENT wsrep_sync_wait = 1 FOR {COUNT}"


@pytest.mark.timeout(120)
def test_killed_node_leaves_two(private_galera: Callable[..., Galera]) -> None:
    """Rows arrive on every node; two go on without the third, which comes back with all of them."""
    cluster = private_galera()
    cluster.create(TABLES)
    first, second, third = cluster.nodes
    first.tell("INSERT INTO app.audit (note) VALUES ('one')")
    second.tell("INSERT INTO app.audit (note) VALUES ('two')")

    assert [node.ask(SYNCED_COUNT) for node in cluster.nodes] == [2, 2, 2]
    cluster.kill(third)
    with pytest.raises(OperationalError):
        third.ask(COUNT)
    first.tell("INSERT INTO app.audit (note) VALUES ('three')")
    cluster.wait_until_agreed()
    assert second.ask(SYNCED_COUNT) == 3
    cluster.start(third)
    assert third.ask(SYNCED_COUNT) == 3


@pytest.mark.timeout(120)
def test_cluster_is_lent_whole_and_empty(private_galera: Callable[..., Galera]) -> None:
    """Whatever a test has done, the next one finds all nodes and no table."""
    cluster = private_galera()
    cluster.create(TABLES)
    cluster.stop(cluster.nodes[1])
    cluster.nodes[2].freeze()

    cluster = private_galera()

    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'app'"
    assert [node.ask(tables) for node in cluster.nodes] == [0, 0, 0]
    assert cluster.nodes[0].ask("SHOW STATUS LIKE 'wsrep_cluster_size'") is not None
