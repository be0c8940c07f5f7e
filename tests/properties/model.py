"""A small pure model of the promises, written without looking at the library.

It runs a program on plain lists, and says which rows are stored, what a second connection sees,
what every `Catch` has caught, how each block ended, and in which order the hooks run. Where the
promises allow several outcomes it chooses one; `outcomes` walks all choices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.properties.acts import Acts
from tests.properties.endings import Endings
from tests.properties.entries import Entries
from tests.properties.programs import (
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
from tests.properties.units import Units
from tests.properties.world import (
    ATOMIC_IS_A_TRANSACTION,
    OBSERVERS_HARM_NOBODY,
    RAISED,
    Cancelled,
    Conflict,
    Frame,
    Function,
    Model,
    Place,
    Run,
    Told,
    Unspecified,
    Write,
    names_of,
)
from tests.properties.world import Unit as OpenUnit
from unitwork import Propagation

P = Propagation
MANY = 400


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
    open_units: list[OpenUnit] = field(default_factory=list)
    deferred: bool = False
    """Whether a cancellation waits for the end of the block whose hooks run."""

    def __post_init__(self) -> None:
        self.entries = Entries(self)
        self.endings = Endings(self)
        self.units = Units(self)
        self.acts = Acts(self)

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

    def reaches_the_caller(self, blow: Blow | None) -> bool:
        """Whether what an observer or a listener raises comes out where it was called; both is right."""
        if blow is None or (blow is Blow.OBSERVER and OBSERVERS_HARM_NOBODY):
            return False
        return bool(self.choose(2))

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

    def body(self, place: Place, steps: tuple[Step, ...]) -> Run:
        """Run one step after the other."""
        for step in steps:
            yield from self.step(place, step)

    def step(self, place: Place, step: Step) -> Run:  # noqa: C901  # one branch for each kind
        """Run one step."""
        if isinstance(step, Do):
            yield from self.acts.act(place, step)
        elif isinstance(step, Raise):
            raise step.made()
        elif isinstance(step, Catch):
            yield from self.catch(place, step)
        elif isinstance(step, Block):
            yield from self.retrying(place, step) if step.attempts else self.block(place, step)
        elif isinstance(step, Unit):
            yield from self.units.unit(place, step)
        elif isinstance(step, Savepoint):
            yield from self.units.savepoint(place, step)
        elif isinstance(step, Begun):
            yield from self.units.begun(place, step)
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
        outer = self.entries.live(place, block.on)
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
        scope = self.entries.enter(place, block)
        self.entries.struck_at_entry(blow)
        scope.limited = block.limited
        place.push(block.on, scope)
        if scope.frame is not None:
            scope.frame.root.scopes.append(scope)
        error: BaseException | None = None
        try:
            yield from self.body(place, block.body)
        except RAISED as raised:
            error = raised
        status = self.endings.leave(place, block, scope, error)
        how, error = yield from status
        if ended is not None:
            ended.append(how[0])
        else:
            self.tell(*(f"block {number}: {each}" for each in how))
        if error is not None:
            raise error

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
            self.units.begin_by_hand(place, unit)
        return unit.by_hand

    def kinds(self, root: Frame) -> Iterator[str]:
        """What has been written in a transaction and its savepoints."""
        frames = {scope.frame for scope in root.scopes if scope.frame} | {root}
        for frame in frames:
            yield from (kind for kind, _ in frame.writes)

    def early(self, place: Place, step: Early) -> Run:
        """A generator begins, gives a first value, and is closed."""
        self.operation(place)
        block = Block(on=step.on, propagation=step.propagation, read_only=step.read_only)
        scope = self.entries.enter(place, block)
        frame = scope.frame
        if frame is None:
            raise Unspecified
        inside = Place(place.task, place.scopes)
        inside.push(step.on, scope)
        frame.root.scopes.append(scope)
        error: BaseException | None = None
        try:
            if step.writes:
                self.acts.statement(scope, writes=True, act=Act.INSERT)
            yield from self.consumer(place, step, frame)
        except RAISED as raised:
            error = raised
        self.operation(place)
        if scope in frame.root.scopes:
            _, after = yield from self.endings.end(inside, scope, Cancelled(), undo=True, blow=None)
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
        if self.entries.live(place, step.on) is not None:
            raise Unspecified  # it takes part in what is open around it, and not in the generator's
        if (self.around.one_writer and frame.sent) or self.choose(2):
            self.operation(place)
            raise Model("TransactionRefusedError")
        yield from self.body(place, step.body)

    def fresh_read(self, place: Place, step: FreshRead) -> None:
        """What somebody else has changed is seen by a SERIALIZABLE block with retry."""
        number, _ = self.operation(place)
        scope = self.entries.live(place, step.on)
        unit = scope.unit if scope else None
        if unit is None or unit.by_hand or unit.pending or unit.block or unit.reading:
            raise Unspecified
        if self.entries.write_locked(place, step.on):
            raise Unspecified
        if unit.atomic:  # the block with an isolation begins its transaction
            self.units.begin_by_hand(place, unit).sent = True
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
