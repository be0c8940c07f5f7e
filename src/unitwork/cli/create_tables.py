"""This module holds the command `create-tables`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from unitwork.cli._models import chosen_metadata, models_option
from unitwork.cli._output import counted, json_option, say, show
from unitwork.cli._tables import existing_tables
from unitwork.cli._target import with_database

if TYPE_CHECKING:
    from unitwork.database import Database


@click.command()
@models_option
@json_option
@with_database
async def command(database: Database, *, models: tuple[str, ...], as_json: bool) -> None:
    """Create the tables that do not exist yet, and print their names.

    All of them or none, where the database can undo it. Tables that exist are left as they are: for
    changes use `migrations`.
    """
    metadata = chosen_metadata(models)
    existing = await existing_tables(database, metadata)
    created = [name for each in metadata for name in each.tables if name not in existing]
    await database.create_all(*metadata)
    show({"created": created, "existing": sorted(existing)}, as_json=as_json, text="\n".join(created))
    say(f"Created {counted(len(created), 'table')}; {len(existing)} existed before.")
