"""A small pure model of the promises, written without looking at the library.

It runs a program on plain lists, and says which rows are stored, what every `Catch` has caught,
what leaves the program, and in which order the hooks run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.properties.programs import RULES, Act, Block, Catch, Raise, Step
from unitwork import Propagation, RowCountError

P = Propagation


class Model(Exception):  # noqa: N818 - carries the name of another error
    """Stands for an error of the library or the database, known by its name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def name_of(error: BaseException) -> str:
    """The name under which both sides tell of an error."""
    return error.name if isinstance(error, Model) else type(error).__name__


@dataclass
class Frame:
    """A transaction, a savepoint, or none at all (`plain`)."""

    plain: bool = False
    read_only: bool = False
    parent: Frame | None = None
    sent: bool = False
    condemned: bool = False
    refuses: bool = False
    rollback_only: bool = False
    rows: list[int] = field(default_factory=list)
    on_commit: list[tuple[str, bool]] = field(default_factory=list)
    on_rollback: list[str] = field(default_factory=list)
    before_commit: list[str] = field(default_factory=list)

    @property
    def root(self) -> Frame:
        """The physical transaction."""
        return self.parent.root if self.parent else self


@dataclass
class Scope:
    """A block that is open."""

    frame: Frame
    owns: bool
    read_only: bool


