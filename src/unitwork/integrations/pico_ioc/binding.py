"""This module binds the components of a container to its Databases."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pico_ioc import MethodCtx, PicoContainer, intercepted_by

from unitwork._runtime import context
from unitwork.database import Database
from unitwork.errors import DatabaseChoiceError
from unitwork.integrations.pico_ioc.marks import component, configure
from unitwork.integrations.pico_ioc.scope import TransactionScopes
from unitwork.integrations.pico_ioc.session import SessionManager
from unitwork.lifecycle import Lifecycle

if TYPE_CHECKING:
    from unitwork._runtime.source import Source

_BINDING = "_unitwork_binding"
_INTERCEPTORS = "_pico_interceptors_"


@component
class Binding:
    """Tells the components of one container which Database is theirs. Lives: as long as the container.

    As an interceptor it opens nothing: it only leaves its mark on the object whose method is called.
    """

    def __init__(self, container: PicoContainer) -> None:
        self.container = container
        container.scopes = TransactionScopes(container, self.sources)

    @property
    def database(self) -> SessionManager:
        """The Database of components that hold none themselves."""
        return self.container.get(SessionManager)

    def sources(self) -> set[Source]:
        """Return where the sessions of all Databases of the container come from."""
        return {self.container.get(key).source for key in self._keys}

    @cached_property
    def _keys(self) -> list[Any]:
        """The types under which the container gives out Databases."""
        kinds = {key: self.container.metadata_for(key) for key in self.container.keys()}  # noqa: SIM118  # a method
        return [
            key for key, kind in kinds.items() if kind is not None and _gives_database(kind.provided_type)
        ]

    def invoke(self, ctx: MethodCtx, call_next: Callable[[MethodCtx], Any]) -> Any:  # noqa: ANN401  # what it returns
        """Mark the object, and go on; called by pico-ioc."""
        self.mark(ctx.instance)
        return call_next(ctx)

    @configure
    def mark_all(self) -> None:
        """Mark all singletons, so that their calls on themselves find the Database as well."""
        container = self.container
        for key in container.keys():  # noqa: SIM118  # a method
            kind = container.metadata_for(key)
            if kind is not None and kind.scope == "singleton" and not kind.lazy:
                made = container.get(key)
                if _has_transactions(made.__class__):
                    self.mark(made)

    def mark(self, instance: object) -> None:
        """Leave the mark; an object without room for it looks for the ambient Database."""
        with suppress(AttributeError, TypeError):
            if getattr(instance, _BINDING, None) is not self:
                setattr(instance, _BINDING, self)


def binds(function: Callable[..., Any]) -> None:
    """Make pico-ioc mark the object when this method of it is called."""
    intercepted_by(Binding)(function)


def _gives_database(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Database)


def _has_transactions(cls: type) -> bool:
    if hasattr(cls, "__unitwork_source__"):
        return True
    members = (vars(base).values() for base in cls.__mro__)
    return any(Binding in getattr(member, _INTERCEPTORS, ()) for group in members for member in group)


def source_of(instance: object) -> Source | None:
    """Return the Database of a component: the one that it holds, else that of its container.

    Raises:
        DatabaseChoiceError: It holds several, and no container has made it.
    """
    held = held_by(instance, Lifecycle)
    sources: set[Source] = {each.source for each in held}
    if len(sources) == 1:
        return sources.pop()
    binding: Binding | None = getattr(instance, _BINDING, None)
    if binding is not None:
        return binding.database.source
    if sources:
        raise DatabaseChoiceError(
            f"{type(instance).__name__} holds several Databases.",
            [each.name for each in held],
            "choose one with `using=`, or hold one.",
        )
    return None


def held_by(instance: object, kind: type[Any]) -> list[Any]:
    """Return the attributes of an object that are of this kind; lazy components are not woken."""
    return [each for each in getattr(instance, "__dict__", {}).values() if issubclass(type(each), kind)]


def source_for(arguments: tuple[object, ...]) -> Source:
    """Return the Database of a call: of the object, of the innermost block, or the only 'default'."""
    found = source_of(arguments[0]) if arguments else None
    return found if found is not None else context.current_or_default()


def component_of(arguments: tuple[object, ...], key: type[Database]) -> Database:
    """Return what the container of the object gives out for this type.

    Raises:
        DatabaseChoiceError: No container has made the object.
    """
    binding: Binding | None = getattr(arguments[0], _BINDING, None) if arguments else None
    if binding is None:
        raise DatabaseChoiceError(
            f"`using={key.__name__}` needs a component of a container.",
            context.names(),
            "call the method on what the container gives out, or pass a Database.",
        )
    return binding.container.get(key)
