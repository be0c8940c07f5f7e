"""This module chooses the lane of a read, as a value: the lane, the prepared read, and why no faster one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.lanes.compiled import NO_FASTER, CompiledStatements
from unitwork._runtime.lanes.driver import DriverLane
from unitwork._runtime.lanes.fused import FusedLane
from unitwork.options import Lane

if TYPE_CHECKING:
    from unitwork._runtime.lanes.calls import StatementCall
    from unitwork._runtime.lanes.needs import Connections, FrameAccess
    from unitwork._runtime.lanes.reads import ReadCall
    from unitwork._runtime.lanes.results import ResultReader

A_BLOCK = LaneRefusal("a block is open")
A_TRANSACTION = LaneRefusal("a transaction is open")
_BEGINS = LaneRefusal("it locks, or calls a function that may write: the transaction begins with it")
# Looked up once: the class of an enum takes long for that in Python 3.11.
_SESSION = Lane.SESSION


class Choice(NamedTuple):
    """The lane of one read, what was prepared for it, and what keeps it from a faster one."""

    lane: Lane
    read: ReadCall | None = None
    reason: LaneRefusal | None = None


class Lanes:
    """The ways of one Database to send a statement. Lives: as long as its source.

    Attributes:
        statements: What is prepared for the lanes without a session.
        driver: Outside of transactions, on the connection of the driver.
        fused: In a block, on its connection, past the ORM's machinery.
    """

    def __init__(self, connections: Connections) -> None:
        self.statements = CompiledStatements(connections)
        self.driver = DriverLane(connections, self.statements)
        self.fused = FusedLane(connections, self.statements)

    @property
    def fastest(self) -> Lane:
        """The fastest lane that may be used."""
        return self.statements.fastest

    @fastest.setter
    def fastest(self, lane: Lane) -> None:
        self.statements.fastest = lane

    def choose(
        self,
        reader: ResultReader,
        call: StatementCall,
        here: FrameAccess | LaneRefusal | None,
        identity: tuple[Any, ...] | None = None,
    ) -> Choice:
        """Choose the lane of a read.

        Args:
            reader: What becomes of the rows.
            call: What is asked.
            here: The unit of work at rest that is open, None outside of everything, or what else is open.
            identity: What a session knows the only entity by that is asked for.
        """
        read = self.statements.read(reader, call, identity)
        if isinstance(read, LaneRefusal):
            return Choice(_SESSION, None, read)
        if read.read.needs_transaction and _begins_with_writes(here):
            return Choice(_SESSION, None, _BEGINS)
        obstacle = self._driver_obstacle(here)
        return Choice(self.driver.lane if obstacle is None else self.fused.lane, read, obstacle)

    def read_alone(self, read: ReadCall) -> bool:
        """Say whether the driver lane may read for the session of a unit of work at rest."""
        return not read.read.needs_transaction and self._driver_obstacle(None) is None

    def writes_alone(self, here: FrameAccess | LaneRefusal | None) -> bool:
        """Say whether the driver lane may write here: it commits with its statement."""
        return not _begins_with_writes(here) and self._driver_obstacle(here) is None

    def _driver_obstacle(self, here: FrameAccess | LaneRefusal | None) -> LaneRefusal | None:
        if self.statements.fastest is not self.driver.lane:
            return NO_FASTER
        return here if isinstance(here, LaneRefusal) else self.driver.obstacle()


def _begins_with_writes(here: FrameAccess | LaneRefusal | None) -> bool:
    """Say whether a unit of work is open whose transaction begins with its first write."""
    return here is not None and not isinstance(here, LaneRefusal) and here.begins_with_writes
