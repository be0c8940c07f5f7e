"""What Python fills in, by `default` or `onupdate`, it fills in as often as through the ORM alone."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from sqlalchemy import URL, MetaData, String, event, func, select
from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base, Database, Repository
from unitwork.options import Lane

_numbers = count()


def numbered() -> int:
    """Return another number each time."""
    return next(_numbers)


def numbered_text(context: Any) -> str:  # noqa: ANN401  # SQLAlchemy's
    """Return another one, and what else is written."""
    number = next(_numbers)
    return f"{number} beside {len(context.get_current_parameters())}"


class Filled(Base):
    """The base of these tables, apart from those that every database has."""

    __abstract__ = True
    metadata = MetaData()


class Draft(Filled):
    """Python numbers it, and each of its changes."""

    __tablename__ = "draft"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(default=numbered)
    word: Mapped[str | None] = mapped_column(String(20), unique=True)
    change: Mapped[int | None] = mapped_column(onupdate=numbered)


class DraftWithContext(Filled):
    """The same, and of one column SQLAlchemy tells what else is written."""

    __tablename__ = "draft_with_context"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(default=numbered)
    text: Mapped[str] = mapped_column(String(40), default=numbered_text)
    word: Mapped[str | None] = mapped_column(String(20))
    change: Mapped[int | None] = mapped_column(onupdate=numbered)
    change_text: Mapped[str | None] = mapped_column(String(40), onupdate=numbered_text)


class DraftWithKey(Filled):
    """Python makes its key."""

    __tablename__ = "draft_with_key"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, default=numbered)
    word: Mapped[str | None] = mapped_column(String(20))


class DraftOutOfOrder(Filled):
    """Its attributes have another order than its columns."""

    __tablename__ = "draft_out_of_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    second: Mapped[int] = mapped_column(default=numbered, sort_order=2)
    first: Mapped[int] = mapped_column(default=numbered, sort_order=1)


class Zettel(Filled):
    """What is left to the ORM for a value, and comes last."""

    __tablename__ = "zettel"

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str | None] = mapped_column(String(20))
    number: Mapped[int | None] = mapped_column()


Story = Callable[[Database, list[Any]], Awaitable[None]]


def flushing(*make: Callable[[], Filled]) -> Story:
    """Add new entities in a block."""

    async def story(db: Database, kept: list[Any]) -> None:
        kept += [each() for each in make]
        async with db.transaction() as session:
            session.add_all(kept)
            await session.flush()

    return story


def adding(make: Callable[[], Filled], *, in_block: bool) -> Story:
    """Add a new entity."""

    async def story(db: Database, kept: list[Any]) -> None:
        kept.append(make())
        repository: Any = db.repository(type(kept[0]))
        if in_block:
            async with db.transaction():
                await repository.add(kept[0])
        else:
            await repository.add(kept[0])

    return story


def changing(kind: type[Any], *others: Callable[[], Filled], **values: object) -> Story:
    """Change two entities that are stored, and add others."""

    async def story(db: Database, kept: list[Any]) -> None:
        async with db.transaction() as session:
            session.add_all([kind(word="a"), kind(word="b")])
            await session.flush()
        async with db.transaction() as session:
            kept += (await session.scalars(select(kind).order_by(kind.id))).all()
            for place, entity in enumerate(kept):
                for name, value in values.items():
                    setattr(entity, name, f"{value}{place}")
                if others:
                    break
            session.add_all([each() for each in others])
            await session.flush()

    return story


def heard(*, added: bool) -> Story:
    """Somebody listens to the connection of the block."""

    async def story(db: Database, kept: list[Any]) -> None:
        kept.append(Draft())
        async with db.transaction() as session:
            connection = await session.connection()
            event.listen(connection.sync_connection, "before_execute", lambda *_told: None)
            if added:
                await Repository[Draft](db).add(kept[0])
            else:
                session.add(kept[0])
                await session.flush()

    return story


async def again(db: Database, kept: list[Any]) -> None:
    """The word is taken, and then it is another one."""
    drafts = Repository[Draft](db)
    await drafts.add(Draft(word="a"))
    kept.append(Draft(word="a"))
    with suppress(Exception):
        await drafts.add(kept[0])
    kept[0].word = "b"
    await drafts.add(kept[0])


STORIES: dict[str, Story] = {
    "beside an expression": flushing(Draft, lambda: Zettel(word=func.lower("A"))),
    "beside what fails": flushing(Draft, lambda: Zettel(number="none")),
    "what fails beside it is its own": flushing(Draft, lambda: Draft(word=func.lower("A"))),
    "of several kinds": flushing(Draft, DraftWithContext, DraftWithKey),
    "with a context": flushing(DraftWithContext),
    "with a context, added": adding(DraftWithContext, in_block=True),
    "with a context, added alone": adding(DraftWithContext, in_block=False),
    "several with keys": flushing(DraftWithKey, DraftWithKey, DraftWithKey),
    "several": flushing(Draft, Draft, Draft),
    "out of order": flushing(DraftOutOfOrder, DraftOutOfOrder),
    "taken, added alone": again,
    "on a connection that is heard": heard(added=False),
    "on a connection that is heard, added": heard(added=True),
    "too long, added": adding(lambda: Draft(word="long" * 20), in_block=True),
    "no number, added alone": adding(lambda: Draft(change="none"), in_block=False),
    "changed beside a new one": changing(Draft, Draft, word="new"),
    "changed beside what fails": changing(Draft, lambda: Zettel(number="none"), word="new"),
    "changed beside an expression": changing(Draft, lambda: Zettel(word=func.lower("A")), word="new"),
    "changed with a context": changing(DraftWithContext, word="new"),
}


@pytest.fixture
async def lanes(database_url: URL) -> AsyncIterator[list[Database]]:
    """A Database with the fastest lane, and one with the session's alone."""
    databases = [
        Database(database_url, name=each.value, fastest_lane=each) for each in (Lane.DRIVER, Lane.SESSION)
    ]
    await databases[0].create_all(Filled)
    async with databases[0], databases[1]:
        yield databases


