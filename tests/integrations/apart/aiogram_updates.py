"""aiogram: each update is a unit of work. Run by test_aiogram.py, where aiogram is installed."""

import asyncio
import datetime as dt
from typing import Any

import pytest
from aiogram import Bot, Dispatcher
from aiogram.types import Chat, ErrorEvent, Message, Update
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, NoTransactionError, Repository
from unitwork.integrations.aiogram import UnitOfWorkMiddleware

TAKEN = "INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)"
BOT = Bot("42:TEST")


class BrokenError(Exception):
    """What handlers raise here."""


def dispatcher_of(db: Database, *, atomic: bool = False) -> Dispatcher:
    """A dispatcher whose updates are units of work."""
    dispatcher = Dispatcher()
    dispatcher.update.outer_middleware(UnitOfWorkMiddleware(db, atomic=atomic))
    return dispatcher


async def say(dispatcher: Dispatcher, text: str) -> Any:  # noqa: ANN401 - what a handler returns
    """Give the dispatcher a message, as polling and webhooks do."""
    chat = Chat(id=1, type="private")
    message = Message(message_id=1, date=dt.datetime.now(dt.UTC), chat=chat, text=text)
    return await dispatcher.feed_update(BOT, Update(update_id=1, message=message))


async def test_update_is_one_transaction(db: Database, observer: Observer) -> None:
    """A handler is given the ambient session; what it writes is stored when it has returned."""
    dispatcher = dispatcher_of(db)

    @dispatcher.message()
    async def create(message: Message, session: AsyncSession) -> tuple[bool, int]:
        session.add(Account(name=message.text))
        await session.flush()
        return session is db.session, await observer.count(Account)

    assert await say(dispatcher, "ann") == (True, 0)
    assert await observer.names(Account) == ["ann"]


async def test_error_that_aiogram_swallows_rolls_back(db: Database, observer: Observer) -> None:
    """An error handler answers; what had been written is gone, and it may write on its own."""
    dispatcher = dispatcher_of(db)

    @dispatcher.message()
    async def fail(message: Message, session: AsyncSession) -> None:
        session.add(Account(name=message.text))
        await session.flush()
        raise BrokenError

    @dispatcher.errors()
    async def apologise(event: ErrorEvent) -> str:
        async with db.transaction() as session:
            session.add(Audit(note=type(event.exception).__name__))
        return "sorry"

    assert await say(dispatcher, "ann") == "sorry"
    assert (await observer.names(Account), await observer.notes(Audit)) == ([], ["BrokenError"])
    assert db.pool_status().checked_out == 0


async def test_error_that_nobody_handles_rolls_back(db: Database, observer: Observer) -> None:
    """An exception leaves nothing behind."""
    dispatcher = dispatcher_of(db)

    @dispatcher.message()
    async def fail(message: Message, session: AsyncSession) -> None:
        session.add(Account(name=message.text))
        await session.flush()
        raise BrokenError

    with pytest.raises(BrokenError):
        await say(dispatcher, "ann")

    assert await observer.names(Account) == []


async def test_failing_commit_is_the_error_of_the_update(db: Database, observer: Observer) -> None:
    """A COMMIT that fails reaches the error handlers as if the handler had raised it."""
    await observer.run(TAKEN)
    dispatcher = dispatcher_of(db)

    @dispatcher.message()
    async def create(message: Message, session: AsyncSession) -> str:
        session.add(Account(name=message.text))
        return "done"

    @dispatcher.errors()
    async def tell(event: ErrorEvent) -> bool:
        return isinstance(event.exception, IntegrityError)

    assert await say(dispatcher, "ann") is True
    assert await observer.names(Account) == ["ann"]


@pytest.mark.parametrize(("atomic", "stored"), [(False, ["ann"]), (True, [])])
async def test_atomic_joins_the_blocks_of_an_update(
    db: Database, observer: Observer, stored: list[str], *, atomic: bool
) -> None:
    """Blocks inside commit by themselves, or stand and fall with the update."""
    dispatcher = dispatcher_of(db, atomic=atomic)

    @dispatcher.message()
    async def fail(message: Message) -> None:
        await Repository[Account](db).create(name=message.text)
        raise BrokenError

    with pytest.raises(BrokenError):
        await say(dispatcher, "ann")

    assert await observer.names(Account) == stored


async def test_update_that_needs_no_database_costs_nothing(db: Database) -> None:
    """No connection is opened for an update that nobody handles; outside, there is no session."""
    await say(dispatcher_of(db), "ann")

    assert (db.pool_status().checked_out, db.pool_status().idle) == (0, 0)
    with pytest.raises(NoTransactionError):
        _ = db.session


async def test_many_updates_at_once_each_have_their_own(db: Database, observer: Observer) -> None:
    """Updates at the same time never see each other's session."""
    dispatcher = dispatcher_of(db)

    @dispatcher.message()
    async def create(message: Message) -> None:
        db.session.add(Account(name=message.text))
        await db.session.flush()
        if int(message.text or 0) % 2:
            raise BrokenError

    await asyncio.gather(*(say(dispatcher, str(number)) for number in range(20)), return_exceptions=True)

    assert set(await observer.names(Account)) == {str(number) for number in range(0, 20, 2)}


async def test_several_databases(db: Database, observer: Observer) -> None:
    """Each has a unit and a parameter of its own."""
    async with Database("sqlite+aiosqlite:///:memory:", name="reports") as reports:
        await reports.create_all(Audit)
        dispatcher = Dispatcher()
        dispatcher.update.outer_middleware(UnitOfWorkMiddleware([db, reports]))

        @dispatcher.message()
        async def write(
            message: Message, default_session: AsyncSession, reports_session: AsyncSession
        ) -> None:
            default_session.add(Audit(note=message.text))
            reports_session.add(Audit(note=message.text))

        await say(dispatcher, "x")
        async with reports.transaction() as session:
            stored = list(await session.scalars(select(Audit.note)))

    assert (stored, await observer.notes(Audit)) == (["x"], ["x"])
