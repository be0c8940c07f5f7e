"""A list that is long enough to be sent as one value finds what a short one finds."""

# mypy: disable-error-code="empty-body"

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    REAL,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    TypeDecorator,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from unitwork import Base, Database, Repository, query


class Upper(UserDefinedType[str]):
    """Written and compared in upper case by the database."""

    cache_ok = True

    def get_col_spec(self, **_options: object) -> str:
        return "VARCHAR(20)"

    def bind_expression(self, bindvalue: Any) -> Any:  # noqa: ANN401  # as SQLAlchemy's
        return func.upper(bindvalue)


class Cut(TypeDecorator[str]):
    """A short text of its own."""

    impl = String(3)
    cache_ok = True


class Nothing(TypeDecorator[str]):
    """Stores None as a text."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: object) -> str:
        del dialect
        return "nothing" if value is None else value


class Listed(Base):
    """A column of each type whose values may be read otherwise in a list."""

    __abstract__ = True
    metadata = MetaData()


class Sorts(Listed):
    """On every database."""

    __tablename__ = "sorts"

    id: Mapped[int] = mapped_column(primary_key=True)
    upper: Mapped[str | None] = mapped_column(Upper)
    short: Mapped[str | None] = mapped_column(String(3))
    cut: Mapped[str | None] = mapped_column(Cut)
    hollow: Mapped[str | None] = mapped_column(Nothing)
    amount: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    number: Mapped[float | None] = mapped_column(Float)
    real: Mapped[float | None] = mapped_column(REAL)
    data: Mapped[bytes | None] = mapped_column(LargeBinary(20))


class Numbers(Base):
    """On PostgreSQL."""

    __abstract__ = True
    metadata = MetaData()


class Several(Numbers):
    """Holds lists itself."""

    __tablename__ = "several"

    id: Mapped[int] = mapped_column(primary_key=True)
    numbers: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))


class Queries(Repository[Sorts]):
    """Lists in text."""

    @query.sql("SELECT count(*) FROM sorts WHERE number IN :values")
    async def of_float(self, values: list[float]) -> int: ...

    @query.sql("SELECT count(*) FROM sorts WHERE data IN :values")
    async def of_data(self, values: list[bytes]) -> int: ...


ROW: dict[str, Any] = {
    "upper": "ab",
    "short": "abc",
    "cut": "abc",
    "hollow": None,
    "amount": Decimal("1.01"),
    "number": 0.5,
    "real": 0.1,
    "data": b"\x00\xff",
}
LISTS: dict[str, tuple[str, list[Any]]] = {
    "of what SQL makes of it": ("upper", ["Ab", "x"]),
    "with texts that are too long": ("short", ["abcd"]),
    "with texts of a type of its own that are too long": ("cut", ["abcd"]),
    "with None that is a text": ("hollow", ["x", None]),
    "with numbers that are too exact": ("amount", [Decimal("1.006")]),
    "with numbers of two types": ("amount", [Decimal("1.01"), 1]),
    "with floats and integers": ("number", [0.5, 1]),
    "of short floats": ("real", [0.1, 0.2]),
    "of bytes": ("data", [b"\x00\xff", b""]),
}


@pytest.mark.parametrize("name", LISTS)
async def test_long_list_finds_what_a_short_one_finds(db: Database, name: str) -> None:
    """Whatever a type makes of a value, or the database of one that is cast."""
    await db.create_all(Listed.metadata)
    sorts = Repository[Sorts](db)
    await sorts.add(Sorts(**ROW))
    attribute, values = LISTS[name]
    column: Any = getattr(Sorts, attribute)
    found: list[list[int]] = []
    for times in (1, 600):
        within, without = column.in_(values * times), column.not_in(values * times)
        found.append([await sorts.where(within).count(), await sorts.where(without).count()])
        async with db.transaction():
            found[-1].append(await sorts.where(within).update(upper="new"))
            db.set_rollback_only()

    assert found[1] == found[0]


@pytest.mark.only("sqlite", "postgresql", reason="MariaDB has no such numbers")
async def test_long_list_with_no_number(db: Database) -> None:
    """JSON has none of them."""
    await db.create_all(Listed.metadata)
    sorts = Repository[Sorts](db)
    await sorts.add(Sorts(**ROW))

    assert await sorts.where(Sorts.number.in_([0.5, float("inf"), float("nan")] * 600)).count() == 1


@pytest.mark.only("postgresql", reason="has arrays")
async def test_long_list_of_lists(db: Database) -> None:
    """An array of arrays would be one of their values."""
    await db.create_all(Numbers.metadata)
    several = Repository[Several](db)
    await several.add(Several(numbers=[1, 2]))

    assert await several.where(Several.numbers.in_([[1, 2], []] * 600)).count() == 1


async def test_long_list_in_text_finds_what_a_short_one_finds(db: Database) -> None:
    """Numbers of two types, and bytes."""
    await db.create_all(Listed.metadata)
    await Repository[Sorts](db).add(Sorts(**ROW))
    queries = Queries(db)

    found = [
        (await queries.of_float([0.5, 1] * times), await queries.of_data([b"\x00\xff", b""] * times))
        for times in (1, 600)
    ]

    assert found == [(1, 1), (1, 1)]
