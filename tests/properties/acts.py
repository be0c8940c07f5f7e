"""This module of the model does the simple things: writes, reads, and failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.properties.programs import (
    BY_HAND,
    REPOSITORY_WRITES,
    WRITES,
    Act,
    Blow,
    Do,
)
from tests.properties.world import (
    ATOMIC_IS_A_TRANSACTION,
    Cancelled,
    Conflict,
    Frame,
    Model,
    Place,
    Run,
    Scope,
    Unspecified,
    Write,
)
from tests.properties.world import Unit as OpenUnit
from unitwork import Propagation

if TYPE_CHECKING:
    from tests.properties.model import Promises

P = Propagation


class Acts:
    """What one act does where it is. Lives: as long as the model of one run."""

    def __init__(self, model: Promises) -> None:
        self.model = model

    def act(self, place: Place, step: Do) -> Run:  # noqa: C901  # one branch for each act
        """Do one thing."""
        act, on = step.act, step.on
        number, blow = self.model.operation(place)
        if act is Act.PAUSE:
            if place.task:
                yield
        elif act is Act.PAUSE_INSIDE:
            yield from self.pause_inside(place, on)
        elif act is Act.RESUME:
            self.model.resume()
        elif act is Act.TIME_PASSES:
            if self.model.time_passes(place):
                raise Cancelled
        elif act is Act.LOOK:
            self.model.tell(*self.model.seen(on))
        elif act is Act.HELD:
            self.held(on)
        elif act is Act.CONFLICT:
            if not place.attempts or place.attempts[-1][0] <= place.attempts[-1][1]:
                raise Conflict
        elif act in BY_HAND:
            yield from self.model.units.by_hand(place, act, on, blow)
        else:
            self.struck_in_act(place, act, on, number, blow)

    def held(self, on: int) -> None:
        """A transaction holds a connection from its first statement on; nothing else does."""
        here = [root for root in self.model.roots if root.on == on and not root.ended]
        if any(root.unsure or (root.writes and not root.sent) for root in here):
            raise Unspecified
        reading = [unit for unit in self.model.open_units if unit.on == on and unit.reading]
        self.model.tell(f"holds {sum(root.sent for root in here) + len(reading)}")

    def struck_in_act(self, place: Place, act: Act, on: int, number: int, blow: Blow | None) -> None:
        """Do one thing, and be struck in it."""
        if blow is not None and blow.interrupts:
            self.interrupted(place, act, on, number)
            return
        early = blow is Blow.OBSERVER or act is Act.ENTITY
        if blow is Blow.BEFORE_COMMIT or (early and self.model.reaches_the_caller(blow)):
            raise Model("Struck*")
        self.simple(place, act, on, number)
        if self.model.reaches_the_caller(blow):
            raise Model("Struck*", "AfterCommitError")

    def interrupted(self, place: Place, act: Act, on: int, number: int) -> None:
        """A cancellation in the middle of an act: it was done, or not."""
        if place.in_hook and self.model.choose(2):
            self.model.deferred = True
            self.simple(place, act, on, number)
            return
        if self.model.choose(2):
            self.simple(place, act, on, number)
        scope = place.last(on)
        frame = scope.frame if scope is not None else None
        if frame is not None and frame.parent is not None and self.model.choose(2):
            for each in frame.line():  # the connection is lost, and with it the whole transaction
                each.condemned = each.refuses = True
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
        if scope is None and place.task:
            # It may have begun after a block in a generator that was left to the event loop.
            raise Model("NoTransactionError", "TransactionEndedError")
        if scope is None:
            raise Model("NoTransactionError")
        if scope.outside:
            if place.last(on) and scope.unit is not None and self.model.choose(2):
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
                self.model.units.begin_by_hand(place, scope.unit)
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
            for root in self.model.roots
            if root.on == on and not root.ended and root is not frame.root
            for kind in self.model.kinds(root)
        ):
            raise Unspecified  # it waits for the lock of the row
        self.check_turn(frame)
        frame.root.unsure = frame.root.unsure or not frame.root.sent
        frame.root.sent = True
        frame.writes.append(("set", number))

    def foreign_add(self, place: Place, on: int) -> None:
        """SQLAlchemy's error comes at once, or from the block, if a sibling works on the session."""
        scope = self.session(place, on)
        frame = scope.frame
        if scope.unit is not None:
            self.model.entries.check_free(scope.unit)
        if frame is not None and self.is_busy(frame) and self.model.choose(2):
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
            (self.model.stored[on] if scope.frame.plain else scope.frame.writes).append(("row", number))

    def send_in_unit(self, place: Place, act: Act, unit: OpenUnit) -> Frame | None:
        """By hand, in a unit: a write begins a transaction, a read does not count."""
        self.model.entries.check_free(unit)
        if act is Act.LAZY and unit.pending:
            raise Unspecified
        if act in (Act.READ, Act.LAZY) and unit.by_hand is None and not unit.pending:
            if self.model.entries.write_locked(place, unit.on):
                raise Unspecified
            unit.reading = not unit.atomic
            return None
        if unit.by_hand is None and act not in (*WRITES[:5], Act.READ):
            raise Unspecified
        return self.model.units.begin_by_hand(place, unit)

    def statement(self, scope: Scope, *, writes: bool, act: Act) -> None:
        """Send a statement: a database error condemns its frame, which refuses what comes after it."""
        frame = scope.frame
        if frame is None:
            raise Unspecified
        if frame.refuses or (writes and scope.read_only):
            by_database = frame.root.read_only and act in (Act.CONNECTION, Act.CONNECTION_OF_TRANSACTION)
            if frame.refuses or not by_database or not self.model.choose(2):
                raise Model("TransactionRefusedError")
            act = Act.NONSENSE
        self.check_turn(frame)
        if frame.shares is not None and frame.shares.ended:
            raise Unspecified
        if act is Act.DDL:
            self.define(frame)
        frame.root.sent = True
        if act in (Act.DUPLICATE, Act.NONSENSE):
            if not frame.plain:
                frame.condemned = frame.refuses = True
            raise Model("IntegrityError" if act is Act.DUPLICATE else "DBAPIError")

    def define(self, frame: Frame) -> None:
        """DDL that would commit what was written before it is refused."""
        if self.model.around.ddl_commits:
            if not frame.root.sent or all(kind == "set" for kind, _ in frame.root.writes):
                raise Unspecified  # it is let through where nothing was sent that writes
            raise Model("TransactionRefusedError")

    def check_turn(self, frame: Frame) -> None:
        """Where another task holds the turn of the session, this one would wait."""
        if self.is_busy(frame):
            raise Unspecified

    def is_busy(self, frame: Frame) -> bool:
        """Whether another task is in the middle of an operation, or in a savepoint."""
        line = list(frame.line())
        inside = [scope.frame for scope in frame.root.scopes if scope.frame is not None]
        return frame.root.holder is not None or any(each not in line and not each.ended for each in inside)

    def repository(self, place: Place, act: Act, on: int, number: int) -> None:  # noqa: C901  # one branch for each place
        """Call a repository: it joins what is open, or does it by itself."""
        scope = place.last(on)
        writes = act in REPOSITORY_WRITES
        alone = scope is None or scope.outside
        if scope is not None and scope.unit is not None and not scope.outside:
            alone = self.alone_in_unit(place, scope.unit, writes=writes)
            scope = scope if alone else Scope(scope.unit.by_hand)
        elif scope is not None and scope.frame is not None and scope.frame.ended:
            if self.model.choose(2):
                raise Model("TransactionEndedError")
            alone = True
        if alone:
            if writes and self.model.entries.write_locked(place, on):
                raise Model("TransactionRefusedError")
            target = self.model.stored[on]
        elif scope is not None and scope.frame is not None:
            if act is Act.ENTITY and scope.frame.refuses:
                raise Unspecified
            self.statement(scope, writes=writes, act=act)
            target = self.model.stored[on] if scope.frame.plain else scope.frame.writes
        else:
            raise Unspecified
        if writes:
            target.append(("row", number))
        if act is Act.ENTITY:
            self.model.tell("entity taken")

    def alone_in_unit(self, place: Place, unit: OpenUnit, *, writes: bool) -> bool:  # noqa: C901  # one branch for each place
        """Whether a repository in a unit does its work by itself."""
        if unit.ended:
            if self.model.choose(2):
                raise Model("TransactionEndedError")
            return True
        if unit.block is not None:
            if writes:
                raise Unspecified
            if self.model.choose(2):
                raise Model("TransactionRefusedError")
            return True
        if unit.by_hand is not None:
            return False
        if unit.pending:
            raise Unspecified
        if writes and unit.atomic:
            self.model.units.begin_by_hand(place, unit)
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
