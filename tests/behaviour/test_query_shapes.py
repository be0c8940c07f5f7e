"""The annotation of a declared query is the truth: rows become what it says, on every database."""

# ruff: noqa: A002, DTZ001 - parameters are called as columns; no column has a zone

# mypy: disable-error-code="empty-body"

import datetime as dt
import decimal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import msgspec
import pydantic
import pytest
from sqlalchemy import Row, inspect

from tests.fixtures.people import Color, Herd, Member, Person, Tables
from unitwork import (
    CursorPage,
    CursorRequest,
    Database,
    NoRowError,
    Page,
    PageRequest,
    QueryDeclarationError,
    Repository,
    TooManyRowsError,
    query,
)

pytestmark = pytest.mark.every_lane

T = TypeVar("T")


@dataclass
class NameAge:
    """A plain record."""

    name: str
    age: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeName:
    """The same in another order, by keyword only, with a default."""

    age: int | None
    name: str
    note: str = "-"


@dataclass
class Named(Generic[T]):
    """A generic record."""

    name: T


class NameAgeTuple(NamedTuple):
    """A record that is a tuple."""

    name: str
    age: int | None = None


class NameAgeDict(TypedDict):
    """A record that is a dict."""

    name: str
    age: int | None


class NameAgeModel(pydantic.BaseModel):
    """A record with an alias, which rows do not know."""

    name: str = pydantic.Field(alias="fullName")
    age: int | None


class NameAgeStruct(msgspec.Struct, kw_only=True):
    """A record of msgspec."""

    name: str
    age: int | None = None


@dataclass
class Everything:
    """A record with each type that a database may give as something else."""

    id: int
    score: float
    born: dt.date
    seen: dt.datetime
    paid: decimal.Decimal
    token: uuid.UUID
    color: Color
    active: bool


class Shown(pydantic.BaseModel):
    """A record of Pydantic, which knows members by their values alone; the last one as they are stored."""

    id: int
    token: str
    color: Color | None
    label: Annotated[str, pydantic.BeforeValidator(lambda value: value.lower())]


class People(Repository[Person]):
    """One query for each shape."""

    @query.sql("SELECT id, token, color, color AS label FROM person WHERE id = :id")
    async def shown(self, id: int) -> Shown: ...

    @query("name = :name")
    async def exactly(self, name: str) -> Person: ...

    @query("name = :name")
    async def maybe(self, name: str) -> Person | None: ...

    @query("id >= :least")
    async def many(self, least: int) -> list[Person]: ...

    @query("id >= :least")
    async def how_many(self, least: int) -> int: ...

    @query("id >= :least")
    async def is_any(self, least: int) -> bool: ...

    @query
    async def is_one_called(self, *, name: str | None) -> bool: ...

    @query("id >= :least")
    async def page(self, least: int, page: PageRequest) -> Page[Person]: ...

    @query("id >= :least")
    async def walk(self, least: int, page: CursorRequest) -> CursorPage[NameAge]: ...

    @query("id >= :least")
    async def streamed(self, least: int) -> AsyncIterator[Person]: ...

    @query("id >= :least")
    def streamed_records(self, least: int) -> AsyncIterator[NameAge]: ...

    @query("id = :id")
    async def dataclass(self, id: int) -> NameAge: ...

    @query("id = :id")
    async def keywords(self, id: int) -> AgeName | None: ...

    @query("id = :id")
    async def generic(self, id: int) -> Named[str]: ...

    @query("id = :id")
    async def named_tuple(self, id: int) -> NameAgeTuple: ...

    @query("id = :id")
    async def typed_dict(self, id: int) -> NameAgeDict: ...

    @query("id = :id")
    async def model(self, id: int) -> NameAgeModel: ...

    @query("id = :id")
    async def struct(self, id: int) -> NameAgeStruct: ...

    @query("id = :id")
    async def anything(self, id: int) -> dict[str, Any]: ...

    @query.sql("SELECT age, name FROM person WHERE id = :id")
    async def sql_dataclass(self, id: int) -> NameAge: ...

    @query.sql("SELECT * FROM person WHERE id = :id")
    async def sql_struct(self, id: int) -> list[NameAgeStruct]: ...

    @query.sql("SELECT * FROM person WHERE id = :id")
    async def sql_typed_dict(self, id: int) -> NameAgeDict: ...

    @query.sql("SELECT * FROM person WHERE id = :id")
    async def sql_everything(self, id: int) -> Everything: ...

    @query.sql("SELECT name, age FROM person WHERE id = :id")
    async def sql_dict(self, id: int) -> dict[str, Any]: ...

    @query.sql("SELECT name, age FROM person WHERE id = :id")
    async def sql_tuple(self, id: int) -> tuple[str, int]: ...

    @query.sql("SELECT * FROM person WHERE id = :id")
    async def sql_entity(self, id: int) -> Person: ...

    @query.sql("SELECT sum(age) FROM person")
    async def sql_sum(self) -> int: ...

    @query.sql("SELECT avg(age) FROM person")
    async def sql_average(self) -> float: ...

    @query.sql("SELECT active FROM person ORDER BY id")
    async def sql_truths(self) -> list[bool]: ...

    @query.sql("SELECT seen FROM person WHERE id = :id")
    async def sql_moment(self, id: int) -> dt.datetime | None: ...

    @query.sql("SELECT age FROM person ORDER BY id")
    async def sql_ages(self) -> list[int | None]: ...

    @query.sql("SELECT 'a'")
    async def sql_literal(self) -> Literal["a", "b"]: ...

    @query.sql("SELECT name FROM person WHERE id = 1")
    async def wrong_scalar(self) -> int: ...

    @query.sql("SELECT name FROM person")
    async def wrong_record(self) -> list[NameAge]: ...

    @query.sql("SELECT name FROM person")
    async def nothing(self) -> None: ...


