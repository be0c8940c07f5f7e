"""What waits in a session and is sent past the ORM ends up, in Python and as rows, as through the ORM."""

import asyncio
import re
import uuid
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import count
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    URL,
    FetchedValue,
    ForeignKey,
    MetaData,
    String,
    Table,
    delete,
    event,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, SAWarning
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Mapped, Session, WriteOnlyMapped, mapped_column, relationship
from sqlalchemy.orm.attributes import flag_modified

from tests.behaviour.test_lanes_adding import Shouted, Size, differences, seen_in_python
from tests.behaviour.test_transaction_cancellation import (
    MOST_AWAITS,
    STRIKES,
    Striking,
    cancel_current_task,
    completion,
)
from tests.fixtures.heard import Heard
from tests.fixtures.leaks import left_in_context
from tests.fixtures.observer import Observer
from tests.fixtures.people import Person
from unitwork import Base, Database, Propagation, Repository
from unitwork.events import StatementExecuted
from unitwork.observe import StatementLog
from unitwork.options import Lane


class Kept(Base):
    """The base of these tables, apart from those that every database has."""

    __abstract__ = True
    metadata = MetaData()


class Shelf(Kept):
    """What things lie on: its rows are not looked at when it is deleted."""

    __tablename__ = "shelf"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(20))

    things: Mapped[list["Thing"]] = relationship(back_populates="shelf", passive_deletes=True)


class Room(Kept):
    """Its shelves are looked for when it is deleted."""

    __tablename__ = "room"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(20))

    notes: Mapped[list["Note"]] = relationship(cascade="all, delete-orphan")


