"""This module of the model has units of work, and all that is done in them by hand."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from tests.properties.programs import (
    Act,
    Begun,
    Block,
    Blow,
    Savepoint,
    Unit,
)
from tests.properties.world import (
    RAISED,
    Cancelled,
    Frame,
    Model,
    Place,
    Run,
    Scope,
    Told,
    Unspecified,
)
from tests.properties.world import Unit as OpenUnit
from unitwork import Propagation

if TYPE_CHECKING:
    from tests.properties.model import Promises

P = Propagation


class Units:
    """Units of work, `session.begin()` and savepoints by hand. Lives: as long as the model of one run."""

    def __init__(self, model: Promises) -> None:
        self.model = model

    def unit(self, place: Place, step: Unit) -> Run:
        """Enter, run, and commit what is left; or roll it back."""
        if place.last(step.on) is not None:
            raise Unspecified
        unit = OpenUnit(step.on, step.atomic)
        self.model.open_units.append(unit)
        scope = Scope(unit=unit)
        place.push(step.on, scope)
        error: BaseException | None = None
        try:
            yield from self.model.body(place, step.body)
        except RAISED as raised:
            error = raised
        _, blow = self.model.operation(place)
        undo = error is not None
        if unit.block is not None:
            error, undo = self.end_with_block(unit, error)
        if unit.by_hand is not None or (unit.pending and not undo):
            _, error = yield from self.end_by_hand(place, unit, error, undo=undo, blow=blow)
        elif blow is not None and blow.interrupts:
            error = Cancelled()
        elif error is None and self.model.reaches_the_caller(blow):
            error = Model("Struck*")
        unit.ended = True
        self.model.open_units.remove(unit)
        place.drop(step.on, scope)
        if error is not None:
            raise error

    def end_with_block(
        self, unit: OpenUnit, error: BaseException | None
    ) -> tuple[BaseException | None, bool]:
        """A unit ends while a block of another task is open: nothing of it is stored, or it goes on."""
        if unit.block is None or unit.block.on_rollback or unit.block.holder:
            raise Unspecified
        if self.model.choose(2):
            unit.block = None
            return error, error is not None
        unit.block.end()
        unit.block = None
        return error or Model("UnexpectedRollbackError"), True

    def begin_by_hand(self, place: Place, unit: OpenUnit) -> Frame:
        """The transaction of a unit: begun by a write, or where an atomic unit needs one."""
        if unit.by_hand is None:
            self.model.entries.check_free(unit)
            unit.reading = False
            if self.model.entries.write_locked(place, unit.on):
                raise Unspecified
            unit.by_hand = Frame(unit.on, unit=unit)
            self.model.roots.append(unit.by_hand)
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
        how, error = yield from self.model.endings.end(place, scope, error, undo=undo, blow=blow)
        unit.by_hand, unit.begun = None, False
        return how, error

    def by_hand(self, place: Place, act: Act, on: int, blow: Blow | None) -> Run:
        """Commit, roll back or close."""
        unit = self.unit_for_hands(place, on)
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
        elif self.model.reaches_the_caller(blow):
            error = Model("Struck*")
        if error is not None:
            raise error

    def unit_for_hands(self, place: Place, on: int) -> OpenUnit:
        """The unit in which a commit by hand is allowed; a block ends by itself."""
        scope = place.last(on)
        if scope is None:
            raise Model("NoTransactionError")
        if scope.outside or scope.savepoint_by_hand:
            raise Unspecified
        if (scope.unit and scope.unit.ended) or (scope.frame and scope.frame.ended):
            raise Model("TransactionEndedError")
        if scope.unit is None:
            raise Model("TransactionRefusedError")
        self.model.entries.check_free(scope.unit)
        if scope.unit.begun:
            raise Unspecified
        return scope.unit

    def begun(self, place: Place, step: Begun) -> Run:
        """`async with session.begin()` in a unit."""
        self.model.operation(place)
        scope = self.model.entries.live(place, step.on)
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
            yield from self.model.body(place, step.body)
        except RAISED as raised:
            error = raised
        _, blow = self.model.operation(place)
        _, error = yield from self.end_by_hand(place, unit, error, undo=error is not None, blow=blow)
        if error is not None:
            raise error

    def savepoint(self, place: Place, step: Savepoint) -> Run:
        """`async with session.begin_nested()`."""
        _, blow = self.model.operation(place)
        outer = self.model.acts.session(place, step.on)
        frame = outer.frame
        if outer.unit is not None:
            frame = self.begin_by_hand(place, outer.unit)
        if frame is None or frame.plain:
            raise Model("TransactionRefusedError")
        scope = self.model.entries.enter_savepoint(frame, read_only=outer.read_only)
        self.model.entries.struck_at_entry(blow)
        scope.savepoint_by_hand = True
        place.push(step.on, scope)
        frame.root.scopes.append(scope)
        error: BaseException | None = None
        try:
            yield from self.model.body(place, step.body)
        except RAISED as raised:
            error = raised
        _, error = yield from self.model.endings.leave(place, Block(on=step.on), scope, error)
        if outer.unit is not None and not (frame.writes or frame.condemned or outer.unit.atomic):
            raise Unspecified  # whether a later block joins what has written nothing
        if error is not None:
            raise error
