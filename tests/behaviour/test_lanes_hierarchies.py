"""Entities of hierarchies, and with deferred or computed columns, are the same on each lane."""

# ruff: noqa: RUF012 - `__mapper_args__` is SQLAlchemy's

import enum
import pickle
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import (
    ForeignKey,
    ForeignKeyConstraint,
    MetaData,
    Select,
    String,
    case,
    event,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    Mapped,
    aliased,
    column_property,
    deferred,
    mapped_column,
    query_expression,
    relationship,
    undefer,
    with_polymorphic,
)

from tests.fixtures.observer import Observer
from tests.properties.test_lanes_agree import seen, told
from unitwork import Base, Database, PageRequest, Repository
from unitwork.options import Lane


class Tables(Base):
    """The base of these tables, apart from those that every database has."""

    __abstract__ = True
    metadata = MetaData()


class Creature(Tables):
    """The root of a hierarchy of both sorts."""

    __tablename__ = "animal"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str | None] = mapped_column(String(20))
    name: Mapped[str] = mapped_column("called", String(20))
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("keeper.id"))

    owner: Mapped["Caretaker | None"] = relationship(back_populates="animals")


class Caretaker(Tables):
    """Has animals."""

    __tablename__ = "keeper"

    id: Mapped[int] = mapped_column(primary_key=True)
    animals: Mapped[list[Creature]] = relationship(back_populates="owner", order_by=Creature.id)


class Mammal(Creature):
    """Has no rows of its own."""

    __mapper_args__ = {"polymorphic_abstract": True}

    legs: Mapped[int | None]


class Dog(Mammal):
    """In the table of its root."""

    __mapper_args__ = {"polymorphic_identity": "dog"}

    bark: Mapped[str | None] = mapped_column(String(20))
    secret: Mapped[str | None] = mapped_column(String(20), deferred=True)


class Puppy(Dog):
    """Of a class that is no direct one of the root."""

    __mapper_args__ = {"polymorphic_identity": "puppy"}


class Fish(Creature):
    """In a table of its own, whose key has the name of that of the root."""

    __tablename__ = "fish"
    __mapper_args__ = {"polymorphic_identity": "fish"}

    id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    fins: Mapped[int] = mapped_column()
    depth: Mapped[int] = column_property(fins * 10)


class Shark(Fish):
    """In the table of a class that is in a table of its own."""

    __mapper_args__ = {"polymorphic_identity": "shark"}

    teeth: Mapped[int | None]


class Size(enum.Enum):
    """Names and values differ."""

    SMALL = "s"
    LARGE = "l"


class Plant(Tables):
    """Subclasses are loaded with it; an enum tells which."""

    __tablename__ = "plant"
    __mapper_args__ = {"polymorphic_on": "size"}

    line: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[Size]


class Flower(Plant):
    """Its column is selected with its root."""

    __mapper_args__ = {"polymorphic_identity": Size.SMALL, "polymorphic_load": "inline"}

    color: Mapped[str | None] = mapped_column(String(20))


class Tree(Plant):
    """Its table is joined when its root is selected."""

    __tablename__ = "tree"
    __mapper_args__ = {"polymorphic_identity": Size.LARGE, "polymorphic_load": "inline"}

    line: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    height: Mapped[int]
    __table_args__ = (ForeignKeyConstraint(["line", "number"], ["plant.line", "plant.number"]),)


class Part(Tables):
    """An expression tells which class it is; there is one without a table of its own and without identity."""

    __tablename__ = "part"

    id: Mapped[int] = mapped_column(primary_key=True)
    weight: Mapped[int] = mapped_column()
    sort: Mapped[str] = column_property(case((weight > 10, "heavy"), else_="light"))
    __mapper_args__ = {"polymorphic_on": sort, "polymorphic_identity": "light"}


class HeavyPart(Part):
    """A row that weighs."""

    __mapper_args__ = {"polymorphic_identity": "heavy"}

    crane: Mapped[str | None] = mapped_column(String(20))


class Person(Tables):
    """A hierarchy that nothing tells apart."""

    __tablename__ = "person_of_hierarchy"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


class Worker(Person):
    """Its rows are persons, too."""

    __tablename__ = "worker"

    id: Mapped[int] = mapped_column(ForeignKey("person_of_hierarchy.id"), primary_key=True)
    job: Mapped[str] = mapped_column(String(20))


class Vehicle(Tables):
    """Its subclass is loaded by a statement of its own."""

    __tablename__ = "vehicle"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "any"}

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))


