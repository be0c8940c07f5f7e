"""Bad input: one clear error at the earliest moment, with the fix."""

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, select
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import (
    Database,
    DatabaseChoiceError,
    MissingExtraError,
    OptionError,
    TransactionEndedError,
    TransactionRefusedError,
    transactional,
)

WRONG_OPTIONS: dict[str, dict[str, Any]] = {
    "propagation": {"propagation": "REQUIERD"},
    "propagation none": {"propagation": None},
    "propagation number": {"propagation": 3},
    "isolation": {"isolation": "SNAPSHOT"},
    "timeout zero": {"timeout": 0},
    "timeout negative": {"timeout": -1},
    "timeout text": {"timeout": "5"},
    "timeout nan": {"timeout": float("nan")},
    "timeout bool": {"timeout": True},
    "rollback_for": {"rollback_for": "ValueError"},
    "rollback_for instance": {"rollback_for": ValueError()},
    "no_rollback_for": {"no_rollback_for": (int,)},
}


@pytest.fixture
def unused() -> Database:
    """A Database that nothing connects to."""
    return Database("sqlite+aiosqlite:///nowhere/at/all.db", name="unused")


@pytest.mark.parametrize("wrong", list(WRONG_OPTIONS))
def test_wrong_option_of_a_block_is_refused_where_it_is_written(unused: Database, wrong: str) -> None:
    """Before anything is entered; the message lists what is allowed."""
    with pytest.raises(OptionError, match="Fix:"):
        unused.transaction(**WRONG_OPTIONS[wrong])


@pytest.mark.parametrize("wrong", list(WRONG_OPTIONS))
def test_wrong_option_of_the_decorator_is_refused_at_import(wrong: str) -> None:
    """The same at decoration, not at the first call."""
    with pytest.raises(OptionError, match="Fix:"):
        transactional(**WRONG_OPTIONS[wrong])


def test_wrong_option_is_a_value_error_that_lists_the_names(unused: Database) -> None:
    """What exists is in the message."""
    with pytest.raises(ValueError, match="REQUIRES_NEW"):
        unused.transaction(propagation="NEW")  # type: ignore[arg-type]  # on purpose


def test_unknown_keyword_is_a_type_error(unused: Database) -> None:
    """A misspelt keyword is refused like any other wrong argument."""
    with pytest.raises(TypeError, match="readonly"):
        unused.transaction(readonly=True)  # type: ignore[call-arg]  # on purpose
    with pytest.raises(TypeError, match="readonly"):
        transactional(readonly=True)  # type: ignore[call-overload]  # on purpose


async def test_using_a_name_that_does_not_exist_lists_those_that_do(db: Database) -> None:
    """At the call, because a Database may be made later."""

    @transactional(using="warehouse")
    async def work() -> None:
        pytest.fail("called")

    with pytest.raises(DatabaseChoiceError, match="warehouse") as caught:
        await work()

    assert db.name in str(caught.value)
    assert "Fix:" in str(caught.value)


async def test_second_live_database_of_a_name_is_refused() -> None:
    """Two live Databases cannot be given the same name; after dispose the name is free."""
    async with Database("sqlite+aiosqlite:///:memory:", name="shop"):
        with pytest.raises(DatabaseChoiceError, match="shop"):
            Database("sqlite+aiosqlite:///:memory:", name="shop")
    async with Database("sqlite+aiosqlite:///:memory:", name="shop") as again:
        await again.ping()
    await again.dispose()
    async with Database("sqlite+aiosqlite:///:memory:", name="shop"):
        pass


async def test_disposed_database_is_no_candidate(db: Database) -> None:
    """What was disposed of, used or not, once or twice, is not counted."""
    for times in (1, 2):
        other = Database("sqlite+aiosqlite:///:memory:")
        for _ in range(times):
            await other.dispose()

    @transactional
    async def work() -> Database:
        return db

    assert await work() is db


@pytest.mark.parametrize(
    ("module", "url", "fix"),
    [
        ("aiosqlite", "sqlite+aiosqlite://", "'unitwork[sqlite]'"),
        ("asyncpg", "postgresql+asyncpg://localhost/x", "'unitwork[asyncpg]'"),
        ("psycopg", "postgresql+psycopg://localhost/x", "'unitwork[psycopg]'"),
        ("asyncmy", "mysql+asyncmy://localhost/x", "'unitwork[mysql]'"),
        ("aiomysql", "mariadb+aiomysql://localhost/x", "aiomysql"),
    ],
)
def test_missing_driver_says_what_to_install(tmp_path: Path, module: str, url: str, fix: str) -> None:
    """When the Database is made, not at the first statement."""
    program = textwrap.dedent(f"""
        import sys
        sys.modules[{module!r}] = None
        from unitwork import Database, MissingExtraError
        try:
            Database({url!r})
        except MissingExtraError as error:
            print(error)
    """)

    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False
    )

    assert f"Fix: pip install {fix}\n" in ended.stdout, ended.stderr


def test_missing_driver_is_an_import_error() -> None:
    """People catch ImportError."""
    assert issubclass(MissingExtraError, ImportError)


