"""This module shortens the names of blocks, which say where each was opened, for people and for metrics."""

from __future__ import annotations

import re

_PLACE = re.compile(r"(?:the )?(.*?) at .*?([^/\\]+:\d+)$")
_NAMED = re.compile(r"the ([a-z]+)")


def short_name(name: str) -> str:
    """Return what a person calls a block: file and line, or class and function."""
    place = _PLACE.match(name)
    if place is not None:
        return " at ".join(place.groups())
    if name.startswith("the "):
        return name.removeprefix("the ")
    return ".".join(name.removeprefix("__main__.").rpartition("<locals>.")[2].split(".")[-2:])


def name_in_sentence(name: str) -> str:
    """Return the same where words stand before it."""
    return f"the {short_name(name)}" if name.startswith("the ") else short_name(name)


def kind_of_name(name: str) -> str:
    """Return the same where it is one of few; of a message or a request only what it is."""
    named = _NAMED.match(name) if _PLACE.match(name) is None else None
    return named.group(1) if named is not None else short_name(name)
