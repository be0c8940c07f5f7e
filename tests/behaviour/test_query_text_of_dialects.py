"""SQL text is read as its database reads it: its strings, comments, casts and names."""

# mypy: disable-error-code="empty-body"

import pytest
from sqlalchemy import text

from tests.fixtures.observer import Observer
from tests.fixtures.people import Color, Person, Pet, Seat
from unitwork import (
    Database,
    OptionError,
    QueryDeclarationError,
    Repository,
    TransactionRefusedError,
    query,
)


class InPostgreSQL(Repository[Person]):
    """A colon that is no parameter in PostgreSQL, next to one that is."""

    @query.sql("SELECT id FROM person WHERE name = :name::text AND id >= :least :: integer")
    async def cast(self, name: str, least: int) -> list[int]: ...

    @query.sql(r"SELECT E'it\'s :x' || $q$ it's :y $q$ FROM person WHERE name = :name")
    async def quoted(self, name: str) -> list[str]: ...

    @query("name = :name /* a /* nested :one */ :two */ -- :three")
    async def commented(self, name: str) -> list[Person]: ...

    @query.sql("SELECT (ARRAY[1, 2, 3])[2:3] FROM person WHERE name = :name")
    async def sliced(self, name: str) -> list[tuple[list[int]]]: ...

    @query.sql(r"SELECT 'a\:b' FROM person WHERE name = :name")
    async def backslash(self, name: str) -> list[str]: ...


class InMariaDB(Repository[Person]):
    """The same in MariaDB."""

    @query.sql(r"SELECT 'it\'s :x' FROM person WHERE name = :name")
    async def quoted(self, name: str) -> list[str]: ...

    @query("name = :name # it's :one")
    async def commented(self, name: str) -> list[Person]: ...

    @query.sql(r'SELECT "it\"s :x" FROM `person` WHERE name = :name')
    async def double(self, name: str) -> list[str]: ...


class Anywhere(Repository[Person]):
    """Texts that each database reads in its own way, all with the same parameters."""

    @query.sql("SELECT '\\\\' AS a, ':x' AS b FROM person WHERE name = :name")
    async def backslashes(self, name: str) -> list[dict[str, str]]: ...

    @query.sql("SELECT p.id FROM pet p WHERE p.name = :name AND p.owner_id = :owner")
    async def pets(self, name: str, owner: int) -> list[int]: ...

    @query.sql("SELECT s.line FROM seat s WHERE s.holder = :color")
    async def seats(self, color: str) -> list[int]: ...

    @query("id IN (SELECT p.owner_id FROM pet p WHERE p.name = :name) AND color = :color")
    async def owners(self, name: str, color: Color) -> list[Person]: ...


@pytest.mark.only("postgresql", reason="its own text")
async def test_text_is_read_as_postgresql_does(people: Database) -> None:
    """Casts, E'' and dollar quotes, nested comments and slices hold no parameters."""
    queries = InPostgreSQL(people)

    assert await queries.cast("Ann", 1) == [1]
    assert await queries.quoted("Ann") == ["it's :x it's :y "]
    assert [person.name for person in await queries.commented("Ann")] == ["Ann"]
    assert [row[0] for row in await queries.sliced("Ann")] == [[2, 3]]
    assert await queries.backslash("Ann") == [r"a\:b"]


@pytest.mark.only("mariadb", reason="its own text")
async def test_text_is_read_as_mariadb_does(people: Database) -> None:
    """Backslashes in quotes, texts in double quotes and `#` comments hold no parameters."""
    queries = InMariaDB(people)

    assert await queries.quoted("Ann") == ["it's :x"]
    assert [person.name for person in await queries.commented("Ann")] == ["Ann"]
    assert await queries.double("Ann") == ['it"s :x']


@pytest.mark.every_lane
async def test_text_that_databases_read_differently_is_right_on_each(people: Database) -> None:
    """A backslash is a sign of its own, or half of one: the text is right all the same."""
    (row,) = await Anywhere(people).backslashes("Ann")

    assert row["b"] == ":x"
    assert set(row["a"]) == {"\\"}


async def test_parameter_has_the_type_of_the_column_that_it_meets(people: Database) -> None:
    """A column of another table is not the entity's column of that name."""
    queries = Anywhere(people)
    async with people.transaction() as session:
        session.add_all([Pet(id=7, name="Rex", owner_id=1), Seat(line=3, number=1, holder="RED")])

    assert await queries.pets("Rex", 1) == [7]
    assert await queries.seats("RED") == [3]
    assert [person.name for person in await queries.owners("Rex", Color.RED)] == ["Ann"]


@pytest.mark.only("postgresql", reason="its own statements")
async def test_statements_that_answer_nothing_return_none(people: Database) -> None:
    """LOCK, SET and NOTIFY are declared with `-> None`, and refused with anything else."""

    class Statements(Repository[Person]):
        @query.sql("LOCK TABLE person IN SHARE MODE")
        async def lock(self) -> None: ...

        @query.sql("SET LOCAL statement_timeout = 5000")
        async def limit(self) -> None: ...

    async with people.transaction():
        assert await Statements(people).lock() is None  # type: ignore[func-returns-value]  # that is the point
        assert await Statements(people).limit() is None  # type: ignore[func-returns-value]  # as above

    with pytest.raises(QueryDeclarationError, match="returns no rows"):

        class Wrong(Repository[Person]):
            @query.sql("LOCK TABLE person IN SHARE MODE")
            async def lock(self) -> int: ...


async def test_none_is_no_list(people: Database) -> None:
    """A list that may be None is refused at import; None for a list, at the call."""
    with pytest.raises(QueryDeclarationError, match="'name__in' may be None"):

        class Derived(Repository[Person]):
            @query
            async def named(self, *, name__in: list[str] | None) -> list[Person]: ...

    with pytest.raises(QueryDeclarationError, match="'names' may be None"):

        class Text(Repository[Person]):
            @query("name IN :names")
            async def named(self, names: list[str] | None) -> list[Person]: ...

    class Right(Repository[Person]):
        @query
        async def named(self, *, name__in: list[str]) -> list[Person]: ...

    with pytest.raises(OptionError, match="name__in"):
        await Right(people).named(name__in=None)  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize("words", ["COMMIT", " commit ;", "/* now */ ROLLBACK", "END"])
async def test_text_that_ends_the_transaction_is_refused_under_rolled_back(
    people: Database, observer: Observer, words: str
) -> None:
    """What a test writes is undone, also if its code says COMMIT in text."""
    if words == "END" and people.engine.dialect.name == "mysql":
        words = "COMMIT AND CHAIN"
    async with people.rolled_back():
        with pytest.raises(TransactionRefusedError, match="by hand"):
            async with people.transaction() as session:
                await Repository[Person](people).add(Person(name="left behind"))
                await session.execute(text(words))

    assert await observer.names(Person) == ["Ann", "Bob", "Cid"]
