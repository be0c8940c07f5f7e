"""`@query.many(into=...)` and its siblings: the rows of a statement become records."""

import datetime as dt
import types
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from typing import Any, NamedTuple, TypedDict

import pytest
import typing_extensions
from pydantic import AliasChoices, AliasPath, BaseModel, Field
from sqlalchemy import (
    Column,
    CompoundSelect,
    Select,
    case,
    func,
    insert,
    literal,
    select,
    union_all,
)
from sqlalchemy.orm import aliased
from sqlalchemy.sql.dml import ReturningInsert

from tests.fixtures.people import Color, Person, Pet
from unitwork import (
    CursorRequest,
    Database,
    PageRequest,
    QueryDeclarationError,
    Repository,
    Sort,
    TooManyRowsError,
    query,
)
from unitwork.options import Lane


@dataclass
class Contact:
    """Two attributes of a person, and what no row has."""

    id: int
    name: str
    note: str = "none"


class Key(NamedTuple):
    """The key alone."""

    id: int


class Titled(TypedDict):
    """A dict to a type checker."""

    name: str


class Summary(BaseModel):
    """Validates what comes, under another name."""

    name: str = Field(validation_alias="name_of_person")
    color: Color | None


@dataclass
class Total:
    """What MariaDB computes as decimals, and SQLite stores as text or numbers."""

    years: int
    average: float
    last: dt.date | None


@dataclass
class Sure:
    """Promises what may be NULL."""

    name: str
    age: int


@dataclass
class Longer:
    """Needs what a person has not."""

    name: str
    length: int


class People(Repository[Person]):
    """One query for each decorator, and for each kind of record."""

    @query.one(into=Contact)
    def one(self, key: int) -> Select[int, str]:
        return select(Person.id, Person.name).where(Person.id == key)

    @query.maybe(into=Contact)
    def maybe(self, name: str) -> Select[Person]:
        return self.where(Person.name.startswith(name))

    @query.many(into=Contact)
    def contacts(self) -> Select[Person]:
        return select(Person).order_by(Person.id)

    @query.many(into=Key)
    def keys(self) -> Select[int, str]:
        return select(Person.id, Person.name).order_by(Person.id)

    @query.many(into=Titled)
    def titles(self) -> Select[Person]:
        return select(Person).order_by(Person.id)

    @query.many(into=dict[str, Any])
    def mappings(self) -> Select[str, bool]:
        return select(Person.name, Person.active).order_by(Person.id)

    @query.many(into=Summary)
    def summaries(self) -> Select[str, Color | None]:
        return select(Person.name, Person.color).order_by(Person.id)

    @query.one(into=Total)
    def total(self) -> Select[int | None, Any, dt.date | None]:
        return select(
            func.sum(Person.age).label("years"),
            func.avg(Person.age).label("average"),
            func.max(Person.born).label("last"),
        )

    @query.many(into=Contact)
    def others(self) -> Select[Person]:
        other = aliased(Person)
        return select(other).where(other.id > 1).order_by(other.id)

    @query.many(into=Contact)
    def owners(self) -> Select[int, str, str]:
        note = case((Pet.id > 0, Pet.name), else_="no pet").label("note")
        return select(Person.id, Person.name, note).outerjoin(Person.pets).order_by(Person.id)

    @query.many(into=Contact)
    def union(self) -> CompoundSelect[int, str]:
        both = union_all(select(Person.id, Person.name), select(Pet.id, Pet.name))
        return both.order_by("id", "name")

    @query.page(into=Contact)
    def page(self, page: PageRequest) -> Select[Person]:
        return select(Person)

    @query.cursor_page(into=Key)
    def cursor_page(self, page: CursorRequest) -> Select[Person]:
        return select(Person)

    @query.stream(into=Contact)
    def stream(self) -> Select[int, str]:
        return select(Person.id, Person.name).order_by(Person.id)

    @query.many(into=Sure)
    def sure(self) -> Select[Person]:
        return select(Person).order_by(Person.id)

    @query.many(into=Longer)
    def longer(self) -> Select[Person]:
        return select(Person)

    @query.many(into=Longer)
    def longer_by_columns(self) -> Select[str, int]:
        return select(Person.name, Person.id)

    @query.many  # type: ignore[arg-type]  # for those who check no types
    def annotated(self) -> list[Contact]:
        return select(Person).order_by(Person.id)  # type: ignore[return-value]  # as above


