"""Random conditions, asked with one row's values after another's, choose the same rows on each lane."""

import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL, ColumnElement, and_, bindparam, delete, insert, not_, null, or_, select, true
from sqlalchemy.orm import DeclarativeBase

from tests.fixtures.databases import Backend
from tests.fixtures.leaks import left_in_context
from tests.properties.lanes import examples, one_for_each_lane
from tests.properties.mappings import KINDS, Column, Sample, samples
from tests.properties.test_lanes_agree import seen, told
from unitwork import Database, Repository

EXAMPLES = {"sqlite": 12, "asyncpg": 8, "psycopg": 8, "mariadb": 6}
_CONDITIONS = 3

_numbers = itertools.count()

Row = dict[str, Any]
Condition = Callable[[Any, Row], ColumnElement[bool]]
"""Made anew for each call, of a class and the values of one row."""


def _comparing(column: Column) -> st.SearchStrategy[Condition]:
    """All ways in which one column is compared with its value in a row."""
    name = column.attribute

    def of(model: Any) -> Any:  # noqa: ANN401  # any attribute
        return getattr(model, name)

    ways: list[Condition] = [lambda model, _row: of(model) == None]  # noqa: E711  # as users write it
    ways += [lambda model, _row: of(model).is_not(null()), lambda model, _row: of(model) == of(model)]
    if KINDS[column.kind].compares:
        ways += [
            lambda model, row: of(model) == row[name],
            lambda model, row: of(model) != row[name],
            lambda model, row: of(model).in_([row[name]]),
            lambda model, row: of(model).not_in([row[name], row[name]]),
            lambda model, _row: of(model).in_([]),
            lambda model, row: of(model) == bindparam("given", row[name]),
            lambda model, row: of(model) == bindparam(None, row[name], type_=of(model).type, unique=True),
        ]
    if column.kind in ("integer", "big", "float", "date", "moment", "decimal"):
        ways.append(lambda model, row: true() if row[name] is None else of(model) <= row[name])
        ways.append(lambda model, row: true() if row[name] is None else row[name] < of(model))
    if column.kind in ("integer", "big"):
        # A value of another type than its column, in statements that are otherwise the same.
        ways.append(lambda model, row: of(model) == float((row[name] or 0) % 1000))
    if column.kind == "boolean":
        ways += [lambda model, _row: of(model), lambda model, _row: of(model).is_(True)]
        ways.append(lambda model, _row: of(model) == true())
    if column.kind in ("string", "text", "custom"):
        ways.append(lambda model, row: of(model).like(f"{row[name]}%"))
        ways.append(lambda model, row: of(model).ilike(f"%{row[name]}", escape="/"))
        ways.append(lambda model, row: of(model).startswith(row[name] or "", autoescape=True))
    return st.sampled_from(ways)


def _twice(inner: Condition) -> Condition:
    """One expression that stands in two places: its values are sent once, or twice."""

    def both(model: Any, row: Row) -> ColumnElement[bool]:  # noqa: ANN401  # any class
        one = inner(model, row)
        return or_(one, and_(one, true()))

    return both