@pytest.mark.parametrize("url", ["", "shop.db", "not a url", "://", "sqlite+aiosqlite:/shop.db"])
def test_url_that_cannot_be_read_is_refused_at_once(url: str) -> None:
    """SQLAlchemy's own error, from the constructor."""
    with pytest.raises(ArgumentError):
        Database(url, name="wrong")


@pytest.mark.parametrize("url", ["oracel://localhost/x", "postgresql+asyncgp://localhost/x"])
def test_url_of_an_unknown_database_is_refused_at_once(url: str) -> None:
    """SQLAlchemy's own error, from the constructor."""
    with pytest.raises(NoSuchModuleError):
        Database(url, name="wrong")


@pytest.mark.parametrize("url", ["sqlite:///shop.db", "sqlite+pysqlite:///shop.db"])
def test_url_of_a_synchronous_driver_names_an_async_one(url: str) -> None:
    """The error says which drivers are async."""
    with pytest.raises(Exception, match="async") as caught:
        Database(url, name="wrong")

    told = str(caught.value) + "\n".join(getattr(caught.value, "__notes__", []))
    assert "sqlite+aiosqlite" in told


def test_refused_database_does_not_keep_its_name() -> None:
    """What could not be made is not alive."""
    with pytest.raises(ArgumentError):
        Database("nonsense", name="shop")
    Database("sqlite+aiosqlite:///:memory:", name="shop")


async def test_database_that_cannot_be_opened_is_a_database_error() -> None:
    """A folder that does not exist: at the first statement, and nothing is left."""
    async with Database("sqlite+aiosqlite:////nowhere/at/all.db", name="nowhere") as db:
        for _ in range(2):
            with pytest.raises(DBAPIError):
                async with db.transaction():
                    await db.session.scalars(select(Audit))
        assert db.pool_status().checked_out == 0


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has no server")
async def test_server_that_is_down_is_an_error_that_hides_the_password(database_url: URL) -> None:
    """Making the Database sends nothing; the first statement fails, an empty block does not."""
    url = database_url.set(port=1, password="hunter2-hunter2")
    async with Database(url, name="down") as db:
        async with db.transaction():
            pass
        with pytest.raises((DBAPIError, OSError)) as caught:
            async with asyncio.timeout(10), db.transaction():
                db.session.add(Audit(note="x"))

        assert "hunter2" not in repr(db) + str(caught.value) + repr(getattr(caught.value, "__notes__", ""))
        assert db.pool_status().checked_out == 0


async def test_session_used_after_its_end_says_so(db: Database) -> None:
    """Names the block that it belonged to."""
    async with db.transaction() as session:
        pass

    with pytest.raises(TransactionEndedError, match="Fix:"):
        await session.scalars(select(Audit))


async def test_session_used_in_a_thread_says_so(db: Database, observer: Observer) -> None:
    """A thread has no event loop: refused, also for a session that was handed over."""
    async with db.transaction() as session:
        session.add(Audit(note="kept"))
        with pytest.raises(TransactionRefusedError, match="thread"):
            await asyncio.to_thread(lambda: db.session)
        with pytest.raises(TransactionRefusedError):
            await asyncio.to_thread(session.add, Account(name="lost"))

    assert await observer.names(Account) == []
    assert await observer.notes(Audit) == ["kept"]


async def test_session_used_in_another_loop_says_so(db: Database, observer: Observer) -> None:
    """Never 'attached to a different loop'."""
    async with db.transaction() as session:
        await session.scalars(select(Audit))

        def elsewhere() -> None:
            async def use() -> None:
                await session.scalars(select(Audit))

            asyncio.run(use())

        with pytest.raises(TransactionRefusedError, match="loop"):
            await asyncio.to_thread(elsewhere)
        session.add(Audit(note="kept"))

    assert await observer.notes(Audit) == ["kept"]


async def test_block_that_is_open_cannot_be_entered_again(db: Database, observer: Observer) -> None:
    """One block object is one `async with` at a time; the one that is open goes on."""
    block = db.transaction()
    async with block:
        with pytest.raises(TransactionRefusedError):
            async with block:
                pytest.fail("entered")
        db.session.add(Audit(note="kept"))

    assert await observer.notes(Audit) == ["kept"]


async def test_not_an_entity_is_sqlalchemys_error(db: Database, observer: Observer) -> None:
    """`add` of something else is refused as SQLAlchemy does, and condemns nothing."""
    async with db.transaction() as session:
        with pytest.raises(Exception, match="not mapped"):
            session.add("ann")
        session.add(Audit(note="kept"))

    assert await observer.notes(Audit) == ["kept"]


async def test_wrong_session_option_is_the_error_that_is_raised(database_url: URL) -> None:
    """A session that cannot be made: its own error, not one that follows from it."""
    async with Database(database_url, name="wrong", session_options={"nonsense": 1}) as db:
        with pytest.raises(TypeError, match="nonsense"):
            async with db.transaction():
                db.session.add(Audit(note="x"))
