"""This module asks a server which part it has in a cluster, and how far it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from typing_extensions import override

from unitwork._logic.positions import Position

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_OFF = frozenset({"0", "OFF"})
_SYNCED = "4"
# Bytes that the log of PostgreSQL begins each page with, and each of its files.
_HEADER = 24
_LONG_HEADER = 40


class ServerState(NamedTuple):
    """What a server says of itself.

    Attributes:
        writable: It takes writes.
        origins: Whose changes it has: clusters, or the servers that have made them.
        position: How far it has come: what it has written, or what it has replayed.
        ready: It takes statements.
        replayed_s: How many seconds ago, on the primary, what it has replayed last was committed; None if it
            does not say.
        equals: All servers of its cluster may take writes, as with Galera.
    """

    writable: bool
    origins: frozenset[str]
    position: Position
    replayed_s: float | None = None
    ready: bool = True
    equals: bool = False

    def may_succeed(self, origins: frozenset[str]) -> bool:
        """Say whether it has changes of a cluster, so that it may become its primary."""
        return not origins or not self.origins or bool(origins & self.origins)

    def follows(self, primary: ServerState) -> bool:
        """Say whether all that it has comes from there."""
        return self.origins <= primary.origins


class Replication:
    """How servers of one kind of database are asked. Each question is one statement, and changes nothing."""

    question = ""

    def state_of(self, row: Sequence[Any]) -> ServerState:
        """Return what a server has answered."""
        raise NotImplementedError


class PostgreSQLReplication(Replication):
    """PostgreSQL's streaming replication: a byte in the log of a cluster says how far one has come."""

    question = (
        "SELECT pg_is_in_recovery(),"
        " (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
        " ELSE pg_current_wal_insert_lsn() END - '0/0'::pg_lsn)::text,"
        " (SELECT system_identifier::text FROM pg_control_system()),"
        " current_setting('wal_block_size')::int, pg_size_bytes(current_setting('wal_segment_size')),"
        " extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float"
    )

    @override
    def state_of(self, row: Sequence[Any]) -> ServerState:
        in_recovery, written, cluster, page, segment, replayed_s = row
        return ServerState(
            writable=not in_recovery,
            origins=frozenset({cluster}),
            position=Position.of({cluster: _without_header(int(written or 0), page, segment)}),
            replayed_s=replayed_s,
        )


def _without_header(written: int, page: int, segment: int) -> int:
    """Return the end of what was written: behind the header of a page nothing is, which nobody replays."""
    header = _LONG_HEADER if written % segment == _LONG_HEADER else _HEADER
    return written - header if written % page == header else written


class MariaDBReplication(Replication):
    """MariaDB's replication with GTIDs, and Galera."""

    question = (
        "SELECT @@read_only, @@gtid_current_pos, @@gtid_slave_pos, @@gtid_binlog_state, @@wsrep_on,"
        " (SELECT GROUP_CONCAT(VARIABLE_NAME, '=', VARIABLE_VALUE SEPARATOR ',')"
        " FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME IN"
        " ('WSREP_LOCAL_STATE', 'WSREP_LAST_COMMITTED', 'WSREP_CLUSTER_STATE_UUID', 'WSREP_READY'))"
    )

    @override
    def state_of(self, row: Sequence[Any]) -> ServerState:
        read_only, current, replayed, written_by, galera, status = row
        writable = str(read_only).upper() in _OFF
        if str(galera).upper() not in _OFF:
            pairs = (part.partition("=") for part in str(status or "").split(","))
            return _galera(writable, {name: value for name, _equals, value in pairs})
        origins = {origin for origin, _number in _gtids(replayed)}
        if writable:
            origins |= {origin for origin, _number in _gtids(written_by)}
        numbers: dict[str, int] = {}
        for origin, number in _gtids(current if writable else replayed):
            domain = origin.partition("-")[0]
            numbers[domain] = max(number, numbers.get(domain, 0))
        return ServerState(writable, frozenset(origins), Position.of(numbers))


def _gtids(text: object) -> list[tuple[str, int]]:
    """Return the domain with the server, and the number, of each GTID: of `0-7-57`, `0-7` and 57."""
    found = (part.strip().rpartition("-") for part in str(text or "").split(",") if part.strip())
    return [(origin, int(number)) for origin, _dash, number in found]


def _galera(writable: bool, status: Mapping[str, str]) -> ServerState:  # noqa: FBT001  # of one row
    cluster = status.get("WSREP_CLUSTER_STATE_UUID", "")
    ready = status.get("WSREP_READY") == "ON" and status.get("WSREP_LOCAL_STATE") == _SYNCED
    position = Position.of({cluster: int(status.get("WSREP_LAST_COMMITTED", 0))})
    return ServerState(writable and ready, frozenset({cluster}), position, ready=ready, equals=True)
