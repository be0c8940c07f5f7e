"""A declared query that cannot work is refused when its class is made: at import, with one fix."""

# ruff: noqa: ANN401, D103 - each function makes one mistake, and its name says which

# mypy: disable-error-code="empty-body"

import types
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Select, select

from tests.fixtures.people import Person
from unitwork import (
    CursorPage,
    CursorRequest,
    DeclarationError,
    Page,
    PageRequest,
    QueryDeclarationError,
    Repository,
    query,
    repository,
)

HEAD = "Query tests.behaviour.test_query_declaration_errors.People."
COLUMNS = "id, name, age, score, born, seen, paid, token, color, active"
SUFFIXES = "gt, gte, lt, lte, ne, like, ilike, startswith, endswith, contains, in, not_in, isnull, between"


@dataclass
class NameLength:
    """One field is no attribute."""

    name: str
    length: int


def people(method: Any, base: Any = Repository[Person]) -> None:
    """Make a repository with this one method."""
    types.new_class("People", (base,), exec_body=lambda body: body.update(q=method, __module__=__name__))


def unknown_bind() -> None:
    @query("name = :nam")
    async def q(self: Any, name: str) -> Person: ...

    people(q)


def unused_parameter() -> None:
    @query("name = :name")
    async def q(self: Any, name: str, age: int) -> Person: ...

    people(q)


def unknown_attribute() -> None:
    @query
    async def q(self: Any, nme: str) -> Person: ...

    people(q)


def unknown_suffix() -> None:
    @query
    async def q(self: Any, name__is: str) -> Person: ...

    people(q)


def no_annotation() -> None:
    @query("name = :name")
    async def q(self: Any, name: str): ...  # type: ignore[no-untyped-def]  # noqa: ANN202  # the mistake

    people(q)


def unknown_shape() -> None:
    @query("name = :name")
    async def q(self: Any, name: str) -> set[Person]: ...

    people(q)


def union() -> None:
    @query("name = :name")
    async def q(self: Any, name: str) -> Person | int: ...

    people(q)


def scalar_of_a_condition() -> None:
    @query("name = :name")
    async def q(self: Any, name: str) -> str: ...

    people(q)


def many_scalars_of_a_condition() -> None:
    @query("name = :name")
    async def q(self: Any, name: str) -> list[int]: ...

    people(q)


def record_field() -> None:
    @query("name = :name")
    async def q(self: Any, name: str) -> list[NameLength]: ...

    people(q)


def page_without_request() -> None:
    @query("name = :name")
    async def q(self: Any, name: str) -> Page[Person]: ...

    people(q)


def page_with_the_other_request() -> None:
    @query("active")
    async def q(self: Any, page: CursorRequest) -> Page[Person]: ...

    people(q)


def request_without_page() -> None:
    @query("active")
    async def q(self: Any, page: PageRequest) -> list[Person]: ...

    people(q)


def unique_list() -> None:
    @query(expr="name = :name", unique=True)
    async def q(self: Any, name: str) -> list[Person]: ...

    people(q)


def many_that_are_one() -> None:
    @query(expr="name = :name", unique=False)
    async def q(self: Any, name: str) -> Person: ...

    people(q)


def condition_that_returns_nothing() -> None:
    @query("active")
    async def q(self: Any) -> None: ...

    people(q)


def empty_text() -> None:
    @query("  ")
    async def q(self: Any) -> list[Person]: ...

    people(q)


def not_async() -> None:
    @query("active")
    def q(self: Any) -> list[Person]: ...

    people(q)


def generator() -> None:
    @query("active")
    async def q(self: Any) -> AsyncIterator[Person]:
        yield Person()

    people(q)


def a_body() -> None:
    @query("active")
    async def q(self: Any) -> list[Person]:
        return await self.all()  # type: ignore[no-any-return]  # never runs

    people(q)


def statement_async() -> None:
    @query.many  # type: ignore[arg-type]  # the mistake
    async def q(self: Any) -> Select[Person]:
        return select(Person)

    people(q)


def star_parameters() -> None:
    @query
    async def q(self: Any, *names: str) -> list[Person]: ...

    people(q)


