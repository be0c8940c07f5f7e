"""What a session is asked in a block comes as SQLAlchemy's own session brings it, on every lane."""

import asyncio

import pytest
from sqlalchemy import Select, column, event, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError, NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, aliased, selectinload
from sqlalchemy.util import await_only

from tests.fixtures.observer import Observer
from tests.fixtures.people import Color, Person, Pet
from unitwork import (
    Database,
    Propagation,
    Repository,
    TransactionRefusedError,
    TransactionTimeoutError,
)
from unitwork.observe import StatementLog

pytestmark = pytest.mark.every_lane


async def test_rows_of_entities(people: Database) -> None:
    """By place, by name, by class; their keys; as scalars, as tuples, as mappings."""
    ann: Select[Person] = select(Person).where(Person.id == 1)
    async with people.transaction() as session:
        person = await session.get(Person, 1)
        result = await session.execute(ann)
        assert list(result.keys()) == ["Person"]
        row = result.one()

        assert row[0] is row.Person is row._mapping[Person] is person
        assert (await session.execute(ann)).scalar_one() is person
        assert [dict(each) for each in (await session.execute(ann)).mappings()] == [{"Person": person}]
        assert (await session.execute(ann)).unique().scalars().all() == [person]
        assert (await session.execute(ann)).freeze()().scalars().all() == [person]
        assert (await session.scalars(ann)).all() == [person]
        assert await session.scalar(ann) is person
        assert next((await session.scalars(select(Person))).partitions(2))[0] is person
        with pytest.raises(InvalidRequestError):
            (await session.execute(select(Person).where(Person.id == 99))).scalars().one()
        assert await session.scalar(select(Person).where(Person.id == 99)) is None
        assert await session.get(Person, 99) is None


async def test_alias_has_a_name_of_its_own(people: Database) -> None:
    """The row knows the alias by itself and by its name."""
    other = aliased(Person, name="other")
    async with people.transaction() as session:
        row = (await session.execute(select(other).where(other.id == 1))).one()

        assert row.other is row._mapping[other]
        assert isinstance(row.other, Person)


async def test_entities_belong_to_the_session(people: Database, observer: Observer) -> None:
    """They are persistent, the same object each time, and what is changed is stored at the end."""
    async with people.transaction() as session:
        person = await session.scalar(select(Person).where(Person.id == 1))
        assert person is not None
        assert inspect(person).persistent
        assert inspect(person).session is session.sync_session
        assert person in session
        assert list(session) == [person]
        assert await session.get(Person, 1) is person
        assert person.color is Color.RED
        person.age = 77
        assert await session.scalar(select(Person).where(Person.age == 77)) is person
        assert await session.scalar(select(func.count()).where(Person.age == 77)) == 1

    assert inspect(person).detached
    assert person.age == 77
    assert await observer.scalar("SELECT age FROM person WHERE id = 1") == 77


async def test_relationships_load_in_the_same_transaction(people: Database) -> None:
    """Lazily through the session, and eagerly with a loader option."""
    async with people.transaction() as session:
        session.add(Pet(id=1, name="Rex", owner_id=1))
        person = await session.scalar(select(Person).where(Person.id == 1))
        assert person is not None
        assert [pet.name for pet in await person.awaitable_attrs.pets] == ["Rex"]
        second = await session.scalar(select(Person).options(selectinload(Person.pets)).where(Person.id == 2))
        assert second is not None
        assert second.pets == []


async def test_session_knows_that_a_transaction_is_open(people: Database) -> None:
    """From the beginning of the block on, whatever was read."""
    async with people.transaction() as session:
        assert session.in_transaction()
        await session.get(Person, 1)
        assert session.in_transaction()
        assert session.sync_session.get_transaction() is not None
        assert await session.run_sync(lambda inner: inner.in_transaction())
        assert not session.in_nested_transaction()
        async with people.transaction(propagation=Propagation.NESTED):
            assert await session.scalar(select(Person).where(Person.id == 1)) is not None
            assert session.in_nested_transaction()


