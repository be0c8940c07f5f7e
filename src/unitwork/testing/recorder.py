"""This module keeps the statements of a block of test code, and the lines that sent them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from unitwork._logic.sql.shown import as_asked, is_control
from unitwork._runtime import live
from unitwork._runtime.connections.places import call_site
from unitwork.database import Database
from unitwork.errors import OptionError
from unitwork.events import StatementExecuted

if TYPE_CHECKING:
    from types import TracebackType

    from unitwork._runtime.source import Source
    from unitwork.events import Event

_UNKNOWN = "a place that is not known"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement that was sent; parameters are never kept."""

    sql: str
    """On one line."""
    sent_by: str
    """`file:line` of the code that sent it."""
    database: str
    duration_s: float

    def __str__(self) -> str:
        return f"{self.sql}  [{self.sent_by}]"


class Recorder:
    """What `statements()` returns: the statements of a `with` block, in order.

    BEGIN, SAVEPOINT and what else only controls transactions is not counted. Lives: one `with`.
    """

    def __init__(self, databases: tuple[Database, ...]) -> None:
        self._databases = databases
        self._sources: list[Source] = []
        self._kept: list[Statement] = []

    def __repr__(self) -> str:
        return f"<Recorder of {len(self)} statements>"

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Statement]:
        return iter(self._kept)

    def __getitem__(self, place: int) -> Statement:
        return self._kept[place]

    def __enter__(self) -> Self:
        self._sources = [database.source for database in self._databases] or live.all_sources()
        for source in self._sources:
            source.watch.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for source in self._sources:
            source.watch.remove(self)

    @property
    def texts(self) -> list[str]:
        """The SQL of each statement, on one line each."""
        return [statement.sql for statement in self._kept]

    def count(self, beginning: str) -> int:
        """Return how many statements begin with these words, in capitals or not."""
        return sum(text.upper().startswith(beginning.upper()) for text in self.texts)

    def repeated(self, more_than: int) -> list[tuple[Statement, int]]:
        """Return the statements whose text was sent more often than this, and how often, worst first."""
        counts = Counter(self.texts)
        often = {text: number for text, number in counts.most_common() if number > more_than}
        first = {statement.sql: statement for statement in reversed(self._kept)}
        return [(first[text], number) for text, number in often.items()]

    def senders(self, sql: str) -> list[str]:
        """Return the lines that sent this statement, each once, in order."""
        return list(dict.fromkeys(statement.sent_by for statement in self._kept if statement.sql == sql))

    def notice(self, event: Event, /) -> None:
        """Keep a statement; called by the Databases that are observed."""
        if isinstance(event, StatementExecuted) and not is_control(event.sql):
            kept = Statement(as_asked(event.sql), call_site() or _UNKNOWN, event.database, event.duration_s)
            self._kept.append(kept)


def only_databases(given: tuple[Any, ...], *words: str) -> tuple[Database, ...]:
    """Return what a test names by position, which are Databases.

    Args:
        given: What it names.
        words: The parameters that a number may have been meant for.

    Raises:
        OptionError: It is something else.
    """
    for each in given:
        if not isinstance(each, Database):
            if isinstance(each, int) and words:
                raise OptionError("databases", each, [f"`{word}={each}`" for word in words])
            raise OptionError("databases", type(each).__name__, ["Databases, or nothing"])
    return given


def statements(*databases: Database) -> Recorder:
    """Record the statements of a `with` block.

    Args:
        *databases: Those that are recorded; without any, all that are alive when the block begins.

    Raises:
        OptionError: Something else is given.

    Examples:
        >>> with statements(db) as sent:
        ...     async with db.transaction():
        ...         db.session.add(User(email="ann@example.com"))
        ...         await db.session.flush()
        ...         emails = await db.session.scalars(select(User.email))
        >>> sent.count("INSERT")
        1
        >>> sent[1].sql
        'SELECT users.email FROM users'
    """
    return Recorder(only_databases(databases))
