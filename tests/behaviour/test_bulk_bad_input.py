"""A row that cannot be stored is named, and nothing of the call is stored."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from itertools import product
from typing import Any

import pytest
from sqlalchemy import JSON, func
from sqlalchemy.exc import DBAPIError, IntegrityError

from tests.fixtures.articles import (
    FEW,
    MANY,
    Article,
    Articles,
    Plain,
    Plains,
    articles,
    create_articles,
    plains,
)
from tests.fixtures.observer import Observer
from unitwork import Database, OptionError, RowError, TransactionRefusedError, UnexpectedRollbackError

RETURNING = pytest.mark.parametrize("returning", [True, False])

GOOD = {"number": "bad", "title": "x"}
BAD_ROWS: dict[str, tuple[Any, str, str]] = {
    "an unknown attribute": ({**GOOD, "titel": "x"}, "titel", "is no attribute of Article"),
    "a column's name": ({"nr": "1", "title": "x"}, "nr", "is no attribute of Article"),
    "a missing attribute": ({"number": "bad"}, "title", "is missing"),
    "None where a value must be": ({**GOOD, "title": None}, "title", "must have a value"),
    "text for a number": ({**GOOD, "shop": "7"}, "shop", "holds int, not str"),
    "a number for text": ({**GOOD, "title": 7}, "title", "holds str, not int"),
    "text for a date": ({**GOOD, "day": "2024-01-01"}, "day", "holds date, not str"),
    "text for a UUID": ({**GOOD, "token": "abc"}, "token", "holds UUID, not str"),
    "an unknown member": ({**GOOD, "colour": "GREEN"}, "colour", "takes one of BLUE, RED"),
    "what a type refuses": ({**GOOD, "sold_at": dt.datetime(2024, 1, 1)}, "sold_at", "does not take"),  # noqa: DTZ001  # that is the point
    "what JSON refuses": ({**GOOD, "details": {1, 2}}, "details", "does not take"),
    "a SQL expression": ({**GOOD, "shop": func.length("x")}, "shop", "not a SQL expression"),
    "an attribute": ({**GOOD, "details": Article.number}, "details", "not a SQL expression"),
    "JSON's null for a number": ({**GOOD, "shop": JSON.NULL}, "shop", "holds int, not symbol"),
    "no row": ("abc", "", "is of type str"),
}


@pytest.fixture(autouse=True)
async def _tables(db: Database) -> None:
    await create_articles(db)


@RETURNING
async def test_bad_row_is_named(db: Database, observer: Observer, *, returning: bool) -> None:
    """The error tells the row, counted from 1, the attribute and what is wrong; few rows and many."""
    for count, (row, attribute, problem) in product((FEW, MANY), BAD_ROWS.values()):
        rows = [*articles(count), row, *articles(2 * count, count)]
        with pytest.raises(RowError) as caught:
            await Articles(db).bulk_insert(rows, returning=returning, batch_rows=50)

        assert (caught.value.row, caught.value.attribute) == (count + 1, attribute)
        assert problem in caught.value.problem
    assert await observer.count(Article) == 0


async def test_bad_row_far_behind_is_named(db: Database, observer: Observer) -> None:
    """Row 7,392 of a generator is named, and none of those before it is stored."""

    def rows() -> Iterator[dict[str, Any]]:
        yield from plains(7391)
        yield {"id": "7391", "name": "x"}

    with pytest.raises(RowError, match=r"^Row 7,392 cannot be stored: attribute 'id' holds int, not str\."):
        await Plains(db).bulk_insert(rows(), returning=False)

    assert await observer.count(Plain) == 0


async def test_tuples_of_wrong_length_are_named(db: Database) -> None:
    """A tuple must have one value for each column."""
    with pytest.raises(RowError, match="Row 2 cannot be stored: it has 3 values for 2 columns"):
        await Plains(db).bulk_insert([(1, "a"), (2, "b", "c")], columns=["id", "name"])
    with pytest.raises(OptionError, match="columns"):
        await Plains(db).bulk_insert([(1, "a")])


@pytest.mark.only("postgresql", reason="the others do not tell which row it was")
async def test_database_error_tells_the_row(db: Database) -> None:
    """What only the database can know is still told with its row and attribute."""
    with pytest.raises(DBAPIError) as caught:
        await Plains(db).bulk_insert(
            [*plains(MANY), {"id": 5000, "name": "x" * 201}], returning=False, batch_rows=50
        )
    assert f"In row {MANY + 1}, attribute 'name'." in caught.value.__notes__

    with pytest.raises(IntegrityError) as broken:
        await Plains(db).bulk_insert([*plains(MANY), {"id": 5000, "name": "n0"}], returning=False)
    assert f"In row {MANY + 1}." in broken.value.__notes__


@RETURNING
async def test_error_of_the_generator_stores_nothing(
    db: Database, observer: Observer, *, returning: bool
) -> None:
    """What a generator raises arrives as it is, and none of its rows is stored."""

    def rows() -> Iterator[dict[str, Any]]:
        yield from plains(MANY)
        raise ZeroDivisionError("of the caller's own")

    with pytest.raises(ZeroDivisionError, match="own"):
        await Plains(db).bulk_insert(rows(), returning=returning, batch_rows=20)

    assert await observer.count(Plain) == 0


@RETURNING
async def test_block_that_swallows_the_error_of_a_generator_hears_who_failed(
    db: Database, observer: Observer, *, returning: bool
) -> None:
    """The call whose rows it makes, half of which was sent: not the block around."""
    name = "tests.fixtures.articles.Plains.bulk_insert"

    def rows() -> Iterator[dict[str, Any]]:
        yield from plains(MANY)
        raise ZeroDivisionError

    with pytest.raises(UnexpectedRollbackError, match=rf"Failed block: {name} \(raised ZeroDivisionError\)"):
        async with db.transaction():
            with pytest.raises(ZeroDivisionError):
                await Plains(db).bulk_insert(rows(), returning=returning, batch_rows=20)
            with pytest.raises(TransactionRefusedError, match=rf"Failed in: {name} \(ZeroDivisionError\)"):
                await Plains(db).count()

    assert await observer.count(Plain) == 0


async def test_error_of_an_async_generator_stores_nothing(db: Database, observer: Observer) -> None:
    """The same of an async generator, and it is closed."""
    closed = asyncio.Event()

    async def rows() -> AsyncIterator[dict[str, Any]]:
        try:
            for row in plains(MANY):
                yield row
            raise ZeroDivisionError
        finally:
            closed.set()

    with pytest.raises(ZeroDivisionError):
        await Plains(db).bulk_insert(rows(), returning=False, batch_rows=20)

    assert closed.is_set()
    assert await observer.count(Plain) == 0


async def test_swallowed_failure_condemns_the_transaction(db: Database, observer: Observer) -> None:
    """Half of the rows never commit, also when the error is swallowed."""
    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction():
            await Plains().bulk_insert([{"id": 1000, "name": "before"}])
            with pytest.raises(RowError):
                await Plains().bulk_insert([*plains(MANY), {"id": "x", "name": ""}], batch_rows=20)
            with pytest.raises(TransactionRefusedError):
                await Plains().count()

    assert await observer.count(Plain) == 0


async def test_failure_before_anything_is_sent_condemns_nothing(db: Database, observer: Observer) -> None:
    """What is refused at once leaves the transaction whole."""
    async with db.transaction():
        await Plains().bulk_insert([{"id": 1000, "name": "before"}])
        with pytest.raises(RowError):
            await Plains().bulk_insert([*plains(MANY), {"id": "x", "name": ""}], returning=False)

    assert await observer.values(Plain, "name") == ["before"]


async def test_failure_in_a_savepoint_leaves_the_rest(db: Database, observer: Observer) -> None:
    """What may fail alone goes in a NESTED block, as everywhere."""
    async with db.transaction():
        await Plains().bulk_insert([{"id": 1000, "name": "n5"}])
        with pytest.raises(IntegrityError):
            async with db.transaction(propagation="NESTED"):
                await Plains().bulk_insert(list(plains(MANY)), returning=False)
        await Plains().bulk_insert([{"id": 1001, "name": "after"}])

    assert await observer.values(Plain, "name") == ["after", "n5"]


async def test_read_only_block_refuses_bulk_writes(db: Database, observer: Observer) -> None:
    """COPY is a write like any other."""
    async with db.transaction():
        async with db.transaction(read_only=True):
            with pytest.raises(TransactionRefusedError):
                await Plains().bulk_insert(list(plains(MANY)), returning=False)

    assert await observer.count(Plain) == 0


async def test_cancelled_load_stores_nothing(db: Database, observer: Observer) -> None:
    """Wherever a cancellation strikes, all or nothing is stored, and the connection comes back."""
    halfway = asyncio.Event()

    async def rows() -> AsyncIterator[dict[str, Any]]:
        for row in plains(MANY):
            yield row
        halfway.set()
        await asyncio.sleep(60)

    load = asyncio.create_task(Plains(db).bulk_insert(rows(), returning=False, batch_rows=20))
    await halfway.wait()
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load

    assert await observer.count(Plain) == 0
    assert db.pool_status().checked_out == 0


async def test_load_cancelled_while_it_sends_stores_nothing(db: Database, observer: Observer) -> None:
    """The same in the middle of the statement itself."""

    async def work() -> None:
        def on_progress(done: int, _total: int | None) -> None:
            if done == 3 * MANY:
                load.cancel()

        await Plains(db).bulk_insert(
            plains(100 * MANY), returning=False, batch_rows=MANY, on_progress=on_progress
        )

    load = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await load

    assert await observer.count(Plain) == 0
    assert await Plains(db).bulk_insert(list(plains(MANY)), returning=False) == MANY
