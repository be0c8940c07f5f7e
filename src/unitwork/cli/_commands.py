"""This module finds the commands: one for each module in the folder."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import click
from typing_extensions import override

from unitwork.errors import UnitworkError

_FOLDER = str(Path(__file__).parent)


class CommandFolder(click.Group):
    """A group whose commands are the modules beside this one; one is imported when it is needed."""

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UnitworkError as error:
            # Such as a missing extra: the message says what to do, a traceback would hide it.
            raise click.ClickException(str(error)) from None

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