def conditions(sample: Sample) -> st.SearchStrategy[Condition]:
    """Conditions of one or more columns, joined and negated."""
    one = st.sampled_from(sample.columns).flatmap(_comparing)

    def joined(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
        pairs = st.tuples(inner, inner)
        return st.one_of(
            pairs.map(lambda two: lambda model, row: and_(two[0](model, row), two[1](model, row))),
            pairs.map(lambda two: lambda model, row: or_(two[0](model, row), two[1](model, row))),
            inner.map(lambda one: lambda model, row: not_(one(model, row))),
            inner.map(_twice),
        )

    return st.recursive(one, joined, max_leaves=4)


@st.composite
def samples_with_conditions(draw: st.DrawFn, database: str) -> tuple[Sample, list[Condition]]:
    """A class with rows, and what is asked of it."""
    sample = draw(samples(database))
    return sample, draw(st.lists(conditions(sample), min_size=_CONDITIONS, max_size=_CONDITIONS))


async def answered(db: Database, work: Awaitable[object]) -> Any:  # noqa: ANN401  # of any kind
    """What is returned or raised; rows come in any order, and some errors name the database."""
    kind, what = cast("tuple[str, Any]", await told(work))
    if kind == "list":
        return (kind, sorted(what, key=repr))
    return (kind, what.replace(repr(db.name), "it") if isinstance(what, str) else what)


async def executed(session: Any, statement: Any) -> object:  # noqa: ANN401  # of a block
    """What the session of a block is asked, as by hand."""
    return list((await session.execute(statement)).scalars())


async def story(
    db: Database, model: type[DeclarativeBase], sample: Sample, asked: list[Condition]
) -> list[object]:
    """Read, change and delete by conditions, each with the values of several rows, here and there."""
    door = Repository[model](db)  # type: ignore[valid-type]  # made for this example
    key = [getattr(model, name) for name in sample.keys]
    others = [column.attribute for column in sample.columns if not column.key]
    told_of: list[object] = []
    for condition, row in itertools.product(asked, sample.rows[:3]):
        values = {name: sample.rows[0][name] for name in others}
        told_of.append(await answered(db, door.where(condition(model, row)).all()))
        told_of.append(await answered(db, door.where(condition(model, row)).order_by(*key).all()))
        told_of.append(await answered(db, door.where(condition(model, row)).count()))
        for holds in (False, True):
            with suppress(Exception):
                async with db.transaction() as session:
                    kept = list(await session.scalars(select(model).order_by(*key))) if holds else []
                    told_of.append(await answered(db, door.where(condition(model, row)).update(**values)))
                    told_of.append(seen(kept))
                    told_of.append(
                        await answered(db, door.delete_where(condition(model, row), condition(model, row)))
                    )
                    told_of += [seen(kept), await answered(db, door.all())]
                    db.set_rollback_only()
            with suppress(Exception):
                async with db.transaction() as session:
                    by_hand = select(model).where(condition(model, row))
                    told_of.append(await answered(db, executed(session, by_hand)))
    for condition, row in zip(asked, sample.rows, strict=False):
        values = {name: row[name] for name in others}
        told_of.append(await answered(db, door.where(condition(model, row)).update(**values)))
        told_of.append(await answered(db, door.delete_where(condition(model, sample.rows[-1]))))
        told_of.append(await answered(db, door.all()))
    return told_of


async def agree(databases: list[Database], sample: Sample, asked: list[Condition]) -> None:
    """Store a sample, ask for parts of it on each lane, and compare."""
    model = sample.mapped(f"conditions_{next(_numbers)}")
    first = databases[0]
    await first.create_all(model.metadata)
    stories: list[list[object]] = []
    try:
        for db in databases:
            async with first.transaction() as session:
                await session.execute(delete(model))
                if sample.rows:
                    await session.execute(insert(model), [dict(row) for row in sample.rows])
            stories.append(await story(db, model, sample, asked))
    finally:
        await first.drop_all(model.metadata)
    for driver, fused, session_ in zip(*stories, strict=True):
        assert fused == session_
        assert driver == session_
    assert left_in_context() == {}
    assert [db.pool_status().checked_out for db in databases] == [0, 0, 0]


@pytest.mark.timeout(120)
def test_lanes_agree_on_rows_of_random_conditions(backend: Backend, database_url: URL) -> None:
    """Which rows are read, changed and deleted, what entities that are held know of it, and errors."""
    with one_for_each_lane(database_url) as (runner, databases):

        @examples(EXAMPLES[backend.id])
        @given(samples_with_conditions(backend.database))
        def compare(asked: tuple[Sample, list[Condition]]) -> None:
            runner.run(agree(databases, *asked))

        compare()
