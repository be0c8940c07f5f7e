"""This module finds the commands: one for each module in the folder."""

from __future__ import annotations

import importlib
import pkgutil
import sysconfig
import warnings
from pathlib import Path
from typing import Any

import click
from typing_extensions import override

from unitwork.cli._output import INTERRUPTED, say
from unitwork.errors import UnitworkError

_FOLDER = str(Path(__file__).parent)
_OF_OTHERS = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
"""Where the files are that are nobody's own program."""


class CommandFolder(click.Group):
    """A group whose commands are the modules beside this one; one is imported when it is needed."""

    @override
    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = _warn  # type: ignore[assignment]  # nobody gives it a file
            try:
                return super().invoke(ctx)
            except UnitworkError as error:
                # Such as a missing extra: the message says what to do, a traceback would hide it.
                raise click.ClickException(str(error)) from None
            except KeyboardInterrupt:
                raise click.exceptions.Exit(INTERRUPTED) from None

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        found = (module.name for module in pkgutil.iter_modules([_FOLDER]))
        return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"unitwork.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        command.name = cmd_name
        return command


def _warn(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_more: object
) -> None:
    """Show a warning; with its place only if that is in the person's program."""
    if filename.startswith((*_OF_OTHERS, str(Path(_FOLDER).parent))):
        say(f"Warning: {message}")
    else:
        say(warnings.formatwarning(message, category, filename, lineno).rstrip())
