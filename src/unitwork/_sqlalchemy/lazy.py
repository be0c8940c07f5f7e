"""This module holds a connection that is set up as one of SQLAlchemy's when somebody asks SQLAlchemy for it.

It knows which attributes SQLAlchemy sets in a connection: the first use of one of them sets it up.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import ResourceClosedError
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine
    from sqlalchemy.engine import RootTransaction
    from sqlalchemy.pool import ManagesConnection, PoolProxiedConnection

BEGUN = "unitwork_begun"
"""The attribute of a connection whose transaction has begun before SQLAlchemy was told of it."""

SET_BY_CONNECTION = (
    "dispatch",
    "_transaction",
    "_nested_transaction",
    "_execution_options",
    "_allow_autobegin",
    "_echo",
    "_Connection__savepoint_seq",
    "_Connection__in_begin",
    "_Connection__can_reconnect",
)
"""The attributes that `Connection.__init__` sets, but those that a lazy one has from the beginning."""


class Lends(Protocol):
    """Who has lent what a pool has."""

    def wrapped(self, held: ManagesConnection) -> PoolProxiedConnection:
        """Return what was lent as SQLAlchemy knows it."""
        ...

    def take_back_ended(self, held: ManagesConnection) -> None:
        """Return to the pool what was lent, whose transaction has ended."""
        ...


class LazyConnection(Connection):
    """A connection with a transaction, which the driver knows of, and SQLAlchemy when it is first asked.

    What is sent on the driver's connection needs no more than that. Where something else is wanted of it, it
    becomes a `Connection` like all others, whose transaction has begun. Lives: until then, or until it has
    gone back to its pool.

    Args:
        engine: Its engine.
        held: What a pool has lent, with SQLAlchemy's wrapper around it or without.
        lender: Who has lent it.
    """

    options: Mapping[str, Any] = MappingProxyType({})
    """What its transaction begins with."""

    def __init__(self, engine: Engine, held: ManagesConnection, lender: Lends) -> None:
        # Connection.__init__ runs with the first use (see _SetAtFirstUse).
        self.engine = engine
        self.dialect = engine.dialect
        self.held: ManagesConnection | None = held
        self._lender = lender

    def __del__(self) -> None:
        # Whoever had it was destroyed: SQLAlchemy sees to what nobody has returned.
        if self.held is not None:
            self.wrap()

    def wrap(self) -> PoolProxiedConnection | None:
        """Return what it holds as SQLAlchemy knows it; None when that has gone back."""
        wrapped = None if self.held is None else self._lender.wrapped(self.held)
        self.held = self._dbapi_connection = wrapped
        return wrapped

    def set_up(self) -> None:
        """Let SQLAlchemy know that the transaction has begun."""
        vars(self)[BEGUN] = True
        self.begin()

    @override
    def begin(self) -> RootTransaction:
        held, own = self.wrap(), vars(self)
        if held is None:
            raise ResourceClosedError("This Connection is closed")  # as SQLAlchemy says it
        del own["held"], own["_lender"]
        self.__class__ = Connection  # type: ignore[assignment]  # of the same layout
        Connection.__init__(self, self.engine, held)
        options = own.pop("options", None)
        if options:
            self.execution_options(**options)
        return Connection.begin(self)

    def return_ended(self) -> None:
        """Return it to its pool after COMMIT, of which SQLAlchemy needs not know."""
        held, self.held, self._dbapi_connection = self.held, None, None
        if held is not None:
            self._lender.take_back_ended(held)

    # What is asked of it in every transaction needs no more.

    @override
    def in_transaction(self) -> bool:
        return True

    @override
    def in_nested_transaction(self) -> bool:
        return False

    @override
    def get_execution_options(self) -> Any:
        options: Any = self.engine.get_execution_options()
        return options.union(self.options) if self.options else options

    @property
    @override
    def closed(self) -> bool:
        return self.held is None

    @property
    @override
    def invalidated(self) -> bool:
        return self.held is not None and self.held.dbapi_connection is None

    @property
    @override
    def info(self) -> Any:
        return held_by(self).info

    @override
    def invalidate(self, exception: BaseException | None = None) -> None:
        set_up(self)
        Connection.invalidate(self, exception)  # itself may be guarded


def set_up(connection: Connection) -> None:
    """Let SQLAlchemy know of the transaction of a connection, if it does not yet."""
    if isinstance(connection, LazyConnection):
        connection.set_up()


def held_by(connection: Connection) -> ManagesConnection:
    """Return what a connection holds of its pool: to be used at once, not to be kept."""
    held = connection.held if isinstance(connection, LazyConnection) else None
    return connection.connection if held is None else held


class _WrappedAtFirstUse:
    """The attribute that holds SQLAlchemy's wrapper, which is made when somebody asks for it."""

    def __get__(self, connection: LazyConnection | None, owner: type[LazyConnection]) -> Any:  # noqa: ANN401  # of SQLAlchemy
        return self if connection is None else connection.wrap()


class _SetAtFirstUse:
    """An attribute that `Connection.__init__` sets, which runs when one of them is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, connection: LazyConnection | None, owner: type[LazyConnection]) -> Any:  # noqa: ANN401  # of SQLAlchemy
        if connection is None:
            return getattr(Connection, self._name)
        connection.set_up()
        return getattr(connection, self._name)


for _name in SET_BY_CONNECTION:
    setattr(LazyConnection, _name, _SetAtFirstUse(_name))
setattr(LazyConnection, "_dbapi_connection", _WrappedAtFirstUse())  # noqa: B010  # `Connection` says what it holds
