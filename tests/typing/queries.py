"""What repositories and declared queries are to a type checker."""

# mypy: disable-error-code="empty-body"

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, assert_type

from sqlalchemy import CompoundSelect, Row, Select, Update, func, select, union_all, update
from sqlalchemy.orm import Mapped, mapped_column

from unitwork import (
    Base,
    CursorPage,
    CursorRequest,
    Database,
    Page,
    PageRequest,
    Repository,
    query,
    repository,
)
from unitwork.query.select import FluentSelect


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@dataclass
class Name:
    name: str


class Key(NamedTuple):
    id: int


class Titled(TypedDict):
    name: str


class People(Repository[Person]):
    @query("name = :name")
    async def text(self, name: str) -> Person | None: ...

    @query(expr="id > :least", unique=False)
    async def keywords(self, least: int, *, page: PageRequest) -> Page[Name]: ...

    @query
    async def derived(self, *, name__in: list[str]) -> list[Person]: ...

    @query()
    async def called(self) -> AsyncIterator[Person]: ...

    @query.sql("UPDATE person SET name = :name")
    async def sql(self, name: str) -> int: ...

    @query.one
    def one(self, name: str) -> Select[Person]:
        return select(Person).where(Person.name == name)

    @query.one
    def one_as_before(self, name: str) -> Select[tuple[Person]]:
        raise NotImplementedError(name)

    @query.maybe
    def maybe(self, name: str) -> Select[Person]:
        return self.where(Person.name == name)

    @query.many
    def many(self, *, least: int = 0) -> Select[Person]:
        return select(Person).where(Person.id > least)

    @query.many
    def names(self) -> Select[str]:
        return select(Person.name)

    @query.scalar
    def highest(self) -> Select[int]:
        return select(func.max(Person.id))

    @query.page
    def page(self, page: PageRequest) -> Select[Person]:
        return select(Person)

    @query.cursor_page
    def cursor_page(self, page: CursorRequest) -> Select[Person]:
        return select(Person)

    @query.stream
    def stream(self) -> Select[Person]:
        return select(Person)

    @query.execute
    def execute(self, name: str) -> Update:
        return update(Person).values(name=name)

    @query.one
    def one_row(self) -> Select[Person, int]:
        return select(Person, func.count()).group_by(Person.id)

    @query.maybe
    def maybe_row(self) -> Select[int, str]:
        return select(Person.id, Person.name)

    @query.many
    def rows(self, least: int) -> Select[int, str, int]:
        return select(Person.id, Person.name, Person.id).where(Person.id > least)

    @query.page
    def row_page(self, page: PageRequest) -> Select[int, str]:
        return select(Person.id, Person.name)

    @query.cursor_page
    def row_cursor_page(self, page: CursorRequest) -> Select[int, str]:
        return select(Person.id, Person.name)

    @query.stream
    def row_stream(self) -> Select[int, str]:
        return select(Person.id, Person.name)

    @query.one(into=Name)
    def one_record(self, name: str) -> Select[Person]:
        return select(Person).where(Person.name == name)

    @query.maybe(into=Key)
    def maybe_record(self) -> Select[int]:
        return select(Person.id)

    @query.many(into=Titled)
    def records(self, least: int) -> Select[str, int]:
        return select(Person.name, Person.id).where(Person.id > least)

    @query.many(into=dict[str, Any])
    def mappings(self) -> Select[str, int]:
        return select(Person.name, Person.id)

    @query.many(into=Name)
    def union(self) -> CompoundSelect[str]:
        return union_all(select(Person.name), select(Person.name))

    @query.page(into=Name)
    def record_page(self, page: PageRequest) -> Select[Any]:
        return select(Person)

    @query.cursor_page(into=Name)
    def record_cursor_page(self, page: CursorRequest) -> Select[Person]:
        return select(Person)

    @query.stream(into=Name)
    def record_stream(self) -> Select[Person]:
        return select(Person)

    async def own(self, key: int) -> str:
        return (await self.get_one(key)).name


@repository(entity=Person)
class Plain:
    @query("name = :name")
    async def text(self, name: str) -> Person | None: ...


@repository
class Bare:
    @query.sql("SELECT 1")
    async def number(self) -> int: ...


