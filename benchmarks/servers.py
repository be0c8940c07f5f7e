"""This module gives the benchmark databases of its own: private servers and a file, filled with people."""

import asyncio
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import insert

from benchmarks.card import ASSETS, MEMBERS, PEOPLE, TEAMS, card
from benchmarks.environments import NotAvailableError
from benchmarks.model import Base, House, Member, Person, Team
from benchmarks.place import Place
from tests.fixtures.servers import SOURCES
from unitwork import Database
from unitwork.testing.binaries import mariadb_programs, postgresql_folder, version_of


@contextmanager
def running(database: str) -> Iterator[tuple[Place, str]]:
    """Lend a database that nobody else uses, and its version.

    Raises:
        NotAvailableError: The programs of the server are not on this machine.
    """
    if database == "sqlite":
        with tempfile.TemporaryDirectory(prefix="unitwork-bench-") as folder:
            place = Place("sqlite", str(Path(folder) / "bench.db"))
            asyncio.run(_fill(place))
            yield place, f"SQLite {sqlite3.sqlite_version}"
        return
    source = SOURCES[database]
    if not source.programs():
        raise NotAvailableError(f"no server found: {source.remedy}")
    server = source.start()
    try:
        names = {"postgresql": ("postgres", "postgres"), "mariadb": ("root", "mysql")}
        user, name = names[database]
        place = Place(database, name, port=server.port, user=user)
        asyncio.run(_fill(place))
        yield place, _version(database)
    finally:
        server.close()


def _version(database: str) -> str:
    if database == "postgresql":
        folder = postgresql_folder()
        return f"PostgreSQL {version_of(folder / 'postgres') if folder else '?'}"
    programs = mariadb_programs()
    return f"MariaDB {version_of(programs[0]) if programs else '?'}"


async def _fill(place: Place) -> None:
    async with Database(place.sqlalchemy_url(), name="benchmark set-up") as db:
        await db.create_all(Base)
        rows = [
            {"id": one.id, "name": one.name, "email": one.email, "age": one.age, "city": one.city}
            for one in map(card, range(1, PEOPLE + 1))
        ]
        teams = [{"id": number, "name": f"team {number}"} for number in range(1, TEAMS + 1)]
        members = [
            {"team_id": team["id"], "name": f"member {number}"} for team in teams for number in range(MEMBERS)
        ]
        async with db.transaction() as session:
            await session.execute(insert(Person), rows)
            await session.execute(insert(Team), teams)
            await session.execute(insert(Member), members)
            session.add_all(House(name=f"house {number}", rooms=number) for number in range(ASSETS))
        if place.database == "postgresql":
            async with db.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                await connection.exec_driver_sql("ANALYZE")