class Herds(Repository[Herd]):
    """Its entities load a collection by a join."""

    @query
    async def every(self) -> list[Herd]: ...

    @query
    async def page(self, page: PageRequest) -> Page[Herd]: ...

    @query
    async def walk(self, page: CursorRequest) -> CursorPage[Herd]: ...


async def test_entity_is_exactly_one(people: Database) -> None:
    """`-> Person` is one row; none and several are errors that name the query."""
    queries = People(people)

    ann = await queries.exactly("Ann")
    with pytest.raises(NoRowError, match=r"People\.exactly promises exactly 1 row"):
        await queries.exactly("Zoe")
    async with people.transaction() as session:
        session.add(Person(name="Ann"))
    with pytest.raises(TooManyRowsError, match=r"People\.exactly allows 1 row"):
        await queries.exactly("Ann")

    assert isinstance(ann, Person)
    assert (ann.paid, ann.token, ann.color) == (decimal.Decimal("12.50"), uuid.UUID(int=7), Color.RED)


async def test_optional_entity_is_at_most_one(people: Database) -> None:
    """`-> Person | None` is one row or None; several are an error."""
    queries = People(people)

    assert await queries.maybe("Zoe") is None
    assert (await queries.maybe("Bob") or Person()).age == 20
    async with people.transaction() as session:
        session.add(Person(name="Bob"))
    with pytest.raises(TooManyRowsError):
        await queries.maybe("Bob")


async def test_list_count_and_truth(people: Database) -> None:
    """`list[Person]`, `int` and `bool` are entities, how many, and whether any."""
    queries = People(people)

    found = await queries.many(2)

    assert [person.name for person in found] == ["Bob", "Cid"]
    assert (await queries.how_many(2), await queries.how_many(9)) == (2, 0)
    assert (await queries.is_any(3), await queries.is_any(4)) == (True, False)
    assert (await queries.is_one_called(name="Ann"), await queries.is_one_called(name=None)) == (True, False)


async def test_entities_in_a_transaction_are_those_of_its_session(people: Database) -> None:
    """Inside a block a query gives the session's own entities; records pass the identity map by."""
    queries = People(people)

    async with people.transaction() as session:
        ann = await queries.exactly("Ann")
        same = await session.get(Person, 1)
        held = len(session.identity_map)
        record = await queries.dataclass(2)

        assert ann is same
        assert (len(session.identity_map), record) == (held, NameAge("Bob", 20))


async def test_entities_outside_of_a_transaction_are_detached(people: Database) -> None:
    """Outside of a block an entity is complete, and belongs to no session."""
    ann = await People(people).exactly("Ann")

    assert inspect(ann).detached
    assert ann.born == dt.date(1990, 1, 2)


RECORDS: list[tuple[Callable[[People], Awaitable[object]], object]] = [
    (lambda queries: queries.dataclass(2), NameAge("Bob", 20)),
    (lambda queries: queries.keywords(2), AgeName(name="Bob", age=20)),
    (lambda queries: queries.keywords(9), None),
    (lambda queries: queries.generic(2), Named("Bob")),
    (lambda queries: queries.named_tuple(2), NameAgeTuple("Bob", 20)),
    (lambda queries: queries.typed_dict(2), {"name": "Bob", "age": 20}),
    (lambda queries: queries.model(2), NameAgeModel(fullName="Bob", age=20)),
    (lambda queries: queries.struct(2), NameAgeStruct(name="Bob", age=20)),
    (lambda queries: queries.sql_dataclass(2), NameAge("Bob", 20)),
    (lambda queries: queries.sql_struct(2), [NameAgeStruct(name="Bob", age=20)]),
    (lambda queries: queries.sql_typed_dict(2), {"name": "Bob", "age": 20}),
    (lambda queries: queries.sql_dict(2), {"name": "Bob", "age": 20}),
    (lambda queries: queries.sql_tuple(2), ("Bob", 20)),
]


@pytest.mark.parametrize("number", range(len(RECORDS)))
async def test_record_is_built_from_the_row(people: Database, number: int) -> None:
    """Dataclasses, tuples, dicts, Pydantic models and msgspec structs are filled by name."""
    ask, expected = RECORDS[number]

    found = await ask(People(people))

    assert found == expected
    assert type(found) is type(expected) or isinstance(found, Row)


