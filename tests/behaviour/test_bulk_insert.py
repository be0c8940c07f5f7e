"""Many rows are inserted at once, as the ORM would insert them one by one."""

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import pydantic
import pytest

from tests.fixtures.articles import (
    FEW,
    MANY,
    Article,
    Articles,
    Bike,
    Bus,
    Colour,
    Empty,
    Plain,
    Plains,
    Vehicle,
    articles,
    create_articles,
    plains,
)
from tests.fixtures.observer import Observer
from unitwork import Database, DeclarationError, OptionError, Repository

SIZES = pytest.mark.parametrize("count", [FEW, MANY])
RETURNING = pytest.mark.parametrize("returning", [True, False])
NOW = dt.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=dt.timezone(dt.timedelta(hours=2)))


@pytest.fixture(autouse=True)
async def _tables(db: Database) -> None:
    await create_articles(db)


@dataclass
class Line:
    """A row as a dataclass."""

    id: int
    name: str


class Named(NamedTuple):
    """A row as a named tuple."""

    id: int
    name: str


class Schema(pydantic.BaseModel):
    """A row as a Pydantic model."""

    id: int
    name: str


ROWS: dict[str, list[Any]] = {
    "mappings": [{"id": 1, "name": "a"}, {"name": "b", "id": 2}],
    "entities": [Plain(id=1, name="a"), Plain(id=2, name="b")],
    "dataclasses": [Line(1, "a"), Line(2, "b")],
    "named tuples": [Named(1, "a"), Named(2, "b")],
    "pydantic": [Schema(id=1, name="a"), Schema(id=2, name="b")],
    "a mixture": [{"id": 1, "name": "a"}, Line(2, "b")],
}


@RETURNING
async def test_bulk_insert_takes_rows_of_any_kind(db: Database, *, returning: bool) -> None:
    """Mappings, entities, dataclasses, tuples with names and Pydantic models are rows."""
    for kind, rows in ROWS.items():
        await Plains(db).bulk_insert(rows, returning=returning)

        stored = await Plains(db).select().order_by(Plain.id).all()
        assert [(row.id, row.name) for row in stored] == [(1, "a"), (2, "b")], kind
        await Plains(db).select().delete()


@SIZES
async def test_bulk_insert_takes_tuples_with_columns(db: Database, observer: Observer, count: int) -> None:
    """Plain tuples are rows when their attributes are named."""
    rows = [(f"n{n}", n) for n in range(count)]

    stored = await Plains(db).bulk_insert(rows, columns=["name", "id"], returning=False)

    assert stored == count
    assert await observer.values(Plain, "id") == list(range(count))


@SIZES
@RETURNING
async def test_bulk_insert_fills_in_what_the_orm_fills_in(
    db: Database, count: int, *, returning: bool
) -> None:
    """Defaults of Python, of SQL and of the server, types and names of columns are those of the ORM."""
    given = {
        "colour": Colour.BLUE,
        "details": {"a": [1, None, "ü\t\\"]},
        "price": Decimal("12.34"),
        "picture": b"\x00\\\t\n\xff",
        "day": dt.date(2024, 2, 29),
        "sold_at": NOW,
        "secret": "abc",
    }
    rows = [*articles(count), {"number": "full", "title": "tab\tand \\N\nline\r", **given}]

    await Articles(db).bulk_insert(rows, returning=returning)

    full = await Articles(db).find_by(number="full")
    bare = await Articles(db).find_by(number="a0")
    assert full is not None
    assert bare is not None
    assert {name: getattr(full, name) for name in given} == {**given, "sold_at": NOW.astimezone(dt.UTC)}
    assert full.title == "tab\tand \\N\nline\r"
    assert (bare.active, bare.colour, bare.details, bare.price) == (True, Colour.RED, {}, Decimal("1.50"))
    assert (bare.stock, bare.label, bare.made, bare.changes) == (7, "a0!", 4, 0)
    assert isinstance(bare.token, uuid.UUID)
    assert bare.token != full.token
    assert (bare.picture, bare.day, bare.sold_at, bare.secret) == (None, None, None, None)


