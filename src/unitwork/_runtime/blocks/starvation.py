"""This module refuses a second connection that a task would wait for forever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from unitwork._runtime import context
from unitwork.errors import TransactionRefusedError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from unitwork._runtime.source import Source
    from unitwork._runtime.transactions.frame import Frame


def held_by_this_task(source: Source, besides: AsyncSession | None = None) -> set[Frame]:
    """Return the transactions around the calling code that have a connection."""
    return {
        scope.frame.root
        for scope in context.open_scopes()
        if scope.source is source
        and not scope.outside
        and not scope.frame.ended
        and scope.frame.root.connection is not None
        and scope.frame.session is not besides
    }


def of_this_pool(held: set[Frame]) -> set[Frame]:
    """Return those whose connections are of the pool that the calling code would wait for.

    A thread with a loop of its own has a pool of its own, whatever its context was copied from.
    """
    loop = asyncio.get_running_loop()
    return {frame for frame in held if frame.session.loop is loop}


def writer_among(source: Source, held: set[Frame]) -> Frame | None:
    """Return the transaction that keeps all others from writing, if the database has one writer."""
    if not source.backend.one_writer or source.pinned is not None:
        return None
    return next((frame for frame in held if not (frame.mode.read_only or frame.mode.autocommit)), None)


def refuse_starvation(source: Source, name: str, held: set[Frame], *, writes: bool) -> None:
    """Refuse a connection that only the caller itself could free, by ending.

    Raises:
        TransactionRefusedError: The task holds all connections of the pool, or the only write lock.
    """
    if source.pinned is not None:
        return  # a second transaction is a savepoint in the first
    capacity = source.capacity()
    if writes and source.servers is not None:
        held = {frame for frame in held if frame.is_on(source.engines)}
    if capacity is not None and len(of_this_pool(held)) >= capacity:
        raise TransactionRefusedError(
            source.name,
            f"{name} needs a connection of its own, but this task holds all {capacity} of the pool.",
            "do it before the outer transaction or with `db.on_commit`, or make the pool larger.",
        )
    writer = writer_among(source, held) if writes else None
    if writer is not None:
        raise TransactionRefusedError(
            source.name,
            f"{name} needs a transaction of its own, but the only write lock is held by {writer.owner}.",
            "do it before the outer block's first statement or with `db.on_commit`, or use NESTED.",
        )
