"""Migrations run through the Database, inside a running loop, once, and whole."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic.util import CommandError
from sqlalchemy import URL, Connection, MetaData, String, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped, mapped_column

from tests.fixtures.commands import command_runner
from tests.fixtures.mixins import DataTables, Lamp, PlainTables, repository_of
from tests.fixtures.models import TABLES
from tests.fixtures.observer import Observer
from unitwork import Base, Database, RowError, TransactionRefusedError
from unitwork.cli import main
from unitwork.integrations.alembic import Migrations

KNOWN = [PlainTables.metadata, DataTables.metadata, TABLES[0].metadata]


class Second(Base):
    """The tables of the mixins' models, and one more."""

    __abstract__ = True
    metadata = MetaData()


class Extra(Second):
    """One table more."""

    __tablename__ = "extra_of_migrations"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


@pytest.fixture
def migrations(db: Database, tmp_path: Path) -> Migrations:
    """An empty folder of migrations."""
    found = Migrations(db, tmp_path / "50% migrations", KNOWN)
    found.init()
    return found


def write(migrations: Migrations, name: str, follows: str | None, upgrade: str) -> None:
    """Write a migration by hand."""
    (migrations.directory / "versions" / f"{name}.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n\n"
        f"revision = {name!r}\ndown_revision = {follows!r}\n\n\n"
        f"def upgrade():\n{upgrade}\n\n\ndef downgrade():\n    pass\n"
    )


async def test_models_become_tables(migrations: Migrations, observer: Observer) -> None:
    """A migration is written of what differs, runs, and leaves no difference; back again, too."""
    [file] = await migrations.revision("first tables")
    [first] = await migrations.upgrade()

    assert file.exists()
    assert await migrations.check() == []
    assert await migrations.upgrade() == []
    assert await migrations.current() == [first]
    assert await observer.scalar("SELECT count(*) FROM lamp") == 0
    assert [(each.id, each.message, each.is_current) for each in await migrations.history()] == [
        (first, "first tables", True)
    ]
    assert await migrations.downgrade() == [first]
    assert await migrations.current() == []
    with pytest.raises(DBAPIError):
        await observer.scalar("SELECT count(*) FROM lamp")


async def test_written_migration_means_the_same_on_every_database(migrations: Migrations) -> None:
    """Times and keys of the server are written as functions of unitwork, not as SQL of one database."""
    [file] = await migrations.revision("first tables")

    source = file.read_text()
    assert "unitwork.models.UTCDateTime()" in source
    assert "unitwork.models.utc_now()" in source
    assert "unitwork.models.random_uuid()" in source


async def test_what_unitwork_remembers_of_a_model_is_not_written(
    migrations: Migrations, db: Database
) -> None:
    """Alembic writes `Table.info` into its files; what a bulk write remembers of a model is not there."""
    with pytest.raises(RowError):
        await repository_of(Lamp, db).bulk_insert([{"colour": "red"}])

    [file] = await migrations.revision("first tables")

    assert "info=" not in file.read_text()


async def test_check_tells_what_differs(migrations: Migrations, db: Database) -> None:
    """Each difference in a few words."""
    await migrations.revision("first tables")
    await migrations.upgrade()
    after = Migrations(db, migrations.directory, [*KNOWN, Second.metadata])

    assert await after.check() == ["add_table extra_of_migrations"]


async def test_database_migrates_when_a_program_starts(migrations: Migrations, db: Database) -> None:
    """`await db.migrate()` runs what has not run."""
    write(migrations, "one", None, '    op.create_table("made", sa.Column("id", sa.Integer))')
    write(migrations, "two", "one", '    op.add_column("made", sa.Column("note", sa.String(9)))')

    assert await db.migrate(migrations.directory, revision="one") == ["one"]
    assert await db.migrate(migrations.directory) == ["two"]
    assert await db.migrate(migrations.directory) == []


