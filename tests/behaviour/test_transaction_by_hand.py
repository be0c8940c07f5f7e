"""Inside a transaction block commit, rollback and close by hand are refused, with the reason."""

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import insert

from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from unitwork import Database, NoTransactionError, Propagation, TransactionRefusedError


async def _run_sync_commit(db: Database) -> None:
    await db.session.run_sync(lambda session: session.commit())


async def _run_sync_rollback(db: Database) -> None:
    await db.session.run_sync(lambda session: session.rollback())


async def _run_sync_close(db: Database) -> None:
    await db.session.run_sync(lambda session: session.close())


async def _connection_commit(db: Database) -> None:
    connection = await db.session.connection()
    await connection.commit()


async def _connection_rollback(db: Database) -> None:
    connection = await db.session.connection()
    await connection.rollback()


async def _session_begin(db: Database) -> None:
    async with db.session.begin():
        pytest.fail("begun")


BY_HAND: dict[str, Callable[[Database], Awaitable[object]]] = {
    "db.commit": lambda db: db.commit(),
    "db.rollback": lambda db: db.rollback(),
    "db.close": lambda db: db.close(),
    "session.commit": lambda db: db.session.commit(),
    "session.rollback": lambda db: db.session.rollback(),
    "session.close": lambda db: db.session.close(),
    "session.aclose": lambda db: db.session.aclose(),
    "session.reset": lambda db: db.session.reset(),
    "session.invalidate": lambda db: db.session.invalidate(),
    "session.begin": _session_begin,
    "run_sync commit": _run_sync_commit,
    "run_sync rollback": _run_sync_rollback,
    "run_sync close": _run_sync_close,
    "connection.commit": _connection_commit,
    "connection.rollback": _connection_rollback,
}
by_hand = pytest.mark.parametrize("by_hand", list(BY_HAND))


@by_hand
async def test_ending_by_hand_is_refused_in_a_block(db: Database, observer: Observer, by_hand: str) -> None:
    """Refused before anything happens: what fails later undoes all."""
    with pytest.raises(TransactionRefusedError, match="Fix:"):
        async with db.transaction():
            await db.session.execute(insert(Audit).values(note="lost"))
            await BY_HAND[by_hand](db)

    assert await observer.notes(Audit) == []


@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.NESTED])
async def test_ending_by_hand_that_was_refused_changes_nothing(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """The refusal condemns nothing: the block goes on and commits."""
    for end in BY_HAND.values():
        async with db.transaction(), db.transaction(propagation=propagation):
            await db.session.execute(insert(Audit).values(note="before"))
            with pytest.raises(TransactionRefusedError):
                await end(db)
            await db.session.execute(insert(Audit).values(note="after"))

    assert await observer.count(Audit) == 2 * len(BY_HAND)


@pytest.mark.parametrize("name", ["db.commit", "db.rollback", "db.close"])
async def test_ending_by_hand_needs_something_open(db: Database, name: str) -> None:
    """Outside of everything there is nothing to end."""
    with pytest.raises(NoTransactionError):
        await BY_HAND[name](db)


async def test_suspended_session_cannot_be_ended_by_hand(db: Database, observer: Observer) -> None:
    """Nor can the session of an outer block, from inside of another transaction."""
    async with db.transaction() as outer:
        outer.add(Audit(note="kept"))
        async with db.transaction(propagation=Propagation.REQUIRES_NEW):
            for end in (outer.commit, outer.rollback, outer.close):
                with pytest.raises(TransactionRefusedError):
                    await end()

    assert await observer.notes(Audit) == ["kept"]
