"""This module holds the command `drop-tables`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from unitwork._logic.urls import shown
from unitwork.cli._models import chosen_metadata, models_option
from unitwork.cli._output import ask, counted, json_option, say, show, yes_option
from unitwork.cli._tables import existing_tables
from unitwork.cli._target import with_database

if TYPE_CHECKING:
    from unitwork.database import Database


@click.command()
@models_option
@yes_option
@json_option
@with_database
async def command(database: Database, *, models: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Drop the tables of the models, with all their rows, and print their names. Asks before."""
    metadata = chosen_metadata(models)
    dropped = sorted(await existing_tables(database, metadata))
    if dropped and not yes:
        say(f"On {shown(database.source.url)}: {', '.join(dropped)}")
        ask(f"Drop {counted(len(dropped), 'table')} with all their rows?")
    await database.drop_all(*metadata)
    show({"dropped": dropped}, as_json=as_json, text="\n".join(dropped))
    say(f"Dropped {counted(len(dropped), 'table')}.")
