"""This module holds the one context variable: which blocks and units of work are open here."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from unitwork._runtime.stack import callers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping
    from types import CodeType


class OpenScope(Protocol):
    """A block or unit of work, as far as the context and the floors below it must know it."""

    source: Any
    name: str
    read_only_by: str | None
    """The block that has made this extent read-only."""
    limits: Any
    """The time limits of its code, of a higher floor."""
    counts_writes: bool
    """Whether somebody will ask if this extent has written."""
    left: bool
    asleep: bool
    """It is a unit of work that nobody has looked for: more than its name is not known of it."""
    work: Any
    """What observers were told of a unit of work; None where nobody observes, and of blocks."""
    is_entered: bool
    """Whether it is a block that was entered and not left; a unit of work ends before it is left."""
    left_among: Collection[asyncio.Task[Any]] | None
    """The tasks that there were when it was left in another one than it was entered in, if it was."""
    outside: bool
    """It is none: it hides those around it from code that must find nothing open."""
    writes_of_others: int
    """How much the consumer of its generator has written meanwhile."""
    generator: CodeType | None
    """The async generator that it was entered in, if its consumer does not share it."""

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """Where it was entered, as long as that lives."""
        ...

    @property
    def frame(self) -> Any:  # noqa: ANN401  # of a higher floor
        """What its code takes part in."""
        ...

    def begin_transaction(self) -> Any:  # noqa: ANN401  # as above
        """Begin the transaction of a unit of work that is at rest."""
        ...

    async def by_hand(self, verb: str) -> None:
        """Commit, roll back or close by hand, where that is allowed."""
        ...

    def inner(self, name: str, options: Any) -> Any:  # noqa: ANN401  # as above
        """Make a block to be entered inside this one."""
        ...


# Outermost first. A tuple, so that what a child task adds never shows in its parent.
_scopes: ContextVar[tuple[OpenScope, ...]] = ContextVar("unitwork_scopes", default=())


# What the task has written and read, and whether it wants the latest, by the servers of a Database. As above.
_seen: ContextVar[Mapping[object, Any]] = ContextVar("unitwork_seen", default=MappingProxyType({}))
_latest: ContextVar[tuple[object, ...]] = ContextVar("unitwork_latest", default=())


class Outside:
    """Hides the scopes around code that must find no transaction open; they still hold their connections.

    Args:
        ended: The unit of work that has ended for this code, if one has: whoever looks for it is told so.
    """

    def __init__(self, source: Any, ended: OpenScope | None = None) -> None:  # noqa: ANN401  # of a higher floor
        self.source = source
        self.outside = ended is None
        self.name = "outside"
        self.read_only_by: str | None = None
        self.limits: Any = ()
        self.counts_writes = False
        self.asleep = False
        self.work: Any = None
        self.left = self.is_entered = False
        self.left_among: Collection[asyncio.Task[Any]] | None = None
        self.task: asyncio.Task[Any] | None = None
        self.generator: CodeType | None = None
        self.writes_of_others = 0
        self._ended = ended

    @property
    def frame(self) -> Any:  # noqa: ANN401  # of a higher floor
        """That of the unit that has ended, as whoever comes after the end sees it."""
        return _Ended(self._ended)

    def begin_transaction(self) -> Any:  # noqa: ANN401  # as above
        """Nothing can begin here any more."""
        raise self.frame.ended_error()

    async def by_hand(self, verb: str) -> None:  # noqa: ARG002  # as blocks have it
        """Nothing can end here any more."""
        raise self.frame.ended_error()

    def inner(self, name: str, options: Any) -> Any:  # noqa: ANN401, ARG002  # as above
        """Nothing can be entered here any more."""
        raise self.frame.ended_error()


class _Ended:
    """The frame of a unit of work, for code that comes after its answer."""

    ended = True
    transactional = idles = False
    key = None

    @property
    def root(self) -> _Ended:
        """It is its own."""
        return self

    def __init__(self, scope: Any) -> None:  # noqa: ANN401  # of a higher floor
        self._scope = scope

    def ended_error(self) -> BaseException:
        """Build the error for whoever comes after the end."""
        error: BaseException = self._scope.ended_error()
        return error

    def check_open(self) -> None:
        """Refuse to go on.

        Raises:
            TransactionEndedError: Always.
        """
        raise self.ended_error()


def step_outside(source: object, ended: OpenScope | None = None) -> OpenScope | None:
    """Hide the open scopes of a Database from the code that follows here; return what hides them."""
    scopes = _scopes.get()
    if not any(scope.source is source for scope in scopes):
        return None
    hidden = Outside(source, ended)
    hidden.limits = scopes[-1].limits
    _scopes.set((*scopes, hidden))
    return hidden


def push(scope: OpenScope) -> tuple[OpenScope, ...]:
    """Make a scope the innermost one of this context; return those around it."""
    around = _scopes.get()
    _scopes.set((*around, scope))
    if scope.source.ledger is not None:
        scope.source.ledger.add(scope)
    return around


def drop(scope: OpenScope) -> None:
    """Take a scope out of this context, wherever in it it is.

    Not by token: a unit of work may end before the blocks inside it are left, and a fixture may be
    left in another context than it was entered in. What stays behind there has ended.
    """
    scopes = _scopes.get()
    if scopes and scopes[-1] is scope:
        _scopes.set(scopes[:-1])
    elif scope in scopes:
        # So do generators that were finalised elsewhere: they go with the block in which they were used.
        here = this_task()
        gone = [one for one in scopes if one is scope or (one.left_among is not None and one.task is here)]
        _scopes.set(tuple(one for one in scopes if one not in gone))


def uncover(scope: OpenScope) -> None:
    """Let the scopes around one that has ended be found again, while it is still to be left.

    Where there are none it stays: whoever looks for it is told that it has ended.
    """
    scopes = _scopes.get()
    if len(scopes) > 1 and any(other.source is scope.source for other in scopes if other is not scope):
        drop(scope)


def open_scopes() -> tuple[OpenScope, ...]:
    """Return the scopes of this context, outermost first; those that have ended may be among them."""
    return _scopes.get()


def last(source: object) -> Any:  # noqa: ANN401  # an OpenScope of a higher floor, or None
    """Return the innermost scope of one Database, even if it has ended; None if there is none."""
    for scope in reversed(_scopes.get()):
        if scope.source is source and _is_of_here(scope):
            return None if scope.outside else scope
    return None


def innermost(source: object) -> Any:  # noqa: ANN401  # as above
    """Return the innermost scope of one Database, or None when none is open.

    Raises:
        TransactionEndedError: The code is inside a block whose transaction has ended before it.
    """
    scope = last(source)
    if scope is None:
        return None
    # What has ended does not uncover the scopes around it: code that outlives its block is outside,
    # and so is code that inherited the context in another event loop.
    frame = scope.frame
    if frame.ended:
        if scope.is_entered and scope.task is asyncio.current_task():
            raise frame.ended_error()  # it is inside a block still, whose transaction has gone
        return None
    return scope if frame.session.loop is asyncio.get_running_loop() else None


def innermost_work(source: object) -> Any:  # noqa: ANN401  # as above
    """Return what observers were told of the unit of work around, though it may be hidden here."""
    for scope in reversed(_scopes.get()):
        if scope.work is not None and scope.source is source:
            return scope.work
    return None


def scope_of(session: Any) -> Any:  # noqa: ANN401  # of a higher floor
    """Return the innermost scope of this context that lives on this session, even if it has ended."""
    for scope in reversed(_scopes.get()):
        if not scope.outside and scope.frame.key is session.key and _is_of_here(scope):
            return scope
    return None


def has_generators() -> bool:
    """Say whether a block of this context is held by a generator."""
    for scope in _scopes.get():  # noqa: SIM110  # asked with every write and block: a generator costs more
        if scope.generator is not None:
            return True
    return False


def count_write(here: OpenScope | None) -> None:
    """Take note in the generators of this context that another than they has written.

    Args:
        here: The scope that the write was made in.
    """
    scopes = _scopes.get()
    for scope in scopes:
        if scope.generator is not None and not scope.outside and here is not scope and here in scopes:
            within = scopes.index(here) > scopes.index(scope) and here.generator is scope.generator
            scope.writes_of_others += not within


def _is_of_here(scope: OpenScope) -> bool:
    """Say whether the code that runs belongs to a scope of its context."""
    if scope.left_among is not None:
        # A generator was finalised by the event loop. A task that was started inside of it belongs to it for
        # good; the task that entered it does not, nor do those that began after its end.
        here = this_task()
        return here is not scope.task and here in scope.left_among
    if scope.generator is not None and scope.task is this_task():
        return _runs_in(scope.generator)
    return True


def this_task() -> asyncio.Task[Any] | None:
    """Return the task that runs, if one does."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _runs_in(code: CodeType) -> bool:
    """Say whether the code that runs was called by this one."""
    return any(frame.f_code is code for frame in callers(1))


