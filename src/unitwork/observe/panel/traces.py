"""This module holds what happened in one request, job, outermost block or lone statement."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from unitwork.events import Outcome

if TYPE_CHECKING:
    from unitwork.events import BlockEnded, BlockEntered
    from unitwork.observe.panel.queries import Query

ENTRIES = 2_000
"""Of more the beginning is kept."""
REPEATS = 3
"""So many times the same text from the same line is worth a look: a query in a loop."""
_APART = 50
"""Repeated statements are told one by one so far; more of them are one entry."""
READ_AT_ONCE = 100
"""What a reader gets at once, at most; more of it than that is passed over, and counted."""
ENTRY_BYTES = 600
TRACE_BYTES = 1_500

_BAD = frozenset({Outcome.ROLLED_BACK, Outcome.CONDEMNED, Outcome.UNKNOWN, Outcome.REFUSED})


@dataclass(slots=True)
class Bar:
    """A block, from its entry to its end. `at_s` is in seconds since the beginning of the trace."""

    entered: BlockEntered
    at_s: float
    ended: BlockEnded | None = None
    condemned_by: str | None = None
    attempt: int = 1

    def told(self) -> dict[str, Any]:
        """Return it for JSON."""
        entered, ended = self.entered, self.ended
        return {
            "kind": "block",
            "block": entered.block_id,
            "parent": entered.parent_id,
            "at_s": self.at_s,
            "duration_s": None if ended is None else ended.duration_s,
            "name": entered.name,
            "database": entered.database,
            "propagation": entered.propagation,
            "step": entered.step,
            "read_only": entered.read_only,
            "opener": entered.opener,
            "outcome": None if ended is None else ended.outcome.name,
            "said": None if ended is None else ended.outcome.value,
            "error": None if ended is None else ended.error,
            "condemned_by": (ended.condemned_by if ended is not None else None) or self.condemned_by,
            "attempt": self.attempt,
        }


@dataclass(slots=True)
class Sent:
    """A statement; or several of one text from one line, if there are many of them."""

    query: Query
    block: int | None
    at_s: float
    duration_s: float
    error: str | None
    rows: int | None
    lane: str | None
    refusal: str | None
    server: str | None
    site: str | None
    many: int
    times: int = 1
    busy_s: float = 0.0

    def told(self) -> dict[str, Any]:
        """Return it for JSON; its text is told apart."""
        return {
            "kind": "statement",
            "query": self.query.number,
            "control": self.query.is_control,
            "parent": self.block,
            "at_s": self.at_s,
            "duration_s": self.duration_s,
            "busy_s": self.busy_s or self.duration_s,
            "error": self.error,
            "rows": self.rows,
            "lane": self.lane,
            "refusal": self.refusal,
            "server": self.server,
            "site": self.site,
            "many": self.many,
            "times": self.times,
        }


@dataclass(slots=True)
class Note:
    """Something else that happened: a wait, a retry, a function that ran, a choice of a server."""

    kind: str
    text: str
    block: int | None
    at_s: float
    duration_s: float = 0.0
    error: str | None = None

    def told(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "kind": self.kind,
            "text": self.text,
            "parent": self.block,
            "at_s": self.at_s,
            "duration_s": self.duration_s,
            "error": self.error,
        }


Entry: TypeAlias = Bar | Sent | Note


@dataclass(slots=True, eq=False)
class Trace:
    """One request, job, outermost block or lone statement, from its beginning to its end.

    Attributes:
        kind: "work", "block" or "statement".
        began: When, by the clock of durations.
        most: Of what would take more bytes, only the number is kept.
        changed: Counts up with what happens anywhere; what a reader has seen is older.
        gone: Whether it was forgotten, since there was no room.
    """

    number: int
    kind: str
    name: str
    began: float
    started: float
    """When, in seconds since 1970."""
    most: int
    entries: list[Entry] = field(default_factory=list["Entry"])
    databases: dict[str, None] = field(default_factory=dict[str, None])
    texts: dict[int, Query] = field(default_factory=dict[int, "Query"])
    counts: Counter[tuple[int, str | None]] = field(default_factory=Counter[tuple[int, str | None]])
    bars: dict[int, Bar] = field(default_factory=dict[int, Bar])
    duration_s: float | None = None
    error: str | None = None
    open_works: int = 0
    left_out: int = 0
    statements: int = 0
    changed: int = 0
    size: int = TRACE_BYTES
    gone: bool = False

    def since(self, duration_s: float = 0.0) -> float:
        """Return when something began that has just ended, in seconds since the beginning."""
        return max(time.perf_counter() - duration_s - self.began, 0.0)

    @property
    def is_full(self) -> bool:
        """Whether there is no room for more."""
        return len(self.entries) >= ENTRIES or self.size >= self.most

    def add(self, entry: Entry) -> None:
        """Add what happened, while there is room."""
        if self.is_full:
            self.left_out += 1
            return
        self.entries.append(entry)
        self.size += ENTRY_BYTES

    def send(self, sent: Sent) -> None:
        """Add a statement; after many of one kind, only their number grows."""
        query = sent.query
        self.statements += sent.many
        place = (query.number, sent.site)
        if self.is_full and place not in self.counts:
            self.left_out += 1
            return
        if query.number not in self.texts:
            self.texts[query.number] = query
            self.size += 100 + len(query.sql)
        if query.is_control:
            self.add(sent)
            return
        self.counts[place] += 1
        times = self.counts[place]
        if times >= REPEATS:
            query.repeated(times, self.number, sent.site)
        last = self.entries[-1] if self.entries else None
        if (
            times > _APART
            and isinstance(last, Sent)
            and last.error is None is sent.error
            and (last.query, last.site, last.block) == (query, sent.site, sent.block)
        ):
            last.busy_s = (last.busy_s or last.duration_s) + sent.duration_s
            last.times += 1
            last.rows = None if last.rows is None or sent.rows is None else last.rows + sent.rows
            last.duration_s = sent.at_s + sent.duration_s - last.at_s
        else:
            self.add(sent)

    @property
    def state(self) -> str:
        """How it goes, or went: "open", "failed" or "well"."""
        if self.duration_s is None:
            return "open"
        outermost = (bar.ended for bar in self.bars.values() if bar.entered.parent_id not in self.bars)
        undone = any(ended is not None and ended.outcome in _BAD for ended in outermost)
        alone = self.kind == "statement" and any(
            entry.error for entry in self.entries if not isinstance(entry, Bar)
        )
        return "failed" if self.error is not None or undone or alone else "well"

    def told(self) -> dict[str, Any]:
        """Return all of it, for JSON; the texts of its statements are told apart."""
        return {
            "trace": self.number,
            "kind": self.kind,
            "name": self.name,
            "databases": list(self.databases),
            "started": self.started,
            "duration_s": self.duration_s,
            "state": self.state,
            "error": self.error,
            "statements": self.statements,
            "entries": [entry.told() for entry in self.entries],
            "left_out": self.left_out,
            "repeats": [
                {"query": number, "site": site, "times": times}
                for (number, site), times in self.counts.most_common(5)
                if times >= REPEATS
            ],
        }


class Reader:
    """What somebody who looks has not seen yet. Lives: as long as he looks."""

    def __init__(self) -> None:
        self.changed: OrderedDict[int, Trace] = OrderedDict()
        self.passed_over = 0
        self.known: set[int] = set()
        """The statements whose texts he has."""

    def touch(self, trace: Trace) -> None:
        """Take note that a trace is new, or has changed."""
        self.changed[trace.number] = trace
        if len(self.changed) > READ_AT_ONCE:
            _, old = self.changed.popitem(last=False)
            # One that is still open comes again at its end.
            self.passed_over += old.duration_s is not None
