"""A file of SQLite that others use at the moment when it is opened."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from unitwork import Database
from unitwork.observe import StatementLog

pytestmark = pytest.mark.only("sqlite", reason="its databases are files")

OPENED_BY_SIX = 10


async def read(db: Database) -> object:
    """Read in a block of its own."""
    async with db.transaction(read_only=True) as session:
        return await session.scalar(text("SELECT 1"))


async def test_opening_waits_for_who_reads_a_file_that_has_no_log_yet(tmp_path: Path) -> None:
    """The switch to the write-ahead log needs the file alone, and is waited for."""
    other = sqlite3.connect(tmp_path / "shop.db", isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE account (id INTEGER)")
    other.execute("BEGIN")
    other.execute("SELECT * FROM account").fetchall()
    db = Database(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")

    reading = asyncio.create_task(read(db))
    await asyncio.wait((reading,), timeout=0.2)
    other.execute("COMMIT")

    assert await reading == 1
    other.close()
    await db.dispose()


async def test_several_open_a_new_file_at_once(tmp_path: Path) -> None:
    """Processes that start together, and pools that open their first connections, meet on a new file."""
    for number in range(OPENED_BY_SIX):
        url = f"sqlite+aiosqlite:///{tmp_path / f'{number}.db'}"
        opening = [Database(url, name=f"shop{opened}") for opened in range(6)]

        assert await asyncio.gather(*map(read, opening)) == [1] * 6

        for db in opening:
            await db.dispose()


async def test_two_databases_share_an_engine_that_was_given(tmp_path: Path) -> None:
    """Each block begins once, whoever of them watches."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
    first, second = Database(engine, name="first"), Database(engine, name="second")

    async with first.transaction() as session:
        await session.execute(text("CREATE TABLE account (id INTEGER)"))
    with StatementLog(first) as log:
        async with second.transaction() as session:
            await session.execute(text("INSERT INTO account VALUES (1)"))
        async with first.transaction() as session:
            assert await session.scalar(text("SELECT count(*) FROM account")) == 1

    assert [sent.sql for sent in log.control].count("BEGIN IMMEDIATE") == 2
    await first.dispose()
