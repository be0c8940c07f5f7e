"""This module says where a database of the benchmark is."""

from dataclasses import dataclass

POOL = 20
"""Connections that each pool may hold: more than there are tasks, so that nobody waits."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database is. `name` is the path of the file for SQLite."""

    database: str
    name: str
    host: str = "127.0.0.1"
    port: int = 0
    user: str = ""

    def url(self, scheme: str) -> str:
        """Write the address as a URL with this scheme, such as `postgresql+asyncpg`."""
        if self.database == "sqlite":
            return f"{scheme}:///{self.name}"
        return f"{scheme}://{self.user}@{self.host}:{self.port}/{self.name}"

    def sqlalchemy_url(self) -> str:
        """Write the address as SQLAlchemy reads it, with the driver that all contenders use."""
        return self.url(_DRIVERS[self.database])


_DRIVERS = {
    "postgresql": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
    "mariadb": "mysql+asyncmy",
}
