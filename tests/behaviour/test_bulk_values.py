"""What is stored does not depend on the number of rows, on the driver, or on what Python makes of a value."""

import contextlib
import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Computed, DateTime, Identity, MetaData, Numeric, String, Text, text
from sqlalchemy.dialects.mysql import LONGTEXT
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped, mapped_column

from tests.fixtures.columns import PLACEHOLDERS
from tests.fixtures.observer import Observer
from unitwork import Base, Database, Repository, RowError
from unitwork.models import SoftDeleteMixin

COUNTS = (1, 49, 50, 120)
BOTH = pytest.mark.parametrize("returning", [True, False])


class OddBase(Base):
    """Tables that only this module has."""

    __abstract__ = True
    metadata = MetaData()


class Letter(OddBase):
    """Long texts."""

    __tablename__ = "letter"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str] = mapped_column(Text)
    long: Mapped[str | None] = mapped_column(Text().with_variant(LONGTEXT, "mysql"))


class Score(OddBase):
    """Numbers, and times with a zone."""

    __tablename__ = "score"

    id: Mapped[int] = mapped_column(primary_key=True)
    points: Mapped[float | None]
    wins: Mapped[int | None]
    won: Mapped[bool | None]
    rate: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    at: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))


class Rate(OddBase):
    """A key that the database rounds."""

    __tablename__ = "rate"

    code: Mapped[Decimal] = mapped_column(Numeric(10, 2), primary_key=True, autoincrement=False)
    n: Mapped[int]


class Subscriber(OddBase):
    """A second key that the database computes, and one that a migration has added."""

    __tablename__ = "subscriber"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    email: Mapped[str] = mapped_column(String(50))
    folded: Mapped[str] = mapped_column(String(50), Computed("lower(email)", persisted=True), unique=True)
    phone: Mapped[str | None] = mapped_column(String(20))


class Odd(OddBase):
    """Columns whose names hold what drivers take for placeholders."""

    __tablename__ = "odd"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    share: Mapped[str | None] = mapped_column("per%cent", String(20))
    other: Mapped[str | None] = mapped_column(PLACEHOLDERS, String(20))


class Ticket(OddBase):
    """A key that only the database may make."""

    __tablename__ = "ticket"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    seat: Mapped[int]


class Coupon(OddBase, SoftDeleteMixin):
    """A row that can be hidden."""

    __tablename__ = "coupon"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(20), unique=True)
    worth: Mapped[int]


class ListBase(Base):
    """Tables of PostgreSQL alone."""

    __abstract__ = True
    metadata = MetaData()


class Listed(ListBase):
    """A column that COPY is not used for."""

    __tablename__ = "listed"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tags: Mapped[list[str]] = mapped_column(ARRAY(String))


@pytest.fixture(autouse=True)
async def _tables(db: Database) -> None:
    await db.create_all(OddBase)


@pytest.mark.only("mariadb", reason="other databases have no such limit")
@pytest.mark.parametrize("count", [1, 60])
async def test_text_too_long_for_its_column_is_refused(db: Database, observer: Observer, count: int) -> None:
    """An update never cuts what does not fit, and a column that can hold the text gets all of it."""
    letters = Repository[Letter](db)
    await letters.bulk_insert([{"id": n, "body": "short"} for n in range(count)], returning=False)

    with pytest.raises(DBAPIError):
        await letters.bulk_update([{"id": n, "body": "x" * 70_000} for n in range(count)])
    assert await letters.bulk_update([{"id": n, "long": "y" * 70_000} for n in range(count)]) == count

    assert await observer.column("SELECT DISTINCT body FROM letter") == ["short"]
    assert await observer.column("SELECT DISTINCT length(`long`) FROM letter") == [70_000]