class Car(Vehicle):
    """Selected once more for what its root lacks."""

    __mapper_args__ = {"polymorphic_identity": "car", "polymorphic_load": "selectin"}

    doors: Mapped[int | None]


class Page(Tables):
    """Columns that are deferred, computed, or both."""

    __tablename__ = "page"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column()
    words: Mapped[str] = mapped_column(String(50), deferred=True)
    first: Mapped[str] = mapped_column(String(50), deferred=True, deferred_group="parts")
    last: Mapped[str] = mapped_column(String(50), deferred=True, deferred_group="parts")
    locked: Mapped[str] = mapped_column(String(50), deferred=True, deferred_raiseload=True)
    twice: Mapped[int] = column_property(number * 2)
    twins: Mapped[int] = column_property((number * 3).label("number"))
    thrice: Mapped[int] = deferred(number * 3)
    given: Mapped[int] = query_expression()
    given_or_not: Mapped[int] = query_expression(number + 1)
    animals: Mapped[int] = column_property(
        select(func.count(Creature.id)).where(Creature.id > 1).scalar_subquery()
    )


def rows() -> list[Tables]:
    """New entities of each class."""
    return [
        Caretaker(id=1),
        Creature(id=1, name="any", owner_id=1),
        Dog(id=2, name="Rex", bark="wow", secret="bone", legs=4, owner_id=1),
        Puppy(id=3, name="Bit", bark="wif"),
        Fish(id=4, name="Wanda", fins=5, owner_id=1),
        Shark(id=5, name="Jaws", fins=7, teeth=99),
        Flower(line=1, number=1, color="red"),
        Tree(line=1, number=2, height=30),
        Part(id=1, weight=1),
        HeavyPart(id=2, weight=20, crane="big"),
        Person(id=1, name="Ann"),
        Worker(id=2, name="Bob", job="smith"),
        Car(id=1, doors=5),
        Page(id=1, number=7, words="a b", first="a", last="b", locked="c"),
        Page(id=2, number=8, words="a b", first="a", last="b", locked="c"),
    ]


CLASSES: list[type[Any]] = [
    *(
        Creature,
        Mammal,
        Dog,
        Puppy,
        Fish,
        Shark,
        Plant,
        Flower,
        Tree,
        Part,
        HeavyPart,
        Person,
        Worker,
        Page,
        Vehicle,
        Car,
    )
]
"""All of which there are rows."""


@pytest.fixture
async def park(db: Database) -> Database:
    """A Database with these tables, and rows in them."""
    await db.create_all(Tables)
    async with db.transaction() as session:
        session.add_all(rows())
    return db


OTHER = aliased(Creature)
SELECTS: dict[str, Any] = {
    **{f"all of {each.__name__}": select(each).order_by(*inspect(each).primary_key) for each in CLASSES},
    "by an attribute of the subclass": select(Dog).where(Dog.bark == "wow"),
    "by a computed attribute": select(Page).where(Page.twice > 14),
    "a list": select(Fish).where(Fish.id.in_([4, 5]), Fish.fins.not_in([1])).order_by(Fish.id),
    "distinct": select(Creature).distinct().order_by(Creature.name),
    "by a relationship": select(Dog).join(Dog.owner).where(Caretaker.id == 1),
    "of a relationship": select(Creature)
    .select_from(Caretaker)
    .join(Caretaker.animals)
    .order_by(Creature.id),
    "each twice": select(Creature).join(OTHER, OTHER.id > 3).order_by(Creature.id, OTHER.id),
    "none by an outer join": (
        select(Fish).select_from(Caretaker).outerjoin(Caretaker.animals.of_type(Fish)).order_by(Fish.id)
    ),
    "column of a subclass": select(Dog.bark).order_by(Dog.id),
    "alias": select(OTHER).order_by(OTHER.id),
    "alias of a page": select(aliased(Page)),
    "with all subclasses": select(with_polymorphic(Creature, "*")),
    "undeferred": select(Page).options(undefer(Page.words)).order_by(Page.id),
    "from text": select(Creature).from_statement(text("SELECT * FROM animal ORDER BY id")),
    "page from text": select(Page).from_statement(text("SELECT id, number, words FROM page ORDER BY id")),
    "locked": select(Fish).order_by(Fish.id).with_for_update(),
}
FAST = {name for name in SELECTS if name.startswith("all of") and not name.endswith(("Vehicle", "Car"))} | {
    *(
        "by an attribute of the subclass",
        "by a computed attribute",
        "a list",
        "distinct",
        "by a relationship",
    ),
    *("of a relationship", "each twice", "none by an outer join", "column of a subclass"),
    "locked",
}
"""Those that are left to no session."""

Story = Callable[[Database], Awaitable[object]]


