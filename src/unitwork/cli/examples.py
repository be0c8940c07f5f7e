"""This module holds the command `examples`."""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from unitwork.cli._output import json_option, show

_PACKAGE = Path(__file__).parents[1]
# In an installed package they lie inside it; in the sources, beside `src`.
_FOLDERS = (_PACKAGE / "_examples", _PACKAGE.parents[1] / "examples")
_RUNS_BY_ITSELF = 'if __name__ == "__main__":'


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--source", is_flag=True, help="Print the program instead.")
@json_option
def command(name: str | None, arguments: tuple[str, ...], *, source: bool, as_json: bool) -> None:
    """List the example programs, or run the one called NAME in a temporary folder.

    Further ARGUMENTS are those of the program: `unitwork examples panel --no-browser`.
    """
    programs = _programs()
    if name is None:
        told = {found: _subject(path) for found, path in programs.items()}
        width = max(map(len, told), default=0)
        show(told, as_json=as_json, text="\n".join(f"{each:{width}}  {text}" for each, text in told.items()))
        return
    if name not in programs:
        raise click.UsageError(f"There is no example {name!r}; there are {', '.join(programs)}.")
    if source:
        click.echo(programs[name].read_text(encoding="utf-8"), nl=False)
        return
    with tempfile.TemporaryDirectory() as folder:
        exit_code = _run([sys.executable, str(programs[name]), *arguments], folder)
    if exit_code:
        raise click.ClickException(f"The example {name!r} ended with exit code {exit_code}.")


def _run(program: list[str], folder: str) -> int:
    with subprocess.Popen(program, cwd=folder) as running:  # noqa: S603  # our own program
        while True:
            try:
                return running.wait()
            except KeyboardInterrupt:
                # A terminal has told it to both: it ends by itself.
                continue


def _programs() -> dict[str, Path]:
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    found = sorted(folder.glob("*.py")) if folder is not None else []
    return {path.stem: path for path in found if _RUNS_BY_ITSELF in path.read_text(encoding="utf-8")}


def _subject(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]
