"""This module finds the Database that a command is for, and runs the command with it."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import click
from click.core import ParameterSource
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine

from unitwork.cli._failures import failure
from unitwork.cli._modules import Wanted, load_attribute, refuse_kind
from unitwork.database import Database

Command: TypeAlias = Callable[..., Coroutine[Any, Any, None]]

# What a URL that names no driver means here: the first one that is installed.
_DRIVERS = {
    "sqlite": ("sqlite", ("aiosqlite",)),
    "postgresql": ("postgresql", ("asyncpg", "psycopg")),
    "postgres": ("postgresql", ("asyncpg", "psycopg")),
    "mysql": ("mysql", ("asyncmy", "aiomysql")),
    "mariadb": ("mariadb", ("asyncmy", "aiomysql")),
}

_DATABASE = Wanted(
    "--app", "MODULE:NAME", "shop.main:db", lambda found: isinstance(found, Database | AsyncEngine)
)

_app_option = click.option(
    "--app",
    metavar="MODULE:NAME",
    envvar="UNITWORK_APP",
    show_envvar=True,
    help="The program's own Database, such as shop.main:db, or a function that makes it.",
)
_url_option = click.option(
    "--url",
    metavar="URL",
    envvar=["UNITWORK_URL", "DATABASE_URL"],
    show_envvar=True,
    help="The address of a database, instead of --app.",
)


def with_database(command: Command) -> Callable[..., None]:
    """Add `--app` and `--url` to an `async def` command, and call it with that Database first.

    The Database is disposed of at the end. An error of the database, of the network or of unitwork's
    own rules ends the command with exit code 1 and one message without passwords; others keep their
    traceback.
    """

    @_app_option
    @_url_option
    @functools.wraps(command)
    def run(*, app: str | None, url: str | None, **parameters: Any) -> None:
        try:
            database = chosen_database(app, url)
        except Exception as error:
            refused = failure(error, addresses_in(url))
            if refused is None:
                raise
            raise refused from None
        run_on(database, lambda: command(database, **parameters))

    return run


def run_on(database: Database, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine, dispose of the Database, and tell a failure without passwords."""

    async def run() -> None:
        async with database:
            await work()

    try:
        asyncio.run(run())
    except Exception as error:
        told = failure(error, database.source.addresses)
        if told is None:
            raise
        raise told from None


def chosen_database(app: str | None, url: str | None) -> Database:
    """Return the Database of `--app`, or one at `--url`; what is on the command line comes first.

    Raises:
        click.UsageError: Neither is given, or both are.
    """
    app_typed, url_typed = _typed("app"), _typed("url")
    if app_typed and url_typed:
        raise click.UsageError("Give --app or --url, not both.")
    if app is not None and not url_typed:
        return _from_app(app)
    if url is not None:
        return Database(address(url), name="command line")
    raise click.UsageError(
        "Which database? Give --app MODULE:NAME or --url URL, or set UNITWORK_URL or DATABASE_URL."
    )


def address(text: str) -> URL:
    """Read a URL; one without a driver gets an async one that is installed.

    Raises:
        click.UsageError: It cannot be read. The text is not repeated: it may hold a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise click.UsageError(
            "The URL cannot be read.\n"
            "  Fix: write driver://user:password@host:port/name; escape the password, such as %40 for @."
        ) from None
    if url.drivername not in _DRIVERS:
        return url
    name, drivers = _DRIVERS[url.drivername]
    installed = [driver for driver in drivers if importlib.util.find_spec(driver) is not None]
    return url.set(drivername=f"{name}+{(installed or drivers)[0]}")


def addresses_in(url: str | None) -> list[URL]:
    """Return the URL that a person gave, if it can be read."""
    try:
        return [] if url is None else [make_url(url)]
    except (ArgumentError, ValueError):
        return []


def _typed(parameter: str) -> bool:
    source = click.get_current_context().get_parameter_source(parameter)
    return source is ParameterSource.COMMANDLINE


def _from_app(app: str) -> Database:
    found = load_attribute(app, _DATABASE)
    if callable(found) and not isinstance(found, Database):
        found = found()
    if isinstance(found, AsyncEngine):
        found = Database(found, name="command line")
    if not isinstance(found, Database):
        raise refuse_kind(app, f"{app!r} is a {type(found).__name__}, not a Database.", _DATABASE)
    return found
