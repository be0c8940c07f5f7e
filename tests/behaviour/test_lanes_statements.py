"""Statements of unusual forms return the same, or fail the same, on each lane."""

# mypy: disable-error-code="empty-body, no-untyped-def, no-untyped-call"
# ruff: noqa: ANN201 - the shape of a query is that of its statement

import asyncio
import datetime as dt
import decimal
import uuid
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from sqlalchemy import (
    BindParameter,
    Integer,
    Select,
    String,
    bindparam,
    case,
    cast,
    distinct,
    func,
    literal,
    null,
    or_,
    select,
    text,
    tuple_,
    type_coerce,
    union_all,
)
from sqlalchemy.dialects.postgresql import HSTORE
from sqlalchemy.orm import aliased, load_only

from tests.fixtures.people import Color, Person, Pet
from tests.properties.test_lanes_agree import told
from unitwork import Database, PageRequest, Repository, query
from unitwork.observe import StatementLog
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
    def expressions(self) -> Select[str]:
        return select(case((Person.age > 25, "old"), else_="young").label("kind")).order_by(Person.id)

    @query.many
    def coerced(self) -> Select[str]:
        return select(type_coerce(Person.age, String)).order_by(Person.id)

    @query.many
    def enums(self) -> Select[Color | None]:
        return select(Person.color).order_by(Person.id)

    @query.many
    def casts(self) -> Select[str]:
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
    def in_a_cte(self) -> Select[str]:
        known = select(Person.id, Person.name).cte("known")
        return select(known.c.name).order_by(known.c.id)

    @query.many
    def as_a_union(self) -> Select[str]:
        return select(union_all(select(Person.name), select(Pet.name)).subquery().c.name).order_by(text("1"))

    @query.many
    def percent(self) -> Select[str]:
        return select(Person.name).where(Person.name.like("%n%")).order_by(Person.id)

    @query.many
    def percent_in_text(self) -> Select[str]:
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
        return select(Person).where(Person.id.in_([None, 1])).order_by(Person.id)

    @query.many
    def in_an_empty_list(self):
        return select(Person).where(Person.id.in_([])).order_by(Person.id)

    @query.many
    def not_in_a_list(self) -> Select[int]:
        return select(Person.id).where(Person.id.not_in([1, 1])).order_by(Person.id)

    @query.many
    def not_in_an_empty_list(self) -> Select[int]:
        return select(Person.id).where(Person.age.not_in([])).order_by(Person.id)

    @query.many
    def in_lists_of_each_type(self):
        return (
            select(Person)
            .where(
                or_(
                    Person.color.in_([Color.RED]),
                    Person.paid.in_([decimal.Decimal("1.50"), 2]),
                    Person.token.in_([uuid.UUID(int=1), uuid.UUID(int=2)]),
                    Person.born.in_((dt.date(2000, 1, 2),)),
                    Person.active.in_({True}),
                    Person.name.in_(["An'n", "%", "Ann"]),
                ),
                Person.age > 1,
            )
            .order_by(Person.id)
        )

    @query.many
    def tuples_in_a_list(self) -> Select[int]:
        pairs = tuple_(Person.id, Person.color)
        return select(Person.id).where(pairs.in_([(1, Color.RED), (2, Color.BLUE)])).order_by(Person.id)

    @query.many
    def tuples_not_in_an_empty_list(self) -> Select[int]:
        return select(Person.id).where(tuple_(Person.id, Person.name).not_in([])).order_by(Person.id)

    @query.many
    def in_a_list_of_literals(self) -> Select[int]:
        names: BindParameter[str] = bindparam("names", ["Ann", "it's"], expanding=True, literal_execute=True)
        return select(Person.id).where(Person.name.in_(names), Person.id < 9).order_by(Person.id)

    @query.many
    def literal(self) -> Select[int]:
        least = bindparam("least", 2, type_=Integer, literal_execute=True)
        return select(Person.id).where(Person.id >= least).order_by(Person.id)

    @query.many
    def names_like_those_of_a_list(self) -> Select[int]:
        ids: BindParameter[int] = bindparam("x", [1, 2, 3], expanding=True)
        return (
            select(Person.id).where(Person.id.in_(ids), Person.id > bindparam("x_1", 1)).order_by(Person.id)
        )

    @query.many
    def one_list_twice(self) -> Select[int]:
        ids: BindParameter[int] = bindparam("ids", [1, 3], expanding=True)
        return select(Person.id).where(or_(Person.id.in_(ids), Person.age.in_(ids))).order_by(Person.id)

    @query.many
    def in_a_list_of_functions(self) -> Select[int]:
        return select(Person.id).where(Person.name.in_([func.lower("ANN"), "Ann"])).order_by(Person.id)

    @query.many
    def in_a_list_of_texts(self):
        wanted = text("id IN :ids").bindparams(bindparam("ids", [1, 2], expanding=True, type_=Integer))
        return select(Person).where(wanted).order_by(Person.id)

    @query.many
    def in_a_list_of_no_type(self) -> Select[int]:
        wanted = text("(id, name) IN :ids").bindparams(bindparam("ids", [(1, "Ann")], expanding=True))
        return select(Person.id).where(wanted).order_by(Person.id)

    @query.many
    def in_a_list_of_another_type(self) -> Select[int]:
        return select(Person.id).where(Person.id.in_(["x", "y"])).order_by(Person.id)

    @query.many
    def in_a_list_of_impossible_values(self) -> Select[int]:
        return select(Person.id).where(Person.color.in_(["nothing"])).order_by(Person.id)

    @query.many
    def of_another_database(self):
        return select(cast(Person.id, HSTORE))

    @query.many
    def grouped(self) -> Select[int]:
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

    @query("id IN :ids")
    async def among(self, ids: Collection[int]) -> list[Person]: ...

    @query("id NOT IN :ids AND (name IN :names OR color = :color)")
    async def among_others(self, ids: list[int], names: tuple[str, ...], color: Color) -> list[Pair]: ...

    @query.sql("SELECT name FROM person WHERE color IN :colors OR token IN (:tokens) ORDER BY id")
    async def colored(self, colors: list[Color], tokens: list[uuid.UUID]) -> list[str]: ...

    @query.sql("SELECT id, id, name FROM person ORDER BY id")
    async def twice(self) -> list[dict[str, Any]]: ...

    @query.sql("SELECT paid, token, seen, born, score, active FROM person WHERE name <> '50%' ORDER BY id")
    async def raw(self) -> list[dict[str, Any]]: ...

    @query.sql("SELECT count(*) FROM person WHERE name LIKE '%n' OR name = :name")
    async def counted(self, name: str) -> int: ...

    @query.sql("SELECT name FROM person WHERE id = :key")
    async def wrong_promise(self, key: int) -> int: ...