@dataclass
class Promises:
    """What a program should do."""

    one_writer: bool
    stored: list[int] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=list)
    numbers: int = 0

    def run(self, program: Block) -> None:
        """Run a whole program; what leaves it is the end of the story."""
        try:
            self.block(program)
        except BaseException as error:  # noqa: BLE001 - told
            self.story.append(f"raised {name_of(error)}")

    def number(self) -> int:
        """The next number of the program."""
        self.numbers += 1
        return self.numbers

    def body(self, steps: tuple[Step, ...]) -> None:
        """Run one step after the other."""
        for step in steps:
            if isinstance(step, Block):
                self.block(step)
            elif isinstance(step, Catch):
                self.catch(step)
            elif isinstance(step, Raise):
                raise step.made()
            else:
                self.act(step)

    def catch(self, step: Catch) -> None:
        """Go on after an `Exception`."""
        try:
            self.body(step.body)
        except Exception as error:  # noqa: BLE001 - told
            self.story.append(f"caught {name_of(error)}")

    # -- blocks ---------------------------------------------------------------------------------

    def block(self, block: Block) -> None:
        """Enter, run, leave."""
        scope = self.enter(block)
        self.scopes.append(scope)
        error: BaseException | None = None
        try:
            self.body(block.body)
        except BaseException as raised:  # noqa: BLE001 - raised again by `leave`
            error = raised
        self.leave(block, scope, error)

    def enter(self, block: Block) -> Scope:
        """Do what Spring's table says."""
        outer = self.scopes[-1] if self.scopes else None
        inside = outer is not None and not outer.frame.plain
        if (block.propagation is P.MANDATORY and not inside) or (block.propagation is P.NEVER and inside):
            raise Model("TransactionRefusedError")
        if block.durable and inside:
            raise Model("TransactionRefusedError")
        if outer is None or not inside:
            return self.enter_outside(block, outer)
        if block.propagation is P.NESTED:
            if outer.frame.condemned:
                raise Model("TransactionRefusedError")
            return Scope(Frame(parent=outer.frame), owns=True, read_only=outer.read_only or block.read_only)
        if block.propagation is P.REQUIRES_NEW:
            return self.begin(block)
        if block.propagation is P.NOT_SUPPORTED:
            return Scope(Frame(plain=True), owns=True, read_only=block.read_only or self.write_locked())
        return Scope(outer.frame, owns=False, read_only=outer.read_only or block.read_only)

    def enter_outside(self, block: Block, outer: Scope | None) -> Scope:
        """Enter where no transaction is open."""
        if block.propagation in (P.SUPPORTS, P.NOT_SUPPORTED, P.NEVER):
            inherited = outer.read_only if outer is not None else False
            return Scope(Frame(plain=True), owns=True, read_only=block.read_only or inherited)
        return self.begin(block)

    def begin(self, block: Block) -> Scope:
        """Begin a transaction; one that must wait for this very task is refused."""
        if not block.read_only and self.write_locked():
            raise Model("TransactionRefusedError")
        return Scope(Frame(read_only=block.read_only), owns=True, read_only=block.read_only)

    def write_locked(self) -> bool:
        """Whether a transaction of this program holds the only write lock."""
        roots = [scope.frame.root for scope in self.scopes if not scope.frame.plain]
        return self.one_writer and any(root.sent and not root.read_only for root in roots)

    def leave(self, block: Block, scope: Scope, error: BaseException | None) -> None:
        """End the block."""
        frame = scope.frame
        undo = error is not None and self.rolls_back(error, block)
        if not scope.owns:
            self.scopes.pop()
            if undo and not isinstance(error, RowCountError) and not frame.plain:
                frame.condemned = True
        elif frame.plain:
            self.scopes.pop()
        else:
            marked = frame.condemned or frame.rollback_only
            if undo or marked:
                silent = frame.rollback_only or error is not None
                error = error if silent else Model("UnexpectedRollbackError")
                self.undo(frame)
            else:
                error = self.keep(frame, error)
            self.scopes.pop()
        if error is not None:
            raise error

    def rolls_back(self, error: BaseException, block: Block) -> bool:
        """Of all rules that name the class or a base, the nearest decides; ties roll back."""
        undo, keep = RULES[block.rules]
        if not isinstance(error, Exception):
            return True
        for ancestor in type(error).__mro__:
            if ancestor in undo:
                return True
            if ancestor in keep:
                return False
        return True

    def keep(self, frame: Frame, error: BaseException | None) -> BaseException | None:
        """Commit, or hand up."""
        if frame.parent is not None:
            frame.parent.rows += frame.rows
            frame.parent.on_commit += frame.on_commit
            frame.parent.on_rollback += frame.on_rollback
            frame.parent.before_commit += frame.before_commit
            return error
        self.story += frame.before_commit
        self.stored += frame.rows
        self.story += [label for label, _ in frame.on_commit]
        if error is None and any(fails for _, fails in frame.on_commit):
            return Model("AfterCommitError")
        return error

    def undo(self, frame: Frame) -> None:
        """Roll back; the functions that waited for it run now."""
        self.story += frame.on_rollback

    # -- acts -----------------------------------------------------------------------------------

    def act(self, act: Act) -> None:
        """Do one thing in the innermost block."""
        scope = self.scopes[-1]
        number = self.number()
        if act is Act.ROLLBACK_ONLY:
            self.mark(scope)
        elif act in (Act.ON_COMMIT, Act.ON_COMMIT_FAILING, Act.ON_ROLLBACK, Act.BEFORE_COMMIT):
            self.register(act, scope.frame, number)
        else:
            self.send(act, scope, number)

    def mark(self, scope: Scope) -> None:
        """Mark the frame: by its owner silently, by others not."""
        if scope.frame.plain:
            raise Model("NoTransactionError")
        if scope.owns:
            scope.frame.rollback_only = True
        else:
            scope.frame.condemned = True

    def register(self, act: Act, frame: Frame, number: int) -> None:
        """Remember a function; where nothing can be waited for it runs at once."""
        label = f"{act.name} {number}"
        if frame.plain:
            if act is not Act.ON_ROLLBACK:
                self.story.append(label)
            if act is Act.ON_COMMIT_FAILING:
                raise ValueError(label)
        elif act is Act.ON_ROLLBACK:
            frame.on_rollback.append(label)
        elif act is Act.BEFORE_COMMIT:
            frame.before_commit.append(label)
        else:
            frame.on_commit.append((label, act is Act.ON_COMMIT_FAILING))

    def send(self, act: Act, scope: Scope, number: int) -> None:
        """Send a statement."""
        frame = scope.frame
        writes = act in (Act.INSERT, Act.ADD, Act.DUPLICATE)
        if frame.refuses or (writes and scope.read_only):
            raise Model("TransactionRefusedError")
        frame.root.sent = True
        with self.condemning(frame):
            if act is Act.DUPLICATE:
                raise Model("IntegrityError")
            if act is Act.NONSENSE:
                raise Model("DBAPIError")
        if writes:
            (self.stored if frame.plain else frame.rows).append(number)

    @contextmanager
    def condemning(self, frame: Frame) -> Iterator[None]:
        """A database error condemns its frame, and the frame refuses what comes after it."""
        try:
            yield
        except Model:
            if not frame.plain:
                frame.condemned = frame.refuses = True
            raise
