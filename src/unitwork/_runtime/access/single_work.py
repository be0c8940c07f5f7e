"""This module does one piece of work with a session: that of what is open, or of a block of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from unitwork._runtime import context
from unitwork._runtime.blocks.block import Scope
from unitwork._runtime.sessions.permission import write_refused
from unitwork.options import Propagation, TransactionOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncSession

    from unitwork._runtime.source import Source
    from unitwork._runtime.transactions.frame import Frame

R = TypeVar("R")

READ = TransactionOptions(propagation=Propagation.SUPPORTS)
READ_ANYWHERE = TransactionOptions(propagation=Propagation.SUPPORTS)
"""The same, where a replica may answer."""
WRITE = TransactionOptions()


def in_transaction(source: Source) -> tuple[Scope, Frame] | None:
    """Return where the calling code is, if a transaction is open here."""
    around: Scope | None = context.innermost(source)
    frame = None if around is None else around.frame
    return (around, frame) if around is not None and frame is not None and frame.transactional else None


async def with_session(
    source: Source,
    name: str,
    work: Callable[[AsyncSession], Awaitable[R]],
    options: TransactionOptions,
    around: Scope | None,
) -> R:
    """Work with the session of what is open around, or in a block of its own."""
    if around is None:
        return await _in_block(Scope(source, name, options), work)
    frame = around.frame
    if frame.transactional:
        return await work(frame.session)
    if options is WRITE and around.read_only_by is not None:
        raise write_refused(frame.session, around)
    if not frame.idles or (options is WRITE and frame.begins_with_writes):
        return await _in_block(Scope(source, name, options), work)
    return await _beside_blocks(frame, Scope(source, name, options), work)


async def _in_block(scope: Scope, work: Callable[[AsyncSession], Awaitable[R]], *, apart: bool = False) -> R:
    """Work in a block of its own."""
    session = scope.enter_apart() if apart else await scope.enter()
    if scope.owns and scope.options is READ_ANYWHERE:
        scope.frame.only_reads = True
    return await _entered(scope, session, work)


async def _entered(scope: Scope, session: AsyncSession, work: Callable[[AsyncSession], Awaitable[R]]) -> R:
    """Work in a block that was entered, and leave it."""
    try:
        result = await work(session)
    except BaseException as error:
        await scope.leave(error)
        raise
    await scope.leave(None)
    return result


async def _beside_blocks(unit: Frame, scope: Scope, work: Callable[[AsyncSession], Awaitable[R]]) -> R:
    """Work in a unit of work that is at rest: a read on its session, a write in a block of its own.

    While a block of another task has that session, it is done outside of both: that block may wait for it.
    """
    turns = unit.session.turns
    if not await turns.take_at_rest(unit):
        return await _in_block(scope, work, apart=True)
    try:
        if scope.options is not WRITE:
            unit.only_reads = scope.options is READ_ANYWHERE
            return await work(unit.session)
        session = await scope.enter()
    finally:
        unit.only_reads = False
        turns.give()
    return await _entered(scope, session, work)
