"""This package holds the command line: `unitwork COMMAND`, or `python -m unitwork COMMAND`.

A command is one module in this package that holds `command`, a click command or group; the name of the
module is that of the command (`create_tables` → `create-tables`). Nothing is registered. Modules whose
name begins with an underscore are what commands share:

- `_target` holds `with_database`: the options `--app` and `--url`, and a Database for an `async def`.
- `_modules` imports what a person named: `module`, `module:attribute`.
- `_output` holds the options `--json` and `--yes`, prints, and asks: data to stdout, messages to stderr.
- `_failures` tells what failed, without secrets.

The module of a command is imported when its name is on the command line, or to list all commands. Import
heavy or optional packages inside its functions, so that `unitwork --help` stays fast and whole.

`main` is a click group, to be mounted in a program's own command line.
"""

from unitwork.errors import MissingExtraError

try:
    import click
except ModuleNotFoundError as error:
    raise MissingExtraError("The command line", "click", "cli") from error

from unitwork.cli._commands import CommandFolder

__all__ = ["main"]


# Help is as wide as the terminal.
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 1_000}


@click.group(cls=CommandFolder, context_settings=_SETTINGS)
@click.version_option(package_name="unitwork", message="unitwork %(version)s")
def main() -> None:
    """Transactions, sessions and repositories for async SQLAlchemy.

    Data goes to stdout, messages to stderr. The exit code is 0 when all went well, 1 when something
    failed or differs, 2 when the command line is wrong, 130 after Ctrl-C.
    """
