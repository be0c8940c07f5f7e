"""This module holds the `@transactional` of components."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from typing_extensions import override

from unitwork.database import Database
from unitwork.integrations.pico_ioc.binding import binds, component_of, source_for
from unitwork.integrations.pico_ioc.options import ComponentKeywords, options_of
from unitwork.options import RetryPolicy, TransactionOptions
from unitwork.transaction import Decoration, HasSource

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from unitwork._runtime.source import Source

P = ParamSpec("P")
R = TypeVar("R")

DECORATION = "__unitwork_decoration__"
"""The attribute of a method that tells the decoration of the block around it."""
TAKES_DECORATION = "__unitwork_takes_decoration__"
"""The attribute of what is no method yet, and will read the attribute above."""


class ComponentDecoration(Decoration):
    """Wraps methods of components. Lives: as long as the program."""

    def __init__(
        self,
        options: TransactionOptions,
        using: HasSource | type[Database] | str | None = None,
        retry: RetryPolicy | int | None = None,
    ) -> None:
        super().__init__(None if isinstance(using, type) else using, options, retry)
        self._kind = using if isinstance(using, type) else None

    @override
    def wrap(self, function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        if hasattr(function, TAKES_DECORATION):
            setattr(function, DECORATION, self)
            return function
        wrapped = super().wrap(function)
        if inspect.isfunction(wrapped):
            setattr(wrapped, DECORATION, self)
            binds(wrapped)
        return wrapped

    @override
    def _source_for(self, arguments: tuple[object, ...]) -> Source:
        if self._kind is not None:
            return component_of(arguments, self._kind).source
        return super()._source_for(arguments) if self._using is not None else source_for(arguments)


@overload
def transactional(
    function: Callable[P, Coroutine[Any, Any, R]], /
) -> Callable[P, Coroutine[Any, Any, R]]: ...
@overload
def transactional(
    *,
    using: HasSource | type[Database] | str | None = ...,
    retry: RetryPolicy | int | None = ...,
    **options: Unpack[ComponentKeywords],
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]: ...
def transactional(
    function: Any = None,
    /,
    *,
    using: HasSource | type[Database] | str | None = None,
    retry: RetryPolicy | int | None = None,
    **options: Unpack[ComponentKeywords],
) -> Any:
    """Run an async method of a component in a transaction block.

    As `unitwork.transactional`; the Database is the one that the component holds as an attribute. If
    it holds none or several, it is the `SessionManager` of its container. Calls of the component on
    itself open their blocks too. On a method with `@query` it says how the query's block is.

    Args:
        function: An `async def` method.
        using: Another Database: itself, its name, or the type by which the container gives it out.
        retry: As for `unitwork.transactional`.
        **options: As for `Database.transaction`; `isolation` may be called `isolation_level`.

    Raises:
        DeclarationError: The method is not `async def`, or is a generator. At import.
        OptionError: An option has a value that does not exist. At import.
        DatabaseChoiceError: No, or several, Databases could be meant. At the call.

    Database:
        BEGIN is sent with the first statement; a method that sends none costs nothing.

    Examples:
        >>> from pico_ioc import component
        >>> from unitwork.integrations.pico_ioc import transactional
        >>> @component
        ... class Bank:
        ...     @transactional(propagation="REQUIRES_NEW", isolation_level="SERIALIZABLE")
        ...     async def record(self, note: str) -> None: ...
    """
    decoration = ComponentDecoration(options_of(options), using, retry)
    return decoration.wrap if function is None else decoration.wrap(function)
