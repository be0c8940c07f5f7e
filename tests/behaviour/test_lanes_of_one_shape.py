"""Statements that differ in their values alone are sent with the values of each, on each lane alike."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, not_, or_, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import aliased

from tests.fixtures.observer import Observer
from tests.fixtures.people import Color, Person
from unitwork import Database, OptionError, Repository, TransactionRefusedError
from unitwork.observe import StatementLog

pytestmark = pytest.mark.every_lane

TIMES = 4
"""The shape of a statement is known when it comes again, and used from then on."""

A, B, C = "Ann", "Bob", "Cid"

WAYS: dict[str, tuple[Callable[[int], Any], list[list[str]]]] = {
    "a value": (lambda number: [Person.id == number], [[A], [B], [C]]),
    "several": (lambda number: [Person.id >= number, Person.active], [[A, B], [B], []]),
    "a range": (lambda number: [Person.id.in_(range(1, number + 1))], [[A], [A, B], [A, B, C]]),
    "a list": (lambda number: [Person.id.in_([*range(1, number + 1)])], [[A], [A, B], [A, B, C]]),
    "an empty list": (lambda number: [Person.id.in_([1] * (number - 1))], [[], [A], [A]]),
    "no value": (lambda number: [Person.age == (None, 20, 30)[number - 1]], [[C], [B], [A]]),
    "another type": (lambda number: [Person.age == (20, 30.0, 20)[number - 1]], [[B], [A], [B]]),
    "one or the other": (lambda number: [or_(Person.id == number, Person.id == 3)], [[A, C], [B, C], [C]]),
    "neither": (lambda number: [not_((Person.id == number) | (Person.name == B))], [[C], [A, C], [A]]),
}
"""Conditions, and who meets them with the numbers 1, 2 and 3."""


def _of_alias(number: int) -> Any:  # noqa: ANN401  # a Select
    other = aliased(Person)
    return select(Person).where(Person.id == other.id, other.id == number)


@pytest.mark.parametrize("way", WAYS)
async def test_read_has_the_values_of_its_call(people: Database, way: str) -> None:
    """Outside and inside of blocks, with an order and without, again and again."""
    persons = Repository[Person](people)
    conditions, expected = WAYS[way]

    async def told() -> list[list[str]]:
        told_of = []
        for number in (1, 2, 3) * TIMES:
            unordered = await persons.where(*conditions(number)).all()
            found = await persons.where(*conditions(number)).order_by(Person.name.desc()).all()
            assert sorted(each.name for each in unordered) == [each.name for each in reversed(found)]
            told_of.append([each.name for each in reversed(found)])
        return told_of

    assert await told() == expected * TIMES
    async with people.transaction():
        assert await told() == expected * TIMES


async def test_session_of_a_block_is_asked_with_the_values_of_each_call(people: Database) -> None:
    """Also when the statement was made by a repository; and where nothing is found."""
    persons = Repository[Person](people)
    async with people.transaction() as session:
        for _time in range(TIMES):
            for number, name in ((1, "Ann"), (2, "Bob"), (9, None)):
                condition = Person.id == number
                plain = (await session.execute(select(Person).where(condition))).scalar_one_or_none()
                fluent = (await session.scalars(persons.where(condition))).all()
                assert (plain.name if plain else None) == name
                assert [each.name for each in fluent] == ([name] if name else [])
                assert await session.scalar(select(Person.name).where(condition)) == name


async def test_change_has_the_values_of_its_call(people: Database, observer: Observer) -> None:
    """Values in any order, of any type, None and expressions; and each row by its condition."""
    persons = Repository[Person](people)
    for number in (1, 2, 3) * TIMES:
        mine = Person.id == number
        assert await persons.where(mine).update(name=f"N{number}", age=number) == 1
        assert await persons.where(mine).update(age=number + 10, score=None, color=Color.BLUE) == 1
        assert await persons.where(mine).update(age=Person.age + 1) == 1
        assert await persons.where(mine).update(age=func.abs(-number) + Person.age) == 1
        assert await persons.where(Person.id == None).update(age=0) == 0  # noqa: E711  # as users write it
        assert await persons.where(mine, Person.name == f"N{number}").update() == 0

    assert await observer.values(Person, "age") == [13, 15, 17]
    assert await observer.names(Person) == ["N1", "N2", "N3"]


async def test_deleted_rows_are_those_of_the_call(people: Database, observer: Observer) -> None:
    """In a block, and by itself; the condition decides each time."""
    persons = Repository[Person](people)
    await persons.add_all([Person(id=number, name=f"N{number}") for number in range(10, 20)])
    for number in range(10, 14):
        assert await persons.delete_where(Person.id == number, Person.name == f"N{number}") == 1
        assert await persons.delete_where(Person.id == number, Person.name == f"N{number}") == 0
    async with people.transaction():
        for number in range(14, 18):
            assert await persons.where(Person.id == number).where(Person.name == f"N{number}").delete() == 1

    assert await observer.names(Person) == ["Ann", "Bob", "Cid", "N18", "N19"]


async def test_entities_that_are_held_know_of_each_change(people: Database) -> None:
    """Those that the condition of the call touches, and no others."""
    persons = Repository[Person](people)
    async with people.transaction():
        ann, bob, cid = await persons.select().order_by(Person.id).all()
        for time in range(TIMES):
            for number in (1, 2):
                await persons.where(Person.id == number).update(age=100 * number + time)
            assert (ann.age, bob.age) == (100 + time, 200 + time)
        assert await persons.delete_where(Person.id == cid.id) == 1
        assert await persons.where(Person.id == 3).all() == []
        people.set_rollback_only()


async def test_change_is_refused_in_each_read_only_block(people: Database, observer: Observer) -> None:
    """Also when its shape is known."""
    persons = Repository[Person](people)
    for number in range(TIMES):
        await persons.where(Person.id == 1).update(age=number)
        with pytest.raises(TransactionRefusedError):
            async with people.transaction(read_only=True):
                await persons.where(Person.id == 1).update(age=99)

    assert await observer.scalar("SELECT age FROM person WHERE id = 1") == TIMES - 1


async def test_what_cannot_be_sent_fails_with_each_call(people: Database) -> None:
    """A value that the driver refuses, and a statement with more than conditions."""
    persons = Repository[Person](people)
    for _time in range(TIMES):
        await persons.where(Person.id == 1).update(name="Ann")
        with pytest.raises(DBAPIError, match="UPDATE person"):
            await persons.where(Person.id == 1).update(name=None)
        for more in (persons.where(Person.id == 1).limit(1), persons.where(Person.id == 1).distinct()):
            with pytest.raises(OptionError):
                await more.update(name="Eve")
        columns: Any = persons.where(Person.id == 1).with_only_columns(Person.id)
        with pytest.raises(OptionError):
            await columns.update(name="Eve")

    assert [each.name for each in await persons.where(Person.id == 1).all()] == ["Ann"]


async def test_statements_that_are_made_of_other_columns_each_time_stay_apart(people: Database) -> None:
    """Aliases that are gone leave nothing that one after them is taken for."""
    persons = Repository[Person](people)
    for number in (1, 2, 3) * TIMES * 4:
        statement = _of_alias(number) if number % 2 else select(Person).where(Person.id == number)
        assert [each.id for each in await persons.all(statement)] == [number]
        gc.collect(0)


async def test_watchers_hear_of_each_statement(people: Database) -> None:
    """With its text, however it was found."""
    persons = Repository[Person](people)
    with StatementLog(people) as log:
        for number in range(TIMES):
            await persons.where(Person.id == number).update(age=number)
            async with people.transaction():
                await persons.where(Person.id == number).update(age=number)

    sent = [each.sql for each in log.statements if each.sql.startswith("UPDATE")]
    assert len(sent) == 2 * TIMES
    assert len({text.replace("%(age)s::INTEGER", "$1::INTEGER") for text in sent}) <= 2
