"""This module reads where the servers of a Database are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from unitwork._logic.urls import shown
from unitwork.errors import OptionError
from unitwork.options import ServerLimits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import URL, Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine


SERVER = "unitwork_server"
"""Where `info` of a connection says which server it is of, if that may be another one than in the URL."""
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}


class Addresses(NamedTuple):
    """Where the servers of a Database are.

    Attributes:
        primaries: Where writes may go, in this order; one of them takes writes at a time.
        replicas: Where reads may go.
        engine: An engine of the caller's own, in place of all of them.
        limits: How long to wait for what.
    """

    primaries: Sequence[URL] = ()
    replicas: Sequence[URL] = ()
    engine: AsyncEngine | None = None
    limits: ServerLimits = ServerLimits()

    def check(self) -> None:
        """Refuse a server that is given twice, and replicas of what has none.

        Raises:
            OptionError: So it is.
        """
        for option, urls in (("urls", self.primaries), ("replicas", self.replicas)):
            places = [_place(url) for url in urls]
            twice = next((url for number, url in enumerate(urls) if places.index(_place(url)) < number), None)
            if twice is not None:
                raise OptionError(option, shown(twice), ["each server once"])
        if len(self.primaries) == 1:
            primary = _place(self.primaries[0])
            both = next((url for url in self.replicas if _place(url) == primary), None)
            if both is not None:
                raise OptionError("replicas", shown(both), ["other servers than the primary"])
        kinds = {url.drivername for url in (*self.primaries, *self.replicas)}
        if len(kinds) > 1:
            raise OptionError("replicas", ", ".join(sorted(kinds)), ["the same driver for all servers"])


def _place(url: URL) -> tuple[Any, ...]:
    port = url.port or _PORTS.get(url.get_backend_name())
    return url.host, port, url.database, url.query.get("host"), url.query.get("port")


def server_of(engine: Engine, info: Mapping[Any, Any]) -> str | None:
    """Return `host:port` of the server that a connection of an engine leads to; None if it has none.

    Args:
        engine: Which may find its server elsewhere than its URL says.
        info: What is known of the connection.
    """
    found: str | None = info.get(SERVER)
    return found or shown_address(engine.url)


def server_of_connection(connection: Connection) -> str | None:
    """The same for SQLAlchemy's connection, which may be lost."""
    lost = connection.closed or connection.invalidated
    return server_of(connection.engine, {} if lost else connection.info)


def shown_address(url: URL) -> str | None:
    """Return `host:port` of a server; None for a database that has none."""
    if url.get_backend_name() == "sqlite":
        return None
    port = url.port or _PORTS.get(url.get_backend_name())
    return f"{url.host or 'localhost'}:{port}"


def single(url: URL) -> list[URL]:
    """Return the servers of a URL that names several hosts, each by a URL of its own."""
    query = dict(url.query)
    hosts, ports = query.pop("host", ()), query.pop("port", ())
    hosts = hosts if isinstance(hosts, tuple) else tuple(hosts.split(","))
    ports = ports if isinstance(ports, tuple) else tuple(ports.split(","))
    if len(hosts) < 2 or any(host.startswith("/") for host in hosts):  # noqa: PLR2004  # several
        return [url]
    found = []
    for number, each in enumerate(hosts):
        host, port = _host_and_port(each)
        # One port is that of all, as for PostgreSQL's own programs.
        port = port or (ports[number] if 1 < len(ports) > number else ports[0] if len(ports) == 1 else "")
        found.append(url.set(host=host, port=int(port) if port else None, query=query))
    return found


def _host_and_port(text: str) -> tuple[str, str]:
    """Return the parts of `db1:5432`, `db1`, `::1` or `[::1]:5432`."""
    if text.startswith("["):
        host, _bracket, rest = text[1:].partition("]")
        return host, rest.removeprefix(":")
    if text.count(":") > 1:
        return text, ""
    host, _colon, port = text.partition(":")
    return host, port
