"""Pages by number and by cursor: complete, stable, and deaf to hostile input."""

# mypy: disable-error-code="empty-body"

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Select, select, true
from sqlalchemy.orm import aliased

from tests.fixtures.people import Color, Person, Pet, Seat
from unitwork import (
    CursorError,
    CursorPage,
    CursorRequest,
    Database,
    OptionError,
    Page,
    PageRequest,
    Repository,
    Sort,
    query,
    repository,
)
from unitwork.observe.statements import StatementLog

pytestmark = pytest.mark.every_lane


class People(Repository[Person]):
    """Pages of each kind."""

    @query("age >= :least OR age IS NULL")
    async def page(self, least: int, page: PageRequest) -> Page[Person]: ...

    @query("active OR age IS NULL")
    async def walk(self, page: CursorRequest) -> CursorPage[Person]: ...

    @query("active OR age IS NULL")
    async def other_walk(self, page: CursorRequest) -> CursorPage[Person]: ...

    @query.sql("SELECT * FROM person WHERE active OR age IS NULL; -- all of them")
    async def sql_page(self, page: PageRequest) -> Page[Person]: ...

    @query.sql("SELECT * FROM person WHERE active OR age IS NULL -- all of them")
    async def sql_walk(self, page: CursorRequest) -> CursorPage[Person]: ...

    @query
    async def derived(self, page: PageRequest, *, age__gte: int) -> Page[Person]: ...

    @query.page
    def built(self, page: PageRequest) -> Select[Person]:
        del page
        return select(Person).order_by(Person.active)

    @query.cursor_page
    def built_walk(self, page: CursorRequest) -> Select[Person]:
        del page
        return select(Person)

    @query.page
    def of_pets(self, page: PageRequest) -> Select[Pet]:
        del page
        return select(Pet)

    @query.page
    def of_alias(self, page: PageRequest) -> Select[Person]:
        del page
        return select(aliased(Person, name="somebody"))


@repository
class NoEntity:
    """Sorts by what its statement selects."""

    @query.page
    def page(self, page: PageRequest) -> Select[Person]:
        del page
        return select(Person)


async def fill(people: Database, count: int = 20) -> None:
    """Add people whose attributes repeat and are NULL here and there."""
    async with people.transaction() as session:
        session.add_all(
            Person(
                name=f"n{number % 3}",
                age=None if number % 4 == 0 else number % 5,
                score=None if number % 3 == 0 else number / 7,
                color=[None, Color.RED, Color.BLUE][number % 3],
            )
            for number in range(count)
        )


def ids(page: Page[Person] | CursorPage[Person]) -> list[int]:
    """The keys of a page."""
    return [person.id for person in page.content]


async def test_page_has_rows_and_numbers(people: Database) -> None:
    """Total, pages, first and last are right on the first, the last and a page behind it."""
    await fill(people, 4)
    queries = People(people)

    pages = [await queries.page(0, PageRequest(page=number, size=3)) for number in range(4)]

    assert [ids(page) for page in pages] == [[1, 2, 3], [4, 5, 6], [7], []]
    assert {page.total_elements for page in pages} == {7}
    assert {page.total_pages for page in pages} == {3}
    assert [page.is_first for page in pages] == [True, False, False, False]
    assert [page.is_last for page in pages] == [False, False, True, True]
    assert [page.has_more for page in pages] == [True, True, False, False]


async def test_count_is_asked_only_when_needed(people: Database) -> None:
    """A page that is not full tells the total; `count=False` never counts, and still knows the end."""
    queries = People(people)
    with StatementLog(people) as log:
        short = await queries.page(0, PageRequest(size=5))
        full = await queries.page(0, PageRequest(size=3))
        uncounted = [await queries.page(0, PageRequest(page=n, size=2, count=False)) for n in range(2)]
        exact = await queries.page(0, PageRequest(size=3, count=False))

    assert (short.total_elements, full.total_elements, full.is_last) == (3, 3, True)
    assert sum("count(*)" in text for text in log.texts) == 1
    assert [(page.total_elements, page.total_pages) for page in uncounted] == [(None, None)] * 2
    assert [page.is_last for page in (*uncounted, exact)] == [False, True, True]


async def test_page_is_sorted_by_attributes_and_then_by_key(people: Database) -> None:
    """Sorts are those of the request, NULL is the smallest, and the primary key completes them."""
    await fill(people)
    queries = People(people)
    rows = await queries.all()
    expected = sorted(rows, key=lambda row: row.id)
    expected = sorted(expected, key=lambda row: (row.age is not None, row.age or 0), reverse=True)

    page = await queries.built(PageRequest(size=50, sorts=[Sort("age", "desc")]))
    own = await queries.built(PageRequest(size=50))
    by_sql = await queries.sql_page(PageRequest(size=50, sorts=[Sort("name"), Sort("id", "DESC")]))

    assert ids(page) == [row.id for row in expected]
    assert ids(own) == [row.id for row in sorted(rows, key=lambda row: (row.active, row.id))]
    known = [(row.name, -row.id) for row in by_sql.content]
    assert known == sorted(known)
    assert len(known) == 23


