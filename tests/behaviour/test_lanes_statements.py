"""Statements of unusual forms return the same, or fail the same, on each lane."""

# mypy: disable-error-code="empty-body, no-untyped-def, no-untyped-call"
# ruff: noqa: ANN201 - the shape of a query is that of its statement

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from sqlalchemy import (
    Integer,
    String,
    bindparam,
    case,
    cast,
    distinct,
    func,
    literal,
    null,
    select,
    text,
    type_coerce,
    union_all,
)
from sqlalchemy.dialects.postgresql import HSTORE
from sqlalchemy.orm import aliased, load_only

from tests.fixtures.people import Color, Person, Pet
from tests.properties.test_lanes_agree import told
from unitwork import Database, PageRequest, Repository, query
from unitwork.options import Lane

OTHER = aliased(Person)
ADULTS = aliased(Person, select(Person).where(Person.age > 18).subquery())


@dataclass
class Both:
    """Of two tables."""

    name: str
    pet: str | None


class Pair(NamedTuple):
    """As a tuple."""

    id: int
    color: Color | None


class People(Repository[Person]):
    """Each form of a statement."""

    @query.many
    def aliases(self):
        return select(OTHER).order_by(OTHER.id)

    @query.many
    def of_a_subquery(self):
        return select(ADULTS).order_by(ADULTS.id)

    @query.many
    def twice_the_same_name(self):
        return select(Person.id, Pet.id).outerjoin(Person.pets).order_by(Person.id, Pet.id)

    @query.many
    def entity_and_column(self):
        return select(Person, Person.name).order_by(Person.id)

    @query.many
    def two_entities(self):
        return select(Person, OTHER).join(OTHER, OTHER.id == Person.id).order_by(Person.id)

    @query.many
    def each_twice(self):
        return select(Person).join(OTHER, literal(value=True)).order_by(Person.id, OTHER.id)

    @query.many
    def expressions(self):
        return select(case((Person.age > 25, "old"), else_="young").label("kind")).order_by(Person.id)

    @query.many
    def coerced(self):
        return select(type_coerce(Person.age, String)).order_by(Person.id)

    @query.many
    def enums(self):
        return select(Person.color).order_by(Person.id)

    @query.many
    def casts(self):
        return select(cast(Person.age, String(9))).order_by(Person.id)

    @query.scalar
    def nothing(self):
        return select(null())

    @query.scalar
    def number(self):
        return select(func.count(distinct(Person.color)))

    @query.scalar
    def average(self):
        return select(func.avg(Person.paid))

    @query.scalar
    def total(self):
        return select(func.sum(Person.paid))

    @query.many
    def in_a_cte(self):
        known = select(Person.id, Person.name).cte("known")
        return select(known.c.name).order_by(known.c.id)

    @query.many
    def as_a_union(self):
        return select(union_all(select(Person.name), select(Pet.name)).subquery().c.name).order_by(text("1"))

    @query.many
    def percent(self):
        return select(Person.name).where(Person.name.like("%n%")).order_by(Person.id)

    @query.many
    def percent_in_text(self):
        return select(Person.name).where(text("name LIKE '%n%'")).order_by(Person.id)

    @query.many
    def later(self):
        return select(Person).where(Person.id == bindparam("key", callable_=lambda: 2))

    @query.many
    def without_a_value(self):
        return select(Person).where(Person.id == bindparam("nobody_gives_it", type_=Integer))

    @query.many
    def in_a_list(self):
        return select(Person).where(Person.id.in_([1, 3])).order_by(Person.id)

    @query.many
    def null_in_a_list(self):
        return select(Person).where(Person.id.in_([])).order_by(Person.id)

    @query.many
    def of_another_database(self):
        return select(cast(Person.id, HSTORE))

    @query.many
    def grouped(self):
        return select(func.count()).group_by(Person.active).order_by(func.count())

    @query.many
    def locked(self):
        return select(Person).order_by(Person.id).with_for_update()

    @query.many
    def a_part(self):
        return select(Person).options(load_only(Person.name)).order_by(Person.id)

    @query.many
    def from_text(self):
        return select(Person).from_statement(text("SELECT * FROM person ORDER BY id"))

    @query.many
    def from_text_with_less(self):
        return select(Person).from_statement(text("SELECT id, name FROM person ORDER BY id"))

    @query.many
    def from_text_with_more(self):
        return select(Person).from_statement(text("SELECT person.*, 1 AS more FROM person ORDER BY id"))

    @query.sql(
        "SELECT p.name, q.name AS pet FROM person p LEFT JOIN pet q ON q.owner_id = p.id ORDER BY p.id, q.id"
    )
    async def both(self) -> list[Both]: ...

    @query.sql("SELECT id, color FROM person ORDER BY id")
    async def pairs(self) -> list[Pair]: ...

    @query.sql("SELECT id, id, name FROM person ORDER BY id")
    async def twice(self) -> list[dict[str, Any]]: ...

    @query.sql("SELECT paid, token, seen, born, score, active FROM person WHERE name <> '50%' ORDER BY id")
    async def raw(self) -> list[dict[str, Any]]: ...

    @query.sql("SELECT count(*) FROM person WHERE name LIKE '%n' OR name = :name")
    async def counted(self, name: str) -> int: ...

    @query.sql("SELECT name FROM person WHERE id = :key")
    async def wrong_promise(self, key: int) -> int: ...