async def test_long_rows_are_sent_in_portions(db: Database, observer: Observer) -> None:
    """More than a server takes in one statement is no more than the caller may give; uneven rows, too."""
    letters = Repository[Letter](db)
    rows = [
        {"id": n, "body": "b", "long": "\N{GRINNING FACE}" * (90_000 if n < 50 else 1)} for n in range(500)
    ]

    assert await letters.bulk_insert(rows, returning=False) == 500
    assert await letters.bulk_update([{**row, "body": "c"} for row in rows]) == 500

    assert await observer.scalar("SELECT count(*) FROM letter WHERE body = 'c'") == 500


@pytest.mark.parametrize(
    ("name", "given", "right"),
    [
        ("points", True, 1.0),
        ("points", Decimal("0.5"), 0.5),
        ("points", 3, 3.0),
        ("wins", True, 1),
        ("won", 1, True),
        ("won", 2, None),
        ("rate", 0.25, Decimal("0.25")),
        ("rate", True, Decimal(1)),
    ],
)
@BOTH
async def test_number_is_stored_alike_by_all_ways(
    db: Database, name: str, given: object, right: object, *, returning: bool
) -> None:
    """A number of another class is stored as the column's, or refused by its name (None)."""
    scores = Repository[Score](db)
    outcomes: set[object] = set()
    for count in COUNTS:
        with contextlib.suppress(RowError):
            await scores.bulk_insert([{name: given}] * count, returning=returning)
        stored = await scores.all()
        outcomes |= {getattr(score, name) for score in stored} or {None}
        if stored:
            await scores.bulk_update([{"id": stored[0].id, name: given}])
            outcomes.add(getattr(await scores.get_one(stored[0].id), name))
        await scores.select().delete()
    assert outcomes == {right}


@BOTH
@pytest.mark.only("postgresql", reason="other databases keep no time zone")
async def test_time_without_its_zone_is_refused(db: Database, *, returning: bool) -> None:
    """Nobody can say what it means, however many rows there are."""
    scores = Repository[Score](db)
    naive = dt.datetime(2024, 1, 2, 3, 4, 5)  # noqa: DTZ001  # this is the point
    for count in COUNTS:
        with pytest.raises(RowError, match="needs a time zone"):
            await scores.bulk_insert([{"at": naive}] * count, returning=returning)
    assert await scores.count() == 0


@BOTH
@pytest.mark.parametrize("count", [2, 60])
@pytest.mark.only("postgresql", "mariadb", reason="SQLite keeps all digits")
async def test_keys_that_the_database_finds_equal_are_one(
    db: Database, count: int, *, returning: bool
) -> None:
    """Of rows whose keys are one for the database, the last one wins."""
    rates = Repository[Rate](db)
    codes = [
        *(Decimal(number) + Decimal("0.001") for number in range(count)),
        Decimal("0.002"),
        Decimal("0.003"),
    ]
    rows = [{"code": code, "n": n} for n, code in enumerate(codes)]

    await rates.bulk_insert(rows, on_conflict="update", returning=returning)
    assert (await rates.get_one(Decimal("0.00"))).n == count + 1

    await rates.bulk_update([{"code": Decimal("0.00"), "n": 5}, {"code": Decimal(0), "n": 8}])
    assert (await rates.get_one(Decimal("0.00"))).n == 8
    assert await rates.count() == count


@BOTH
@pytest.mark.parametrize("added", [False, True])
async def test_conflict_in_a_key_that_rows_do_not_name_is_an_error(
    db: Database, observer: Observer, *, returning: bool, added: bool
) -> None:
    """A computed key, or one that only the database knows: the row of somebody else stays as it was."""
    members = Repository[Subscriber](db)
    await members.bulk_insert([{"id": 1, "email": "ann@x.org", "phone": "1"}], returning=False)
    if added:
        async with db.engine.begin() as connection:
            await connection.execute(text("CREATE UNIQUE INDEX by_phone ON subscriber (phone)"))
    row = {"id": 2, "email": "new@x.org", "phone": "1"} if added else {"id": 2, "email": "ANN@x.org"}

    with pytest.raises(DBAPIError):
        await members.bulk_insert([row], on_conflict="update", returning=returning)

    assert await observer.column("SELECT email FROM subscriber") == ["ann@x.org"]