def current_source() -> Any:  # noqa: ANN401  # of a higher floor
    """Return the Database of the innermost open scope, or None."""
    for scope in reversed(_scopes.get()):
        if _is_of_here(scope) and (scope.outside or not scope.frame.ended):
            return scope.source
    return None


# -- what a task has seen ----------------------------------------------------------------------------


def seen(servers: object) -> Any:  # noqa: ANN401  # of the logic of reads
    """Return what was written and read here, or where this task was started; None if nothing was."""
    return _seen.get().get(servers)


def see(servers: object, seen: object) -> None:
    """Keep what is written and read here from now on; None forgets it."""
    _seen.set({**_seen.get(), servers: seen})


def reads_latest(servers: object) -> bool:
    """Say whether all reads here go to the primary."""
    return servers in _latest.get()


def read_latest(servers: object, *, on: bool) -> None:
    """Let all reads here go to the primary, or the innermost code that has asked for it no more."""
    asked = _latest.get()
    if on:
        _latest.set((*asked, servers))
    elif servers in asked:
        place = len(asked) - 1 - asked[::-1].index(servers)
        _latest.set(asked[:place] + asked[place + 1 :])


def start_outside(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Start a task that inherits nothing that is open here, nor keeps it alive."""
    return asyncio.get_running_loop().create_task(work, name=name, context=Context())


def call_later_outside(delay_s: float, function: Callable[[], None]) -> asyncio.TimerHandle:
    """Call a function of the loop that runs here later, unless it is cancelled; it keeps nothing alive."""
    return asyncio.get_running_loop().call_later(delay_s, function, context=Context())