async def test_after_a_rollback_entities_are_expired(people: Database) -> None:
    """As SQLAlchemy's: what was read in a transaction that never was says nothing."""
    async with people.transaction() as session:
        person = await session.get(Person, 1)
        people.set_rollback_only()

    state = inspect(person)
    assert state is not None
    assert state.detached
    assert state.expired


async def test_refresh_lock_and_populate(people: Database, observer: Observer) -> None:
    """What was changed elsewhere shows when it is asked for, and not before."""
    async with people.transaction() as session:
        person = await session.get(Person, 1)
        assert person is not None
        await session.execute(text("UPDATE person SET age = 50 WHERE id = 1"))
        assert (await session.scalar(select(Person).where(Person.id == 1))).age == 30  # type: ignore[union-attr]
        populated = select(Person).where(Person.id == 1).execution_options(populate_existing=True)
        assert (await session.scalar(populated)).age == 50  # type: ignore[union-attr]
        await session.execute(text("UPDATE person SET age = 51 WHERE id = 1"))
        assert (await session.get(Person, 1, populate_existing=True)).age == 51  # type: ignore[union-attr]
        await session.execute(text("UPDATE person SET age = 52 WHERE id = 1"))
        await session.refresh(person)
        assert person.age == 52
        session.expire(person)
        assert (await session.scalar(select(Person).where(Person.id == 1))).age == 52  # type: ignore[union-attr]

    assert await observer.scalar("SELECT age FROM person WHERE id = 1") == 52


async def test_error_is_that_of_the_session(people: Database) -> None:
    """Its class, and the block that it is told with; the block can only roll back."""
    with pytest.raises(DBAPIError) as failed:
        async with people.transaction() as session:
            await session.get(Person, 1)
            try:
                await session.scalar(select(Person).where(func.no_such_function(Person.id) == 1))
            except DBAPIError:
                with pytest.raises(TransactionRefusedError):
                    await session.get(Person, 2)
                raise

    assert "no_such_function" in str(failed.value)
    assert any("on database 'default'" in note for note in failed.value.__notes__)


async def test_listener_that_comes_in_the_middle_hears(people: Database) -> None:
    """Statements that come after it, and the end of the transaction."""
    heard: list[str] = []
    async with people.transaction() as session:
        await session.get(Person, 1)
        event.listen(session.sync_session, "do_orm_execute", lambda _asked: heard.append("select"))
        event.listen(session.sync_session, "before_commit", lambda _session: heard.append("commit"))
        await session.scalar(select(Person).where(Person.id == 2))

    assert heard == ["select", "commit"]


@pytest.mark.parametrize("atomic", [True, False])
async def test_reads_of_units_hold_nothing(
    people: Database,
    observer: Observer,
    atomic: bool,  # noqa: FBT001
) -> None:
    """What is only read leaves no transaction open; the first write begins one."""
    async with people.unit_of_work(atomic=atomic) as session:
        person = await session.scalar(select(Person).where(Person.id == 1))
        assert person is not None
        assert not session.in_transaction()
        assert people.pool_status().checked_out == 0
        session.add(Pet(name="first", owner_id=1))
        await session.flush()
        assert session.in_transaction()
        assert people.pool_status().checked_out == 1
        await people.commit()
        assert people.pool_status().checked_out == 0
        assert person in session

    assert await observer.values(Pet, "name") == ["first"]


async def test_added_to_the_session(people: Database, observer: Observer) -> None:
    """Flushed by hand, by a read, or by the end: stored, with what the database fills in."""
    async with people.transaction() as session:
        first = Pet(name="first", owner_id=1)
        session.add(first)
        await session.flush()
        assert first.id is not None
        assert inspect(first).persistent
        second = Pet(name="second", owner_id=1)
        session.add(second)
        assert await session.scalar(select(func.count()).select_from(Pet)) == 2
        third = Pet(name="third", owner_id=2)
        session.add(third)
        first.name = "changed"

    assert inspect(third).detached
    assert await observer.column("SELECT name FROM pet ORDER BY name") == ["changed", "second", "third"]


