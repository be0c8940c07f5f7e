"""This module holds the options that `load` and `dump` share, checked when they are read."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Any

import click


def text_encoding(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    """Return the name of an encoding as Python has it; for click.

    Raises:
        click.BadParameter: There is no such encoding of text.
    """
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise click.BadParameter(f"{name!r} is no encoding of text, such as utf-8 or cp1252.") from None
    found = codecs.lookup(name).name
    # The mark that Windows puts before UTF-8 is left out of either.
    return "utf-8" if found == "utf-8-sig" else found


def _null_text(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    if any(mark in text for mark in ',"\r\n'):
        raise click.BadParameter("a comma, a quote or a line end is part of CSV itself; take such as '\\N'.")
    return text


null_option: Callable[[Any], Any] = click.option(
    "--null",
    metavar="TEXT",
    default="",
    callback=_null_text,
    help="What stands for no value in CSV, if it is not in quotes. Nothing by default.",
)