class ByChoice(BaseModel):
    """Is read by one of several names."""

    name: str = Field(validation_alias=AliasChoices(AliasPath("names", 0), "fullName"))


class ByPath(BaseModel):
    """Is read by a path."""

    name: str = Field(validation_alias=AliasPath("names", 0))


class ReadOnlyDict(typing_extensions.TypedDict):
    """As Pydantic wants them before Python 3.12."""

    id: typing_extensions.ReadOnly[int]
    name: typing_extensions.NotRequired[str]


class TextDict(typing_extensions.TypedDict):
    """Its annotations are texts, as behind `from __future__ import annotations`."""

    id: "int"
    name: "typing_extensions.Annotated[typing_extensions.Required[str], 'a mark']"
    note: "typing_extensions.NotRequired[str]"


@dataclass
class Shouted:
    """Is made of what it does not keep."""

    name: InitVar[str]
    loud: str = field(init=False)

    def __post_init__(self, name: str) -> None:
        self.loud = name.upper()


CONTACTS = [Contact(1, "Ann"), Contact(2, "Bob"), Contact(3, "Cid")]


@pytest.mark.every_lane
async def test_rows_become_records(people: Database) -> None:
    """Of each kind, in each number; of an entity alone, only the columns of the record are selected."""
    queries = People(people)

    assert await queries.one(1) == CONTACTS[0]
    assert await queries.maybe("Z") is None
    with pytest.raises(TooManyRowsError, match=r"People\.maybe"):
        await queries.maybe("")
    assert await queries.contacts() == await queries.annotated() == CONTACTS
    assert await queries.keys() == [Key(1), Key(2), Key(3)]
    assert await queries.titles() == [{"name": "Ann"}, {"name": "Bob"}, {"name": "Cid"}]
    assert (await queries.mappings())[2] == {"name": "Cid", "active": False}
    assert await queries.others() == CONTACTS[1:]
    assert [item async for item in queries.stream()] == CONTACTS


@pytest.mark.every_lane
async def test_pages_of_records(people: Database) -> None:
    """By number in the order that is asked for, and by cursors."""
    queries = People(people)

    page = await queries.page(PageRequest(size=2, sorts=[Sort("name", "desc")]))
    assert (page.content, page.total_elements) == ([CONTACTS[2], CONTACTS[1]], 3)
    first = await queries.cursor_page(CursorRequest(size=2))
    second = await queries.cursor_page(CursorRequest(size=2, cursor=first.next_cursor))
    assert [*first.content, *second.content] == [Key(1), Key(2), Key(3)]


@pytest.mark.every_lane
async def test_joins_unions_and_aliases_of_pydantic(people: Database) -> None:
    """A record is filled by the names of the columns, whatever they are made of."""
    await Repository[Pet](people).add(Pet(name="Rex", owner_id=1))
    queries = People(people)

    assert [each.note for each in await queries.owners()] == ["Rex", "no pet", "no pet"]
    assert sorted(each.name for each in await queries.union()) == ["Ann", "Bob", "Cid", "Rex"]
    assert [(each.name, each.color) for each in await queries.summaries()] == [
        ("Ann", Color.RED),
        ("Bob", None),
        ("Cid", None),
    ]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (ByChoice, ByChoice(fullName="Ann")),  # type: ignore[call-arg]  # by its alias
        (ByPath, ByPath(names=["Ann"])),  # type: ignore[call-arg]  # by its alias
        (ReadOnlyDict, {"id": 1, "name": "Ann"}),
        (TextDict, {"id": 1, "name": "Ann"}),
        (Shouted, Shouted("Ann")),
    ],
)
async def test_records_of_unusual_kinds(people: Database, kind: Any, told: object) -> None:  # noqa: ANN401  # a class
    """Aliases that are no one name, TypedDicts of typing_extensions, `InitVar`; of each form of a query."""

    async def condition(self: object) -> object: ...

    condition.__annotations__["return"] = kind

    def body(self: object) -> Select[Person]:
        del self
        return select(Person).where(Person.id == 1)

    found: list[object] = []
    for method in (
        query("id = 1")(condition),
        query.sql("SELECT name, id FROM person WHERE id = 1")(condition),
        query.one(into=kind)(body),
    ):
        fill = types.new_class("Odd", (Repository[Person],), {}, lambda space, q=method: space.update(q=q))  # type: ignore[misc]  # each its own
        found.append(await fill(people).q())

    assert found == [told] * 3


