"""`users.where(...)` is a real `Select` with endings that can be awaited."""

import pytest
from sqlalchemy import Select, func, select

from tests.fixtures.observer import Observer
from tests.fixtures.people import Person, Pet, Seat
from unitwork import Database, NoRowError, OptionError, Repository, TooManyRowsError
from unitwork.query.select import FluentSelect

pytestmark = pytest.mark.every_lane

LONG = 100_000


async def test_every_method_of_select_keeps_it_fluent(people: Database) -> None:
    """Conditions, joins, options and orders of SQLAlchemy chain as they always do."""
    await Repository[Pet](people).add_all([Pet(name="Rex", owner_id=1), Pet(name="Tom", owner_id=2)])
    persons = Repository[Person](people)

    statement = (
        persons.where(Person.age > 18)
        .join(Person.pets)
        .where(Pet.name != "x")
        .filter(Person.name == "Ann")
        .order_by(Person.id)
        .limit(5)
        .distinct()
        .execution_options(populate_existing=True)
    )

    assert isinstance(statement, FluentSelect)
    assert isinstance(statement, Select)
    assert [person.name for person in await statement.all()] == ["Ann"]


async def test_it_passes_to_a_session(people: Database) -> None:
    """`session.execute`, `session.scalars`, a subquery and a CTE take it."""
    adults = Repository[Person](people).where(Person.age > 18).order_by(Person.id)

    async with people.transaction() as session:
        rows = (await session.execute(adults)).scalars().all()
        same = (await session.scalars(adults)).all()
        count = await session.scalar(select(func.count()).select_from(adults.subquery()))
        from_cte = await session.scalar(select(func.count()).select_from(adults.cte()))

    assert [person.name for person in rows] == ["Ann", "Bob"]
    assert (rows, count, from_cte) == (same, 2, 2)


async def test_endings_return_what_they_say(people: Database) -> None:
    """All, first, one, one_or_none, count and exists."""
    persons = Repository[Person](people)
    adults = persons.where(Person.age > 18)

    assert len(await adults.all()) == 2
    assert (await adults.first() or Person()).name == "Ann"
    assert (await adults.order_by(Person.age).first() or Person()).name == "Bob"
    assert (await adults.where(Person.name == "Bob").one()).age == 20
    assert await adults.where(Person.name == "x").one_or_none() is None
    with pytest.raises(NoRowError, match=r"Repository\[Person\]\.one"):
        await adults.where(Person.name == "x").one()
    with pytest.raises(TooManyRowsError):
        await adults.one_or_none()
    assert (await adults.count(), await adults.limit(1).count()) == (2, 1)
    assert (await adults.exists(), await adults.where(Person.age > 99).exists()) == (True, False)
    assert await persons.select().count() == 3


async def test_update_and_delete_touch_the_rows(people: Database, observer: Observer) -> None:
    """Entities in the session know of it; what is more than conditions is refused."""
    persons = Repository[Person](people)

    async with people.transaction():
        ann = await persons.get_one(1)
        assert await persons.where(Person.id == 1).update(age=31, name="Anna") == 1
        assert (ann.age, ann.name) == (31, "Anna")
    assert await persons.where(Person.age > 25).delete() == 1
    with pytest.raises(OptionError, match="does not take 'nope'"):
        await persons.where(Person.id == 2).update(nope=1)
    for more in (persons.select().limit(1), persons.select().join(Person.pets), persons.select().distinct()):
        with pytest.raises(OptionError, match="conditions alone"):
            await more.delete()

    assert await observer.names(Person) == ["Bob", "Cid"]


async def test_lists_of_any_length(people: Database) -> None:
    """`in_` takes a hundred thousand values, on every database and in every ending."""
    persons = Repository[Person](people)
    many = persons.where(Person.id.in_(range(LONG)), Person.name.not_in([f"n{n}" for n in range(LONG)]))

    assert len(await many.all()) == await many.count() == 3
    assert await many.exists()
    assert len([person async for person in many.stream()]) == 3
    assert await many.where(Person.id > 1).update(age=1) == 2
    assert await persons.where(Person.id.in_(())).all() == []
    assert await many.delete() == 3


async def test_entity_without_a_name_for_its_key(people: Database) -> None:
    """`first` orders by the whole primary key."""
    seats = Repository[Seat](people)
    await seats.add_all([Seat(line=2, number=1), Seat(line=1, number=9), Seat(line=1, number=2)])

    first = await seats.select().first()

    assert first is not None
    assert (first.line, first.number) == (1, 2)
