"""Random mappings, types and data look the same on each lane."""

import itertools
import re
import types
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import make_dataclass
from typing import Any

import pytest
from hypothesis import given
from sqlalchemy import URL, Row, delete, insert, inspect, select
from sqlalchemy.orm import DeclarativeBase

from tests.fixtures.databases import Backend
from tests.fixtures.leaks import left_in_context
from tests.properties.lanes import examples, one_for_each_lane
from tests.properties.mappings import KINDS, Sample, samples
from unitwork import Database, PageRequest, Repository, query

EXAMPLES = {"sqlite": 30, "asyncpg": 15, "psycopg": 12, "mariadb": 8}

_numbers = itertools.count()

Read = Callable[[Any], Awaitable[object]]
"""Of a repository that is made for a sample."""


def seen(thing: object) -> object:
    """All that a program can tell of what a read returns, with the types of the values."""
    if isinstance(thing, list | tuple | Row):
        return (type(thing).__name__, [seen(each) for each in thing])
    if isinstance(thing, dict):
        return ("dict", [(name, seen(value)) for name, value in thing.items()])
    if isinstance(thing, DeclarativeBase):
        state: Any = inspect(thing)
        return (
            type(thing).__name__,
            [
                (name, seen(value))
                for name, value in sorted(state.dict.items())
                if name != "_sa_instance_state"
            ],
            (state.detached, state.persistent, state.modified, state.expired, state.key and state.key[1:]),
            (dict(state.committed_state), sorted(state.unloaded), sorted(state.expired_attributes)),
        )
    if hasattr(thing, "__dataclass_fields__"):
        return seen(vars(thing))
    return (type(thing).__name__, thing)


def door_to(model: type[DeclarativeBase], sample: Sample) -> type[Repository[Any]]:
    """A repository with declared queries for records, dictionaries and single columns."""
    record = make_dataclass("Record", [(column.attribute, Any) for column in sample.columns])

    def declared(name: str, annotation: object) -> Any:  # noqa: ANN401  # a declared query
        async def read(self: Any) -> None: ...  # noqa: ANN401  # the condition is the body

        read.__name__ = read.__qualname__ = name
        read.__annotations__ = {"return": annotation}
        return query("1 = 1")(read)

    def columns(self: Any):  # type: ignore[no-untyped-def]  # noqa: ANN202, ANN401  # as in a program without annotations
        del self
        return select(getattr(model, sample.columns[-1].attribute)).order_by(*_order(model, sample))

    names: dict[str, Any] = {
        "records": declared("records", list[record]),  # type: ignore[valid-type]  # made here
        "mappings": declared("mappings", list[dict[str, Any]]),
        "one_column": query.many(columns),
    }
    made: type[Repository[Any]] = types.new_class(
        "Door",
        (Repository[model],),  # type: ignore[valid-type]  # made here
        exec_body=lambda body: body.update(names),
    )
    return made


def _order(model: type[DeclarativeBase], sample: Sample) -> list[Any]:
    return [getattr(model, name) for name in sample.keys]


def reads(model: type[DeclarativeBase], sample: Sample) -> list[Read]:
    """All that is read of a sample."""
    order = _order(model, sample)

    def key_of(row: dict[str, Any]) -> Any:  # noqa: ANN401  # of any type
        values = tuple(row[name] for name in sample.keys)
        return values if len(values) > 1 else values[0]

    def equal(name: str, value: object) -> Read:
        condition = getattr(model, name) == value
        return lambda door: door.where(condition).order_by(*order).all()

    def among(name: str, values: list[object]) -> list[Read]:
        within, without = getattr(model, name).in_(values), getattr(model, name).not_in(values)
        return [
            lambda door: door.where(within).order_by(*order).all(),
            lambda door: door.where(without).count(),
        ]

    def by_key(key: Any) -> Read:  # noqa: ANN401  # as above
        return lambda door: door.get(key)

    compared = [column.attribute for column in sample.columns if KINDS[column.kind].compares]
    return [
        lambda door: door.where().order_by(*order).all(),
        lambda door: door.where().order_by(*order).first(),
        lambda door: door.where().order_by(*order).page(PageRequest(size=2)),
        lambda door: door.count(),
        lambda door: door.records(),
        lambda door: door.mappings(),
        lambda door: door.one_column(),
        *(by_key(key_of(row)) for row in sample.rows),
        *(equal(name, row[name]) for row in sample.rows[:2] for name in compared),
        *itertools.chain.from_iterable(among(name, [row[name] for row in sample.rows]) for name in compared),
    ]


