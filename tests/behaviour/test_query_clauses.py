"""Every clause of a statement holds with every ending, or the ending refuses it."""

# mypy: disable-error-code="empty-body"

from collections.abc import Callable
from typing import Any, cast

import pytest
from sqlalchemy import ForeignKey, MetaData, Select, String, func, select
from sqlalchemy.orm import Mapped, aliased, mapped_column, with_loader_criteria

from tests.fixtures.mixins import Lamp
from tests.fixtures.observer import Observer
from tests.fixtures.people import Color, Person, Pet, Seat
from unitwork import (
    Base,
    CursorRequest,
    Database,
    OptionError,
    Page,
    PageRequest,
    Repository,
    Sort,
    query,
)
from unitwork._sqlalchemy.versions import select_distinct_on
from unitwork.query.select import FluentSelect

Narrowed = Callable[[FluentSelect[Person]], Any]

LIMITS: dict[str, Narrowed] = {
    "limit": lambda people: people.limit(1),
    "offset": lambda people: people.limit(1).offset(1),
    "slice": lambda people: people.slice(1, 2),
    "fetch": lambda people: people.fetch(1),
    "fetch with ties": lambda people: people.fetch(1, with_ties=True),
    "nothing": lambda people: people.limit(0),
    "no fetch": lambda people: people.fetch(0),
}
CLAUSES: dict[str, Narrowed] = {
    **LIMITS,
    "distinct": lambda people: people.distinct(),
    "distinct on": lambda people: select_distinct_on(people, Person.active),
    "group by": lambda people: people.group_by(Person.id),
    "having": lambda people: people.group_by(Person.id).having(func.count() > 1),
    "join": lambda people: people.join(Person.pets),
    "from": lambda people: people.select_from(Pet),
    "columns": lambda people: people.add_columns(func.count()),
    "other columns": lambda people: people.with_only_columns(func.max(Person.id)),
    "cte": lambda people: people.add_cte(select(Pet.id).cte("more")),
    "suffix": lambda people: people.suffix_with("LIMIT 1"),
    "hint": lambda people: people.with_statement_hint("LIMIT 1"),
    "lock": lambda people: people.with_for_update(),
}


@pytest.mark.parametrize("clause", CLAUSES.values(), ids=CLAUSES.keys())
@pytest.mark.parametrize("ending", ["delete", "update"])
async def test_change_takes_conditions_alone(
    people: Database, observer: Observer, clause: Narrowed, ending: str
) -> None:
    """What a clause would leave out is never changed: the statement is refused, and nothing is sent."""
    statement = clause(Repository[Person](people).select().order_by(Person.id))

    with pytest.raises(OptionError, match=rf"option {ending} does not take 'a statement with (.|\n)*Fix"):
        await (statement.delete() if ending == "delete" else statement.update(name="x"))

    assert await observer.names(Person) == ["Ann", "Bob", "Cid"]


@pytest.mark.parametrize("clause", LIMITS.values(), ids=LIMITS.keys())
@pytest.mark.parametrize("of", ["select", "distinct"])
async def test_limit_holds_in_every_ending(
    people: Database, clause: Narrowed, of: str, request: pytest.FixtureRequest
) -> None:
    """First, one, count, exists and a stream see the rows that `all` sees; pages refuse."""
    name = request.node.callspec.id
    if "fetch" in name and people.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no FETCH")
    base = Repository[Person](people).select().order_by(Person.id)
    statement = clause(base.distinct() if of == "distinct" else base)

    rows = [person.id for person in await statement.all()]

    first, only = await statement.first(), await statement.one_or_none()
    assert len(rows) <= 1
    assert [each.id for each in (first, only) if each is not None] == rows * 2
    assert (await statement.count(), await statement.exists()) == (len(rows), bool(rows))
    assert [person.id async for person in statement.stream()] == rows
    with pytest.raises(OptionError, match="the size of the request"):
        await statement.page(PageRequest())
    with pytest.raises(OptionError, match="the size of the request"):
        await statement.cursor_page(CursorRequest())


async def test_grouped_rows_are_counted(people: Database) -> None:
    """GROUP BY and HAVING hold in count, exists, first and in pages."""
    await Repository[Pet](people).add_all([Pet(name=name, owner_id=1) for name in ("Rex", "Tom")])
    owners = Repository[Person](people).select().join(Person.pets).group_by(Person.id)
    none = owners.having(func.count() > 2)

    assert (await owners.count(), await owners.exists()) == (1, True)
    assert (await none.count(), await none.exists(), await none.first()) == (0, False, None)
    page = await owners.page(PageRequest(sorts=[Sort("name")]))
    walk = await owners.cursor_page(CursorRequest())
    assert [person.name for person in (*page.content, *walk.content)] == ["Ann", "Ann"]
    assert page.total_elements == 1