async def test_dict_has_every_attribute(people: Database) -> None:
    """`dict[str, Any]` of a condition is the row by attribute names, with values of their types."""
    found = await People(people).anything(1)

    assert (found["name"], found["color"], found["token"]) == ("Ann", Color.RED, uuid.UUID(int=7))
    assert set(found) == set(inspect(Person).column_attrs.keys())


async def test_sql_text_gives_what_the_annotation_says(people: Database) -> None:
    """SQL text has no types; a date, truth, decimal, UUID or enum member comes out as annotated."""
    found = await People(people).sql_everything(1)

    assert found == Everything(
        id=1,
        score=1.5,
        born=dt.date(1990, 1, 2),
        seen=dt.datetime(2020, 1, 2, 3, 4, 5),
        paid=decimal.Decimal("12.50"),
        token=uuid.UUID(int=7),
        color=Color.RED,
        active=True,
    )
    assert [type(value).__name__ for value in (found.id, found.score, found.seen, found.active)] == [
        "int",
        "float",
        "datetime",
        "bool",
    ]


async def test_model_of_pydantic_is_given_what_its_fields_say(people: Database) -> None:
    """Where it refuses what the database answers: the name of a member, a UUID where a text is wanted."""
    found = await People(people).shown(1)

    assert (found.id, uuid.UUID(found.token), found.color) == (1, uuid.UUID(int=7), Color.RED)
    assert found.label == "red"


async def test_sql_entity_is_an_entity(people: Database) -> None:
    """`@query.sql` that promises the model gives real entities."""
    async with people.transaction() as session:
        found = await People(people).sql_entity(1)

        assert found is await session.get(Person, 1)
        assert (found.born, found.color) == (dt.date(1990, 1, 2), Color.RED)


async def test_scalars_are_of_their_types(people: Database) -> None:
    """A sum is an int on every database, an average a float, a truth a bool, a moment a datetime."""
    queries = People(people)

    values = [await queries.sql_sum(), await queries.sql_average(), await queries.sql_moment(1)]

    assert values == [50, 25.0, dt.datetime(2020, 1, 2, 3, 4, 5)]
    assert [type(value) for value in values] == [int, float, dt.datetime]
    assert await queries.sql_moment(2) is None
    assert await queries.sql_ages() == [30, 20, None]
    assert [str(truth) for truth in await queries.sql_truths()] == ["True", "True", "False"]
    assert await queries.sql_literal() == "a"
    await queries.nothing()


async def test_row_that_does_not_fit_is_refused(people: Database) -> None:
    """A value of another type, or a missing column, is an error that names both; no value shows."""
    with pytest.raises(QueryDeclarationError) as wrong:
        await People(people).wrong_scalar()
    with pytest.raises(QueryDeclarationError) as missing:
        await People(people).wrong_record()

    assert "it promises int, but the database returns str" in str(wrong.value)
    assert "Ann" not in str(wrong.value)
    assert "NameAge.age is no column of its result" in str(missing.value)


async def test_pages_and_streams_have_their_items(people: Database) -> None:
    """A page, a cursor page and a stream hold what stands in the brackets."""
    queries = People(people)

    page = await queries.page(1, PageRequest(size=2))
    walk = await queries.walk(1, CursorRequest(size=2))
    streamed = [person async for person in await queries.streamed(2)]
    records = [record async for record in queries.streamed_records(2)]

    assert [person.name for person in page.content] == ["Ann", "Bob"]
    assert list(walk.content) == [NameAge("Ann", 30), NameAge("Bob", 20)]
    assert [type(person) for person in streamed] == [Person, Person]
    assert records == [NameAge("Bob", 20), NameAge("Cid", None)]


async def test_columns_that_change_are_read_anew(people: Database) -> None:
    """`SELECT *` may return other columns tomorrow; values never land in the wrong field."""
    queries = People(people)
    before = await queries.sql_struct(1)
    async with people.engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE person DROP COLUMN score")
    await people.dispose()  # PostgreSQL's prepared statements end with their connections

    assert await queries.sql_struct(1) == before


async def test_collections_loaded_by_a_join_do_not_repeat_entities(people: Database) -> None:
    """Lists, pages and walks of such entities count each once."""
    await people.create_all(Tables)
    async with people.transaction() as session:
        session.add_all([Herd(id=1, members=[Member(), Member()]), Herd(id=2, members=[Member()])])
    herds = Herds(people)

    every = await herds.every()
    page = await herds.page(PageRequest(size=1))
    walk = await herds.walk(CursorRequest(size=1))

    assert [(herd.id, len(herd.members)) for herd in every] == [(1, 2), (2, 1)]
    assert ([herd.id for herd in page.content], page.total_elements) == ([1], 2)
    assert [len(herd.members) for herd in walk.content] == [2]