async def told_of(db: Database, story: Story) -> list[object]:
    """What a story takes from Python, what it raises, and what its entities hold then."""
    global _numbers  # noqa: PLW0603  # each story counts from 0
    async with db.transaction() as session:
        for table in Filled.metadata.sorted_tables:
            await session.execute(table.delete())
    _numbers = count()
    kept: list[Any] = []
    failed = None
    try:
        await story(db, kept)
    except Exception as error:  # noqa: BLE001  # told
        failed = type(error)
    # A database goes on counting.
    hidden = [{"_sa_instance_state", "" if isinstance(each, DraftWithKey) else "id"} for each in kept]
    held = [
        {key: vars(each)[key] for key in vars(each).keys() - names}
        for each, names in zip(kept, hidden, strict=True)
    ]
    return [next(_numbers), failed, held]


@pytest.mark.parametrize("name", STORIES)
async def test_filled_in_as_often_as_by_the_orm(lanes: list[Database], name: str) -> None:
    """Whatever refuses a lane, early or late, and in the same order."""
    fast, slow = [await told_of(db, STORIES[name]) for db in lanes]

    assert fast == slow


async def test_several_that_are_changed_hold_each_its_own_value(lanes: list[Database]) -> None:
    """The one of its row, though one text is sent for all; the ORM leaves that of the first in all."""
    drafts = [Draft(word=word) for word in "abc"]
    async with lanes[0].transaction() as session:
        session.add_all(drafts)
        await session.flush()
        for draft in drafts:
            draft.word = f"new {draft.word}"
        await session.flush()
        stored = await session.scalars(select(Draft.change).order_by(Draft.id))

        assert [draft.change for draft in drafts] == list(stored)
    assert len({draft.change for draft in drafts}) == len(drafts)
