"""This module holds a connection that is set up as one of SQLAlchemy's when somebody asks SQLAlchemy for it.

It knows which attributes SQLAlchemy sets in a connection: the first use of one of them sets it up.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from sqlalchemy.exc import ResourceClosedError
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine
    from sqlalchemy.engine import RootTransaction
    from sqlalchemy.pool import PoolProxiedConnection

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


class LazyConnection(Connection):
    """A connection with a transaction, which the driver knows of, and SQLAlchemy when it is first asked.

    What is sent on the driver's connection needs no more than that. Where something else is wanted of it, it
    becomes a `Connection` like all others, whose transaction has begun. Lives: until then, or until it has
    gone back to its pool.

    Args:
        engine: Its engine.
        held: The connection of the pool.
    """

    options: Mapping[str, Any] = MappingProxyType({})
    """What its transaction begins with."""

    def __init__(self, engine: Engine, held: PoolProxiedConnection) -> None:
        # Connection.__init__ runs with the first use (see _SetAtFirstUse).
        self.engine = engine
        self.dialect = engine.dialect
        self._dbapi_connection = held

    def set_up(self) -> None:
        """Let SQLAlchemy know that the transaction has begun."""
        vars(self)[BEGUN] = True
        self.begin()

    @override
    def begin(self) -> RootTransaction:
        if self._dbapi_connection is None:
            raise ResourceClosedError("This Connection is closed")  # as SQLAlchemy says it
        self.__class__ = Connection  # type: ignore[assignment]  # of the same layout
        Connection.__init__(self, self.engine, self._dbapi_connection)
        options = vars(self).pop("options", None)
        if options:
            self.execution_options(**options)
        return Connection.begin(self)

    def return_ended(self) -> None:
        """Return it to its pool after COMMIT, of which SQLAlchemy needs not know."""
        held: Any = self._dbapi_connection
        self._dbapi_connection = None
        held._close_special(transaction_reset=True)  # noqa: SLF001  # as a `Connection` does

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
        return self._dbapi_connection is None

    @override
    def invalidate(self, exception: BaseException | None = None) -> None:
        set_up(self)
        Connection.invalidate(self, exception)  # itself may be guarded


def set_up(connection: Connection) -> None:
    """Let SQLAlchemy know of the transaction of a connection, if it does not yet."""
    if isinstance(connection, LazyConnection):
        connection.set_up()


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
