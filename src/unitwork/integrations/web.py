"""This module ends the units of a web request by its status, and knows what may be answered then."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from typing_extensions import override

from unitwork.errors import AfterCommitError, OptionError, TransactionRefusedError
from unitwork.integrations.positions import Carried
from unitwork.integrations.units import Units

if TYPE_CHECKING:
    from unitwork.database import Database
    from unitwork.integrations.positions import ReadYourWrites

CommitRule: TypeAlias = Callable[[int], bool]
ErrorRule: TypeAlias = Callable[[Exception], int | None]

FIRST_FINAL_STATUS = 200
FIRST_ERROR_STATUS = 400
NOT_STORED = {"detail": "The request could not be stored."}
"""What a client gets, as JSON, when a rule has chosen the status of a failed COMMIT."""


def below_400(status: int) -> bool:
    """Commit what ended well: every status below 400."""
    return status < FIRST_ERROR_STATUS


@dataclass(frozen=True, slots=True)
class Rules:
    """What one installation was told. Lives: as long as the application."""

    databases: tuple[Database, ...]
    atomic: bool
    commit_when: CommitRule
    on_commit_error: ErrorRule | None
    read_your_writes: ReadYourWrites | None

    def refuse_twice(self, inside: Iterable[Database], installed: str) -> None:
        """Refuse to serve a request whose Databases another installation serves already.

        Raises:
            TransactionRefusedError: One of them is.
        """
        for database in self.databases:
            if database in inside:
                raise TransactionRefusedError(
                    database.name,
                    f"{installed} is installed twice for database {database.name!r}.",
                    "remove one of them; one installation may serve several Databases.",
                )

    def status_of(self, failure: Exception) -> int | None:
        """Return the status that the client gets for a failed COMMIT; None if the failure is to be raised.

        Raises:
            OptionError: The rule calls it a success.
        """
        status = None if self.on_commit_error is None else self.on_commit_error(failure)
        if status is not None and status < FIRST_ERROR_STATUS:
            raise OptionError("on_commit_error", status, ["a status of 400 or above", "None"]) from failure
        return status


class RequestUnits(Units):
    """The units of one request, which end when its status is known. Lives: as long as the request.

    Args:
        rules: Those of the installation.
        name: What errors call the request.
        scope: Its headers and scheme, as ASGI has them.
    """

    __slots__ = ("_carried", "failure", "header", "refusal", "rules", "settled")

    def __init__(self, rules: Rules, name: str, scope: Any) -> None:  # noqa: ANN401  # of ASGI
        super().__init__(rules.databases, name, atomic=rules.atomic)
        self.rules = rules
        self._carried: Carried | None = None
        if rules.read_your_writes is not None:
            self._carried = Carried(rules.read_your_writes, rules.databases, scope)
        self.header: tuple[bytes, bytes] | None = None
        """What the client is to be told in the response."""
        self.settled = False
        """Whether the units have ended, or are about to."""
        self.refusal: Exception | None = None
        """Why no success may be answered."""
        self.failure: Exception | None = None
        """What is still to be raised, if the application does not do it."""

    async def end_by(self, status: int) -> None:
        """Commit or roll back, as the status says."""
        self.settled = True
        if not self.end_asleep():
            await self.settle(commit=self.rules.commit_when(status))

    async def settle(self, *, commit: bool) -> None:
        """End the units, and remember what follows from it for the answer."""
        try:
            await self.end(commit=commit)
        except AfterCommitError as failure:
            await self._tell_position()
            # The work is stored, and so the answer is true: it goes out, the error is told after it.
            self.failure = failure
        except CancelledError:
            self.refusal = _cancelled(self.rules.databases)
            raise
        except Exception as failure:
            self.refusal = self.failure = failure
            raise
        else:
            await self._tell_position()

    async def _tell_position(self) -> None:
        if self._carried is not None:
            self.header = await self._carried.header()

    def answered_by_itself(self) -> None:
        """The application answers the failed COMMIT with an error of its own: there is no more to say."""
        self.refusal = self.failure = None

    @override
    def drop(self) -> None:
        super().drop()
        if self._carried is not None:
            self._carried.drop()

    async def fail(self, error: BaseException) -> bool:
        """An exception leaves: roll back what no response has ended; say whether to raise it."""
        if not self.settled:
            self.settled = True
            await self.leave(error)
        if self.refusal is not None and isinstance(error, Exception):
            # What follows from a failed COMMIT is that failure, or is answered already.
            return False
        if self.failure is not None:
            error.add_note(str(self.failure))
        return True


def _cancelled(databases: tuple[Database, ...]) -> TransactionRefusedError:
    return TransactionRefusedError(
        databases[0].name,
        "The request was cancelled while its work was being stored, so no success can be answered.",
        "answer with a status of 400 or above, or let the cancellation pass.",
    )
