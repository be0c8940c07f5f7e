"""achemy: repositories on a session of one's own. Needs Python 3.12; opens a connection for each session."""

from achemy import AchemyEngine, AlchemyModel, BaseRepository, DatabaseConfig, IntPKMixin
from sqlalchemy import String, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks.card import PAGE_ROWS, Card
from benchmarks.place import Place

TITLE = "achemy"
REQUIREMENTS = ("achemy==0.3.1", "asyncpg", "greenlet")
DATABASES = ("postgresql",)


class Person(AlchemyModel, IntPKMixin):
    """Is only read."""

    __tablename__ = "person"

    name: Mapped[str] = mapped_column(String(80))
    email: Mapped[str] = mapped_column(String(120))
    age: Mapped[int]
    city: Mapped[str] = mapped_column(String(80))


class Signup(AlchemyModel, IntPKMixin):
    """Is only written."""

    __tablename__ = "signup"

    email: Mapped[str] = mapped_column(String(120))
    name: Mapped[str] = mapped_column(String(80))


class Achemy:
    """Repositories of achemy in sessions written by hand."""

    def __init__(self, place: Place) -> None:
        config = DatabaseConfig(db=place.name, user=place.user, password="", host=place.host, port=place.port)
        self._engine = AchemyEngine(config)
        self._session: async_sessionmaker[AsyncSession] = self._engine.session()[1]

    async def empty(self, _number: int) -> None:
        async with self._session() as session, session.begin():
            pass

    async def select_one(self, number: int) -> Person | None:
        async with self._session() as session, session.begin():
            return await BaseRepository(session, Person).find_by(id=number)

    async def three_nested(self, number: int) -> Person | None:
        async with self._session() as session, session.begin():
            people = BaseRepository(session, Person)
            await people.find_by(id=number)
            await people.find_by(id=number)
            return await people.find_by(id=number)

    async def get(self, number: int) -> Person | None:
        async with self._session() as session, session.begin():
            return await BaseRepository(session, Person).get(number)

    get_attached = get

    async def entities_100(self, _number: int) -> list[Person]:
        return await self._between(1, 100)

    async def dtos_100(self, _number: int) -> list[Card]:
        return [_card_of(person) for person in await self._between(1, 100)]

    async def dtos_1000(self, _number: int) -> list[Card]:
        return [_card_of(person) for person in await self._between(1, 1000)]

    async def _between(self, low: int, high: int) -> list[Person]:
        async with self._session() as session, session.begin():
            people = BaseRepository(session, Person)
            return list(await people.all(people.where(Person.id.between(low, high))))

    async def insert(self, email: str) -> int:
        async with self._session() as session, session.begin():
            signup = await BaseRepository(session, Signup).add(Signup(email=email, name="new"))
        return int(signup.id)

    async def check_insert(self, email: str) -> int:
        async with self._session() as session, session.begin():
            signups = BaseRepository(session, Signup)
            assert await signups.find_by(email=email) is None
            signup = await signups.add(Signup(email=email, name="new"))
        return int(signup.id)

    async def page(self, number: int) -> tuple[int | None, list[Person]]:
        chosen = select(Person).where(Person.age >= 0)
        async with self._session() as session, session.begin():
            people = BaseRepository(session, Person)
            found = await people.all(chosen.order_by(Person.id).limit(PAGE_ROWS).offset(number % 50))
            total = await session.scalar(select(func.count()).select_from(chosen.subquery()))
        return total, list(found)

    async def close(self) -> None:
        await self._engine.dispose_engines()


def _card_of(person: Person) -> Card:
    return Card(person.id, person.name, person.email, person.age, person.city)


async def connect(place: Place) -> Achemy:
    """Make the contender."""
    return Achemy(place)
