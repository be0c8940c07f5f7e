"""logging: one line for what is slow, fails or waits, with its numbers in the record and no values."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import structlog
from sqlalchemy import URL, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tests.fixtures.models import Account
from tests.fixtures.observer import Observer
from unitwork import Database, RetryPolicy, UnexpectedRollbackError
from unitwork.integrations.logging import Logging

SECRET = "swordfish"
pytestmark = pytest.mark.only("sqlite", reason="the same events on each database")


class BusyError(Exception):
    """What a driver says when the same work may succeed another time."""

    sqlite_errorname = "SQLITE_BUSY"


class Kept(logging.Handler):
    """Keeps all lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(record)


@contextmanager
def handled_by(handler: logging.Handler) -> Iterator[None]:
    """Give the lines of the library to a handler."""
    logger = logging.getLogger("unitwork")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.fixture
def lines() -> Iterator[list[logging.LogRecord]]:
    """What was written."""
    kept = Kept()
    with handled_by(kept):
        yield kept.lines


def told(lines: list[logging.LogRecord]) -> list[tuple[str, Any]]:
    """The logger and the kind of each line."""
    return [(line.name, vars(line)["kind"]) for line in lines]


async def test_slow_and_failing_work_is_told(db: Database, lines: list[logging.LogRecord]) -> None:
    """Statements and blocks above their limits, retries and unexpected rollbacks; without values."""
    attempts = list[int]()

    @db.transactional(retry=RetryPolicy(attempts=2, first_delay_s=0))
    async def unlucky() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise DBAPIError("SELECT 1", {}, BusyError())

    @db.transactional
    async def fails() -> None:
        raise ValueError(SECRET)

    @db.transactional
    async def swallows() -> None:
        with suppress(ValueError):
            await fails()

    db.observe(watches := Logging(slow_statement_s=0, slow_block_s=None))
    async with db.transaction():
        await db.session.execute(text(f"SELECT count(*) FROM account WHERE name = '{SECRET}'"))
    statement = lines[-2]
    await unlucky()
    retry = lines[-1]
    with pytest.raises(UnexpectedRollbackError):
        await swallows()
    db.unobserve(watches)
    db.observe(Logging(slow_statement_s=None, slow_block_s=0))
    async with db.transaction():
        pass

    assert told(lines) == [
        *[("unitwork.statements", "slow_statement")] * 3,
        ("unitwork.blocks", "retry"),
        ("unitwork.blocks", "unexpected_rollback"),
        ("unitwork.blocks", "slow_block"),
    ]
    fields = vars(statement)
    assert fields["statement"] == "SELECT count(*) FROM account WHERE name = ?"
    assert (fields["summary"], fields["database"], fields["error_type"]) == (
        "SELECT account",
        "default",
        None,
    )
    assert fields["duration_s"] > 0
    assert fields["opener"].rpartition(":")[0] == __file__
    assert statement.getMessage().endswith(
        f"(database 'default', block at {fields['opener'].rpartition('/')[2]})"
    )
    assert (vars(retry)["attempt"], vars(retry)["error_type"]) == (2, "DBAPIError")
    assert "unlucky" in retry.getMessage()
    assert "fails" in lines[-2].getMessage()
    assert vars(lines[-1])["outcome"] == "committed"
    assert SECRET not in repr([vars(line) for line in lines])


async def test_waits_are_told(database_url: URL, lines: list[logging.LogRecord]) -> None:
    """For a connection, in vain too, and for another task in the same session."""
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.05}
    limits = Logging(pool_wait_s=0, turn_wait_s=0, slow_block_s=None)
    async with Database(database_url, observers=[limits], **options) as db:
        async with db.transaction():
            both = (db.session.execute(select(Account)) for _ in range(2))
            await asyncio.gather(*both)
            with pytest.raises(PoolTimeoutError):
                await db.engine.connect().start()

    kinds = told(lines)
    assert ("unitwork.pool", "pool_wait") in kinds
    assert ("unitwork.pool", "pool_timeout") in kinds
    assert ("unitwork.turns", "turn_wait") in kinds
    assert vars(lines[0])["opened"]


async def test_block_that_stays_open_is_told_once(db: Database, lines: list[logging.LogRecord]) -> None:
    """With the line that opened it, while it is open; one that ends in time leaves no timer behind."""
    db.observe(Logging(open_block_s=0.001, slow_block_s=None))
    async with db.transaction():
        while not lines:  # noqa: ASYNC110  # a line sets no event
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.005)
    assert told(lines) == [("unitwork.blocks", "open_block")]
    assert vars(lines[0])["opener"].rpartition(":")[0] == __file__

    lines.clear()
    loop = asyncio.get_running_loop()
    db.observe(Logging(open_block_s=3600))
    async with db.transaction():
        timers = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]  # no public way
        assert timers
    assert all(handle.cancelled() for handle in timers)


class BrokenHandler(logging.Handler):
    """Fails at every line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Fail."""
        raise RuntimeError("the disk is full")


async def test_handler_that_fails_harms_nobody(db: Database, observer: Observer) -> None:
    """All is stored, and nothing stays open."""
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    with handled_by(BrokenHandler()):
        db.observe(Logging(slow_statement_s=0, slow_block_s=0, open_block_s=0, pool_wait_s=0))
        for name in ("ann", "bob"):
            async with db.transaction() as session:
                session.add(Account(name=name))
                await asyncio.sleep(0.001)

    assert await observer.names(Account) == ["ann", "bob"]


async def test_fields_reach_formatters(db: Database) -> None:
    """structlog, as other formatters of records, shows the fields as it shows its own."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    with handled_by(handler):
        db.observe(Logging(slow_statement_s=0, slow_block_s=None))
        async with db.transaction():
            await db.session.execute(select(Account))

    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert {line["kind"] for line in lines} == {"slow_statement"}
    assert "SELECT account" in [line["summary"] for line in lines]
    assert all(line["event"].startswith("A statement took ") for line in lines)