async def keys(db: Database) -> object:
    """Each entity by its key, of each class that it may be of."""
    found = [await Repository[each](db).get(key) for each in CLASSES[:6] for key in range(1, 7)]  # type: ignore[valid-type]  # of this loop
    plants = [await Repository[each](db).get((1, key)) for each in (Plant, Flower, Tree) for key in (1, 2, 3)]  # type: ignore[valid-type]  # as above
    return found, plants, await Repository[Page](db).get_one(1)


async def numbers(db: Database) -> object:
    """Counts and pages."""
    dogs, pages = Repository[Dog](db), Repository[Page](db)
    by_name = Repository[Creature](db).where().order_by(Creature.name)
    return (
        await dogs.count(),
        await dogs.exists(bark="wow"),
        await pages.where(Page.animals == 4).count(),
        await by_name.page(PageRequest(size=2, page=2)),
        await by_name.first(),
    )


async def filled(db: Database) -> object:
    """A subclass that is selected after its root, in one session."""
    found: list[object] = []
    async with db.unit_of_work():
        animals = await Repository[Creature](db).all()
        found.append(seen(animals))
        held = [*await Repository[Fish](db).all(), *await Repository[Dog](db).all()]
        assert all(each in animals for each in held)
        found.append(seen(animals))
    return found


async def expired(db: Database) -> object:
    """What is expired is loaded by the next read of the root, but for what the root does not select."""
    found: list[object] = []
    async with db.transaction() as session:
        held = await Repository[Dog](db).get_one(2)
        found.append(seen(held))
        session.expire(held)
        found.append(seen(held))
        await session.scalars(select(Creature))
        found.append(seen(held))
        await session.scalars(select(Dog))
        found.append(seen(held))
        session.expire(held, ["bark", "name", "secret"])
        held.legs = 3
        with session.no_autoflush:
            await session.scalars(select(Creature))
            found.append(seen(held))
            await session.scalars(select(Mammal))
            found.append(seen(held))
        page = (await session.scalars(select(Page).options(undefer(Page.words)))).first()
        page_again = (await session.scalars(select(Page))).first()
        found.append([page is page_again, seen(page)])
        db.set_rollback_only()
    return found


async def later(db: Database) -> object:
    """What is not selected is loaded when somebody asks for it."""
    found: list[object] = []
    async with db.transaction() as session:
        dog, fish = (
            await session.scalars(select(Creature).where(Creature.id.in_([2, 4])).order_by(Creature.id))
        ).all()
        found.append(await told(dog.awaitable_attrs.bark))
        found.append(await told(fish.awaitable_attrs.depth))
        page = (await session.scalars(select(Page).order_by(Page.id))).first()
        assert page is not None
        names = ("first", "words", "thrice", "given", "given_or_not", "locked")
        found += [(await told(getattr(page.awaitable_attrs, name)), seen(page)) for name in names]
        owner = await dog.awaitable_attrs.owner
        found.append(seen(await owner.awaitable_attrs.animals))
        found.append(seen([dog, fish]))
    return found


async def detached(db: Database) -> object:
    """Outside of everything there is nobody to ask."""
    dog = await Repository[Creature](db).get_one(2)
    page = await Repository[Page](db).get_one(1)

    async def attribute(of: object, name: str) -> object:
        return getattr(of, name)

    found = [await told(attribute(dog, name)) for name in ("bark", "secret", "name")]
    found += [await told(attribute(page, name)) for name in ("words", "locked", "given", "twice")]
    copies = pickle.loads(pickle.dumps([dog, page]))  # our own
    return [*found, seen(copies)]


async def changed(db: Database) -> object:
    """It is sent, by a session that gets the entity later as well, and undone."""
    found: list[object] = []
    shark = await Repository[Creature](db).get_one(5)
    assert isinstance(shark, Shark)
    shark.name = "Bruce"
    async with db.transaction() as session:
        session.add(shark)
        found.append(seen(await Repository[Shark](db).where(Shark.name == "Bruce").all()))
        found.append(await told(shark.awaitable_attrs.teeth))
        shark.teeth = 98
        await session.flush()
        found.append(seen(await session.scalar(select(Shark))))
        db.set_rollback_only()
    return [*found, seen(shark)]


STORIES: dict[str, Story] = {
    "keys": keys,
    "numbers": numbers,
    "filled": filled,
    "expired": expired,
    "later": later,
    "detached": detached,
    "changed": changed,
}


