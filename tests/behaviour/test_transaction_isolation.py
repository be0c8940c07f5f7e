"""`isolation=` is in force, refused where it cannot be, and never leaks."""

import asyncio
from contextlib import suppress

import pytest
from sqlalchemy import insert, select, text

from tests.fixtures.dialogue import Dialogue
from tests.fixtures.errors import StockError
from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Isolation, Propagation, TransactionRefusedError

SERVER_LEVELS = [Isolation.READ_COMMITTED, Isolation.REPEATABLE_READ, Isolation.SERIALIZABLE]
servers = pytest.mark.only("postgresql", "mariadb", reason="SQLite knows one level: SERIALIZABLE")


@servers
@pytest.mark.parametrize("level", SERVER_LEVELS)
@pytest.mark.parametrize("read_only", [True, False])
async def test_isolation_is_in_force(
    db: Database, dialogue: Dialogue, level: Isolation, *, read_only: bool
) -> None:
    """The database says that it runs at the level that was asked for."""
    async with db.transaction(isolation=level, read_only=read_only):
        told = await db.session.scalar(text(dialogue.isolation))

    assert told.upper().replace("-", " ") == level.value


@pytest.mark.parametrize("level", list(Isolation))
async def test_each_isolation_is_accepted(db: Database, observer: Observer, level: Isolation) -> None:
    """All four names work on every database; a stronger level may be given."""
    async with db.transaction(isolation=level):
        db.session.add(Audit(note="kept"))

    assert await observer.notes(Audit) == ["kept"]


@pytest.mark.parametrize("name", ["SERIALIZABLE", "serializable", "READ COMMITTED"])
async def test_isolation_may_be_a_name(db: Database, observer: Observer, name: str) -> None:
    """The name does as well as the member."""
    async with db.transaction(isolation=name):  # type: ignore[arg-type]  # names as people write them
        db.session.add(Audit(note="kept"))

    assert await observer.notes(Audit) == ["kept"]


async def test_repeatable_read_repeats(db: Database, observer: Observer) -> None:
    """The same question gets the same answer, whatever others commit."""
    async with db.transaction(isolation=Isolation.REPEATABLE_READ, read_only=True):
        first = list(await db.session.scalars(select(Audit.note)))
        await observer.run("INSERT INTO audit (note) VALUES ('new')")
        second = list(await db.session.scalars(select(Audit.note)))

    assert first == second == []


@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.NESTED, Propagation.MANDATORY])
async def test_other_isolation_is_refused_in_a_shared_transaction(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """A joined or nested block cannot change it; the refusal is on entry and condemns nothing."""
    async with db.transaction(isolation=Isolation.SERIALIZABLE):
        await db.session.execute(insert(Audit).values(note="kept"))
        with pytest.raises(TransactionRefusedError, match="READ COMMITTED"):
            async with db.transaction(isolation=Isolation.READ_COMMITTED, propagation=propagation):
                pytest.fail("entered")

    assert await observer.notes(Audit) == ["kept"]


@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.NESTED, Propagation.MANDATORY])
@pytest.mark.parametrize("inner", [None, Isolation.SERIALIZABLE])
async def test_absent_or_equal_isolation_joins(
    db: Database, observer: Observer, propagation: Propagation, inner: Isolation | None
) -> None:
    """Absent or equal fits."""
    async with db.transaction(isolation=Isolation.SERIALIZABLE):
        async with db.transaction(isolation=inner, propagation=propagation):
            db.session.add(Audit(note="kept"))

    assert await observer.notes(Audit) == ["kept"]


async def test_isolation_is_refused_deep_inside(db: Database) -> None:
    """It is the physical transaction that counts, however many blocks are between."""
    async with db.transaction(), db.transaction(propagation=Propagation.NESTED), db.transaction():
        with pytest.raises(TransactionRefusedError):
            async with db.transaction(isolation=Isolation.SERIALIZABLE):
                pytest.fail("entered")


@servers
async def test_requires_new_has_its_own_isolation(db: Database, dialogue: Dialogue) -> None:
    """The suspended transaction keeps its level, the new one has its own."""
    async with db.transaction(isolation=Isolation.SERIALIZABLE):
        async with db.transaction(propagation=Propagation.REQUIRES_NEW, isolation=Isolation.READ_COMMITTED):
            inner = await db.session.scalar(text(dialogue.isolation))
        outer = await db.session.scalar(text(dialogue.isolation))

    assert inner.upper().replace("-", " ") == "READ COMMITTED"
    assert outer.upper() == "SERIALIZABLE"


@pytest.mark.parametrize("end", ["returns", "raises", "cancelled"])
@pytest.mark.parametrize("read_only", [True, False])
async def test_isolation_does_not_leak_to_the_next_user(
    db: Database, dialogue: Dialogue, end: str, *, read_only: bool
) -> None:
    """However the block ends, the next user of its connection finds the database's own level."""
    async with db.transaction():
        before = await db.session.scalar(text(dialogue.settings))

    with suppress(StockError, TimeoutError):
        async with db.transaction(isolation=Isolation.SERIALIZABLE, read_only=read_only):
            await db.session.scalars(select(Audit))
            if end == "raises":
                raise StockError
            if end == "cancelled":
                async with asyncio.timeout(0.05):
                    await db.session.execute(text(dialogue.slow))

    async with db.transaction():
        after = await db.session.scalar(text(dialogue.settings))
    async with db.transaction(propagation=Propagation.NEVER):
        alone = await db.session.scalar(text(dialogue.settings))
    assert after == before == alone