async def test_statement_says_what_can_be_sorted(people: Database) -> None:
    """Sorts name attributes of what the statement selects: another entity, or an alias."""
    await Repository[Pet](people).add_all([Pet(name="b"), Pet(name="a")])
    queries = People(people)

    pets = await queries.of_pets(PageRequest(sorts=[Sort("name")]))
    aliases = await queries.of_alias(PageRequest(sorts=[Sort("name", "DESC")]))
    plain = await NoEntity().page(PageRequest(sorts=[Sort("name", "DESC")]))

    assert [pet.name for pet in pets.content] == ["a", "b"]
    assert ids(aliases) == ids(plain) == [3, 2, 1]
    with pytest.raises(OptionError, match="does not take 'age'"):
        await queries.of_pets(PageRequest(sorts=[Sort("age")]))


HOSTILE = ["age; DROP TABLE person", "1", "id)--", "pets", "metadata", "__class__", "", "x" * 5000]


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_sort_is_refused(people: Database, name: str) -> None:
    """A sort that names no mapped attribute never reaches the database, in any kind of page."""
    queries = People(people)
    request = PageRequest(sorts=[Sort(name)])
    for ask in (queries.page(0, request), queries.sql_page(request), queries.built(request)):
        with pytest.raises(OptionError, match="The option sort field does not take") as error:
            await ask
        assert len(str(error.value)) < 400
    with pytest.raises(OptionError, match="sort field"):
        await queries.walk(CursorRequest(sorts=[Sort(name)]))
    with pytest.raises(OptionError, match="sort field"):
        await queries.where(Person.active).page(request)

    assert await queries.count() == 3


@pytest.mark.parametrize(
    "values", [{"page": -1}, {"size": 0}, {"size": 1001}, {"page": 10**30}, {"page": "1"}]
)
def test_page_out_of_range_is_refused(values: dict[str, int]) -> None:
    """Numbers are checked when the request is made."""
    with pytest.raises(OptionError, match="a number from"):
        PageRequest(**values)  # type: ignore[arg-type]  # what a client may send


@pytest.mark.parametrize("values", [{"size": 0}, {"size": -1}, {"page": -1}, {"total_elements": -1}])
def test_page_of_no_size_is_refused(values: dict[str, Any]) -> None:
    """A program that makes a page itself hears at once what its numbers cannot be."""
    numbers: dict[str, Any] = {"total_elements": 0, "page": 0, "size": 10, **values}
    assert Page(content=[], total_elements=0, page=0, size=10).total_pages == 0
    with pytest.raises(OptionError, match=r"a number from [01]"):
        Page(content=[], **numbers)


async def test_what_is_no_request_is_refused(people: Database) -> None:
    """A number where a page request belongs is a TypeError that names query, parameter and fix."""
    with pytest.raises(TypeError, match=r"People.page needs a PageRequest as 'page', not a int(.|\n)*Fix"):
        await People(people).page(18, 3)  # type: ignore[arg-type]  # refused


def test_largest_size_can_be_set() -> None:
    """The limit belongs to the request, for those who need more or want less."""
    assert PageRequest(size=5000, largest=5000).size == 5000
    with pytest.raises(OptionError, match="a number from 1 to 10"):
        CursorRequest(size=11, largest=10)
    with pytest.raises(OptionError, match="'ASC' or 'DESC'"):
        Sort("age", "down")


SORTS: list[Sequence[Sort]] = [
    (),
    (Sort("age"),),
    (Sort("age", "DESC"), Sort("name")),
    (Sort("name", "desc"), Sort("score"), Sort("id", "DESC")),
    (Sort("color"), Sort("active", "DESC")),
]


@pytest.mark.parametrize("sorts", SORTS, ids=lambda sorts: ",".join(sort.field for sort in sorts) or "key")
async def test_walk_visits_each_row_once_and_back(people: Database, sorts: Sequence[Sort]) -> None:
    """Forward to the end and back to the start, NULLs and mixed directions included."""
    await fill(people, 12)
    queries = People(people)
    expected = ids(await queries.built(PageRequest(size=100, sorts=sorts or [Sort("id")])))

    forward, cursors = await walked(queries, sorts)
    back: list[int] = []
    cursor = cursors[-1]
    while cursor is not None:
        page = await queries.built_walk(CursorRequest(cursor, 4, sorts))
        back = ids(page) + back
        assert page.next_cursor is not None
        cursor = page.previous_cursor

    assert forward == expected
    assert back == expected[: len(back)]
    assert len(back) == 12


