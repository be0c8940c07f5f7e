"""This module opens a unit of work on each of several Databases, and ends them together."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from unitwork._runtime.blocks.unit import Unit
from unitwork.database import Database
from unitwork.errors import AfterCommitError, OptionError, UnitworkError

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ["Units", "several"]

_log = logging.getLogger("unitwork")
_UNDONE = "Rolled back; what came after that has failed, such as functions registered with `on_rollback`."


def several(database: Database | Sequence[Database]) -> tuple[Database, ...]:
    """Return the Databases that an adapter is given: one, or several.

    Raises:
        OptionError: It is given something else, or none.
    """
    given: Any = database
    chosen = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    if not chosen or not all(isinstance(each, Database) for each in chosen):
        raise OptionError("database", database, ["a Database", "a list of some"])
    return chosen


class Units:
    """The units of work of one request, message, call or operation. Lives: as long as that.

    At the end of `async with` they commit in the order of the Databases; when one cannot, those
    after it roll back. When an exception leaves, all roll back.
    """

    __slots__ = ("_atomic", "_databases", "_name", "_units")

    def __init__(self, databases: tuple[Database, ...], name: str, *, atomic: bool) -> None:
        self._databases = databases
        self._name = name
        self._atomic = atomic
        self._units: list[Unit] = []

    @property
    def sessions(self) -> list[AsyncSession]:
        """Their sessions, in the order of the Databases."""
        return [unit.frame.session for unit in self._units]

    @property
    def begun(self) -> bool:
        """Whether one of the sessions is inside a transaction."""
        return any(unit.frame.transactional for unit in self._units if not unit.asleep)

    async def __aenter__(self) -> Self:
        """Make the units current. Sends nothing, opens nothing."""
        try:
            self.begin()
        except BaseException as error:
            await self.leave(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.finish(commit=True)
        finally:
            await self.leave(error)

    def begin(self) -> None:
        """Make the units current. Sends nothing, opens nothing."""
        for database in self._databases:
            self._units.append(Unit(database.source, self._name, atomic=self._atomic))

    async def end(self, *, commit: bool) -> None:  # noqa: C901  # what each unit may lead to, in order
        """End all units; when one COMMIT fails, the units after it roll back.

        What fails after a rollback that was decided changes nothing: it is logged, or becomes a note on what
        caused that.
        """
        failure: BaseException | None = None
        late: AfterCommitError | None = None
        committed: list[str] = []
        for unit in self._units:
            try:
                await unit.end(commit=commit and failure is None)
            except AfterCommitError as error:
                late = late or error
            except BaseException as error:  # noqa: BLE001  # raised when all units have ended
                if failure is not None:
                    name = unit.source.name
                    failure.add_note(f"The end of {unit.name} on database {name!r} failed too: {error!r}")
                elif commit or not isinstance(error, Exception) or isinstance(error, UnitworkError):
                    failure = error
                else:
                    _log.error(_UNDONE, exc_info=error)
                    unit.source.watch.swallowed("after ROLLBACK", error)
            if commit and failure is None and unit.has_stored:
                committed.append(repr(unit.source.name))
        if failure is None and late is not None:
            raise late
        if failure is not None:
            if late is not None:
                failure.add_note(str(late))
            if committed:
                failure.add_note(f"The work on database {' and '.join(committed)} is committed already.")
            raise failure

    async def finish(self, *, commit: bool) -> None:
        """End all units where nobody can be told that functions failed after the COMMIT.

        The work is stored. If that were raised, a runner would do it again; so it is logged.
        """
        try:
            await self.end(commit=commit)
        except AfterCommitError as error:
            _log.error("Committed, but functions registered with `on_commit` failed.", exc_info=error)
            for unit in self._units:
                if unit.source.name == error.database:
                    unit.source.watch.swallowed("after COMMIT", error)

    def end_asleep(self) -> bool:
        """End those that nobody has looked for; say whether these are all."""
        ended = True
        for unit in self._units:
            ended = unit.end_asleep() and ended
        return ended

    def drop(self) -> None:
        """Take units that have ended out of the context."""
        for unit in self._units:
            unit.drop()

    async def leave(self, error: BaseException | None) -> None:
        """Take the units out of the context; end those that have not ended."""
        cancelled: CancelledError | None = None
        for unit in reversed(self._units):
            try:
                await unit.close(error)
            except CancelledError as meanwhile:
                cancelled = meanwhile
            except Exception as second:
                if error is None:
                    raise
                error.add_note(f"The end of {unit.name} failed too: {second!r}")
        if cancelled is not None and not isinstance(error, CancelledError):
            raise cancelled