WITH_PARAMETERS = ("counted", "wrong_promise", "among", "among_others", "colored")
READS: dict[str, Callable[[People], Awaitable[object]]] = {
    **{
        name: lambda people, name=name: getattr(people, name)()  # type: ignore[misc]  # the name is its own
        for name, value in vars(People).items()
        if not name.startswith("_") and name not in WITH_PARAMETERS
    },
    "no list": lambda people: people.among([]),
    "short list": lambda people: people.among([3, 1]),
    "set": lambda people: people.among({1, 2}),
    "no collection": lambda people: people.among(1),  # type: ignore[arg-type]  # a mistake
    "NULL in a list": lambda people: people.among([None, 1]),  # type: ignore[list-item]  # as before
    "long list": lambda people: people.among(range(1000)),
    "several lists": lambda people: people.among_others([1], ("Ann", "Bob", "Cid"), Color.RED),
    "several lists of other lengths": lambda people: people.among_others([1, 2], ("Ann",), Color.BLUE),
    "lists in SQL": lambda people: people.colored([Color.RED], [uuid.UUID(int=1)]),
    "where": lambda people: people.where(Person.id.in_([1, 2])).order_by(Person.id).all(),
    "where and a long list": lambda people: people.where(Person.id.in_(range(600))).count(),
    "where and a long list of bytes": lambda people: (
        people.where(literal(b"x").in_([b"x"] * 600)).order_by(Person.id).all()
    ),
    "page in a list": lambda people: people.where(Person.id.in_([1, 2])).page(PageRequest(size=1)),
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


async def test_lists_take_the_fastest_lane(people: Database) -> None:
    """Of any length, the longest being sent as one value where a session does so."""
    repository = People(people)
    await repository.get(1)
    for ids in ([], [1], [1, 2, 3], range(2000)):
        assert people.explain_lane(repository.among, ids).lane is Lane.DRIVER
        assert people.explain_lane(select(Person).where(Person.id.in_(ids))).lane is Lane.DRIVER
    for one in (repository.tuples_in_a_list, repository.in_a_list_of_literals, repository.literal):
        assert people.explain_lane(one).lane is Lane.DRIVER
    assert "a list of unknown type" in str(people.explain_lane(repository.in_a_list_of_no_type))


async def test_lists_are_sent_as_by_sqlalchemy(people: Database) -> None:
    """A parameter for each value, in whatever order calls of other lengths come."""
    sent: dict[Lane, list[str]] = {}
    for lane in Lane:
        async with Database(people.engine.url, name="lists", fastest_lane=lane) as db:
            repository = People(db)
            await repository.get(1)
            with StatementLog(db) as log:
                for ids in ([2, 1], [3], [2, 3], [], [1, 2, 3], [1], list(range(600)), [1, 2]):
                    found = await repository.among(ids)
                    assert sorted(person.id for person in found) == sorted({1, 2, 3} & set(ids))
                    async with db.transaction() as session:
                        named = select(Person.name).where(Person.id.not_in(ids), Person.age.in_([30]))
                        await session.scalars(named)
            sent[lane] = log.texts
    assert sent[Lane.DRIVER] == sent[Lane.SESSION]
    assert sent[Lane.FUSED] == sent[Lane.SESSION]


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
