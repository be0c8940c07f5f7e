"""This module knows the declared queries of the program: to be checked, and to keep room for them all."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitwork._logic.shape import Shape
    from unitwork._runtime.lanes.calls import StatementCall


class Checkable(Protocol):
    """A declared query, as the check sees it."""

    @property
    def name(self) -> str:
        """Module, class and method."""
        ...

    @property
    def shape(self) -> Shape:
        """What it promises."""
        ...

    @property
    def counts(self) -> bool:
        """Whether it returns the number of rows that it touches."""
        ...

    @property
    def converts(self) -> bool:
        """Whether the values of its rows become what the annotations say, in whatever type they come."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The annotations of its parameters."""
        ...

    def asked(self, owner: Any, arguments: dict[str, Any]) -> StatementCall:  # noqa: ANN401  # of any class
        """Return the statement of one call."""
        ...


_OTHER_STATEMENTS = 500
_STATEMENTS_OF_A_QUERY = 2
"""A page has one that counts."""

_owners: weakref.WeakKeyDictionary[type, list[Checkable]] = weakref.WeakKeyDictionary()


def enlist(query: Checkable, owner: type) -> None:
    """Remember a query for as long as the class that declares it lives."""
    _owners.setdefault(owner, []).append(query)


def room_for_statements() -> int:
    """Return how many compiled statements to keep, so that those of all declared queries are among them."""
    return _OTHER_STATEMENTS + _STATEMENTS_OF_A_QUERY * sum(map(len, _owners.values()))


def declared_queries(*owners: type) -> list[tuple[type, Checkable]]:
    """Return the queries of these classes, or of all that live, in the order of their names."""
    chosen = [owner for owner in _owners if not owners or any(issubclass(each, owner) for each in owners)]
    found = [(owner, query) for owner in chosen for query in _owners[owner]]
    return sorted(found, key=lambda pair: pair[1].name)
