"""This module finds the tables that a person means: those of named modules, or of all that is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import click
from sqlalchemy import MetaData, inspect
from sqlalchemy.orm import Mapper

from unitwork.cli._modules import Wanted, import_named, load_attribute, refuse_kind
from unitwork.models.loaded import loaded_metadata, metadata_in

models_option: Callable[[Any], Any] = click.option(
    "--models",
    metavar="MODULE",
    multiple=True,
    help="A module with models; may be repeated. Without it, all models that --app has imported.",
)


def model_named(reference: str, option: str) -> type[Any]:
    """Import a mapped class: `module:Model`.

    Raises:
        click.ClickException: It is something else.
    """
    wanted = Wanted(option, "MODULE:MODEL", "shop.models:User", _is_mapped)
    found = load_attribute(reference, wanted)
    if not _is_mapped(found):
        raise refuse_kind(reference, f"{reference!r} is no model.", wanted)
    return cast("type[Any]", found)


def _is_mapped(found: object) -> bool:
    return isinstance(found, type) and isinstance(inspect(found, raiseerr=False), Mapper)


def chosen_metadata(modules: Iterable[str]) -> list[MetaData]:
    """Return the MetaData of these modules, or of everything that is loaded, if it has tables.

    Raises:
        click.ClickException: There are no models.
    """
    named = [import_named(name) for name in modules]
    for module in named:
        if not metadata_in(module):
            raise click.ClickException(
                f"Module {module.__name__!r} has no models.\n  Fix: name the module that declares them."
            )
    found = [each for module in named for each in metadata_in(module)] or loaded_metadata()
    if not found:
        raise click.ClickException(
            "No models are loaded.\n  Fix: name the module that declares them: --models shop.models"
        )
    return list({id(each): each for each in found}.values())
