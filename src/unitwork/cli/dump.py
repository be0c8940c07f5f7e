"""This module holds the command `dump`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from unitwork.cli._files import FORMATS
from unitwork.cli._output import counted, say
from unitwork.cli._target import with_database

if TYPE_CHECKING:
    from unitwork.database import Database


@click.command()
@click.argument("model", metavar="MODULE:MODEL")
@click.option(
    "--output",
    "-o",
    default="-",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="The file to write; stdout without it.",
)
@click.option(
    "--format", "kind", type=click.Choice(FORMATS), help="What to write, if the name does not tell."
)
@click.option("--attributes", metavar="NAMES", help="Only these attributes, with commas.")
@click.option("--where", metavar="SQL", help="Only rows that meet this condition, in SQL.")
@click.option(
    "--null", metavar="TEXT", default="", help="What stands for no value in CSV. Nothing by default."
)
@with_database
async def command(database: Database, *, model: str, output: str, kind: str | None, **asked: Any) -> None:
    """Write the rows of a model's table to a file.

    CSV with a header of attribute names, JSON lines, or Parquet, as `load` reads them again; ordered by
    primary key. Rows are
    written as they come, so memory does not grow with them. PostgreSQL writes CSV by COPY.
    """
    from unitwork.cli._dumping import Dumping
    from unitwork.cli._files import format_of
    from unitwork.cli._models import model_named

    chosen = kind or ("csv" if output == "-" else format_of(output, None))
    names = [name.strip() for name in asked["attributes"].split(",")] if asked["attributes"] else None
    dumping = Dumping(database, model_named(model, "MODULE:MODEL"), names, asked["where"])
    file: IO[bytes] = sys.stdout.buffer if output == "-" else Path(output).open("wb")  # noqa: SIM115, ASYNC230  # the one thing it does
    try:
        rows = await dumping.run(file, chosen, asked["null"])
    finally:
        file.flush()
        if output != "-":
            file.close()
    say(f"Wrote {counted(rows, 'row')}.")