def asked_of_session(
    model: type[DeclarativeBase], sample: Sample
) -> list[Callable[[Any], Awaitable[object]]]:
    """What the session of a block is asked, as by hand."""
    ordered = select(model).order_by(*_order(model, sample))
    last = select(getattr(model, sample.columns[-1].attribute)).order_by(*_order(model, sample))

    async def rows(session: Any) -> object:  # noqa: ANN401  # an AsyncSession
        return (await session.execute(ordered)).all()

    async def entities(session: Any) -> object:  # noqa: ANN401  # as above
        return (await session.scalars(ordered)).all()

    return [rows, entities, lambda session: session.scalar(ordered), lambda session: session.scalar(last)]


async def adding(db: Database, door: Repository[Any], entity: Any, *, flushed: bool) -> list[object]:  # noqa: ANN401  # of any class
    """Insert an entity in place of all rows, in a transaction that is rolled back."""
    told_of: list[object] = []
    with suppress(Exception):
        async with db.transaction() as session:
            await session.execute(delete(type(entity)))
            if flushed:
                session.add(entity)
                told_of.append(await told(session.flush()))
            else:
                told_of.append(await told(door.add(entity)))
            told_of.append(await told(door.all()))
            db.set_rollback_only()
    return [*told_of, seen(entity)]


async def changing(db: Database, model: type[Any], sample: Sample) -> list[object]:
    """Give the last entity what the first one has, and delete the first one, all of it rolled back."""
    told_of: list[object] = []
    kept: list[Any] = []
    with suppress(Exception):
        async with db.transaction() as session:
            kept += (await session.scalars(select(model).order_by(*_order(model, sample)))).all()
            for column in sample.columns:
                if column.attribute not in sample.keys:
                    setattr(kept[-1], column.attribute, sample.rows[0][column.attribute])
            told_of += [await told(session.flush()), seen(kept)]
            await session.delete(kept[0])
            told_of += [await told(session.flush()), seen(kept)]
            db.set_rollback_only()
    return [*told_of, seen(kept)]


async def told(work: Awaitable[object]) -> object:
    """What a read returns or raises."""
    try:
        return seen(await work)
    except Exception as error:  # noqa: BLE001  # told
        return (type(error).__name__, re.sub("0x[0-9a-f]+", "", str(error)))


async def story(db: Database, model: type[DeclarativeBase], sample: Sample) -> list[object]:
    """Read all of it outside, in a unit of work and in a block; what is read twice is known by then."""
    door = door_to(model, sample)(db)
    told_of: list[object] = [await told(read(door)) for read in reads(model, sample)]
    async with db.unit_of_work():
        told_of += [await told(read(door)) for read in reads(model, sample)]
        same = zip(await door.all(), await door.all(), strict=True)
        told_of.append([one is two for one, two in same])
        told_of.append(list(db.session.sync_session.dirty))
    for read in reads(model, sample):
        with suppress(Exception):
            async with db.transaction():
                told_of.append(await told(read(door)))
    for ask in asked_of_session(model, sample):
        with suppress(Exception):
            async with db.transaction() as session:
                told_of += [await told(ask(session)), await told(ask(session))]
    for place, row in enumerate(sample.rows):
        told_of += await adding(db, door, model(**row), flushed=bool(place % 2))
    if sample.rows:
        told_of += await changing(db, model, sample)
    return told_of


async def agree(databases: list[Database], sample: Sample) -> None:
    """Store a sample, read it on each lane, and compare."""
    # Never the same again: the server would remember how statements on the last one were planned.
    model = sample.mapped(f"sample_{next(_numbers)}")
    first = databases[0]
    await first.create_all(model.metadata)
    try:
        if sample.rows:
            async with first.transaction() as session:
                await session.execute(insert(model), [dict(row) for row in sample.rows])
        stories = [await story(db, model, sample) for db in databases]
    finally:
        await first.drop_all(model.metadata)
    for told_of in zip(*stories, strict=True):
        driver, fused, session = told_of
        assert fused == session
        assert driver == session
    assert left_in_context() == {}
    assert [db.pool_status().checked_out for db in databases] == [0, 0, 0]


@pytest.mark.timeout(120)
def test_lanes_agree_on_random_mappings_and_data(backend: Backend, database_url: URL) -> None:
    """Entities with their states, records, dictionaries, columns, pages, and errors."""
    with one_for_each_lane(database_url) as (runner, databases):

        @examples(EXAMPLES[backend.id])
        @given(samples(backend.database))
        def compare(sample: Sample) -> None:
            runner.run(agree(databases, sample))

        compare()
