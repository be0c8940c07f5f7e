"""SQLAlchemy's ORM by hand: `async with sessionmaker() as session, session.begin():`; ratio 1."""

from typing import Any

from sqlalchemy import Delete, Update, delete, func, select, update
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import joinedload, selectinload

from benchmarks.card import KEYS, PAGE_ROWS, Card
from benchmarks.model import House, Member, Person, Signup, Team, card_of
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

    async def get_inside(self, number: int) -> Person | None:
        return await self.get(number)

    get_read_only = get_inside

    async def insert_inside(self, email: str) -> int:
        return await self.insert(email)

    async def savepoint(self, email: str) -> int:
        async with self._session() as session, session.begin():
            signup = Signup(email=email, name="new")
            async with session.begin_nested():
                session.add(signup)
        return signup.id

    async def add_all(self, email: str) -> int:
        async with self._session() as session, session.begin():
            signups = [Signup(email=f"{number}{email}", name="new") for number in range(10)]
            session.add_all(signups)
        return len({signup.id for signup in signups})

    async def update_one(self, number: int) -> int:
        async with self._session() as session, session.begin():
            member = await session.get(Member, number % 200 + 1)
            assert member is not None
            member.name = f"changed {number}"
        return 1

    async def delete_one(self, email: str) -> int:
        key = await self.insert(email)
        async with self._session() as session, session.begin():
            await session.delete(await session.get_one(Signup, key))
        return 1

    async def service(self, email: str) -> int:
        done = 0
        async with self._session() as session, session.begin():
            for number in range(1, 6):
                done += await session.get(Person, number) is not None
            for number in range(3):
                session.add(Signup(email=f"{number}{email}", name="new"))
                await session.flush()
                done += 1
        return done

    async def update_where(self, number: int) -> int:
        return await self._changed(
            update(Member).where(Member.id == number % 200 + 1).values(name=f"changed {number}")
        )

    async def delete_where(self, email: str) -> int:
        await self.insert(email)
        return await self._changed(delete(Signup).where(Signup.email == email))

    async def _changed(self, statement: Update | Delete) -> int:
        async with self._session() as session, session.begin():
            result: Any = await session.execute(statement)
            return int(result.rowcount)

    async def in_100(self, _number: int) -> list[Person]:
        async with self._session() as session, session.begin():
            return list(await session.scalars(select(Person).where(Person.id.in_(KEYS))))

    async def in_100_dtos(self, number: int) -> list[Card]:
        return [card_of(person) for person in await self.in_100(number)]

    async def selectin(self, _number: int) -> int:
        async with self._session() as session, session.begin():
            teams = await session.scalars(select(Team).options(selectinload(Team.members)))
            return sum(len(team.members) for team in teams)

    async def joined(self, _number: int) -> int:
        async with self._session() as session, session.begin():
            members = await session.scalars(select(Member).options(joinedload(Member.team)))
            return sum(member.team.id == member.team_id for member in members)

    async def inherited(self, _number: int) -> int:
        async with self._session() as session, session.begin():
            houses = await session.scalars(select(House))
            return sum(house.rooms >= 0 and house.kind == "house" for house in houses)

    async def close(self) -> None:
        await self._engine.dispose()


async def connect(place: Place) -> Hand:
    """Make the contender."""
    return Hand(place)