async def test_added_and_rolled_back(people: Database, observer: Observer) -> None:
    """New again, with its values, and can be added once more."""
    pet = Pet(name="first", owner_id=1)
    with pytest.raises(LookupError):
        async with people.transaction() as session:
            session.add(pet)
            await session.flush()
            assert await session.get(Pet, pet.id) is pet
            raise LookupError

    assert inspect(pet).transient
    assert pet.name == "first"
    async with people.transaction() as session:
        session.add(pet)
    assert await observer.column("SELECT name FROM pet") == ["first"]


async def test_added_deleted_and_rolled_back(people: Database, observer: Observer) -> None:
    """New again as well."""
    pet = Pet(name="first", owner_id=1)
    async with people.transaction() as session:
        session.add(pet)
        await session.flush()
        await session.delete(pet)
        await session.flush()
        people.set_rollback_only()

    assert inspect(pet).transient
    assert await observer.column("SELECT name FROM pet") == []


async def test_plain_session_of_a_class_of_its_own(people: Database) -> None:
    """What is given to a program is SQLAlchemy's class."""
    async with people.transaction() as session:
        assert isinstance(session, AsyncSession)
        assert isinstance(session.sync_session, Session)


async def test_savepoint_of_the_session_inside(people: Database, observer: Observer) -> None:
    """Begun where no task can wait: what is read and added in it belongs to it."""
    async with people.transaction() as session:
        assert await session.get(Person, 1) is not None
        savepoint = await session.run_sync(lambda inner: inner.begin_nested())
        pet = await Repository[Pet](people).add(Pet(name="gone", owner_id=1))
        assert (await session.scalars(select(Pet))).all() == [pet]
        await session.run_sync(lambda _inner: savepoint.rollback())
        assert inspect(pet).transient

    assert await observer.column("SELECT name FROM pet") == []


async def test_session_inside_has_begun(people: Database, observer: Observer) -> None:
    """Whoever begins it by hand is told so, and cannot commit the block."""
    with pytest.raises(InvalidRequestError, match="already begun"):
        async with people.transaction() as session:
            await session.get(Person, 1)
            with session.sync_session.begin():
                await session.execute(text("INSERT INTO pet (name) VALUES ('half')"))

    assert await observer.column("SELECT name FROM pet") == []


async def test_changed_while_it_waits_for_its_turn(people: Database, observer: Observer) -> None:
    """What is stored is what the entity has when it is sent."""
    begun = asyncio.Event()
    pet = Pet(name="old", owner_id=1)

    async def slow(_session: Session) -> None:
        begun.set()
        await asyncio.sleep(0.05)

    async with people.transaction() as session:
        await session.get(Person, 1)
        first = asyncio.create_task(session.run_sync(lambda inner: await_only(slow(inner))))
        await begun.wait()
        second = asyncio.create_task(Repository[Pet](people).add(pet))
        await asyncio.sleep(0)
        pet.name = "new"
        await first
        await second

    assert pet.name == "new"
    assert await observer.column("SELECT name FROM pet") == ["new"]


async def test_expired_entity_is_whole_after_a_read(people: Database) -> None:
    """For everybody who asks for it later, also if it has relationships."""
    async with people.transaction() as session:
        person = await session.get(Person, 1)
        session.expire(person)
        assert (await session.scalars(select(Person).where(Person.id == 1))).one() is person
        assert await session.get(Person, 1) is person
        assert not inspect(person).expired


async def test_expunged_before_a_rollback(people: Database, observer: Observer) -> None:
    """It is new again all the same, and can be added to another session."""
    pet = Pet(name="first", owner_id=1)
    async with people.transaction() as session:
        await Repository[Pet](people).add(pet)
        session.expunge(pet)
        people.set_rollback_only()

    assert inspect(pet).transient
    async with people.transaction() as session:
        session.add(pet)
    assert await observer.column("SELECT name FROM pet") == ["first"]


