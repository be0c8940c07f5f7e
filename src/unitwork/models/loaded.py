"""This module finds the tables of the models that are loaded."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, DeclarativeBaseNoMeta

__all__: list[str] = []


def loaded_metadata() -> list[MetaData]:
    """Return the MetaData, if it has tables, of every declarative base in the program."""
    bases: list[type] = [*DeclarativeBase.__subclasses__(), *DeclarativeBaseNoMeta.__subclasses__()]
    return _distinct(map(_metadata_of, bases))


def metadata_in(module: ModuleType) -> list[MetaData]:
    """Return the MetaData, if it has tables, that a module holds, by itself or as that of its models."""
    return _distinct(map(_metadata_of, vars(module).values()))


def _metadata_of(value: object) -> MetaData | None:
    if isinstance(value, MetaData):
        return value
    metadata = getattr(value, "metadata", None) if isinstance(value, type) else None
    return metadata if isinstance(metadata, MetaData) else None


def _distinct(found: Iterable[MetaData | None]) -> list[MetaData]:
    return list({id(each): each for each in found if each is not None and each.tables}.values())