async def test_options_decide_in_every_ending(lit: Database, observer: Observer) -> None:
    """`include_deleted` and the criteria of an entity hold in count, exists, pages, UPDATE and DELETE."""
    lamps = Repository[Lamp](lit)
    async with lit.transaction() as session:
        session.add_all([Lamp(name="gone"), Lamp(name="here"), Lamp(name="other")])
        await session.flush()
        (await lamps.where(Lamp.name == "gone").one()).soft_delete()
    shown = lamps.select().execution_options(include_deleted=True)
    gone = shown.where(Lamp.name == "gone")
    here = lamps.select().options(with_loader_criteria(Lamp, Lamp.name == "here"))

    assert (await lamps.count(), await shown.count(), await lamps.count(shown)) == (2, 3, 3)
    assert await shown.execution_options(yield_per=2).count() == 3
    assert (await gone.exists(), await gone.count(), bool(await gone.first())) == (True, 1, True)
    assert (await shown.page(PageRequest(size=1))).total_elements == 3
    assert (await here.count(), await here.where(Lamp.name == "other").exists()) == (1, False)
    assert await here.update(name="near") == 1
    assert await here.delete() == 0
    assert sorted(await observer.column("SELECT name FROM lamp")) == ["gone", "near", "other"]


async def test_nothing_finds_nothing(people: Database) -> None:
    """No attribute names no row: `find_by` and `exists` refuse it."""
    persons = Repository[Person](people)
    nothing: dict[str, Any] = {}

    with pytest.raises(OptionError, match=r"find_by does not take 'no attribute'(.|\n)*select\(\)\.first"):
        await persons.find_by(**nothing)
    with pytest.raises(OptionError, match=r"exists does not take 'no attribute'"):
        await persons.exists(**nothing)


async def test_half_of_an_entity_is_not_deleted(people: Database, observer: Observer) -> None:
    """One DELETE would leave the row in the other table, which is no entity any more."""
    async with people.engine.begin() as connection:
        await connection.run_sync(Inherited.metadata.create_all)
    walks = Repository[Walk](people)
    await walks.add(Walk(length=3))

    with pytest.raises(OptionError, match=r"several tables(.|\n)*delete\(entity\)"):
        await walks.where(Walk.length == 3).delete()
    assert await walks.where(Walk.length == 3).update(length=4) == 1

    assert await observer.scalar("SELECT count(*) FROM outing JOIN walk ON walk.id = outing.id") == 1
    async with people.engine.begin() as connection:
        await connection.run_sync(Inherited.metadata.drop_all)


class Inherited(Base):
    """The base of entities in two tables."""

    __abstract__ = True
    metadata = MetaData()


class Outing(Inherited):
    """What is common to all."""

    __tablename__ = "outing"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "outing"}  # noqa: RUF012  # as SQLAlchemy has it

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))


class Walk(Outing):
    """Has a table of its own for the rest."""

    __tablename__ = "walk"
    __mapper_args__ = {"polymorphic_identity": "walk"}  # noqa: RUF012  # as SQLAlchemy has it

    id: Mapped[int] = mapped_column(ForeignKey("outing.id"), primary_key=True)
    length: Mapped[int]


class People(Repository[Person]):
    """Pages of rows that are no whole entities."""

    @query.page
    def distinct(self, page: PageRequest) -> Select[Person]:
        del page
        return select(Person).join(Person.pets).distinct()

    @query.page
    def ages(self, page: PageRequest) -> Select[int | None]:
        del page
        return select(Person.age).distinct()

    @query.page
    def by_color(self, page: PageRequest) -> Select[Any]:
        del page
        counted: Any = select(Person.color, func.count()).group_by(Person.color)
        return cast("Select[Any]", counted)

    @query.page
    def pairs(self, page: PageRequest) -> Select[str, str]:
        del page
        return select(Person.name, Pet.name).join(Person.pets).order_by(Person.name)

    @query.cursor_page
    def distinct_walk(self, page: CursorRequest) -> Select[Person]:
        del page
        return select(Person).join(Person.pets).distinct()

    @query.cursor_page
    def ages_walk(self, page: CursorRequest) -> Select[int | None]:
        del page
        return select(Person.age).distinct()