def unknown_name() -> None:
    @query("active")
    async def q(self: Any) -> "list[Nowhere]": ...  # type: ignore[name-defined]  # noqa: F821  # the mistake

    people(q)


def page_of_sql_with_order() -> None:
    @query.sql("SELECT * FROM person ORDER BY name")
    async def q(self: Any, page: PageRequest) -> Page[Person]: ...

    people(q)


def page_of_sql_records() -> None:
    @query.sql("SELECT * FROM person")
    async def q(self: Any, page: CursorRequest) -> CursorPage[NameLength]: ...

    people(q)


def rows_of_a_write() -> None:
    @query.sql("DELETE FROM person")
    async def q(self: Any) -> list[Person]: ...

    people(q)


def no_entity() -> None:
    @query("active")
    async def q(self: Any) -> int: ...

    people(q, Repository)


def not_mapped() -> None:
    @query("active")
    async def q(self: Any) -> int: ...

    people(q, Repository[NameLength])


def text_for_a_statement() -> None:
    @query.many  # type: ignore[arg-type]  # the mistake
    def q(self: Any) -> str:
        return "SELECT 1"

    people(q)


def number_for_a_statement() -> None:
    @query.execute  # type: ignore[arg-type]  # the mistake
    def q(self: Any) -> int:
        return 1

    people(q)


MESSAGES: list[tuple[Callable[[], None], str, str]] = [
    (
        unknown_bind,
        "the text uses :nam, but there is no parameter 'nam'",
        "add the parameter `nam`, or use one of: name.",
    ),
    (
        unused_parameter,
        "the parameter 'age' is not used in the text",
        "use `:age` in the text, or remove the parameter.",
    ),
    (
        unknown_attribute,
        "the parameter 'nme' names no attribute of the entity",
        f"use one of: {COLUMNS}; with a suffix such as `__gte`.",
    ),
    (
        unknown_suffix,
        "the parameter 'name__is' has the unknown suffix `__is`",
        f"use one of: {', '.join(f'`__{name}`' for name in SUFFIXES.split(', '))}.".replace("`", ""),
    ),
    (
        no_annotation,
        "it has no return annotation",
        "say what it returns, for example `-> list[Model]`.",
    ),
    (
        unknown_shape,
        "it returns set, which rows cannot become",
        "return the model, `Model | None`, `list[Model]`, a scalar, a dataclass or another record.",
    ),
    (
        union,
        "it returns a union of several types, which rows cannot become",
        "return the model, `Model | None`, `list[Model]`, a scalar, a dataclass or another record.",
    ),
    (
        scalar_of_a_condition,
        "a condition on Person cannot return str",
        "return Person, int (a count), bool (exists) or a record; or write `@query.sql`.",
    ),
    (many_scalars_of_a_condition, "a condition has no scalar for each row", "write `@query.sql`."),
    (
        record_field,
        "NameLength.length is no attribute of Person",
        f"use one of: {COLUMNS}; or write `@query.sql`.",
    ),
    (
        page_without_request,
        "it returns a page, but has no parameter of type PageRequest",
        "add a parameter such as `page: PageRequest`.",
    ),
    (
        page_with_the_other_request,
        "it returns a page, but has no parameter of type PageRequest",
        "add a parameter such as `page: PageRequest`.",
    ),
    (
        request_without_page,
        "it takes a PageRequest, but returns no page",
        "return `Page[Model]` or `CursorPage[Model]`.",
    ),
    (unique_list, "`unique=True` promises one row, but it returns a list", "return `Model | None`."),
    (
        many_that_are_one,
        "`unique=False` promises many rows, but it returns one",
        "return `list[Model]`.",
    ),
    (
        condition_that_returns_nothing,
        "it returns nothing",
        "say what it returns, for example `-> list[Model]`.",
    ),
    (empty_text, "its text is empty", "write what stands after WHERE, or `@query` alone."),
    (not_async, "it is not `async def`", "write `async def`."),
    (generator, "its body has a `yield`", "leave the body empty: `...`."),
    (
        a_body,
        "it has a body, which would never run",
        "leave the body empty: `...`; to return a statement use `@query.many` and its siblings.",
    ),
    (statement_async, "its body returns a statement, but it is `async def`", "write `def`."),
    (star_parameters, "it takes *names", "name each parameter; take a list for many values."),
    (
        unknown_name,
        "its annotations name 'Nowhere', which is not defined here",
        "import it outside of `if TYPE_CHECKING:`, or define it before the repository.",
    ),
    (
        page_of_sql_with_order,
        "its text has an ORDER BY or LIMIT, which a page replaces",
        "take it out; the request says the order: `PageRequest(sorts=[Sort(...)])`.",
    ),
    (
        page_of_sql_records,
        "only entities can be paged from SQL text",
        "return `Page[Model]`, or build a statement.",
    ),
    (
        rows_of_a_write,
        "it changes rows and returns none of them",
        "return `None`, `int` (how many rows), `bool` (any row), or add RETURNING to the text.",
    ),
    (
        no_entity,
        "a condition needs an entity",
        "declare it in a `Repository[Model]`, or use `@query.sql`.",
    ),
    (
        text_for_a_statement,
        "it returns str, but @query.many needs a SQLAlchemy Select",
        "return `select(Model).where(...)`; for raw SQL return `select(Model).from_statement(text(...))`.",
    ),
    (
        number_for_a_statement,
        "it returns int, but @query.execute needs a SQLAlchemy statement",
        "return `update(Model)...`, `delete(Model)...` or `insert(Model)...`.",
    ),
    (
        not_mapped,
        "NameLength is not mapped",
        "name a model: a class with `__tablename__` on a `Base`.",
    ),
]


