"""Mixins give models their primary keys, on plain and on dataclass models alike."""

import uuid
from typing import Any

import pytest

from tests.fixtures.mixins import DataLamp, DataRoom, DataToken, Lamp, Room, Token, repository_of
from unitwork import Base, Database, DataclassBase, Repository, UUIDPKMixin


@pytest.mark.parametrize("room", [Room, DataRoom])
async def test_integer_key_is_counted_by_the_database(lit: Database, room: type[Room]) -> None:
    """New rows get 1, 2, 3; a key that is given is kept."""
    rooms = repository_of(room, lit)

    async with lit.transaction():
        added = await rooms.add_all([room(), room(), room(id=70_000_000_000)])

    assert [each.id for each in added] == [1, 2, 70_000_000_000]


@pytest.mark.parametrize("lamp", [Lamp, DataLamp])
async def test_uuid_key_is_made_by_the_program(lit: Database, lamp: type[Lamp]) -> None:
    """It is of version 4, is there after the insert, and finds the row again."""
    lamps = repository_of(lamp, lit)

    added = await lamps.add(lamp(name="desk"))

    assert added.id.version == 4
    assert (await lamps.get_one(added.id)).name == "desk"


@pytest.mark.parametrize("lamp", [Lamp, DataLamp])
async def test_uuid_key_may_be_given(lit: Database, lamp: type[Lamp]) -> None:
    """The constructor takes it as a keyword."""
    key = uuid.uuid4()

    assert (await repository_of(lamp, lit).add(lamp(name="desk", id=key))).id == key


@pytest.mark.parametrize("token", [Token, DataToken])
async def test_uuid_key_is_made_by_the_server(lit: Database, token: type[Token]) -> None:
    """It is there after the insert, different for each row, and finds the row again."""
    tokens = repository_of(token, lit)

    async with lit.transaction():
        first, second = await tokens.add_all([token(note="a"), token(note="b")])

    assert isinstance(first.id, uuid.UUID)
    assert first.id != second.id
    assert (await tokens.get_one(second.id)).note == "b"


@pytest.mark.only("sqlite", reason="it is made by SQL of our own there")
async def test_uuid_key_of_sqlite_is_of_version_4(lit: Database) -> None:
    """As `gen_random_uuid()` of PostgreSQL makes it."""
    async with lit.transaction():
        made = await Repository[Token](lit).add_all([Token(note="x") for _ in range(50)])

    assert {(each.id.version, each.id.variant) for each in made} == {(4, uuid.RFC_4122)}


@pytest.mark.parametrize("base", [Base, DataclassBase])
def test_uuid_key_of_version_7_sorts_by_time(base: type[Base]) -> None:
    """`__uuid_version__ = 7` makes keys that begin with the time."""
    body = {
        "__tablename__": f"sevens_{base.__name__}",
        "__uuid_version__": 7,
        "__module__": __name__,
        "__annotations__": {},
    }
    model: Any = type(f"Sevens{base.__name__}", (base, UUIDPKMixin), body)

    generate = model.__table__.c.id.default.arg
    keys = [generate(None) for _ in range(3)]

    assert {key.version for key in keys} == {7}
    assert {key.variant for key in keys} == {uuid.RFC_4122}
    assert len({key.hex[:9] for key in keys}) == 1
