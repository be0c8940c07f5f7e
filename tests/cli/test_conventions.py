"""Every command keeps the same conventions: exit codes, streams, how it finds its Database, no passwords."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import URL

from tests.fixtures.commands import command_runner
from unitwork.cli import main

PROGRAM = """
from sqlalchemy.orm import Mapped, mapped_column
from unitwork import Base, Database

class {model}(Base):
    __tablename__ = "{table}"
    id: Mapped[int] = mapped_column(primary_key=True)

class places:
    db = Database("sqlite+aiosqlite:///shop.db", name="{table}")

def make():
    return places.db

text = "no database"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and no variables that name a database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("UNITWORK_URL", "DATABASE_URL", "UNITWORK_APP"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*arguments: str, **options: str) -> Result:
    """Run the command line in this process."""
    return command_runner().invoke(main, arguments, input=options.get("typed"))


def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


@pytest.fixture
def program(folder: Path, request: pytest.FixtureRequest) -> str:
    """The name of a module with a model and a Database; another one for each test."""
    name = f"program_{abs(hash(request.node.nodeid))}"
    (folder / f"{name}.py").write_text(PROGRAM.format(model=name.title(), table=name))
    return name


def test_ping_tells_version_and_time(database_url: URL) -> None:
    """Data goes to stdout, on every database."""
    done = run("ping", "--url", database_url.render_as_string(hide_password=False), "--json")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout).keys() == {"server_version", "latency_ms"}
    assert done.stderr == ""


def test_app_names_a_database(program: str) -> None:
    """The current folder is searched; attributes may have dots; a function may make it."""
    for reference in (f"{program}:places.db", f"{program}:make"):
        assert "SQLite" in run("ping", "--app", reference).stdout


