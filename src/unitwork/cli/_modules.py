"""This module imports what a person named on the command line, and says what might have been meant."""

from __future__ import annotations

import difflib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import click


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an option names: an attribute of a module, of some kind."""

    option: str
    form: str
    example: str
    fits: Callable[[object], bool]

    def typed(self, reference: str) -> str:
        """Return what a person would type."""
        return f"{self.option} {reference}" if self.option.startswith("-") else reference

    def fix(self, candidates: list[str]) -> str:
        """Return the line that says what to type: a candidate, or an example."""
        if not candidates:
            return f"  Fix: write such as {self.typed(self.example)}"
        return f"  Fix: {' or '.join(map(self.typed, candidates))}"


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


def load_attribute(reference: str, wanted: Wanted) -> object:
    """Import `module:attribute`; the attribute may have dots.

    Raises:
        click.UsageError: It has another form.
        click.ClickException: There is no such module, or no such attribute.
    """
    name, _, path = reference.partition(":")
    if not name or not path:
        raise click.UsageError(
            f"{wanted.option} is {wanted.form}, not {reference!r}.\n{wanted.fix(_meant(reference, wanted))}"
        )
    module = import_named(name)
    try:
        found: object = functools.reduce(getattr, path.split("."), module)
    except AttributeError:
        fitting = _fitting(module, wanted)
        names = fitting or sorted(each for each in vars(module) if not each.startswith("_"))
        near = [f"{name}:{each}" for each in _near(path, fitting)]
        raise click.ClickException(
            f"Module {name!r} has no {path!r}.\n  It has: {', '.join(names) or 'nothing'}"
            + (f"\n{wanted.fix(near)}" if near else "")
        ) from None
    return found


def refuse_kind(reference: str, problem: str, wanted: Wanted) -> click.ClickException:
    """Return the error that an attribute is of another kind."""
    name, _, path = reference.partition(":")
    fitting = _fitting(sys.modules[name], wanted)
    near = [f"{name}:{each}" for each in _near(path, fitting) or fitting[:1]]
    return click.ClickException(f"{problem}\n{wanted.fix(near)}")


def _meant(reference: str, wanted: Wanted) -> list[str]:
    """Return what a reference without a colon may mean: in that module, in its parent, or in any."""
    try:
        module = import_named(reference)
    except (ModuleMissing, ValueError):  # such as `:db`
        return sorted(_elsewhere(reference, wanted))
    return [f"{reference}:{each}" for each in _fitting(module, wanted)]


def _elsewhere(reference: str, wanted: Wanted) -> Iterator[str]:
    parent, _, attribute = reference.replace(":", "").rpartition(".")
    if parent:
        try:
            import_named(parent)
        except ModuleMissing:
            return
    for name, module in list(sys.modules.items()):
        if (name == parent or not parent) and attribute in _fitting(module, wanted):
            yield f"{name}:{attribute}"


def _fitting(module: ModuleType, wanted: Wanted) -> list[str]:
    """Return the names in a module of what is wanted; of classes, those that it declares."""
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", module.__name__) in (module.__name__, type(value).__module__)
        and wanted.fits(value)
    )


def _near(name: str, known: list[str]) -> list[str]:
    """Return the known name that this one was meant to be; nothing if none is near."""
    by_lower = {each.lower(): each for each in known}
    return [by_lower[each] for each in difflib.get_close_matches(name.lower(), by_lower, 1)]
