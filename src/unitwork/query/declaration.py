"""This module holds what a class declares before it is complete, and completes it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from unitwork._later import later
from unitwork.errors import QueryDeclarationError

if TYPE_CHECKING:  # what a program that declares no query does not use
    from unitwork._runtime.lanes import registry
    from unitwork.query import declared
    from unitwork.query import signature as signatures
else:
    registry = later("unitwork._runtime.lanes.registry")
    declared = later("unitwork.query.declared")
    signatures = later("unitwork.query.signature")

QUERY = "__unitwork_query__"
"""The attribute of a method that tells which declared query it is."""

_OWN_NAMES = frozenset({"database_access", "entity", "select", "session", "where"})


class Form(Protocol):
    """One way to say what a query asks."""

    def query(self, signature: signatures.QuerySignature, entity: type | None) -> declared.DeclaredQuery:
        """Build the query; refuse what cannot work."""
        ...


class Declaration:
    """A declared query before the class that holds it is complete. Lives: until it is."""

    def __init__(self, function: Callable[..., Any], form: Form, *, returns_statement: bool = False) -> None:
        self.function = function
        self.form = form
        self._returns_statement = returns_statement
        self._known = _enclosing_names(function)

    def __call__(self, *_arguments: object, **_keywords: object) -> object:
        """Refuse to run outside of a repository."""
        raise QueryDeclarationError(
            f"{self.function.__module__}.{self.function.__qualname__}",
            "its class is no repository",
            "inherit `Repository[Model]`, or decorate the class with `@repository(entity=Model)`.",
        )

    def bound_to(self, owner: type, entity: type | None) -> Callable[..., Any]:
        """Return the method that runs the query for this entity.

        Raises:
            QueryDeclarationError: The declaration cannot work.
        """
        function = self.function
        name = f"{owner.__module__}.{owner.__qualname__}.{function.__name__}"
        known: dict[str, Any] = {owner.__name__: owner, **self._known}
        if entity is not None:
            known.setdefault(entity.__name__, entity)
        signature = signatures.signature_of(function, name, known, returns_needed=not self._returns_statement)
        query = self.form.query(signature, entity)
        method = self._method(query, signature)
        setattr(method, QUERY, query)
        registry.enlist(query, owner)
        return method

    def _method(
        self, query: declared.DeclaredQuery, signature: signatures.QuerySignature
    ) -> Callable[..., Any]:
        bind = signature.bind

        @functools.wraps(self.function)
        def stream(self: declared.HasAccess, *arguments: Any, **keywords: Any) -> AsyncIterator[Any]:
            return query.stream(self, bind(arguments, keywords))

        @functools.wraps(self.function)
        async def streaming(self: declared.HasAccess, *arguments: Any, **keywords: Any) -> AsyncIterator[Any]:
            return query.stream(self, bind(arguments, keywords))

        @functools.wraps(self.function)
        async def run(self: declared.HasAccess, *arguments: Any, **keywords: Any) -> object:
            return await query.run(self, bind(arguments, keywords))

        if not query.streams:
            return run
        return streaming if inspect.iscoroutinefunction(self.function) else stream


def _enclosing_names(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the local names around a repository that is declared inside a function."""
    if "<locals>" not in function.__qualname__:
        return {}
    names: dict[str, Any] = {}
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == function.__module__:
            names = {**frame.f_locals, **names}
        if frame.f_code.co_name == "<module>":
            break
        frame = frame.f_back
    return names


def bind_declarations(owner: type, entity: type | None) -> None:
    """Complete all queries that a class declares, or inherits from a generic repository.

    Raises:
        QueryDeclarationError: One of them cannot work.
    """
    if entity is None and vars(owner).get("__parameters__"):
        return  # a generic repository: its subclasses name the entity
    for name in dict.fromkeys(name for cls in owner.__mro__ for name in vars(cls)):
        value = inspect.getattr_static(owner, name)
        if isinstance(value, Declaration):
            if name in _OWN_NAMES and hasattr(owner, "__unitwork_source__"):
                raise QueryDeclarationError(
                    f"{owner.__module__}.{owner.__qualname__}.{name}",
                    "a repository needs this name for itself",
                    "call the method otherwise.",
                )
            setattr(owner, name, value.bound_to(owner, entity))
