"""This module prints: data to stdout, for programs; messages to stderr, for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

json_option: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print data as JSON."
)


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
