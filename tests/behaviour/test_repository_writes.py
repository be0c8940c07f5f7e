"""A repository writes what it is told to, at once, and in one transaction."""

import msgspec
import pydantic
import pytest
from sqlalchemy import inspect, update
from sqlalchemy.exc import IntegrityError, InvalidRequestError

from tests.fixtures.observer import Observer
from tests.fixtures.people import Document, Person, Pet, Seat
from unitwork import Database, NoRowError, OptionError, Repository, StaleRowError


class People(Repository[Person]):
    """A subclass without queries."""


class PersonPatch(pydantic.BaseModel):
    """Fields that were not set are not in the patch."""

    name: str = "?"
    age: int | None = None


class PersonStruct(msgspec.Struct):
    """Fields that are UNSET are not in the patch."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    age: int | msgspec.UnsetType | None = msgspec.UNSET


async def test_add_inserts_at_once(people: Database, observer: Observer) -> None:
    """Outside of a block `add`, `add_all` and `create` commit by themselves."""
    persons = People(people)

    dan = await persons.add(Person(name="Dan"))
    await persons.add_all([Person(name="Eve"), Person(name="Fay")])
    gus = await persons.create(name="Gus", age=4)

    assert (dan.id, dan.active, gus.age) == (4, True, 4)
    assert await observer.names(Person) == ["Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gus"]


async def test_writes_belong_to_the_open_block(people: Database, observer: Observer) -> None:
    """Inside a block nothing is committed before its end."""
    with pytest.raises(ValueError, match="no"):
        async with people.transaction():
            await People(people).create(name="Dan")
            await People(people).update(1, {"age": 99})
            raise ValueError("no")

    assert await observer.names(Person) == ["Ann", "Bob", "Cid"]
    assert await observer.scalar("SELECT age FROM person WHERE id = 1") == 30


async def test_save_adds_updates_and_merges(people: Database, observer: Observer) -> None:
    """`save` inserts what is new, sends what changed, and merges what is detached."""
    persons = People(people)

    dan = await persons.save(Person(name="Dan"))
    dan.name = "Dora"
    merged = await persons.save(dan)

    assert merged.name == "Dora"
    assert await observer.names(Person) == ["Ann", "Bob", "Cid", "Dora"]
    async with people.transaction():
        ann = await persons.get_one(1)
        ann.age = 31
        assert await persons.save(ann) is ann
    assert (await persons.get_one(1)).age == 31


@pytest.mark.parametrize(
    "patch",
    [{"age": None}, PersonPatch(age=None), PersonStruct(age=None)],
    ids=["mapping", "pydantic", "msgspec"],
)
async def test_update_changes_what_is_named_only(people: Database, patch: object) -> None:
    """None is a value; what is not set is not touched."""
    changed = await People(people).update(1, patch)

    assert (changed.name, changed.age) == ("Ann", None)
    assert (await People(people).get_one(1)).score == 1.5


async def test_update_never_touches_relationships_unless_named(people: Database, observer: Observer) -> None:
    """A patch of columns leaves children alone; one that names the relationship replaces them."""
    persons = People(people)
    await Repository[Pet](people).add(Pet(name="Rex", owner_id=1))

    await persons.update(1, {"age": 31})
    assert await observer.column("SELECT owner_id FROM pet") == [1]
    async with people.transaction():
        await persons.update(1, {"pets": [Pet(name="Tom")]})

    assert await observer.column("SELECT name FROM pet WHERE owner_id = 1") == ["Tom"]
    assert await observer.column("SELECT name FROM pet WHERE owner_id IS NULL") == ["Rex"]


async def test_update_refuses_what_is_unknown(people: Database) -> None:
    """A key without a row, a name without an attribute, and a patch that cannot be one."""
    with pytest.raises(NoRowError, match=r"People\.update"):
        await People(people).update(99, {"age": 1})
    with pytest.raises(OptionError, match="does not take 'nope'"):
        await People(people).update(1, {"nope": 1})
    with pytest.raises(OptionError, match="does not take '__class__'"):
        await People(people).update(1, {"__class__": Pet})
    with pytest.raises(OptionError, match="a mapping"):
        await People(people).update(1, object())


async def test_update_of_a_composite_key(people: Database) -> None:
    """The key is a tuple."""
    seats = Repository[Seat](people)
    await seats.create(line=1, number=2)

    assert (await seats.update((1, 2), {"holder": "Ann"})).holder == "Ann"


async def test_delete_removes_attached_and_detached(people: Database, observer: Observer) -> None:
    """An entity can be deleted wherever it was read, also changed, and beside its twin."""
    persons = People(people)
    ann = await persons.get_one(1)
    ann.name = "changed, but not sent"

    await persons.delete(ann)
    async with people.transaction():
        await persons.delete(await persons.get_one(2))
    detached = await persons.get_one(3)
    async with people.transaction():
        await persons.get_one(3)
        await persons.delete(detached)

    assert await observer.count(Person) == 0
    with pytest.raises(InvalidRequestError, match="not persisted"):
        await persons.delete(Person(name="new"))


async def test_delete_where_needs_a_condition(people: Database) -> None:
    """The number of rows comes back; to delete all is said otherwise."""
    persons = People(people)

    assert await persons.delete_where(Person.age >= 20, Person.active) == 2
    with pytest.raises(OptionError, match="at least one condition"):
        await persons.delete_where()
    assert await persons.select().delete() == 1


async def test_stale_row_names_entity_and_key(people: Database, observer: Observer) -> None:
    """What somebody else changed meanwhile is not overwritten: save, update and delete say which row."""
    documents = Repository[Document](people)
    document = await documents.create(title="a")
    await observer.run("UPDATE document SET version = 7")

    document.title = "old"
    with pytest.raises(StaleRowError, match=r"The row Document 1 was changed") as stale:
        await documents.save(document)
    with pytest.raises(StaleRowError, match="Document 1"):
        await documents.delete(document)
    with pytest.raises(StaleRowError, match="Document 1"):
        async with people.transaction() as session:
            held = await documents.get_one(1)
            await session.execute(update(Document).values(version=8), execution_options=_QUIETLY)
            await documents.update(held.id, {"title": "lost"})

    assert (stale.value.entity, stale.value.key) == ("Document", "1")
    assert await observer.column("SELECT title FROM document") == ["a"]


# The session's own objects hear nothing of such an UPDATE, as if somebody else had sent it.
_QUIETLY = {"synchronize_session": False}


async def test_refresh_loads_the_present_state(people: Database, observer: Observer) -> None:
    """Attached or detached, the same object is refreshed; unsent changes are lost, and nothing is written."""
    persons = People(people)
    ann = await persons.get_one(1)
    ann.name = "unsent"
    await observer.run("UPDATE person SET age = 77 WHERE id = 1")

    again = await persons.refresh(ann)

    assert again is ann
    assert (ann.name, ann.age, inspect(ann).detached) == ("Ann", 77, True)
    async with people.transaction():
        held = await persons.get_one(1)
        assert await persons.refresh(ann, ["age"]) is held
    assert await observer.scalar("SELECT name FROM person WHERE id = 1") == "Ann"


async def test_expire_expunge_and_is_modified(people: Database) -> None:
    """The session's own operations, by the repository."""
    persons = People(people)

    async with people.transaction() as session:
        ann = await persons.get_one(1)
        assert not await persons.is_modified(ann)
        ann.age = 30
        assert not await persons.is_modified(ann)
        ann.age = 31
        assert await persons.is_modified(ann)
        assert await persons.expire(ann) is ann
        assert "age" not in inspect(ann).dict
        await persons.refresh(ann)
        assert ann.age == 30
        assert await persons.expunge(ann) is ann
        assert ann not in session


async def test_database_error_keeps_its_class_and_tells_the_query(people: Database) -> None:
    """An IntegrityError says which call and Database; our lines hold no value."""
    seats = Repository[Seat](people)
    await seats.create(line=1, number=987654)

    with pytest.raises(IntegrityError) as error:
        await seats.create(line=1, number=987654)

    notes = error.value.__notes__
    assert "While running query Repository[Seat].add on database 'default'." in notes
    assert not any("987654" in note for note in notes)