@pytest.mark.every_lane
async def test_what_is_computed_becomes_what_the_record_says(people: Database) -> None:
    """Sums are decimals on MariaDB, and averages on PostgreSQL."""
    found = await People(people).total()

    assert found == Total(50, 25.0, dt.date(1990, 1, 2))
    assert [type(value) for value in vars(found).values()] == [int, float, dt.date]


@pytest.mark.every_lane
async def test_record_that_does_not_fit_is_told(people: Database) -> None:
    """NULL where a value is promised; a field that is in no column, of the statement or of its entity."""
    queries = People(people)

    with pytest.raises(QueryDeclarationError, match=r"Sure\.age promises int, but the database returns NULL"):
        await queries.sure()
    with pytest.raises(QueryDeclarationError, match=r"Longer\.length is no attribute of Person"):
        await queries.longer()
    with pytest.raises(QueryDeclarationError, match=r"Longer\.length is no column of its result"):
        await queries.longer_by_columns()


async def test_records_take_the_lane_of_entities(people: Database) -> None:
    """No session is asked for records of a plain SELECT, where the database has a faster lane."""
    queries = People(people)
    await queries.get(1)
    fastest = people.explain_lane(select(Person)).lane
    assert fastest is Lane.DRIVER or people.engine.dialect.name == "mysql"

    for name in ("contacts", "keys", "titles", "mappings", "summaries", "total", "others", "stream"):
        assert people.explain_lane(getattr(queries, name)).lane is fastest, name
    assert people.explain_lane(queries.one, 1).lane is fastest


@pytest.mark.only(
    "sqlite", "postgresql", reason="MariaDB has no RETURNING in SQLAlchemy's asyncmy for UPDATE"
)
async def test_rows_of_a_write_become_records(people: Database) -> None:
    """RETURNING fills records as a SELECT does, and is committed."""

    class Adding(Repository[Person]):
        @query.one(into=Contact)
        def put(self, name: str) -> ReturningInsert[int, str]:
            return insert(Person).values(name=name).returning(Person.id, Person.name)

    assert await Adding(people).put("Dan") == Contact(4, "Dan")
    assert await People(people).count() == 4


async def test_check_compares_records_of_statements(people: Database) -> None:
    """Missing fields and types that do not fit are found before the first call."""

    @dataclass
    class Wrong:
        id: str
        name: int

    class Checked(Repository[Person]):
        @query.many(into=Longer)
        def missing(self) -> Select[str]:
            return select(Person.name)

        @query.many(into=Wrong)
        def wrong(self) -> Select[int, str]:
            return select(Person.id, Person.name)

        @query.many(into=Contact)
        def right(self) -> Select[int, str]:
            return select(Person.id, Person.name)

        @query.one(into=Total)
        def computed(self) -> Select[int | None, int, dt.date | None]:
            last = func.max(Person.born).label("last")
            return select(func.sum(Person.age).label("years"), literal(1).label("average"), last)

    report = await people.check(Checked)

    said = [str(finding) for finding in report.findings]
    assert len(said) == 3, said
    assert "Longer needs the column 'length', which it does not select" in said[0]
    assert "Wrong.id is str, but the column 'id' holds int" in said[1]
    assert "Wrong.name is int, but the column 'name' holds str" in said[2]


def _many(into: Any, returns: Any = Any) -> Callable[[], None]:  # noqa: ANN401  # any mistake
    def body(self: object) -> Any:  # noqa: ANN401  # as annotated below
        del self
        return select(Person)

    body.__annotations__["return"] = returns
    method = query.many(body) if into is None else query.many(into=into)(body)

    def declare() -> None:
        types.new_class("Mistaken", (Repository[Person],), {}, lambda space: space.update(q=method))

    return declare


@pytest.mark.parametrize(
    ("declare", "problem"),
    [
        (_many(int), "`into=int` is no record"),
        (_many(Person), "`into=Person` is no record"),
        (_many(Column), "`into=Column` is no record"),
        (_many(list[Contact]), r"`into=list` is no record"),
        (_many(Contact, str), r"it returns str, but @query.many needs a SQLAlchemy Select"),
        (_many(None, Contact), "it is annotated as @query.one returns, but declared with @query.many"),
    ],
)
def test_what_is_no_record_is_refused(declare: Callable[[], None], problem: str) -> None:
    """At import, with one fix."""
    with pytest.raises(QueryDeclarationError, match=problem):
        declare()