READS: dict[str, Callable[[People], Awaitable[object]]] = {
    **{
        name: lambda people, name=name: getattr(people, name)()  # type: ignore[misc]  # the name is its own
        for name, value in vars(People).items()
        if not name.startswith("_") and name not in ("counted", "wrong_promise")
    },
    "counted": lambda people: people.counted("Ann"),
    "wrong promise": lambda people: people.wrong_promise(1),
    "page": lambda people: people.where(Person.age > 1).page(PageRequest(size=1)),
    "page beyond the end": lambda people: people.where().page(PageRequest(page=9, size=5)),
    "key that is None": lambda people: people.get(None),
    "key of another type": lambda people: people.get(True),
    "enum": lambda people: people.find_by(color=Color.RED),
    "enum that is none": lambda people: people.find_by(color="nothing"),
    "NULL": lambda people: people.where(Person.age == None).all(),  # noqa: E711  # SQLAlchemy's IS NULL
}


@pytest.mark.parametrize("place", ["outside", "unit", "block"])
async def test_statement_is_the_same_on_each_lane(people: Database, place: str) -> None:
    """Twice each: the second time the lane knows it."""
    async with people.transaction() as session:
        session.add_all([Pet(id=1, name="Rex", owner_id=1), Pet(id=2, name="Tom", owner_id=1)])

    async def story(db: Database, name: str) -> list[object]:
        repository = People(db)
        found: list[object] = []
        for _ in range(2):
            if place == "outside":
                found.append(await told(READS[name](repository)))
            elif place == "unit":
                async with db.unit_of_work():
                    found.append(await told(READS[name](repository)))
            else:
                block = db.transaction()
                await block.__aenter__()
                found.append(await told(READS[name](repository)))
                await block.__aexit__(ValueError, ValueError(), None)
        return found

    stories: dict[Lane, dict[str, list[object]]] = {}
    for lane in Lane:
        async with Database(people.engine.url, name="lanes", fastest_lane=lane) as db:
            await People(db).get(1)
            stories[lane] = {name: await story(db, name) for name in READS}
            assert db.pool_status().checked_out == 0
    right = stories[Lane.SESSION]
    for lane in (Lane.FUSED, Lane.DRIVER):
        assert {name: told_of for name, told_of in stories[lane].items() if told_of != right[name]} == {}


@pytest.mark.every_lane
async def test_tasks_that_share_a_unit_of_work_share_its_entities(people: Database) -> None:
    """One entity for each row, whoever reads it, and nothing is read half."""
    repository = People(people)
    async with people.unit_of_work():
        one_by_one = await asyncio.gather(*(repository.get(number % 3 + 1) for number in range(30)))
        together = await asyncio.gather(*(repository.aliases() for _ in range(10)))
        same = {id(person) for person in one_by_one}
        assert len(same) == 3
        assert all({id(person) for person in many} == same for many in together)
    assert people.pool_status().checked_out == 0