@pytest.mark.only("sqlite", reason="where the statement runs on in a thread")
async def test_cancelled_statement_is_interrupted(people: Database) -> None:
    """The first statement of a block and a later one; it would take minutes."""
    endless = text(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n WHERE x < 0"
    )
    slow = select(Person).where(Person.id == endless.columns(column("x")).scalar_subquery())
    for reads_before in (0, 1):
        with pytest.raises(TransactionTimeoutError):
            async with people.transaction(timeout=0.1) as session:
                for _ in range(reads_before):
                    await session.get(Person, 1)
                await session.scalar(slow)

    assert people.pool_status().checked_out == 0


async def test_session_of_a_unit_at_rest_holds_what_it_reads(people: Database, observer: Observer) -> None:
    """Persistent, the same object each time, without a transaction or a connection; a change is stored."""
    async with people.unit_of_work() as session:
        person = await session.get_one(Person, 1)
        assert people.pool_status().checked_out == 0
        assert not session.in_transaction()
        assert inspect(person).persistent
        assert list(session) == [person]
        assert await session.get(Person, 1) is person
        assert await session.scalar(select(Person).where(Person.id == 1)) is person
        assert (await session.execute(select(Person).where(Person.id == 1))).scalar_one() is person
        assert await session.get(Person, 99) is None
        with pytest.raises(NoResultFound, match="No row was found when one was required"):
            await session.get_one(Person, 99)
        person.age = 78
        assert await session.scalar(select(Person.age).where(Person.id == 1)) == 78
        assert people.pool_status().checked_out == 1  # the change had to be sent

    assert inspect(person).detached
    assert await observer.scalar("SELECT age FROM person WHERE id = 1") == 78


async def test_entity_that_must_be_there_is_asked_for_once(people: Database) -> None:
    """At rest and in a block, which goes on where somebody catches the error."""
    missing = r"^No row was found when one was required$"
    with StatementLog(people) as log:
        async with people.unit_of_work() as session:
            with pytest.raises(NoResultFound, match=missing):
                await session.get_one(Person, 99)
        async with people.transaction() as session:
            with pytest.raises(NoResultFound, match=missing):
                await session.get_one(Person, 99)
            assert (await session.get_one(Person, 1)).id == 1
    assert len([sql for sql in log.texts if "person" in sql]) == 3


async def test_entity_that_is_held_is_not_read_again(people: Database) -> None:
    """By its key it is given as it is, and nothing is sent for that; an expired or deleted one is read."""
    repository = Repository[Person](people)
    async with people.transaction() as session:
        person = await session.get_one(Person, 1)
        person.name = "Eve"
        session.add(Person(name="new"))
        with StatementLog(people) as log:
            found = [await session.get(Person, 1), await repository.get(1), await repository.get_one(1)]
            assert found == [person] * 3
            assert [each.sql for each in log.statements] == []
        assert person.name == "Eve"

        await session.flush()
        session.expire(person)
        assert await repository.get(1) is person
        assert "name" in inspect(person).dict
        await repository.delete(person)
        assert await session.get(Person, 1) is None
        assert await repository.get(1) is None
        people.set_rollback_only()


async def test_session_of_a_unit_at_rest_is_read_by_its_tasks_in_turn(people: Database) -> None:
    """Each gets the same entities, also while a block of another task is open on the session."""
    async with people.unit_of_work() as session:
        both = await asyncio.gather(session.get(Person, 1), session.get(Person, 1))
        assert both[0] is both[1]

        entered, done = asyncio.Event(), asyncio.Event()

        async def block() -> None:
            async with people.transaction():
                await session.scalar(select(func.count()).select_from(Person))
                entered.set()
                await done.wait()

        task = asyncio.create_task(block())
        await entered.wait()
        reading = asyncio.create_task(session.get(Person, 2))
        await asyncio.sleep(0)
        done.set()
        await task
        assert inspect(await reading).session is session.sync_session


async def test_failed_read_of_a_unit_at_rest_is_told_as_by_the_session(people: Database) -> None:
    """With the class of SQLAlchemy, the place, and nothing condemned."""
    missing: Select[int] = select(column("nowhere")).select_from(Person)
    async with people.unit_of_work() as session:
        with pytest.raises(DBAPIError) as raised:
            await session.execute(missing)

        assert any("the unit of work at" in note for note in raised.value.__notes__)
        assert await session.get(Person, 1) is not None
