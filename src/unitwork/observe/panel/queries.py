"""This module counts statements by their text: how often, how long, by which way, and who sends them."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any

from unitwork._logic.sql.shown import LIMIT, as_asked, is_control

if TYPE_CHECKING:
    from unitwork.events import StatementExecuted

TEXT_CHARACTERS = 20_000
"""Of longer statements the beginning is kept."""
_KINDS = 8
"""How many different lines, refusals or servers of one statement are told apart."""
_QUERY_BYTES = 2_500
_STEP = math.log(1.05)  # durations are told apart by 5 %
_LEAST_S = 1e-6


class Query:
    """What is known about one statement of one Database. Lives: as long as it is among those sent last.

    Attributes:
        number: Counts up within the panel.
        sent: The text as the driver was given it, without a time limit that a block has added.
        is_control: Whether it only begins, marks or ends a transaction.
        worst: How often one line has sent it in one trace at most, with the trace's number and the line.
    """

    __slots__ = (
        "_spread",
        "count",
        "cut",
        "database",
        "errors",
        "is_control",
        "lanes",
        "last",
        "longest_s",
        "number",
        "refusals",
        "rows",
        "sent",
        "servers",
        "sites",
        "sql",
        "total_s",
        "worst",
    )

    def __init__(self, number: int, database: str, sql: str) -> None:
        self.number = number
        self.database = database
        shown = sql if len(sql) <= TEXT_CHARACTERS else sql[:TEXT_CHARACTERS]
        self.sql = as_asked(shown)
        self.sent = shown.partition(" FOR ")[2] if shown.startswith(LIMIT) else shown
        self.cut = len(sql) > TEXT_CHARACTERS
        self.is_control = is_control(shown)
        self.count = self.errors = 0
        self.total_s = self.longest_s = 0.0
        self.last = 0.0
        self.rows: int | None = None
        self.lanes: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.servers: Counter[str] = Counter()
        self.sites: Counter[str] = Counter()
        self.worst: tuple[int, int, str | None] | None = None
        self._spread: Counter[int] = Counter()

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return _QUERY_BYTES + 3 * len(self.sql)

    def add(self, event: StatementExecuted, site: str | None) -> None:
        """Count one more time that it was sent."""
        self.count += event.many
        self.total_s += event.duration_s
        self.longest_s = max(self.longest_s, event.duration_s)
        self.last = time.time()
        self._spread[_place(event.duration_s)] += 1
        if event.error is not None:
            self.errors += 1
        if event.rows is not None:
            self.rows = (self.rows or 0) + event.rows
        if event.lane is not None:
            self.lanes[event.lane.value] += 1
        for told, counter in (
            (event.refusal, self.refusals),
            (event.server, self.servers),
            (site, self.sites),
        ):
            if told is not None and (told in counter or len(counter) < _KINDS):
                counter[told] += 1

    def repeated(self, times: int, trace: int, site: str | None) -> None:
        """Take note of how often one line has sent it in one trace."""
        if self.worst is None or times >= self.worst[0]:
            self.worst = (times, trace, site)

    def duration_below(self, share: float) -> float:
        """Return how many seconds this share of all times took at most, to 5 %."""
        left = share * self._spread.total()
        for place, number in sorted(self._spread.items()):
            left -= number
            if left <= 0:
                return min(_LEAST_S * math.exp(place * _STEP), self.longest_s)
        return self.longest_s

    def told(self) -> dict[str, Any]:
        """Return all of it, for JSON."""
        times, trace, site = self.worst or (0, None, None)
        return {
            "query": self.number,
            "database": self.database,
            "sql": self.sql,
            "cut": self.cut,
            "control": self.is_control,
            "count": self.count,
            "total_s": self.total_s,
            "p95_s": self.duration_below(0.95),
            "longest_s": self.longest_s,
            "rows": self.rows,
            "errors": self.errors,
            "lanes": dict(self.lanes),
            "refusals": dict(self.refusals),
            "servers": dict(self.servers),
            "sites": dict(self.sites),
            "last": self.last,
            "repeats": {"times": times, "trace": trace, "site": site} if times else None,
        }


class Queries:
    """The statements that were sent last, each once. Lives: as long as the panel.

    Args:
        limit_bytes: About how much they may take; those that were not sent for longest go first.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._numbers = itertools.count(1)
        self._known: OrderedDict[tuple[str, int | str], Query] = OrderedDict()
        self._by_number: dict[int, Query] = {}
        self.size = 0
        self.forgotten = 0
        """How many had to go."""

    def __len__(self) -> int:
        return len(self._known)

    def of(self, event: StatementExecuted) -> Query:
        """Return what is known of the statement that was sent."""
        sql = event.sql
        # The text of a long one is not kept as a whole, not even as a key.
        key = (event.database, sql if len(sql) <= TEXT_CHARACTERS else hash(sql))
        query = self._known.get(key)
        if query is None:
            query = self._known[key] = Query(next(self._numbers), event.database, sql)
            self._by_number[query.number] = query
            self.size += query.size
            while self.size > self._limit and len(self._known) > 1:
                _, old = self._known.popitem(last=False)
                del self._by_number[old.number]
                self.size -= old.size
                self.forgotten += 1
        else:
            self._known.move_to_end(key)
        return query

    def numbered(self, number: int) -> Query | None:
        """Return the statement with this number, if it is still known."""
        return self._by_number.get(number)

    def most_costly(self, limit: int) -> list[Query]:
        """Return those that took most time in all, without what only controls transactions."""
        asked = (query for query in self._known.values() if not query.is_control)
        return sorted(asked, key=lambda query: -query.total_s)[:limit]

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()
        self._by_number.clear()
        self.size = self.forgotten = 0


def _place(duration_s: float) -> int:
    return math.ceil(math.log(max(duration_s, _LEAST_S) / _LEAST_S) / _STEP)
