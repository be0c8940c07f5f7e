"""This module holds the command `top`."""

from __future__ import annotations

import time

import click

from unitwork.cli._panel_client import PanelClient
from unitwork.errors import MissingExtraError

_EVERY_S = 1.0


@click.command()
@click.option("--url", metavar="URL", required=True, help="Where the page of the panel is.")
@click.option(
    "--header",
    "headers",
    metavar="'NAME: VALUE'",
    multiple=True,
    help="Sent with each question, such as 'Authorization: Bearer …'. May be repeated.",
)
@click.option("--once", is_flag=True, help="Print one picture, and end.")
def command(url: str, headers: tuple[str, ...], *, once: bool) -> None:
    """Show in the terminal what a program with a panel does: as its page, until Ctrl-C.

    The program mounts the panel: app.mount("/unitwork", Panel(db, ...)). It observes while somebody
    looks: with --once, and nothing seen yet, for a second.
    """
    try:
        from rich.console import Console
        from rich.live import Live

        from unitwork.cli._panel_frame import frame
    except ModuleNotFoundError as error:
        raise MissingExtraError("`unitwork top`", "rich", "cli") from error

    client, console = PanelClient(url, headers), Console(highlight=False)
    told = client.state()
    if once:
        if not told["seen"]:
            time.sleep(_EVERY_S)  # it observes from now on
            told = client.state()
        console.print(frame(told))
        return
    try:
        with Live(frame(told), console=console, screen=console.is_terminal, auto_refresh=False) as live:
            while True:
                time.sleep(_EVERY_S)
                live.update(frame(client.state()), refresh=True)
    except KeyboardInterrupt:
        return
