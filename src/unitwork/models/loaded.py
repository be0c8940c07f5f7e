"""This module finds the tables of the models that are loaded, whatever kind of base they stand on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from sqlalchemy import MetaData, Table, inspect
from sqlalchemy.orm import DeclarativeBase, DeclarativeBaseNoMeta, Mapper, registry
from sqlalchemy.orm.mapper import _all_registries  # pyright: ignore[reportPrivateUsage]

__all__: list[str] = []


def loaded_metadata(modules: Iterable[ModuleType] = ()) -> list[MetaData]:
    """Return the MetaData, if it has tables, of everything that is mapped in the program.

    A base and what inherits from it may each have a MetaData of their own, and so may a table; models may
    also be mapped without a base, by a registry. Tables without a model are found in these modules alone.
    """
    bases = [*_descendants(DeclarativeBase), *_descendants(DeclarativeBaseNoMeta)]
    of_bases = [found for base in bases for found in _metadata_of(base)]
    others = [found for value in (*_all_registries(), *_loaded_models()) for found in _metadata_of(value)]
    # Registries have no order of their own.
    in_modules = [found for module in modules for found in metadata_in(module)]
    return _distinct([*of_bases, *sorted(others, key=lambda each: sorted(each.tables)), *in_modules])


def metadata_in(module: ModuleType) -> list[MetaData]:
    """Return the MetaData, if it has tables, that a module holds, by itself or as that of its models."""
    return _distinct(found for value in vars(module).values() for found in _metadata_of(value))


def modules_of(metadata: Iterable[MetaData]) -> list[str]:
    """Return the names of the modules whose models stand for tables of these MetaData."""
    tables = {table for each in metadata for table in each.tables.values()}
    return sorted(
        {model.__module__ for model in _loaded_models() if not tables.isdisjoint(_tables_of(model))}
    )


def _loaded_models() -> list[type[Any]]:
    return [mapper.class_ for each in _all_registries() for mapper in each.mappers]


def _descendants(base: type[Any]) -> Iterator[type[Any]]:
    for each in base.__subclasses__():
        yield each
        yield from _descendants(each)


def _metadata_of(value: object) -> Iterator[MetaData]:
    """Yield the MetaData that a value is, or stands on."""
    if isinstance(value, MetaData):
        yield value
    elif isinstance(value, registry | Table):
        yield value.metadata
    elif isinstance(value, type):
        own = getattr(value, "metadata", None)
        if isinstance(own, MetaData):
            yield own
        yield from (table.metadata for table in _tables_of(value))


def _tables_of(model: type) -> list[Table]:
    mapper: Any = inspect(model, raiseerr=False)
    tables = mapper.tables if isinstance(mapper, Mapper) else ()
    return [table for table in tables if isinstance(table, Table)]


def _distinct(found: Iterable[MetaData]) -> list[MetaData]:
    return list({id(each): each for each in found if each.tables}.values())