async def declared(people: People) -> None:
    assert_type(await people.text("x"), Person | None)
    assert_type(await people.keywords(1, page=PageRequest()), Page[Name])
    assert_type(await people.derived(name__in=["x"]), list[Person])
    assert_type(await people.called(), AsyncIterator[Person])
    assert_type(await people.sql("x"), int)
    assert_type(await people.one("x"), Person)
    assert_type(await people.one_as_before("x"), Person)
    assert_type(await people.maybe("x"), Person | None)
    assert_type(await people.many(least=1), list[Person])
    assert_type(await people.names(), list[str])
    assert_type(await people.highest(), int)
    assert_type(await people.page(PageRequest()), Page[Person])
    assert_type(await people.cursor_page(CursorRequest()), CursorPage[Person])
    assert_type(people.stream(), AsyncIterator[Person])
    assert_type(await people.execute("x"), int)
    assert_type(await people.one_row(), Row[Person, int])
    assert_type(await people.maybe_row(), Row[int, str] | None)
    assert_type(await people.rows(1), list[Row[int, str, int]])
    for number, name, again in await people.rows(1):
        assert_type((number, name, again), tuple[int, str, int])
    assert_type(await people.row_page(PageRequest()), Page[Row[int, str]])
    assert_type(await people.row_cursor_page(CursorRequest()), CursorPage[Row[int, str]])
    assert_type(people.row_stream(), AsyncIterator[Row[int, str]])
    assert_type(await people.one_record("x"), Name)
    assert_type(await people.maybe_record(), Key | None)
    assert_type(await people.records(1), list[Titled])
    assert_type(await people.mappings(), list[dict[str, Any]])
    assert_type(await people.union(), list[Name])
    assert_type(await people.record_page(PageRequest()), Page[Name])
    assert_type(await people.record_cursor_page(CursorRequest()), CursorPage[Name])
    assert_type(people.record_stream(), AsyncIterator[Name])
    assert_type(await people.own(1), str)
    assert_type(await Plain().text("x"), Person | None)
    assert_type(await Bare().number(), int)


async def repositories(db: Database) -> None:
    people = Repository[Person](db)
    assert_type(await people.get(1), Person | None)
    assert_type(await people.get_one(1, lock="update"), Person)
    assert_type(await people.find_by(name="x"), Person | None)
    assert_type(await people.all(), list[Person])
    assert_type(await people.first(), Person | None)
    assert_type(await people.count(), int)
    assert_type(await people.exists(name="x"), bool)
    assert_type(await people.add(Person()), Person)
    assert_type(await people.add_all([Person()]), list[Person])
    assert_type(await people.create(name="x"), Person)
    assert_type(await people.save(Person()), Person)
    assert_type(await people.update(1, {"name": "x"}), Person)
    assert_type(await people.delete_where(Person.id == 1), int)
    assert_type(await people.refresh(Person()), Person)
    assert_type(await people.is_modified(Person()), bool)
    async with db.transaction() as session:
        assert_type(await Repository[Person](session).get(1), Person | None)


async def fluent(people: People) -> None:
    statement = people.where(Person.id > 1).order_by(Person.name).limit(3)
    assert_type(statement, FluentSelect[Person])
    assert_type(await statement, list[Person])
    assert_type(await statement.all(), list[Person])
    assert_type(await statement.first(), Person | None)
    assert_type(await statement.one(), Person)
    assert_type(await statement.one_or_none(), Person | None)
    assert_type(await statement.count(), int)
    assert_type(await statement.exists(), bool)
    assert_type(await statement.page(PageRequest()), Page[Person])
    assert_type(await statement.cursor_page(CursorRequest()), CursorPage[Person])
    assert_type(statement.stream(batch=2), AsyncGenerator[Person, None])
    assert_type(await statement.update(name="x"), int)
    assert_type(await statement.delete(), int)
    plain: Select[Person] = statement
    async for person in people.where(Person.id > 1).stream():
        assert_type(person, Person)
    del plain


async def mistakes(people: People) -> None:
    await people.text(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await people.records("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await people.one()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await people.get_one(1, lock="exclusive")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await people.add("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def no_statement(self: object) -> str:
    return "SELECT 1"


query.one(no_statement)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
