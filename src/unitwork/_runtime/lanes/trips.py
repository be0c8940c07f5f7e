"""This module holds what is sent past SQLAlchemy's cursors: one statement, with its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from sqlalchemy.orm import Session

    from unitwork._runtime.lanes.asked import Asked
    from unitwork._runtime.lanes.express_read import ExpressRead
    from unitwork._runtime.lanes.insert_one import InsertOne
    from unitwork._runtime.lanes.reading import Reading
    from unitwork.dialects.direct import Direct, Rows


class Trip(Protocol):
    """One statement to be sent, with its values."""

    @property
    def name(self) -> str:
        """What sends it, for people."""
        ...

    @property
    def statement(self) -> object:
        """As SQLAlchemy knows it."""
        ...

    @property
    def sql(self) -> str: ...

    @property
    def parameters(self) -> Any:  # noqa: ANN401  # as `exec_driver_sql` takes them
        """The values."""
        ...

    def rows(self, direct: Direct, driver: Any) -> Awaitable[Rows]:  # noqa: ANN401  # of any driver
        """Send it, and return its rows."""
        ...

    def described_by(self, cursor: Any) -> None:  # noqa: ANN401  # as the DBAPI says
        """Learn of the columns from a cursor that it was sent with."""
        ...


class Call(NamedTuple):
    """One call of a read: what is asked, and what the driver is given."""

    read: ExpressRead
    reading: Reading
    asked: Asked
    arguments: Any
    identity: tuple[Any, ...] | None = None
    """What a session knows the entity by, if it may have it already."""

    @property
    def name(self) -> str:
        return self.reading.name

    @property
    def statement(self) -> object:
        return self.asked.statement

    @property
    def sql(self) -> str:
        return self.read.sql

    @property
    def parameters(self) -> Any:  # noqa: ANN401  # as SQLAlchemy takes them for its driver
        """The arguments as `exec_driver_sql` takes them."""
        return _parameters(self.arguments)

    def rows(self, direct: Direct, driver: Any) -> Awaitable[Rows]:  # noqa: ANN401  # of any driver
        return self.read.rows(direct, driver, self.arguments)

    def described_by(self, cursor: Any) -> None:  # noqa: ANN401  # as the DBAPI says
        self.read.described_by(cursor)

    def items(self, rows: Rows, session: Session | None) -> Sequence[Any]:
        """Return what becomes of the rows; entities are held by the session, if there is one."""
        return self.read.items(rows, self.reading, session)


class Addition(NamedTuple):
    """One new entity to be inserted."""

    insert: InsertOne
    name: str
    entity: object
    values: dict[str, Any]
    arguments: Any

    @property
    def identity(self) -> tuple[Any, ...] | None:
        """What a session knows it by; None if the database makes its key."""
        return self.insert.identity(self.values)

    @property
    def statement(self) -> object:
        return self.insert.statement

    @property
    def sql(self) -> str:
        return self.insert.sql

    @property
    def parameters(self) -> Any:  # noqa: ANN401  # as SQLAlchemy takes them for its driver
        """The arguments as `exec_driver_sql` takes them."""
        return _parameters(self.arguments)

    def rows(self, direct: Direct, driver: Any) -> Awaitable[Rows]:  # noqa: ANN401  # of any driver
        return self.insert.rows(direct, driver, self.arguments)

    def described_by(self, cursor: Any) -> None:  # noqa: ANN401  # as the DBAPI says
        self.insert.described_by(cursor)


def _parameters(arguments: Any) -> Any:  # noqa: ANN401  # of any driver
    return (tuple(arguments) if isinstance(arguments, list) else arguments) or None
