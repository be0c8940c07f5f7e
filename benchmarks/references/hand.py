"""SQLAlchemy's ORM by hand: `async with sessionmaker() as session, session.begin():`; ratio 1."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import async_sessionmaker

from benchmarks.card import PAGE_ROWS, Card
from benchmarks.model import Person, Signup, card_of
from benchmarks.place import Place
from benchmarks.references.engine import engine_by_hand

TITLE = "ORM by hand"
REQUIREMENTS: tuple[str, ...] = ()
DATABASES = ("postgresql", "sqlite", "mariadb")


class Hand:
    """Sessions written by hand."""

    def __init__(self, place: Place) -> None:
        self._engine = engine_by_hand(place)
        self._session = async_sessionmaker(self._engine, expire_on_commit=False)

    async def empty(self, _number: int) -> None:
        async with self._session() as session, session.begin():
            pass

    async def select_one(self, number: int) -> Person:
        async with self._session() as session, session.begin():
            return (await session.execute(select(Person).where(Person.id == number))).scalar_one()

    async def three_nested(self, number: int) -> Person:
        async with self._session() as session, session.begin():
            for _ in range(3):
                found = (await session.execute(select(Person).where(Person.id == number))).scalar_one()
            return found

    async def nested_dtos(self, number: int) -> Card:
        async with self._session() as session, session.begin():
            for _ in range(3):
                found = (await session.execute(select(Person).where(Person.id == number))).scalar_one()
                card = card_of(found)
            return card

    async def get(self, number: int) -> Person | None:
        async with self._session() as session, session.begin():
            return await session.get(Person, number)

    get_attached = get

    async def find_dto(self, number: int) -> Card:
        async with self._session() as session, session.begin():
            return card_of((await session.execute(select(Person).where(Person.id == number))).scalar_one())

    async def entities_100(self, _number: int) -> list[Person]:
        return await self._between(1, 100)

    async def dtos_100(self, _number: int) -> list[Card]:
        return [card_of(person) for person in await self._between(1, 100)]

    async def dtos_1000(self, _number: int) -> list[Card]:
        return [card_of(person) for person in await self._between(1, 1000)]

    async def _between(self, low: int, high: int) -> list[Person]:
        async with self._session() as session, session.begin():
            return list(await session.scalars(select(Person).where(Person.id.between(low, high))))

    async def insert(self, email: str) -> int:
        async with self._session() as session, session.begin():
            signup = Signup(email=email, name="new")
            session.add(signup)
        return signup.id

    async def check_insert(self, email: str) -> int:
        async with self._session() as session, session.begin():
            taken = await session.scalar(select(Signup).where(Signup.email == email))
            assert taken is None
            signup = Signup(email=email, name="new")
            session.add(signup)
        return signup.id

    async def page(self, number: int) -> tuple[int, list[Person]]:
        chosen = select(Person).where(Person.age >= 0)
        async with self._session() as session, session.begin():
            rows = await session.scalars(chosen.order_by(Person.id).limit(PAGE_ROWS).offset(number % 50))
            people = list(rows)
            total = await session.scalar(select(func.count()).select_from(chosen.subquery()))
            assert total is not None
        return total, people

    async def close(self) -> None:
        await self._engine.dispose()


async def connect(place: Place) -> Hand:
    """Make the contender."""
    return Hand(place)
