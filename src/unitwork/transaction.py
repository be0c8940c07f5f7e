"""This module holds the transaction block and the decorator that opens one around a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import Unpack

from unitwork._later import later
from unitwork._runtime import live
from unitwork._runtime.blocks.generators import caller_in_generator
from unitwork.errors import DeclarationError, TransactionRefusedError
from unitwork.options import RetryPolicy, TransactionKeywords, TransactionOptions

if TYPE_CHECKING:  # what a program needs when it has a Database, or decorates a function
    from unitwork._runtime import source as sources
    from unitwork._runtime.blocks import block as blocks
    from unitwork._runtime.blocks import retrying, unit
    from unitwork._runtime.connections import places
else:
    sources = later("unitwork._runtime.source")
    blocks = later("unitwork._runtime.blocks.block")
    retrying = later("unitwork._runtime.blocks.retrying")
    unit = later("unitwork._runtime.blocks.unit")
    places = later("unitwork._runtime.connections.places")

__all__ = ["TransactionBlock", "transactional"]

P = ParamSpec("P")
R = TypeVar("R")
Entered = TypeVar("Entered")
AsyncFunction: TypeAlias = Callable[P, Coroutine[Any, Any, R]]


TRANSACTIONAL = "__unitwork_transactional__"
"""The attribute of a function that tells the options of the block around it."""


class HasSource(Protocol):
    """What a Database offers to the floors below it."""

    @property
    def source(self) -> sources.Source:
        """Where its sessions come from."""
        ...


class TransactionBlock:
    """What `db.transaction()` returns: `async with` begins on entry, and commits or rolls back at the end.

    Lives: one `async with`; it can be entered again afterwards, but not twice at a time.
    """

    __slots__ = ("_name", "_options", "_scope", "_source")

    def __init__(self, source: sources.Source, options: TransactionOptions, name: str) -> None:
        self._source = source
        self._options = options
        self._name = name
        self._scope: blocks.Scope | None = None

    def __repr__(self) -> str:
        return f"<TransactionBlock {self._name} on database {self._source.name!r}: {self.status}>"

    @property
    def status(self) -> str:
        """One of 'new', 'open', and how it ended, such as 'committed' or 'rolled back'."""
        scope = self._scope
        if scope is None:
            return "new"
        return scope.outcome.value if scope.left else "open"

    async def __aenter__(self) -> AsyncSession:
        if self._scope is not None and not self._scope.left:
            raise TransactionRefusedError(
                self._source.name,
                f"{self._name} is open already: one block object cannot be entered twice at a time.",
                "call `db.transaction()` for each `async with`.",
            )
        scope = blocks.Scope(self._source, self._name, self._options)
        session = await scope.enter(caller_in_generator())
        self._scope = scope
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._scope is not None:
            await self._scope.leave(error)


class RepositoryBlock(Generic[Entered]):
    """What `db.repository(Model)` returns: a transaction block that is entered as a repository.

    Lives: one `async with`.
    """

    __slots__ = ("_block", "_repository")

    def __init__(self, block: TransactionBlock, repository: Entered) -> None:
        self._block = block
        self._repository = repository

    async def __aenter__(self) -> Entered:
        await self._block.__aenter__()
        return self._repository

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._block.__aexit__(kind, error, trace)


class Decoration:
    """Wraps functions so that they run in a transaction block. Lives: as long as the program."""

    def __init__(
        self,
        using: HasSource | str | None,
        options: TransactionOptions,
        retry: RetryPolicy | int | None = None,
    ) -> None:
        self._using = using
        self._options = options
        self._retry = RetryPolicy(attempts=retry) if isinstance(retry, int) else retry

    def wrap(self, function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        """Return a function that opens the block, calls, and ends the block."""
        if isinstance(function, classmethod | staticmethod):
            inside: Any = function
            return cast("Callable[P, Coroutine[Any, Any, R]]", type(inside)(self.wrap(inside.__func__)))
        name = places.name_of(function)
        _refuse_what_cannot_be_awaited(function, name)
        options = self._options
        source_for = self._source_for

        @functools.wraps(function)
        async def run(*arguments: P.args, **keywords: P.kwargs) -> R:
            scope = blocks.Scope(source_for(arguments), name, options)
            await scope.enter()
            try:
                result = await function(*arguments, **keywords)
            except BaseException as error:
                await scope.leave(error)
                raise
            await scope.leave(None)
            return result

        setattr(run, TRANSACTIONAL, options)
        return run if self._retry is None else self._retrying(function, name, self._retry)

    def _retrying(
        self, function: Callable[P, Coroutine[Any, Any, R]], name: str, policy: RetryPolicy
    ) -> Callable[P, Coroutine[Any, Any, R]]:
        options, source_for = self._options, self._source_for

        @functools.wraps(function)
        async def run(*arguments: P.args, **keywords: P.kwargs) -> R:
            source = source_for(arguments)
            series = retrying.Attempts(source, policy)
            while True:
                scope = blocks.Scope(source, name, options, fresh=True)
                try:
                    await scope.enter()
                    try:
                        result = await function(*arguments, **keywords)
                    except BaseException as error:
                        await scope.leave(error)
                        raise
                    await scope.leave(None)
                except Exception as error:  # noqa: BLE001  # some drivers' are not SQLAlchemy's: raised, or tried again
                    await series.wait_or_raise(scope, error)
                else:
                    return result

        setattr(run, TRANSACTIONAL, options)
        return run

    def _source_for(self, arguments: tuple[object, ...]) -> sources.Source:
        using = self._using
        if using is None:
            return _implied(arguments)
        return live.source_named(using) if isinstance(using, str) else using.source


def begins_with_first_write(
    method: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Make a method one transaction that begins with its first write: what it reads before holds nothing.

    Inside a transaction it takes part in that, and fails alone if it raises before it has written.
    """
    name = places.name_of(method)

    @functools.wraps(method)
    async def run(*arguments: P.args, **keywords: P.kwargs) -> R:
        scope = unit.LazyScope(_implied(arguments), name)
        await scope.enter()
        try:
            result = await method(*arguments, **keywords)
        except BaseException as error:
            await scope.leave(error)
            raise
        await scope.leave(None)
        return result

    return run


