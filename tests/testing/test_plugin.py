"""The pytest plugin, as a project uses it: under pytest-asyncio, anyio and pytest-xdist."""

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.fixtures.databases import Backend
from tests.fixtures.servers import insist_on

ROOT = Path(__file__).parents[2]
PLUGIN = "pytest_unitwork"
PLUGINS_OFF = ("-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:cov", "-p", "no:hypothesispytest")

# An environment that was installed before the plugin existed does not tell pytest of it.
INSTALLED = any(known.value == PLUGIN for known in entry_points(group="pytest11"))
PLUGIN_ON = () if INSTALLED else ("-p", PLUGIN)

CONFTEST = """
import pytest
from shop import Base

@pytest.fixture(scope="session")
def unitwork_schema():
    return Base
"""
SHOP = """
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column
from unitwork import Base, Repository, transactional

class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(200), unique=True)

@transactional
async def register(email):
    return await Repository[User]().add(User(email=email))

async def emails():
    return sorted(user.email for user in await Repository[User]().all())
"""
TESTS = """
import pytest
from shop import *
{mark}

@pytest.mark.parametrize("number", range(3))
async def test_each_begins_empty(unitwork_rolled_back, number):
    assert await emails() == []
    await register("ann@example.com")
    assert await emails() == ["ann@example.com"]

async def test_real_commit(unitwork_clone):
    await register("ann@example.com")
    async with unitwork_clone.session_factory() as outside:
        assert await outside.get(User, 1) is not None

async def test_clone_begins_empty(unitwork_clone):
    assert await emails() == []
"""
AUTO = "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function"
STRICT = "asyncio_mode = strict\nasyncio_default_fixture_loop_scope = function"
ANYIO_BACKEND = """
@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


class Project:
    """A project of its own, whose tests run in a process of their own."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pytester = pytester
        monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
        self.write("shop.py", SHOP)
        self.write("conftest.py", CONFTEST)
        self.settings(AUTO)

    def write(self, name: str, text: str) -> None:
        """Write one of its files."""
        (self._pytester.path / name).write_text(text, encoding="utf-8")

    def settings(self, *lines: str) -> None:
        """Write its pytest.ini."""
        self.write("pytest.ini", "\n".join(["[pytest]", "pythonpath = .", "filterwarnings = error", *lines]))

    def run(self, tests: str, *options: str) -> pytest.RunResult:
        """Run its tests."""
        self.write("test_shop.py", tests)
        return self._pytester.runpytest_subprocess(*PLUGINS_OFF, *PLUGIN_ON, *options)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with one model and one service."""
    return Project(pytester, monkeypatch)


def test_plugin_is_found_by_pytest() -> None:
    """The installed package tells pytest of it, and the wheel holds it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert settings["project"]["entry-points"]["pytest11"] == {"unitwork": PLUGIN}
    assert f"src/{PLUGIN}.py" in settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_plugin_costs_nothing_until_it_is_used() -> None:
    """Its import loads neither unitwork nor SQLAlchemy, nor any async plugin."""
    code = (
        f"import sys, pytest\nbefore = set(sys.modules)\nimport {PLUGIN}\nprint(*set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "src"
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}

    assert loaded - sys.stdlib_module_names == {PLUGIN}


@pytest.mark.timeout(60)
def test_fixtures_on_each_database(project: Project, backend: Backend) -> None:
    """Each test begins with empty tables, on a server that is started for the run."""
    if backend.database != "sqlite":
        insist_on(backend.database)

    project.run(TESTS.format(mark=""), "--unitwork-url", backend.driver).assert_outcomes(passed=5)


def test_fixtures_in_strict_mode(project: Project) -> None:
    """pytest-asyncio in strict mode runs them for tests with its marker."""
    project.settings(STRICT)

    project.run(TESTS.format(mark="pytestmark = pytest.mark.asyncio")).assert_outcomes(passed=5)


@pytest.mark.parametrize("options", [(), ("-p", "no:asyncio")])
def test_fixtures_under_anyio(project: Project, options: tuple[str, ...]) -> None:
    """The plugin of anyio runs them for tests with its marker, beside pytest-asyncio and alone."""
    project.settings(*([] if options else [STRICT]))
    project.write("conftest.py", CONFTEST + ANYIO_BACKEND)

    project.run(TESTS.format(mark="pytestmark = pytest.mark.anyio"), *options).assert_outcomes(passed=5)


def test_session_loop(project: Project) -> None:
    """One event loop for all tests: the same fixtures."""
    scopes = (f"asyncio_default_{kind}_loop_scope = session" for kind in ("fixture", "test"))
    project.settings("asyncio_mode = auto", *scopes)

    project.run(TESTS.format(mark="")).assert_outcomes(passed=5)