@pytest.mark.parametrize("variable", ["UNITWORK_URL", "DATABASE_URL"])
def test_variables_name_a_database(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A URL without a driver gets one that is installed."""
    monkeypatch.setenv(variable, "sqlite:///from_variable.db")

    assert run("ping").exit_code == 0
    assert Path("from_variable.db").exists()


def test_command_line_comes_before_variables(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """What is typed is meant."""
    monkeypatch.setenv("DATABASE_URL", "sqlite:///variable.db")
    run("ping", "--app", f"{program}:make")
    run("ping", "--url", "sqlite:///typed.db")

    assert sorted(path.name for path in Path.cwd().glob("*.db")) == ["shop.db", "typed.db"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ping",), "Which database? Give --app"),
        (("ping", "--app", "x:y", "--url", "sqlite://"), "not both"),
        (("ping", "--app", "shop"), "Fix: write such as --app shop.main:db"),
        (("ping", "--url", "postgresql://user:sec/ret@host:port/x"), "escape the password"),
        (("ping", "--url", "nonsense"), "cannot be read"),
        (("no-such-command",), "No such command"),
        (("generate-schemas", "--check", "json"), "give --output"),
        (("examples", "nope"), "there are bulk, connection"),
    ],
)
def test_wrong_command_line_ends_with_2(arguments: tuple[str, ...], message: str) -> None:
    """The message says what to type, on stderr."""
    done = run(*arguments)

    assert done.exit_code == 2
    assert message in done.stderr
    assert "ret@" not in done.output
    assert done.stdout == ""


def test_server_that_is_down_ends_with_1() -> None:
    """The message names the address, and never the password."""
    for driver in ("postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy"):
        done = run("ping", "--url", f"{driver}://user:se%40cret@127.0.0.1:{closed_port()}/shop")

        assert done.exit_code == 1
        assert "user:***@127.0.0.1" in done.stderr
        assert not any(form in done.output for form in ("se%40cret", "se@cret", "Traceback"))


def test_missing_driver_says_what_to_do() -> None:
    """One that is not known as well."""
    done = run("ping", "--url", "oracle+oracledb://user:secret@host/x")

    assert done.exit_code == 1
    assert "Fix: name an async driver" in done.stderr
    assert "secret" not in done.output


def test_missing_module_is_named(program: str) -> None:
    """The person's own spelling; so is an attribute, and what is no Database."""
    for reference, message in (
        ("no_such_module:db", "There is no module 'no_such_module'"),
        (f"{program}.inside:db", f"There is no module '{program}.inside'"),
        (f"{program}:nope", "It has: Base"),
        (f"{program}:text", "is a str, not a Database"),
    ):
        done = run("ping", "--app", reference)

        assert done.exit_code == 1
        assert message in done.stderr


def test_import_that_fails_inside_keeps_its_traceback(folder: Path) -> None:
    """It is the program that is broken, not the command line."""
    (folder / "broken_program.py").write_text("import no_such_library\n")

    done = run("ping", "--app", "broken_program:db")

    assert done.exit_code == 1
    assert isinstance(done.exception, ModuleNotFoundError)
    assert done.exception.name == "no_such_library"


def test_tables_are_created_and_dropped(program: str) -> None:
    """Each prints the names; dropping asks before."""
    app = ("--app", f"{program}:places.db", "--models", program)

    created = run("create-tables", *app, "--json")
    again = run("create-tables", *app, "--json")
    refused = run("drop-tables", *app, typed="n\n")
    dropped = run("drop-tables", *app, typed="y\n")

    assert program in json.loads(created.stdout)["created"]
    assert (json.loads(again.stdout)["created"], program in json.loads(again.stdout)["existing"]) == (
        [],
        True,
    )
    assert refused.exit_code == 1
    assert program in dropped.stdout
    assert program not in run("drop-tables", *app, "--yes").stdout


def test_module_without_models_is_refused(folder: Path) -> None:
    """By every command that needs models."""
    (folder / "empty_module.py").write_text("")

    for arguments in (
        ("create-tables", "--url", "sqlite:///x.db", "--models", "empty_module"),
        ("generate-schemas", "empty_module"),
    ):
        done = run(*arguments)

        assert done.exit_code == 1
        assert "has no models" in done.stderr


def test_two_models_of_one_name_are_refused(folder: Path) -> None:
    """One file cannot hold both schemas."""
    package = folder / "twin_models"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name in ("one", "two"):
        (package / f"{name}.py").write_text(PROGRAM.format(model="Twin", table=f"twin_{name}"))

    done = run("generate-schemas", "twin_models", "--output", "out.py")

    assert done.exit_code == 1
    assert "Two models are called Twin: in twin_models.one and in twin_models.two" in done.stderr
    assert not Path("out.py").exists()


def test_schemas_are_checked(program: str) -> None:
    """`--check` writes nothing, and ends with 1 when the file is stale or missing."""
    arguments = ("generate-schemas", program, "--output", "out.py")

    missing = run(*arguments, "--check")
    written = run(*arguments)
    fresh = run(*arguments, "--check")
    stale = run(*arguments, "--purpose", "read", "--check")

    assert [done.exit_code for done in (missing, written, fresh, stale)] == [1, 0, 0, 1]
    assert "-class" in stale.stdout
    assert "run the same command without --check" in stale.stderr


def test_schemas_go_to_stdout_without_a_file(program: str) -> None:
    """To be piped on."""
    assert f"class {program.title()}Schema(EntitySchema):" in run("generate-schemas", program).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_complete_commands(shell: str) -> None:
    """As click does it."""
    environment = {"_UNITWORK_COMPLETE": f"{shell}_complete", "COMP_WORDS": "unitwork pi", "COMP_CWORD": "1"}

    done = command_runner().invoke(main, [], prog_name="unitwork", env=environment)

    assert "ping" in done.output


def test_module_runs_as_a_program() -> None:
    """`python -m unitwork` is the same command line."""
    done = subprocess.run(
        [sys.executable, "-m", "unitwork", "--version"], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("unitwork ")


WITHOUT = """
import runpy, sys
sys.modules["{library}"] = None
sys.argv = ["unitwork", *{arguments!r}]
runpy.run_module("unitwork", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("library", "arguments", "extra"),
    [
        ("click", ["ping"], "cli"),
        ("alembic", ["migrations", "current", "--url", "sqlite://"], "alembic"),
        ("pydantic", ["generate-schemas", "program_of_extras"], "pydantic"),
        ("aiosqlite", ["ping", "--url", "sqlite+aiosqlite://"], "sqlite"),
    ],
)
def test_missing_extra_says_what_to_install(
    folder: Path, library: str, arguments: list[str], extra: str
) -> None:
    """One line to copy, and no traceback."""
    (folder / "program_of_extras.py").write_text(PROGRAM.format(model="Extra", table="extra"))

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(library=library, arguments=arguments)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert f"pip install 'unitwork[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