def _refuse_what_cannot_be_awaited(function: Callable[..., object], name: str) -> None:
    if inspect.iscoroutinefunction(function):
        return
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise DeclarationError(
            name,
            "@transactional cannot hold a transaction open across the `yield` of a generator",
            "open `async with db.transaction():` inside the generator, or return a list.",
        )
    if not callable(function):
        raise DeclarationError(
            "@transactional", f"it decorates {function!r}", "write `@transactional(propagation=...)`."
        )
    raise DeclarationError(
        name,
        "@transactional needs an `async def` function",
        f"write `async def {name.rpartition('.')[2]}(...)`.",
    )


def _implied(arguments: tuple[object, ...]) -> sources.Source:
    """Find the Database: bound to the instance, of the innermost block, or the only 'default'."""
    if arguments:
        bound = getattr(type(arguments[0]), "__unitwork_source__", None)
        found = bound(arguments[0]) if bound is not None else None
        if found is not None:
            return cast("sources.Source", found)
    return live.current_or_default()


@overload
def transactional(
    function: Callable[P, Coroutine[Any, Any, R]], /
) -> Callable[P, Coroutine[Any, Any, R]]: ...
@overload
def transactional(
    *,
    using: HasSource | str | None = ...,
    retry: RetryPolicy | int | None = ...,
    **options: Unpack[TransactionKeywords],
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]: ...
def transactional(
    function: Any = None,
    /,
    *,
    using: HasSource | str | None = None,
    retry: RetryPolicy | int | None = None,
    **options: Unpack[TransactionKeywords],
) -> Any:
    """Run an async function in a transaction block.

    It begins when the function is called, commits when it returns, and rolls back when it raises.
    The Database is the one that `using` names or is; else the one that the instance is bound to;
    else that of the innermost open block; else the only live one called "default".

    Args:
        function: An `async def` function, method, static or class method.
        using: A Database, or the name of one.
        retry: Try the whole function again when the database asks for it (deadlock, serialization
            failure): a `RetryPolicy`, or the number of attempts. Never inside an outer transaction,
            which must be tried again as a whole.
        **options: As for `Database.transaction`.

    Raises:
        DeclarationError: The function is not `async def`, or is a generator. At decoration.
        OptionError: An option has a value that does not exist. At decoration.
        DatabaseChoiceError: No, or several, Databases could be meant. At the call.

    Database:
        BEGIN is sent with the first statement; a function that sends none costs nothing.

    Examples:
        >>> @transactional(propagation="REQUIRES_NEW")
        ... async def record(note: str) -> None: ...
    """
    decoration = Decoration(using, TransactionOptions.of(**options), retry)
    return decoration.wrap if function is None else decoration.wrap(function)
