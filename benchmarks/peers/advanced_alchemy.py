"""advanced-alchemy: repositories on a session of one's own."""

from collections.abc import Sequence

from advanced_alchemy.filters import LimitOffset
from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from sqlalchemy.ext.asyncio import async_sessionmaker

from benchmarks.card import PAGE_ROWS, Card
from benchmarks.model import Person, Signup, card_of, engine_at
from benchmarks.place import Place

TITLE = "advanced-alchemy"
REQUIREMENTS = ("advanced-alchemy==1.12.0", "asyncpg", "aiosqlite", "greenlet")
DATABASES = ("postgresql", "sqlite")


class People(SQLAlchemyAsyncRepository[Person]):
    """Reads."""

    model_type = Person


class Signups(SQLAlchemyAsyncRepository[Signup]):
    """Writes."""

    model_type = Signup


class AdvancedAlchemy:
    """Repositories of advanced-alchemy in sessions written by hand."""

    def __init__(self, place: Place) -> None:
        self._engine = engine_at(place)
        self._session = async_sessionmaker(self._engine, expire_on_commit=False)

    async def empty(self, _number: int) -> None:
        async with self._session() as session, session.begin():
            pass

    async def select_one(self, number: int) -> Person:
        async with self._session() as session, session.begin():
            return await People(session=session).get_one(id=number)

    async def three_nested(self, number: int) -> Person:
        async with self._session() as session, session.begin():
            people = People(session=session)
            await people.get_one(id=number)
            await people.get_one(id=number)
            return await people.get_one(id=number)

    async def get(self, number: int) -> Person:
        async with self._session() as session, session.begin():
            return await People(session=session).get(number)

    get_attached = get

    async def find_dto(self, number: int) -> Card:
        return card_of(await self.select_one(number))

    async def entities_100(self, _number: int) -> list[Person]:
        return await self._between(1, 100)

    async def dtos_100(self, _number: int) -> list[Card]:
        return [card_of(person) for person in await self._between(1, 100)]

    async def dtos_1000(self, _number: int) -> list[Card]:
        return [card_of(person) for person in await self._between(1, 1000)]

    async def _between(self, low: int, high: int) -> list[Person]:
        async with self._session() as session, session.begin():
            return list(await People(session=session).list(Person.id.between(low, high)))

    async def insert(self, email: str) -> int:
        async with self._session() as session, session.begin():
            signup = await Signups(session=session).add(Signup(email=email, name="new"), auto_refresh=False)
        return signup.id

    async def check_insert(self, email: str) -> int:
        async with self._session() as session, session.begin():
            signups = Signups(session=session)
            assert await signups.get_one_or_none(email=email) is None
            signup = await signups.add(Signup(email=email, name="new"), auto_refresh=False)
        return signup.id

    async def page(self, number: int) -> tuple[int, Sequence[Person]]:
        async with self._session() as session, session.begin():
            people = People(session=session)
            page = LimitOffset(limit=PAGE_ROWS, offset=number % 50)
            found, total = await people.list_and_count(Person.age >= 0, page, order_by=("id", False))
        return total, found

    async def close(self) -> None:
        await self._engine.dispose()


async def connect(place: Place) -> AdvancedAlchemy:
    """Make the contender."""
    return AdvancedAlchemy(place)