async def test_constraints_without_a_name_get_that_of_the_convention(db: Database, tmp_path: Path) -> None:
    """Of the models, in what a migration says by hand as in what it was filled with."""
    migrations = Migrations(db, tmp_path / "migrations", [Base.metadata])
    migrations.init()
    kind = 'sa.Enum("a", "b", name="kind", native_enum=False, create_constraint=True)'
    columns = f'sa.Column("id", sa.Integer, primary_key=True), sa.Column("kind", {kind})'
    write(migrations, "one", None, f'    op.create_table("made", {columns}, sa.UniqueConstraint("kind"))')

    await migrations.upgrade()

    def names(connection: Connection) -> set[str | None]:
        found = inspect(connection)
        made = (*found.get_unique_constraints("made"), *found.get_check_constraints("made"))
        return {each["name"] for each in made}

    async with db.engine.connect() as connection:
        assert await connection.run_sync(names) == {"uq_made_kind", "ck_made_kind"}


async def test_what_cannot_be_undone_is_told(migrations: Migrations) -> None:
    """No such revision, and none so far back: in the words of Alembic, and nothing is run."""
    write(migrations, "one", None, '    op.create_table("made", sa.Column("id", sa.Integer))')
    await migrations.upgrade()

    for revision in ("nowhere", "-9"):
        with pytest.raises(CommandError):
            await migrations.undone_by(revision)


async def test_many_may_migrate_at_once(migrations: Migrations, database_url: URL) -> None:
    """Tasks of one loop, each with a Database of its own: one runs the migration, the others find nothing."""
    write(migrations, "one", None, '    op.create_table("made", sa.Column("id", sa.Integer))')
    databases = [Database(database_url) for _ in range(4)]

    done = await asyncio.gather(*(database.migrate(migrations.directory) for database in databases))

    assert sorted(done, key=len) == [[], [], [], ["one"]]
    for database in databases:
        await database.dispose()


PROGRAM = """
import asyncio, sys
from unitwork import Database

async def main():
    async with Database(sys.argv[1]) as db:
        print(*await db.migrate(sys.argv[2]))

asyncio.run(main())
"""

POOLED_PROGRAM = PROGRAM.replace("(sys.argv[1])", "(sys.argv[1], transaction_pooling=True)")


async def test_processes_may_migrate_at_once(migrations: Migrations, database_url: URL) -> None:
    """Several instances of a program start together; the database's lock orders them."""
    write(migrations, "one", None, '    op.create_table("made", sa.Column("id", sa.Integer))')
    url = database_url.render_as_string(hide_password=False)

    running = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, url, str(migrations.directory), stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    shown = [(await each.communicate())[0].decode().strip() for each in running]

    assert [each.returncode for each in running] == [0, 0, 0]
    assert sorted(shown) == ["", "", "one"]


