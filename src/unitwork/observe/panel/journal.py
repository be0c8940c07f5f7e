"""This module keeps what Databases tell: the newest traces, within a limit of memory, and who reads them."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from unitwork._runtime.connections.places import call_site
from unitwork.events import (
    BlockCondemned,
    BlockEnded,
    BlockEntered,
    BlockRetried,
    ConnectionTaken,
    ErrorSwallowed,
    Event,
    HookRan,
    PoolTimedOut,
    ServerChosen,
    StatementExecuted,
    TurnAwaited,
    WorkEnded,
    WorkStarted,
)
from unitwork.observe.panel.queries import Queries, Query
from unitwork.observe.panel.traces import READ_AT_ONCE, Bar, Note, Reader, Sent, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_OPEN = 20_000
"""So many works and blocks may be open at once; what is older is no longer followed."""
_SHARE = 4
"""The texts of statements may take one part of so many; a single trace, two."""
_WAITED_S = 0.0005
"""Shorter waits are not worth a line."""
_WAITING = 1_000


class Journal:
    """Puts events together to traces, and counts statements. An observer; any thread may tell it.

    Args:
        limit_bytes: About how much memory it may take; the oldest traces go first.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._traces: OrderedDict[int, Trace] = OrderedDict()
        self._works: OrderedDict[int, Trace] = OrderedDict()
        self._blocks: OrderedDict[int, Trace] = OrderedDict()
        self._waits: OrderedDict[int, ConnectionTaken] = OrderedDict()
        self._readers: list[Reader] = []
        self._changes = 0
        self.queries = Queries(limit_bytes // _SHARE)
        self.traces_size = 0
        self.seen = self.forgotten = 0
        """How many traces there were, and how many of them had to go."""
        self.swallowed: OrderedDict[tuple[str, str, str], int] = OrderedDict()
        self.own: set[asyncio.Task[Any]] = set()
        """Tasks of the panel itself: what they send is nobody's business."""
        self._take: dict[type, Callable[[Any], None]] = {
            WorkStarted: self._work_started,
            WorkEnded: self._work_ended,
            BlockEntered: self._block_entered,
            BlockEnded: self._block_ended,
            BlockCondemned: self._condemned,
            BlockRetried: self._retried,
            StatementExecuted: self._sent,
            HookRan: self._hook,
            ConnectionTaken: self._connected,
            PoolTimedOut: self._timed_out,
            TurnAwaited: self._waited,
            ServerChosen: self._chosen,
            ErrorSwallowed: self._swallowed,
        }

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return self.traces_size + self.queries.size

    @property
    def changes(self) -> int:
        """Counts up with what happens; for whoever comes back."""
        return self._changes

    def notice(self, event: Event, /) -> None:
        """Take one event; called by the Databases that are observed."""
        take = self._take.get(type(event))
        if take is None or (self.own and _task() in self.own):
            return
        with self._lock:
            take(event)

    # -- for those who look ----------------------------------------------------------------------

    def open_reader(self, since: int = 0) -> Reader:
        """Begin to collect what changes; first what has changed `since`, the newest of it."""
        reader = Reader()
        with self._lock:
            missed = [trace for trace in self._traces.values() if trace.changed > since]
            for trace in missed[-READ_AT_ONCE:]:
                reader.changed[trace.number] = trace
            self._readers.append(reader)
        return reader

    def close_reader(self, reader: Reader) -> None:
        """Collect no more."""
        with self._lock, suppress(ValueError):
            self._readers.remove(reader)

    def read(self, reader: Reader) -> dict[str, Any] | None:
        """Return what is new to a reader, with the texts that he lacks; None if nothing is."""
        with self._lock:
            if not reader.changed and not reader.passed_over:
                return None
            traces = [trace for trace in reader.changed.values() if not trace.gone]
            texts = {number: query for trace in traces for number, query in trace.texts.items()}
            new = texts.keys() - reader.known
            reader.known |= new
            told = {
                "traces": [trace.told() for trace in traces],
                "texts": _texts(texts[number] for number in sorted(new)),
                "passed_over": reader.passed_over,
                "seen": self.seen,
            }
            reader.changed.clear()
            reader.passed_over = 0
        return told

    def trace(self, number: int) -> dict[str, Any] | None:
        """Return one trace with the texts of its statements, if it is still there."""
        with self._lock:
            trace = self._traces.get(number)
            if trace is None:
                return None
            return {"traces": [trace.told()], "texts": _texts(trace.texts.values())}

    def newest(self, limit: int | None = None) -> dict[str, Any]:
        """Return the newest traces, oldest first; all of them without a limit."""
        with self._lock:
            traces = list(self._traces.values())[-(limit or 0) :]
            texts = {number: query for trace in traces for number, query in trace.texts.items()}
            told = [trace.told() for trace in traces]
            return {"traces": told, "texts": _texts(texts.values()), "seen": self.seen}

    def costly(self, limit: int) -> dict[str, Any]:
        """Return the statements that took most time in all."""
        with self._lock:
            found = self.queries.most_costly(limit)
            return {
                "queries": [query.told() for query in found],
                "known": len(self.queries),
                "forgotten": self.queries.forgotten,
            }

    def errors(self) -> list[dict[str, Any]]:
        """Return what failed and could not be raised, newest last."""
        with self._lock:
            return [
                {"database": database, "place": place, "error": error, "times": times}
                for (database, place, error), times in self.swallowed.items()
            ]

    def clear(self) -> None:
        """Forget all that has ended; what is open goes on without its beginning."""
        with self._lock:
            for trace in self._traces.values():
                trace.gone = True
            for each in (self._traces, self._works, self._blocks, self._waits, self.swallowed):
                each.clear()
            for reader in self._readers:
                reader.changed.clear()
                reader.known.clear()
            self.queries.clear()
            self.traces_size = self.seen = self.forgotten = 0

    def rest(self) -> None:
        """Nothing is told for a while: follow nothing that is open, since its end may not be seen."""
        with self._lock:
            for trace in {**self._works, **self._blocks}.values():
                if trace.duration_s is None:
                    trace.name = f"{trace.name} (its end was not seen)"
                    trace.duration_s = trace.since()
            for each in (self._works, self._blocks, self._waits):
                each.clear()

    # -- what is told ----------------------------------------------------------------------------

    def _work_started(self, event: WorkStarted) -> None:
        trace = self._works.get(event.work_id)
        if trace is None:
            # It is shown when it does something: many requests never touch a database.
            trace = Trace(0, "work", event.name, time.perf_counter(), time.time(), 2 * self._limit // _SHARE)
            _keep(self._works, event.work_id, trace)
        trace.open_works += 1
        trace.databases[event.database] = None

    def _work_ended(self, event: WorkEnded) -> None:
        trace = self._works.get(event.work_id)
        if trace is None:
            return
        trace.open_works -= 1
        trace.error = trace.error or event.error
        if trace.open_works > 0:
            return
        del self._works[event.work_id]
        if trace.number:
            trace.duration_s = max(trace.since(), event.duration_s)
            self._touch(trace)

    def _block_entered(self, event: BlockEntered) -> None:
        trace = self._around(event.parent_id, event.work_id)
        if trace is None:
            trace = self._begin("block", event.name)
        trace.databases[event.database] = None
        bar = Bar(event, trace.since())
        if not trace.is_full:
            trace.bars[event.block_id] = bar
        _keep(self._blocks, event.block_id, trace)
        self._add(trace, bar)

    def _block_ended(self, event: BlockEnded) -> None:
        trace = self._blocks.pop(event.block_id, None)
        if trace is None or (bar := trace.bars.get(event.block_id)) is None:
            return  # it began before somebody looked, or there was no room for it
        bar.ended = event
        if trace.kind == "block" and not any(each.ended is None for each in trace.bars.values()):
            trace.duration_s = bar.at_s + event.duration_s
            trace.error = event.error
        self._touch(trace)

    def _condemned(self, event: BlockCondemned) -> None:
        trace = self._note("condemned", event.by, event.block_id, error=event.error)
        if trace is not None and event.block_id in trace.bars:
            trace.bars[event.block_id].condemned_by = event.by

    def _retried(self, event: BlockRetried) -> None:
        text = f"attempt {event.attempt} after {event.error}"
        trace = self._note("retry", text, event.block_id, error=event.error)
        if trace is not None and event.block_id in trace.bars:
            trace.bars[event.block_id].attempt = event.attempt

    def _sent(self, event: StatementExecuted) -> None:
        query = self.queries.of(event)
        site = None if query.is_control else call_site(within_task=True)
        query.add(event, site)
        trace = self._around(event.block_id, event.work_id)
        waited = self._waits.pop(_here(), None) if self._waits else None
        alone = trace is None
        if trace is None:
            trace = self._begin(
                "statement", "a statement", event.duration_s + (waited.wait_s if waited else 0)
            )
            trace.duration_s = trace.since()
            trace.error = event.error
        trace.databases[event.database] = None
        if waited is not None:
            began_s = max(trace.since(event.duration_s) - waited.wait_s, 0.0)
            trace.add(Note("connection", _waited_for(waited), None, began_s, waited.wait_s))
        sent = Sent(
            query,
            None if alone else event.block_id,
            trace.since(event.duration_s),
            event.duration_s,
            event.error,
            event.rows,
            None if event.lane is None else event.lane.value,
            event.refusal,
            event.server,
            site,
            event.many,
        )
        before = trace.size
        trace.send(sent)
        self._grown(trace, before)

    def _hook(self, event: HookRan) -> None:
        self._note("hook", f"{event.phase}: {event.name}", event.block_id, event.duration_s, event.error)

    def _connected(self, event: ConnectionTaken) -> None:
        if event.wait_s < _WAITED_S:
            return
        if event.block_id in self._blocks:
            self._note("connection", _waited_for(event), event.block_id, event.wait_s)
            return
        # Of whoever asks outside of blocks nothing is known before the statement.
        self._waits[_here()] = event
        if len(self._waits) > _WAITING:
            self._waits.popitem(last=False)

    def _timed_out(self, event: PoolTimedOut) -> None:
        text = f"no connection of the pool within {event.wait_s:.1f} s"
        if self._note("connection", text, event.block_id, event.wait_s, "PoolTimedOut") is None:
            trace = self._begin("statement", "a wait for the pool", event.wait_s)
            trace.databases[event.database] = None
            trace.duration_s, trace.error = event.wait_s, "PoolTimedOut"
            self._add(trace, Note("connection", text, None, 0.0, event.wait_s, "PoolTimedOut"))

    def _waited(self, event: TurnAwaited) -> None:
        if event.wait_s >= _WAITED_S:
            self._note("turn", f"waited for {event.holder}", event.block_id, event.wait_s)

    def _chosen(self, event: ServerChosen) -> None:
        where = f"{event.role} {event.server or ''}".rstrip()
        why = f": {event.reason}" if event.reason else ""
        self._note("server", f"{where}{why}", event.block_id, event.wait_s)

    def _swallowed(self, event: ErrorSwallowed) -> None:
        key = (event.database, event.place, event.error)
        self.swallowed[key] = self.swallowed.pop(key, 0) + 1
        if len(self.swallowed) > _WAITING // 10:
            self.swallowed.popitem(last=False)
        self._changes += 1

    # -- the traces ------------------------------------------------------------------------------

    def _note(
        self, kind: str, text: str, block: int | None, duration_s: float = 0.0, error: str | None = None
    ) -> Trace | None:
        trace = None if block is None else self._blocks.get(block)
        if trace is not None:
            self._add(trace, Note(kind, text, block, trace.since(duration_s), duration_s, error))
        return trace

    def _around(self, block: int | None, work: int | None) -> Trace | None:
        trace = self._blocks.get(block) if block is not None else None
        if trace is None and work is not None:
            trace = self._works.get(work)
            if trace is not None and not trace.number:
                self._number(trace)
        return trace

    def _begin(self, kind: str, name: str, ago_s: float = 0.0) -> Trace:
        began, started = time.perf_counter() - ago_s, time.time() - ago_s
        trace = Trace(0, kind, name, began, started, 2 * self._limit // _SHARE)
        self._number(trace)
        return trace

    def _number(self, trace: Trace) -> None:
        trace.number = next(self._numbers)
        self._traces[trace.number] = trace
        self.traces_size += trace.size
        self.seen += 1

    def _add(self, trace: Trace, entry: Bar | Note) -> None:
        before = trace.size
        trace.add(entry)
        self._grown(trace, before)

    def _grown(self, trace: Trace, before: int) -> None:
        if not trace.gone:
            self.traces_size += trace.size - before
        while self.size > self._limit and len(self._traces) > 1:
            _, old = self._traces.popitem(last=False)
            old.gone = True
            self.traces_size -= old.size
            self.forgotten += 1
        self._touch(trace)

    def _touch(self, trace: Trace) -> None:
        self._changes += 1
        trace.changed = self._changes
        if not trace.gone:
            for reader in self._readers:
                reader.touch(trace)


def _keep(kept: OrderedDict[int, Trace], key: int, trace: Trace) -> None:
    kept[key] = trace
    if len(kept) > _OPEN:
        kept.popitem(last=False)


def _waited_for(event: ConnectionTaken) -> str:
    return "opened a connection" if event.opened else "waited for a connection"


def _texts(queries: Iterable[Query]) -> dict[int, dict[str, str]]:
    return {query.number: {"database": query.database, "sql": query.sql} for query in queries}


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _here() -> int:
    task = _task()
    return threading.get_ident() if task is None else id(task)