@pytest.mark.parametrize("count", [2, 60])
async def test_column_names_may_hold_anything(db: Database, count: int) -> None:
    """A percent sign or a colon is part of a name."""
    odds = Repository[Odd](db)

    def rows(value: str) -> list[dict[str, Any]]:
        return [{"id": n, "share": value, "other": value} for n in range(count)]

    for returning in (False, True):
        await odds.bulk_insert(rows("a%s"), returning=returning)
        await odds.bulk_insert(rows("b%"), on_conflict="update", returning=returning)
        assert {(odd.share, odd.other) for odd in await odds.all()} == {("b%", "b%")}
        assert await odds.bulk_update(rows("%(c)s")) == count
        assert {(odd.share, odd.other) for odd in await odds.all()} == {("%(c)s", "%(c)s")}
        await odds.select().delete()


@pytest.mark.only("postgresql", reason="others have no GENERATED ALWAYS")
@pytest.mark.parametrize("count", [3, 80])
async def test_key_that_only_the_database_makes_is_refused(
    db: Database, observer: Observer, count: int
) -> None:
    """COPY would take what INSERT refuses."""
    tickets = Repository[Ticket](db)
    with pytest.raises(DBAPIError):
        await tickets.bulk_insert([{"id": n, "seat": n} for n in range(count)], returning=False)

    assert await tickets.bulk_insert([{"seat": n} for n in range(count)], returning=False) == count
    assert await observer.scalar("SELECT count(*) FROM ticket") == count


@pytest.mark.only("psycopg", reason="only psycopg has a client encoding")
@pytest.mark.parametrize("count", [3, 80])
async def test_client_encoding_does_not_matter(db: Database, observer: Observer, count: int) -> None:
    """COPY sends UTF-8, and says so."""
    url = db.engine.url.update_query_dict({"client_encoding": "latin1"})
    async with Database(url, name="latin") as other:
        await Repository[Letter](other).bulk_insert(
            [{"id": n, "body": "Orléans"} for n in range(count)], returning=False
        )
    assert await observer.column("SELECT DISTINCT body FROM letter") == ["Orléans"]


@BOTH
@pytest.mark.parametrize("count", [1, 80])
async def test_upsert_brings_hidden_rows_back(db: Database, count: int, *, returning: bool) -> None:
    """What an upsert has stored can be read."""
    coupons = Repository[Coupon](db)
    await coupons.bulk_insert([{"code": f"c{n}", "worth": 1} for n in range(count)], returning=False)
    async with db.transaction():
        for coupon in await coupons.all():
            coupon.soft_delete()
    rows = [{"code": f"c{n}", "worth": 2} for n in range(count)]

    await coupons.bulk_insert(rows, on_conflict="update", index_elements=["code"], returning=returning)

    assert [coupon.worth for coupon in await coupons.all()] == [2] * count


@pytest.mark.only("postgresql", reason="others have no arrays")
@pytest.mark.parametrize("count", [1, 60])
async def test_rows_that_are_not_there_are_not_counted(db: Database, count: int) -> None:
    """Also where a driver does not count the rows of many UPDATEs."""
    await db.create_all(ListBase)
    listed = Repository[Listed](db)
    await listed.bulk_insert([{"id": n, "tags": ["a"]} for n in range(count)], returning=False)

    assert await listed.bulk_update([{"id": n, "tags": ["b"]} for n in range(2 * count)]) == count


async def test_update_without_values_changes_nothing(db: Database) -> None:
    """A form that changed nothing is no error, and nothing is sent."""
    coupons = Repository[Coupon](db)
    await coupons.bulk_insert([{"code": "a", "worth": 1}], returning=False)
    assert await coupons.where(Coupon.code == "a").update() == 0
