"""This module knows which Databases are alive."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

from unitwork._runtime import context
from unitwork.errors import DatabaseChoiceError

if TYPE_CHECKING:
    from unitwork._runtime.source import Source

DEFAULT_NAME = "default"
_known: weakref.WeakSet[Source] = weakref.WeakSet()


def enlist(source: Source) -> None:
    """Count a Database as alive, until it is disposed of or forgotten; again when it is used again."""
    source.engines.disposed = False
    _known.add(source)


def strike(source: Source) -> None:
    """Count a Database as alive no longer, until it is used again."""
    source.engines.disposed = True


def all_sources() -> list[Source]:
    """Return all live Databases."""
    return [source for source in _known if not source.engines.disposed]


def sources(name: str) -> list[Source]:
    """Return the live Databases of that name."""
    return [source for source in all_sources() if source.name == name]


def names() -> list[str]:
    """Return the names of all live Databases."""
    return sorted(source.name for source in all_sources())


def sources_after_collection(name: str) -> list[Source]:
    """Return the live Databases of that name, without those that nothing refers to any more."""
    if sources(name):
        gc.collect()
    return sources(name)


def source_named(name: str) -> Source:
    """Return the only live Database of this name.

    Raises:
        DatabaseChoiceError: There is none, or there are several.
    """
    found = sources(name)
    if len(found) > 1:
        found = sources_after_collection(name)
    if len(found) == 1:
        return found[0]
    if not found:
        sentence = f"No live Database is called {name!r}."
        fix = "create it first, or choose one with `@db.transactional` or `using=`."
    else:
        sentence = f"{len(found)} live Databases are called {name!r}."
        fix = "choose one with `@db.transactional` or `using=db`, or give them names."
    raise DatabaseChoiceError(sentence, names(), fix)


def current_or_default() -> Source:
    """Return the Database of the innermost open scope, else the only live one called 'default'."""
    source: Source | None = context.current_source()
    return source_named(DEFAULT_NAME) if source is None else source
