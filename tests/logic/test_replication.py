"""What a server answers is read as its part in a cluster, and how far it has come."""

import pytest

from unitwork._logic.positions import Position
from unitwork.dialects.replication import MariaDBReplication, PostgreSQLReplication

PAGES = (8_192, 16 * 2**20, None)
"""Bytes of a page, and of a file, of the log of PostgreSQL; and no time."""
GALERA = "WSREP_CLUSTER_STATE_UUID=abc,WSREP_LAST_COMMITTED=812,WSREP_LOCAL_STATE={state},WSREP_READY={ready}"


def test_standby_of_postgresql_has_replayed_a_part_of_the_log() -> None:
    """Standby of postgresql has replayed a part of the log."""
    state = PostgreSQLReplication().state_of((True, "67140352", "7714", *PAGES))

    assert not state.writable
    assert state.position == Position.of({"7714": 67140352})


def test_standby_that_has_replayed_nothing_is_at_the_beginning() -> None:
    """Standby that has replayed nothing is at the beginning."""
    assert PostgreSQLReplication().state_of((True, None, "7714", *PAGES)).position == Position.of({"7714": 0})


@pytest.mark.parametrize(
    ("written", "ends"),
    [
        (0x6000028, 0x6000000),  # the header of a file
        (0x6002018, 0x6002000),  # the header of a page
        (0x6002028, 0x6002028),  # a record that goes on behind the header of a page
        (0x6000030, 0x6000030),
    ],
)
def test_nothing_is_written_behind_the_header_of_a_page(written: int, ends: int) -> None:
    """An idle primary that has begun a new file says so; no replica ever replays its header."""
    state = PostgreSQLReplication().state_of((False, str(written), "7714", *PAGES))

    assert state.position == Position.of({"7714": ends})


def test_primary_of_mariadb_knows_who_has_written() -> None:
    """Primary of mariadb knows who has written."""
    primary = MariaDBReplication().state_of((0, "0-2-60,1-1-9", "0-1-50", "0-1-50,0-2-60,1-1-9", 0, ""))

    assert primary.writable
    assert primary.position == Position.of({"0": 60, "1": 9})
    assert primary.origins == {"0-1", "0-2", "1-1"}


def test_replica_of_mariadb_follows_the_primary_whose_changes_it_has() -> None:
    """Replica of mariadb follows the primary whose changes it has."""
    mariadb = MariaDBReplication()
    primary = mariadb.state_of((0, "0-1-60", "", "0-1-60", 0, None))

    assert mariadb.state_of((1, "0-1-57", "0-1-57", "", 0, None)).follows(primary)
    assert mariadb.state_of((1, "", "", "", 0, None)).follows(primary)
    assert not mariadb.state_of((1, "0-9-57", "0-9-57", "", 0, None)).follows(primary)


def test_node_of_galera_takes_writes_as_long_as_it_is_synced() -> None:
    """Node of galera takes writes as long as it is synced."""
    mariadb = MariaDBReplication()
    synced = mariadb.state_of((0, "", "", "", 1, GALERA.format(state=4, ready="ON")))
    donor = mariadb.state_of((0, "", "", "", 1, GALERA.format(state=2, ready="ON")))
    apart = mariadb.state_of((0, "", "", "", 1, GALERA.format(state=4, ready="OFF")))

    assert (synced.writable, donor.writable, apart.writable) == (True, False, False)
    assert (synced.equals, synced.position) == (True, Position.of({"abc": 812}))


def test_server_of_another_cluster_never_becomes_its_primary() -> None:
    """Server of another cluster never becomes its primary."""
    postgresql = PostgreSQLReplication()
    ours = postgresql.state_of((False, "5", "7714", *PAGES))

    assert postgresql.state_of((False, "9", "7714", *PAGES)).may_succeed(ours.origins)
    assert not postgresql.state_of((False, "9", "8800", *PAGES)).may_succeed(ours.origins)
