"""NULL comes where an annotation has None; where it promises a value, it is an error that names both."""

# mypy: disable-error-code="empty-body"

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest
from sqlalchemy import JSON, MetaData, Select, func, select, text
from sqlalchemy.orm import Mapped, mapped_column

from tests.fixtures.people import Color, Person, Pet
from unitwork import (
    Base,
    CursorPage,
    CursorRequest,
    Database,
    Page,
    PageRequest,
    QueryDeclarationError,
    Repository,
    query,
)

pytestmark = pytest.mark.every_lane


@dataclass
class Aged:
    """A record whose age is promised."""

    name: str
    age: int


@dataclass
class Wider:
    """The same, where the age may be missing."""

    name: str
    age: int | None


@dataclass(kw_only=True)
class Colored:
    """In another order, by keyword, with a default."""

    color: Color = Color.RED
    name: str


class AgedTuple(NamedTuple):
    """A record that is a tuple."""

    age: int
    name: str


class AgedDict(TypedDict):
    """A record that is a dict."""

    name: str
    age: int


class AgedStruct(msgspec.Struct):
    """A record of msgspec."""

    name: str
    age: int


class AgedModel(pydantic.BaseModel):
    """A record that looks at its values itself."""

    name: str
    age: int


@pydantic.dataclasses.dataclass
class Zeroed:
    """A dataclass whose validators know what becomes of None."""

    name: str
    age: int

    @pydantic.field_validator("age", mode="before")
    @classmethod
    def none_is_zero(cls, value: int | None) -> int:
        """No age is no years."""
        return value or 0


class People(Repository[Person]):
    """Ann and Bob have an age, Cid has none."""

    @query("id >= :least")
    async def dataclasses(self, least: int) -> list[Aged]: ...

    @query("id >= :least")
    async def tuples(self, least: int) -> list[AgedTuple]: ...

    @query("id >= :least")
    async def typed_dicts(self, least: int) -> list[AgedDict]: ...

    @query("id >= :least")
    async def structs(self, least: int) -> list[AgedStruct]: ...

    @query("id >= :least")
    async def colors(self, least: int) -> list[Colored]: ...

    @query("id = :id")
    async def one(self, id: int) -> Aged: ...  # noqa: A002  # as the column

    @query("id = :id")
    async def maybe(self, id: int) -> Aged | None: ...  # noqa: A002  # as the column

    @query
    async def derived(self, *, id__gte: int) -> list[Aged]: ...

    @query("id >= :least")
    async def page(self, least: int, page: PageRequest) -> Page[Aged]: ...

    @query("id >= :least")
    async def walk(self, least: int, page: CursorRequest) -> CursorPage[Aged]: ...

    @query("id >= :least")
    def streamed(self, least: int) -> AsyncIterator[Aged]: ...

    @query("id >= :least")
    async def values(self, least: int) -> list[dict[str, str | int]]: ...

    @query("id >= :least")
    async def models(self, least: int) -> list[AgedModel]: ...

    @query("id >= :least")
    async def zeroed(self, least: int) -> list[Zeroed]: ...

    @query("id >= :least")
    async def wider(self, least: int) -> list[Wider]: ...

    @query("id >= :least AND age IS NOT NULL")
    async def without_null(self, least: int) -> list[Aged]: ...

    @query("id >= :least")
    async def entities(self, least: int) -> list[Person]: ...

    @query("id >= :least")
    async def anything(self, least: int) -> list[dict[str, Any]]: ...

    @query("id >= :least")
    async def how_many(self, least: int) -> int: ...

    @query("id >= :least")
    async def is_any(self, least: int) -> bool: ...

    @query.sql("SELECT max(age) FROM person WHERE id >= :least")
    async def sql_highest(self, least: int) -> int: ...

    @query.sql("SELECT max(age) FROM person WHERE id >= :least")
    async def sql_highest_or_none(self, least: int) -> int | None: ...

    @query.sql("SELECT age FROM person WHERE id >= :least ORDER BY id")
    async def sql_ages(self, least: int) -> list[int]: ...

    @query.sql("SELECT age FROM person WHERE id >= :least ORDER BY id")
    async def sql_ages_or_none(self, least: int) -> list[int | None]: ...

    @query.sql("SELECT age FROM person WHERE id >= :least ORDER BY id")
    def sql_streamed_ages(self, least: int) -> AsyncIterator[int]: ...

    @query.sql("SELECT age > 18 FROM person WHERE id >= :least")
    async def sql_truths(self, least: int) -> list[bool]: ...

    @query.sql("SELECT color FROM person WHERE id >= :least")
    async def sql_colors(self, least: int) -> list[Color]: ...

    @query.sql("SELECT CASE WHEN id < 3 THEN 'a' END FROM person WHERE id >= :least")
    async def sql_literals(self, least: int) -> list[Literal["a"]]: ...

    @query.sql("SELECT CASE WHEN id < 3 THEN 'a' END FROM person WHERE id >= :least")
    async def sql_literals_or_none(self, least: int) -> list[Literal["a"] | None]: ...

    @query.sql("SELECT age, name FROM person WHERE id >= :least")
    async def sql_dataclasses(self, least: int) -> list[Aged]: ...

    @query.sql("SELECT age, name FROM person WHERE id >= :least")
    async def sql_tuples(self, least: int) -> list[AgedTuple]: ...

    @query.sql("SELECT age, name FROM person WHERE id >= :least")
    async def sql_typed_dicts(self, least: int) -> list[AgedDict]: ...

    @query.sql("SELECT age, name FROM person WHERE id >= :least")
    async def sql_structs(self, least: int) -> list[AgedStruct]: ...

    @query.sql("SELECT color, name FROM person WHERE id >= :least")
    async def sql_colored(self, least: int) -> list[Colored]: ...

    @query.sql("SELECT age, id FROM person WHERE id >= :least")
    async def sql_numbers(self, least: int) -> list[dict[str, int]]: ...

    @query.sql("SELECT name, age FROM person WHERE id >= :least")
    async def sql_rows(self, least: int) -> list[tuple[str, int]]: ...

    @query.sql("SELECT id, age FROM person WHERE id >= :least")
    async def sql_long_rows(self, least: int) -> list[tuple[int, ...]]: ...

    @query.sql("SELECT name, age FROM person WHERE id >= :least")
    async def sql_rows_or_none(self, least: int) -> list[tuple[str, int | None]]: ...

    @query.sql("SELECT pet.name, 1 AS age FROM person LEFT JOIN pet ON pet.owner_id = person.id")
    async def sql_joined(self) -> list[Aged]: ...

    @query.scalar
    def built(self) -> Select[int | None]:
        return select(func.max(Person.age)).where(Person.id > 2)


