"""The schema changes while connections are pooled: every lane works again, the driver lane at once."""

# mypy: disable-error-code="empty-body"

import enum
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import URL, MetaData, String, select
from sqlalchemy.orm import Mapped, mapped_column

from tests.fixtures.observer import Observer
from unitwork import Base, Database, Repository, query
from unitwork.options import Lane

pytestmark = [
    pytest.mark.every_lane,
    pytest.mark.only("postgresql", reason="the others prepare nothing that could grow old"),
]


class Tables(Base):
    """Apart from those that every database has."""

    __abstract__ = True
    metadata = MetaData()


class Mood(enum.Enum):
    """An enum type of the database."""

    CALM = "calm"
    LOUD = "loud"


class Guest(Tables):
    """Columns whose types are changed."""

    __tablename__ = "guest"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(String(30))
    mood: Mapped[Mood]


class Guests(Repository[Guest]):
    """A query with a parameter of that type."""

    @query
    async def in_mood(self, *, mood: Mood) -> list[Guest]: ...


NEW_ENUM = (
    "ALTER TYPE mood RENAME TO mood_old",
    "CREATE TYPE mood AS ENUM ('CALM', 'LOUD', 'SLEEPY')",
    "ALTER TABLE guest ALTER mood TYPE mood USING mood::text::mood",
    "DROP TYPE mood_old",
)
NEW_COLUMN_TYPES = ("ALTER TABLE guest ALTER label TYPE text", "ALTER TABLE guest ALTER id TYPE bigint")


@pytest.fixture
async def guests(database_url: URL, lane: Lane) -> AsyncIterator[Database]:
    """A Database whose pool has one connection, which has prepared its statements before the change."""
    db = Database(database_url, name="guests", fastest_lane=lane, pool_size=1, max_overflow=0)
    async with db.engine.begin() as connection:
        await connection.run_sync(Tables.metadata.create_all, checkfirst=False)
    await Guests(db).create(label="first", mood=Mood.CALM)
    yield db
    await db.dispose()


def in_blocks(db: Database) -> dict[str, Callable[[], Awaitable[None]]]:
    """What is done in a block."""
    guests = Guests(db)

    async def get() -> None:
        async with db.transaction():
            await guests.get(1)

    async def by_query() -> None:
        async with db.transaction():
            await guests.in_mood(mood=Mood.CALM)

    async def by_session() -> None:
        async with db.transaction() as session:
            (await session.scalars(select(Guest))).all()

    async def second_statement() -> None:
        async with db.transaction() as session:
            await session.scalar(select(1))
            await guests.in_mood(mood=Mood.CALM)

    async def insert() -> None:
        async with db.transaction():
            await guests.create(label="more", mood=Mood.LOUD)

    return {each.__name__: each for each in (get, by_query, by_session, second_statement, insert)}


@pytest.mark.parametrize("change", [NEW_COLUMN_TYPES, NEW_ENUM], ids=["column types", "an enum"])
@pytest.mark.parametrize("way", ["get", "by_query", "by_session", "second_statement", "insert"])
async def test_block_works_again_after_it_has_failed_once(
    guests: Database, observer: Observer, way: str, change: tuple[str, ...]
) -> None:
    """A transaction whose statement was prepared before may fail, once: the next one works."""
    work = in_blocks(guests)[way]
    for _ in range(7):  # psycopg prepares what was sent so often
        await work()
    for sql in change:
        await observer.run(sql)

    failed = []
    for _ in range(3):
        try:
            await work()
        except Exception as error:  # noqa: BLE001  # of any driver
            failed.append(error)

    assert len(failed) <= 1


@pytest.mark.parametrize("change", [NEW_COLUMN_TYPES, NEW_ENUM], ids=["column types", "an enum"])
@pytest.mark.parametrize("way", ["get", "by_query", "insert"])
async def test_what_runs_alone_is_sent_again(
    guests: Database, observer: Observer, lane: Lane, way: str, change: tuple[str, ...]
) -> None:
    """On the driver lane nothing fails: outside of transactions nothing was written, and it is sent again."""
    repository = Guests(guests)
    works: dict[str, Callable[[], Awaitable[object]]] = {
        "get": lambda: repository.get(1),
        "by_query": lambda: repository.in_mood(mood=Mood.CALM),
        "insert": lambda: repository.create(label="more", mood=Mood.LOUD),
    }
    for _ in range(7):
        await works[way]()
    for sql in change:
        await observer.run(sql)

    failed = []
    for _ in range(3):
        try:
            await works[way]()
        except Exception as error:  # noqa: BLE001  # of any driver
            failed.append(error)

    assert len(failed) <= (0 if lane is Lane.DRIVER else 1), failed
