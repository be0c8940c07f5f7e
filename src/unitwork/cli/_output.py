"""This module prints: data to stdout, for programs; messages to stderr, for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import click

INTERRUPTED = 130
"""The exit code of programs that Ctrl-C has ended."""

json_option: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print data as JSON."
)


yes_option: Callable[[Any], Any] = click.option("--yes", is_flag=True, help="Do not ask.")


def ask(question: str) -> None:
    """Go on only if a person says yes.

    Raises:
        click.Abort: The answer is no.
        click.UsageError: Nobody answers, as in a job without a terminal.
    """
    try:
        is_wanted = click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        click.echo(err=True)
        raise click.UsageError("Nobody is there to answer.\n  Fix: give --yes.") from None
    if not is_wanted:
        raise click.Abort


def say(message: str) -> None:
    """Tell a person something."""
    click.echo(message, err=True)


def show(data: object, *, as_json: bool, text: str) -> None:
    """Print data: for programs as JSON, else as text."""
    if as_json:
        click.echo(json.dumps(data, default=str, ensure_ascii=False))
    elif text:
        click.echo(text)


def counted(number: int, noun: str) -> str:
    """Return such as '1 table' or '3 tables'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
