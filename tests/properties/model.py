"""A small pure model of the promises, written without looking at the library.

It runs a program on plain lists, and says which rows are stored, what a second connection sees,
what every `Catch` has caught, how each block ended, and in which order the hooks run. Where the
promises allow several outcomes it chooses one; `outcomes` walks all choices.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from tests.properties.programs import (
    BY_HAND,
    REPOSITORY_WRITES,
    RULES,
    WRITES,
    Act,
    Begun,
    Block,
    Blow,
    Catch,
    Do,
    Early,
    FreshRead,
    Hook,
    Program,
    Raise,
    Savepoint,
    Spawn,
    Step,
    Unit,
)
from tests.properties.world import (
    ENDED,
    RAISED,
    Cancelled,
    Conflict,
    Frame,
    Function,
    Model,
    Place,
    Scope,
    Unspecified,
    Write,
    names_of,
)
from tests.properties.world import Unit as OpenUnit
from unitwork import Propagation, RowCountError

P = Propagation
Run = Generator[None, None, None]
Told = tuple[str, ...]
"""One line of the story; any of these is right. A star at the end stands for anything."""

MANY = 400
ATOMIC_IS_A_TRANSACTION = True
"""An atomic unit counts as an open transaction for what is inside, also before its first write.

If not, MANDATORY is refused there, NEVER and SUPPORTS run without a transaction, and hooks run at once.
"""


@dataclass(frozen=True)
class Struck:
    """What struck in reality, and in which operation of the program."""

    blow: Blow
    operation: int


@dataclass(frozen=True)
class Surroundings:
    """What the database is like."""

    one_writer: bool
    ddl_commits: bool


@dataclass
class Task:
    """A task of the program that has paused."""

    number: int
    run: Run


@dataclass
class Promises:
    """What a program should do, if these choices are made."""

    around: Surroundings
    struck: Struck | None = None
    choices: tuple[int, ...] = ()
    made: list[tuple[int, int]] = field(default_factory=list)
    """The choices that were made: which, of how many."""
    stored: dict[int, list[Write]] = field(default_factory=lambda: {0: [], 1: []})
    story: list[Told] = field(default_factory=list)
    operations: int = 0
    tasks: list[Task] = field(default_factory=list)
    roots: list[Frame] = field(default_factory=list)
    units: list[OpenUnit] = field(default_factory=list)
    deferred: bool = False
    """Whether a cancellation waits for the end of the block whose hooks run."""

    def run(self, program: Program) -> None:
        """Run a whole program, one outermost step after the other; each may raise."""
        for step in program.body:
            self.outermost(step)
        while self.tasks:
            self.resume()

    def outermost(self, step: Step) -> None:
        """Run one step where nothing is open."""
        place = Place()
        try:
            for _ in self.step(place, step):
                raise Unspecified
        except RAISED as error:
            self.tell(*(f"raised {name}" for name in names_of(error)))
        self.tell(*self.seen())

    def choose(self, count: int) -> int:
        """One of several outcomes that are all right."""
        chosen = self.choices[len(self.made)] if len(self.made) < len(self.choices) else 0
        self.made.append((chosen, count))
        return chosen

    def tell(self, *alternatives: str) -> None:
        """Add a line to the story."""
        self.story.append(alternatives)

    def seen(self, on: int | None = None) -> Told:
        """What a second connection sees."""
        seen = [self.rows(each) for each in ((0, 1) if on is None else (on,))]
        return (f"seen {seen}",)

    def rows(self, on: int) -> list[int]:
        """The rows that are stored, and at the end minus the number that was set last."""
        rows = sorted(number for kind, number in self.stored[on] if kind == "row")
        values = [number for kind, number in self.stored[on] if kind == "set"]
        return [*rows, -values[-1]] if values else rows

    def operation(self, place: Place) -> tuple[int, Blow | None]:
        """Begin the next operation; say what strikes in it."""
        self.operations += 1
        struck = self.struck
        hit = struck is not None and struck.operation == self.operations
        if hit and struck is not None and struck.blow is Blow.DEADLINE:
            limited = self.time_passes(place)
            return self.operations, Blow.DEADLINE if limited else None
        return self.operations, struck.blow if hit and struck is not None else None

    # -- steps ----------------------------------------------------------------------------------

    def body(self, place: Place, steps: tuple[Step, ...]) -> Run:
        """Run one step after the other."""
        for step in steps:
            yield from self.step(place, step)

    def step(self, place: Place, step: Step) -> Run:  # noqa: C901  # one branch for each kind
        """Run one step."""
        if isinstance(step, Do):
            yield from self.act(place, step)
        elif isinstance(step, Raise):
            raise step.made()
        elif isinstance(step, Catch):
            yield from self.catch(place, step)
        elif isinstance(step, Block):
            yield from self.retrying(place, step) if step.attempts else self.block(place, step)
        elif isinstance(step, Unit):
            yield from self.unit(place, step)
        elif isinstance(step, Savepoint):
            yield from self.savepoint(place, step)
        elif isinstance(step, Begun):
            yield from self.begun(place, step)
        elif isinstance(step, Hook):
            self.hook(place, step)
        elif isinstance(step, Spawn):
            self.spawn(place, step)
        elif isinstance(step, Early):
            yield from self.early(place, step)
        else:
            self.fresh_read(place, step)

    def catch(self, place: Place, step: Catch) -> Run:
        """Go on after an `Exception`."""
        try:
            yield from self.body(place, step.body)
        except Exception as error:  # noqa: BLE001  # told
            self.tell(*(f"caught {name}" for name in names_of(error)))

    # -- tasks ----------------------------------------------------------------------------------

    def spawn(self, place: Place, step: Spawn) -> None:
        """Start a task; it runs to its first pause."""
        number, _ = self.operation(place)
        self.advance(Task(number, self.task(place.inherited(number), step.body)))

    def task(self, place: Place, body: tuple[Step, ...]) -> Run:
        """What a task does; how it ends is told."""
        try:
            yield from self.body(place, body)
            self.tell(f"task {place.task} returned")
        except RAISED as error:
            self.tell(*(f"task {place.task} raised {name}" for name in names_of(error)))

    def advance(self, task: Task) -> None:
        """Let a task run to its next pause, or to its end."""
        try:
            next(task.run)
        except StopIteration:
            return
        self.tasks.append(task)

    def resume(self) -> None:
        """Let the task go on that has paused longest."""
        if self.tasks:
            self.advance(self.tasks.pop(0))

    def time_passes(self, place: Place) -> bool:
        """The time of each block is over; say whether that strikes here."""
        limited = [scope for scope in place.everywhere() if scope.limited and not scope.late]
        if len(limited) > 1 or (limited and place.task):
            raise Unspecified
        for root in self.roots:
            for scope in root.scopes:
                if scope.limited and not scope.late and scope not in limited:
                    raise Unspecified
        for scope in limited:
            if scope.frame is None or scope.frame.ended:
                raise Unspecified
            scope.late = True
        return bool(limited)

    # -- blocks ---------------------------------------------------------------------------------

    def retrying(self, place: Place, block: Block) -> Run:
        """Call a decorated function: a conflict is tried again, unless it is stored or somebody else's."""
        unit = self.unit_begun_by(place, block)
        for attempt in range(1, block.attempts + 1):
            place.attempts = (*place.attempts, (attempt, block.conflicts))
            ended: list[str] = []
            try:
                return (yield from self.block(place, block, ended))
            except Conflict:
                if ended == ["ended without a transaction"]:
                    raise Unspecified from None
                if unit is not None and attempt < block.attempts:
                    self.undo_attempt(unit)
                    continue
                if ended != ["rolled back"] or attempt == block.attempts:
                    raise
                if any(
                    scope.frame and not scope.frame.plain for scope in place.scopes[block.on]
                ) and self.choose(2):
                    raise  # REQUIRES_NEW inside another transaction: that one may be tried again as a whole
            finally:
                place.attempts = place.attempts[:-1]

    def unit_begun_by(self, place: Place, block: Block) -> OpenUnit | None:
        """The atomic unit whose transaction begins with this block, which may then be tried again."""
        outer = self.live(place, block.on)
        unit = outer.unit if outer is not None else None
        if unit is None or not unit.atomic or block.propagation is P.REQUIRES_NEW:
            return None
        if unit.pending:
            raise Unspecified
        return unit if unit.by_hand is None else None

    def undo_attempt(self, unit: OpenUnit) -> None:
        """The transaction of an atomic unit is rolled back with the first block in it, and begins anew."""
        frame = unit.by_hand
        if frame is not None:
            if frame.on_rollback or frame.open_inside():
                raise Unspecified
            frame.end()
        unit.by_hand = None

    def block(self, place: Place, block: Block, ended: list[str] | None = None) -> Run:
        """Enter, run, leave."""
        number, blow = self.operation(place)
        scope = self.enter(place, block)
        self.struck_at_entry(blow)
        scope.limited = block.limited
        place.push(block.on, scope)
        if scope.frame is not None:
            scope.frame.root.scopes.append(scope)
        error: BaseException | None = None
        try:
            yield from self.body(place, block.body)
        except RAISED as raised:
            error = raised
        status = self.leave(place, block, scope, error)
        how, error = yield from status
        if ended is not None:
            ended.append(how[0])
        else:
            self.tell(*(f"block {number}: {each}" for each in how))
        if error is not None:
            raise error

    def struck_at_entry(self, blow: Blow | None) -> None:
        """A blow while a block begins: it has not begun."""
        if blow is not None and blow.interrupts:
            raise Cancelled
        if blow is not None and self.choose(2):
            raise Model("Struck*")

    def enter(self, place: Place, block: Block) -> Scope:
        """Do what Spring's table says."""
        outer = self.live(place, block.on)
        frame = self.around_block(place, block, outer)
        inside = frame is not None and not frame.plain
        if (block.propagation is P.MANDATORY and not inside) or (block.propagation is P.NEVER and inside):
            raise Model("TransactionRefusedError")
        if block.durable and inside:
            raise Model("TransactionRefusedError")
        if outer is None or frame is None or frame.plain:
            return self.enter_outside(place, block, outer)
        read_only = outer.read_only or block.read_only
        if block.propagation is P.NESTED:
            return self.enter_savepoint(frame, read_only=read_only)
        if block.propagation is P.REQUIRES_NEW:
            return self.begin(place, block, None)
        if block.propagation is P.NOT_SUPPORTED:
            return self.plain(place, block)
        return Scope(frame, read_only=read_only)

    def live(self, place: Place, on: int) -> Scope | None:
        """The innermost scope, if it is still open."""
        scope = place.last(on)
        if scope is None or scope.outside:
            return None
        if (scope.unit is not None and scope.unit.ended) or (scope.frame is not None and scope.frame.ended):
            return None
        return scope

    def around_block(self, place: Place, block: Block, outer: Scope | None) -> Frame | None:
        """The frame around a block that is entered."""
        if outer is None or outer.unit is None:
            return outer.frame if outer is not None else None
        unit = outer.unit
        self.check_free(unit)
        needs_one = ATOMIC_IS_A_TRANSACTION or block.propagation in (P.REQUIRED, P.NESTED)
        if unit.atomic and needs_one:
            self.begin_by_hand(place, unit)
        return unit.by_hand

    def check_free(self, unit: OpenUnit) -> None:
        """While a block of another task is open on the session of a unit, it would have to wait."""
        if unit.block is not None:
            raise Unspecified

    def enter_savepoint(self, around: Frame, *, read_only: bool) -> Scope:
        """A savepoint in this frame."""
        if around.condemned:
            raise Model("TransactionRefusedError")
        self.check_turn(around)
        return Scope(Frame(around.on, parent=around, unit=around.unit), owns=True, read_only=read_only)

    def enter_outside(self, place: Place, block: Block, outer: Scope | None) -> Scope:
        """Enter where no transaction is open."""
        unit = outer.unit if outer is not None else None
        if block.propagation in (P.SUPPORTS, P.NOT_SUPPORTED, P.NEVER):
            if unit is not None and unit.pending:
                raise Unspecified
            inherited = outer is not None and outer.read_only
            scope = self.plain(place, block)
            scope.read_only = scope.read_only or inherited
            if scope.frame is not None and outer is not None:
                scope.frame.shares = outer.frame
            return scope
        return self.begin(place, block, None if unit is not None and unit.atomic else unit)

    def plain(self, place: Place, block: Block) -> Scope:
        """A block without a transaction: on SQLite it cannot write while this task holds the lock."""
        read_only = block.read_only or self.write_locked(place, block.on)
        return Scope(Frame(block.on, plain=True), owns=True, read_only=read_only)

    def begin(self, place: Place, block: Block, unit: OpenUnit | None) -> Scope:
        """Begin a transaction; one that must wait for this very task is refused."""
        if unit is not None:
            unit.reading = False
            if unit.pending and block.read_only:
                raise Unspecified
        if not block.read_only and self.write_locked(place, block.on):
            raise Model("TransactionRefusedError")
        frame = Frame(block.on, read_only=block.read_only, unit=unit)
        if unit is not None:
            frame.writes, unit.pending, unit.block = unit.pending, [], frame
        self.roots.append(frame)
        return Scope(frame, owns=True, read_only=block.read_only)

    def write_locked(self, place: Place, on: int) -> bool:
        """Whether a transaction of this task holds the only write lock."""
        if not self.around.one_writer:
            return False
        mine = [scope.frame.root for scope in place.scopes[on] if scope.frame]
        mine += [scope.unit.by_hand for scope in place.scopes[on] if scope.unit and scope.unit.by_hand]
        writers = [each for each in self.roots if each.on == on and not each.ended and not each.plain]
        if any(not each.sent and any(self.kinds(each)) for each in writers):
            raise Unspecified  # whether what is pending has been flushed
        writers = [each for each in writers if each.sent and not each.read_only]
        if any(each not in mine for each in writers) or any(
            each.reading and each.on == on for each in self.units
        ):
            raise Unspecified
        if writers and place.task:
            raise Unspecified
        return bool(writers)

    # -- the end of a block -----------------------------------------------------------------------

    def leave(
        self, place: Place, block: Block, scope: Scope, error: BaseException | None
    ) -> Generator[None, None, tuple[Told, BaseException | None]]:
        """End a block; return its status, and what it raises."""
        _, blow = self.operation(place)
        frame = scope.frame
        if frame is None:
            raise Unspecified
        undo = error is not None and self.rolls_back(error, block)
        if scope.late:
            error, undo = Cancelled(), True
        how: Told
        if frame.ended:
            how, error = ("*",), error or Model(*ENDED)
            self.forget(place, scope)
        elif not scope.owns:
            self.forget(place, scope)
            how, error = self.leave_joined(frame, error, undo=undo, blow=blow)
        elif frame.plain:
            self.forget(place, scope)
            frame.ended = True
            if frame.shares is not None and frame.shares.ended and error is None and self.choose(2):
                error = Model("TransactionEndedError")
            how = ("ended without a transaction",)
            if blow is not None and blow.interrupts:
                error = Cancelled()
            elif blow is not None and error is None and self.choose(2):
                error = Model("Struck*")
        else:
            how, error = yield from self.end(place, scope, error, undo=undo, blow=blow)
        if scope.late and isinstance(error, Cancelled):
            error = Model("TransactionTimeoutError")
        return how, error

    def forget(self, place: Place, scope: Scope) -> None:
        """A block is left."""
        if scope.frame is None:
            raise Unspecified
        place.drop(scope.frame.on, scope)
        if scope in scope.frame.root.scopes:
            scope.frame.root.scopes.remove(scope)

    def leave_joined(
        self, frame: Frame, error: BaseException | None, *, undo: bool, blow: Blow | None
    ) -> tuple[Told, BaseException | None]:
        """End a block that has joined: the frame is condemned, or nothing happens."""
        if blow is not None and blow.interrupts:
            error, undo = Cancelled(), True
        elif blow is not None and error is None and self.choose(2):
            error, undo = Model("Struck*"), True
        if frame.plain:
            return ("ended without a transaction",), error
        if undo and not isinstance(error, RowCountError):
            frame.condemned = True
            return ("failed: what it joined must be undone",), error
        return ("left to the outer transaction",), error

    def end(
        self, place: Place, scope: Scope, error: BaseException | None, *, undo: bool, blow: Blow | None
    ) -> Generator[None, None, tuple[Told, BaseException | None]]:
        """End a frame: the last work, the commit or the rollback, and what comes after."""
        frame = scope.frame
        if frame is None:
            raise Unspecified
        if frame.root.holder is not None and not scope.late:
            raise Unspecified  # it waits for that operation
        if blow is not None and blow.interrupts:
            return (yield from self.end_struck(place, scope, error, undo=undo))
        if blow is Blow.BEFORE_COMMIT and not undo:
            error, undo = Model("Struck*"), True
            how, error = yield from self.settle(place, scope, error, undo=True)
            return how, error
        if blow is Blow.AFTER_COMMIT and frame.parent is not None and not undo and self.choose(2):
            return (yield from self.settle(place, scope, Model("Struck*"), undo=True))
        untouched = not (frame.sent or frame.writes or frame.root is not frame or scope.late)
        how, after = yield from self.settle(place, scope, error, undo=undo)
        if untouched:  # nothing was sent
            how = (*how, "committed" if how == ("rolled back",) else "rolled back")
        if blow is not None and after is None and self.choose(2):
            after = Model("Struck*", "AfterCommitError", "ExceptionGroup")
        return how, after

    def end_struck(
        self, place: Place, scope: Scope, error: BaseException | None, *, undo: bool
    ) -> Generator[None, None, tuple[Told, BaseException | None]]:
        """A cancellation at the end of a block: before the commit, after it, or nobody knows."""
        frame = scope.frame
        if frame is None:
            raise Unspecified
        kind = self.choose(2 if undo or frame.parent is not None else 6)
        if kind == 0:  # before the commit
            how, _ = yield from self.settle(place, scope, Cancelled(), undo=True)
            return how, Cancelled()
        if kind == 1:  # after it: a limit that could not stop the commit is not told
            if self.struck is not None and self.struck.blow is Blow.CANCEL_ALL and self.choose(2):
                frame.on_commit = []  # the task that runs them is cancelled, too
            how, after = yield from self.settle(place, scope, error, undo=undo)
            committed = how == ("committed",) and scope.late
            return how, after if committed else Cancelled()
        frame.on_commit, frame.on_rollback = [], []
        yield from self.settle(place, scope, error, undo=kind in (3, 5))
        return ("outcome unknown",), Cancelled() if kind in (2, 3) else Model("CommitOutcomeUnknownError")

    def settle(
        self, place: Place, scope: Scope, error: BaseException | None, *, undo: bool
    ) -> Generator[None, None, tuple[Told, BaseException | None]]:
        """Roll back or commit as the marks say; return the status and what is raised."""
        frame = scope.frame
        if frame is None:
            raise Unspecified
        others = [each for each in frame.open_inside() if each is not scope]
        marked = frame.condemned or bool(others)
        if not (undo or marked or frame.rollback_only):
            failure = yield from self.last_work(place, frame)
            if failure is not None:
                error, undo = failure, True
            marked = frame.condemned or bool(others)
        if undo or marked or frame.rollback_only:
            if not undo and marked and not frame.rollback_only and not self.is_of_database(frame, error):
                error = Model("UnexpectedRollbackError")
            return (yield from self.undo(place, scope, error))
        return (yield from self.keep(place, scope, error))

    def is_of_database(self, frame: Frame, error: BaseException | None) -> bool:
        """An error of the database is never replaced, and an exception never promises a commit: both hold."""
        return error is not None and frame.refuses and bool(self.choose(2))

    def last_work(self, place: Place, frame: Frame) -> Generator[None, None, BaseException | None]:
        """What is done inside before the commit; what it raises rolls back."""
        if frame.parent is None:
            while frame.before_commit:
                function = frame.before_commit.pop(0)
                try:
                    yield from self.call(place, function)
                except RAISED as error:
                    return error
        return frame.late_error

    def keep(
        self, place: Place, scope: Scope, error: BaseException | None
    ) -> Generator[None, None, tuple[Told, BaseException | None]]:
        """Commit, or hand up."""
        frame = scope.frame
        if frame is None:
            raise Unspecified
        self.close(place, scope)
        if frame.parent is not None:
            frame.parent.writes += frame.writes
            frame.parent.on_commit += frame.on_commit
            frame.parent.on_rollback += frame.on_rollback
            frame.parent.before_commit += frame.before_commit
            return ("savepoint kept",), error
        self.stored[frame.on] += frame.writes
        failed, stopped = yield from self.call_all(place, frame, frame.on_commit)
        if stopped is not None:
            error = stopped
        elif failed and error is None:
            error = Model("AfterCommitError")
        return ("committed",), error

    def undo(
        self, place: Place, scope: Scope, error: BaseException | None
    ) -> Generator[None, None, tuple[Told, BaseException | None]]:
        """Roll back; the functions that waited for it run now."""
        frame = scope.frame
        if frame is None:
            raise Unspecified
        self.close(place, scope)
        if frame.parent is not None and any(function.hook.body for function in frame.on_rollback):
            raise Unspecified
        failed, stopped = yield from self.call_all(place, frame, frame.on_rollback)
        if stopped is not None:
            error = stopped
        elif failed and error is None:
            error = Model("ExceptionGroup")
        return (("undone to savepoint",) if frame.parent else ("rolled back",)), error

    def close(self, place: Place, scope: Scope) -> None:
        """The frame of a block has ended, with all that is in it."""
        if scope.frame is None:
            raise Unspecified
        self.forget(place, scope)
        scope.frame.end()
        if scope.frame.unit is not None and scope.frame.unit.block is scope.frame:
            scope.frame.unit.block = None

    def rolls_back(self, error: BaseException, block: Block) -> bool:
        """Of all rules that name the class or a base, the nearest decides; ties roll back."""
        undo, keep = RULES[block.rules]
        if isinstance(error, Model) and len(keep) and keep[0].__name__ == "DBAPIError":
            return not {"DBAPIError", "IntegrityError"} & set(error.names)
        if not isinstance(error, Exception):
            return True
        for ancestor in type(error).__mro__:
            if ancestor in undo:
                return True
            if ancestor in keep:
                return False
        return True

    # -- hooks ----------------------------------------------------------------------------------

    def hook(self, place: Place, hook: Hook) -> None:
        """Remember a function; where nothing can be waited for it runs at once."""
        number, _ = self.operation(place)
        function = Function(f"{hook.moment} {number}", hook)
        frame = self.frame_for_hook(place, hook.on)
        if frame is not None:
            getattr(frame, hook.moment).append(function)
        elif hook.moment != "on_rollback":
            if hook.body:
                raise Unspecified  # it runs in a task that nobody has to wait for
            self.tell(function.label)
            if hook.fails:
                raise ValueError(function.label)

    def frame_for_hook(self, place: Place, on: int) -> Frame | None:
        """The frame that a function would wait for."""
        scope = place.last(on)
        if scope is None or scope.outside:
            return None
        if scope.frame is not None and scope.frame.ended:
            if not scope.frame.root.ended:
                if self.choose(2):
                    return next(each for each in scope.frame.line() if not each.ended)
                raise Model("TransactionEndedError")
            return None
        if scope.unit is None:
            return scope.frame if scope.frame and not scope.frame.plain else None
        return self.frame_of_unit_for_hook(place, scope.unit)

    def frame_of_unit_for_hook(self, place: Place, unit: OpenUnit) -> Frame | None:
        """In a unit: what is open by hand."""
        if unit.ended:
            return None
        if unit.block is not None or unit.pending or unit.reading:
            raise Unspecified
        if unit.atomic and unit.by_hand is None and ATOMIC_IS_A_TRANSACTION:
            self.begin_by_hand(place, unit)
        return unit.by_hand

    def call(self, place: Place, function: Function) -> Run:
        """Run a function."""
        self.tell(function.label)
        if function.hook.fails:
            raise ValueError(function.label)
        yield from self.body(place, function.hook.body)

    def call_all(
        self, place: Place, frame: Frame, functions: list[Function]
    ) -> Generator[None, None, tuple[bool, BaseException | None]]:
        """Run all, in order, whatever one of them does, where no transaction is current."""
        failed, stopped = False, None
        outside = Scope(outside=True, unit=frame.unit)
        place.push(frame.on, outside)
        inside, place.in_hook = place.in_hook, True
        for function in functions:
            try:
                yield from self.call(place, function)
            except Exception:  # noqa: BLE001  # counted
                failed = True
            except RAISED as error:
                stopped = error
        place.in_hook = inside
        place.drop(frame.on, outside)
        if self.deferred and not place.in_hook:
            self.deferred, stopped = False, Cancelled()
        return failed, stopped

    # -- units ----------------------------------------------------------------------------------

    def unit(self, place: Place, step: Unit) -> Run:
        """Enter, run, and commit what is left; or roll it back."""
        if place.last(step.on) is not None:
            raise Unspecified
        unit = OpenUnit(step.on, step.atomic)
        self.units.append(unit)
        scope = Scope(unit=unit)
        place.push(step.on, scope)
        error: BaseException | None = None
        try:
            yield from self.body(place, step.body)
        except RAISED as raised:
            error = raised
        _, blow = self.operation(place)
        undo = error is not None
        if unit.block is not None:
            error, undo = self.end_with_block(unit, error)
        if unit.by_hand is not None or (unit.pending and not undo):
            _, error = yield from self.end_by_hand(place, unit, error, undo=undo, blow=blow)
        elif blow is not None and blow.interrupts:
            error = Cancelled()
        elif blow is not None and error is None and self.choose(2):
            error = Model("Struck*")
        unit.ended = True
        self.units.remove(unit)
        place.drop(step.on, scope)
        if error is not None:
            raise error

    def end_with_block(
        self, unit: OpenUnit, error: BaseException | None
    ) -> tuple[BaseException | None, bool]:
        """A unit ends while a block of another task is open: nothing of it is stored, or it goes on."""
        if unit.block is None or unit.block.on_rollback:
            raise Unspecified
        if self.choose(2):
            unit.block = None
            return error, error is not None
        unit.block.end()
        unit.block = None
        return error or Model("UnexpectedRollbackError"), True

    def begin_by_hand(self, place: Place, unit: OpenUnit) -> Frame:
        """The transaction of a unit: begun by a write, or where an atomic unit needs one."""
        if unit.by_hand is None:
            self.check_free(unit)
            unit.reading = False
            if self.write_locked(place, unit.on):
                raise Unspecified
            unit.by_hand = Frame(unit.on, unit=unit)
            self.roots.append(unit.by_hand)
            unit.by_hand.writes, unit.pending = unit.pending, []
        return unit.by_hand

    def end_by_hand(
        self,
        place: Place,
        unit: OpenUnit,
        error: BaseException | None,
        *,
        undo: bool,
        blow: Blow | None = None,
    ) -> Generator[None, None, tuple[Told, BaseException | None]]:
        """End what is open in a unit."""
        frame = self.begin_by_hand(place, unit)
        scope = Scope(frame, owns=True)
        place.push(unit.on, scope)
        frame.root.scopes.append(scope)
        how, error = yield from self.end(place, scope, error, undo=undo, blow=blow)
        unit.by_hand, unit.begun = None, False
        return how, error

    def by_hand(self, place: Place, act: Act, on: int, blow: Blow | None) -> Run:
        """Commit, roll back or close."""
        scope = place.last(on)
        if scope is None:
            raise Model("NoTransactionError")
        if scope.outside:
            raise Unspecified
        if (scope.unit and scope.unit.ended) or (scope.frame and scope.frame.ended):
            raise Model("TransactionEndedError")
        if scope.unit is None:
            if scope.savepoint_by_hand:
                raise Unspecified
            raise Model("TransactionRefusedError")
        unit = scope.unit
        self.check_free(unit)
        if unit.begun:
            raise Unspecified
        undo = act not in (Act.COMMIT, Act.SESSION_COMMIT)
        unit.reading = False
        if undo:
            unit.pending = []
        error: BaseException | None = None
        if unit.by_hand is not None or unit.pending:
            if undo and unit.by_hand is not None:
                unit.by_hand.rollback_only = True
            _, error = yield from self.end_by_hand(place, unit, None, undo=False, blow=blow)
        elif blow is not None and blow.interrupts:
            error = Cancelled()
        elif blow is not None and self.choose(2):
            error = Model("Struck*")
        if error is not None:
            raise error

    def begun(self, place: Place, step: Begun) -> Run:
        """`async with session.begin()` in a unit."""
        self.operation(place)
        scope = self.live(place, step.on)
        if (
            scope is None
            or scope.unit is None
            or scope.unit.by_hand
            or scope.unit.begun
            or scope.unit.reading
        ):
            raise Unspecified
        unit = scope.unit
        self.begin_by_hand(place, unit)
        unit.begun = True
        error: BaseException | None = None
        try:
            yield from self.body(place, step.body)
        except RAISED as raised:
            error = raised
        _, blow = self.operation(place)
        _, error = yield from self.end_by_hand(place, unit, error, undo=error is not None, blow=blow)
        if error is not None:
            raise error

    def savepoint(self, place: Place, step: Savepoint) -> Run:
        """`async with session.begin_nested()`."""
        _, blow = self.operation(place)
        outer = self.session(place, step.on)
        frame = outer.frame
        if outer.unit is not None:
            frame = self.begin_by_hand(place, outer.unit)
        if frame is None or frame.plain:
            raise Model("TransactionRefusedError")
        scope = self.enter_savepoint(frame, read_only=outer.read_only)
        self.struck_at_entry(blow)
        scope.savepoint_by_hand = True
        place.push(step.on, scope)
        frame.root.scopes.append(scope)
        error: BaseException | None = None
        try:
            yield from self.body(place, step.body)
        except RAISED as raised:
            error = raised
        _, error = yield from self.leave(place, Block(on=step.on), scope, error)
        if outer.unit is not None and not (frame.writes or frame.condemned or outer.unit.atomic):
            raise Unspecified  # whether a later block joins what has written nothing
        if error is not None:
            raise error

    # -- acts -----------------------------------------------------------------------------------

    def act(self, place: Place, step: Do) -> Run:
        """Do one thing."""
        act, on = step.act, step.on
        number, blow = self.operation(place)
        if act is Act.PAUSE:
            if place.task:
                yield
        elif act is Act.PAUSE_INSIDE:
            yield from self.pause_inside(place, on)
        elif act is Act.RESUME:
            self.resume()
        elif act is Act.TIME_PASSES:
            if self.time_passes(place):
                raise Cancelled
        elif act is Act.LOOK:
            self.tell(*self.seen(on))
        elif act is Act.HELD:
            self.held(on)
        elif act is Act.CONFLICT:
            if not place.attempts or place.attempts[-1][0] <= place.attempts[-1][1]:
                raise Conflict
        elif act in BY_HAND:
            yield from self.by_hand(place, act, on, blow)
        else:
            self.struck_in_act(place, act, on, number, blow)

    def held(self, on: int) -> None:
        """A transaction holds a connection from its first statement on; nothing else does."""
        here = [root for root in self.roots if root.on == on and not root.ended]
        if any(root.unsure or (root.writes and not root.sent) for root in here):
            raise Unspecified
        reading = [unit for unit in self.units if unit.on == on and unit.reading]
        self.tell(f"holds {sum(root.sent for root in here) + len(reading)}")

    def struck_in_act(self, place: Place, act: Act, on: int, number: int, blow: Blow | None) -> None:
        """Do one thing, and be struck in it."""
        if blow is None:
            self.simple(place, act, on, number)
            return
        if not blow.interrupts:
            self.simple(place, act, on, number)
            if blow is Blow.BEFORE_COMMIT:
                raise Unspecified
            if self.choose(2):
                raise Model("Struck*", "AfterCommitError")
            return
        if place.in_hook and self.choose(2):
            self.deferred = True
            self.simple(place, act, on, number)
            return
        if self.choose(2):
            self.simple(place, act, on, number)
        scope = place.last(on)
        if (
            scope is not None
            and scope.frame is not None
            and scope.frame.parent is not None
            and self.choose(2)
        ):
            for frame in scope.frame.line():  # the connection is lost, and with it the whole transaction
                frame.condemned = frame.refuses = True
        raise Cancelled

    def simple(self, place: Place, act: Act, on: int, number: int) -> None:
        """Do one thing that does not end anything."""
        if act is Act.ROLLBACK_ONLY:
            self.mark(place, on)
        elif act is Act.PENDING:
            self.pending(place, on, ("row", number))
        elif act is Act.CHANGE:
            self.change(place, on, number)
        elif act is Act.FOREIGN_ADD:
            self.foreign_add(place, on)
        elif act in (*REPOSITORY_WRITES, Act.REPOSITORY_READ, Act.ENTITY):
            self.repository(place, act, on, number)
        else:
            self.send(place, act, on, number)

    def session(self, place: Place, on: int) -> Scope:
        """The innermost scope: `db.session`."""
        scope = place.last(on)
        if scope is None:
            raise Model("NoTransactionError")
        if scope.outside:
            if place.last(on) and scope.unit is not None and self.choose(2):
                return Scope(unit=scope.unit)
            raise Model("NoTransactionError", "TransactionEndedError", "TransactionRefusedError")
        if (scope.unit and scope.unit.ended) or (scope.frame and scope.frame.ended):
            raise Model("TransactionEndedError")
        return scope

    def mark(self, place: Place, on: int) -> None:
        """Mark the frame: by its owner silently, by others not."""
        scope = self.session(place, on)
        frame = scope.frame
        if scope.unit is not None:
            if scope.unit.block or scope.unit.pending or scope.unit.reading:
                raise Unspecified
            if scope.unit.atomic and ATOMIC_IS_A_TRANSACTION:
                self.begin_by_hand(place, scope.unit)
            frame = scope.unit.by_hand
        if frame is None or frame.plain:
            raise Model("NoTransactionError")
        if scope.owns or scope.unit is not None:
            frame.rollback_only = True
        else:
            frame.condemned = True

    def pending(self, place: Place, on: int, write: Write) -> None:
        """Something that is sent with the next flush."""
        scope = self.session(place, on)
        if scope.read_only or (scope.frame is not None and scope.frame.plain):
            raise Unspecified
        if scope.unit is None and scope.frame is not None:
            scope.frame.writes.append(write)
        elif scope.unit is not None:
            if scope.unit.block is not None:
                raise Unspecified
            (scope.unit.by_hand.writes if scope.unit.by_hand else scope.unit.pending).append(write)

    def change(self, place: Place, on: int, number: int) -> None:
        """Load an entity, and set an attribute."""
        scope = self.session(place, on)
        frame = scope.unit.by_hand if scope.unit else scope.frame
        if (scope.unit and frame is None) or (frame and (frame.refuses or frame.plain)) or scope.read_only:
            raise Unspecified
        if frame is None:
            raise Unspecified
        if any(
            kind == "set"
            for root in self.roots
            if root.on == on and not root.ended and root is not frame.root
            for kind in self.kinds(root)
        ):
            raise Unspecified  # it waits for the lock of the row
        self.check_turn(frame)
        frame.root.unsure = frame.root.unsure or not frame.root.sent
        frame.root.sent = True
        frame.writes.append(("set", number))

    def kinds(self, root: Frame) -> Iterator[str]:
        """What has been written in a transaction and its savepoints."""
        frames = {scope.frame for scope in root.scopes if scope.frame} | {root}
        for frame in frames:
            yield from (kind for kind, _ in frame.writes)

    def foreign_add(self, place: Place, on: int) -> None:
        """SQLAlchemy's error comes at once, or from the block, if a sibling works on the session."""
        scope = self.session(place, on)
        frame = scope.frame
        if scope.unit is not None:
            self.check_free(scope.unit)
        if frame is not None and self.is_busy(frame) and self.choose(2):
            frame.late_error = Model("InvalidRequestError")
            return
        raise Model("InvalidRequestError", *["TransactionRefusedError"] * scope.read_only)

    def send(self, place: Place, act: Act, on: int, number: int) -> None:
        """Send a statement through the session."""
        scope = self.session(place, on)
        writes = act in (*WRITES, Act.DUPLICATE)
        if scope.unit is not None:
            frame = self.send_in_unit(place, act, scope.unit)
            if frame is None:
                return
            scope = Scope(frame)
        if scope.frame is None:
            raise Unspecified
        if act is Act.LAZY and scope.frame.refuses:
            raise Unspecified
        raw = act in (Act.CONNECTION, Act.CONNECTION_OF_TRANSACTION, Act.DDL)
        if raw and (scope.frame.plain or (act is Act.DDL and scope.read_only)):
            raise Unspecified
        self.statement(scope, writes=writes, act=act)
        if writes:
            (self.stored[on] if scope.frame.plain else scope.frame.writes).append(("row", number))

    def send_in_unit(self, place: Place, act: Act, unit: OpenUnit) -> Frame | None:
        """By hand, in a unit: a write begins a transaction, a read does not count."""
        self.check_free(unit)
        if act is Act.LAZY and unit.pending:
            raise Unspecified
        if act in (Act.READ, Act.LAZY) and unit.by_hand is None and not unit.pending:
            if self.write_locked(place, unit.on):
                raise Unspecified
            unit.reading = not unit.atomic
            return None
        if unit.by_hand is None and act not in (*WRITES[:5], Act.READ):
            raise Unspecified
        return self.begin_by_hand(place, unit)

    def statement(self, scope: Scope, *, writes: bool, act: Act) -> None:
        """Send a statement: a database error condemns its frame, which refuses what comes after it."""
        frame = scope.frame
        if frame is None:
            raise Unspecified
        if frame.refuses or (writes and scope.read_only):
            by_database = frame.root.read_only and act in (Act.CONNECTION, Act.CONNECTION_OF_TRANSACTION)
            if frame.refuses or not by_database or not self.choose(2):
                raise Model("TransactionRefusedError")
            act = Act.NONSENSE
        self.check_turn(frame)
        if frame.shares is not None and frame.shares.ended:
            raise Unspecified
        if act is Act.DDL and self.around.ddl_commits:
            raise Model("TransactionRefusedError")
        frame.root.sent = True
        if act in (Act.DUPLICATE, Act.NONSENSE):
            if not frame.plain:
                frame.condemned = frame.refuses = True
            raise Model("IntegrityError" if act is Act.DUPLICATE else "DBAPIError")

    def check_turn(self, frame: Frame) -> None:
        """Where another task holds the turn of the session, this one would wait."""
        if self.is_busy(frame):
            raise Unspecified

    def is_busy(self, frame: Frame) -> bool:
        """Whether another task is in the middle of an operation, or in a savepoint."""
        line = list(frame.line())
        inside = [scope.frame for scope in frame.root.scopes if scope.frame is not None]
        return frame.root.holder is not None or any(each not in line and not each.ended for each in inside)

    def repository(self, place: Place, act: Act, on: int, number: int) -> None:
        """Call a repository: it joins what is open, or does it by itself."""
        scope = place.last(on)
        writes = act in REPOSITORY_WRITES
        alone = scope is None or scope.outside
        if scope is not None and scope.unit is not None and not scope.outside:
            alone = self.alone_in_unit(place, scope.unit, writes=writes)
            scope = scope if alone else Scope(scope.unit.by_hand)
        elif scope is not None and scope.frame is not None and scope.frame.ended:
            if self.choose(2):
                raise Model("TransactionEndedError")
            alone = True
        if alone:
            if writes and self.write_locked(place, on):
                raise Model("TransactionRefusedError")
            target = self.stored[on]
        elif scope is not None and scope.frame is not None:
            if act is Act.ENTITY and scope.frame.refuses:
                raise Unspecified
            self.statement(scope, writes=writes, act=act)
            target = self.stored[on] if scope.frame.plain else scope.frame.writes
        else:
            raise Unspecified
        if writes:
            target.append(("row", number))
        if act is Act.ENTITY:
            self.tell("entity taken")

    def alone_in_unit(self, place: Place, unit: OpenUnit, *, writes: bool) -> bool:
        """Whether a repository in a unit does its work by itself."""
        if unit.ended:
            if self.choose(2):
                raise Model("TransactionEndedError")
            return True
        if unit.block is not None:
            if writes:
                raise Unspecified
            if self.choose(2):
                raise Model("TransactionRefusedError")
            return True
        if unit.by_hand is not None:
            return False
        if unit.pending:
            raise Unspecified
        if writes and unit.atomic:
            self.begin_by_hand(place, unit)
            return False
        if writes:
            unit.reading = False
        return True

    def pause_inside(self, place: Place, on: int) -> Run:
        """Pause in the middle of an operation of the session."""
        if not place.task:
            return
        scope = self.session(place, on)
        if scope.frame is None or scope.frame.plain or scope.frame.refuses:
            raise Unspecified
        frame = scope.frame
        self.check_turn(frame)
        frame.root.sent = True
        frame.root.holder = place
        yield
        frame.root.holder = None
        if frame.ended:
            raise Model("*")

    # -- generators, and reads that must be fresh --------------------------------------------------

    def early(self, place: Place, step: Early) -> Run:
        """A generator begins, gives a first value, and is closed."""
        self.operation(place)
        block = Block(on=step.on, propagation=step.propagation, read_only=step.read_only)
        scope = self.enter(place, block)
        frame = scope.frame
        if frame is None:
            raise Unspecified
        inside = Place(place.task, place.scopes)
        inside.push(step.on, scope)
        frame.root.scopes.append(scope)
        error: BaseException | None = None
        try:
            if step.writes:
                self.statement(scope, writes=True, act=Act.INSERT)
            yield from self.consumer(place, step, frame)
        except RAISED as raised:
            error = raised
        self.operation(place)
        if scope in frame.root.scopes:
            _, after = yield from self.end(inside, scope, Cancelled(), undo=True, blow=None)
            if after is not None and not isinstance(after, Cancelled):
                raise Unspecified
        if error is not None:
            raise error

    def consumer(self, place: Place, step: Early, frame: Frame) -> Run:
        """The body of the loop: it does not lose its work to the generator's transaction."""
        if not step.body:
            return
        if frame.parent is not None or step.on or place.task or not isinstance(step.body[0], Block):
            raise Unspecified
        if (self.around.one_writer and frame.sent) or self.choose(2):
            self.operation(place)
            raise Model("TransactionRefusedError")
        yield from self.body(place, step.body)

    def fresh_read(self, place: Place, step: FreshRead) -> None:
        """What somebody else has changed is seen by a SERIALIZABLE block with retry."""
        number, _ = self.operation(place)
        scope = self.live(place, step.on)
        unit = scope.unit if scope else None
        if unit is None or unit.by_hand or unit.pending or unit.block or unit.reading:
            raise Unspecified
        if self.write_locked(place, step.on):
            raise Unspecified
        if unit.atomic:  # the block with an isolation begins its transaction
            self.begin_by_hand(place, unit).sent = True
        self.tell(f"fresh {number}")


def outcomes(program: Program, around: Surroundings, struck: Struck | None = None) -> Iterator[Promises]:
    """All that the promises allow.

    Raises:
        Unspecified: They do not say.
    """
    waiting: list[tuple[int, ...]] = [()]
    for _ in range(MANY):
        if not waiting:
            return
        promises = Promises(around, struck, waiting.pop())
        promises.run(program)
        taken = [chosen for chosen, _ in promises.made]
        for place in range(len(promises.choices), len(taken)):
            others = range(1, promises.made[place][1])
            waiting += [(*taken[:place], other) for other in others]
        yield promises
    raise Unspecified
