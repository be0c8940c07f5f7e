"""Words that people bring from other libraries are understood, or answered with ours."""

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tests.fixtures.observer import Observer
from tests.fixtures.people import Person, Pet, Seat
from unitwork import Database, DeclarationError, Repository

NEW = {"id": 9, "name": "Zoe", "age": 1}


class People(Repository[Person]):
    """A repository in the manner of another library."""

    def __init__(self, session: AsyncSession) -> None:
        super().__init__(session, Person)

    async def adults(self) -> list[Person]:
        return await self.all(query=self.where(Person.age > 18).order_by(Person.name), limit=5)


class Anything(Repository[Any]):
    """A repository whose entity is given when it is made."""


async def test_reads_take_a_query_a_limit_and_an_order(people: Database) -> None:
    """`all(query=, limit=)`, `first(query=, order_by=)`, `count(query=)`."""
    persons = Repository[Person](people)
    grown = select(Person).where(Person.age > 18).order_by(Person.active)

    last = await persons.first(order_by=Person.name.desc())
    first = await persons.first(query=grown, order_by=Person.name)

    assert [person.name for person in await persons.all(query=grown.order_by(Person.id), limit=1)] == ["Ann"]
    assert len(await persons.all(limit=2)) == 2
    assert [each and each.name for each in (last, first)] == ["Cid", "Ann"]
    assert await persons.count(query=grown) == 2


async def test_entity_may_be_given_with_the_session(people: Database) -> None:
    """`super().__init__(session, User)`, and without a class of one's own."""
    async with people.session_factory() as session:
        assert [person.name for person in await People(session).adults()] == ["Ann", "Bob"]

    assert (await Repository(people, Person).get_one(1)).name == "Ann"
    assert await Anything(people, Pet).count() == 0


def test_entity_must_be_that_of_the_class() -> None:
    """Queries are declared for one entity."""
    with pytest.raises(DeclarationError, match="it is about Person, but is given Pet") as caught:
        Named(None, Pet)  # type: ignore[arg-type]  # as without a checker

    assert "leave the second argument out" in str(caught.value)


class Named(Repository[Person]):
    """A repository whose class says its entity."""


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("method", ["add", "add_all", "save", "delete", "bulk_insert"])
async def test_commit_is_answered(people: Database, observer: Observer, method: str, value: bool) -> None:  # noqa: FBT001
    """It would be said in two places: before anything is sent, the error says where it belongs."""
    persons: Any = Repository[Person](people)
    what = {"bulk_insert": [NEW], "add_all": [Person(**NEW)]}.get(method, Person(**NEW))

    with pytest.raises(TypeError, match=rf"{method}\(\) has no keyword 'commit'") as caught:
        await getattr(persons, method)(what, commit=value)

    assert "Fix: leave it out. A block commits at its end" in str(caught.value)
    assert await observer.names(Person) == ["Ann", "Bob", "Cid"]


async def test_index_elements_have_one_name(people: Database) -> None:
    """The error says it; a keyword that nobody knows is refused as well."""
    persons: Any = Repository[Person](people)

    with pytest.raises(TypeError, match="Fix: write `index_elements=` in its place"):
        await persons.bulk_insert([NEW], on_conflict="nothing", on_conflict_index_elements=["id"])
    with pytest.raises(TypeError, match=r"has no keyword 'nonsense'\.$"):
        await persons.add(Person(**NEW), nonsense=1)


def test_entities_have_a_key_as_text() -> None:
    """Of any number of columns; two new entities have two."""
    assert Person(id=1).id_key() == "Person:1"
    assert Seat(line=2, number=7).id_key() == "Seat:2,7"
    first, second = Person(), Person()
    assert first.id_key() != second.id_key()
