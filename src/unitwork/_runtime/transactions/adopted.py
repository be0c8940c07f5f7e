"""This module holds the transaction of a session that somebody else has made, and ends."""

from __future__ import annotations

import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state
from typing_extensions import override

from unitwork._runtime.connections.holders import Visitor
from unitwork._runtime.transactions.connection import Checkout
from unitwork._runtime.transactions.frame import Frame
from unitwork._runtime.transactions.inner_ends import InnerEnds
from unitwork._sqlalchemy.savepoints import note_new
from unitwork.dialects import READ_WRITE, BeginMode
from unitwork.dialects.backend import CHECKOUT, LENT
from unitwork.errors import TransactionRefusedError
from unitwork.options import Isolation

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.engine import NestedTransaction

    from unitwork._runtime.transactions.hooks import Hooks
    from unitwork._runtime.transactions.needs import Connections
    from unitwork._runtime.transactions.owners_commit import OwnersCommit


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
        commit: OwnersCommit,
        *,
        nested: bool,
    ) -> None:
        super().__init__(session, owner, READ_WRITE)
        self.commit = commit
        """What is known of the COMMIT of the owner."""
        self.nested = nested
        """It is a savepoint."""
        self.awaited: AwaitedEnd | None = None
        """What hears of the end on the connection, when the session was handed back before."""

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
        self.limits = ()

    def end(self, *, committed: bool) -> None:
        """The owner has ended it.

        Whether it is stored is known where COMMIT was sent: a listener that fails after it, or an answer
        that never came, makes no rollback of it.
        """
        super().close()
        if committed or (self.commit.answered and not self.nested):
            self.committed()
        elif self.commit.may_be_stored(self.source.backend) and not self.nested:
            self.lost()
        else:
            self.rolled_back()

    def await_end(self, connection: Connection) -> None:
        """Hear of the end on a connection that the owner goes on with alone, if somebody waits for that."""
        waits = self.waits_for_end or self.left_open or self.condemned is not None
        if waits and self.awaited is None and not (connection.closed or connection.invalidated):
            self.awaited = AwaitedEnd(self, connection)

    @override
    def sever(self) -> None:
        super().sever()
        if self.awaited is not None:
            self.awaited.sever()

    @override
    def give_up_connection(self) -> None:
        super().give_up_connection()
        awaited, self.awaited = self.awaited, None
        if awaited is not None:
            awaited.forget()

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
        other.give_up_connection()
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
    async def check_out_idle(self) -> Connection | None:
        return None

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

    __slots__ = ("_others",)

    frame: AdoptedTransaction
    _others: AwaitedEnds | None
    """What other Databases wait for, which have adopted the session before."""

    def hold(self, connection: Connection) -> None:
        """Take note of it, so that whatever fails or ends on it is heard of."""
        source = self.frame.source
        self.connection = connection
        self.since = time.monotonic()
        self._origin.engines.take(connection, self)
        self._info = connection.info
        others = self._info.get(CHECKOUT)
        self._others = others if isinstance(others, AwaitedEnds) else None
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
        if self._others is not None and self._others.of:
            self._info[CHECKOUT] = self._others

    @override
    def database_failed(self, error: BaseException, within: NestedTransaction | None) -> None:
        """As for every transaction; but what fails in no block is the owner's, where the database goes on."""
        self.frame.commit.failed(error)
        session: Any = self.frame.session
        alone = session.turns.top is self.frame and not session.is_in_block()
        if not alone or self.frame.source.backend.fails_as_a_whole:
            super().database_failed(error, within)

    @override
    def database_ended(self, error: BaseException) -> None:
        self.frame.commit.failed(error)
        super().database_ended(error)

    @override
    def committed_by(self, send: Callable[[], object]) -> None:
        super().committed_by(lambda: self.frame.commit.send_by(self.frame, send))
        if self.frame.source.servers is not None:
            self.frame.source.servers.wrote_by_hand()

    @override
    def rolled_back_by(self, send: Callable[[], object]) -> None:
        super().rolled_back_by(lambda: self.frame.commit.clean_by(self.frame, send))

    @override
    def refuse_by_hand(self, verb: str) -> None:
        """Refuse an end by what SQLAlchemy hands out, if a block takes part: else the owner is free to."""
        if self.frame.joined:
            super().refuse_by_hand(verb)


