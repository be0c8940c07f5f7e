"""A program with many declared queries compiles each of them once, in whatever order they are called."""

import types
from typing import Any

import pytest

from tests.fixtures.people import Person
from unitwork import Database, Repository, query
from unitwork._runtime.lanes.reads import CompiledRead

MANY = 800
"""More than SQLAlchemy keeps of 500 before it forgets the eldest."""


def people_of(number: int) -> type[Repository[Person]]:
    """A repository with so many queries, each of another text."""
    methods: dict[str, Any] = {}
    for place in range(number):

        async def method(self: object, key: int) -> Person | None: ...

        method.__name__ = f"query_{place}"
        methods[method.__name__] = query(f"id = :key AND {place} = {place}")(method)
    return types.new_class("Many", (Repository[Person],), {}, lambda space: space.update(methods))


async def test_each_statement_is_compiled_once(people: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called in turn, again and again."""
    seen: list[object] = []
    original = CompiledRead.of

    def counted(call: Any, dialect: Any) -> Any:  # noqa: ANN401  # as the original
        seen.append(call.statement)
        return original(call, dialect)

    monkeypatch.setattr(CompiledRead, "of", counted)
    many = people_of(MANY)(people)
    methods = [getattr(many, f"query_{place}") for place in range(MANY)]

    for _ in range(2):
        found = {(await method(1)).name for method in methods}
        assert found == {"Ann"}

    assert len(seen) == len({id(statement) for statement in seen}) == MANY


async def test_engine_keeps_statements_of_all_queries(people: Database) -> None:
    """Also those that need the session lane; what a person has chosen is kept."""
    many = people_of(MANY)

    def kept(db: Database) -> int:
        known: Any = db.engine.sync_engine._compiled_cache
        return int(known.capacity)

    async with Database(people.engine.url, name="many") as db:
        assert kept(db) >= MANY
    async with Database(people.engine.url, name="few", query_cache_size=7) as db:
        assert kept(db) == 7
    assert many.__name__ == "Many"
