"""What a type of the program's own makes of None, it makes whichever way a row is stored."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator, UserDefinedType

from tests.fixtures.columns import Absent, Upper, Wordy
from unitwork import Base, Database, Repository, RowError


class Document(TypeDecorator[Any]):
    """JSON, whose own null stands for None, as the type inside has it."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: object) -> Any:  # noqa: ANN401  # JSON
        """As it is."""
        return value


class Expressed(TypeDecorator[str]):
    """Text, for which SQL puts a word where there is none."""

    impl = sa.String(20)
    cache_ok = True

    def bind_expression(self, bindvalue: Any) -> Any:  # noqa: ANN401  # SQL
        """By SQL."""
        return sa.func.coalesce(bindvalue, "none")


class Own(UserDefinedType[str]):
    """A type without another one inside."""

    cache_ok = True

    def get_col_spec(self, **_options: Any) -> str:
        """Text."""
        return "VARCHAR(20)"

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[str | None], str]:
        """None is a word."""
        return lambda value: "none" if value is None else value


METADATA = sa.MetaData()
KINDS: dict[str, tuple[Any, Any]] = {
    "wordy": (Wordy(), "a"),
    "absent": (Absent(), 7),
    "document": (Document(), {"a": 1}),
    "expressed": (Expressed(), "a"),
    "own": (Own(), "a"),
    "usual": (Upper(), "a"),
}


def _model(name: str, type_: Any, *, nullable: bool) -> Any:  # noqa: ANN401  # a type, a mapped class
    body = {
        "__tablename__": f"nones_{name}_{'nullable' if nullable else 'full'}",
        "__module__": __name__,
        "id": mapped_column(sa.Integer, primary_key=True, autoincrement=False),
        "value": mapped_column(type_, nullable=nullable),
    }
    parent = type("Parent", (Base,), {"__abstract__": True, "metadata": METADATA, "__module__": __name__})
    return type(f"Nones_{name}_{nullable}", (parent,), body)


MODELS = {
    (name, nullable): _model(name, type_, nullable=nullable)
    for name, (type_, _value) in KINDS.items()
    for nullable in (True, False)
}


class Vehicle(Base):
    """The first of two tables."""

    __tablename__ = "nones_vehicles"
    metadata = METADATA
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(sa.String(20))
    value: Mapped[Any | None] = mapped_column(Wordy(), nullable=True)
    other: Mapped[str | None] = mapped_column(sa.String(20), default="made")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}  # noqa: RUF012  # as SQLAlchemy has it


class Lorry(Vehicle):
    """A model that is stored in two tables."""

    __tablename__ = "nones_lorries"
    id: Mapped[int] = mapped_column(sa.ForeignKey("nones_vehicles.id"), primary_key=True)
    load: Mapped[Any] = mapped_column(Absent(), nullable=False)
    __mapper_args__ = {"polymorphic_identity": "lorry"}  # noqa: RUF012  # as SQLAlchemy has it


async def _stored(db: Database, model: Any, columns: tuple[str, ...]) -> list[Any]:  # noqa: ANN401  # a class
    """What the database itself has, past every type."""
    found = [sa.cast(getattr(model, name), sa.String(100)) for name in columns]
    async with db.transaction() as session:
        raw = [sa.type_coerce(each, sa.String) for each in found]
        return [tuple(row) for row in await session.execute(sa.select(*raw).order_by(model.id))]


REFUSED = "refused"


class Table:
    """One model, and the ways to store rows in it that all have the same value."""

    def __init__(self, db: Database, model: Any, row: dict[str, Any], full: dict[str, Any]) -> None:  # noqa: ANN401  # a class
        self._db = db
        self._model = model
        self._row = row
        self._full = full
        self._rows: Repository[Any] = Repository[model](db)

    def _many(self, count: int, given: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"id": number, **given} for number in range(count)]

    async def add(self) -> None:
        """The ORM's own."""
        await self._rows.add(self._model(id=0, **self._row))

    async def change(self) -> None:
        """The ORM's own, of a row that has a value."""
        await self._rows.add(self._model(id=0, **self._full))
        async with self._db.transaction() as session:
            entity = await session.get_one(self._model, 0)
            for name, value in self._row.items():
                setattr(entity, name, value)

    async def insert(self, count: int) -> None:
        """By the fastest way."""
        await self._rows.bulk_insert(self._many(count, self._row), returning=False)

    async def insert_returning(self, count: int) -> None:
        """As entities."""
        await self._rows.bulk_insert(self._many(count, self._row))

    async def upsert_new(self, count: int) -> None:
        """Rows that are not there."""
        await self._rows.bulk_insert(self._many(count, self._row), on_conflict="update", returning=False)

    async def upsert(self, count: int) -> None:
        """Rows that have a value."""
        await self._rows.bulk_insert(self._many(count, self._full), returning=False)
        await self._rows.bulk_insert(self._many(count, self._row), on_conflict="update", returning=False)

    async def update(self, count: int) -> None:
        """The same."""
        await self._rows.bulk_insert(self._many(count, self._full), returning=False)
        assert await self._rows.bulk_update(self._many(count, self._row)) == count

    async def outcome(self, stored: Awaitable[None], *names: str) -> Any:  # noqa: ANN401  # rows
        """What the database has after a call, or that it was refused; the table is empty again."""
        try:
            await stored
        except (RowError, sa.exc.DBAPIError):
            return REFUSED
        else:
            return await _stored(self._db, self._model, names)
        finally:
            async with self._db.transaction() as session:
                for table in reversed(METADATA.sorted_tables):
                    if table in sa.inspect(self._model).tables:
                        await session.execute(sa.delete(table))

    async def differences(self) -> dict[str, Any]:
        """The ways that store something else than the ORM does."""
        wrong: dict[str, Any] = {}
        new = await self.outcome(self.add(), "value")
        changed = await self.outcome(self.change(), "value")
        # An upsert may have to insert the row.
        upserted = REFUSED if new == REFUSED else changed
        for one, ways in (
            (new, (self.insert, self.insert_returning, self.upsert_new)),
            (changed, (self.update,)),
            (upserted, (self.upsert,)),
        ):
            for way in ways:
                for count in (1, 60):
                    found = await self.outcome(way(count), "value")
                    if found != (one if one == REFUSED else one * count):
                        wrong[f"{way.__name__} of {count}"] = (found[:2], one)
        return wrong


def _rows(value: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401  # of a type
    yield {"value": None}
    yield {}
    yield {"value": sa.null()}
    yield {"value": value}


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("kind", KINDS)
async def test_none_is_what_the_type_makes_of_it(db: Database, kind: str, *, nullable: bool) -> None:
    """As `add` stores None, nothing and `null()`, so does every bulk write, of few rows and of many."""
    await db.create_all(METADATA)
    value = KINDS[kind][1]
    tables = {str(row): Table(db, MODELS[kind, nullable], row, {"value": value}) for row in _rows(value)}
    assert {row: wrong for row, table in tables.items() if (wrong := await table.differences())} == {}


async def test_none_in_several_tables_is_what_the_types_make_of_it(db: Database) -> None:
    """A model that is stored in two tables is no other one."""
    await db.create_all(METADATA)
    names = ("value", "load", "other", "kind")
    rows: list[dict[str, Any]] = [
        {},
        {"value": None, "load": None, "other": None},
        {"value": sa.null(), "load": 7},
    ]
    for row in rows:
        table = Table(db, Lorry, row, {})
        expected = await table.outcome(table.add(), *names)
        assert expected != REFUSED
        for way in (table.insert, table.insert_returning):
            assert await table.outcome(way(1), *names) == expected
