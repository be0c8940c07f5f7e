"""The schema changes while connections are pooled: on every lane the work goes on."""

# mypy: disable-error-code="empty-body"

import asyncio
import enum
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import URL, MetaData, String, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped, mapped_column

from tests.fixtures.observer import Observer
from unitwork import Base, Database, Propagation, Repository, RetryPolicy, query
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

    async def changed() -> None:
        async with db.transaction() as session:
            await session.execute(update(Guest).where(Guest.mood == Mood.CALM).values(label="changed"))

    async def many() -> None:
        async with db.transaction() as session:
            rows = [{"label": f"m{number}", "mood": Mood.LOUD} for number in range(3)]
            await session.execute(insert(Guest), rows)

    async def second_statement() -> None:
        async with db.transaction() as session:
            await session.scalar(select(1))
            await guests.in_mood(mood=Mood.CALM)

    async def insert_one() -> None:
        async with db.transaction():
            await guests.create(label="more", mood=Mood.LOUD)

    return {
        each.__name__: each
        for each in (get, by_query, by_session, changed, many, second_statement, insert_one)
    }


CHANGES = pytest.mark.parametrize("change", [NEW_COLUMN_TYPES, NEW_ENUM], ids=["column types", "an enum"])


@CHANGES
@pytest.mark.parametrize("way", ["get", "by_query", "by_session", "insert_one", "changed", "many"])
async def test_block_goes_on(guests: Database, observer: Observer, way: str, change: tuple[str, ...]) -> None:
    """What a transaction begins with is prepared anew, and nobody sees that it had failed."""
    work = in_blocks(guests)[way]
    for _ in range(7):  # psycopg prepares what was sent so often
        await work()
    for sql in change:
        await observer.run(sql)

    for _ in range(3):
        await work()


@CHANGES
async def test_transaction_that_has_begun_fails_once_and_says_what_helps(
    guests: Database, observer: Observer, change: tuple[str, ...]
) -> None:
    """The database has condemned it: what was done in it before is not done again behind anybody's back."""
    work = in_blocks(guests)["second_statement"]
    for _ in range(7):
        await work()
    for sql in change:
        await observer.run(sql)

    with pytest.raises(DBAPIError) as failed:
        await work()
    assert any("with `retry=RetryPolicy()` that is done by itself" in note for note in failed.value.__notes__)
    await work()


@CHANGES
async def test_retry_does_the_whole_block_again(
    guests: Database, observer: Observer, change: tuple[str, ...]
) -> None:
    """The error is one of those after which a block may be tried again."""
    attempts = []

    @guests.transactional(retry=RetryPolicy(attempts=2, first_delay_s=0))
    async def work() -> None:
        attempts.append(await guests.session.scalar(text("SELECT 1")))
        await Guests(guests).in_mood(mood=Mood.CALM)

    for _ in range(7):
        await work()
    attempts.clear()
    for sql in change:
        await observer.run(sql)
    await work()

    assert attempts == [1, 1]


async def test_savepoint_can_be_rolled_back(guests: Database, observer: Observer) -> None:
    """A nested block that fails so takes nothing of the transaction around it, and may be entered again."""

    async def work() -> list[str]:
        failed = []
        async with guests.transaction() as session:
            session.add(Guest(label="outer", mood=Mood.LOUD))
            await session.flush()
            for _ in range(2):
                try:
                    async with guests.transaction(propagation=Propagation.NESTED):
                        await Guests(guests).in_mood(mood=Mood.CALM)
                except DBAPIError as error:
                    failed.append(type(error).__name__)
        return failed

    for _ in range(7):
        assert await work() == []
    await observer.run("ALTER TABLE guest ALTER label TYPE text")
    before = await observer.count(Guest)

    assert len(await work()) <= 1
    assert await observer.count(Guest) == before + 1


@CHANGES
async def test_other_connections_are_told(
    database_url: URL, observer: Observer, lane: Lane, change: tuple[str, ...]
) -> None:
    """What one connection has noticed, no other one need find out in the middle of a transaction."""
    db = Database(database_url, name="several", fastest_lane=lane, pool_size=4, max_overflow=0)
    async with db.engine.begin() as connection:
        await connection.run_sync(Tables.metadata.create_all, checkfirst=False)
    work = in_blocks(db)["second_statement"]

    async def in_all(count: int) -> list[str]:
        together = asyncio.Barrier(4)

        async def one() -> None:
            async with db.transaction() as session:
                await session.scalar(select(1))
                await together.wait()
                await Guests(db).in_mood(mood=Mood.CALM)

        found = []
        for _ in range(count):
            found += await asyncio.gather(*(one() for _ in range(4)), return_exceptions=True)
        return [type(each).__name__ for each in found if each is not None]

    assert await in_all(7) == []
    for sql in change:
        await observer.run(sql)
    with pytest.raises(DBAPIError):
        await work()

    assert await in_all(1) == []
    await db.dispose()


@CHANGES
@pytest.mark.parametrize("way", ["get", "by_query", "insert", "selected"])
async def test_what_runs_alone_is_sent_again(
    guests: Database, observer: Observer, way: str, change: tuple[str, ...]
) -> None:
    """Outside of transactions nothing fails: nothing was written, and it is sent again."""
    repository = Guests(guests)
    works: dict[str, Callable[[], Awaitable[object]]] = {
        "get": lambda: repository.get(1),
        "by_query": lambda: repository.in_mood(mood=Mood.CALM),
        "insert": lambda: repository.create(label="more", mood=Mood.LOUD),
        "selected": lambda: repository.select().where(Guest.mood.in_([Mood.CALM])).all(),
    }
    for _ in range(7):
        await works[way]()
    for sql in change:
        await observer.run(sql)
    before = await observer.count(Guest)

    for _ in range(3):
        await works[way]()

    assert await observer.count(Guest) == before + (3 if way == "insert" else 0)


async def test_columns_that_were_added_are_seen(guests: Database, observer: Observer) -> None:
    """Text that asks for all columns gets those that there are."""

    class All(Repository[Guest]):
        @query.sql("SELECT * FROM guest ORDER BY id")
        async def rows(self) -> list[dict[str, object]]: ...

    rows = All(guests).rows
    for _ in range(7):
        await rows()
        async with guests.transaction():
            await rows()
    await observer.run("ALTER TABLE guest ADD age int DEFAULT 7")

    async with guests.transaction():
        assert [row["age"] for row in await rows()] == [7]
    assert [row["age"] for row in await rows()] == [7]


async def test_a_procedure_is_not_called_twice(guests: Database, observer: Observer) -> None:
    """It may have committed before it failed: what it says is told, and it is the caller's to try again."""
    await observer.run("CREATE TABLE called (id serial)")
    await observer.run(
        "CREATE PROCEDURE call_once() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO called DEFAULT VALUES; COMMIT;"
        " RAISE EXCEPTION 'cache lookup failed for type 0' USING ERRCODE = 'XX000'; END $$"
    )

    with pytest.raises(DBAPIError, match="cache lookup failed"):
        async with guests.transaction(propagation=Propagation.NOT_SUPPORTED) as session:
            await session.execute(text("CALL call_once()"))

    assert await observer.scalar("SELECT count(*) FROM called") == 1