class AwaitedEnd(Visitor):
    """The connection of a session that was handed back before its end. Lives: until its owner ends it.

    The pool knows it, so it knows the session and its connection weakly: whoever forgets to close a
    session leaves them to the garbage collector.
    """

    __slots__ = ("_all", "_connection", "_frame", "_source")

    may_write = in_transaction = True

    def __init__(self, frame: AdoptedTransaction, connection: Connection) -> None:
        super().__init__(frame.owner)
        self._source = frame.source
        self._frame = weakref.ref(frame)
        self._connection = weakref.ref(connection)
        self._all = AwaitedEnds.on(connection)
        self._all.of[frame.source] = self

    @override
    def database_failed(self, error: BaseException, within: NestedTransaction | None) -> None:
        """COMMIT has failed."""
        self.database_ended(error)

    @override
    def database_ended(self, error: BaseException) -> None:
        frame = self._frame()
        if frame is not None:
            frame.commit.failed(error)

    def committed_by(self, send: Callable[[], object]) -> None:
        """Send COMMIT, if it would not store half of the work."""
        frame, connection = self._frame(), self._connection()
        if frame is None or connection is None:
            send()
            return
        self._source.engines.take(connection, self)  # to hear what SQLAlchemy makes of an error
        frame.commit.send_by(frame, send)
        self._source.engines.give_back(connection)
        if self._source.servers is not None:
            self._source.servers.wrote_by_hand()

    def rolled_back_by(self, send: Callable[[], object]) -> None:
        """Send ROLLBACK."""
        frame = self._frame()
        if frame is None:
            send()
        else:
            frame.commit.clean_by(frame, send)

    def sever(self) -> None:
        """Break the connection under what waits for it."""
        connection = self._connection()
        if connection is not None and not (connection.closed or connection.invalidated):
            self._source.backend.sever(connection.connection.driver_connection)

    def forget(self) -> None:
        """Hear no more of it."""
        connection = self._connection()
        self._all.forget(self._source, self)
        if connection is not None:
            self._source.engines.give_back(connection)


class AwaitedEnds:
    """All that await the end of one transaction: a session may have been adopted by several Databases.

    Lives: as long as one of them waits.
    """

    __slots__ = ("_info", "of")

    def __init__(self, info: dict[Any, Any]) -> None:
        self._info = info
        self.of: dict[Connections, AwaitedEnd] = {}

    @classmethod
    def on(cls, connection: Connection) -> AwaitedEnds:
        """Return what hears of the end on a connection."""
        known = connection.info.get(CHECKOUT)
        if not isinstance(known, AwaitedEnds):
            known = connection.info[CHECKOUT] = cls(connection.info)
        return known

    def forget(self, source: Connections, end: AwaitedEnd) -> None:
        """Let one of them hear no more of it."""
        if self.of.get(source) is end:
            del self.of[source]
        if not self.of and self._info.get(CHECKOUT) is self:
            del self._info[CHECKOUT]

    def committed_by(self, send: Callable[[], object]) -> None:
        """Send COMMIT, if it would not store half of the work for any of them."""
        for end in list(self.of.values()):
            send = partial(end.committed_by, send)
        send()

    def rolled_back_by(self, send: Callable[[], object]) -> None:
        """Send ROLLBACK."""
        for end in list(self.of.values()):
            send = partial(end.rolled_back_by, send)
        send()

    def released_by(self, send: Callable[[], object], name: str) -> None:  # noqa: ARG002  # as of a block's
        """Send RELEASE."""
        send()

    def gone_back_by(self, send: Callable[[], object], name: str) -> None:  # noqa: ARG002  # as above
        """Send ROLLBACK TO."""
        send()

    def refuse_by_hand(self, verb: str) -> None:
        """Nothing: the owner is free to."""
