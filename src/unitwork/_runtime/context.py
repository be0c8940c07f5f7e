"""This module holds the one context variable, and which Databases are alive."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

from unitwork.errors import DatabaseChoiceError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from unitwork._runtime.blocks.entry import Entry
    from unitwork._runtime.source import Source

# Outermost first. A tuple, so that what a child task adds never shows in its parent.
_scopes: ContextVar[tuple[Entry, ...]] = ContextVar("unitwork_scopes", default=())

_alive: weakref.WeakSet[Source] = weakref.WeakSet()


class Outside:
    """Hides the scopes around a function that must find no transaction open."""

    outside = True

    def __init__(self, source: Source) -> None:
        self.source = source


def step_outside(source: Source) -> None:
    """Hide the open scopes of a Database from the rest of this task; they still hold connections."""
    if any(scope.source is source for scope in _scopes.get()):
        _scopes.set((*_scopes.get(), cast("Entry", Outside(source))))


def push(scope: Entry) -> None:
    """Make a scope the innermost one of this context."""
    _scopes.set((*_scopes.get(), scope))
    if scope.source.ledger is not None:
        scope.source.ledger.add(scope)


def drop(scope: Entry) -> None:
    """Take a scope out of this context, wherever in it it is.

    Not by token: a unit of work may end before the blocks inside it are left, and a fixture may be
    left in another context than it was entered in. What stays behind there has ended, and
    `innermost` passes over it.
    """
    scopes = _scopes.get()
    if scopes and scopes[-1] is scope:
        _scopes.set(scopes[:-1])
    elif scope in scopes:
        _scopes.set(tuple(known for known in scopes if known is not scope))


def uncover(scope: Entry) -> None:
    """Let the scopes around one that has ended be found again, while it is still to be left.

    Where there are none it stays: whoever looks for it is told that it has ended.
    """
    scopes = _scopes.get()
    if len(scopes) > 1 and any(other.source is scope.source for other in scopes if other is not scope):
        drop(scope)


def open_scopes() -> tuple[Entry, ...]:
    """Return the scopes of this context, outermost first; those that have ended may be among them."""
    return _scopes.get()


def last(source: Source) -> Entry | None:
    """Return the innermost scope of one Database, even if it has ended."""
    for scope in reversed(_scopes.get()):
        if scope.source is source:
            return None if scope.outside else scope
    return None


def innermost(source: Source) -> Entry | None:
    """Return the innermost scope of one Database, or None when none is open."""
    scope = last(source)
    # What has ended does not uncover the scopes around it: code that outlives its block is outside,
    # and so is code that inherited the context in another event loop.
    if scope is None or scope.frame.ended or scope.frame.session.loop is not asyncio.get_running_loop():
        return None
    return scope


def scope_of(session: AsyncSession) -> Entry | None:
    """Return the innermost scope of this context that lives on this session."""
    for scope in reversed(_scopes.get()):
        # What has ended has no session any more.
        if not scope.outside and not scope.frame.ended and scope.frame.session is session:
            return scope
    return None


def current_or_default() -> Source:
    """Return the Database of the innermost open scope, else the only live one called 'default'."""
    for scope in reversed(_scopes.get()):
        if scope.outside or not scope.frame.ended:
            return scope.source
    return source_named("default")


def enlist(source: Source) -> None:
    """Count a Database as alive, until it is disposed of or forgotten."""
    _alive.add(source)


def strike(source: Source) -> None:
    """Count a Database as alive no longer."""
    _alive.discard(source)


def sources(name: str) -> list[Source]:
    """Return the live Databases of that name."""
    return [source for source in _alive if source.name == name]


def all_sources() -> list[Source]:
    """Return all live Databases."""
    return list(_alive)


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


def sources_after_collection(name: str) -> list[Source]:
    """Return the live Databases of that name, without those that nothing refers to any more."""
    if sources(name):
        gc.collect()
    return sources(name)


def names() -> list[str]:
    """Return the names of all live Databases."""
    return sorted(source.name for source in _alive)
