"""What the model is made of: transactions, units, blocks, and the place where code runs."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from tests.properties.programs import Hook, Stop

Run = Generator[None, None, None]
Told = tuple[str, ...]
"""One line of the story; any of these is right. A star at the end stands for anything."""

OBSERVERS_HARM_NOBODY = True
"""Whether what an observer raises is told elsewhere (promise 32); if not, it may come out of the program."""

ATOMIC_IS_A_TRANSACTION = True
"""An atomic unit counts as an open transaction for what is inside, also before its first write.

If not, MANDATORY is refused there, NEVER and SUPPORTS run without a transaction, and hooks run at once.
"""

Write = tuple[str, int]
"""A row that is written, or the number that is set in a row that all share."""


class Unspecified(BaseException):
    """The promises do not say what happens here: the program is left out."""


class Cancelled(BaseException):
    """Stands for `CancelledError`."""


class Model(Exception):  # noqa: N818  # carries the name of another error
    """Stands for an error of the library or the database; one of these names is right."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.names = names


class Conflict(Model):
    """Stands for an error by which the database asks to be tried again."""

    def __init__(self) -> None:
        super().__init__("DBAPIError")


RAISED = (Exception, Stop, Cancelled)
"""What a program may raise. `Unspecified` is not of it."""

ENDED = ("TransactionEndedError", "UnexpectedRollbackError")
"""How somebody is told at the end of a block that its transaction has ended before."""


def names_of(error: BaseException) -> tuple[str, ...]:
    """The names under which reality may tell of an error."""
    if isinstance(error, Model):
        return error.names
    return ("CancelledError",) if isinstance(error, Cancelled) else (type(error).__name__,)


@dataclass(eq=False)
class Function:
    """A function that waits for the end of a frame."""

    label: str
    hook: Hook


@dataclass(eq=False)
class Frame:
    """A transaction, a savepoint, or none at all (`plain`)."""

    on: int
    plain: bool = False
    read_only: bool = False
    parent: Frame | None = None
    unit: Unit | None = None
    """The unit on whose session it lives."""
    shares: Frame | None = None
    """Without a transaction: the block without one around it, whose session it may share."""
    sent: bool = False
    condemned: bool = False
    refuses: bool = False
    unsure: bool = False
    """Whether its first statement was sent at all: what it reads may be known already."""
    rollback_only: bool = False
    ended: bool = False
    holder: Place | None = None
    """Who is in the middle of an operation."""
    late_error: Model | None = None
    """What the end of the frame will raise."""
    writes: list[Write] = field(default_factory=list)
    on_commit: list[Function] = field(default_factory=list)
    on_rollback: list[Function] = field(default_factory=list)
    before_commit: list[Function] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=list)
    """The blocks that are open in it, and in its savepoints."""

    @property
    def root(self) -> Frame:
        """The physical transaction."""
        return self.parent.root if self.parent else self

    def line(self) -> Iterator[Frame]:
        """This frame and those around it."""
        yield self
        if self.parent:
            yield from self.parent.line()

    def open_inside(self) -> list[Scope]:
        """Blocks that are open in it."""
        return [scope for scope in self.root.scopes if scope.frame is not None and self in scope.frame.line()]

    def savepoints_inside(self) -> list[Frame]:
        """The savepoints in it that are open, and are undone with it; the innermost first."""
        frames = [
            each.frame for each in self.open_inside() if each.frame is not None and each.frame is not self
        ]
        return [each for each in reversed(list(dict.fromkeys(frames))) if not each.ended]

    def end(self) -> None:
        """End it with all that is inside."""
        for scope in self.open_inside():
            if scope.frame is not None:
                scope.frame.ended = True
        self.ended = True


@dataclass(eq=False)
class Unit:
    """A unit of work: a session that sees several transactions, or one."""

    on: int
    atomic: bool
    by_hand: Frame | None = None
    """The transaction that is open by hand."""
    block: Frame | None = None
    """The transaction of a block on this session."""
    pending: list[Write] = field(default_factory=list)
    reading: bool = False
    begun: bool = False
    ended: bool = False


@dataclass(eq=False)
class Scope:
    """A block or a unit that is open; or the outside, where a function runs after the end."""

    frame: Frame | None = None
    unit: Unit | None = None
    outside: bool = False
    owns: bool = False
    read_only: bool = False
    limited: bool = False
    late: bool = False
    savepoint_by_hand: bool = False


class Place:
    """Where code runs: what is open around it, for each Database."""

    def __init__(self, task: int = 0, scopes: dict[int, tuple[Scope, ...]] | None = None) -> None:
        self.task = task
        self.scopes = dict(scopes or {0: (), 1: ()})
        self.in_hook = False
        self.attempts: tuple[tuple[int, int], ...] = ()
        """Of the functions with retry around: the attempt, and in how many `CONFLICT` raises."""

    def inherited(self, task: int) -> Place:
        """The place of a task that is started here."""
        place = Place(task, self.scopes)
        place.attempts = self.attempts
        return place

    def last(self, on: int) -> Scope | None:
        """The innermost scope, even if it has ended."""
        return self.scopes[on][-1] if self.scopes[on] else None

    def push(self, on: int, scope: Scope) -> None:
        """Go inside."""
        self.scopes[on] = (*self.scopes[on], scope)

    def drop(self, on: int, scope: Scope) -> None:
        """Go outside."""
        self.scopes[on] = tuple(each for each in self.scopes[on] if each is not scope)

    def everywhere(self) -> Iterator[Scope]:
        """The scopes on all Databases."""
        for scopes in self.scopes.values():
            yield from scopes
