"""This module imports what a person named on the command line."""

from __future__ import annotations

import functools
import importlib
import sys
from types import ModuleType

import click


class ModuleMissing(click.ClickException):
    """The module that a person named does not exist."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is no module {name!r}.\n"
            f"  Fix: name it as `import` does, and start in the folder that it is in."
        )


def import_named(name: str) -> ModuleType:
    """Import a module; the current folder is searched first.

    Raises:
        ModuleMissing: It does not exist. What is missing *inside* it raises its own error.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only this name or a parent of it is the person's own spelling.
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ModuleMissing(name) from None
        raise


def load_attribute(reference: str, option: str) -> object:
    """Import `module:attribute`; the attribute may have dots.

    Raises:
        click.UsageError: It has another form.
        click.ClickException: There is no such module, or no such attribute.
    """
    name, _, path = reference.partition(":")
    if not name or not path:
        raise click.UsageError(f"{option} is 'module:attribute', such as 'shop.main:db', not {reference!r}.")
    module = import_named(name)
    try:
        found: object = functools.reduce(getattr, path.split("."), module)
    except AttributeError:
        raise click.ClickException(
            f"Module {name!r} has no {path!r}.\n  It has: {', '.join(_names(module)) or 'nothing'}"
        ) from None
    return found


def _names(module: ModuleType) -> list[str]:
    return sorted(name for name in vars(module) if not name.startswith("_"))