def test_fixture_of_another_loop_says_which_setting(project: Project) -> None:
    """Fixtures in the session's loop and tests in loops of their own: one clear error."""
    project.settings("asyncio_mode = auto", "asyncio_default_fixture_loop_scope = session")

    result = project.run("from shop import *\nasync def test(unitwork_rolled_back):\n    await emails()\n")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*is open in another event loop.*", "*asyncio_default_fixture_loop_scope*"])


def test_project_without_a_schema_begins_with_nothing(project: Project) -> None:
    """Who says nothing of tables gets an empty database, and may make them in the test."""
    project.write("conftest.py", "")
    begin = "    await unitwork_rolled_back.create_all(Base)\n"
    test = "from shop import *\nasync def test(unitwork_rolled_back):\n" + begin

    project.run(test + "    assert await emails() == []\n").assert_outcomes(passed=1)


@pytest.mark.timeout(60)
def test_workers_have_databases_of_their_own(project: Project) -> None:
    """pytest-xdist: the tests of each worker begin empty as well."""
    project.run(TESTS.format(mark=""), "-n", "2").assert_outcomes(passed=5)


def test_leak_fails_the_test(project: Project) -> None:
    """A block that a test leaves open is an error of that test, unless it is switched off."""
    tests = """
from shop import *
async def test_leaves_it_open(unitwork_clone):
    await unitwork_clone.transaction().__aenter__()
"""
    result = project.run(tests)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*leaves something open*", "*the block at *test_shop.py:4*"])

    project.settings(AUTO, "unitwork_leaks = false")
    project.run(tests).assert_outcomes(passed=1)


def test_own_database_and_schema(project: Project) -> None:
    """A project gives its own Database, a schema by name, or a function such as its migrations."""
    project.write(
        "conftest.py",
        """
import pytest
from unitwork import Database
from shop import Base, User

async def prepare(db):
    await db.create_all(Base)
    async with db.transaction() as session:
        session.add(User(email="first@example.com"))

@pytest.fixture
def unitwork_database(unitwork_database_url):
    return Database(unitwork_database_url, name="shop")
""",
    )
    project.settings(AUTO, "unitwork_schema = conftest:prepare")
    tests = """
from shop import *
async def test(unitwork_rolled_back):
    assert unitwork_rolled_back.name == "shop"
    assert await Repository[User](unitwork_rolled_back).count() == 1
"""
    project.run(tests).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("settings", "options", "mark", "complaint"),
    [
        (
            AUTO,
            (),
            "pytestmark = pytest.mark.anyio",
            "*set asyncio_mode = strict, or remove the marker anyio*",
        ),
        (STRICT, (), "pytestmark = pytest.mark.anyio", "*a fixture `anyio_backend` that returns*"),
        ("", ("-p", "no:asyncio"), "", "*pip install pytest-asyncio, or mark the test*"),
        (AUTO, ("--unitwork-url", "oracle+oracledb"), "", "*The option unitwork_url does not take*"),
        (f"{AUTO}\nunitwork_schema = shop", (), "", "*is not module:name, such as shop.models:Base*"),
    ],
)
def test_wrong_use_says_what_to_do(
    project: Project, settings: str, options: tuple[str, ...], mark: str, complaint: str
) -> None:
    """One clear error for each way to get it wrong."""
    project.settings(settings)
    if "unitwork_schema" in settings:
        project.write("conftest.py", "")
    if "no:asyncio" in options:
        project.write("shop.py", SHOP)
    backends = "@pytest.fixture\ndef anyio_backend():\n    return 'trio'\n" if settings == STRICT else ""
    tests = (
        f"import pytest\nfrom shop import *\n{mark}\n{backends}\nasync def test(unitwork_rolled_back): ...\n"
    )

    result = project.run(tests, *options)

    assert result.ret
    result.stdout.fnmatch_lines([complaint])


def test_missing_driver_names_the_extra(project: Project) -> None:
    """A driver that is not installed is told with the extra that has it."""
    project.write("asyncmy.py", "raise ModuleNotFoundError(\"No module named 'asyncmy'\", name='asyncmy')")
    insist_on("mariadb")

    result = project.run(TESTS.format(mark=""), "--unitwork-url", "mysql+asyncmy")

    result.stdout.fnmatch_lines(["*pip install 'unitwork?mysql?'*"])


def test_options_are_explained(project: Project) -> None:
    """`pytest --help` says what can be set, and what for."""
    result = project.run("", "--help")

    result.stdout.fnmatch_lines(["*--unitwork-url=URL*", "*unitwork_schema*", "*unitwork_leaks*"])
