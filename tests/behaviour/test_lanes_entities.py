"""Entities of the faster lanes are whole: what SQLAlchemy does with an entity, it does with them."""

import gc
import pickle
import uuid
import weakref
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    ForeignKey,
    MetaData,
    Select,
    String,
    exists,
    func,
    inspect,
    literal_column,
    select,
)
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    Mapped,
    aliased,
    column_property,
    composite,
    joinedload,
    mapped_column,
    reconstructor,
    selectinload,
    subqueryload,
)
from sqlalchemy.orm.exc import StaleDataError

from tests.fixtures.mixins import Lamp, Room
from tests.fixtures.observer import Observer
from tests.fixtures.people import Document, Person, Pet, Seat
from unitwork import Base, Database, Repository, query
from unitwork.observe import StatementLog
from unitwork.options import Lane

pytestmark = pytest.mark.every_lane


class Zoo(Base):
    """The base of models that need more than a row, and some that do not."""

    __abstract__ = True
    metadata = MetaData()


class Beast(Zoo):
    """The root of an inheritance."""

    __tablename__ = "beast"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "beast"}  # noqa: RUF012  # SQLAlchemy's

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))


class Bird(Beast):
    """In the table of its root."""

    __mapper_args__ = {"polymorphic_identity": "bird"}  # noqa: RUF012  # as above

    wings: Mapped[int | None]


class Fish(Beast):
    """In a table of its own."""

    __tablename__ = "fish"
    __mapper_args__ = {"polymorphic_identity": "fish"}  # noqa: RUF012  # as above

    id: Mapped[int] = mapped_column(ForeignKey("beast.id"), primary_key=True)
    fins: Mapped[int | None]


class Point:
    """Two columns in one attribute."""

    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __composite_values__(self) -> tuple[int, int]:
        return self.x, self.y


class Den(Zoo):
    """One attribute of each kind that is more than a column."""

    __tablename__ = "den"

    id: Mapped[int] = mapped_column(primary_key=True)
    x: Mapped[int]
    y: Mapped[int]
    note: Mapped[str | None] = mapped_column(String(20), deferred=True)
    doubled: Mapped[int] = column_property(literal_column("x") * 2)
    point: Mapped[Point] = composite("x", "y")


class Cage(Zoo):
    """Attributes that Python makes of columns."""

    __tablename__ = "cage"

    id: Mapped[int] = mapped_column(primary_key=True)
    width: Mapped[int] = mapped_column("w")
    extra: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON()), default=dict)

    @hybrid_property
    def area(self) -> int:
        """A number that is not stored."""
        return self.width * 10

    @reconstructor
    def wake(self) -> None:
        """What SQLAlchemy calls for each entity that it loads."""
        self.awake = True


class People(Repository[Person]):
    """Reads of persons."""

    @query.many
    def with_pets(self) -> Select[Person]:
        return select(Person).options(selectinload(Person.pets)).order_by(Person.id)


@pytest.fixture
async def zoo(db: Database) -> Database:
    """A Database with these tables, and rows in them."""
    await db.create_all(Zoo)
    async with db.transaction() as session:
        session.add_all([Beast(id=1), Bird(id=2, wings=2), Fish(id=3, fins=5)])
        session.add(Den(id=1, x=3, y=4, note="dark"))
        session.add(Cage(id=1, width=7, extra={"a": 1}))
    return db


@pytest.fixture
async def owned(people: Database) -> Database:
    """Persons of whom the first has two pets."""
    async with people.transaction() as session:
        session.add_all([Pet(id=1, name="Rex", owner_id=1), Pet(id=2, name="Tom", owner_id=1)])
    return people


# -- detached ----------------------------------------------------------------------------------------


async def test_entity_outside_of_a_block_is_detached(people: Database) -> None:
    """With all its values, and nothing to be sent."""
    person = await People(people).get_one(1)
    state = inspect(person)

    assert state.detached
    assert state.key == (Person, (1,), None)
    assert not state.modified
    assert not state.unloaded - {"pets"}
    assert person.name == "Ann"
    assert pickle.loads(pickle.dumps(person)).name == "Ann"  # our own


