"""`@query.many` and its siblings: the body returns the statement."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Delete, Insert, Select, Update, delete, func, insert, select, text, update
from sqlalchemy.orm import joinedload, selectinload

from tests.fixtures.people import Person, Pet
from unitwork import Database, NoRowError, QueryDeclarationError, Repository, TooManyRowsError, query

pytestmark = pytest.mark.every_lane


class People(Repository[Person]):
    """One query for each decorator."""

    @query.one
    def one(self, name: str) -> Select[Person]:
        return select(Person).where(Person.name == name)

    @query.maybe
    def maybe(self, name: str) -> Select[tuple[Person]]:
        return select(Person).where(Person.name.startswith(name))  # type: ignore[return-value]  # as in SQLAlchemy 2.0

    @query.many
    def many(self, *, least: int = 0) -> Select[Person]:
        return self.where(Person.id >= least).order_by(Person.id.desc())

    @query.many
    def names(self) -> Select[str]:
        return select(Person.name).order_by(Person.id)

    @query.many
    def rows(self):  # type: ignore[no-untyped-def]  # noqa: ANN201  # as in a program without annotations
        return select(Person.id, Person.name).order_by(Person.id)

    @query.scalar
    def oldest(self) -> Select[int]:
        return select(func.max(Person.age))

    @query.scalar
    def total(self) -> Select[int]:
        return select(func.sum(Person.age))

    @query.stream
    def streamed(self) -> Select[Person]:
        return select(Person).order_by(Person.id)

    @query.many
    def with_pets(self) -> Select[Person]:
        return select(Person).options(joinedload(Person.pets)).order_by(Person.id)

    @query.many
    def with_pets_apart(self) -> Select[Person]:
        return select(Person).options(selectinload(Person.pets)).order_by(Person.id)

    @query.many
    def raw(self, least: int) -> Select[Person]:
        return select(Person).from_statement(  # type: ignore[return-value]  # no Select to a type checker
            text("SELECT * FROM person WHERE id >= :least").bindparams(least=least)
        )

    @query.execute
    def grow(self, years: int) -> Update:
        return update(Person).values(age=Person.age + years).where(Person.age.is_not(None))

    @query.execute
    def remove(self, key: int) -> Delete:
        return delete(Person).where(Person.id == key)

    @query.execute
    def put(self, name: str) -> Insert:
        return insert(Person).values(name=name)

    @query.many
    def wrong(self) -> Select[Person]:
        return "SELECT 1"  # type: ignore[return-value]  # what a person may return


async def test_shapes_of_statements(people: Database) -> None:
    """One, maybe, many and scalar keep their promises; statements may be fluent, or raw SQL."""
    queries = People(people)

    assert (await queries.one("Ann")).id == 1
    with pytest.raises(NoRowError, match=r"People\.one"):
        await queries.one("Zoe")
    assert await queries.maybe("Z") is None
    with pytest.raises(TooManyRowsError, match=r"People\.maybe"):
        await queries.maybe("")
    assert [person.id for person in await queries.many(least=2)] == [3, 2]
    assert await queries.names() == ["Ann", "Bob", "Cid"]
    rows = await queries.rows()  # type: ignore[no-untyped-call]  # as it is declared
    assert [tuple(row) for row in rows] == [(1, "Ann"), (2, "Bob"), (3, "Cid")]
    assert [await queries.oldest(), await queries.total()] == [30, 50]
    assert type(await queries.total()) is int
    assert len(await queries.raw(2)) == 2


async def test_streamed_statement(people: Database) -> None:
    """A stream is iterated without `await`."""
    stream = People(people).streamed()

    assert isinstance(stream, AsyncIterator)
    assert [person.name async for person in stream] == ["Ann", "Bob", "Cid"]


async def test_loader_options_of_statements(people: Database) -> None:
    """Also those that repeat rows: each entity comes once."""
    await Repository[Pet](people).add_all([Pet(name="Rex", owner_id=1), Pet(name="Tom", owner_id=1)])

    for found in (await People(people).with_pets(), await People(people).with_pets_apart()):
        assert [sorted(pet.name for pet in person.pets) for person in found] == [["Rex", "Tom"], [], []]


async def test_executed_statement_returns_how_many_rows(people: Database) -> None:
    """INSERT, UPDATE and DELETE commit by themselves, or belong to the open block."""
    queries = People(people)

    assert await queries.grow(1) == 2
    assert await queries.put("Dan") == 1
    with pytest.raises(ValueError, match="no"):
        async with people.transaction():
            assert await queries.remove(1) == 1
            raise ValueError("no")

    assert [(person.name, person.age) for person in await queries.many(least=1)][-1] == ("Ann", 31)
    assert await queries.count() == 4


async def test_body_that_returns_no_statement_is_told(people: Database) -> None:
    """The message names the query, what it returned, and the fix."""
    with pytest.raises(QueryDeclarationError) as error:
        await People(people).wrong()

    assert str(error.value) == (
        "Query tests.behaviour.test_query_statement.People.wrong is declared wrongly: "
        "it returns str, but @query.many needs a SQLAlchemy Select.\n"
        "  Fix: return `select(Model).where(...)`; for raw SQL return "
        "`select(Model).from_statement(text(...))`."
    )