Ask = Callable[[People, int], Awaitable[object]]
REFUSED: list[tuple[Ask, str]] = [
    (lambda people, least: people.dataclasses(least), "Aged.age promises int"),
    (lambda people, least: people.tuples(least), "AgedTuple.age promises int"),
    (lambda people, least: people.typed_dicts(least), "AgedDict.age promises int"),
    (lambda people, least: people.structs(least), "AgedStruct.age promises int"),
    (lambda people, least: people.colors(least), "Colored.color promises Color"),
    (lambda people, least: people.one(least), "Aged.age promises int"),
    (lambda people, least: people.maybe(least), "Aged.age promises int"),
    (lambda people, least: people.derived(id__gte=least), "Aged.age promises int"),
    (lambda people, least: people.page(least, PageRequest()), "Aged.age promises int"),
    (lambda people, least: people.walk(least, CursorRequest()), "Aged.age promises int"),
    (lambda people, least: _all(people.streamed(least)), "Aged.age promises int"),
    (lambda people, least: people.values(least), "its column 'age' promises str | int"),
    (lambda people, least: people.sql_highest(least), "it promises int"),
    (lambda people, least: people.sql_ages(least), "it promises int"),
    (lambda people, least: _all(people.sql_streamed_ages(least)), "it promises int"),
    (lambda people, least: people.sql_truths(least), "it promises bool"),
    (lambda people, least: people.sql_colors(least), "it promises Color"),
    (lambda people, least: people.sql_literals(least), "it promises Literal['a']"),
    (lambda people, least: people.sql_dataclasses(least), "Aged.age promises int"),
    (lambda people, least: people.sql_tuples(least), "AgedTuple.age promises int"),
    (lambda people, least: people.sql_typed_dicts(least), "AgedDict.age promises int"),
    (lambda people, least: people.sql_structs(least), "AgedStruct.age promises int"),
    (lambda people, least: people.sql_colored(least), "Colored.color promises Color"),
    (lambda people, least: people.sql_numbers(least), "its column 'age' promises int"),
    (lambda people, least: people.sql_rows(least), "its column 'age' promises int"),
    (lambda people, least: people.sql_long_rows(least), "its column 'age' promises int"),
]


