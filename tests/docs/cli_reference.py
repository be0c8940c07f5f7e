"""This program writes docs/reference/cli.md from what `--help` says: `python -m tests.docs.cli_reference`."""

from collections.abc import Iterator
from pathlib import Path

import click

from unitwork.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
WIDTH = 100
HEAD = """# Command line

`pip install 'unitwork[cli]'` brings the program `unitwork`; `python -m unitwork` is the same. This page is
what `--help` says.

- `--app shop.main:db` names the program's own Database: the current folder is searched first, the name may
  have dots, and a function that takes nothing is called. `--url` is an address instead. Without both,
  `UNITWORK_APP`, `UNITWORK_URL` and `DATABASE_URL` are read. A URL without a driver gets an installed one.
- Data goes to stdout, messages to stderr. `--json` makes data readable for programs. Passwords, and
  arguments of a URL that are called as secrets are (`sslpassword`, `token`), are never printed.
- Exit code 0: all went well. 1: something failed, or differs. 2: the command line is wrong. 130: Ctrl-C.
- What destroys (`drop-tables`, `migrations downgrade`) shows what, and asks. Jobs, which cannot answer, give
  `--yes`.
- An import that fails *inside* your program shows its traceback.
- Completion: `eval "$(_UNITWORK_COMPLETE=bash_source unitwork)"`; `zsh_source` and `fish_source` exist, too.
- `unitwork.cli.main` is a click group: `your_group.add_command(main, "db")` makes it a part of your own
  command line.

From Python: `ping`, `create_all`, `drop_all` and `migrate` are methods of a Database, `generate-schemas` is
`unitwork.schemas.schema_for`, and `migrations` is `unitwork.integrations.alembic.Migrations`.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_sections(main, "unitwork", None)])


def _sections(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(
        command,
        parent=parent,
        info_name=name,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    level = 2 if parent is None else 3
    yield f"{'#' * level} `{context.command_path}`\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            inner = command.get_command(context, each)
            if inner is not None:
                yield from _sections(inner, each, context)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