async def walked(queries: People, sorts: Sequence[Sort]) -> tuple[list[int], list[str | None]]:
    """All keys, page by page, and the cursors back."""
    seen: list[int] = []
    back: list[str | None] = []
    cursor = None
    while True:
        page = await queries.built_walk(CursorRequest(cursor, 4, sorts))
        seen += ids(page)
        back.append(page.previous_cursor)
        if (cursor := page.next_cursor) is None:
            return seen, back


async def test_walk_of_a_composite_key(people: Database) -> None:
    """A key of two columns completes the order."""
    seats = Repository[Seat](people)
    await seats.add_all([Seat(line=line, number=number) for line in range(3) for number in range(3)])

    seen, cursor = [], None
    for _ in range(10):
        page = await seats.where(true()).cursor_page(CursorRequest(cursor, 2, [Sort("number", "DESC")]))
        seen += [(seat.number, seat.line) for seat in page.content]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert seen == [(number, line) for number in (2, 1, 0) for line in (0, 1, 2)]


async def test_walk_is_stable_under_inserts_and_deletes(people: Database) -> None:
    """What is inserted before the cursor shifts nothing; nothing is seen twice or left out."""
    queries = People(people)
    first = await queries.built_walk(CursorRequest(size=2, sorts=[Sort("name")]))
    await queries.create(name="Aaron")
    await queries.delete_where(Person.name == "Bob")

    second = await queries.built_walk(CursorRequest(first.next_cursor, 2, [Sort("name")]))

    assert ids(first) == [1, 2]
    assert ids(second) == [3]


async def test_walk_of_text_with_or(people: Database) -> None:
    """An OR in the text binds before what paging adds; a comment or semicolon at its end is harmless."""
    await fill(people, 4)
    queries = People(people)
    request = CursorRequest(size=3)

    first = await queries.walk(request)
    second = await queries.walk(CursorRequest(first.next_cursor, 3))
    by_sql = await queries.sql_walk(request)
    by_sql_second = await queries.sql_walk(CursorRequest(by_sql.next_cursor, 3))

    assert ids(first) == ids(by_sql) == [1, 2, 3]
    assert ids(second) == ids(by_sql_second) == [4, 5, 6]


async def test_cursor_that_was_changed_is_refused(people: Database) -> None:
    """Every change of a cursor, and anything that never was one, is a CursorError."""
    queries = People(people)
    cursor = (await queries.walk(CursorRequest(size=1))).next_cursor
    assert cursor is not None
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    forged = base64.urlsafe_b64encode(raw[:16] + b'[1,["x"]]').decode()
    changed = [
        cursor[:place] + chr(ord(letter) ^ 1) + cursor[place + 1 :] for place, letter in enumerate(cursor)
    ]
    others = [
        "",
        "x",
        "é",
        "\0",
        "!!!!",
        "=" * 40,
        cursor + "!",
        cursor + "=",
        cursor[:-1],
        forged,
        "A" * 100_000,
    ]

    for wrong in (*changed, *others):
        with pytest.raises(CursorError, match=r"People\.walk"):
            await queries.walk(CursorRequest(wrong, 1))
    assert (await queries.walk(CursorRequest(cursor, 1))).content


async def test_cursor_of_another_query_or_order_is_refused(people: Database) -> None:
    """A cursor leads only through the query and the order that it comes from."""
    queries = People(people)
    cursor = (await queries.walk(CursorRequest(size=1, sorts=[Sort("age")]))).next_cursor

    with pytest.raises(CursorError, match=r"other_walk"):
        await queries.other_walk(CursorRequest(cursor, 1, [Sort("age")]))
    for sorts in ([], [Sort("age", "DESC")], [Sort("name")]):
        with pytest.raises(CursorError):
            await queries.walk(CursorRequest(cursor, 1, sorts))
    fluent = await queries.where(Person.active).cursor_page(CursorRequest(size=1))
    with pytest.raises(CursorError):
        await queries.where(Person.age > 1).cursor_page(CursorRequest(fluent.next_cursor, 1))


async def test_cursor_works_in_every_session(people: Database) -> None:
    """Cursors of a Database lead on in a block, and on a session that is given."""
    cursor = (await People(people).walk(CursorRequest(size=1))).next_cursor

    async with people.transaction():
        inside = await People().walk(CursorRequest(cursor, 1))
    async with people.session_factory() as session:
        given = await People(session).walk(CursorRequest(cursor, 1))

    assert ids(inside) == ids(given) == [2]


async def test_statement_with_a_limit_is_not_paged(people: Database) -> None:
    """A page would replace the limit silently."""
    with pytest.raises(OptionError, match="a limit or offset"):
        await People(people).where(Person.active).limit(1).page(PageRequest())


async def test_pages_in_parallel(people: Database) -> None:
    """One repository serves many tasks at once."""
    queries = People(people)

    pages = await asyncio.gather(*(queries.derived(PageRequest(size=1), age__gte=age) for age in (0, 25, 99)))

    assert [page.total_elements for page in pages] == [2, 1, 0]
