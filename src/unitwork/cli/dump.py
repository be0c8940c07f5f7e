"""This module holds the command `dump`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from unitwork.cli._files import FORMATS, STANDARD
from unitwork.cli._options import null_option
from unitwork.cli._output import counted, say
from unitwork.cli._target import with_database

if TYPE_CHECKING:
    from unitwork.database import Database


@click.command()
@click.argument("model", metavar="MODULE:MODEL")
@click.option(
    "--output",
    "-o",
    default=STANDARD,
    type=click.Path(dir_okay=False, allow_dash=True),
    help="The file to write; stdout without it.",
)
@click.option(
    "--format", "kind", type=click.Choice(FORMATS), help="What to write, if the name does not tell."
)
@click.option("--attributes", metavar="NAMES", help="Only these attributes, with commas.")
@click.option("--where", metavar="SQL", help="Only rows that meet this condition, in SQL.")
@null_option
@with_database
async def command(database: Database, *, model: str, output: str, kind: str | None, **asked: Any) -> None:
    """Write the rows of a model to a file.

    CSV with a header of attribute names, JSON lines, or Parquet, as `load` reads them again; ordered by
    primary key. Rows are written as they come, so memory does not grow with them; PostgreSQL writes CSV
    by COPY. The file appears when it is complete: if anything fails, an older one stays as it is.
    """
    from unitwork.cli._dumping import Dumping
    from unitwork.cli._files import NewFile, format_of
    from unitwork.cli._models import model_named

    chosen = kind or ("csv" if output == STANDARD else format_of(output, None))
    names = [name.strip() for name in asked["attributes"].split(",")] if asked["attributes"] else None
    dumping = Dumping(database, model_named(model, "The model"), names, asked["where"])
    with NewFile(output) as file:
        rows = await dumping.run(file, chosen, asked["null"])
    say(f"Wrote {counted(rows, 'row')}.")
