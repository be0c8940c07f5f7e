"""This module holds the commands `migrations ...`."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from unitwork._logic.urls import shown
from unitwork.cli._models import chosen_metadata, models_option
from unitwork.cli._modules import import_named
from unitwork.cli._output import ask, counted, json_option, say, show, yes_option
from unitwork.cli._target import with_database

if TYPE_CHECKING:
    from unitwork.database import Database
    from unitwork.integrations.alembic import Migrations

R = TypeVar("R")

_directory_option: Callable[[Any], Any] = click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default="migrations",
    show_default=True,
    help="The folder of the migrations.",
)


@click.group()
def command() -> None:
    """Change the tables of a database step by step, with Alembic."""


@command.command()
@_directory_option
@models_option
def init(directory: Path, models: tuple[str, ...]) -> None:
    """Make the folder of the migrations."""
    from unitwork.integrations.alembic.template import write_template

    for name in models:
        import_named(name)
    try:
        write_template(directory, models)
    except FileExistsError as error:
        raise click.ClickException(str(error)) from None
    say(f"Made {directory}.\n  Next: unitwork migrations revision 'first tables'")


@command.command()
@click.argument("message")
@click.option(
    "--autogenerate/--empty",
    default=True,
    help="Write what differs between models and database (the default).",
)
@click.option(
    "--allow-drop", is_flag=True, help="Write also what drops tables, columns, indexes or constraints."
)
@_directory_option
@models_option
@with_database
async def revision(
    database: Database, *, message: str, directory: Path, models: tuple[str, ...], **options: bool
) -> None:
    """Write a migration, MESSAGE says what for, and print its file.

    One that would drop tables, columns, indexes or constraints is not written without --allow-drop: a
    model that was not imported looks as if it were gone, and what no model names may be of others.
    """
    migrations = _migrations(database, directory, models)
    for path in await _alembic(migrations.revision(message, **options)):
        click.echo(path)
        say("Read it before you run it: not every change can be found.")


@command.command()
@click.argument("revision", default="head")
@click.option("--sql", is_flag=True, help="Print the SQL for an empty database, and run nothing.")
@_directory_option
@json_option
@with_database
async def upgrade(database: Database, *, revision: str, sql: bool, directory: Path, as_json: bool) -> None:
    """Run the migrations up to REVISION (all), and print their ids."""
    migrations = _migrations(database, directory)
    if sql:
        click.echo(await _alembic(migrations.sql(revision)), nl=False)
        return
    done = await _alembic(migrations.upgrade(revision))
    show(done, as_json=as_json, text="\n".join(done))
    say(f"Ran {counted(len(done), 'migration')}.")


@command.command()
@click.argument("revision", default="-1")
@_directory_option
@yes_option
@json_option
@with_database
async def downgrade(database: Database, *, revision: str, directory: Path, yes: bool, as_json: bool) -> None:
    """Undo the migrations down to REVISION (the last one alone; "base" for all), and print their ids.

    Asks before: what they have added to tables is dropped, with what it holds.
    """
    migrations = _migrations(database, directory)
    planned = await _alembic(migrations.undone_by(revision))
    if planned and not yes:
        steps = "".join(f"\n  {each.id}  {each.message}" for each in planned)
        say(f"On {shown(database.source.url)}:{steps}")
        ask(f"Undo {counted(len(planned), 'migration')}, and lose what is stored in what they have added?")
    undone = await _alembic(migrations.downgrade(revision))
    show(undone, as_json=as_json, text="\n".join(undone))
    say(f"Undid {counted(len(undone), 'migration')}.")


@command.command()
@_directory_option
@json_option
@with_database
async def current(database: Database, *, directory: Path, as_json: bool) -> None:
    """Print the revision that the database is at."""
    found = await _alembic(_migrations(database, directory).current())
    show(found, as_json=as_json, text="\n".join(found))
    if not found:
        say("No migration has run.")


@command.command()
@_directory_option
@json_option
@with_database
async def history(database: Database, *, directory: Path, as_json: bool) -> None:
    """Print all migrations, the newest first; a star marks that of the database."""
    found = await _alembic(_migrations(database, directory).history())
    lines = [f"{'*' if each.is_current else ' '} {each.id}  {each.message}" for each in found]
    show([dataclasses.asdict(each) for each in found], as_json=as_json, text="\n".join(lines))


@command.command()
@_directory_option
@models_option
@json_option
@with_database
async def check(database: Database, *, directory: Path, models: tuple[str, ...], as_json: bool) -> None:
    """Print what differs between models and database; exit with 1 if anything does."""
    found = await _alembic(_migrations(database, directory, models).check())
    show(found, as_json=as_json, text="\n".join(found))
    if found:
        raise click.ClickException(
            "The models differ from the database.\n  Fix: unitwork migrations revision '...', then upgrade."
        )
    say("The database is what the models say.")


def _migrations(database: Database, directory: Path, models: tuple[str, ...] = ()) -> Migrations:
    from unitwork.integrations.alembic import Migrations

    # Without --models, `env.py` says which.
    return Migrations(database, directory, chosen_metadata(models) if models else ())


async def _alembic(work: Awaitable[R]) -> R:
    from alembic.util import CommandError

    try:
        return await work
    except CommandError as error:
        raise click.ClickException(str(error)) from None
