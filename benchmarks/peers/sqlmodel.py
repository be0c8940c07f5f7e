"""SQLModel: models that are Pydantic models too, in sessions of its own class."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlmodel import Field, SQLModel, col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from benchmarks.card import PAGE_ROWS, Card
from benchmarks.model import engine_at
from benchmarks.place import Place

TITLE = "SQLModel"
REQUIREMENTS = ("sqlmodel==0.0.50", "asyncpg", "aiosqlite", "greenlet")
DATABASES = ("postgresql", "sqlite")


class Person(SQLModel, table=True):
    """Is only read."""

    id: int | None = Field(default=None, primary_key=True)
    name: str
    email: str
    age: int
    city: str


class Signup(SQLModel, table=True):
    """Is only written."""

    id: int | None = Field(default=None, primary_key=True)
    email: str
    name: str


class Modelled:
    """Sessions of SQLModel, written by hand."""

    def __init__(self, place: Place) -> None:
        self._engine = engine_at(place)
        self._session = async_sessionmaker(self._engine, class_=AsyncSession, expire_on_commit=False)

    async def empty(self, _number: int) -> None:
        async with self._session() as session, session.begin():
            pass

    async def select_one(self, number: int) -> Person:
        async with self._session() as session, session.begin():
            return (await session.exec(select(Person).where(Person.id == number))).one()

    async def three_nested(self, number: int) -> Person:
        async with self._session() as session, session.begin():
            for _ in range(3):
                found = (await session.exec(select(Person).where(Person.id == number))).one()
            return found

    async def get(self, number: int) -> Person | None:
        async with self._session() as session, session.begin():
            return await session.get(Person, number)

    get_attached = get

    async def find_dto(self, number: int) -> Card:
        return _card_of(await self.select_one(number))

    async def entities_100(self, _number: int) -> Sequence[Person]:
        return await self._between(1, 100)

    async def dtos_100(self, _number: int) -> list[Card]:
        return [_card_of(person) for person in await self._between(1, 100)]

    async def dtos_1000(self, _number: int) -> list[Card]:
        return [_card_of(person) for person in await self._between(1, 1000)]

    async def _between(self, low: int, high: int) -> Sequence[Person]:
        async with self._session() as session, session.begin():
            return (await session.exec(select(Person).where(col(Person.id).between(low, high)))).all()

    async def insert(self, email: str) -> int | None:
        async with self._session() as session, session.begin():
            signup = Signup(email=email, name="new")
            session.add(signup)
        return signup.id

    async def check_insert(self, email: str) -> int | None:
        async with self._session() as session, session.begin():
            assert (await session.exec(select(Signup).where(Signup.email == email))).first() is None
            signup = Signup(email=email, name="new")
            session.add(signup)
        return signup.id

    async def page(self, number: int) -> tuple[int, Sequence[Person]]:
        chosen = select(Person).where(Person.age >= 0)
        wanted = chosen.order_by(col(Person.id)).limit(PAGE_ROWS).offset(number % 50)
        async with self._session() as session, session.begin():
            people = (await session.exec(wanted)).all()
            total = (await session.exec(select(func.count()).select_from(chosen.subquery()))).one()
        return total, people

    async def close(self) -> None:
        await self._engine.dispose()


def _card_of(person: Person) -> Card:
    assert person.id is not None
    return Card(person.id, person.name, person.email, person.age, person.city)


async def connect(place: Place) -> Modelled:
    """Make the contender."""
    return Modelled(place)