@SIZES
async def test_bulk_insert_equals_add_all(db: Database, observer: Observer, count: int) -> None:
    """What is stored is byte for byte what the ORM stores."""
    values: dict[str, Any] = {
        "token": uuid.UUID(int=5),
        "details": {"k": 1.5},
        "sold_at": NOW,
        "secret": "x",
        "active": False,
    }
    await Articles(db).bulk_insert(list(articles(count, **values)), returning=False)
    async with db.transaction():
        db.session.add_all([Article(**{**row, "number": "b"}) for row in articles(1, **values)])

    columns = "active, token, colour, price, sold_at, secret, stock, made"
    pairs = await observer.column(f"SELECT count(*) FROM article GROUP BY {columns}")
    assert pairs == [count + 1]


@pytest.mark.parametrize("count", [FEW, MANY])
async def test_bulk_insert_returns_entities_in_the_order_of_the_rows(db: Database, count: int) -> None:
    """Rows with different attributes come back in their own order, with what the database filled in."""
    rows = [
        {**row, "shop": n} if n % 3 == 0 else {**row, "active": False} if n % 3 == 1 else row
        for n, row in enumerate(articles(count))
    ]

    async with db.transaction():
        entities = await Articles().bulk_insert(rows, batch_rows=10)

        assert [entity.number for entity in entities] == [row["number"] for row in rows]
        assert all(entity in db.session and entity.id and entity.stock == 7 for entity in entities)
        assert [entity.active for entity in entities] == [n % 3 != 1 for n in range(count)]


async def test_bulk_insert_of_different_rows_counts_all(db: Database, observer: Observer) -> None:
    """Rows that name different attributes are sent in groups."""
    rows = [{**row, "note": "x"} if row["id"] % 2 else row for row in plains(MANY)]

    assert await Plains(db).bulk_insert(rows, returning=False) == MANY
    assert await observer.scalar("SELECT count(*) FROM plain WHERE note = 'x'") == MANY // 2


@RETURNING
async def test_bulk_insert_leaves_none_to_the_database(db: Database, *, returning: bool) -> None:
    """None in a key that is counted up, or where the server has a default, is the same as nothing."""
    rows = [{**row, "id": None, "stock": None if n % 2 else 3} for n, row in enumerate(articles(MANY))]

    await Articles(db).bulk_insert(rows, returning=returning)

    assert await Articles(db).where(Article.stock == 7).count() == MANY // 2


@RETURNING
async def test_bulk_insert_of_nothing_sends_nothing(db: Database, *, returning: bool) -> None:
    """An empty list is no error, and needs no connection."""
    result = await Plains(db).bulk_insert([], returning=returning)

    assert result == ([] if returning else 0)
    assert db.pool_status().idle <= 1


async def test_bulk_insert_belongs_to_the_open_transaction(db: Database, observer: Observer) -> None:
    """Rows go with the block around them, also when they are the first statement of it."""
    with pytest.raises(ZeroDivisionError):
        async with db.transaction():
            await Plains().bulk_insert(list(plains(MANY)), returning=False)
            raise ZeroDivisionError
    assert await observer.count(Plain) == 0

    async with db.transaction():
        await Plains().bulk_insert(list(plains(MANY)), returning=False)
        assert await observer.count(Plain) == 0
    assert await observer.count(Plain) == MANY


async def test_bulk_insert_sees_what_was_added_before(db: Database) -> None:
    """What waits in the session is sent first, as before a query."""
    async with db.transaction():
        db.session.add(Plain(id=5, name="n5"))

        stored = await Plains().bulk_insert(list(plains(MANY)), on_conflict="nothing", returning=False)

    assert stored == MANY - 1


async def test_bulk_insert_on_a_given_session_commits_nothing(db: Database, observer: Observer) -> None:
    """On a session of the caller's, the caller commits."""
    async with db.session_factory() as session:
        assert await Plains(session).bulk_insert(list(plains(MANY)), returning=False) == MANY
        assert await observer.count(Plain) == 0
        await session.rollback()
        await Plains(session).bulk_insert(list(plains(FEW)))
        await session.commit()

    assert await observer.count(Plain) == FEW


async def test_failed_bulk_insert_leaves_a_given_session_usable(db: Database, observer: Observer) -> None:
    """A session of the caller's goes back to before the failed rows, and no further."""
    async with db.session_factory() as session:
        await Plains(session).bulk_insert([{"id": 1000, "name": "before"}])
        with pytest.raises(ValueError, match="Row 101"):
            await Plains(session).bulk_insert([*plains(100), {"id": "x", "name": "y"}], batch_rows=20)
        await session.commit()

    assert await observer.values(Plain, "name") == ["before"]


