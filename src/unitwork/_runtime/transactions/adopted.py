"""This module holds the transaction of a session that somebody else has made, and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state
from typing_extensions import override

from unitwork._runtime.transactions.connection import Checkout
from unitwork._runtime.transactions.frame import Frame
from unitwork._runtime.transactions.inner_ends import InnerEnds
from unitwork._sqlalchemy.private import note_new
from unitwork.dialects import READ_WRITE, BeginMode
from unitwork.dialects.backend import CHECKOUT, LENT
from unitwork.errors import TransactionRefusedError
from unitwork.options import Isolation

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.engine import NestedTransaction

    from unitwork._runtime.transactions.hooks import Hooks


class AdoptedTransaction(Frame):
    """What the owner of an adopted session commits or rolls back: a transaction, or a savepoint of his.

    Its blocks take part in it as in any other. What waits for its end waits for that of the owner, also when
    the session was handed back before. Lives: until the owner has ended it.
    """

    handed_back = False
    """The session is its owner's alone again: nobody comes in here any more, and the end is still to come."""

    def __init__(
        self,
        session: Any,  # noqa: ANN401  # of a higher floor
        owner: str,
        *,
        nested: bool,
    ) -> None:
        super().__init__(session, owner, READ_WRITE)
        self.nested = nested
        """It is a savepoint."""

    @property
    @override
    def ended(self) -> bool:
        return self.handed_back or super().ended

    @override
    def check_open(self) -> None:
        if self.ended:
            raise self.ended_error()

    @override
    def admit(self) -> None:
        self.check_open()
        super().admit()

    @override
    def close(self) -> None:
        """Let nobody in any more: the session goes back to its owner."""
        self.handed_back = True

    def end(self, *, committed: bool) -> None:
        """The owner has ended it."""
        super().close()
        if committed:
            self.committed()
        else:
            self.rolled_back()

    @property
    @override
    def hooks(self) -> Hooks:
        if self.hooks_or_none is None and not self.ended:
            self._begin()
        return super().hooks

    @override
    def condemn(self, *arguments: Any, **keywords: Any) -> None:
        if self.handed_back or self._begin():
            super().condemn(*arguments, **keywords)

    def _begin(self) -> bool:
        """Let the session know of a transaction, or nobody would hear of its end. Sends nothing.

        Say whether there is one: the owner may have said that he alone begins.
        """
        held: Session = self.session.sync_session
        if held.autobegin and not Session.in_transaction(held):
            Session.begin(held)
        return Session.in_transaction(held)

    def go_on_with(self, other: AdoptedTransaction) -> None:
        """Take over what waits for the end of the same transaction, from when it was adopted before."""
        self.hooks_or_none, other.hooks_or_none = other.hooks_or_none, None
        self.left_open = other.left_open
        mark = other.take_mark()
        if mark is not None:
            super().condemn(mark.block, mark.error, by_database=mark.by_database, within=mark.within)

    @override
    def by_hand_refused(self, verb: str) -> TransactionRefusedError:
        name = self.source.name
        return TransactionRefusedError(
            name,
            f"`{verb}` of {self.owner} on database {name!r} is refused inside a block or `run_sync`.",
            f"call `await session.{verb}()` outside of the blocks, which take part in its transaction.",
        )

    # -- the connection --------------------------------------------------------------------------

    @override
    def check_out(self) -> Connection:
        """Let the session take a connection as it does by itself. In a greenlet."""
        session = self.session
        bind = session.sync_session.bind or self.source.home_engine().sync_engine
        connection = Session.connection(session.sync_session, bind_arguments={"bind": session.bind_for(bind)})
        self.begun_on(connection)
        return connection

    def begun_on(self, connection: Connection) -> None:
        """Take note of the connection that the session has begun on."""
        if self.checkout is None:
            level = connection.get_execution_options().get("isolation_level")
            if level in _LEVELS:
                self.mode = BeginMode(isolation=Isolation(level))
            checkout = self.checkout = AdoptedCheckout(self)
            checkout.hold(connection)
            self.begun()

    def inserted(self, entity: object) -> None:
        """Let SQLAlchemy's part of it take back what was inserted past the ORM."""
        note_new(self.session.sync_session, instance_state(entity))


_LEVELS = frozenset(level.value for level in Isolation)


class AdoptedCheckout(Checkout):
    """A connection that an adopted session has taken by itself. Lives: as long as the session is adopted."""

    __slots__ = ()

    def hold(self, connection: Connection) -> None:
        """Take note of it, so that whatever fails or ends on it is heard of."""
        source = self.frame.source
        self.connection = connection
        self._engines.take(connection, self)
        self._info = connection.info
        self._info[CHECKOUT] = self
        if LENT in connection.get_execution_options():
            cast("Any", connection.connection.dbapi_connection).taken_for(self.frame)
        elif source.backend.may_end_inside:
            self._inner_ends = InnerEnds(source.backend)

    @override
    def forget(self) -> None:
        connection = self.connection
        if connection is not None and LENT in connection.get_execution_options() and not connection.closed:
            cast("Any", connection.connection.dbapi_connection).taken_for(None)
        super().forget()

    @override
    def database_failed(self, error: BaseException, within: NestedTransaction | None) -> None:
        """As for every transaction; but what fails in no block is the owner's, where the database goes on."""
        session: Any = self.frame.session
        alone = session.turns.top is self.frame and not session.is_in_block()
        if not alone or self.frame.source.backend.fails_as_a_whole:
            super().database_failed(error, within)

    @override
    def committed_by(self, send: Callable[[], object]) -> None:
        super().committed_by(send)
        if self.frame.source.servers is not None:
            self.frame.source.servers.wrote_by_hand()

    @override
    def refuse_by_hand(self, verb: str) -> None:
        """Refuse an end by what SQLAlchemy hands out, if a block takes part: else the owner is free to."""
        frame: Any = self.frame
        if frame.joined:
            super().refuse_by_hand(verb)
