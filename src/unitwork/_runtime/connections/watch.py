"""This module tells observers what happens on one Database."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from unitwork._logic.plan import Step
from unitwork._runtime import context
from unitwork.events import BlockEnded, BlockEntered, BlockRetried, StatementExecuted

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import ExceptionContext
    from sqlalchemy.ext.asyncio import AsyncEngine

    from unitwork._runtime.blocks.entry import Entry
    from unitwork._runtime.source import Source
    from unitwork._runtime.transactions.frame import Frame
    from unitwork.events import Event, Observer

_block_ids = itertools.count(1)
_STARTED = "unitwork_statement_started"


class Watch:
    """The observers of one Database. Without one, nothing is measured and no listener is installed."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._observers: list[Observer] = []
        self._engines: list[AsyncEngine] = []

    @property
    def active(self) -> bool:
        """Whether anybody observes."""
        return bool(self._observers)

    def add(self, observer: Observer) -> None:
        """Tell this observer of all that happens from now on."""
        if not self._observers:
            for engine in self._engines:
                self._listen(engine)
        self._observers.append(observer)

    def remove(self, observer: Observer) -> None:
        """Tell this observer no more."""
        self._observers.remove(observer)
        if not self._observers:
            for engine in self._engines:
                for name, listener in self._listeners():
                    event.remove(engine.sync_engine, name, listener)

    def equip(self, engine: AsyncEngine) -> None:
        """Watch the statements of one more engine."""
        self._engines.append(engine)
        if self._observers:
            self._listen(engine)

    def entered(self, scope: Entry, step: Step, outer: Entry | None) -> tuple[int, float]:
        """Tell that a block was entered; return its number and the time."""
        number = next(_block_ids)
        parent = outer.watched[0] if outer is not None and outer.watched is not None else None
        self._tell(
            BlockEntered(
                block_id=number,
                parent_id=parent,
                database=self._source.name,
                name=scope.name,
                propagation=scope.options.propagation.value,
                step=step.value,
                read_only=scope.read_only_by is not None,
            )
        )
        return number, time.perf_counter()

    def refused(self, scope: Entry, outer: Entry | None, error: BaseException) -> None:
        """Tell that a block could not be entered."""
        scope.watched = self.entered(scope, Step.REFUSE, outer)
        self.ended(scope, error)

    def retried(self, scope: Entry, attempt: int, delay_s: float, error: BaseException) -> None:
        """Tell that a block is tried again."""
        number = scope.watched[0] if scope.watched is not None else None
        self._tell(BlockRetried(number, self._source.name, attempt, delay_s, type(error).__name__))

    def ending(self, frame: Frame, verb: str, started: float) -> None:
        """Tell that a transaction was committed or rolled back; drivers report it to nobody."""
        if self._observers and frame.connection is not None:
            self._tell_statement(verb, None, time.perf_counter() - started)

    def ended(self, scope: Entry, error: BaseException | None) -> None:
        """Tell that a block was left."""
        if scope.watched is None:
            return
        number, started = scope.watched
        self._tell(
            BlockEnded(
                block_id=number,
                database=self._source.name,
                outcome=scope.outcome,
                duration_s=time.perf_counter() - started,
                error=None if error is None else type(error).__name__,
            )
        )

    def _tell(self, what: Event) -> None:
        for observer in self._observers:
            observer.notice(what)

    def _listen(self, engine: AsyncEngine) -> None:
        for name, listener in self._listeners():
            event.listen(engine.sync_engine, name, listener)

    def _listeners(self) -> list[tuple[str, Any]]:
        return [
            ("before_cursor_execute", self._statement_begins),
            ("after_cursor_execute", self._statement_ends),
            ("handle_error", self._statement_fails),
        ]

    def _statement_begins(self, connection: Connection, *_more: object) -> None:
        connection.info[_STARTED] = time.perf_counter()

    def _statement_ends(self, connection: Connection, _cursor: object, sql: str, *_more: object) -> None:
        self._tell_statement(sql, None, self._duration_s(connection))

    def _statement_fails(self, context: ExceptionContext) -> None:
        if context.connection is not None and not context.connection.invalidated and context.statement:
            error = type(context.original_exception).__name__
            duration_s = self._duration_s(context.connection)
            self._tell_statement(context.statement, error, duration_s)

    def _duration_s(self, connection: Connection) -> float:
        now = time.perf_counter()
        started: float = connection.info.pop(_STARTED, now)
        return now - started

    def _tell_statement(self, sql: str, error: str | None, duration_s: float) -> None:
        scope = context.last(self._source)
        self._tell(
            StatementExecuted(
                block_id=scope.watched[0] if scope is not None and scope.watched is not None else None,
                database=self._source.name,
                sql=sql,
                duration_s=duration_s,
                error=error,
            )
        )
