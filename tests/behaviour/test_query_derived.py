"""`@query` alone: the names of the parameters say what must hold."""

# mypy: disable-error-code="empty-body"

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest

from tests.fixtures.people import Color, Person
from unitwork import Database, NoRowError, Repository, query
from unitwork.observe.statements import StatementLog

pytestmark = pytest.mark.every_lane

LONG = 100_000


@dataclass
class Name:
    """One attribute."""

    name: str


class People(Repository[Person]):
    """One query for each suffix."""

    @query
    async def equal(self, name: str) -> Person | None: ...

    @query()
    async def null_or_equal(self, *, age: int | None) -> list[Name]: ...

    @query
    async def between(self, age__between: tuple[int, int]) -> list[Name]: ...

    @query
    async def compared(
        self, *, age__gt: int = 0, age__gte: int = 0, age__lt: int = 99, age__lte: int = 99, id__ne: int = 0
    ) -> list[Name]: ...

    @query
    async def like(self, name__like: str) -> list[Name]: ...

    @query
    async def ilike(self, name__ilike: str) -> list[Name]: ...

    @query
    async def startswith(self, name__startswith: str) -> list[Name]: ...

    @query
    async def endswith(self, name__endswith: str) -> list[Name]: ...

    @query
    async def contains(self, name__contains: str) -> int: ...

    @query
    async def among(self, id__in: Sequence[int]) -> list[Name]: ...

    @query
    async def not_among(self, name__not_in: set[str]) -> list[Name]: ...

    @query
    async def colored(self, color__in: list[Color]) -> list[Name]: ...

    @query
    async def without_age(self, *, age__isnull: bool) -> list[Name]: ...

    @query
    async def everybody(self) -> AsyncIterator[Name]: ...

    @query
    async def only(self, *, active: bool) -> Person: ...


def names(found: list[Name]) -> list[str]:
    """What the records hold, sorted."""
    return sorted(record.name for record in found)


async def test_suffixes_mean_what_they_say(people: Database) -> None:
    """Equality, NULL, comparisons, patterns, lists and ranges."""
    queries = People(people)

    assert (await queries.equal("Bob") or Person()).id == 2
    assert names(await queries.null_or_equal(age=None)) == ["Cid"]
    assert names(await queries.null_or_equal(age=20)) == ["Bob"]
    assert names(await queries.between((20, 25))) == ["Bob"]
    assert names(await queries.compared(age__gt=20)) == ["Ann"]
    assert names(await queries.compared(age__gte=20, age__lt=30)) == ["Bob"]
    assert names(await queries.compared(age__lte=30, id__ne=1)) == ["Bob"]
    assert names(await queries.like("%n")) == ["Ann"]
    assert names(await queries.ilike("b%")) == ["Bob"]
    assert names(await queries.startswith("C")) == ["Cid"]
    assert names(await queries.endswith("d")) == ["Cid"]
    assert await queries.contains("o") == 1
    assert names(await queries.without_age(age__isnull=True)) == ["Cid"]
    assert names(await queries.without_age(age__isnull=False)) == ["Ann", "Bob"]
    assert [record.name async for record in await queries.everybody()] == ["Ann", "Bob", "Cid"]
    with pytest.raises(NoRowError):
        await queries.delete_where(Person.id == 3)
        await queries.only(active=False)


async def test_wildcards_in_values_are_not_wildcards(people: Database) -> None:
    """What starts with, ends with or contains a value is meant literally."""
    queries = People(people)

    assert names(await queries.startswith("%")) == names(await queries.endswith("_n")) == []
    assert await queries.contains("_") == 0


async def test_lists_of_any_length(people: Database) -> None:
    """No value, some, enum members, any kind of collection, and a hundred thousand."""
    queries = People(people)

    assert names(await queries.among([])) == []
    assert names(await queries.among((1, 3))) == ["Ann", "Cid"]
    assert names(await queries.among(range(LONG))) == ["Ann", "Bob", "Cid"]
    assert names(await queries.not_among(set())) == ["Ann", "Bob", "Cid"]
    assert names(await queries.not_among({"Ann", *map(str, range(LONG))})) == ["Bob", "Cid"]
    assert names(await queries.colored([Color.RED])) == ["Ann"]
    assert names(await queries.colored([Color.RED, Color.BLUE] * 1000)) == ["Ann"]


async def test_statement_is_built_once(people: Database) -> None:
    """Calls with other values send the same text."""
    queries = People(people)
    with StatementLog(people) as log:
        for name in ("Ann", "Bob", "x"):
            await queries.equal(name)

    assert len(set(log.texts)) == 1