@pytest.mark.parametrize(
    ("declare", "problem", "fix"), MESSAGES, ids=lambda value: getattr(value, "__name__", "")
)
def test_declaration_is_refused(declare: Callable[[], None], problem: str, fix: str) -> None:
    """The message names class, method, what is wrong, and the fix."""
    with pytest.raises(QueryDeclarationError) as error:
        declare()

    first, second = str(error.value).splitlines()
    subject = first.removeprefix("Query ").partition(" is declared wrongly: ")[0]
    assert subject.startswith("tests.behaviour.test_query_declaration_errors.")
    assert first.partition(" is declared wrongly: ")[2] == f"{problem}."
    assert second == f"  Fix: {fix}"


def test_subject_is_class_and_method() -> None:
    """A person finds the query at once."""
    with pytest.raises(QueryDeclarationError, match=rf"^{HEAD}q is declared wrongly"):
        unknown_bind()


async def test_bodies_that_only_mark_emptiness_are_allowed() -> None:
    """`...`, `pass`, a docstring, and `raise NotImplementedError` for type checkers."""

    class People(Repository[Person]):
        @query("active")
        async def dots(self) -> list[Person]: ...

        @query("active")
        async def told(self) -> list[Person]:
            """Only this line."""

        @query("active")
        async def raising(self) -> list[Person]:
            raise NotImplementedError

    assert People.told.__doc__ == "Only this line."


def test_name_of_the_repository_itself_is_refused() -> None:
    """A query called `entity` would take from the repository what it needs."""

    @query("active")
    async def entity(self: Any) -> list[Person]: ...

    with pytest.raises(
        QueryDeclarationError, match=r"People\.entity is declared wrongly: a repository needs"
    ):
        types.new_class("People", (Repository[Person],), exec_body=lambda body: body.update(entity=entity))


def test_public_async_generator_of_a_repository_is_refused() -> None:
    """It would be no transaction, or one that its consumer's loop takes part in."""

    async def q(self: Any) -> AsyncIterator[Person]:
        yield await self.add(Person(name="half"))

    with pytest.raises(
        DeclarationError, match=r"People\.q is declared wrongly: an async generator cannot be"
    ) as error:
        people(q)
    assert "Fix: return a list" in str(error.value)

    with pytest.raises(DeclarationError, match=r"Plain\.q is declared wrongly"):
        repository(entity=Person)(types.new_class("Plain", exec_body=lambda body: body.update(q=q)))


def test_private_async_generator_of_a_repository_is_its_own_affair() -> None:
    """What begins with an underscore is as it is written; a plain method may return it."""

    async def _q(self: Any) -> AsyncIterator[Person]:
        yield await self.get(1)

    kind = types.new_class("People", (Repository[Person],), exec_body=lambda body: body.update(_q=_q))

    assert vars(kind)["_q"] is _q