async def test_detached_entity_is_attached_again(owned: Database, observer: Observer) -> None:
    """By `add`, with changes that were made outside, and with what it loads later."""
    repository = People(owned)
    person = await repository.get_one(1)
    person.age = 31

    async with owned.transaction() as session:
        session.add(person)
        assert inspect(person).persistent
        assert [pet.name for pet in await person.awaitable_attrs.pets] == ["Rex", "Tom"]

    assert await observer.scalar("SELECT age FROM person WHERE id = 1") == 31


async def test_detached_entity_is_merged_and_refreshed(owned: Database, observer: Observer) -> None:
    """Merging copies what was changed; a refresh shows what others wrote."""
    repository = People(owned)
    person = await repository.get_one(1)
    person.age = 32

    async with owned.transaction() as session:
        merged = await session.merge(person)
        assert merged is not person
    assert await observer.scalar("SELECT age FROM person WHERE id = 1") == 32

    await observer.run("UPDATE person SET age = 33 WHERE id = 1")
    async with owned.transaction() as session:
        session.add(person)
        await session.refresh(person)
        assert person.age == 33
        await session.delete((await repository.all())[-1])
    assert await repository.count() == 2


async def test_entity_is_freed_without_the_collector(people: Database) -> None:
    """Nothing keeps what a caller has let go of, wherever it was read."""
    repository = People(people)
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            found = weakref.ref(await repository.get_one(1))
            assert found() is None
            many = [weakref.ref(person) for person in await repository.all()]
            assert [each() for each in many] == [None] * len(many)
            async with people.unit_of_work():
                found = weakref.ref(await repository.get_one(1))
                assert found() is None
            async with people.transaction():
                found = weakref.ref(await repository.where(Person.id == 1).one())
                assert found() is None
    finally:
        gc.enable()


# -- attached ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["unit", "block"])
async def test_entity_is_the_one_of_its_session(owned: Database, observer: Observer, place: str) -> None:
    """The same for the same row, however it is read; its changes are sent."""
    repository = People(owned)
    async with owned.unit_of_work() if place == "unit" else owned.transaction():
        person = await repository.get_one(1)
        assert inspect(person).persistent
        assert person in owned.session
        assert owned.session.identity_key(Person, 1) == inspect(person).key
        assert await repository.get_one(1) is person
        assert (await repository.where(Person.id > 0).order_by(Person.id).all())[0] is person
        assert await owned.session.get(Person, 1) is person
        assert not owned.session.dirty
        assert [pet.name for pet in await person.awaitable_attrs.pets] == ["Rex", "Tom"]

        person.age = 50
        assert owned.session.dirty
        assert (await repository.where(Person.age == 50).one()) is person, "changes are sent before a read"
        if place == "unit":
            await owned.commit()
    assert await observer.scalar("SELECT age FROM person WHERE id = 1") == 50


async def test_row_that_others_changed_does_not_change_the_entity(
    people: Database, observer: Observer
) -> None:
    """Unless it is expired; then the next read loads it."""
    repository = People(people)
    async with people.unit_of_work():
        person = await repository.get_one(1)
        await observer.run("UPDATE person SET age = 77 WHERE id = 1")
        assert (await repository.where(Person.id == 1).one()).age == 30
        assert person.age == 30

        people.session.expire(person)
        assert (await repository.where(Person.id == 1).one()) is person
        assert person.age == 77

        await observer.run("UPDATE person SET age = 78 WHERE id = 1")
        people.session.expire(person, ["age"])
        assert (await repository.all())[0] is not None
        assert person.age == 78


