"""This module makes pico-ioc's `transaction` scope live exactly as long as a transaction."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pico_ioc import PicoContainer, ScopeManager

from unitwork._runtime import context

if TYPE_CHECKING:
    from unitwork._runtime.source import Source
    from unitwork._runtime.transactions.frame import Frame

_NAME = "transaction"


class TransactionScopes(ScopeManager):
    """The scopes of a container, with the open transaction as the id of its `transaction` scope.

    Nothing is entered and left: the id is read from the blocks that are open. So it is right in
    child tasks, in blocks of every kind, and however a transaction ends. Lives: as long as its container.
    """

    def __init__(self, container: PicoContainer, sources: Callable[[], set[Source]]) -> None:
        vars(self).update(vars(container.scopes))
        self._container = container
        self._sources = sources
        self._known: set[Frame] = set()

    def get_id(self, name: str) -> Any | None:  # noqa: ANN401  # as pico-ioc declares it
        """Return the id of a scope; None where it is not active."""
        if name != _NAME:
            return super().get_id(name)
        return self._transaction() or super().get_id(name)

    def _transaction(self) -> Frame | None:
        """Return the physical transaction of this container's Databases that is innermost here."""
        sources = self._sources() if context.open_scopes() else set()
        for scope in reversed(context.open_scopes()):
            if scope.source in sources:
                if not scope.outside and not scope.frame.ended and scope.frame.transactional:
                    return self._followed(scope.frame.root)
                # The block hides those around it, of the same Database.
                sources.discard(scope.source)
        return None

    def _followed(self, transaction: Frame) -> Frame:
        """Make sure that the components of a transaction end with it."""
        if transaction not in self._known:
            self._known.add(transaction)
            transaction.hooks().at_end.append(partial(self._ended, transaction))
        return transaction

    def _ended(self, transaction: Frame) -> None:
        self._known.discard(transaction)
        self._container.cleanup_scope(_NAME, transaction)
