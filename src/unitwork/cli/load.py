"""This module holds the command `load`."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from unitwork.cli._files import FORMATS
from unitwork.cli._options import null_option, text_encoding
from unitwork.cli._output import INTERRUPTED, counted, json_option, say, show
from unitwork.cli._target import with_database

if TYPE_CHECKING:
    from types import TracebackType

    from unitwork.cli._loading import Summary
    from unitwork.database import Database

_NEW_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--into", required=True, metavar="MODULE:MODEL", help="The model whose table takes the rows.")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="What FILE is, if its name does not tell.")
@click.option(
    "--on-conflict",
    type=click.Choice(["fail", "nothing", "update"]),
    default="fail",
    help="What to do with rows whose key is stored already.",
)
@click.option(
    "--encoding",
    metavar="NAME",
    default="utf-8",
    callback=text_encoding,
    help="What CSV and JSON are written in, such as cp1252; UTF-8 by default.",
)
@click.option("--key", metavar="NAMES", help="The attributes of that key, with commas; else the primary key.")
@click.option(
    "--rename", metavar="OLD=NEW", multiple=True, help="Read OLD as attribute NEW; OLD= leaves it out."
)
@null_option
@click.option(
    "--rejects", type=_NEW_FILE, help="Go on past bad records; write them here with line and reason."
)
@click.option("--resume", type=_NEW_FILE, help="Commit as it goes, and note here how far it is.")
@click.option("--dry-run", is_flag=True, help="Do everything, undo it at the end, and write no file.")
@json_option
@with_database
async def command(database: Database, *, file: str, into: str, as_json: bool, **asked: Any) -> None:
    """Store the rows of FILE in the table of a model.

    FILE is CSV with a header, JSON lines, or Parquet; - is stdin. The header names attributes, not
    columns. All of the file is stored or nothing, unless --rejects allows to go on past bad records,
    or --resume commits as it goes: run the same command again to go on after a failure, Ctrl-C or a
    kill. A first look at a file of somebody else: --dry-run --rejects bad.csv.
    """
    from unitwork.cli._files import format_of
    from unitwork.cli._loading import Loading
    from unitwork.cli._reading import Records

    source = None if file == "-" else Path(file)
    _refuse_rejects_over({"FILE": source, "--resume": asked["resume"]}, asked["rejects"])
    kind = format_of(file, asked["kind"])
    records = Records(file, kind, encoding=asked["encoding"], null=asked["null"])
    loading = Loading(database, _model(into), records, _options(asked), say)
    try:
        with _Bar(records.size) as bar:
            summary = await loading.run(bar.move)
    except asyncio.CancelledError:
        # Ctrl-C; nobody else cancels a command.
        say(loading.told_when_stopped())
        raise click.exceptions.Exit(INTERRUPTED) from None
    show(dataclasses.asdict(summary), as_json=as_json, text="")
    say(_told(summary))


def _refuse_rejects_over(files: dict[str, Path | None], rejects: Path | None) -> None:
    """Refuse to write the rejects over what is read, or over the position."""
    for option, file in files.items():
        if file is not None and rejects is not None and file.resolve() == rejects.resolve():
            raise click.UsageError(f"--rejects and {option} are the same file: {file}.")


def _options(asked: dict[str, Any]) -> Any:  # noqa: ANN401  # LoadOptions
    from unitwork.cli._loading import LoadOptions

    renames = _renames(asked["rename"])
    return LoadOptions(
        on_conflict=asked["on_conflict"],
        key=_key(asked["key"], asked["on_conflict"]),
        null=asked["null"],
        rename=renames,
        rejects=asked["rejects"],
        resume=asked["resume"],
        dry_run=asked["dry_run"],
    )


def _key(asked: str | None, on_conflict: str) -> tuple[str, ...] | None:
    if asked and on_conflict == "fail":
        raise click.UsageError("--key is for --on-conflict nothing or update; give one of them, or no key.")
    return tuple(name.strip() for name in asked.split(",")) if asked else None


def _renames(asked: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for old, middle, new in (each.partition("=") for each in asked):
        if not middle:
            raise click.UsageError("--rename is OLD=NEW, such as 'E-Mail=email'.")
        if old in found or (new and new in found.values()):
            twice = repr(old) if old in found else f"attribute {new!r}"
            raise click.UsageError(f"--rename names {twice} twice.")
        found[old] = new
    return found


def _model(reference: str) -> type[Any]:
    from unitwork.cli._models import model_named

    return model_named(reference, "--into")


def _told(summary: Summary) -> str:
    verb = "Would store" if summary.dry_run else "Stored"
    parts = [f"{verb} {counted(summary.stored, 'row')} of {summary.read:,} in {summary.seconds:.1f} s"]
    if summary.rejected:
        parts.append(f"{summary.rejected:,} rejected")
    if summary.skipped:
        parts.append(f"{summary.skipped:,} stored before")
    return "; ".join(parts) + "."


class _Bar:
    """A progress bar on stderr, where a person looks at it. Lives: one load."""

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._progress: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._progress = Progress(console=Console(stderr=True), transient=True)
            self._progress.start()
            self._task = self._progress.add_task("Loading", total=self._size)
        return self

    def move(self, read: int) -> None:
        """Show how many bytes were read."""
        if self._progress is not None:
            self._progress.update(self._task, completed=read)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
