"""A repository reads entities by key, by attributes and by statements, in any kind of session."""

# mypy: disable-error-code="empty-body"

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from tests.fixtures.people import Person, Pet, Seat
from unitwork import (
    Database,
    DatabaseChoiceError,
    DeclarationError,
    NoRowError,
    NoTransactionError,
    OptionError,
    Repository,
    query,
    repository,
)

pytestmark = pytest.mark.every_lane


class People(Repository[Person]):
    """A subclass without queries."""


async def test_get_returns_the_entity_or_none(people: Database) -> None:
    """`get` is by primary key, and None when there is no such row or no key."""
    persons = Repository[Person](people)

    assert (await persons.get(1) or Person()).name == "Ann"
    assert await persons.get(99) is None
    assert await persons.get(None) is None


async def test_get_one_raises_when_there_is_none(people: Database) -> None:
    """`get_one` promises the entity."""
    assert (await People(people).get_one(2)).name == "Bob"
    with pytest.raises(NoRowError, match=r"People\.get_one"):
        await People(people).get_one(99)


async def test_composite_keys_are_tuples_or_mappings(people: Database) -> None:
    """A key of two columns is a tuple in the order of the mapping, or a mapping."""
    seats = Repository[Seat](people)
    await seats.add_all([Seat(line=1, number=2, holder="x"), Seat(line=2, number=1)])

    assert (await seats.get_one((1, 2))).holder == "x"
    assert (await seats.get_one({"line": 2, "number": 1})).holder is None
    assert await seats.get((2, 2)) is None


async def test_find_exists_count_first_and_all(people: Database) -> None:
    """The usual questions, with and without a statement."""
    persons = People(people)
    adults = select(Person).where(Person.age > 18)

    assert (await persons.find_by(name="Bob", age=20) or Person()).id == 2
    assert await persons.find_by(name="Bob", age=None) is None
    assert (await persons.find_by(age=None) or Person()).name == "Cid"
    assert (await persons.exists(name="Cid"), await persons.exists(name="Zoe")) == (True, False)
    assert (await persons.count(), await persons.count(adults)) == (3, 2)
    assert (await persons.first() or Person()).name == "Ann"
    assert (await persons.first(adults.order_by(Person.age)) or Person()).name == "Bob"
    assert [person.name for person in await persons.all(adults.order_by(Person.name.desc()))] == [
        "Bob",
        "Ann",
    ]
    assert len(await persons.all()) == 3


@pytest.mark.parametrize("name", ["nope", "metadata", "__class__", "name; DROP TABLE person", "registry"])
async def test_unknown_attribute_is_refused(people: Database, name: str) -> None:
    """Only mapped attributes can be asked for; a name never becomes SQL."""
    with pytest.raises(OptionError, match="The option attribute does not take"):
        await People(people).find_by(**{name: 1})
    with pytest.raises(OptionError, match="Fix: use"):
        await People(people).exists(**{name: 1})

    assert await People(people).count() == 3


async def test_loader_options_load_what_they_say(people: Database) -> None:
    """`options=` takes SQLAlchemy's loader options, for `get` and `get_one`."""
    async with people.transaction() as session:
        session.add(Pet(owner_id=1, name="Rex"))

    ann = await People(people).get_one(1, options=[selectinload(Person.pets)])
    also = await People(people).where(Person.id == 1).options(selectinload(Person.pets)).one()

    assert [pet.name for pet in ann.pets] == [pet.name for pet in also.pets] == ["Rex"]


async def test_lock_needs_a_transaction(people: Database) -> None:
    """A lock without a transaction would end at once: refused."""
    with pytest.raises(NoTransactionError):
        await People(people).get(1, lock="update")
    with pytest.raises(OptionError, match="'skip_locked'"):
        await People(people).get(1, lock="exclusive")  # type: ignore[arg-type]  # what a person may type


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has no row locks")
async def test_lock_keeps_others_away(people: Database) -> None:
    """A locked row is passed over by `skip_locked`, and an error for `nowait`."""
    persons = People(people)

    async with people.transaction():
        ann = await persons.get_one(1, lock="update")
        async with people.transaction(propagation="REQUIRES_NEW"):
            assert await persons.get(1, lock="skip_locked") is None
            assert await persons.get(2, lock="share") is not None
        with pytest.raises(Exception, match=r"(?i)lock"):
            async with people.transaction(propagation="REQUIRES_NEW"):
                await persons.get(1, lock="nowait")
        ann.age = 31

    assert (await persons.get_one(1)).age == 31


