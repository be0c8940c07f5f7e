"""SoftDeleteMixin hides rows from every way to read, unless they are asked for."""

import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import exists, func, select
from sqlalchemy.orm import aliased, joinedload, selectinload, subqueryload

from tests.fixtures.mixins import DataLamp, DataRoom, Lamp, Room, repository_of
from tests.fixtures.observer import Observer
from unitwork import Database

MODELS = pytest.mark.parametrize(("room", "lamp"), [(Room, Lamp), (DataRoom, DataLamp)])


@pytest.fixture
async def hidden(lit: Database, room: type[Room], lamp: type[Lamp]) -> Database:
    """A room with the lamps 'gone' and 'here', of which the first is deleted."""
    async with lit.transaction() as session:
        gone = lamp(name="gone")
        session.add(room(lamps=[gone, lamp(name="here")]))
        await session.flush()
        gone.soft_delete()
    return lit


async def names(db: Database, statement: Any, **options: object) -> list[Any]:  # noqa: ANN401  # any SELECT
    """The names that a statement finds, sorted."""
    async with db.transaction() as session:
        return sorted((await session.execute(statement, execution_options=options)).scalars())


@MODELS
async def test_select_hides_deleted_rows(hidden: Database, room: type[Room], lamp: type[Lamp]) -> None:
    """Entities, columns, aliases, counts, subqueries and EXISTS."""
    other = aliased(lamp)

    assert await names(hidden, select(lamp.name)) == ["here"]
    assert await names(hidden, select(other.name)) == ["here"]
    assert await names(hidden, select(select(lamp.name).subquery().c.name)) == ["here"]
    async with hidden.transaction() as session:
        assert len((await session.scalars(select(lamp))).all()) == 1
        assert await session.scalar(select(func.count()).select_from(lamp)) == 1
        assert not await session.scalar(select(exists().where(lamp.name == "gone")))
        assert not (await session.scalars(select(room).where(room.lamps.any(lamp.name == "gone")))).all()


@MODELS
async def test_join_hides_deleted_rows(hidden: Database, room: type[Room], lamp: type[Lamp]) -> None:
    """The condition is that of the join, so that an outer join keeps the other side."""
    assert await names(hidden, select(lamp.name).select_from(room).join(room.lamps)) == ["here"]
    assert await names(hidden, select(room.id).outerjoin(lamp, lamp.name == "gone")) == [1]


@MODELS
@pytest.mark.parametrize("loader", [selectinload, joinedload, subqueryload])
async def test_loaders_hide_deleted_rows(
    hidden: Database,
    room: type[Room],
    lamp: type[Lamp],
    loader: Any,  # noqa: ANN401  # a loader option
) -> None:
    """What is loaded with an entity is without them, too."""
    async with hidden.transaction() as session:
        found = (await session.scalars(select(room).options(loader(room.lamps)))).unique().one()
        assert [each.name for each in found.lamps] == ["here"]


@MODELS
async def test_later_loading_hides_deleted_rows(hidden: Database, room: type[Room], lamp: type[Lamp]) -> None:
    """So does loading a relationship by hand, and after a refresh."""
    async with hidden.transaction() as session:
        found = (await session.scalars(select(room))).one()
        assert [each.name for each in await found.awaitable_attrs.lamps] == ["here"]
        await session.refresh(found, ["lamps"])
        assert [each.name for each in found.lamps] == ["here"]


@MODELS
async def test_get_does_not_find_deleted_rows(hidden: Database, room: type[Room], lamp: type[Lamp]) -> None:
    """Not by a new session, and not in the session that has just deleted it."""
    lamps = repository_of(lamp, hidden)
    [gone] = await lamps.where(lamp.name == "gone").execution_options(include_deleted=True).all()
    here = await lamps.where(lamp.name == "here").one()

    async with hidden.transaction() as session:
        assert await session.get(lamp, gone.id) is None
        found = await session.get(lamp, here.id)
        assert found is not None
        found.soft_delete()
        assert await session.get(lamp, here.id) is None
        assert await session.get(lamp, here.id, execution_options={"include_deleted": True}) is found
        assert await lamps.get(here.id) is None


@MODELS
async def test_asking_shows_deleted_rows(hidden: Database, room: type[Room], lamp: type[Lamp]) -> None:
    """`include_deleted=True` shows them in the statement, and in what it loads."""
    async with hidden.transaction() as session:
        statement = select(room).options(selectinload(room.lamps))
        found = (await session.scalars(statement, execution_options={"include_deleted": True})).one()

    assert [each.name for each in found.lamps] == ["gone", "here"]
    assert await names(hidden, select(lamp.name), include_deleted=True) == ["gone", "here"]


@MODELS
async def test_restoring_shows_the_row_again(hidden: Database, room: type[Room], lamp: type[Lamp]) -> None:
    """A row that was hidden is whole."""
    lamps = repository_of(lamp, hidden)

    async with hidden.transaction():
        [gone] = await lamps.where(lamp.name == "gone").execution_options(include_deleted=True).all()
        assert gone.is_deleted
        gone.restore()

    assert not gone.is_deleted
    assert await lamps.count() == 2


@MODELS
async def test_deleting_for_good_is_possible(
    hidden: Database, observer: Observer, room: type[Room], lamp: type[Lamp]
) -> None:
    """A repository's `delete` removes the row."""
    lamps = repository_of(lamp, hidden)

    await lamps.delete(await lamps.where(lamp.name == "here").one())

    assert await observer.names(lamp) == ["gone"]


@MODELS
async def test_detached_row_is_saved_again(hidden: Database, room: type[Room], lamp: type[Lamp]) -> None:
    """Merging finds the hidden row, and does not insert it anew."""
    lamps = repository_of(lamp, hidden)
    [gone] = await lamps.where(lamp.name == "gone").execution_options(include_deleted=True).all()

    gone.restore()
    await lamps.save(gone)

    assert await lamps.count() == 2


@MODELS
async def test_deleting_the_other_side_finds_hidden_rows(
    hidden: Database, observer: Observer, room: type[Room], lamp: type[Lamp]
) -> None:
    """Otherwise they would refer to a row that is gone."""
    rooms = repository_of(room, hidden)

    await rooms.delete(await rooms.get_one(1))

    assert await observer.values(lamp, "name") == ["gone", "here"]
    assert set(await observer.column(f"SELECT room_id FROM {lamp.__tablename__}")) == {None}


PROGRAM = """
from sqlalchemy import event
from sqlalchemy.orm import Session
import unitwork
from unitwork.models import soft_delete
assert not event.contains(Session, "do_orm_execute", soft_delete._hide)
"""


def test_programs_without_such_a_model_pay_nothing() -> None:
    """Nothing listens to sessions before the first model that can be hidden."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
