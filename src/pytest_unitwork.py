"""The pytest plugin of unitwork: databases for tests, each test undone, nothing left open.

This module stands beside the package, because pytest imports it at every start: it must not import
unitwork, nor SQLAlchemy, before a test asks for one of the fixtures.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from sqlalchemy import URL

    from unitwork.database import Database
    from unitwork.testing.databases import Schema, TestDatabases

_URL_HELP = (
    "where the databases for tests are made: a URL, whose user may create databases "
    "(postgresql+asyncpg://app@localhost/shop: databases test_shop_... are made beside it and dropped), "
    "or only a driver, for a server of our own that is started for this run (postgresql+asyncpg, "
    "mysql+asyncmy) or files in a temporary folder (sqlite+aiosqlite)"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--unitwork-url` and the ini options."""
    group = parser.getgroup("unitwork", "unitwork: databases for tests")
    group.addoption(
        "--unitwork-url", metavar="URL", help=f"{_URL_HELP}; overrides the ini option unitwork_url"
    )
    parser.addini("unitwork_url", f"{_URL_HELP}. Default: sqlite+aiosqlite", default="sqlite+aiosqlite")
    parser.addini(
        "unitwork_schema",
        "the tables of the databases for tests, as module:name: a declarative Base, a MetaData, or an async "
        "function that is given the Database, such as one that runs migrations",
        default="",
    )
    parser.addini(
        "unitwork_leaks",
        "fail a test that leaves a block, a unit of work or a connection of its Database open",
        type="bool",
        default=True,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Give the async fixtures to the plugin that runs async tests."""
    _AsyncFixtures(config).register()


# -- databases ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def unitwork_schema(request: pytest.FixtureRequest) -> Schema:
    """What the databases for tests start with: from the ini option `unitwork_schema`; override it.

    Return a declarative Base, a MetaData, a list of these, or an async function that is given the Database.
    """
    place: str = request.config.getini("unitwork_schema")
    if not place:
        return None
    module, _, name = place.partition(":")
    if not name:
        raise pytest.UsageError(f"unitwork_schema = {place} is not module:name, such as shop.models:Base")
    return cast("Schema", getattr(importlib.import_module(module), name))


@pytest.fixture(scope="session")
def unitwork_databases(request: pytest.FixtureRequest, unitwork_schema: Schema) -> Iterator[TestDatabases]:
    """The databases of this session; each worker of pytest-xdist has its own."""
    address = request.config.getoption("unitwork_url") or request.config.getini("unitwork_url")
    module = importlib.import_module("unitwork.testing.databases")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    try:
        databases: TestDatabases = module.TestDatabases(address, unitwork_schema, worker=worker)
    except module.REFUSALS as error:
        pytest.fail(f"{type(error).__name__}: {error}", pytrace=False)
    yield databases
    databases.close()


@pytest.fixture(scope="session")
def unitwork_database_url(unitwork_databases: TestDatabases) -> URL:
    """The URL of the database that this session's tests share, with the tables of `unitwork_schema`."""
    return unitwork_databases.lend()


@pytest.fixture
def unitwork_clone_url(unitwork_databases: TestDatabases) -> Iterator[URL]:
    """The URL of a database of this test's own, for tests of what really commits."""
    with unitwork_databases.lend_once() as url:
        yield url


@pytest.fixture
def unitwork_database(unitwork_database_url: URL) -> Database:
    """The Database that `unitwork_rolled_back` undoes; override it to return your program's own."""
    database: Database = importlib.import_module("unitwork").Database(unitwork_database_url)
    return database


def _watched(request: pytest.FixtureRequest, database: Database) -> Any:  # noqa: ANN401  # an async context
    testing = importlib.import_module("unitwork.testing")
    return testing.no_leaks(*([database] if request.config.getini("unitwork_leaks") else []))


# -- async fixtures, for pytest-asyncio and for anyio ----------------------------------------------


def _async_fixtures() -> dict[str, Callable[..., Any]]:
    """Make the functions of the async fixtures anew: a mark for one plugin must not reach the other."""

    async def unitwork_rolled_back(
        request: pytest.FixtureRequest, unitwork_database: Database
    ) -> AsyncIterator[Database]:
        """A Database that is undone after the test; see `Database.rolled_back`."""
        database = unitwork_database
        async with database, database.rolled_back(), _watched(request, database):
            yield database

    async def unitwork_clone(
        request: pytest.FixtureRequest, unitwork_clone_url: URL
    ) -> AsyncIterator[Database]:
        """A Database on a database of this test's own: what the test commits is committed."""
        database: Database = importlib.import_module("unitwork").Database(unitwork_clone_url)
        async with database, _watched(request, database):
            yield database

    return {function.__name__: function for function in (unitwork_rolled_back, unitwork_clone)}


class _AsyncFixtures:
    """The async fixtures, each as the plugin needs it that runs the test. Lives: as long as the session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._plain = _async_fixtures()
        self._has_asyncio = config.pluginmanager.has_plugin("asyncio")

    def register(self) -> None:
        """Let pytest know the fixtures."""
        # pytest-asyncio is imported already where it is a plugin, and is asked for nowhere else.
        marked = sys.modules["pytest_asyncio"].fixture if self._has_asyncio else pytest.fixture
        holder = ModuleType("unitwork_async_fixtures")
        for name, function in _async_fixtures().items():
            setattr(holder, name, marked(function))
        self._config.pluginmanager.register(self, "unitwork-async")
        self._config.pluginmanager.register(holder, "unitwork-async-fixtures")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, Any, Any]:
        """Choose between pytest-asyncio and anyio by what the test asks for."""
        plain = self._plain.get(fixturedef.argname)
        marked = fixturedef.func
        if plain is None or marked.__code__ is not plain.__code__:
            return (yield)  # a fixture of somebody else, or one that overrides ours
        by_anyio = "anyio_backend" in request.fixturenames
        refused = self._refused_by_anyio(request) if by_anyio else self._refused_by_asyncio(request)
        if refused:
            pytest.fail(refused, pytrace=False)
        if by_anyio:
            vars(fixturedef)["func"] = plain
        try:
            return (yield)
        finally:
            vars(fixturedef)["func"] = marked

    def _refused_by_asyncio(self, request: pytest.FixtureRequest) -> str | None:
        if self._has_asyncio:
            return None
        return (
            f"The fixture {request.fixturename!r} is async, but nothing runs async tests here.\n"
            "  Fix: pip install pytest-asyncio, or mark the test with @pytest.mark.anyio."
        )

    def _refused_by_anyio(self, request: pytest.FixtureRequest) -> str | None:
        backend = request.getfixturevalue("anyio_backend")
        if (backend if isinstance(backend, str) else backend[0]) != "asyncio":
            return (
                f"SQLAlchemy runs on asyncio, but anyio runs this test on {backend!r}.\n"
                '  Fix: in conftest.py, a fixture `anyio_backend` that returns "asyncio".'
            )
        if self._has_asyncio and self._asyncio_mode() == "auto":
            return (
                "anyio runs this test, but pytest-asyncio runs all async fixtures.\n"
                "  Fix: set asyncio_mode = strict, or remove the marker anyio."
            )
        return None

    def _asyncio_mode(self) -> str:
        return str(self._config.getoption("asyncio_mode") or self._config.getini("asyncio_mode"))
