"""A fluent query that a line makes and drops asks nothing, and warns; any use of it, or a name, is enough."""

import asyncio
import gc
import warnings
from collections.abc import Iterator

import pytest
from sqlalchemy import insert, select

from tests.fixtures.people import Person, Pet
from unitwork import CursorRequest, Database, NoRowError, OptionError, PageRequest, Repository
from unitwork.query.select import FluentSelect


class People(Repository[Person]):
    """Builds queries, and hands them out."""

    def adults(self) -> FluentSelect[Person]:
        return self.where(Person.age > 18)


def made(people: People, name: str) -> None:
    """Make a query in one of several ways, and drop it."""
    if name == "where":
        people.where(Person.age > 18)
    elif name == "select":
        people.select()
    elif name == "in a chain":
        people.where(Person.age > 18).order_by(Person.name).limit(3)
    elif name == "by a function":
        people.adults()
    else:
        [people.adults(), people.adults()]


@pytest.mark.parametrize("name", ["where", "select", "in a chain", "by a function", "in a list"])
def test_query_that_is_dropped_warns(db: Database, name: str) -> None:
    """At the line that drops it, with the repository and the fix."""
    with pytest.warns(RuntimeWarning) as said:
        made(People(db), name)

    assert str(said[0].message) == (
        f"A query of {__name__}.People was made and never awaited: nothing was asked.\n"
        "  Fix: end it with `await ....all()`, or another ending, or pass it to a session."
    )
    assert said[0].filename == __file__


@pytest.fixture
def silence() -> Iterator[None]:
    """Fail with any warning of what dies before the end of the test; one in `__del__` cannot raise."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(each.message) for each in said] == []


async def test_awaited_query_returns_all(people: Database, silence: None) -> None:
    """As `all()` does; also several beside each other."""
    adults = People(people).adults()

    assert [person.name for person in await adults.order_by(Person.id)] == ["Ann", "Bob"]
    together = await asyncio.gather(adults, adults.all())
    assert [len(found) for found in together] == [2, 2]


async def test_endings_do_not_warn(people: Database, silence: None) -> None:
    """Each is a use, also one that fails, or changes nothing."""
    queries = People(people)
    await queries.adults()
    await queries.adults().all()
    await queries.adults().first()
    await queries.adults().count()
    await queries.adults().exists()
    await queries.adults().page(PageRequest())
    await queries.adults().cursor_page(CursorRequest())
    await queries.where(Person.id == 1).one_or_none()
    await queries.adults().update()
    await queries.adults().update(active=False)
    await queries.where(Person.id == 3).delete()
    await queries.delete_where(Person.id == 3)
    await queries.find_by(name="Ann")
    async for _ in queries.adults().stream():
        pass
    with pytest.raises(OptionError):
        await queries.adults().limit(1).delete()
    with pytest.raises(NoRowError):
        await queries.where(Person.id == 9).one()


async def test_queries_that_others_use_do_not_warn(people: Database, silence: None) -> None:
    """A session, a connection, another statement, text, what explains lanes; and an unused name."""
    queries = People(people)

    def with_a_name() -> int:
        adults = queries.adults()
        return 1 if adults is None else 2

    async with people.transaction() as session:
        await session.execute(queries.adults())
        await session.scalars(queries.adults().union_all(queries.adults()))
        await session.execute(
            select(Person.id).where(Person.id.in_(queries.adults().with_only_columns(Person.id)))
        )
        names = queries.adults().with_only_columns(Person.name)
        await session.execute(insert(Pet).from_select(["name"], names))
    async with people.engine.connect() as connection:
        await connection.execute(queries.adults())
    str(queries.adults())
    people.explain_lane(queries.adults())
    with_a_name()