@pytest.fixture
async def owners(people: Database) -> Database:
    """Twenty people with two pets each; their attributes repeat, and are NULL here and there."""
    async with people.transaction() as session:
        for number in range(20):
            session.add(
                Person(
                    name="same",
                    age=number % 3 or None,
                    color=[None, Color.RED, Color.BLUE][number % 3],
                    pets=[Pet(name=f"pet {place}") for place in range(2)],
                )
            )
    return people


SORTS = [[], [Sort("age", "DESC")], [Sort("color"), Sort("name")], [Sort("score"), Sort("id", "DESC")]]


@pytest.mark.parametrize("sorts", SORTS, ids=lambda sorts: ",".join(sort.field for sort in sorts) or "none")
async def test_pages_of_distinct_rows(owners: Database, sorts: list[Sort]) -> None:
    """Each row stands on one page, in the order that was asked for, NULLs and enums included."""
    queries = People(owners)

    async def numbered(size: int) -> list[int]:
        requests = [PageRequest(number, size=size, sorts=sorts) for number in range(20 // size + 1)]
        pages: list[Page[Person]] = [await queries.distinct(request) for request in requests]
        assert {page.total_elements for page in pages} == {20}
        return [person.id for page in pages for person in page.content]

    walked, cursor = [], None
    while True:
        walk = await queries.distinct_walk(CursorRequest(cursor, 3, sorts))
        walked += [person.id for person in walk.content]
        if (cursor := walk.next_cursor) is None:
            break

    whole = await numbered(20)
    assert await numbered(3) == whole == walked
    assert len(set(whole)) == 20


async def test_pages_of_columns(owners: Database) -> None:
    """What is grouped or DISTINCT completes the order of rows that are no entities."""
    queries = People(owners)

    async def all_of(ask: Callable[[PageRequest], Any], *sorts: Sort) -> list[Any]:
        pages = [await ask(PageRequest(number, size=1, sorts=sorts)) for number in range(6)]
        return [row for page in pages for row in page.content]

    assert sorted(await all_of(queries.ages), key=str) == [1, 2, 20, 30, None]
    assert await all_of(queries.ages, Sort("age", "DESC")) == [30, 20, 2, 1, None]
    assert len({str(row) for row in await all_of(queries.by_color)}) == 3
    with pytest.raises(OptionError, match=r"does not take 'name'(.|\n)*use 'age'"):
        await queries.ages(PageRequest(sorts=[Sort("name")]))
    with pytest.raises(OptionError, match=r"without the primary key(.|\n)*one that has id"):
        await queries.ages_walk(CursorRequest())


async def test_pages_of_joined_entities(owners: Database) -> None:
    """The keys of all entities complete the order, so that rows of one person do not change places."""
    queries = People(owners)
    pages = [await queries.pairs(PageRequest(number, size=7)) for number in range(6)]

    assert sum(len(page.content) for page in pages) == 40
    with pytest.raises(OptionError, match="DISTINCT or GROUP BY"):
        await queries.select().group_by(Person.name).cursor_page(CursorRequest())


async def test_first_of_an_alias(people: Database) -> None:
    """A statement of another entity than the repository's, and of a key of two columns."""
    seats = Repository[Seat](people)
    await seats.add_all([Seat(line=line, number=number) for line in (2, 1) for number in (2, 1)])
    other = aliased(Seat)

    found = await seats.first(select(other).distinct())

    assert found is not None
    assert (found.line, found.number) == (1, 1)


@pytest.mark.only("postgresql", reason="DISTINCT ON")
async def test_pages_of_distinct_on(owners: Database) -> None:
    """One row of each kind, also in pages; their order is that of the statement."""
    ages = select_distinct_on(Repository[Person](owners).select(), Person.age)
    pages = [await ages.page(PageRequest(number, size=2)) for number in range(3)]

    assert [person.age for page in pages for person in page.content] == [1, 2, 20, 30, None]
    assert {page.total_elements for page in pages} == {5}
    assert (await ages.count(), (await ages.first() or Person()).age) == (5, 1)
    with pytest.raises(OptionError, match="DISTINCT ON"):
        await ages.page(PageRequest(sorts=[Sort("name")]))
    with pytest.raises(OptionError, match="DISTINCT or GROUP BY"):
        await ages.cursor_page(CursorRequest())