@pytest.mark.only("postgresql", reason="such poolers are PostgreSQL's")
async def test_programs_behind_a_pooler_migrate_one_after_another(
    pooled_url: URL, tmp_path: Path, observer: Observer
) -> None:
    """The lock is that of a transaction, since the next one may run on another connection of the server."""
    first = Migrations(Database(pooled_url, name="first", transaction_pooling=True), tmp_path / "migrations")
    first.init()
    write(first, "one", None, '    op.create_table("made", sa.Column("id", sa.Integer))')
    concurrently = (
        "    with op.get_context().autocommit_block():\n"
        '        op.create_index("found", "made", ["id"], postgresql_concurrently=True)'
    )
    write(first, "two", "one", concurrently)
    url = pooled_url.render_as_string(hide_password=False)
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", POOLED_PROGRAM, url, str(first.directory), stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    shown = [(await each.communicate())[0].decode().strip() for each in running]

    assert sorted(shown) == ["", "", "", "one two"]
    assert await observer.scalar("SELECT count(*) FROM pg_indexes WHERE indexname = 'found'") == 1
    assert await observer.scalar("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


@pytest.mark.only("sqlite", "postgresql", reason="MariaDB cannot undo DDL")
async def test_migration_that_fails_leaves_nothing(migrations: Migrations, observer: Observer) -> None:
    """Neither its first half, nor the lock: the next run does it."""
    broken = '    op.create_table("made", sa.Column("id", sa.Integer))\n    op.execute("no sql")'
    write(migrations, "one", None, broken)
    with pytest.raises(DBAPIError, match="no sql"):
        await migrations.upgrade()

    with pytest.raises(DBAPIError):
        await observer.scalar("SELECT count(*) FROM made")
    write(migrations, "one", None, '    op.create_table("made", sa.Column("id", sa.Integer))')
    assert await migrations.upgrade() == ["one"]


@pytest.mark.only("mariadb", reason="it cannot undo DDL; the lock is free all the same")
async def test_failure_frees_the_lock(migrations: Migrations, db: Database) -> None:
    """Another instance need not wait for the connection to close."""
    write(migrations, "one", None, '    op.execute("no sql")')
    with pytest.raises(DBAPIError, match="no sql"):
        await migrations.upgrade()

    async with db.engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    async with asyncio.timeout(5):
        with pytest.raises(DBAPIError, match="no sql"):
            await migrations.upgrade()


@pytest.mark.only("postgresql", reason="it alone has statements that refuse transactions")
async def test_statement_that_refuses_transactions_can_run(
    migrations: Migrations, observer: Observer
) -> None:
    """Alembic's `autocommit_block` works, since the lock is not that of a transaction."""
    write(
        migrations,
        "one",
        None,
        '    op.create_table("made", sa.Column("id", sa.Integer))\n'
        "    with op.get_context().autocommit_block():\n"
        '        op.execute("CREATE INDEX CONCURRENTLY made_id ON made (id)")',
    )

    assert await migrations.upgrade() == ["one"]
    assert await observer.scalar("SELECT count(*) FROM pg_indexes WHERE indexname = 'made_id'") == 1


@pytest.mark.only("sqlite", reason="it alone builds tables anew")
async def test_rebuilding_a_table_keeps_what_refers_to_it(migrations: Migrations, db: Database) -> None:
    """SQLite's DROP TABLE would delete the rows of other tables, by ON DELETE CASCADE."""
    async with db.transaction() as session:
        for statement in (
            "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT)",
            "CREATE TABLE child (id INTEGER PRIMARY KEY, parent REFERENCES parent ON DELETE CASCADE)",
            "INSERT INTO parent VALUES (1, 'x')",
            "INSERT INTO child VALUES (1, 1)",
        ):
            await session.execute(text(statement))
    write(
        migrations,
        "one",
        None,
        '    with op.batch_alter_table("parent") as batch:\n'
        '        batch.alter_column("name", nullable=False)',
    )

    assert await migrations.upgrade() == ["one"]
    async with db.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM child")) == 1
        assert await session.scalar(text("PRAGMA foreign_keys")) == 1


@pytest.mark.only("sqlite", reason="its checks are off during migrations")
async def test_migration_that_breaks_references_is_undone(migrations: Migrations, db: Database) -> None:
    """What the database would have refused is found before the commit."""
    write(
        migrations, "one", None, "    op.execute('INSERT INTO \"order\" (account_id, total) VALUES (7, 1)')"
    )

    with pytest.raises(CommandError, match="order refer to rows that do not exist"):
        await migrations.upgrade()
    assert await migrations.current() == []


async def test_migrations_are_refused_in_a_block(migrations: Migrations, db: Database) -> None:
    """They commit by themselves, and on SQLite they would wait for the block forever."""
    async with db.transaction():
        with pytest.raises(TransactionRefusedError, match="inside a transaction block"):
            await migrations.upgrade()


@pytest.mark.only("sqlite", reason="it is the same for all")
async def test_folder_or_revision_that_does_not_exist_is_named(
    migrations: Migrations, db: Database, tmp_path: Path
) -> None:
    """By Alembic's own error, with a fix for the folder; an existing folder is not made again."""
    with pytest.raises(CommandError, match=r"(?s)no migrations in .*unitwork migrations init"):
        await db.migrate(tmp_path / "nowhere")
    with pytest.raises(CommandError, match="nope"):
        await migrations.upgrade("nope")
    with pytest.raises(FileExistsError):
        migrations.init()


async def test_sql_is_printed_and_not_run(migrations: Migrations) -> None:
    """For those who may not run it themselves."""
    write(migrations, "one", None, '    op.create_table("made", sa.Column("id", sa.Integer))')

    assert "CREATE TABLE made" in await migrations.sql()
    assert await migrations.current() == []


async def test_loggers_of_the_program_stay_on(
    migrations: Migrations, caplog: pytest.LogCaptureFixture
) -> None:
    """Alembic's usual `fileConfig` would switch them off."""
    write(migrations, "one", None, '    op.create_table("made", sa.Column("id", sa.Integer))')
    import logging  # noqa: PLC0415  # used here alone

    await migrations.upgrade()

    assert not logging.getLogger("tests").disabled
    assert not caplog.get_records("setup")


MODELS = """
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column
from unitwork import Base, IntPKMixin, TimestampMixin

class Song(Base, IntPKMixin, TimestampMixin):
    __tablename__ = "songs"
    title: Mapped[str] = mapped_column(String(50))
"""


def shown(*arguments: str) -> Callable[[Path], subprocess.CompletedProcess[str]]:
    """Run a program in a folder."""

    def run(folder: Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "UNITWORK_URL": "sqlite:///songs.db", "PYTHONPATH": str(folder)}
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env=environment,
        )

    return run


