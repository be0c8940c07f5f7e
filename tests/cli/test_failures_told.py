"""What fails is told in one message: without secrets, without paths of packages, with what to type."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import URL

import unitwork
from tests.cli.test_conventions import closed_port
from unitwork.cli import main

SHOP = """
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column
from unitwork import Base, Database

class User(Base):
    __tablename__ = "users_of_hints"
    id: Mapped[int] = mapped_column(primary_key=True)
    e_mail: Mapped[str] = mapped_column(String(50))

class Purchase(Base):
    __tablename__ = "purchases_of_hints"
    id: Mapped[int] = mapped_column(primary_key=True)

main_db = Database("sqlite+aiosqlite:///shop.db", name="hints")
"""
OF_PACKAGES = (str(Path(unitwork.__file__).parent), "site-packages", "Traceback", 'File "')


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a program and a file."""
    folder = tmp_path_factory.mktemp("hints")
    (folder / "hinted_shop.py").write_text(SHOP)
    (folder / "users.csv").write_text("id,E-Mail\n1,ann@example.com\n")
    return folder


@pytest.fixture(autouse=True)
def folder(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; no variables name a database."""
    monkeypatch.chdir(shop)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("UNITWORK_URL", "DATABASE_URL", "UNITWORK_APP"):
        monkeypatch.delenv(name, raising=False)
    return shop


def run(*arguments: str) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "postgresql+asyncpg://app:app@127.0.0.1:{port}/app",
            "postgresql+asyncpg://app:***@127.0.0.1:{port}/app",
        ),
        (
            "postgresql+psycopg://postgres:postgres@localhost:{port}",
            "psycopg://postgres:***@localhost:{port}",
        ),
        ("mysql+asyncmy://app:127@127.0.0.1:{port}/app", "asyncmy://app:***@127.0.0.1:{port}/app"),
        (
            "postgresql+psycopg://app@127.0.0.1:{port}/app?password=h%2Fush7&sslpassword=h2sh&connect_timeout=3",
            "@127.0.0.1:{port}/app?connect_timeout=3&password=***&sslpassword=***",
        ),
    ],
)
def test_secrets_are_masked_by_value(url: str, shown: str) -> None:
    """Other parts of the URL stay, also where they are equal; arguments that are secrets go."""
    port = str(closed_port())

    done = run("ping", "--url", url.replace("{port}", port))

    assert done.exit_code == 1
    assert shown.replace("{port}", port) in done.stderr
    assert not re.search("h/ush7|h%2Fush7|h2sh", done.output)


@pytest.mark.only("postgresql", "mariadb", reason="SQLite knows no users")
def test_what_a_server_says_of_a_user_stays(database_url: URL) -> None:
    """Also where the password is the same word; the server names the user, not the password."""
    url = database_url.set(username="nobody_here", password="nobody_here")

    done = run("ping", "--url", url.render_as_string(hide_password=False))

    assert done.exit_code == 1
    assert re.search(r"""(user|role) ['"]nobody_here['"]""", done.stderr)
    assert "://nobody_here:***@" in done.stderr


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "postgresql+asyncpg://app@h/x?sslmode=require",
            "takes no argument 'sslmode'.*Fix: write `ssl=require`",
        ),
        ("mysql+asyncmy://app@h/x?nope=1", "asyncmy takes no argument 'nope'.*Fix: leave it out"),
        ("mysql+asyncmy://app@h/x?connect_timeout=abc", "ValueError: invalid literal"),
        ("postgresql+asyncpg://app@a..b/x", "UnicodeError"),
        ("postgresql+asyncpg://app@127.0.0.1:99999/x", "port must be 0-65535"),
        ("sqlite+aiosqlite:////no/such/folder/x.db", "unable to open database file"),
    ],
)
def test_addresses_that_drivers_refuse_have_no_traceback(url: str, message: str) -> None:
    """Whatever error the driver raises."""
    done = run("ping", "--url", url)

    assert done.exit_code == 1
    assert re.search(f"(?s){message}", done.stderr)
    assert not any(path in done.output for path in OF_PACKAGES)


def test_warnings_of_libraries_come_without_paths() -> None:
    """As a person sees them, in a process of its own."""
    command = [sys.executable, "-m", "unitwork", "ping", "--url", "sqlite:///x.db?nope=1"]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stderr.startswith("Warning: Query string argument(s) 'nope' are not accepted")
    assert not any(path in done.stderr for path in OF_PACKAGES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dump", "hinted_shop:User", "--where", "x = ("), "In the dump of User on database"),
        (("dump", "hinted_shop:User", "-o", "no/such/users.csv"), "no/such/users.csv: No such file"),
        (("load", "users.csv", "--into", "hinted_shop:User", "--rename", "E-Mail=e_mail"), "users_of_hints"),
    ],
)
def test_commands_that_fail_name_no_line_of_ours(arguments: tuple[str, ...], message: str) -> None:
    """Blocks have names of their own, files are called as the person called them."""
    done = run(*arguments, "--url", "sqlite:///empty.db")

    assert done.exit_code == 1
    assert message in done.stderr
    assert ".unitwork-" not in done.output
    assert not any(path in done.output for path in OF_PACKAGES)


@pytest.mark.parametrize(
    ("into", "fix"),
    [
        ("hinted_shop", "--into hinted_shop:Purchase or --into hinted_shop:User"),
        ("hinted_shop.User", "--into hinted_shop:User"),
        ("User", "--into hinted_shop:User"),
        ("hinted_shop:users", "--into hinted_shop:User"),
        ("hinted_shop:main_db", "--into hinted_shop:Purchase"),
        ("nonsense", "write such as --into shop.models:User"),
    ],
)
def test_model_that_is_named_wrongly_is_answered_with_the_right_one(into: str, fix: str) -> None:
    """The module, a dot, the class alone, the table: what can be found is written out."""
    done = run("load", "users.csv", "--into", into, "--app", "hinted_shop:main_db")

    assert done.exit_code in (1, 2)
    assert f"Fix: {fix}\n" in done.stderr


@pytest.mark.parametrize(
    "app", ["hinted_shop", "hinted_shop.main_db", "hinted_shop:maindb", "hinted_shop:User"]
)
def test_database_that_is_named_wrongly_is_answered_with_the_right_one(app: str) -> None:
    """As the models are."""
    done = run("ping", "--app", app)

    assert done.exit_code in (1, 2)
    assert "Fix: --app hinted_shop:main_db\n" in done.stderr


def test_columns_that_nobody_knows_are_answered_with_what_to_rename() -> None:
    """The attribute whose letters are nearest; a --rename of nothing with what the file has."""
    load = ("load", "users.csv", "--into", "hinted_shop:User", "--app", "hinted_shop:main_db")

    assert "Fix: --rename 'E-Mail=e_mail', or 'E-Mail=' to leave it out" in run(*load).stderr
    wrong = run(*load, "--rename", "mail=e_mail")
    assert "has no 'mail', which --rename speaks of" in wrong.stderr
    assert "write it as the file does, which has 'id', 'E-Mail'" in wrong.stderr


@pytest.mark.parametrize("columns", ["60", "130"])
def test_help_is_as_wide_as_the_terminal(columns: str) -> None:
    """Of each command."""
    command = [sys.executable, "-m", "unitwork", "load", "--help"]
    environment = {**os.environ, "COLUMNS": columns}

    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)

    assert int(columns) - 20 < max(map(len, done.stdout.splitlines())) <= int(columns)
