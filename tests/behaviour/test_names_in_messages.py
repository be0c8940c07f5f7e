"""What blocks are called stands in whole sentences, whether they have a name of their own or not."""

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from unitwork import (
    Database,
    Propagation,
    TransactionEndedError,
    TransactionRefusedError,
)

HERE = r"\S*test_names_in_messages\.py:\d+"
MANDATORY = Propagation.MANDATORY


async def _in_a_block(db: Database) -> None:
    async with db.transaction():
        await db.commit()


async def _in_a_function(db: Database) -> None:
    @db.transactional
    async def register() -> None:
        await db.commit()

    await register()


async def _without_a_transaction(db: Database) -> None:
    async with db.transaction(propagation=MANDATORY):
        pass


async def _function_without_a_transaction(db: Database) -> None:
    @db.transactional(propagation=MANDATORY)
    async def register() -> None: ...

    await register()


@pytest.mark.parametrize(
    ("work", "sentence"),
    [
        (
            _in_a_block,
            rf"`commit` by hand on database 'default' is refused inside the transaction block at {HERE}\.",
        ),
        (
            _in_a_function,
            r"`commit` by hand on database 'default' is refused inside the transaction block \S+\.register\.",
        ),
        (
            _without_a_transaction,
            rf"The block at {HERE} has propagation MANDATORY, but no transaction is open\.",
        ),
        (
            _function_without_a_transaction,
            rf"{re.escape(__name__)}\.\S+\.register has propagation MANDATORY, but no transaction is open\.",
        ),
    ],
)
async def test_refusal_says_in_one_sentence_where(
    db: Database, work: Callable[[Database], Awaitable[None]], sentence: str
) -> None:
    """Neither is a word said twice, nor does a sentence begin in the middle."""
    with pytest.raises(TransactionRefusedError) as caught:
        await work(db)

    assert re.fullmatch(sentence, str(caught.value).splitlines()[0])


async def test_session_that_was_handed_back_is_called_by_its_own_name(db: Database) -> None:
    """It was adopted, and is not the session of another one."""
    go_on = asyncio.Event()

    async def outlive() -> None:
        async with db.transaction():
            await go_on.wait()
            await db.session.execute(text("SELECT 1"))

    async with db.session_factory() as session:
        async with db.adopt(session):
            task = asyncio.create_task(outlive())
            await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(TransactionEndedError) as caught:
            await task

    assert re.match(rf"The session adopted at {HERE} on database 'default' has ended\.", str(caught.value))