async def selected(db: Database, statement: Any, place: str) -> list[object]:  # noqa: ANN401  # a SELECT of anything
    """What a statement gives, twice: the second time the lane knows it."""
    found: list[object] = []
    for _ in range(2):
        if place == "unit":
            async with db.unit_of_work():
                found.append(await told(Repository[Creature](db).all(statement)))
        elif place == "outside":
            found.append(await told(Repository[Creature](db).all(statement)))
        else:
            with suppress(Exception):
                async with db.transaction() as session:
                    found.append(await told(all_of(session, statement)))
    return found


async def all_of(session: AsyncSession, statement: Any) -> object:  # noqa: ANN401  # as above
    """What a session gives."""
    return (await session.scalars(statement)).all()


async def on_each_lane(park: Database, story: Callable[[Database], Awaitable[object]]) -> dict[Lane, object]:
    """What a story tells with each lane as the fastest."""
    stories: dict[Lane, object] = {}
    for lane in Lane:
        async with Database(park.engine.url, name="lanes", fastest_lane=lane) as db:
            async with db.transaction() as session:
                await session.execute(text("SELECT 1"))
            stories[lane] = seen(await told(story(db)))
            assert db.pool_status().checked_out == 0
    return stories


@pytest.mark.parametrize("place", ["outside", "unit", "block"])
async def test_selected_entities_are_the_same_on_each_lane(park: Database, place: str) -> None:
    """Of each class, in each form of a statement."""

    async def story(db: Database) -> object:
        return [(name, await selected(db, statement, place)) for name, statement in SELECTS.items()]

    stories = await on_each_lane(park, story)
    assert stories[Lane.DRIVER] == stories[Lane.SESSION]
    assert stories[Lane.FUSED] == stories[Lane.SESSION]


@pytest.mark.parametrize("name", STORIES)
async def test_entities_live_the_same_on_each_lane(park: Database, name: str) -> None:
    """What is loaded later, expired, changed, undone, or asked for without a session."""
    stories = await on_each_lane(park, STORIES[name])
    assert stories[Lane.DRIVER] == stories[Lane.SESSION]
    assert stories[Lane.FUSED] == stories[Lane.SESSION]


@pytest.mark.parametrize("kind", ["'ghost'", "NULL", "'puppy'", "'fish'"])
async def test_row_of_another_class_is_told_alike(park: Database, observer: Observer, kind: str) -> None:
    """A class that does not exist, or is none of those that were asked for, or another one than before."""

    async def story(db: Database) -> object:
        await observer.run("UPDATE animal SET kind = 'dog' WHERE id = 2")
        found: list[object] = []
        async with db.unit_of_work():
            held = await Repository[Creature](db).get_one(2)
            await observer.run(f"UPDATE animal SET kind = {kind} WHERE id = 2")
            found.append(await told(Repository[Creature](db).where().order_by(Creature.id).all()))
            found.append(seen(held))
        for each in (Creature, Mammal, Dog, Fish):
            found.append(await told(Repository[each](db).where(each.id == 2).all()))  # type: ignore[valid-type]  # of this loop
            found.append(await told(Repository[each](db).get(2)))  # type: ignore[valid-type]  # as above
        return found

    stories = await on_each_lane(park, story)
    assert stories[Lane.DRIVER] == stories[Lane.SESSION]
    assert stories[Lane.FUSED] == stories[Lane.SESSION]


async def test_hierarchies_take_the_fastest_lane(park: Database) -> None:
    """All but what is more than rows."""
    await Repository[Caretaker](park).get(1)
    selects = {name: each for name, each in SELECTS.items() if isinstance(each, Select)}
    assert {name for name, each in selects.items() if park.explain_lane(each).lane is Lane.DRIVER} == FAST
    assert "Car is loaded with its base" in str(park.explain_lane(select(Vehicle)))


@pytest.mark.only("postgresql", "mariadb", reason="no function of SQLite writes")
async def test_hierarchy_by_a_function_that_may_write_is_left_to_the_session(park: Database) -> None:
    """Rows of classes that nobody knows are refused when it was sent already, and it would be sent again."""
    await Repository[Caretaker](park).get(1)
    called = select(Creature).where(func.of_somebody(Creature.id) == 1)
    assert str(park.explain_lane(called)) == "session lane: it may call a function that writes"


async def test_listener_to_a_subclass_is_heard(park: Database) -> None:
    """Also when its root is selected."""
    heard: list[object] = []

    def loaded(entity: Dog, _context: object) -> None:
        heard.append(entity.name)

    await Repository[Creature](park).all()
    event.listen(Dog, "load", loaded)
    try:
        await Repository[Creature](park).all()
    finally:
        event.remove(Dog, "load", loaded)
    assert heard == ["Rex"]