class Note(Kept):
    """Goes with its room."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    room_id: Mapped[int | None] = mapped_column(ForeignKey("room.id"))
    word: Mapped[str | None] = mapped_column(String(20))


class Thing(Kept):
    """Columns of several kinds."""

    __tablename__ = "thing"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column("coded", String(20), unique=True)
    plain: Mapped[str] = mapped_column(String(20))
    shouted: Mapped[str | None] = mapped_column(Shouted)
    size: Mapped[Size] = mapped_column(default=Size.LARGE)
    data: Mapped[Any | None] = mapped_column(JSON)
    filled: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON()), default=dict)
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))

    shelf: Mapped[Shelf | None] = relationship(back_populates="things")


class Postmark(Kept):
    """The database fills in when a row was changed, and is asked later."""

    __tablename__ = "stamp"
    __mapper_args__ = {"eager_defaults": "auto"}  # noqa: RUF012  # SQLAlchemy's

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str | None] = mapped_column(String(20))
    by_expression: Mapped[str | None] = mapped_column(String(20), onupdate=text("'abc'"))
    by_server: Mapped[str | None] = mapped_column(String(20), server_onupdate=FetchedValue())


class Marked(Kept):
    """Python fills in what was changed."""

    __tablename__ = "marked"

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str | None] = mapped_column(String(20))
    by_value: Mapped[str | None] = mapped_column(String(20), onupdate="value")
    by_call: Mapped[int | None] = mapped_column(onupdate=lambda: 11)
    by_context: Mapped[str | None] = mapped_column(
        String(20), onupdate=lambda context: str(len(context.get_current_parameters()))
    )


class Called(Kept):
    """The same, without looking at the rest."""

    __tablename__ = "called"

    id: Mapped[int] = mapped_column(primary_key=True)
    odd: Mapped[str | None] = mapped_column("an odd name", String(20))
    word: Mapped[str | None] = mapped_column(String(20))
    by_call: Mapped[int | None] = mapped_column(onupdate=lambda: 11)


class Eager(Kept):
    """What the database fills in is fetched at once."""

    __tablename__ = "eager"

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str | None] = mapped_column(String(20))
    by_expression: Mapped[str | None] = mapped_column(String(20), onupdate=text("'abc'"))


class Numbered(Kept):
    """Counts its versions."""

    __tablename__ = "numbered"

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # SQLAlchemy's
    word: Mapped[str | None] = mapped_column(String(20))


class Seat(Kept):
    """A key of two columns."""

    __tablename__ = "seat"

    row: Mapped[int] = mapped_column(primary_key=True)
    seat: Mapped[int] = mapped_column("in_row", primary_key=True)
    note: Mapped[str | None] = mapped_column(String(20))


class Node(Kept):
    """Refers to others of its kind."""

    __tablename__ = "node"

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str | None] = mapped_column(String(20))
    above_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))

    above: Mapped["Node | None"] = relationship(remote_side="Node.id")
    watchers: WriteOnlyMapped["Watcher"] = relationship(passive_deletes=True)


class Coin(Kept):
    """The database makes its key, and more."""

    __tablename__ = "coin"

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str | None] = mapped_column(String(20), unique=True)
    shouted: Mapped[str | None] = mapped_column(Shouted)
    by_call: Mapped[int] = mapped_column(default=lambda: 11)
    by_server: Mapped[str] = mapped_column(String(20), server_default="server")
    size: Mapped[Size] = mapped_column(server_default="SMALL")


class Counted(Kept):
    """Python numbers it."""

    __tablename__ = "counted"
    NUMBERS = count()

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(default=lambda: next(Counted.NUMBERS))


class Ticket(Kept):
    """The program makes its key, and the database more."""

    __tablename__ = "ticket"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    by_server: Mapped[str] = mapped_column(String(20), server_default="server")


class Land(Kept):
    """Has a key besides the primary one, to which others refer; the session carries that after it."""

    __tablename__ = "land"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(20), unique=True)
    name: Mapped[str | None] = mapped_column(String(20))

    towns: Mapped[list["Town"]] = relationship(
        primaryjoin="Land.code == foreign(Town.land_code)", passive_updates=False
    )


class Town(Kept):
    """Refers to it."""

    __tablename__ = "town"

    id: Mapped[int] = mapped_column(primary_key=True)
    land_code: Mapped[str | None] = mapped_column(String(20))


class Port(Kept):
    """Refers to it as well, of which the land knows nothing."""

    __tablename__ = "port"

    id: Mapped[int] = mapped_column(primary_key=True)
    land_code: Mapped[str | None] = mapped_column(String(20))

    land: Mapped[Land | None] = relationship(primaryjoin="foreign(Port.land_code) == Land.code")


class Touched(Kept):
    """Something in the database fills it in whenever the row is written."""

    __tablename__ = "touched"

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str | None] = mapped_column(String(20))
    by_server: Mapped[str | None] = mapped_column(String(20), server_onupdate=FetchedValue())


class Silent(Kept):
    """Its table is never asked to return anything."""

    __tablename__ = "silent"
    __table_args__ = {"implicit_returning": False}  # noqa: RUF012  # SQLAlchemy's

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str | None] = mapped_column(String(20))
    by_server: Mapped[str] = mapped_column(String(20), server_default="server")
    by_expression: Mapped[str | None] = mapped_column(String(20), onupdate=text("'abc'"))


class Watcher(Kept):
    """Watches a node, which does not load it."""

    __tablename__ = "watcher"

    id: Mapped[int] = mapped_column(primary_key=True)
    node_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))


ROWS: dict[type[Kept], list[dict[str, Any]]] = {
    Shelf: [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}],
    Room: [{"id": 1, "name": "one"}],
    Note: [{"id": 1, "room_id": 1, "word": "a"}, {"id": 2, "room_id": 1, "word": "b"}],
    Thing: [
        {"id": 1, "code": "a", "plain": "p", "shouted": "x", "data": [1], "shelf_id": 1},
        {"id": 2, "code": "b", "plain": "q", "shouted": None, "data": None, "shelf_id": None},
    ],
    Postmark: [{"id": 1, "word": "a", "by_expression": "e", "by_server": "s"}],
    Marked: [{"id": 1, "word": "a"}],
    Called: [{"id": 1, "word": "a"}],
    Eager: [{"id": 1, "word": "a"}],
    Numbered: [{"id": 1, "version": 1, "word": "a"}],
    Coin: [{"id": 100, "word": "a"}],
    Seat: [{"row": 1, "seat": 2, "note": "a"}],
    Land: [{"id": 1, "code": "ch"}],
    Town: [{"id": 1, "land_code": "ch"}],
    Port: [{"id": 1, "land_code": "ch"}],
    Silent: [{"id": 1, "word": "a", "by_server": "s"}],
    Node: [
        {"id": 1, "word": "a"},
        {"id": 2, "word": "b", "above_id": 1},
        {"id": 3, "word": "c", "above_id": 3},
    ],
}

Story = Callable[[AsyncSession, list[Any]], Awaitable[object]]
"""Changes something in a session, and appends the entities that are to be looked at."""


def changing(kind: type[Kept], key: object, **values: Any) -> Story:
    """Set attributes of one entity."""

    async def story(session: AsyncSession, kept: list[Any]) -> None:
        kept.append(await session.get_one(kind, key))
        for name, value in values.items():
            setattr(kept[0], name, value)

    return story


def deleting(kind: type[Kept], key: object) -> Story:
    """Delete one entity."""

    async def story(session: AsyncSession, kept: list[Any]) -> None:
        kept.append(await session.get_one(kind, key))
        await session.delete(kept[0])

    return story


def adding(*make: Callable[[], Kept]) -> Story:
    """Add new entities."""

    async def story(session: AsyncSession, kept: list[Any]) -> None:
        kept.extend(each() for each in make)
        session.add_all(kept)

    return story


def both(*stories: Story) -> Story:
    """One after the other, in one flush."""

    async def story(session: AsyncSession, kept: list[Any]) -> None:
        with session.no_autoflush:
            for each in stories:
                part: list[Any] = []
                await each(session, part)
                kept.extend(part)

    return story


def adding_at_once(*make: Callable[[], Kept]) -> Story:
    """Let a repository add new entities."""

    async def story(session: AsyncSession, kept: list[Any]) -> None:
        kept.extend(each() for each in make)
        await Repository(session, type(kept[0])).add_all(kept)

    return story


def deleting_at_once(kind: type[Kept], key: object, *before: Story) -> Story:
    """Let a repository delete one entity, after something else."""

    async def story(session: AsyncSession, kept: list[Any]) -> None:
        kept.append(await session.get_one(kind, key))
        for each in before:
            await each(session, kept)
        await Repository(session, kind).delete(kept[0])

    return story


async def in_place(session: AsyncSession, kept: list[Any]) -> None:
    """A value is changed inside."""
    kept.append(await session.get_one(Thing, 1))
    kept[0].filled["more"] = 1


async def flagged(session: AsyncSession, kept: list[Any]) -> None:
    """An attribute is said to be changed."""
    kept.append(await session.get_one(Thing, 1))
    flag_modified(kept[0], "data")


async def expired(session: AsyncSession, kept: list[Any]) -> None:
    """It was expired before."""
    kept.append(await session.get_one(Thing, 1))
    session.expire(kept[0])
    kept[0].plain = "new"


async def partly_expired(session: AsyncSession, kept: list[Any]) -> None:
    """An attribute of it was."""
    kept.append(await session.get_one(Thing, 1))
    session.expire(kept[0], ["plain", "code"])
    kept[0].plain = "new"


async def deleted_when_expired(session: AsyncSession, kept: list[Any]) -> None:
    """The same, and it is deleted."""
    kept.append(await session.get_one(Thing, 1))
    session.expire(kept[0], ["plain", "shelf_id"])
    await session.delete(kept[0])


async def removed(session: AsyncSession, kept: list[Any]) -> None:
    """An attribute is deleted."""
    kept.append(await session.get_one(Thing, 1))
    del kept[0].code


async def back_again(session: AsyncSession, kept: list[Any]) -> None:
    """It is what it was."""
    kept.append(await session.get_one(Thing, 1))
    kept[0].plain = "new"
    kept[0].plain = "p"


async def gone(session: AsyncSession, kept: list[Any]) -> None:
    """Somebody has deleted the row."""
    kept.append(await session.get_one(Thing, 1))
    await session.execute(delete(Thing.__table__).where(Thing.id == 1))  # type: ignore[arg-type]  # is a Table
    kept[0].plain = "new"


async def gone_twice(session: AsyncSession, kept: list[Any]) -> None:
    """The same, and it is to be deleted."""
    kept.append(await session.get_one(Thing, 1))
    await session.execute(delete(Thing.__table__).where(Thing.id == 1))  # type: ignore[arg-type]  # is a Table
    await session.delete(kept[0])


async def changed_and_deleted(session: AsyncSession, kept: list[Any]) -> None:
    """It is changed first."""
    kept.append(await session.get_one(Thing, 1))
    kept[0].plain = "new"
    await session.delete(kept[0])


async def key_and_deleted(session: AsyncSession, kept: list[Any]) -> None:
    """It gets another key first."""
    kept.append(await session.get_one(Thing, 1))
    kept[0].id = 9
    await session.delete(kept[0])


async def deleted_with_known_shelf(session: AsyncSession, kept: list[Any]) -> None:
    """The session holds what it belongs to."""
    kept.append(await session.get_one(Thing, 1))
    kept.append(await session.get_one(Shelf, 1))
    await session.delete(kept[0])


async def deleted_with_loaded(session: AsyncSession, kept: list[Any]) -> None:
    """What belongs to it is loaded."""
    kept.append(await session.get_one(Shelf, 1))
    await session.refresh(kept[0], ["things"])
    await session.delete(kept[0])


async def moved(session: AsyncSession, kept: list[Any]) -> None:
    """From one shelf to another one."""
    kept.append(await session.get_one(Thing, 1))
    kept.append(await session.get_one(Shelf, 2))
    await session.refresh(kept[0], ["shelf"])
    kept[0].shelf = kept[1]


async def behind(session: AsyncSession, kept: list[Any]) -> None:
    """A change of something waits in what is not loaded."""
    kept.append(await session.get_one(Shelf, 2))
    kept.append(await session.get_one(Thing, 1))
    await session.refresh(kept[1], ["shelf"])
    kept[1].shelf = kept[0]
    kept[0].name = "new"


async def watched(session: AsyncSession, kept: list[Any]) -> None:
    """More is in a list that is not loaded."""
    kept.append(await session.get_one(Node, 1))
    kept[0].watchers.add(Watcher())
    kept[0].word = "new"


async def orphaned(session: AsyncSession, kept: list[Any]) -> None:
    """It belongs to nothing any more."""
    room = await session.get_one(Room, 1)
    await session.refresh(room, ["notes"])
    kept.append(room.notes.pop())


async def added_and_changed(session: AsyncSession, kept: list[Any]) -> None:
    """In two flushes."""
    kept.append(Node(id=7, word="new"))
    session.add(kept[0])
    await session.flush()
    kept[0].word = "newer"


async def added_and_deleted(session: AsyncSession, kept: list[Any]) -> None:
    """The same."""
    kept.append(Node(id=7, word="new"))
    session.add(kept[0])
    await session.flush()
    await session.delete(kept[0])


async def replaced(session: AsyncSession, kept: list[Any]) -> None:
    """One with the same key takes its place."""
    kept.append(await session.get_one(Seat, (1, 2)))
    await session.delete(kept[0])
    kept.append(Seat(row=1, seat=2, note="other"))
    session.add(kept[1])


async def beside(session: AsyncSession, kept: list[Any]) -> None:
    """Others are held, which are not changed."""
    kept.extend((await session.scalars(select(Thing).order_by(Thing.id))).all())
    kept[0].plain = "new"


async def twice(session: AsyncSession, kept: list[Any]) -> None:
    """Two of one class."""
    kept.extend((await session.scalars(select(Thing).order_by(Thing.id))).all())
    kept[1].plain = kept[0].plain = "new"


async def twice_otherwise(session: AsyncSession, kept: list[Any]) -> None:
    """Two of one class, with other columns."""
    kept.extend((await session.scalars(select(Thing).order_by(Thing.id))).all())
    kept[1].plain = "new"
    kept[0].code = "z"


async def detached(session: AsyncSession, kept: list[Any]) -> None:
    """It was taken out, changed, and put in again."""
    kept.append(await session.get_one(Thing, 1))
    session.expunge(kept[0])
    kept[0].plain = "new"
    session.add(kept[0])


async def above_itself(session: AsyncSession, kept: list[Any]) -> None:
    """It refers to itself, and that is loaded."""
    kept.append(await session.get_one(Node, 3))
    await session.refresh(kept[0], ["above"])
    kept[0].word = "new"


async def with_port(session: AsyncSession, kept: list[Any]) -> None:
    """What refers to it is loaded."""
    kept.append(await session.get_one(Port, 1))
    await session.refresh(kept[0], ["land"])
    kept.append(kept[0].land)
    kept[1].code = "de"


async def added_before_failure(session: AsyncSession, kept: list[Any]) -> None:
    """A repository has added one; the next one cannot be."""
    kept.append(Coin(word="new"))
    await Repository[Coin](session).add(kept[0])
    kept[0].shouted = "loud"
    kept.append(Coin(word="a"))
    session.add(kept[1])


async def added_and_gone(session: AsyncSession, kept: list[Any]) -> None:
    """A repository has added it, and it is deleted."""
    kept.append(Coin(word="new"))
    await Repository[Coin](session).add(kept[0])
    await session.delete(kept[0])


async def adding_fails(session: AsyncSession, kept: list[Any]) -> None:
    """A repository cannot add it."""
    kept.append(await session.get_one(Thing, 1))
    kept.append(Coin(word="a"))
    with suppress(IntegrityError):
        await Repository[Coin](session).add(kept[1])


async def added_twice(session: AsyncSession, kept: list[Any]) -> None:
    """One entity stands twice in a list."""
    kept.append(Coin(word="new"))
    await Repository[Coin](session).add_all([kept[0], kept[0]])


async def added_at_once_and_changed(session: AsyncSession, kept: list[Any]) -> None:
    """And added once more."""
    kept.extend([Coin(word="new"), Coin(word="newer")])
    await Repository[Coin](session).add_all(kept)
    kept[0].word = "newest"
    await Repository[Coin](session).add_all(kept)


async def added_at_once_and_seen(session: AsyncSession, kept: list[Any]) -> None:
    """What a session finds is what was added."""
    kept.extend([Coin(word="new"), Coin(word="newer")])
    await Repository[Coin](session).add_all(kept)
    found = (await session.scalars(select(Coin).order_by(Coin.id))).all()
    assert found[1:] == kept


async def changed_before(_session: AsyncSession, kept: list[Any]) -> None:
    """It is changed."""
    kept[0].plain = "new"


async def gone_before(session: AsyncSession, _kept: list[Any]) -> None:
    """Somebody has deleted the row."""
    await session.execute(delete(Thing.__table__).where(Thing.id == 1))  # type: ignore[arg-type]  # is a Table


async def expired_before(session: AsyncSession, kept: list[Any]) -> None:
    """All of it has expired."""
    session.expire(kept[0])


async def expunged_before(session: AsyncSession, kept: list[Any]) -> None:
    """It is taken out of the session."""
    session.expunge(kept[0])


async def deleted_before(session: AsyncSession, kept: list[Any]) -> None:
    """It is deleted already."""
    await Repository[Thing](session).delete(kept[0])


async def deleted_at_once_and_added(session: AsyncSession, kept: list[Any]) -> None:
    """One with the same key takes its place."""
    kept.append(await session.get_one(Seat, (1, 2)))
    await Repository[Seat](session).delete(kept[0])
    kept.append(Seat(row=1, seat=2, note="other"))
    await Repository[Seat](session).add(kept[1])


async def all_deleted(session: AsyncSession, kept: list[Any]) -> None:
    """Two of one class."""
    kept.extend((await session.scalars(select(Seat))).all())
    kept.extend((await session.scalars(select(Postmark))).all())
    for each in kept:
        await session.delete(each)


async def stored(session: AsyncSession, kept: list[Any], *entities: Kept) -> None:
    """Insert some, and hold them."""
    session.add_all(entities)
    await session.flush()
    kept.extend(entities)


def changing_several(name: str, *new: object, start: Callable[[int], Kept], gone: int | None = None) -> Story:
    """Set an attribute of each of some entities, one of which somebody may have deleted."""

    async def story(session: AsyncSession, kept: list[Any]) -> None:
        await stored(session, kept, *map(start, range(20, 20 + len(new))))
        if gone is not None:
            table: Any = inspect(type(kept[0])).local_table
            await session.execute(delete(table).where(table.c.id == gone))
        for each, value in zip(kept, new, strict=True):
            setattr(each, name, value)

    return story


def deleting_several(start: Callable[[int], Kept], gone: int | None = None) -> Story:
    """Delete some entities, one of which somebody may have deleted before."""

    async def story(session: AsyncSession, kept: list[Any]) -> None:
        await stored(session, kept, *map(start, range(20, 24)))
        if gone is not None:
            table: Any = inspect(type(kept[0])).local_table
            await session.execute(delete(table).where(table.c.id == gone))
        for each in kept:
            await session.delete(each)

    return story


def thing(key: int) -> Kept:
    """One of several."""
    return Thing(id=key, code=str(key), plain="p", data=[1])


async def several_kinds(session: AsyncSession, kept: list[Any]) -> None:
    """Neighbours whose columns are the same, others, none, and the first ones again."""
    await stored(session, kept, *map(thing, range(20, 27)))
    kept[0].plain = kept[1].plain = "new"
    kept[2].plain, kept[2].shouted = "new", "x"
    kept[3].plain = "p"
    kept[4].shouted = kept[5].shouted = "y"
    kept[6].plain = "newer"


STORIES: dict[str, Story] = {
    "changed": changing(Thing, 1, plain="new"),
    "several": changing(Thing, 1, plain="new", code=None, size=Size.SMALL, data={"a": 1}),
    "to None": changing(Thing, 1, shouted=None, data=None),
    "the same": changing(Thing, 1, plain="p"),
    "back again": back_again,
    "an expression": changing(Thing, 1, plain=func.lower("ABC")),
    "another key": changing(Thing, 1, id=9),
    "half of a key": changing(Seat, (1, 2), seat=3),
    "of two keys": changing(Seat, (1, 2), note="new"),
    "same code": changing(Thing, 1, code="b"),
    "unusual name": changing(Called, 1, odd="new"),
    "no value": changing(Thing, 1, plain=None),
    "no number": changing(Thing, 1, shelf_id="none"),
    "no such shelf": changing(Thing, 1, shelf_id=99),
    "key of a shelf": changing(Thing, 1, shelf_id=2),
    "in place": in_place,
    "flagged": flagged,
    "expired": expired,
    "partly expired": partly_expired,
    "deleted when expired": deleted_when_expired,
    "removed": removed,
    "gone": gone,
    "gone twice": gone_twice,
    "stamp": changing(Postmark, 1, word="new"),
    "stamp given": changing(Postmark, 1, by_expression="given", by_server="given"),
    "marked": changing(Marked, 1, word="new"),
    "called": changing(Called, 1, word="new"),
    "called given": changing(Called, 1, by_call=5),
    "eager": changing(Eager, 1, word="new"),
    "eager given": changing(Eager, 1, by_expression="given"),
    "numbered": changing(Numbered, 1, word="new"),
    "shelf": changing(Shelf, 1, name="new"),
    "room": changing(Room, 1, name="new"),
    "note": changing(Note, 1, word="new"),
    "node": changing(Node, 2, word="new"),
    "node moved": changing(Node, 2, above_id=None),
    "watched": watched,
    "moved": moved,
    "behind": behind,
    "orphaned": orphaned,
    "detached": detached,
    "beside": beside,
    "twice": twice,
    "twice otherwise": twice_otherwise,
    "delete": deleting(Thing, 1),
    "delete of two keys": deleting(Seat, (1, 2)),
    "delete a stamp": deleting(Postmark, 1),
    "delete numbered": deleting(Numbered, 1),
    "delete what is referred to": deleting(Shelf, 1),
    "delete shelf": deleting(Shelf, 2),
    "delete room": deleting(Room, 1),
    "delete note": deleting(Note, 1),
    "delete node": deleting(Node, 2),
    "delete upper node": deleting(Node, 1),
    "delete with known shelf": deleted_with_known_shelf,
    "delete with loaded": deleted_with_loaded,
    "changed and deleted": changed_and_deleted,
    "key and deleted": key_and_deleted,
    "all deleted": all_deleted,
    "added and changed": added_and_changed,
    "added and deleted": added_and_deleted,
    "replaced": replaced,
    "one of each": both(
        changing(Thing, 1, plain="new"), deleting(Postmark, 1), adding(lambda: Seat(row=5, seat=6))
    ),
    "in order": both(
        deleting(Postmark, 1), changing(Thing, 2, plain="new"), adding(lambda: Postmark(id=2, word="new"))
    ),
    "last one fails": both(
        changing(Postmark, 1, word="new"), deleting(Seat, (1, 2)), changing(Thing, 1, code="b")
    ),
    "delete fails": both(
        changing(Postmark, 1, word="new"), adding(lambda: Seat(row=5, seat=6)), deleting(Shelf, 1)
    ),
    "many": adding(*(lambda word=word: Coin(word=word) for word in "wxyz")),
    "many of several kinds": adding(
        *(lambda: Coin(word=None), lambda: Coin(word="x", size=Size.LARGE), lambda: Coin(size=Size.LARGE)),
        *(lambda: Postmark(word="n"), lambda: Coin(by_call=2), lambda: Coin(by_call=3, shouted="s")),
        *(lambda: Postmark(word="m"), lambda: Coin(id=50), lambda: Coin(by_server="given"), Coin, Coin),
    ),
    "many with one that fails": adding(
        lambda: Postmark(word="n"),
        *(lambda word=word: Coin(word=word) for word in "xay"),
    ),
    "many with an expression": adding(Coin, lambda: Coin(word=func.lower("X")), Coin),
    "many with keys": adding(*(lambda key=key: Seat(row=key, seat=9 - key) for key in range(2, 6))),
    "many with keys and defaults": adding(
        *(lambda key=key: Ticket(id=uuid.UUID(int=9 - key)) for key in range(3))
    ),
    "node above itself": above_itself,
    "delete node above itself": deleting(Node, 3),
    "eager added": adding(lambda: Eager(word="n"), lambda: Eager(word="n", by_expression="given")),
    "touched added": adding(lambda: Touched(word="n"), lambda: Touched(word="m")),
    "silent added": adding(lambda: Silent(word="n")),
    "silent": changing(Silent, 1, word="new"),
    "land": changing(Land, 1, name="new"),
    "what others refer to": changing(Land, 1, code="de"),
    "what another one refers to": with_port,
    "added before a failure": added_before_failure,
    "added by a repository and gone": added_and_gone,
    "adding fails": adding_fails,
    "several changed": changing_several("plain", "a", "b", None, "d", start=thing),
    "several changed in type": changing_several("data", {"a": 1}, None, [], start=thing),
    "several changed, one gone": changing_several("plain", "a", "b", "c", start=thing, gone=21),
    "several changed, one refused": changing_several("code", "x", "y", "a", start=thing),
    "several changed, one no value": changing_several("plain", "x", None, "y" * 500, start=thing),
    "several stamps": changing_several("word", "a", "b", start=lambda key: Postmark(id=key)),
    "several called": changing_several("word", "a", "b", start=lambda key: Called(id=key)),
    "several eager": changing_several("word", "a", "b", start=lambda key: Eager(id=key)),
    "several kinds": several_kinds,
    "several deleted": deleting_several(thing),
    "several deleted, one gone": deleting_several(thing, gone=21),
    "several silent deleted, one gone": deleting_several(lambda key: Silent(id=key), gone=21),
    "added at once": adding_at_once(*(lambda word=word: Coin(word=word) for word in "wxyz")),
    "added at once, some with more": adding_at_once(
        *(lambda: Coin(word=None), lambda: Coin(word="x", shouted="s"), lambda: Coin(word="y", by_call=5))
    ),
    "added at once, of several kinds": adding_at_once(Coin, lambda: Postmark(word="n"), Coin),
    "added at once with one that fails": adding_at_once(
        *(lambda word=word: Coin(word=word) for word in "xay")
    ),
    "added at once with an expression": adding_at_once(Coin, lambda: Coin(word=func.lower("X"))),
    "added at once with keys": adding_at_once(
        *(lambda key=key: Seat(row=key, seat=9 - key) for key in range(2, 6))
    ),
    "added at once with keys and defaults": adding_at_once(
        *(lambda key=key: Ticket(id=uuid.UUID(int=9 - key)) for key in range(3))
    ),
    "added at once with keys of their own": adding_at_once(
        *(lambda key=key: Postmark(id=key, word="n") for key in (9, 7, 8))
    ),
    "added at once with a key that is there": adding_at_once(
        lambda: Postmark(id=7, word="n"), lambda: Postmark(id=1, word="n")
    ),
    "the same added at once": added_twice,
    "added at once and changed": added_at_once_and_changed,
    "added at once beside what waits": both(
        changing(Thing, 1, plain="new"), adding_at_once(*(lambda word=word: Coin(word=word) for word in "xy"))
    ),
    "added at once and seen": added_at_once_and_seen,
    "deleted at once": deleting_at_once(Thing, 1),
    "of two keys deleted at once": deleting_at_once(Seat, (1, 2)),
    "numbered deleted at once": deleting_at_once(Numbered, 1),
    "shelf deleted at once": deleting_at_once(Shelf, 2),
    "room deleted at once": deleting_at_once(Room, 1),
    "what is referred to deleted at once": deleting_at_once(Shelf, 1),
    "deleted at once after a change": deleting_at_once(Thing, 1, changed_before),
    "deleted at once when gone": deleting_at_once(Thing, 1, gone_before),
    "deleted at once when expired": deleting_at_once(Thing, 1, expired_before),
    "deleted at once when taken out": deleting_at_once(Thing, 1, expunged_before),
    "deleted twice at once": deleting_at_once(Thing, 1, deleted_before),
    "deleted at once and added": deleted_at_once_and_added,
    "child and parent": both(adding(lambda: Thing(plain="new", data=[1], shelf_id=5), lambda: Shelf(id=5))),
    "parent and child": both(deleting(Shelf, 1), deleting(Thing, 1)),
}


@asynccontextmanager
async def undone(db: Database) -> AsyncIterator[None]:
    """A block that is rolled back."""
    async with db.transaction():
        yield
        db.set_rollback_only()


@asynccontextmanager
async def savepoint_by_hand(db: Database) -> AsyncIterator[None]:
    """A savepoint that is kept, by hand."""
    async with db.transaction() as session, session.begin_nested():
        yield


@asynccontextmanager
async def savepoint_undone(db: Database) -> AsyncIterator[None]:
    """A savepoint that is rolled back, in a block that is kept."""
    async with db.transaction():
        async with db.transaction(propagation=Propagation.NESTED):
            yield
            db.set_rollback_only()


@asynccontextmanager
async def unit(db: Database) -> AsyncIterator[None]:
    """A unit of work, which begins with its first write."""
    async with db.unit_of_work():
        yield


PLACES: dict[str, Callable[[Database], AbstractAsyncContextManager[Any]]] = {
    "block": lambda db: db.transaction(),
    "undone": undone,
    "savepoint by hand": savepoint_by_hand,
    "savepoint undone": savepoint_undone,
    "unit": unit,
}


def same_sql(text: str) -> str:
    """SQL, or what shows it, without what comes back, which the session may ask the driver for."""
    return re.sub(r" RETURNING [^\]\n]*", "", text)


def same_words(error: BaseException) -> object:
    """What an error says; parameters of several rows, and what makes a circle, have no order of their own."""
    said = re.sub(r" at 0x\w+|(?<=detected\.) .*", "", same_sql(str(error)))
    return type(error), re.sub(r"\[parameters: {.*__0.*}", "", said), getattr(error, "__notes__", [])


async def seen_after_flush(session: AsyncSession, kept: list[Any]) -> list[object]:
    """What a flush does, and what entities are after it."""
    told: object = "flushed"
    try:
        await session.flush()
    except Exception as error:  # noqa: BLE001  # told
        told = same_words(error)
    return [told, *map(seen_in_python, kept), session.sync_session.is_active]


async def told_of(db: Database, place: str, story: Story, *, flushed: bool) -> tuple[list[object], list[str]]:
    """How a story ends, and what it has sent."""
    kept: list[Any] = []
    seen: list[object] = []
    with warnings.catch_warnings(record=True) as warned, StatementLog(db) as log:
        warnings.simplefilter("always", SAWarning)
        try:
            async with PLACES[place](db):
                session = db.session  # held to the end: what was deleted belongs to it as long as it lives
                await story(session, kept)
                if flushed:
                    seen += await seen_after_flush(session, kept)
                    held = session.sync_session
                    seen.append([len(held.new), len(held.deleted), len(held.dirty), len(list(held))])
        except Exception as error:  # noqa: BLE001  # told
            seen.append(same_words(error))
    seen += map(seen_in_python, kept)
    seen.append([inspect(each).was_deleted for each in kept])
    seen.append([str(each.message) for each in warned])
    del session
    changes = ("INSERT", "UPDATE", "DELETE")
    return seen, [same_sql(each.sql) for each in log.statements if each.sql.startswith(changes)]


def touched_by(changes: list[str]) -> set[Table]:
    """The tables that statements name, and those that refer to them, or that they refer to."""
    sent = " ".join(changes)
    tables = {table for table in Kept.metadata.sorted_tables if table.name in sent}
    referring = {
        each
        for table in Kept.metadata.sorted_tables
        for key in table.foreign_keys
        for each in (table, key.column.table)
        if tables & {table, key.column.table}
    }
    return tables | referring


async def fill(db: Database, tables: set[Table]) -> None:
    """Put the rows into tables, and nothing else."""
    async with db.engine.begin() as connection:
        if Node.__table__ in tables:
            await connection.execute(update(Node).values(above_id=None))
        for table in reversed(Kept.metadata.sorted_tables):
            if table in tables:
                await connection.execute(delete(table))
        for kind, rows in ROWS.items():
            if kind.__table__ not in tables:
                continue
            attributes = inspect(kind).column_attrs
            names = {name: attributes[name].columns[0].key for row in rows for name in row}
            values = [{key: row.get(name) for name, key in names.items()} for row in rows]
            await connection.execute(insert(kind), values)


async def all_ends(url: URL, lane: Lane, place: str, *, flushed: bool) -> dict[str, object]:
    """What becomes of each story."""
    ends: dict[str, object] = {}
    async with Database(url, name="kept", fastest_lane=lane) as db:
        await db.drop_all(Kept)
        await db.create_all(Kept)
        await fill(db, set(Kept.metadata.sorted_tables))
        for name, story in STORIES.items():
            seen, changes = ends[name] = await told_of(db, place, story, flushed=flushed)
            assert db.pool_status().checked_out == 0
            assert left_in_context() == {}
            tables = touched_by(changes)
            if not tables:
                continue
            async with db.engine.connect() as connection:
                for table in sorted(tables, key=str):
                    rows = await connection.execute(text(f"SELECT * FROM {table.name} ORDER BY 1, 2"))
                    seen.append([dict(row._mapping) for row in rows])
            await fill(db, tables)
    return ends


@pytest.mark.parametrize(
    ("place", "flushed"),
    [
        ("block", True),
        ("undone", True),
        ("savepoint by hand", False),
        ("savepoint undone", True),
        ("unit", False),
    ],
)
@pytest.mark.timeout(120)
async def test_flushed_as_by_the_orm(
    database_url: URL,
    place: str,
    flushed: bool,  # noqa: FBT001
) -> None:
    """The rows, the statements, the states, the errors, the warnings."""
    fast = await all_ends(database_url, Lane.DRIVER, place, flushed=flushed)
    slow = await all_ends(database_url, Lane.SESSION, place, flushed=flushed)

    assert list(differences("", fast, slow)) == []


SENT_BY_LANE = (
    "changed",
    "several",
    "of two keys",
    "same code",
    "key of a shelf",
    "in place",
    "partly expired",
    "stamp",
    "called",
    "room",
    "node",
    "beside",
    "twice",
    "twice otherwise",
    "delete",
    "delete of two keys",
    "delete shelf",
    "delete with known shelf",
    "added and changed",
    "added and deleted",
    "one of each",
    "many",
    "many of several kinds",
    "many with one that fails",
    "land",
    "added at once",
    "added at once, some with more",
    "added at once, of several kinds",
    "added at once with one that fails",
    "added at once and changed",
    "added at once and seen",
    "deleted at once",
    "of two keys deleted at once",
    "shelf deleted at once",
    "deleted at once and added",
)
LEFT_TO_ORM = (
    "an expression",
    "another key",
    "marked",
    "numbered",
    "watched",
    "moved",
    "orphaned",
    "delete room",
    "replaced",
    "many with an expression",
    "many with keys",
    "parent and child",
    "what others refer to",
    "what another one refers to",
    "touched added",
    "silent",
)


@pytest.fixture
async def kept(db: Database) -> Database:
    """A database with the rows."""
    await db.create_all(Kept)
    await fill(db, set(Kept.metadata.sorted_tables))
    return db


async def test_lane_of_a_flush(kept: Database) -> None:
    """What is simple takes the fused lane, the rest that of the session."""
    taken: dict[str, set[object]] = {}
    for name in (*SENT_BY_LANE, *LEFT_TO_ORM):
        with StatementLog(kept) as log:
            _seen, changes = await told_of(kept, "undone", STORIES[name], flushed=True)
        taken[name] = {each.lane for each in log.statements if same_sql(each.sql) in changes}

    left = {name: {Lane.SESSION} for name in LEFT_TO_ORM}
    assert taken == {name: {Lane.FUSED} for name in SENT_BY_LANE} | left


SENT_AT_ONCE = {
    "twice": [2],
    "several changed": [4],
    "several changed, one gone": [3],
    "several changed, one refused": [3],
    "several stamps": [2],
    "several called": [2],
    "several kinds": [2, 1, 2, 1],
    "several deleted": [4],
    "several deleted, one gone": [4],
}
"""How often each text is sent, with other values."""


async def test_several_rows_are_sent_at_once(kept: Database) -> None:
    """Those that follow each other, and change in the same columns."""
    taken: dict[str, list[object]] = {}
    for name in SENT_AT_ONCE:
        heard = Heard()
        kept.observe(heard)
        await told_of(kept, "undone", STORIES[name], flushed=True)
        kept.unobserve(heard)
        sent = [each for each in heard.of(StatementExecuted) if each.sql.startswith(("UPDATE", "DELETE"))]
        taken[name] = [each.many for each in sent if each.lane is Lane.FUSED]

    assert taken == SENT_AT_ONCE


async def test_python_fills_in_once(kept: Database) -> None:
    """Also where the ORM must send it, since something waits that only it can send."""
    counted, before = [Counted() for _ in range(3)], next(Counted.NUMBERS)
    async with kept.transaction() as session:
        session.add(counted[0])
        await Repository[Counted](kept).add(counted[1])
        session.add_all([counted[2], Room(id=90, notes=[Note(id=90, word="c")])])
        await session.flush()
        numbers = [each.number for each in counted]

    assert numbers == [before + 1, before + 2, before + 3]


HEARD: dict[str, type] = {
    "before_update": Thing,
    "after_update": Thing,
    "before_delete": Seat,
    "after_delete": Seat,
    "refresh_flush": Called,
    "expire": Postmark,
    "before_flush": Session,
    "after_flush": Session,
    "after_flush_postexec": Session,
    "persistent_to_deleted": Session,
    "deleted_to_persistent": Session,
    "after_soft_rollback": Session,
}


async def test_who_listens_to_a_flush_hears_of_it(kept: Database) -> None:
    """As often as without the lane."""
    heard: dict[str, list[int]] = {name: [] for name in HEARD}
    for lane in (Lane.DRIVER, Lane.SESSION):
        async with Database(kept.engine.url, name="heard", fastest_lane=lane) as db:
            for name, target in HEARD.items():
                counts = heard[name]
                counts.append(0)

                def hear(*_told: object, counts: list[int] = counts) -> None:
                    counts[-1] += 1

                event.listen(target, name, hear)
                try:
                    for story in ("changed", "stamp", "called", "delete of two keys"):
                        await told_of(db, "undone", STORIES[story], flushed=True)
                finally:
                    event.remove(target, name, hear)

    assert [name for name, (fast, slow) in heard.items() if not fast == slow > 0] == []


async def test_who_listens_to_cursors_hears_of_a_flush(kept: Database) -> None:
    """Each statement, and what it may make of it."""
    heard: list[str] = []

    def hear(*told: Any) -> tuple[str, Any]:
        heard.append(told[2])
        return f"{told[2]} /* heard */", told[3]

    event.listen(kept.engine.sync_engine, "before_cursor_execute", hear, retval=True)
    try:
        _seen, changes = await told_of(kept, "block", STORIES["one of each"], flushed=False)
    finally:
        event.remove(kept.engine.sync_engine, "before_cursor_execute", hear)

    assert [sql for sql in heard if not sql.startswith(("SELECT", "BEGIN", "SAVEPOINT"))] == [
        sql.removesuffix(" /* heard */") for sql in changes
    ]
    assert await Repository[Seat](kept).get((5, 6)) is not None


class Counting(Session):
    """Has a way of its own to flush."""

    flushes = 0

    def flush(self, objects: Any = None) -> None:  # noqa: ANN401  # as SQLAlchemy's
        """Count it."""
        Counting.flushes += 1
        super().flush(objects)


async def test_flush_of_a_class_of_its_own_is_called(people: Database) -> None:
    """Not passed by."""
    options = {"sync_session_class": Counting}
    async with Database(people.engine.url, name="own", session_options=options) as db:
        before = Counting.flushes
        async with db.transaction() as session:
            (await session.get_one(Person, 1)).name = "Eve"
            await session.flush()

    assert Counting.flushes > before


@pytest.mark.parametrize("strikes", list(STRIKES))
@pytest.mark.timeout(120)
async def test_cancelled_at_every_await_of_a_flush(kept: Database, observer: Observer, strikes: str) -> None:
    """All of it is stored or nothing, and the next one can be done."""

    async def program() -> None:
        async with kept.transaction() as session:
            thing, seat = await session.get_one(Thing, 1), await session.get_one(Seat, (1, 2))
            thing.plain = "new"
            await session.flush()
            session.add(Shelf(id=5))
            thing.code = "newer"
            await session.delete(seat)

    for at in range(1, MOST_AWAITS):
        await fill(kept, {Thing.__table__, Seat.__table__, Shelf.__table__})  # type: ignore[arg-type]  # Tables
        striking = Striking(program(), STRIKES[strikes](at), cancel_current_task)
        task = asyncio.create_task(completion(striking))
        await asyncio.wait({task})

        assert kept.pool_status().checked_out == 0
        assert left_in_context() == {}
        stored = await observer.scalar("SELECT count(*) FROM shelf WHERE id = 5")
        assert await observer.scalar("SELECT plain FROM thing WHERE id = 1") == ("new" if stored else "p")
        assert await observer.scalar("SELECT count(*) FROM seat") == (0 if stored else 1)
        if striking.seen < at:
            task.result()
            assert stored
            return
        assert task.cancelled(), task.exception()
    pytest.fail("the program has more awaits than this test expects")


@pytest.mark.parametrize("strikes", list(STRIKES))
@pytest.mark.timeout(120)
async def test_cancelled_at_every_await_of_what_is_sent_at_once(
    kept: Database, observer: Observer, strikes: str
) -> None:
    """All of it is stored or nothing; what is undone is as after a rollback, and can be sent anew."""
    coins: list[Coin] = []
    seats: list[Seat] = []

    async def program() -> None:
        async with kept.transaction() as session:
            coins[:] = [Coin(word="x"), Coin(word="y")]
            seats[:] = [await session.get_one(Seat, (1, 2))]
            await Repository[Coin](kept).add_all(coins)
            await Repository[Seat](kept).delete(seats[0])

    for at in range(1, MOST_AWAITS):
        await fill(kept, {Coin.__table__, Seat.__table__})  # type: ignore[arg-type]  # Tables
        striking = Striking(program(), STRIKES[strikes](at), cancel_current_task)
        task = asyncio.create_task(completion(striking))
        await asyncio.wait({task})

        assert kept.pool_status().checked_out == 0
        assert left_in_context() == {}
        stored = await observer.scalar("SELECT count(*) FROM coin WHERE word IN ('x', 'y')")
        assert await observer.scalar("SELECT count(*) FROM seat") == (0 if stored else 1)
        assert {inspect(each).transient for each in coins} <= {not stored}
        if striking.seen < at:
            task.result()
            assert stored == 2
            return
        assert task.cancelled(), task.exception()
        if not stored and coins:
            await Repository[Coin](kept).add_all(coins)
    pytest.fail("the program has more awaits than this test expects")