@pytest.mark.parametrize("lock", ["update", "share", "skip_locked", "nowait"])
async def test_each_lock_is_taken(people: Database, lock: str) -> None:
    """Every kind of lock reads the present row, on every database."""
    async with people.transaction():
        assert (await People(people).get_one(1, lock=lock)).name == "Ann"  # type: ignore[arg-type]  # one of the four


async def test_reads_outside_of_a_block_hold_nothing(people: Database) -> None:
    """After each read the connection is back in the pool."""
    persons = People(people)
    for read in (persons.get(1), persons.all(), persons.count(), persons.exists(name="x"), persons.first()):
        await read
        assert people.pool_status().checked_out == 0


async def test_given_session_is_used_and_never_ended(people: Database) -> None:
    """On a session of yours everything is read and written there, and you commit."""
    async with people.session_factory() as session:
        persons = People(session)
        await persons.create(name="Dan")
        await persons.update(1, {"age": 31})
        assert persons.session is session
        assert await persons.count() == 4
        await session.rollback()

    assert await People(people).count() == 3


async def test_ambient_session_is_found(people: Database) -> None:
    """Without an argument a repository uses the open block, and its session."""
    persons = People()

    async with people.transaction() as session:
        assert persons.session is session
        assert await persons.get(1) is await session.get(Person, 1)
    with pytest.raises(NoTransactionError):
        _ = People(people).session


async def test_repository_without_entity_is_refused() -> None:
    """A repository needs a model."""
    with pytest.raises(DeclarationError, match=r"it has no entity"):
        await Repository(None).get(1)


class ByName:
    """A plain class that holds what it was given."""

    def __init__(self, *held: object) -> None:
        self.first, self.second = (*held, None, None)[:2]


@repository(entity=Person)
class PlainPeople(ByName):
    """A plain class, made a repository by the decorator."""

    @query("name = :name")
    async def called(self, name: str) -> Person | None: ...

    async def rename(self, key: int, name: str) -> None:
        """Public coroutine methods are transactional."""
        person = await self.called("Ann")
        assert person is not None
        person.name = name
        if key < 0:
            raise ValueError(key)


async def test_plain_class_becomes_a_repository(people: Database) -> None:
    """`@repository(entity=...)` needs no base class; methods commit together or not at all."""
    plain = PlainPeople()

    with pytest.raises(ValueError, match="-1"):
        await plain.rename(-1, "Eve")
    assert await plain.called("Eve") is None
    await plain.rename(1, "Eve")

    assert await plain.called("Eve") is not None


async def test_plain_class_uses_the_database_or_session_that_it_holds(people: Database) -> None:
    """A Database or AsyncSession in an attribute is where the queries run; two are refused."""
    async with Database("sqlite+aiosqlite:///:memory:") as other:
        assert await PlainPeople(people).called("Ann") is not None
        async with people.session_factory() as session:
            plain = PlainPeople(session)
            await plain.rename(1, "Eve")
            assert await plain.called("Eve") is not None
            await session.rollback()
        with pytest.raises(DatabaseChoiceError, match="holds several"):
            await PlainPeople(people, other).called("Ann")

    assert await PlainPeople(people).called("Ann") is not None


@repository(entity=Person)
class SlottedPeople:
    """A class whose objects can hold nothing."""

    __slots__ = ()

    @query
    async def called(self, name: str) -> list[Person]: ...


async def test_class_with_slots_works(people: Database) -> None:
    """A repository stores nothing on objects of foreign classes."""
    assert len(await SlottedPeople().called("Ann")) == 1


async def test_any_async_session_can_be_given(people: Database) -> None:
    """Also one that has nothing to do with a Database."""
    async with AsyncSession(people.engine) as session:
        assert await People(session).where(Person.age > 18).count() == 2
