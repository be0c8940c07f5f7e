"""What a test leaves open is found, and its owner is named."""

import asyncio

import pytest
from sqlalchemy import select

from tests.fixtures.models import Account
from unitwork import Database
from unitwork.testing import no_leaks


async def test_nothing_is_found_when_all_is_closed(db: Database) -> None:
    """Code that ends what it begins passes."""
    async with no_leaks(db):
        async with db.transaction() as session:
            session.add(Account(name="ann"))
        async with db.unit_of_work() as session:
            await session.scalar(select(1))


async def test_open_blocks_are_named(db: Database) -> None:
    """A block, a unit, and a connection that are still open are told, each by its line."""
    block, unit = db.transaction(), db.unit_of_work()
    with pytest.raises(AssertionError, match="leaves something open") as caught:
        async with no_leaks(db):
            session = await block.__aenter__()
            await session.scalar(select(1))
            await unit.__aenter__()
    await unit.__aexit__(None, None, None)
    await block.__aexit__(None, None, None)

    text = str(caught.value)
    assert "the block at" in text
    assert "the unit of work at" in text
    assert text.count("test_leaks.py") >= 3
    assert "1 connections" in text


async def test_open_connection_by_hand_is_told(db: Database) -> None:
    """So is a connection that belongs to no block, also under `rolled_back()`."""
    connection = db.engine.connect()
    with pytest.raises(AssertionError, match=r"1 connections .* by hand"):
        async with no_leaks(db):
            await connection.start()
    await connection.close()

    async with db.rolled_back():
        connection = db.engine.connect()
        with pytest.raises(AssertionError, match="Connection in use: a connection by hand in task"):
            async with no_leaks(db):
                await connection.start()
        await connection.close()


async def test_task_that_waits_for_its_turn_is_told(db: Database) -> None:
    """Who waits behind a transaction that is left open is told, with that transaction."""
    begun = asyncio.Event()
    end = asyncio.Event()

    async def hold() -> None:
        async with db.transaction() as session:
            await session.scalar(select(1))
            begun.set()
            await end.wait()

    async def wait() -> None:
        await begun.wait()
        async with db.transaction() as session:
            await session.scalar(select(1))

    async with db.rolled_back():
        with pytest.raises(AssertionError, match="Waits for its turn: the block at"):
            async with no_leaks(db):
                tasks = [asyncio.create_task(hold()), asyncio.create_task(wait())]
                await begun.wait()
                for _ in range(50):
                    await asyncio.sleep(0)
        end.set()
        await asyncio.gather(*tasks)


async def test_exception_of_the_test_wins(db: Database) -> None:
    """A failing test fails with its own exception."""
    block = db.transaction()
    with pytest.raises(ZeroDivisionError):
        async with no_leaks(db):
            await block.__aenter__()
            _ = 1 / 0
    await block.__aexit__(None, None, None)
