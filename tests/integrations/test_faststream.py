"""FastStream: each message is a unit of work, committed before its reply and its acknowledgement."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from faststream import BaseMiddleware, ExceptionMiddleware, StreamMessage
from faststream.exceptions import AckMessage, NackMessage
from faststream.nats import NatsBroker, TestNatsBroker
from sqlalchemy.exc import IntegrityError

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, NoTransactionError, Repository
from unitwork.integrations.faststream import UnitOfWorkMiddleware

TAKEN = "INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)"


class BrokenError(Exception):
    """What handlers raise here."""


def broker_of(db: Database, *outside: Any, atomic: bool = False) -> NatsBroker:
    """A broker whose messages are units of work."""
    return NatsBroker(middlewares=[*outside, UnitOfWorkMiddleware(db, atomic=atomic)])


async def test_message_is_one_transaction(db: Database, observer: Observer) -> None:
    """What a handler writes is stored when its reply is sent."""
    broker = broker_of(db)

    @broker.subscriber("create")
    async def create(name: str) -> int:
        db.session.add(Account(name=name))
        await db.session.flush()
        db.session.add(Audit(note=name))
        return await observer.count(Account)

    async with TestNatsBroker(broker):
        reply = await broker.request("ann", "create")

    assert await reply.decode() == 0
    assert (await observer.names(Account), await observer.notes(Audit)) == (["ann"], ["ann"])


@pytest.mark.parametrize("error", [BrokenError, AckMessage, NackMessage])
async def test_every_exception_rolls_back(db: Database, observer: Observer, error: type[Exception]) -> None:
    """An exception leaves nothing behind, whatever FastStream makes of it."""
    broker = broker_of(db)

    @broker.subscriber("fail")
    async def fail(name: str) -> None:
        db.session.add(Account(name=name))
        await db.session.flush()
        raise error

    async with TestNatsBroker(broker):
        try:
            await broker.publish("ann", "fail")
        except BrokenError:
            assert error is BrokenError

    assert await observer.names(Account) == []
    assert db.pool_status().checked_out == 0


async def test_error_that_becomes_a_reply_rolls_back(db: Database, observer: Observer) -> None:
    """An exception that other middleware turns into a reply leaves nothing behind."""
    answers = ExceptionMiddleware(publish_handlers={BrokenError: lambda: "sorry"})
    broker = broker_of(db, answers)

    @broker.subscriber("fail")
    async def fail(name: str) -> str:
        db.session.add(Account(name=name))
        await db.session.flush()
        raise BrokenError

    async with TestNatsBroker(broker):
        reply = await broker.request("ann", "fail")

    assert await reply.decode() == "sorry"
    assert await observer.names(Account) == []


@pytest.mark.parametrize(("atomic", "stored"), [(False, ["ann"]), (True, [])])
async def test_atomic_joins_the_blocks_of_a_message(
    db: Database, observer: Observer, stored: list[str], *, atomic: bool
) -> None:
    """Blocks inside commit by themselves, or stand and fall with the message."""
    broker = broker_of(db, atomic=atomic)

    @broker.subscriber("fail")
    async def fail(name: str) -> None:
        await Repository[Account](db).create(name=name)
        raise BrokenError

    async with TestNatsBroker(broker):
        with pytest.raises(BrokenError):
            await broker.publish("ann", "fail")

    assert await observer.names(Account) == stored


class Acknowledgement(BaseMiddleware[Any, Any]):
    """Notes what is stored when a message is acknowledged, and what happens to it instead."""

    observer: Observer
    heard: list[tuple[str, list[str]]]

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: StreamMessage[Any]) -> Any:  # noqa: ANN401 - what the handler returns
        """Listen to the raw message."""

        def noting(word: str) -> Callable[..., Awaitable[None]]:
            async def note(**_options: object) -> None:
                self.heard.append((word, await self.observer.names(Account)))

            return note

        for word in ("ack", "nak", "term"):
            setattr(msg.raw_message, word, noting(word))
        return await call_next(msg)


@pytest.fixture
def heard(observer: Observer) -> list[tuple[str, list[str]]]:
    """What happened to messages, and what was stored then."""
    Acknowledgement.observer = observer
    Acknowledgement.heard = []
    return Acknowledgement.heard


async def test_commit_comes_before_the_acknowledgement(
    db: Database, heard: list[tuple[str, list[str]]]
) -> None:
    """A message is acknowledged when its work is stored, so that no crash between loses it."""
    broker = broker_of(db, Acknowledgement)

    @broker.subscriber("create", stream="shop")
    async def create(name: str) -> None:
        db.session.add(Account(name=name))

    async with TestNatsBroker(broker):
        await broker.publish("ann", "create", stream="shop")

    assert heard == [("ack", ["ann"])]


async def test_failing_commit_is_the_error_of_the_message(
    db: Database, observer: Observer, heard: list[tuple[str, list[str]]]
) -> None:
    """A COMMIT that fails is raised as if the handler had, and the message is not acknowledged."""
    await observer.run(TAKEN)
    broker = broker_of(db, Acknowledgement)

    @broker.subscriber("create", stream="shop")
    async def create(name: str) -> None:
        db.session.add(Account(name=name))

    async with TestNatsBroker(broker):
        with pytest.raises(IntegrityError):
            await broker.publish("ann", "create", stream="shop")

    assert [word for word, _ in heard] == ["term"]
    assert await observer.names(Account) == ["ann"]


async def test_message_that_needs_no_database_costs_nothing(db: Database) -> None:
    """No connection is opened for a message that never asks for one; outside, there is no session."""
    broker = broker_of(db)

    @broker.subscriber("add")
    async def add(numbers: list[int]) -> int:
        return sum(numbers)

    async with TestNatsBroker(broker):
        reply = await broker.request([1, 2], "add")

    assert await reply.decode() == 3
    assert (db.pool_status().checked_out, db.pool_status().idle) == (0, 0)
    with pytest.raises(NoTransactionError):
        _ = db.session


async def test_many_messages_at_once_each_have_their_own(db: Database, observer: Observer) -> None:
    """Messages at the same time never see each other's session."""
    broker = broker_of(db)

    @broker.subscriber("create")
    async def create(number: int) -> None:
        db.session.add(Account(name=str(number)))
        await db.session.flush()
        if number % 2:
            raise BrokenError

    async with TestNatsBroker(broker):
        sent = [broker.publish(number, "create") for number in range(20)]
        await asyncio.gather(*sent, return_exceptions=True)

    assert set(await observer.names(Account)) == {str(number) for number in range(0, 20, 2)}
