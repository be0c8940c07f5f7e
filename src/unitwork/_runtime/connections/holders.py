"""This module says who has a connection, for whoever waits for one, and for whatever fails on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import NestedTransaction

_STATEMENT_CHARACTERS = 120


class Holder(Protocol):
    """What has a connection of the pool, such as a transaction. Lives: from check-out to check-in."""

    @property
    def owner(self) -> str:
        """What messages call it."""
        ...

    @property
    def since(self) -> float:
        """When it got the connection, by the monotonic clock."""
        ...

    @property
    def last_statement(self) -> object:
        """What it has sent last, as text or as a statement; None if nothing yet."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open on the connection."""
        ...

    @property
    def may_write(self) -> bool:
        """Whether it expects the database to take writes."""
        ...

    def database_failed(self, error: BaseException, within: NestedTransaction | None) -> None:
        """Take note of a statement that has failed on the connection, inside this savepoint."""

    def database_ended(self, error: BaseException) -> None:
        """Take note that the database has ended the whole transaction."""

    def before_statement(self, sql: str) -> None:
        """Take note of what is about to be sent, where a statement may end the transaction, or it is over."""

    def after_statement(self) -> None:
        """Take note that it was."""

    def time_left(self) -> float | None:
        """Return the seconds that what is sent now may take; None is without limit."""


class Visitor:
    """Has a connection for one statement that commits by itself, or to look at something."""

    __slots__ = ("last_statement", "owner", "since")

    may_write = in_transaction = False

    def __init__(self, owner: str, statement: object = None) -> None:
        self.owner = owner
        self.since = time.monotonic()
        self.last_statement = statement

    def database_failed(self, error: BaseException, within: NestedTransaction | None) -> None:
        """Nothing is open that could be condemned."""

    def database_ended(self, error: BaseException) -> None:
        """Nothing is open that could be condemned."""

    def before_statement(self, sql: str) -> None:
        """Nothing is open that could end."""

    def after_statement(self) -> None:
        """Nothing is open that could have ended."""

    def time_left(self) -> float | None:
        """No limit."""


def told(database: str, holders: Iterable[Holder]) -> str:
    """Say who holds the connections, for a person whose pool is exhausted."""
    now = time.monotonic()
    lines = [
        f"  {holder.owner}: for {now - holder.since:.1f} s, last statement: {short(holder.last_statement)}"
        for holder in holders
    ]
    return "\n".join([f"Connections of database {database!r} are held by:", *lines])


def short(statement: object) -> str:
    """Return the text of a statement on one line, cut if it is long; never with values."""
    text = " ".join(str(statement).split()) if statement is not None else "none yet"
    return text if len(text) <= _STATEMENT_CHARACTERS else f"{text[:_STATEMENT_CHARACTERS]}…"
