"""StatusMixin switches rows off, VersionMixin finds out who came second."""

import enum

import pytest
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import StatementError

from tests.fixtures.mixins import LAMPS, DataLamp, Lamp, repository_of
from tests.fixtures.observer import Observer
from unitwork import Base, Database, IntPKMixin, Repository, StaleRowError, StatusMixin


@LAMPS
async def test_status_is_enabled_unless_said_otherwise(lit: Database, lamp: type[Lamp]) -> None:
    """The default holds for entities, and for rows inserted by a statement."""
    lamps = repository_of(lamp, lit)
    await lamps.add(lamp(name="on"))
    await lamps.add(lamp(name="off", status=lamp.Status.DISABLED))
    async with lit.transaction() as session:
        await session.execute(insert(lamp).values(name="raw"))

    found = {each.name: each for each in await lamps.all()}

    assert {name: each.status.value for name, each in found.items()} == {
        "on": "enabled",
        "off": "disabled",
        "raw": "enabled",
    }
    assert [found["on"].is_enabled, found["off"].is_enabled] == [True, False]
    assert await lamps.where(lamp.status == lamp.Status.DISABLED).count() == 1


async def test_status_is_stored_as_its_value(lit: Database, observer: Observer) -> None:
    """Other programs read words, not names of Python."""
    await Repository[Lamp](lit).add(Lamp(name="desk"))

    assert await observer.scalar("SELECT status FROM lamp") == "enabled"


@LAMPS
async def test_status_that_does_not_exist_is_refused(lit: Database, lamp: type[Lamp]) -> None:
    """No unknown word reaches the table."""
    with pytest.raises(StatementError, match="broken"):
        await repository_of(lamp, lit).add(lamp(name="desk", status="broken"))


def test_status_of_a_model_may_have_its_own_words() -> None:
    """The first member is the default then."""

    class Door(Base, IntPKMixin, StatusMixin):
        __tablename__ = "doors_with_status"

        class Status(enum.Enum):
            OPEN = "open"
            SHUT = "shut"

    column = Door.__table__.c.status

    assert column.default.arg is Door.Status.OPEN
    assert column.type.enums == ["open", "shut"]  # type: ignore[attr-defined]  # an Enum


@LAMPS
async def test_version_counts_changes(lit: Database, lamp: type[Lamp]) -> None:
    """It is 1 after the insert, and one more after each change, also by a statement for many rows."""
    lamps = repository_of(lamp, lit)
    added = await lamps.add(lamp(name="desk"))
    first = added.version
    second = (await lamps.update(added.id, {"name": "wall"})).version
    async with lit.transaction() as session:
        await session.execute(update(lamp).values(name="door"))
        third = await session.scalar(select(func.max(lamp.version)))

    assert (first, second, third) == (1, 2, 3)


@LAMPS
@pytest.mark.parametrize("by_statement", [False, True])
async def test_version_refuses_who_comes_second(
    lit: Database,
    lamp: type[Lamp],
    by_statement: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    """A change that is based on an older version raises, and changes nothing."""
    lamps = repository_of(lamp, lit)
    stale = await lamps.add(lamp(name="desk"))
    if by_statement:
        async with lit.transaction() as session:
            await session.execute(update(lamp).values(name="first"))
    else:
        await lamps.update(stale.id, {"name": "first"})

    stale.name = "second"
    with pytest.raises(StaleRowError, match=lamp.__name__):
        await lamps.save(stale)

    assert (await lamps.get_one(stale.id)).name == "first"


def test_version_is_no_argument_of_a_dataclass() -> None:
    """Nobody but the database layer counts."""
    with pytest.raises(TypeError, match="version"):
        DataLamp(name="desk", version=3)  # type: ignore[call-arg]  # that is the point