async def test_bulk_insert_reads_a_generator_as_it_sends(db: Database) -> None:
    """A generator is never held as a whole."""
    seen: list[int] = []
    ahead: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        for row in plains(500):
            ahead.append(row["id"] - (seen[-1] if seen else 0))
            yield row

    def on_progress(done: int, total: int | None) -> None:
        assert total is None
        seen.append(done)

    await Plains(db).bulk_insert(rows(), returning=False, batch_rows=50, on_progress=on_progress)

    assert seen == list(range(50, 501, 50))
    assert max(ahead) <= 100


async def test_bulk_insert_takes_an_async_generator_that_uses_the_session(db: Database) -> None:
    """Rows may be read from the very transaction that they are written in."""
    await Plains(db).bulk_insert(list(plains(MANY)), returning=False)

    async def rows() -> AsyncIterator[dict[str, Any]]:
        async for plain in Plains().select().order_by(Plain.id).stream(batch=10):
            yield {"number": plain.name, "title": "copied"}

    async with db.transaction():
        stored = await Articles().bulk_insert(rows(), returning=False, batch_rows=60)

    assert stored == await Articles(db).count() == MANY


@RETURNING
async def test_bulk_insert_tells_its_progress(db: Database, *, returning: bool) -> None:
    """Whoever asks is told how many rows are done, of how many."""
    told: list[tuple[int, int | None]] = []

    await Plains(db).bulk_insert(
        list(plains(25)),
        returning=returning,
        batch_rows=10,
        on_progress=lambda done, total: told.append((done, total)),
    )

    assert told == [(10, 25), (20, 25), (25, 25)]


async def test_parallel_bulk_inserts_in_one_transaction_take_turns(db: Database, observer: Observer) -> None:
    """Tasks of one block may each insert many rows."""
    async with db.transaction():
        await asyncio.gather(
            *(
                Plains().bulk_insert(list(plains(start + MANY, start)), returning=False, batch_rows=20)
                for start in (0, 1000, 2000)
            )
        )

    assert await observer.count(Plain) == 3 * MANY


@SIZES
@RETURNING
async def test_bulk_insert_minds_inheritance(db: Database, count: int, *, returning: bool) -> None:
    """Models in several tables, and those that share one, are stored as what they are."""
    await Repository[Bus](db).bulk_insert([{"name": "x", "seats": 9}] * count, returning=returning)
    await Repository[Bike](db).bulk_insert([{"name": "y", "gears": 3}] * count, returning=returning)

    vehicles = await Repository[Vehicle](db).select().order_by(Vehicle.id).all()
    assert [type(vehicle) for vehicle in vehicles] == [Bus] * count + [Bike] * count
    assert await Repository[Bus](db).where(Bus.seats == 9).count() == count


async def test_several_tables_are_refused_where_one_is_needed(db: Database) -> None:
    """What one statement cannot say is refused at once."""
    buses = Repository[Bus](db)
    rows = [{"id": 1, "name": "x", "seats": 9}]

    with pytest.raises(DeclarationError, match="2 tables"):
        await buses.bulk_insert(rows, on_conflict="update")
    with pytest.raises(DeclarationError, match="2 tables"):
        await buses.bulk_update(rows)
    with pytest.raises(DeclarationError, match="2 tables"):
        await buses.bulk_delete([1])


@RETURNING
async def test_rows_without_any_attribute_are_rows(db: Database, *, returning: bool) -> None:
    """Where everything has a default, an empty mapping is a row."""
    stored = await Repository[Empty](db).bulk_insert([{}] * MANY, returning=returning)

    assert (len(stored) if isinstance(stored, list) else stored) == MANY
    assert await Repository[Empty](db).count() == MANY


OPTIONS: list[dict[str, Any]] = [
    {"batch_rows": 0},
    {"batch_rows": 100_001},
    {"on_conflict": "ignore"},
    {"index_elements": ["id"]},
    {"update": ["name"]},
    {"on_conflict": "update", "index_elements": "id"},
    {"on_conflict": "update", "index_elements": ["nr"]},
    {"on_conflict": "update", "update": ["nr"]},
    {"on_conflict": "nothing", "update": ["name"]},
]


async def test_options_that_cannot_be_are_refused(db: Database) -> None:
    """A value that an option does not have is refused at once."""
    for options in OPTIONS:
        with pytest.raises(OptionError):
            await Plains(db).bulk_insert(list(plains(1)), **options)
