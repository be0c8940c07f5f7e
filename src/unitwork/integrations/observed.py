"""This module keeps what observers know of the Databases that they are told of."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unitwork._logic.sql.summary import Summary, summary_of

if TYPE_CHECKING:
    from unitwork.database import Database

_SYSTEMS = {"mssql": "microsoft.sql_server", "oracle": "oracle.db"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is the same for all statements of one Database.

    Attributes:
        system: The kind of database, as OpenTelemetry calls it.
        namespace: The database on its server; the file of SQLite, without its folder.
        address: The host that its URL names, if it names one.
        port: Its port.
    """

    system: str
    namespace: str | None
    address: str | None
    port: int | None


class ObservedDatabases:
    """The Databases that one observer is told of, by name. Keeps none alive. Lives: as the observer."""

    def __init__(self) -> None:
        self._databases: dict[str, weakref.ref[Database]] = {}
        self._facts: dict[str, Facts] = {}

    def add(self, database: Database) -> None:
        """Take note of one."""
        self._databases[database.name] = weakref.ref(database)
        self._facts.pop(database.name, None)

    def remove(self, database: Database) -> None:
        """Forget it."""
        self._databases.pop(database.name, None)
        self._facts.pop(database.name, None)

    def facts_of(self, name: str) -> Facts | None:
        """Return what is known of a Database; None if it is not known, or gone."""
        known = self._facts.get(name)
        database = self._of(name) if known is None else None
        if database is None:
            return known
        dialect = database.engine.dialect
        facts = _facts_of(database)
        if getattr(dialect, "server_version_info", None) is not None:
            # Until it has connected, it is not known whether it is MySQL or MariaDB.
            self._facts[name] = facts
        return facts

    def summary_of(self, name: str, sql: str) -> Summary:
        """Return what may be told of a statement that went to a Database."""
        facts = self.facts_of(name)
        return summary_of(sql, facts.system if facts is not None else None)

    def _of(self, name: str) -> Database | None:
        reference = self._databases.get(name)
        return reference() if reference is not None else None


def _facts_of(database: Database) -> Facts:
    dialect, url = database.engine.dialect, database.engine.url
    system = "mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name
    namespace = url.database
    if system == "sqlite" and namespace:
        namespace = namespace.rpartition("/")[2]
    return Facts(_SYSTEMS.get(system, system), namespace or None, url.host, url.port)


def host_and_port(server: str) -> tuple[str, int | None]:
    """Return the parts of `host:port`, as events name a server."""
    host, colon, port = server.rpartition(":")
    return (host, int(port)) if colon and port.isdecimal() and not host.endswith(":") else (server, None)
