"""`@query.sql`: a whole statement as text, also one that writes."""

# ruff: noqa: A002, FBT003 - parameters are called as columns

# mypy: disable-error-code="empty-body"

from typing import Any

import pytest

from tests.fixtures.observer import Observer
from tests.fixtures.people import Person
from unitwork import Database, Repository, TransactionRefusedError, query, repository

pytestmark = pytest.mark.every_lane


class People(Repository[Person]):
    """Whole statements."""

    @query.sql("UPDATE person SET age = age + :years WHERE age IS NOT NULL")
    async def grow(self, years: int) -> int: ...

    @query.sql("DELETE FROM person WHERE name = :name")
    async def remove(self, name: str) -> bool: ...

    @query.sql("INSERT INTO person (name, active) VALUES (:name, :active)")
    async def put(self, name: str, active: bool) -> None: ...  # noqa: FBT001  # a column

    @query.sql("INSERT INTO person (name, active) VALUES (:name, :active) RETURNING id")
    async def put_and_tell(self, name: str, active: bool) -> int: ...  # noqa: FBT001  # a column

    @query.sql("DELETE FROM person WHERE id IN :ids RETURNING *")
    async def take(self, ids: list[int]) -> list[Person]: ...

    @query.sql("WITH old AS (SELECT * FROM person WHERE age >= :age) SELECT * FROM old WHERE name LIKE '%n'")
    async def old(self, age: int) -> list[Person]: ...


@repository
class Anything:
    """SQL needs no entity."""

    @query.sql("SELECT name, count(*) AS n FROM person GROUP BY name ORDER BY name;")
    async def counts(self) -> list[dict[str, Any]]: ...

    @query.sql("SELECT * FROM person WHERE id = :id")
    async def person(self, id: int) -> Person | None: ...


async def test_statement_that_writes_commits_and_counts(people: Database, observer: Observer) -> None:
    """`int` is how many rows, `bool` whether any, `None` nothing."""
    queries = People(people)

    assert await queries.grow(1) == 2
    assert (await queries.remove("Cid"), await queries.remove("Cid")) == (True, False)
    await queries.put("Dan", True)

    assert await observer.names(Person) == ["Ann", "Bob", "Dan"]
    assert await observer.column("SELECT age FROM person ORDER BY id") == [31, 21, None]


async def test_statement_that_writes_belongs_to_the_open_block(people: Database, observer: Observer) -> None:
    """It rolls back with the block, and is refused in a read-only one."""
    with pytest.raises(ValueError, match="no"):
        async with people.transaction():
            await People().grow(1)
            raise ValueError("no")
    with pytest.raises(TransactionRefusedError, match="read-only"):
        async with people.transaction(read_only=True):
            await People().grow(1)

    assert await observer.column("SELECT age FROM person ORDER BY id") == [30, 20, None]


async def test_returning_gives_rows(people: Database, observer: Observer) -> None:
    """With RETURNING the shape is that of the rows, and the write is committed."""
    queries = People(people)

    assert await queries.put_and_tell("Dan", True) == 4
    assert sorted(person.name for person in await queries.take([1, 2, 77])) == ["Ann", "Bob"]

    assert await observer.names(Person) == ["Cid", "Dan"]


async def test_queries_with_cte_and_percent_signs(people: Database) -> None:
    """WITH is a read; a percent sign is only a percent sign."""
    assert [person.name for person in await People(people).old(25)] == ["Ann"]


async def test_sql_without_entity(people: Database) -> None:
    """A plain class may ask anything, also for entities."""
    assert await Anything().counts() == [{"name": name, "n": 1} for name in ("Ann", "Bob", "Cid")]
    assert isinstance(await Anything().person(1), Person)
    assert await Anything().person(99) is None


class Merging(Repository[Person]):
    """MERGE is a write as any."""

    @query.sql(
        "MERGE INTO person USING (SELECT CAST(:age AS int) AS least) AS wanted ON person.age >= wanted.least"
        " WHEN MATCHED THEN UPDATE SET active = NOT active"
    )
    async def turn(self, age: int) -> int: ...

    @query.sql(
        "MERGE INTO person USING (SELECT CAST(:age AS int) AS least) AS wanted ON person.age >= wanted.least"
        " WHEN MATCHED THEN DELETE"
    )
    async def any_removed(self, age: int) -> bool: ...


@pytest.mark.only("postgresql", reason="no other has MERGE")
async def test_merge_counts_its_rows(people: Database, observer: Observer) -> None:
    """Outside of blocks and in one, by each driver."""
    queries = Merging(people)

    assert (await queries.turn(20), await queries.turn(99)) == (2, 0)
    async with people.transaction():
        assert await queries.turn(30) == 1
        assert (await queries.any_removed(30), await queries.any_removed(30)) == (True, False)
    assert await observer.names(Person) == ["Bob", "Cid"]
