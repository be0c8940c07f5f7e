"""This module tells observers of statements: the lanes tell of theirs, SQLAlchemy's cursors of all others."""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sqlalchemy.engine.interfaces import ExecuteStyle

from unitwork._later import later
from unitwork._logic.routing import LaneRefusal
from unitwork._logic.sql.shown import is_control
from unitwork._runtime.connections.addresses import server_of_connection
from unitwork._sqlalchemy.private import rows_fetched
from unitwork.dialects.direct import UNCOUNTED
from unitwork.dialects.orders import LANE, TOLD, Announced, Failed, order_of
from unitwork.dialects.prepared import of_driver
from unitwork.options import Lane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPICursor, ExceptionContext, ExecutionContext

    from unitwork._runtime.connections.listeners import EngineListeners
    from unitwork.events import Event


if TYPE_CHECKING:
    from unitwork import events
    from unitwork.dialects import refusals
else:  # who is not watched tells nothing
    events = later("unitwork.events")
    refusals = later("unitwork.dialects.refusals")

R = TypeVar("R", bound="Sequence[Any] | LaneRefusal")

_STARTED = "unitwork_statement_started"
_SESSION = Lane.SESSION


class _Sent(NamedTuple):
    """What was sent, how, and when by `time.perf_counter()`."""

    sql: str
    lane: Lane | None
    server: str | None
    started: float
    many: int = 1


class StatementWatch:
    """Tells of the statements of one Database, while somebody observes. Lives: as long as its watch.

    Args:
        database: What the Database is called.
        tell: Tells all observers.
        place: Returns the block and the unit of work of the calling code, by their numbers.
    """

    def __init__(
        self,
        database: str,
        tell: Callable[[Event], None],
        place: Callable[[], tuple[int | None, int | None]],
    ) -> None:
        self._database = database
        self._tell = tell
        self._place = place
        # Why the next read of a task takes no faster lane.
        self._refusals: weakref.WeakKeyDictionary[asyncio.Task[Any], LaneRefusal] = (
            weakref.WeakKeyDictionary()
        )

    # -- what a lane sends -----------------------------------------------------------------------

    def no_faster(self, refusal: LaneRefusal | None) -> None:
        """Take note of why the next read of this task takes no faster lane; None: it takes the fastest."""
        task = asyncio.current_task()
        if task is None:
            return
        if refusal is None:
            self._refusals.pop(task, None)
        else:
            self._refusals[task] = refusal

    def has_refusal(self) -> bool:
        """Say whether it is known already why the next read of this task takes no faster lane."""
        return asyncio.current_task() in self._refusals

    async def sent(self, sql: str, lane: Lane, server: str | None, sending: Awaitable[R], many: int = 1) -> R:
        """Send a statement on a lane, and tell of it, and with how many sets of values it was sent."""
        call = _Sent(sql, lane, server, time.perf_counter(), many)
        try:
            rows = await sending
        except BaseException as error:
            self._tell_of(call, self._taken_refusal(), error=error)
            raise
        self._tell_of(call, self._taken_refusal(), rows=_count(rows))
        return rows

    def sent_at_once(
        self, sql: str, lane: Lane, server: str | None, send: Callable[[], R], many: int = 1
    ) -> R:
        """As `sent`, for what waits in a greenlet."""
        call = _Sent(sql, lane, server, time.perf_counter(), many)
        try:
            rows = send()
        except BaseException as error:
            self._tell_of(call, self._taken_refusal(), error=error)
            raise
        self._tell_of(call, self._taken_refusal(), rows=_count(rows))
        return rows

    def begun_or_ended(self, sql: str, started: float, connection: Connection) -> None:
        """Tell of a statement that begins or ends a transaction; the driver reports it to nobody."""
        self._tell_of(_Sent(sql, None, server_of_connection(connection), started), None)

    def _taken_refusal(self) -> LaneRefusal | None:
        task = asyncio.current_task()
        return self._refusals.pop(task, None) if task is not None else None

    def _tell_of(
        self,
        call: _Sent,
        refusal: LaneRefusal | None,
        *,
        rows: int | None = None,
        error: BaseException | None = None,
    ) -> None:
        block, work = self._place()
        self._tell(
            events.StatementExecuted(
                block_id=block,
                database=self._database,
                sql=call.sql,
                duration_s=time.perf_counter() - call.started,
                error=None if error is None else type(of_driver(error)).__name__,
                code=None if error is None else refusals.response_code_of(error),
                rows=rows,
                lane=call.lane,
                refusal=None if refusal is None else str(refusal),
                server=call.server,
                work_id=work,
                many=call.many,
            )
        )

    # -- what SQLAlchemy's cursors send ----------------------------------------------------------

    def listen(self, listeners: EngineListeners) -> None:
        """Hear of what the cursors of an engine send; the lanes need not care for that."""
        for name, listener in self._listeners():
            listeners.add(name, listener)
        listeners.of_failures = self._fails

    def ignore(self, listeners: EngineListeners) -> None:
        """Hear of it no more."""
        for name, listener in self._listeners():
            listeners.remove(name, listener)
        listeners.of_failures = None

    def _listeners(self) -> list[tuple[str, Any]]:
        return [
            ("before_cursor_execute", self._begins),
            ("after_cursor_execute", self._ends),
        ]

    def _begins(
        self, connection: Connection, _cursor: DBAPICursor, sql: str, parameters: object, *_more: object
    ) -> tuple[str, object]:
        connection.info[_STARTED] = time.perf_counter()
        return sql, parameters

    def _ends(self, connection: Connection, cursor: DBAPICursor, sql: str, *more: Any) -> None:
        parameters, context, _many = more
        # SQLAlchemy says "many" of an INSERT of many rows as well, which is one text with all their values.
        at_once = context.execute_style is ExecuteStyle.INSERTMANYVALUES
        times = len(parameters) if isinstance(parameters, list) and not at_once else 1
        call = _Sent(sql, _lane(context), server_of_connection(connection), _started(connection), times)
        order = order_of(context)
        rows = order.rows if isinstance(order, Announced) else rows_fetched(cursor)
        self._tell_of(call, self._refusal_of(sql, context), rows=rows)

    def _fails(self, context: ExceptionContext) -> None:
        connection, sent, sql = context.connection, context.execution_context, context.statement
        if connection is None or connection.invalidated or sql is None:
            return
        started = _started(connection)
        order = order_of(sent) if sent is not None else None
        told = isinstance(order, Failed) and order.told
        if not (told or connection.info.pop(TOLD, False)):
            call = _Sent(sql, _lane(sent), server_of_connection(connection), started)
            self._tell_of(call, self._refusal_of(sql, sent), error=context.original_exception)

    def _refusal_of(self, sql: str, sent: Any) -> LaneRefusal | None:  # noqa: ANN401  # of any dialect
        """Return why a read took no faster lane; what a session sends before it is no read."""
        if not self._refusals or sent is None or sent.isinsert or sent.isupdate or sent.isdelete:
            return None
        return None if is_control(sql) else self._taken_refusal()


def _started(connection: Connection) -> float:
    found: float = connection.info.pop(_STARTED, time.perf_counter())
    return found


def _lane(sent: ExecutionContext | None) -> Lane:
    lane: Lane = _SESSION if sent is None else sent.execution_options.get(LANE, _SESSION)
    return lane


def _count(rows: Sequence[Any] | LaneRefusal) -> int | None:
    return None if isinstance(rows, LaneRefusal) or rows is UNCOUNTED else len(rows)
