"""This module of the model enters blocks: what Spring's table says, and what forbids it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.properties.programs import (
    Block,
    Blow,
)
from tests.properties.world import (
    ATOMIC_IS_A_TRANSACTION,
    Cancelled,
    Frame,
    Model,
    Place,
    Scope,
    Unspecified,
)
from tests.properties.world import Unit as OpenUnit
from unitwork import Propagation

if TYPE_CHECKING:
    from tests.properties.model import Promises

P = Propagation


class Entries:
    """How blocks are entered. Lives: as long as the model of one run."""

    def __init__(self, model: Promises) -> None:
        self.model = model

    def struck_at_entry(self, blow: Blow | None) -> None:
        """A blow while a block begins: it has not begun."""
        if blow is not None and blow.interrupts:
            raise Cancelled
        if self.model.reaches_the_caller(blow):
            raise Model("Struck*")

    def enter(self, place: Place, block: Block) -> Scope:
        """Do what Spring's table says."""
        outer = self.live(place, block.on)
        frame = self.around_block(place, block, outer)
        inside = frame is not None and not frame.plain
        if (block.propagation is P.MANDATORY and not inside) or (block.propagation is P.NEVER and inside):
            raise Model("TransactionRefusedError")
        unit = outer.unit if outer is not None else None
        if block.durable and (inside or (unit is not None and unit.atomic)):
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
        if self.only_reads(block, unit):
            return None
        if unit.atomic and needs_one:
            self.model.units.begin_by_hand(place, unit)
        return unit.by_hand

    def only_reads(self, block: Block, unit: OpenUnit) -> bool:
        """A read-only block in an atomic unit that has not begun is a transaction of its own."""
        begun = unit.by_hand
        if begun is not None and unit.atomic and block.read_only and not (begun.sent or begun.writes):
            raise Unspecified  # begun by hand, or no more than hooks that wait
        at_rest = unit.atomic and begun is None and not unit.pending
        return at_rest and block.read_only and block.propagation is P.REQUIRED

    def check_free(self, unit: OpenUnit) -> None:
        """While a block of another task is open on the session of a unit, it would have to wait."""
        if unit.block is not None:
            raise Unspecified

    def enter_savepoint(self, around: Frame, *, read_only: bool) -> Scope:
        """A savepoint in this frame."""
        if around.condemned:
            raise Model("TransactionRefusedError")
        self.model.acts.check_turn(around)
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
        apart = unit is not None and unit.atomic and not self.only_reads(block, unit)
        return self.begin(place, block, None if apart else unit)

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
        self.model.roots.append(frame)
        return Scope(frame, owns=True, read_only=block.read_only)

    def write_locked(self, place: Place, on: int) -> bool:
        """Whether a transaction of this task holds the only write lock."""
        if not self.model.around.one_writer:
            return False
        mine = [scope.frame.root for scope in place.scopes[on] if scope.frame]
        mine += [scope.unit.by_hand for scope in place.scopes[on] if scope.unit and scope.unit.by_hand]
        writers = [each for each in self.model.roots if each.on == on and not each.ended and not each.plain]
        if any(not each.sent and any(self.model.kinds(each)) for each in writers):
            raise Unspecified  # whether what is pending has been flushed
        writers = [each for each in writers if each.sent and not each.read_only]
        if any(each not in mine for each in writers) or any(
            each.reading and each.on == on for each in self.model.open_units
        ):
            raise Unspecified
        if writers and place.task:
            raise Unspecified
        return bool(writers)
