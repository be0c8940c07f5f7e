"""This module judges a history: what clients did, and what they were told, against what a database owes them.

Each write appends a value of its own to a key; each read is told all values of its key. So every read says
exactly which writes it has seen, and whether it is older than another. The moments are those of one counter:
an operation is after another when it began after the other had ended; of two that overlap nothing is known.
"""

import enum
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Required, TypedDict

from typing_extensions import Unpack


class Outcome(enum.Enum):
    """What the client of a write was told."""

    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    """It was told that nothing is stored."""
    UNKNOWN = "unknown"
    """It was told that it cannot be known, or nothing."""


class Wrong(enum.Enum):
    """What a database must not do."""

    LOST = "an acknowledged write is not there in the end"
    DOUBLED = "a write is there twice"
    RISEN = "a write that failed is there"
    INVENTED = "a value is there that nobody has written by then"
    VANISHED = "a value that was read is not there in the end"
    OWN = "a read does not show what its client had written before"
    BACKWARDS = "a read does not show what its client had read before"
    OLDER = "a read does not show what is older than something that its client had seen before"
    BEHIND = "a read that must be fresh does not show what was acknowledged before it began"


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A client appended a value to a key."""

    client: str
    key: str
    value: str
    began: int
    ended: int
    outcome: Outcome = Outcome.ACKNOWLEDGED


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A client was told the values of a key."""

    client: str
    key: str
    values: tuple[str, ...]
    began: int
    ended: int
    fresh: bool = False
    """Whether it asked for what is newest."""
    forgotten: bool = False
    """Whether the client knows nothing of it later, as it was a task of the client that has read."""


class Facts(TypedDict, total=False):
    """What else is to be said of a read."""

    began: Required[int]
    fresh: bool
    forgotten: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    wrong: Wrong
    key: str
    values: tuple[str, ...]
    where: Read | None = None
    """The read that shows it; None for what shows in the end."""

    def __str__(self) -> str:
        return f"{self.wrong.value}: {', '.join(self.values)} of {self.key}, in {self.where or 'the end'}"


