"""This module writes what is slow, what fails and what waits to Python's own `logging`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from unitwork._logic.block_names import name_in_sentence, short_name
from unitwork._runtime.context import call_later_outside
from unitwork.events import (
    BlockEnded,
    BlockEntered,
    BlockRetried,
    ConnectionTaken,
    ErrorSwallowed,
    Outcome,
    PoolTimedOut,
    StatementExecuted,
    TurnAwaited,
)
from unitwork.integrations.observed import ObservedDatabases

if TYPE_CHECKING:
    from unitwork.database import Database
    from unitwork.events import Event

__all__ = ["Logging"]

_KEPT = 100
_UNEXPECTED = "UnexpectedRollbackError"
_statements = logging.getLogger("unitwork.statements")
_blocks = logging.getLogger("unitwork.blocks")
_pool = logging.getLogger("unitwork.pool")
_turns = logging.getLogger("unitwork.turns")
_errors = logging.getLogger("unitwork.errors")


@dataclass(eq=False, slots=True)
class _Open:
    """A block that is open. Lives: from its entry to its end."""

    entered: BlockEntered
    since: float
    alarm: asyncio.TimerHandle | None = None


class Logging:
    """An observer that writes a line to `logging` for what a person should know of.

    The loggers are `unitwork.statements`, `unitwork.blocks`, `unitwork.pool`, `unitwork.turns` and
    `unitwork.errors`. Retries, unexpected rollbacks, timeouts of the pool and failures that are not raised
    are always told, all else above its limit, in seconds; `None` tells nothing of it. The numbers and
    names of a line are in its record, too, by `extra`. No value of a statement is written.
    Lives: as long as you observe.

    Args:
        slow_statement_s: A statement took longer.
        slow_block_s: A block took longer, COMMIT included.
        open_block_s: A block has been open for longer, and still is; told once.
        pool_wait_s: A connection was waited for, or opened, longer.
        turn_wait_s: An operation waited longer for another task in the same session.

    Examples:
        >>> db.observe(Logging(slow_statement_s=0.2))
    """

    def __init__(
        self,
        *,
        slow_statement_s: float | None = 1.0,
        slow_block_s: float | None = 5.0,
        open_block_s: float | None = 60.0,
        pool_wait_s: float | None = 1.0,
        turn_wait_s: float | None = 1.0,
    ) -> None:
        self._slow_statement_s = slow_statement_s
        self._slow_block_s = slow_block_s
        self._open_block_s = open_block_s
        self._pool_wait_s = pool_wait_s
        self._turn_wait_s = turn_wait_s
        self._databases = ObservedDatabases()
        self._open: dict[int, _Open] = {}
        self._failed: dict[int, BlockEntered] = {}
        """Blocks that have ended with an error, which may be tried again; the newest ones."""

    def begin_observing(self, database: Database, /) -> None:
        """Take note of a Database; called by `db.observe`."""
        self._databases.add(database)

    def end_observing(self, database: Database, /) -> None:
        """Forget it; called by `db.unobserve`."""
        self._databases.remove(database)
        for number, block in list(self._open.items()):
            if block.entered.database == database.name:
                self._forget(number)

    def notice(self, event: Event, /) -> None:  # noqa: C901  # one line for each kind
        """Take one event; called by the Databases that are observed."""
        match event:
            case StatementExecuted():
                self._statement(event)
            case BlockEntered():
                self._entered(event)
            case BlockEnded():
                self._ended(event)
            case BlockRetried():
                text = f"is tried again after {event.error}: attempt {event.attempt} in {event.delay_s:.3f} s"
                told = {"kind": "retry", "attempt": event.attempt, "delay_s": event.delay_s}
                self._tell(_blocks, event, f"A block {text}", {**told, "error_type": event.error})
            case ConnectionTaken() if _is_over(event.wait_s, self._pool_wait_s):
                how = "was opened in" if event.opened else "was waited for"
                told = {"kind": "pool_wait", "wait_s": event.wait_s, "opened": event.opened}
                self._tell(_pool, event, f"A connection {how} {event.wait_s:.3f} s", told)
            case PoolTimedOut():
                told = {"kind": "pool_timeout", "wait_s": event.wait_s, "server": event.server}
                self._tell(_pool, event, f"No connection was returned in {event.wait_s:.3f} s", told)
            case TurnAwaited() if _is_over(event.wait_s, self._turn_wait_s):
                told = {"kind": "turn_wait", "wait_s": event.wait_s, "holder": event.holder}
                text = f"An operation waited {event.wait_s:.3f} s for {event.holder}"
                self._tell(_turns, event, text, told)
            case ErrorSwallowed():
                told = {"kind": "error_swallowed", "place": event.place, "error_type": event.error}
                self._tell(_errors, event, f"{event.error} was not raised: {event.place}", told)
            case _:
                pass

    def _statement(self, event: StatementExecuted) -> None:
        if not _is_over(event.duration_s, self._slow_statement_s):
            return
        summary = self._databases.summary_of(event.database, event.sql)
        told = {
            "kind": "slow_statement",
            "duration_s": event.duration_s,
            "statement": summary.text or summary.line,
            "summary": summary.line,
            "rows": event.rows,
            "server": event.server,
            "error_type": event.error,
        }
        text = f"A statement took {event.duration_s:.3f} s: {summary.text or summary.line}"
        self._tell(_statements, event, text, told)

    # -- blocks --------------------------------------------------------------------------------

    def _entered(self, event: BlockEntered) -> None:
        block = self._open[event.block_id] = _Open(event, time.perf_counter())
        if self._open_block_s is not None and _loop_runs():
            # Neither a task nor what is open here is kept alive by it.
            block.alarm = call_later_outside(self._open_block_s, partial(self._still_open, event.block_id))

    def _still_open(self, number: int) -> None:
        block = self._open.get(number)
        if block is not None:
            age_s = time.perf_counter() - block.since
            told = {"kind": "open_block", "duration_s": age_s}
            self._tell(_blocks, block.entered, f"A block has been open for {age_s:.3f} s", told)

    def _ended(self, event: BlockEnded) -> None:
        told = {
            "kind": "slow_block",
            "duration_s": event.duration_s,
            "outcome": event.outcome.name.lower(),
            "error_type": event.error,
            "condemned_by": event.condemned_by,
        }
        try:
            if (
                event.error == _UNEXPECTED
                and event.outcome is Outcome.ROLLED_BACK
                and event.condemned_by is not None
            ):
                text = f"A block had to roll back, because of {name_in_sentence(event.condemned_by)}"
                self._tell(_blocks, event, text, {**told, "kind": "unexpected_rollback"})
            if _is_over(event.duration_s, self._slow_block_s):
                text = f"A block took {event.duration_s:.3f} s and ended: {event.outcome.value}"
                self._tell(_blocks, event, text, told)
        finally:
            ended = self._forget(event.block_id)
            if ended is not None and event.error is not None:
                self._failed[event.block_id] = ended
                if len(self._failed) > _KEPT:
                    del self._failed[next(iter(self._failed))]

    def _forget(self, number: int) -> BlockEntered | None:
        block = self._open.pop(number, None)
        if block is None:
            return None
        if block.alarm is not None:
            block.alarm.cancel()
        return block.entered

    # -- lines ---------------------------------------------------------------------------------

    def _tell(self, logger: logging.Logger, event: Event, text: str, told: Mapping[str, object]) -> None:
        """Write one line, with where it was and what it is about."""
        number: int | None = getattr(event, "block_id", None)
        block = self._open.get(number) if number is not None else None
        entered = block.entered if block is not None else self._failed.get(number or 0)
        where = f"database {event.database!r}"
        fields: dict[str, object] = {"database": event.database, **told}
        if entered is not None:
            where += f", {short_name(entered.name)}"
            fields |= {"block": entered.name, "opener": entered.opener, "block_id": number}
            if entered.opener is not None and entered.opener not in entered.name:
                where += f", opened at {entered.opener}"
        logger.warning("%s (%s)", text, where, extra=fields)


def _is_over(seconds: float, limit_s: float | None) -> bool:
    return limit_s is not None and seconds > limit_s


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
