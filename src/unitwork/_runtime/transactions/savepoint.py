"""This module holds a savepoint, and sends what begins and ends it on the driver's connection, if it can."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.util import greenlet_spawn
from typing_extensions import override

from unitwork._runtime.transactions.ends import sent_ahead
from unitwork._runtime.transactions.frame import Frame
from unitwork._runtime.transactions.transaction import Transaction
from unitwork._sqlalchemy.lazy import held_by
from unitwork._sqlalchemy.private import fail_without_cursor
from unitwork._sqlalchemy.savepoints import (
    begun_savepoint,
    flushes_nothing,
    go_back_to,
    is_open_in,
    next_savepoint_name,
    note_new,
    savepoint_names,
    savepoints_to_send,
)
from unitwork.dialects.orders import Failed, run_on_driver
from unitwork.options import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.orm import SessionTransaction


class Savepoint(Frame):
    """A savepoint: it can be undone alone. SAVEPOINT is sent with its first statement, or before it.

    The session inside knows of it from its beginning on, and takes back by itself what it must. What is sent
    goes ahead of SQLAlchemy, past its greenlets, where nobody listens to that; then SQLAlchemy is told.
    """

    is_released: bool
    """Whether what has failed did so after the database has answered RELEASE."""
    _not_undone: set[str]
    """Its name, if RELEASE has failed, and what SQLAlchemy has done then has undone nothing."""

    transaction: SessionTransaction
    kept = Outcome.SAVEPOINT_KEPT
    undone = Outcome.SAVEPOINT_UNDONE

    @property
    def hands_hooks_up(self) -> bool:  # type: ignore[override]  # constant in the other kinds
        return True

    @property
    def savepoint(self) -> object:  # type: ignore[override]  # constant in the other kinds
        return getattr(self, "transaction", None)

    @property
    def root(self) -> Frame:
        return self.parent.root if self.parent is not None else self

    @property
    @override
    def connection(self) -> Connection | None:
        """The connection, once SQLAlchemy has sent SAVEPOINT on it, and nothing was begun inside by hand."""
        if not self._is_innermost:
            return None
        return self.root.connection if savepoint_names(self.transaction) else None

    @property
    def undoes_errors(self) -> bool:  # type: ignore[override]  # constant in the other kinds
        return bool(savepoint_names(self.transaction))

    @property
    def _is_innermost(self) -> bool:
        """Whether nothing was begun inside by hand."""
        held: Session | None = self.session.held
        return held is not None and held.get_nested_transaction() is self.savepoint

    def inserted(self, entity: object) -> None:
        """Let SQLAlchemy's part of the savepoint take back what was inserted past the ORM."""
        note_new(self.session.sync_session, instance_state(entity))

    # -- begin ---------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Send what is pending, then begin. The turn of the frame around it is taken."""
        session: Any = self.session
        held: Session = session.sync_session
        self.is_released = False
        self._not_undone = set()
        if session.is_unheard() and flushes_nothing(held):
            self.transaction = session.quietly(held.begin_nested)
        else:
            self.transaction = await greenlet_spawn(held.begin_nested)
        connection = self.root.connection
        if connection is not None and session.shares(connection):
            # What others send on it is inside, and the session does not know of that.
            await greenlet_spawn(self._send_on, connection)
        self.begun()

    def _send_on(self, connection: Connection) -> None:
        """Let SQLAlchemy send SAVEPOINT. In a greenlet."""
        try:
            Session.connection(self.session.sync_session, bind_arguments={"bind": connection})
        except BaseException:
            self.transaction.close()
            raise

    @override
    async def check_out_idle(self) -> Connection | None:
        """Send SAVEPOINT, on a connection of the transaction around; None if it takes a greenlet to do so."""
        session, root = self.session, self.root
        held = session.sync_session
        if not isinstance(root, Transaction) or savepoints_to_send(held) != 1:
            return None
        connection: Connection | None = root.connection or await session.acquired_idle(root)
        if connection is None or not self._sends_ahead_on(connection):
            return None
        direct: Any = self.source.backend.direct
        if not direct.can_mark(held_by(connection).driver_connection):
            return None
        error = await self._sent(connection, f"SAVEPOINT {next_savepoint_name(connection)}")
        if error is not None:
            raise error
        with sent_ahead(connection):
            session.quietly(partial(Session.connection, held))
        return connection

    # -- ends ----------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Release it. Not to be interrupted."""
        await self._end("RELEASE", self._release, self._waits_for_release_alone)

    async def undo(self) -> None:
        """Roll back to it. Not to be interrupted."""
        await self._end("ROLLBACK TO", self._roll_back, partial(self.session.is_unheard, undoes=True))

    def _waits_for_release_alone(self) -> bool:
        """Say whether the session has nothing to send before RELEASE, and nobody hears of that."""
        return bool(self.session.is_unheard() and flushes_nothing(self.session.sync_session))

    async def _end(self, verb: str, tell: Callable[[], None], is_quiet: Callable[[], bool]) -> None:
        """Send what ends it ahead of SQLAlchemy, which is told then; or let that do both, in a greenlet.

        Args:
            verb: What is sent.
            tell: Lets SQLAlchemy end it.
            is_quiet: Says whether that waits for nothing but the answer, and nobody hears of it.
        """
        if not (is_quiet() and self._is_innermost and isinstance(self.root, Transaction)):
            await greenlet_spawn(tell)
            return
        names = savepoint_names(self.transaction)
        if not names:
            self.session.quietly(tell)  # there is nothing to be sent
            return
        goes_on = begun_savepoint(self.transaction) is not None
        connection = self.root.connection if goes_on else None
        if connection is None or not (self._sends_ahead_on(connection) and self._is_open_on(connection)):
            await greenlet_spawn(tell)
            return
        (name,) = names
        error = await self._sent(connection, f"{verb} SAVEPOINT {name}")
        with sent_ahead(connection, error):
            # Meanwhile others may have changed what the session holds, or begun to listen.
            if error is None and is_quiet():
                self.session.quietly(tell)
                return
            await greenlet_spawn(tell)
        if error is not None:
            raise error

    def _release(self) -> None:
        """Let SQLAlchemy release it. In a greenlet, if it has something to send."""
        checkout, names = self.root.checkout, savepoint_names(self.transaction)
        released, gone_back = (checkout.released, checkout.gone_back) if checkout is not None else (0, 0)
        try:
            with self.session.ending():
                self.transaction.commit()
        except BaseException:
            self.is_released = checkout is not None and checkout.released > released
            if self.is_released:  # a listener has failed after it
                self.transaction.close()
            elif checkout is not None and checkout.gone_back == gone_back:
                self._not_undone = names
            raise

    def _roll_back(self) -> None:
        """Let SQLAlchemy roll back to it. In a greenlet, if it has something to send."""
        with self.session.ending():
            # After a failed flush SQLAlchemy has gone back behind it; after a failed RELEASE it never does.
            if is_open_in(self.session.sync_session, self.transaction):
                self.transaction.rollback()
            connection = self.root.connection
            while self._not_undone and connection is not None:
                go_back_to(connection, self._not_undone.pop())

    # -- what is sent ahead --------------------------------------------------------------------

    def _sends_ahead_on(self, connection: Connection) -> bool:
        """Say whether nobody has this connection but the session, or hears what SQLAlchemy sends on it."""
        session, backend, engines = self.session, self.source.backend, self.source.engines
        if connection.closed or connection.invalidated or session.shares(connection):
            return False
        if backend.direct is None or (backend.limits_statements and session.limits_here()):
            return False
        if not self.root.is_on(engines) or session.source.lanes.statements.obstacle_below() is not None:
            return False
        return not engines.here().listeners.of_savepoints()

    def _is_open_on(self, connection: Connection) -> bool:
        """Say whether the database has not ended the transaction, as far as the driver knows."""
        direct: Any = self.source.backend.direct
        return bool(direct.in_transaction(held_by(connection).driver_connection))

    async def _sent(self, connection: Connection, sql: str) -> BaseException | None:
        """Send a statement on the driver's connection; return what SQLAlchemy makes of its error."""
        direct: Any = self.source.backend.direct
        started = time.perf_counter()
        try:
            await direct.mark(held_by(connection).dbapi_connection, sql)
        except BaseException as error:  # noqa: BLE001  # returned as SQLAlchemy has it
            return await self._error_of(connection, sql, error)
        watch = self.source.watch
        if watch.active:
            watch.statements.begun_or_ended(sql, started, connection)
        return None

    async def _error_of(self, connection: Connection, sql: str, error: BaseException) -> BaseException:
        """Fail as if SQLAlchemy had sent it: its class of error, its events, what becomes of the block."""
        direct: Any = self.source.backend.direct
        driver = held_by(connection).driver_connection
        if not isinstance(error, Exception):
            await direct.stopped(driver)
        try:
            if direct.makes_cursors(driver):
                await greenlet_spawn(run_on_driver, connection, Failed(sql, error))
            else:
                await greenlet_spawn(fail_without_cursor, connection, error, sql, None)
        except BaseException as raised:  # noqa: BLE001  # returned
            return raised
        return error