@dataclass(slots=True)
class History:
    """What clients did, written down as it happens. Lives: one test."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    _moments: Iterator[int] = field(default_factory=count)

    def __len__(self) -> int:
        return len(self.writes) + len(self.reads)

    def now(self) -> int:
        """A moment later than all others so far."""
        return next(self._moments)

    def wrote(self, client: str, key: str, value: str, began: int, outcome: Outcome) -> None:
        """Note that a write ends now."""
        self.writes.append(
            Write(client=client, key=key, value=value, began=began, ended=self.now(), outcome=outcome)
        )

    def read(self, client: str, key: str, values: Iterable[str], **facts: Unpack[Facts]) -> None:
        """Note that a read ends now."""
        read = Read(client=client, key=key, values=tuple(values), ended=self.now(), **facts)
        self.reads.append(read)

    def findings(self, final: Mapping[str, Sequence[str]]) -> list[Finding]:
        """All that is wrong, given what each key holds in the end."""
        return findings([*self.writes, *self.reads], final)


def findings(operations: Iterable[Write | Read], final: Mapping[str, Sequence[str]]) -> list[Finding]:
    """All that is wrong with a history, given what each key holds in the end."""
    judge = _Judge(list(operations), final)
    return [*judge.of_the_end(), *judge.of_values(), *judge.of_clients(), *judge.of_fresh_reads()]


class _Judge:
    """The operations, sorted as the questions need them."""

    def __init__(self, operations: Sequence[Write | Read], final: Mapping[str, Sequence[str]]) -> None:
        self._final = final
        self._writes = {(each.key, each.value): each for each in operations if isinstance(each, Write)}
        self._reads = [each for each in operations if isinstance(each, Read)]
        self._acknowledged: defaultdict[str, list[Write]] = defaultdict(list)
        for write in self._writes.values():
            if _is_acknowledged(write):
                self._acknowledged[write.key].append(write)
        self._of_client: defaultdict[str, list[_Known]] = defaultdict(list)
        for each in operations:
            self._of_client[each.client].append(_Known(each, self._newest_in(each)))

    def of_the_end(self) -> Iterator[Finding]:
        """What was acknowledged or read, and is not there."""
        for key, writes in self._acknowledged.items():
            there = set(self._final.get(key, ()))
            yield from _found(Wrong.LOST, key, (write.value for write in writes if write.value not in there))
        for read in self._reads:
            there = set(self._final.get(read.key, ()))
            gone = (value for value in read.values if value not in there)
            yield from _found(Wrong.VANISHED, read.key, gone, read)

    def of_values(self) -> Iterator[Finding]:
        """What is there, and should not be, or not so often."""
        seen: list[tuple[str, Sequence[str], Read | None]] = [
            *((key, values, None) for key, values in self._final.items()),
            *((read.key, read.values, read) for read in self._reads),
        ]
        for key, values, read in seen:
            number = Counter(values)
            yield from _found(Wrong.DOUBLED, key, (each for each in number if number[each] > 1), read)
            written = {value: self._writes.get((key, value)) for value in number}
            yield from _found(
                Wrong.RISEN,
                key,
                (v for v, by in written.items() if by and by.outcome is Outcome.FAILED),
                read,
            )
            invented = (
                value for value, by in written.items() if by is None or (read and read.ended < by.began)
            )
            yield from _found(Wrong.INVENTED, key, invented, read)

    def of_clients(self) -> Iterator[Finding]:
        """What a read does not show of what its client has written or read before."""
        for known in self._of_client.values():
            for read in (each.operation for each in known):
                if isinstance(read, Read):
                    before = [each for each in known if each.was_known_at(read.began)]
                    yield from self._of_read(read, before)

    def _of_read(self, read: Read, before: Sequence["_Known"]) -> Iterator[Finding]:
        here = [each.operation for each in before if each.operation.key == read.key]
        written = {each.value for each in here if isinstance(each, Write) and _is_acknowledged(each)}
        told = {value for each in here if isinstance(each, Read) for value in each.values}
        shown = set(read.values)
        yield from _found(Wrong.OWN, read.key, sorted(written - shown), read)
        yield from _found(Wrong.BACKWARDS, read.key, sorted(told - written - shown), read)
        # The database was at least as far as the newest write that this client has seen, of whichever key.
        older = self._acknowledged_before(read.key, max((each.newest for each in before), default=-1))
        yield from _found(Wrong.OLDER, read.key, sorted(older - told - written - shown), read)

    def _newest_in(self, operation: Write | Read) -> int:
        """When the newest of the writes that its client has seen by it began."""
        if isinstance(operation, Write):
            return operation.began if _is_acknowledged(operation) else -1
        seen = (self._writes.get((operation.key, value)) for value in operation.values)
        return max((write.began for write in seen if write), default=-1)

    def of_fresh_reads(self) -> Iterator[Finding]:
        """What a fresh read does not show of what anybody was acknowledged before."""
        for read in self._reads:
            if read.fresh:
                missing = self._acknowledged_before(read.key, read.began) - set(read.values)
                yield from _found(Wrong.BEHIND, read.key, sorted(missing), read)

    def _acknowledged_before(self, key: str, moment: int) -> set[str]:
        return {write.value for write in self._acknowledged[key] if write.ended < moment}


@dataclass(frozen=True, slots=True)
class _Known:
    """An operation of a client, and how far the database was by it."""

    operation: Write | Read
    newest: int

    def was_known_at(self, moment: int) -> bool:
        """Whether the client knew of it."""
        forgotten = isinstance(self.operation, Read) and self.operation.forgotten
        return self.operation.ended < moment and not forgotten


def _is_acknowledged(write: Write) -> bool:
    return write.outcome is Outcome.ACKNOWLEDGED


def _found(wrong: Wrong, key: str, values: Iterable[str], read: Read | None = None) -> Iterator[Finding]:
    if found := tuple(values):
        yield Finding(wrong, key, found, read)
