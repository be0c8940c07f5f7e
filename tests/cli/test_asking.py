"""Commands that destroy ask a person before they do, and refuse where nobody can answer."""

import os
import pty
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from unitwork.integrations.alembic.template import write_template

MODELS = """
from sqlalchemy.orm import Mapped, mapped_column
from unitwork import Base


class Event(Base):
    __tablename__ = "asked_events"
    id: Mapped[int] = mapped_column(primary_key=True)
"""
MIGRATION = '''"""first tables"""
from alembic import op
from sqlalchemy import Column, Integer

revision, down_revision = "one", None


def upgrade():
    op.create_table("asked_events", Column("id", Integer, primary_key=True))


def downgrade():
    op.drop_table("asked_events")
'''
PROGRAM = [sys.executable, "-m", "unitwork"]
DOWNGRADE = ("migrations", "downgrade")
DROP = ("drop-tables", "--models", "asked_models")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and its migration, which has run."""
    (tmp_path / "asked_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("UNITWORK_URL", "sqlite:///events.db")
    write_template(tmp_path / "migrations", ["asked_models"])
    (tmp_path / "migrations" / "versions" / "one.py").write_text(MIGRATION)
    subprocess.run([*PROGRAM, "migrations", "upgrade"], check=True, capture_output=True)
    return tmp_path


def tables() -> set[str]:
    """The names of the tables."""
    connection = sqlite3.connect("events.db")
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    connection.close()
    return found


def in_a_job(answer: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command without a terminal; the answer comes through a pipe, which ends after it."""
    return subprocess.run([*PROGRAM, *command], input=answer, capture_output=True, text=True, check=False)


def in_terminal(answer: str, *command: str) -> tuple[int, str]:
    """Run a command in a terminal, where a person types an answer; return exit code and what is seen."""
    person, terminal = pty.openpty()
    os.write(person, answer.encode())
    with subprocess.Popen(
        [*PROGRAM, *command], stdin=terminal, stdout=subprocess.PIPE, stderr=terminal
    ) as run:
        run.wait(60)
    os.close(terminal)
    seen = b""
    while True:
        try:
            part = os.read(person, 10_000)
        except OSError:  # how Linux says that all is read
            part = b""
        if not part:
            break
        seen += part
    os.close(person)
    return run.returncode, seen.decode()


@pytest.mark.parametrize("command", [DOWNGRADE, DROP], ids=["downgrade", "drop-tables"])
def test_person_is_asked_in_a_terminal(folder: Path, command: tuple[str, ...]) -> None:
    """What would go is shown first; no changes nothing, yes does it."""
    refused, seen = in_terminal("n\n", *command)
    before = tables()
    wanted, _ = in_terminal("y\n", *command)

    assert (refused, wanted) == (1, 0)
    assert "On sqlite+aiosqlite:///events.db:" in seen
    assert ("first tables" if command is DOWNGRADE else "asked_events") in seen
    assert "[y/N]" in seen
    assert "asked_events" in before
    assert "asked_events" not in tables()


@pytest.mark.parametrize("command", [DOWNGRADE, DROP], ids=["downgrade", "drop-tables"])
def test_without_a_terminal_it_needs_yes(folder: Path, command: tuple[str, ...]) -> None:
    """A job is told what to type; an answer that is piped counts."""
    silent, piped = in_a_job("", *command), in_a_job("n\n", *command)
    before = tables()
    given = in_a_job("", *command, "--yes")

    assert (silent.returncode, piped.returncode, given.returncode) == (2, 1, 0)
    assert "Nobody is there to answer.\n  Fix: give --yes." in silent.stderr
    assert "asked_events" in before
    assert "asked_events" not in tables()


def test_nothing_to_undo_is_not_asked(folder: Path) -> None:
    """The question is about what would be undone."""
    done = in_a_job("", *DOWNGRADE, "one")

    assert (done.returncode, done.stderr) == (0, "Undid 0 migrations.\n")
