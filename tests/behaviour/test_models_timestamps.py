"""TimestampMixin says when a row was made and last changed, in UTC, however it was changed."""

import asyncio
import datetime as dt

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import StatementError

from tests.fixtures.mixins import LAMPS, Lamp, repository_of
from unitwork import Database

PARIS = dt.timezone(dt.timedelta(hours=2))
MOMENT = dt.datetime(2026, 7, 14, 12, 30, 45, 123456, tzinfo=PARIS)


async def changed(db: Database, lamp: type[Lamp]) -> tuple[dt.datetime, dt.datetime]:
    """The times of the only row, read anew."""
    async with db.transaction() as session:
        row = (await session.execute(select(lamp.created_at, lamp.updated_at))).one()
    return row[0], row[1]


@LAMPS
async def test_times_are_there_after_the_insert(lit: Database, lamp: type[Lamp]) -> None:
    """Both are the server's time, with the time zone UTC, on every database."""
    before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5)

    added = await repository_of(lamp, lit).add(lamp(name="desk"))

    assert added.created_at.tzinfo is dt.UTC
    assert before < added.created_at < before + dt.timedelta(seconds=60)
    assert await changed(lit, lamp) == (added.created_at, added.updated_at)


@LAMPS
async def test_update_of_an_entity_changes_its_time(lit: Database, lamp: type[Lamp]) -> None:
    """The new time is there after the flush; that of the insert stays."""
    lamps = repository_of(lamp, lit)
    added = await lamps.add(lamp(name="desk"))
    created = added.created_at
    await asyncio.sleep(0.01)

    updated = await lamps.update(added.id, {"name": "wall"})

    assert updated.created_at == created
    assert updated.updated_at > created


@LAMPS
async def test_update_of_many_rows_changes_their_time(lit: Database, lamp: type[Lamp]) -> None:
    """A statement that names no entity does it as well."""
    added = await repository_of(lamp, lit).add(lamp(name="desk"))
    await asyncio.sleep(0.01)

    async with lit.transaction() as session:
        await session.execute(update(lamp).values(name="wall"))

    created_at, updated_at = await changed(lit, lamp)
    assert created_at == added.created_at
    assert updated_at > created_at


@LAMPS
async def test_upsert_changes_the_time_of_rows_that_were_there(lit: Database, lamp: type[Lamp]) -> None:
    """`bulk_insert(on_conflict="update")` is a change of the row."""
    lamps = repository_of(lamp, lit)
    added = await lamps.add(lamp(name="desk"))
    await asyncio.sleep(0.01)

    rows = [{"name": "desk", "status": lamp.Status.DISABLED}]
    await lamps.bulk_insert(rows, on_conflict="update", index_elements=["name"], returning=False)

    created_at, updated_at = await changed(lit, lamp)
    assert created_at == added.created_at
    assert updated_at > created_at


@LAMPS
async def test_time_of_another_zone_is_stored_as_utc(lit: Database, lamp: type[Lamp]) -> None:
    """It is the same moment, to the microsecond, and finds the row."""
    lamps = repository_of(lamp, lit)
    await lamps.add(lamp(name="desk", created_at=MOMENT))

    found = await lamps.where(lamp.created_at == MOMENT, lamp.created_at < lamp.updated_at).one()

    assert found.created_at == MOMENT
    assert found.created_at.tzinfo is dt.UTC
    assert found.created_at.microsecond == 123456


@LAMPS
async def test_time_without_a_zone_is_refused(lit: Database, lamp: type[Lamp]) -> None:
    """Nobody could say which moment it means."""
    with pytest.raises(StatementError, match="no time zone"):
        await repository_of(lamp, lit).add(lamp(name="desk", created_at=MOMENT.replace(tzinfo=None)))
