"""This module holds the command `generate-schemas`."""

from __future__ import annotations

import difflib
import importlib
import itertools
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unitwork.cli._modules import import_named
from unitwork.cli._output import counted, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

_PURPOSES = ("read", "create", "update")


@click.command()
@click.argument("module")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="The file to write.")
@click.option(
    "--purpose",
    "purposes",
    type=click.Choice(_PURPOSES),
    multiple=True,
    default=_PURPOSES,
    help="Which schemas; may be repeated. All three without it.",
)
@click.option("--depth", type=click.IntRange(0), default=0, help="Follow relationships so many steps.")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if the file differs.")
def command(module: str, output: Path | None, purposes: Sequence[str], depth: int, *, check: bool) -> None:
    """Write Pydantic schemas of the models in MODULE as source, to a file or to stdout.

    Of a package, the models of all modules in it. `UserSchema` reads a user, `UserCreateSchema` and
    `UserUpdateSchema` check what comes in.
    """
    if check and output is None:
        raise click.UsageError("--check compares with a file: give --output FILE.")
    models = _models_in(import_named(module))
    text = _written(models, module, purposes, depth)
    if output is None:
        click.echo(text, nl=False)
    elif check:
        _compare(output, text)
    else:
        _write(output, text)
        say(f"Wrote the schemas of {counted(len(models), 'model')} to {output}.")


def _written(models: Sequence[type], module: str, purposes: Sequence[str], depth: int) -> str:
    from unitwork.schemas.description import Options, describe
    from unitwork.schemas.source import source_of

    schemas = [
        describe(model, Options.of(purpose, depth=depth if purpose == "read" else 0))
        for model in models
        for purpose in _PURPOSES
        if purpose in purposes
    ]
    return source_of(schemas, f"Written by `unitwork generate-schemas {module}`; changes here get lost.")


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(
            f"{file} cannot be written: {error.strerror}.\n  Fix: name a file in a folder that can be made."
        ) from None


def _compare(file: Path, text: str) -> None:
    present = file.read_text(encoding="utf-8") if file.exists() else ""
    if present == text:
        say(f"{file} is up to date.")
        return
    difference = difflib.unified_diff(
        present.splitlines(), text.splitlines(), f"{file}", f"{file} as it should be", lineterm=""
    )
    click.echo("\n".join(difference))
    raise click.ClickException(f"{file} is stale.\n  Fix: run the same command without --check.")


def _models_in(module: ModuleType) -> list[type]:
    found = {each for part in [module, *_submodules(module)] for each in _mapped(part)}
    own = {each for each in found if f"{each.__module__}.".startswith(f"{module.__name__}.")}
    models = sorted(own or found, key=lambda model: (model.__name__, model.__module__))
    if not models:
        raise click.ClickException(
            f"Module {module.__name__!r} has no models.\n  Fix: name the module that declares them."
        )
    for first, second in itertools.pairwise(models):
        if first.__name__ == second.__name__:
            raise click.ClickException(
                f"Two models are called {first.__name__}: in {first.__module__} and in {second.__module__}.\n"
                "  Fix: run the command for each of these modules, with a file for each."
            )
    return models


def _submodules(package: ModuleType) -> Iterator[ModuleType]:
    for each in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{package.__name__}."):
        if not each.name.endswith(".__main__"):
            yield importlib.import_module(each.name)


def _mapped(module: ModuleType) -> Iterator[type]:
    from sqlalchemy import inspect
    from sqlalchemy.orm import Mapper

    for value in vars(module).values():
        mapper: Any = inspect(value, raiseerr=False) if isinstance(value, type) else None
        if isinstance(mapper, Mapper):
            yield mapper.class_