async def test_entities_that_are_deleted_or_new(people: Database) -> None:
    """A read sends them first, as always."""
    repository = People(people)
    async with people.transaction() as session:
        await session.delete(await repository.get_one(1))
        assert await repository.where(Person.id == 1).all() == []
        session.add(Person(name="New"))
        assert [person.name for person in await repository.where(Person.name == "New").all()] == ["New"]
        with session.no_autoflush:
            session.add(Person(name="Later"))
            assert await repository.where(Person.name == "Later").all() == []


async def test_rollback_expires_what_was_read(people: Database, observer: Observer) -> None:
    """And the next read in the unit of work loads it again."""
    repository = People(people)
    async with people.unit_of_work():
        person = await repository.get_one(1)
        person.age = 99
        await people.session.flush()
        await people.rollback()
        assert (await repository.where(Person.id == 1).one()).age == 30
        assert person.age == 30
    assert await observer.scalar("SELECT age FROM person WHERE id = 1") == 30


async def test_composite_key_and_version(people: Database) -> None:
    """A key of two columns, and a version that finds lost updates."""
    async with people.transaction() as session:
        session.add_all([Seat(line=1, number=2, holder="x"), Document(id=1, title="a")])
    seat = await Repository[Seat](people).get_one((1, 2))
    document = await Repository[Document](people).get_one(1)
    assert (seat.holder, inspect(seat).identity, document.version) == ("x", (1, 2), 1)

    async with people.transaction():
        (await Repository[Document](people).get_one(1)).title = "b"
    document.title = "c"
    with pytest.raises(StaleDataError):
        async with people.transaction() as session:
            session.add(document)


async def test_row_that_an_outer_join_does_not_find_is_none(owned: Database) -> None:
    """As the session says it."""
    pets = Repository[Pet](owned)
    statement = select(Pet).select_from(Person).outerjoin(Person.pets).order_by(Person.id, Pet.id)

    async def names() -> list[str | None]:
        found: list[Pet | None] = list(await pets.all(statement))
        return [pet.name if pet is not None else None for pet in found]

    assert await names() == ["Rex", "Tom", None, None]
    async with owned.transaction():
        assert await names() == ["Rex", "Tom", None, None]


# -- models that need more than a row ----------------------------------------------------------------


async def test_models_that_need_more_than_a_row(zoo: Database) -> None:
    """Inheritance, deferred columns, computed ones, composites, hybrids, reconstructors."""
    beasts = await Repository[Beast](zoo).all(select(Beast).order_by(Beast.id))
    assert [type(beast) for beast in beasts] == [Beast, Bird, Fish]
    assert (await Repository[Bird](zoo).get_one(2)).wings == 2
    assert await Repository[Bird](zoo).get(1) is None
    assert (await Repository[Fish](zoo).get_one(3)).fins == 5

    den = await Repository[Den](zoo).get_one(1)
    assert (den.doubled, den.point) == (6, Point(3, 4))
    assert "note" in inspect(den).unloaded

    cage = await Repository[Cage](zoo).get_one(1)
    assert (cage.width, cage.area, cage.extra, cage.awake) == (7, 70, {"a": 1}, True)
    assert [each.id for each in await Repository[Cage](zoo).where(Cage.area == 70).all()] == [1]


async def test_change_inside_a_mutable_value_is_sent(zoo: Database, observer: Observer) -> None:
    """The entity knows of it."""
    async with zoo.unit_of_work():
        cage = await Repository[Cage](zoo).get_one(1)
        cage.extra["b"] = 2
        await zoo.commit()
    assert (await Repository[Cage](zoo).get_one(1)).extra == {"a": 1, "b": 2}
    assert "b" in str(await observer.scalar("SELECT extra FROM cage"))


async def test_loader_options_are_honoured(owned: Database) -> None:
    """Collections are there without another statement."""
    for statement in (
        select(Person).options(selectinload(Person.pets)),
        select(Person).options(joinedload(Person.pets)),
    ):
        person = (await People(owned).all(statement.order_by(Person.id)))[0]
        assert sorted(pet.name for pet in person.pets) == ["Rex", "Tom"]
    assert len((await People(owned).with_pets())[0].pets) == 2


