"""`durable=True` asserts that the block is outermost."""

import pytest

from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Propagation, TransactionRefusedError, transactional

INSIDE = [Propagation.REQUIRED, Propagation.REQUIRES_NEW, Propagation.NESTED]


async def test_durable_block_commits_as_outermost(db: Database, observer: Observer) -> None:
    """Outermost, it is a block like any other."""
    async with db.transaction(durable=True):
        db.session.add(Audit(note="kept"))

    assert await observer.notes(Audit) == ["kept"]


@pytest.mark.parametrize("propagation", list(Propagation))
async def test_durable_block_is_refused_inside_a_transaction(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """Refused on entry, whatever its propagation; the outer transaction is not harmed."""
    async with db.transaction():
        with pytest.raises(TransactionRefusedError):
            async with db.transaction(durable=True, propagation=propagation):
                pytest.fail("entered")
        db.session.add(Audit(note="kept"))

    assert await observer.notes(Audit) == ["kept"]


@pytest.mark.parametrize("around", INSIDE)
async def test_durable_function_is_refused_inside_any_block(db: Database, around: Propagation) -> None:
    """The decorator asserts the same, and names the function and the block around it."""

    @transactional(using=db, durable=True)
    async def charge() -> None:
        pytest.fail("called")

    async with db.transaction(propagation=around):
        with pytest.raises(TransactionRefusedError, match="charge"):
            await charge()


async def test_durable_block_may_hold_others(db: Database, observer: Observer) -> None:
    """What joins a durable block is as safe as the block."""
    async with db.transaction(durable=True):
        async with db.transaction():
            db.session.add(Audit(note="joined"))
        async with db.transaction(propagation=Propagation.NESTED):
            db.session.add(Audit(note="nested"))

    assert await observer.notes(Audit) == ["joined", "nested"]


async def test_durable_block_follows_another(db: Database, observer: Observer) -> None:
    """One after the other is not one inside the other."""
    for number in ("1", "2"):
        async with db.transaction(durable=True):
            db.session.add(Audit(note=number))

    assert await observer.notes(Audit) == ["1", "2"]
