"""This module makes a session of the program's own the ambient one, and gives it back as it was."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from typing_extensions import override

from unitwork._logic.remembered import once_for_class
from unitwork._runtime import context
from unitwork._runtime.sessions import permission
from unitwork._runtime.sessions.session import AmbientSession, refuse_taken_names
from unitwork._runtime.sessions.sync_session import guard_connection, guarded_class, unguard_connection
from unitwork._sqlalchemy.private import ignore_changes
from unitwork.errors import TransactionRefusedError, session_of

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from unitwork._runtime.context import OpenScope
    from unitwork._runtime.sessions.session import Blocks
    from unitwork._runtime.sessions.sync_session import GuardedSession
    from unitwork._runtime.source import Source
    from unitwork._runtime.transactions.frame import Frame


class AdoptedSession(AmbientSession):
    """A session that somebody else has made, while it is the ambient one. He ends its transactions.

    It takes its connection by itself, from the engine or connection that it is bound to, and begins as it
    always does. Lives: from its adoption until it is handed back, when it is a plain session again.
    """

    extent: OpenScope
    """The scope in which it is the ambient one; what is entered inside is a block."""
    was: tuple[type[AsyncSession], type[Session]]
    """Its class, and that of the synchronous one inside, before and after."""

    def is_in_block(self) -> bool:
        """Say whether the code that runs is in a block that takes part in the owner's transaction."""
        scope = self.running_in[0] if self.running_in is not None else context.scope_of(self)
        return scope is not None and scope is not self.extent

    @override
    def begin_as_block(self) -> None:
        """Nothing: SQLAlchemy begins with the first use, unless its owner has said that he does."""

    @override
    def begin_for_connection(self, isolation: str | None) -> str | None:
        if self.is_in_block():
            return super().begin_for_connection(isolation)
        self.wrote()
        self.connections_asked += 1
        return isolation

    @override
    def bind_for(self, target: Engine | Connection) -> Engine | Connection:
        """Return what the session uses in place of an engine, which must be of this Database. In a greenlet.

        Raises:
            TransactionRefusedError: It is of another database; or of another event loop.
        """
        frame = self.turns.top.root
        if frame.connection is None:
            permission.to_wait_for_connection(self, frame)
        engine = self.source.engines.route(target.engine)
        if engine is None:
            raise self.source.engines.elsewhere()
        return target if isinstance(target, Connection) else engine

    @override
    def acquired(self, frame: Frame) -> Connection:
        permission.to_wait_for_connection(self, frame)
        connection = frame.check_out()
        if self._watches_changes:
            guard_connection(self, connection)
        return connection

    @override
    def shares(self, connection: Connection) -> bool:
        """As for all ambient sessions; who has made this one may have asked for the connection before."""
        return True

    @override
    def failed(self, scope: OpenScope | None, frame: Frame, error: BaseException) -> None:
        """As for all ambient sessions; but of what its owner does in no block he hears from SQLAlchemy."""
        if self.is_in_block() or not isinstance(error, Exception):
            super().failed(scope, frame, error)
        else:
            self.say_where(frame.owner, error)

    @override
    async def reset(self) -> None:
        await self._by_hand("reset")

    @override
    async def invalidate(self) -> None:
        await self._by_hand("invalidate")


_OWN = frozenset({"source", "loop", "key", "turns", "extent", "was", "_blocks"})
"""What is set in each."""
_SET_LATER = frozenset(
    name
    for name, value in vars(AmbientSession).items()
    if not (callable(value) or hasattr(value, "__get__") or name.startswith("__"))
)
"""What an ambient session has as attributes of its class, until it changes."""


@once_for_class
def _adopted_class(kind: type[AsyncSession]) -> type[AdoptedSession]:
    refuse_taken_names(AdoptedSession, kind, ())
    bases: Any = (kind, AdoptedSession)
    return AdoptedSession if kind is AsyncSession else type(f"Adopted{kind.__name__}", bases, {})


def adopt(session: AsyncSession, source: Source, extent: OpenScope, blocks: Blocks) -> AdoptedSession:
    """Make a plain session an ambient one, itself and the synchronous one inside.

    Raises:
        OptionError: Its class uses a name that ambient sessions need.
    """
    was, held = (type(session), type(session.sync_session)), session.sync_session
    refuse_taken_names(AdoptedSession, AsyncSession, vars(session))
    _turn(session, _adopted_class(type(session)))
    _turn(held, guarded_class(type(held)))
    adopted = cast("AdoptedSession", session)
    adopted.belong_to(source, asyncio.get_running_loop(), blocks)
    adopted.was, adopted.extent, adopted.started = was, extent, True
    cast("GuardedSession", held).belongs_to(adopted)
    return adopted


def give_up(session: AdoptedSession, connection: Connection | None) -> None:
    """Make an adopted session what it was before; `connection` is the one that it has, if it has one."""
    held: Any = session.sync_session
    ignore_changes(held)
    if connection is not None:
        unguard_connection(connection)
    del held._ambient  # noqa: SLF001  # its own
    kind, sync_kind = session.was
    for name in _OWN | _SET_LATER:
        vars(session).pop(name, None)
    _turn(held, sync_kind)
    _turn(session, kind)


def _turn(session: object, kind: type) -> None:
    """Let a session be of another class, which has the same parts."""
    object.__setattr__(session, "__class__", kind)


def adopted_already(source: Source, session: AmbientSession) -> TransactionRefusedError:
    """Build the error for a session that is an ambient one, but not that of the code that runs."""
    return TransactionRefusedError(
        source.name,
        f"{session_of(session.turns.top.root.owner)} is ambient already, and not the innermost one here.",
        "adopt it once, around all code that uses it; other tasks need a session of their own.",
    )