# -- rows that hide ----------------------------------------------------------------------------------


OTHER = aliased(Lamp)


class Lamps(Repository[Lamp]):
    """Statements that could show what is hidden."""

    @query.many
    def joined(self) -> Select[str]:
        return select(Lamp.name).select_from(Room).join(Room.lamps)

    @query.many
    def aliased(self) -> Select[str]:
        return select(OTHER.name)

    @query.many
    def nested(self) -> Select[str]:
        return select(select(Lamp.name).subquery().c.name)

    @query.many
    def rooms(self) -> Select[int]:
        return select(Room.id).join(Room.lamps)

    @query.many
    def rooms_of_aliased(self) -> Select[int]:
        return select(Room.id).join(Room.lamps.of_type(OTHER))

    @query.scalar
    def number(self) -> Select[int]:
        return select(func.count()).select_from(Lamp)

    @query.scalar
    def number_of_rooms(self) -> Select[int]:
        return select(func.count(Room.id)).select_from(Room).join(Room.lamps)

    @query.scalar
    def inner(self) -> Select[int]:
        return select(select(func.count(Lamp.id)).scalar_subquery())

    @query.scalar
    def any(self) -> Select[bool]:
        return select(exists().where(Lamp.name == "gone"))


async def check_hidden(db: Database, key: uuid.UUID) -> None:
    """No way to read shows the deleted lamp."""
    lamps, rooms = Repository[Lamp](db), Repository[Room](db)
    names = Lamps(db)
    assert [lamp.name for lamp in await lamps.all()] == ["here"]
    assert await lamps.get(key) is None
    assert await lamps.count() == 1
    assert not await lamps.exists(name="gone")
    assert await names.joined() == await names.aliased() == await names.nested() == ["here"]
    assert await names.rooms() == await names.rooms_of_aliased() == [1]
    assert (await names.number(), await names.number_of_rooms(), await names.inner()) == (1, 1, 1)
    assert not await names.any()
    assert len(await rooms.where().join(Room.lamps).all()) == 1
    assert await rooms.where(Room.lamps.any(Lamp.name == "gone")).all() == []


async def test_deleted_rows_stay_hidden(lit: Database) -> None:
    """In each form of a statement that might show them."""
    async with lit.transaction() as session:
        gone, here = Lamp(name="gone"), Lamp(name="here")
        session.add(Room(id=1, lamps=[gone, here]))
        await session.flush()
        gone.soft_delete()
        key = gone.id

    for _ in range(2):
        await check_hidden(lit, key)
        async with lit.transaction():
            await check_hidden(lit, key)
        async with lit.unit_of_work():
            await check_hidden(lit, key)


async def test_the_lane_that_was_chosen_is_taken(people: Database, lane: Lane) -> None:
    """`fastest_lane` is the fastest; a block keeps from the driver lane."""
    repository = People(people)
    await repository.get(1)

    assert people.explain_lane(select(Person)).lane is lane
    assert people.explain_lane(repository.with_pets).lane is lane
    assert people.explain_lane(select(Person).options(subqueryload(Person.pets))).lane is Lane.SESSION
    async with people.transaction():
        assert people.explain_lane(select(Person)).lane is (Lane.FUSED if lane is Lane.DRIVER else lane)
    with StatementLog(people):
        assert people.explain_lane(select(Person)).lane is lane


async def test_first_read_of_a_database_is_right(people: Database, lane: Lane) -> None:
    """SQLAlchemy learns from the first connection what the server has: UUIDs in MariaDB, none in MySQL."""
    for _ in range(2):
        async with Database(people.engine.url, name="fresh", fastest_lane=lane) as db:
            assert "no connection" in str(db.explain_lane(select(Person))) or lane is Lane.SESSION
            async with db.transaction():
                first = await People(db).get_one(1)
            again = await People(db).get_one(1)
            assert isinstance(first.token, uuid.UUID)
            assert (first.token, first.paid, first.seen) == (again.token, again.paid, again.seen)
