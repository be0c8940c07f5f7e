"""`@query("...")`: the text after WHERE, with parameters that never become SQL."""

# ruff: noqa: DTZ001 - no column has a zone

# mypy: disable-error-code="empty-body"

import datetime as dt
import decimal
import uuid
from typing import TypeVar

import pytest
from sqlalchemy.exc import DBAPIError

from tests.fixtures.observer import Observer
from tests.fixtures.people import Color, Person, Seat
from unitwork import Database, Repository, query

pytestmark = pytest.mark.every_lane

LONG = 100_000
M = TypeVar("M")


class People(Repository[Person]):
    """Conditions as text."""

    @query("name = :name")
    async def called(self, name: str) -> list[Person]: ...

    @query(expr="name LIKE :pattern AND (age > :least OR age IS NULL)", unique=False)
    async def like(self, pattern: str, *, least: int = 0) -> list[Person]: ...

    @query(expr="id = :key", unique=True)
    async def by_key(self, key: int) -> Person | None: ...

    @query("id IN :ids")
    async def among(self, ids: list[int]) -> list[Person]: ...

    @query("name IN (:names) AND id NOT IN :ids")
    async def named_among(self, names: set[str], ids: tuple[int, ...]) -> int: ...

    @query("token IN :tokens OR color IN :colors OR token NOT IN :others")
    async def of_any_type(
        self, tokens: list[uuid.UUID], colors: list[Color], others: list[uuid.UUID]
    ) -> list[Person]: ...

    @query("born = :born AND seen = :seen AND paid = :paid AND token = :token AND color = :color")
    async def typed(
        self, born: dt.date, seen: dt.datetime, paid: decimal.Decimal, token: uuid.UUID, color: Color
    ) -> Person: ...

    @query("name = ':name' OR name = 'it''s :x' OR name = :name -- or :nothing")
    async def quoted(self, name: str) -> list[Person]: ...

    @query("age > :least AND age < :least + 100 AND :least IS NOT NULL")
    async def repeated(self, least: int) -> int: ...

    @query("NOT active")
    async def inactive(self) -> list[Person]: ...

    @query("nope = :x")
    async def broken(self, x: int) -> list[Person]: ...


class Titled(Repository[M]):
    """A generic repository: its subclasses name the entity."""

    @query("holder = :holder")
    async def held_by(self, holder: str) -> M | None: ...

    @query
    async def all_held_by(self, *, holder: str) -> list[M]: ...

    async def rename(self, old: str, new: str) -> None:
        """Transactional, as in any repository."""
        seat = await self.held_by(old)
        assert isinstance(seat, Seat)
        seat.holder = new


class Seats(Titled[Seat]):
    """Inherits its queries."""


INJECTIONS = [
    "' OR '1'='1",
    "x'; DROP TABLE person; --",
    "\\",
    "%",
    "a" * 10_000,
    "é☃😀",
    "--",
    "/*",
    ":name",
]


@pytest.mark.parametrize("value", INJECTIONS)
async def test_value_never_becomes_sql(people: Database, value: str) -> None:
    """Whatever a value holds, it is compared and nothing else."""
    queries = People(people)

    assert await queries.called(value) == []
    assert await queries.named_among({value}, (0,)) == 0
    assert len(await queries.quoted("Ann")) == 1
    assert await queries.count() == 3


async def test_nul_byte_is_a_clear_error_or_no_row(people: Database) -> None:
    """PostgreSQL has no NUL in text and says so; the others find nothing. The pool is whole after it."""
    queries = People(people)
    try:
        found = await queries.called("Ann\0x")
    except DBAPIError:
        found = []

    assert found == []
    assert len(await queries.called("Ann")) == 1


async def test_parameters_have_their_names_defaults_and_types(people: Database) -> None:
    """By position or keyword, with defaults, repeated, and of any type that columns have."""
    queries = People(people)

    assert [person.name for person in await queries.like("%n%")] == ["Ann"]
    assert await queries.like(pattern="%", least=25) != []
    assert (await queries.by_key(2)) is not None
    assert await queries.repeated(10) == 2
    assert [person.name for person in await queries.inactive()] == ["Cid"]
    typed = await queries.typed(
        dt.date(1990, 1, 2),
        dt.datetime(2020, 1, 2, 3, 4, 5),
        decimal.Decimal("12.5"),
        uuid.UUID(int=7),
        Color.RED,
    )
    assert typed.name == "Ann"
    with pytest.raises(TypeError, match=r"People\.like\(\) got wrong arguments: missing"):
        await queries.like()  # type: ignore[call-arg]  # what a person may forget


async def test_lists_of_any_length(people: Database) -> None:
    """None, one, some and a hundred thousand values after IN and NOT IN, lists, sets and tuples."""
    queries = People(people)

    assert await queries.among([]) == []
    assert [person.id for person in await queries.among([3, 1])] == [1, 3]
    assert len(await queries.among(list(range(LONG)))) == 3
    assert await queries.named_among({"Ann", "Bob"}, ()) == 2
    assert await queries.named_among(set(), (1,)) == 0
    names = {f"n{number}" for number in range(LONG)} | {"Ann", "Cid", 'quo"te', "it's"}
    assert await queries.named_among(names, tuple(range(3, LONG))) == 1


async def test_empty_lists_of_any_type(people: Database) -> None:
    """Nothing is in an empty list, and everything is not in it, whatever the type of the column is."""
    found = await People(people).of_any_type([], [], [])
    assert len(found) == 3


async def test_generic_repository_gives_its_queries_to_subclasses(
    people: Database, observer: Observer
) -> None:
    """A query of `Repository[M]` is completed by the class that names the entity."""
    seats = Seats(people)
    await seats.create(line=1, number=1, holder="Ann")

    await seats.rename("Ann", "Bob")

    assert isinstance(await seats.held_by("Bob"), Seat)
    assert [seat.number for seat in await seats.all_held_by(holder="Bob")] == [1]
    assert await observer.column("SELECT holder FROM seat") == ["Bob"]


async def test_error_tells_query_and_parameters_by_name(people: Database) -> None:
    """The database's own error, with a note of ours: the query, its parameters' names, the block."""
    with pytest.raises(DBAPIError) as alone:
        await People(people).broken(987654)
    with pytest.raises(DBAPIError) as inside:
        async with people.transaction():
            await People(people).broken(987654)

    name = f"{__name__}.People.broken"
    assert f"While running query {name} on database 'default' (parameters: x)." in alone.value.__notes__
    assert any(note.startswith("In the block at ") for note in inside.value.__notes__)
    assert not any("987654" in note for note in (*alone.value.__notes__, *inside.value.__notes__))


def test_query_outside_of_a_repository_says_so() -> None:
    """A class without base and decorator cannot run queries, and says what to add."""

    class Loose:
        @query("name = :name")
        async def called(self, name: str) -> list[Person]: ...

    with pytest.raises(TypeError, match=r"its class is no repository"):
        Loose().called("Ann")  # type: ignore[unused-coroutine]  # it raises before