@pytest.mark.timeout(60)  # six programs
def test_command_line_migrates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the empty folder to the changed table, and the plain `alembic` reads the same folder."""
    (tmp_path / "song_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    steps = [
        (("init", "--models", "song_models"), 0),
        (("revision", "first"), 0),
        (("check",), 1),
        (("upgrade",), 0),
        (("check",), 0),
    ]
    for arguments, code in steps:
        done = shown("unitwork", "migrations", *arguments)(tmp_path)
        assert done.returncode == code, (arguments, done.stderr)
        assert "Traceback" not in done.stderr

    (tmp_path / "alembic.ini").write_text(
        "[alembic]\nscript_location = migrations\nsqlalchemy.url = sqlite+aiosqlite:///songs.db\n"
        "path_separator = os\n"
    )
    plain = shown("alembic", "downgrade", "base")(tmp_path)
    assert plain.returncode == 0, plain.stderr
    with closing(sqlite3.connect(tmp_path / "songs.db")) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"alembic_version"}


@pytest.mark.only("sqlite", reason="it is the same for all")
def test_command_line_offers_what_the_class_does(database_url: URL, tmp_path: Path) -> None:
    """Ids on stdout, or JSON; messages on stderr; 1 when it failed or something differs."""
    folder = str(tmp_path / "steps")
    url = database_url.render_as_string(hide_password=False)
    command_runner().invoke(main, ["migrations", "init", "--directory", folder])
    steps = Path(folder) / "versions"
    (steps / "one.py").write_text(
        'revision = "one"\ndown_revision = None\ndef upgrade(): pass\ndef downgrade(): pass\n'
    )

    def run(*arguments: str) -> tuple[int, str]:
        options = ["--url", url, "--directory", folder]
        done = command_runner().invoke(main, ["migrations", *arguments, *options])
        return done.exit_code, done.stdout.strip()

    assert run("current") == (0, "")
    assert run("history") == (0, "one")
    assert run("upgrade", "nope") == (1, "")
    assert run("upgrade", "--json") == (0, '["one"]')
    assert run("current", "--json") == (0, '["one"]')
    assert run("history")[1].startswith("* one")
    assert run("downgrade", "--yes") == (0, "one")
    assert run("revision", "more", "--empty")[0] == 0
    assert run("init", "--directory", folder)[0] == 2  # it needs no database


def test_command_line_names_the_folder_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says how to make it."""
    monkeypatch.chdir(tmp_path)

    done = command_runner().invoke(main, ["migrations", "upgrade", "--url", "sqlite:///x.db"])

    assert done.exit_code == 1
    assert "Fix: unitwork migrations init" in done.stderr
