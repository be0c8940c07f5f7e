"""A test can demand how many statements its code sends, and hears which line sent them."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from sqlalchemy import select

from tests.fixtures.models import Account, Audit, Order
from unitwork import Database, OptionError, Repository
from unitwork.testing import assert_no_repeats, assert_queries, no_leaks, statements

HERE = "test_statements.py"


async def test_recorder_keeps_what_was_asked(db: Database) -> None:
    """Statements are kept in order, on one line, with the code that sent them; BEGIN and COMMIT are not."""
    with statements(db) as sent:
        async with db.transaction() as session:
            session.add(Account(name="ann"))
            await session.flush()
            await session.scalar(select(Account.name))
    await Repository[Account](db).count()

    assert len(sent) == 2
    assert sent.count("insert") == 1
    assert sent.texts[1] == "SELECT account.name FROM account"
    assert all(HERE in statement.sent_by for statement in sent)
    assert sent[0].sent_by != sent[1].sent_by


async def test_recorder_without_a_database_means_all(db: Database) -> None:
    """`statements()` records every Database that is alive."""
    with statements() as sent:
        await Repository[Account](db).count()

    assert len(sent) == 1
    assert sent[0].database == db.name


async def test_recorder_sees_what_is_rolled_back(db: Database) -> None:
    """Under `rolled_back()` the same is counted as without: its savepoints are not the program's."""

    async def work() -> None:
        async with db.transaction() as session:
            session.add(Account(name="ann"))
        await Repository[Account](db).count()

    async with db.rolled_back():
        with statements(db) as inside:
            await work()
    with statements(db) as outside:
        await work()

    # A faster lane may ask for the key in the statement itself.
    asked = [[text.partition(" RETURNING")[0] for text in sent.texts] for sent in (inside, outside)]
    assert asked[0] == asked[1]
    assert all(HERE in statement.sent_by for statement in inside)


async def test_too_many_queries_are_listed(db: Database) -> None:
    """The message has the number, the limit, each statement and its line."""
    with pytest.raises(AssertionError, match=r"3 statements were sent, but at most 2") as caught:
        with assert_queries(db, max=2):
            for _ in range(3):
                await Repository[Account](db).count()

    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "FROM account" in lines[3]
    assert HERE in lines[3]


async def test_number_of_queries_may_be_exact(db: Database) -> None:
    """With `exactly`, too few are wrong as well."""
    with assert_queries(db, exactly=1):
        await Repository[Account](db).count()
    with pytest.raises(AssertionError, match="0 statements were sent, but 1"):
        with assert_queries(db, exactly=1):
            pass
    with pytest.raises(OptionError, match="exactly"):
        assert_queries(db)


@pytest.mark.parametrize(
    ("call", "fix"),
    [
        (lambda _db: assert_queries(cast("Any", 3)), "does not take 3[\\s\\S]*`max=3` or `exactly=3`"),
        (lambda db: assert_queries(db, cast("Any", 0)), "does not take 0[\\s\\S]*`max=0` or `exactly=0`"),
        (lambda _db: assert_no_repeats(cast("Any", 2)), "does not take 2[\\s\\S]*`at_most=2`"),
        (lambda db: statements(cast("Any", db.engine)), "Databases"),
        (lambda db: no_leaks(cast("Any", db.engine)), "Databases"),
    ],
    ids=["most", "after a Database", "repeats", "statements", "leaks"],
)
async def test_what_is_no_database_is_refused_in_the_words_of_the_call(
    db: Database, call: Callable[[Database], object], fix: str
) -> None:
    """A number by position is told by what it was meant for; nothing waits for `with` to be refused."""
    with pytest.raises(OptionError, match=fix):
        call(db)


async def test_exception_of_the_block_wins(db: Database) -> None:
    """What the code raises is not hidden by a complaint about its statements."""
    with pytest.raises(ZeroDivisionError):
        with assert_queries(db, max=0):
            await Repository[Account](db).count()
            _ = 1 / 0


async def test_repeated_statement_is_found(db: Database) -> None:
    """One SELECT for each row of another one is told with its number and the line that sent it."""
    accounts, orders = Repository[Account](db), Repository[Order](db)
    await accounts.add_all([Account(name=f"n{number}") for number in range(3)])

    with pytest.raises(AssertionError, match=r"more than once") as caught:
        with assert_no_repeats(db):
            for account in await accounts.all():
                await orders.all(select(Order).where(Order.account_id == account.id))
    text = str(caught.value)
    assert "3 times: SELECT" in text
    assert "selectinload" in text
    assert text.count(HERE) == 1

    with assert_no_repeats(db, at_most=3):
        for account in await accounts.all():
            await orders.all(select(Order).where(Order.account_id == account.id))
    with assert_no_repeats(db):
        await accounts.all()
        await Repository[Audit](db).all()