async def _all(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


@pytest.mark.parametrize("number", range(len(REFUSED)))
async def test_null_where_a_value_is_promised_is_refused(people: Database, number: int) -> None:
    """The error names the query, and the field or column; outside of blocks and in them."""
    ask, told = REFUSED[number]
    with pytest.raises(QueryDeclarationError) as outside:
        await ask(People(people), 3)
    async with people.transaction():
        with pytest.raises(QueryDeclarationError) as inside:
            await ask(People(people), 3)
        await people.session.execute(text("SELECT 1"))  # such a read has changed nothing

    assert outside.value.subject.startswith(f"{__name__}.People.")
    assert told in outside.value.problem
    assert outside.value.problem.endswith(", but the database returns NULL")
    assert " | None`" in outside.value.fix
    assert str(inside.value) == str(outside.value)


async def test_null_comes_where_the_annotation_has_none(people: Database) -> None:
    """`int | None` takes it, in every place."""
    queries = People(people)

    assert await queries.sql_highest_or_none(3) is None
    assert await queries.sql_ages_or_none(2) == [20, None]
    assert await queries.sql_literals_or_none(2) == ["a", None]
    assert [tuple(row) for row in await queries.sql_rows_or_none(2)] == [("Bob", 20), ("Cid", None)]
    assert await queries.wider(2) == [Wider("Bob", 20), Wider("Cid", None)]
    assert await queries.built() is None
    assert (await queries.anything(3))[0]["age"] is None


async def test_rows_without_null_are_as_promised(people: Database) -> None:
    """Where no NULL comes, the same queries return records; so do conditions that leave NULL out."""
    queries = People(people)

    assert await queries.one(2) == Aged("Bob", 20)
    assert await queries.maybe(9) is None
    assert await queries.without_null(2) == [Aged("Bob", 20)]
    assert await queries.sql_highest(1) == 30
    assert (await queries.page(1, PageRequest(size=2))).content == [Aged("Ann", 30), Aged("Bob", 20)]


async def test_entities_counts_and_truths_are_not_concerned(people: Database) -> None:
    """What an entity holds its model says; a count or a truth is never NULL."""
    queries = People(people)

    assert [person.age for person in await queries.entities(2)] == [20, None]
    assert (await queries.how_many(9), await queries.is_any(9)) == (0, False)
    assert (await queries.count(), await queries.exists(name="Zoe")) == (3, False)


async def test_records_of_pydantic_judge_themselves(people: Database) -> None:
    """A model raises its own error, and a validator may make a value of None."""
    queries = People(people)

    with pytest.raises(pydantic.ValidationError, match="age"):
        await queries.models(3)
    assert [(record.name, record.age) for record in await queries.zeroed(2)] == [("Bob", 20), ("Cid", 0)]


async def test_outer_join_makes_null_of_columns_that_have_none(people: Database) -> None:
    """A column that cannot be NULL in its table is looked at where a statement may join it."""
    with pytest.raises(QueryDeclarationError, match=r"Aged\.name promises str"):
        await People(people).sql_joined()

    async with people.transaction() as session:
        session.add_all([Pet(owner_id=id_, name="Rex") for id_ in (1, 2, 3)])
    assert await People(people).sql_joined() == [Aged("Rex", 1)] * 3


class Returning(Repository[Person]):
    """A statement that writes, and returns what it has written."""

    @query.sql("INSERT INTO person (name, active) VALUES (:name, :active) RETURNING age")
    async def added(self, name: str, active: bool) -> int: ...  # noqa: FBT001  # a column


async def test_write_that_returns_null_is_undone(people: Database) -> None:
    """A write whose answer breaks the promise fails as a whole."""
    with pytest.raises(QueryDeclarationError, match="it promises int, but the database returns NULL"):
        await Returning(people).added("Dan", active=True)

    assert await People(people).count() == 3


class Own(Base):
    """The base of tables that are made here."""

    __abstract__ = True
    metadata = MetaData()


class Note(Own):
    """JSON has a null of its own, also where the column refuses NULL."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[Any] = mapped_column(JSON)


class PersonOrPet(Own):
    """A row of two tables, of which one may have none."""

    __table__ = (
        select(Person.id, Person.name, Pet.name.label("pet_name")).outerjoin(Pet).subquery("person_or_pet")
    )
    __mapper_args__ = {"primary_key": [__table__.c.id]}  # noqa: RUF012  # as SQLAlchemy declares it


@dataclass
class Noted:
    """A record of JSON."""

    id: int
    data: dict[str, Any]


@dataclass
class Owned:
    """A record of both tables."""

    name: str
    pet_name: str


class Notes(Repository[Note]):
    """Records of JSON."""

    @query
    async def at_least(self, *, id__gte: int) -> list[Noted]: ...


class Pairs(Repository[PersonOrPet]):
    """Records of both tables."""

    @query
    async def called(self, *, name: str) -> list[Owned]: ...


async def test_null_of_json_is_none_too(people: Database) -> None:
    """JSON's null reads as None, and breaks the promise of a dict."""
    async with people.engine.begin() as connection:
        await connection.run_sync(Own.metadata.create_all)
    async with people.transaction() as session:
        session.add_all([Note(id=1, data={"a": 1}), Note(id=2, data=None)])

    with pytest.raises(QueryDeclarationError, match=r"Noted\.data promises dict\[str, Any\]"):
        await Notes(people).at_least(id__gte=1)
    async with people.transaction() as session:
        await session.delete(await session.get_one(Note, 2))
    assert await Notes(people).at_least(id__gte=1) == [Noted(1, {"a": 1})]


async def test_entity_of_an_outer_join_may_have_null(people: Database) -> None:
    """The tables of a mapped join refuse NULL, its rows do not."""
    with pytest.raises(QueryDeclarationError, match=r"Owned\.pet_name promises str"):
        await Pairs(people).called(name="Ann")
