"""This module keeps what went to the database, to be counted and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from unitwork._logic.sql.shown import as_asked, is_control
from unitwork.events import StatementExecuted

if TYPE_CHECKING:
    from types import TracebackType

    from unitwork.database import Database
    from unitwork.events import Event

__all__ = ["StatementLog"]


class StatementLog:
    """An observer that keeps the statements of one or several Databases.

    Use it to prove how much a piece of code asks of the database. What only controls transactions
    (BEGIN, SAVEPOINT, ...) differs between databases and is kept apart, in `control`. Parameters
    are never kept. Lives: as long as you observe; not limited in size.

    Args:
        *databases: Observed from the start of a `with` block to its end. Without `with`, call
            `db.observe(log)`.

    Examples:
        >>> with StatementLog(db) as log:
        ...     async with db.transaction():
        ...         db.session.add(User(email="ann@example.com"))
        ...         await db.session.flush()
        ...         emails = await db.session.scalars(select(User.email))
        >>> len(log)
        2
        >>> log.texts[1]
        'SELECT users.email FROM users'
        >>> log.count("insert")
        1
    """

    def __init__(self, *databases: Database) -> None:
        self._databases = databases
        self.statements: list[StatementExecuted] = []
        self.control: list[StatementExecuted] = []

    def __repr__(self) -> str:
        return f"<StatementLog of {len(self)} statements>"

    def __len__(self) -> int:
        return len(self.statements)

    def __enter__(self) -> Self:
        for database in self._databases:
            database.observe(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for database in self._databases:
            database.unobserve(self)

    @property
    def texts(self) -> list[str]:
        """The SQL of each statement, on one line each, in the order in which they were sent."""
        return [as_asked(statement.sql) for statement in self.statements]

    def count(self, beginning: str) -> int:
        """Return how many statements begin with these words, in capitals or not.

        Examples:
            >>> StatementLog().count("SELECT")
            0
        """
        return sum(text.upper().startswith(beginning.upper()) for text in self.texts)

    def clear(self) -> None:
        """Forget all statements."""
        self.statements.clear()
        self.control.clear()

    def notice(self, event: Event, /) -> None:
        """Keep a statement; called by the Databases that are observed."""
        if isinstance(event, StatementExecuted):
            (self.control if is_control(event.sql) else self.statements).append(event)
