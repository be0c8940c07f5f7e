"""unitwork: blocks, the ambient session, repositories and declared queries."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from benchmarks.card import KEYS, PAGE_ROWS, Card
from benchmarks.model import House, Member, Person, Signup, Team
from benchmarks.place import Place
from benchmarks.references.engine import database_at
from unitwork import Database, Page, PageRequest, Repository, query

T = TypeVar("T")

TITLE = "unitwork"
REQUIREMENTS: tuple[str, ...] = ()
DATABASES = ("postgresql", "sqlite", "mariadb")


class People(Repository[Person]):
    """Reads."""

    @query("id = :number")
    async def card(self, number: int) -> Card | None: ...

    @query("id BETWEEN :low AND :high")
    async def between(self, low: int, high: int) -> list[Person]: ...  # type: ignore[empty-body]  # declared

    @query("id BETWEEN :low AND :high")
    async def cards_between(self, low: int, high: int) -> list[Card]: ...  # type: ignore[empty-body]  # declared

    @query("id IN :numbers")
    async def among(self, numbers: Sequence[int]) -> list[Person]: ...  # type: ignore[empty-body]  # declared

    @query("id IN :numbers")
    async def cards_among(self, numbers: Sequence[int]) -> list[Card]: ...  # type: ignore[empty-body]  # declared

    @query("age >= :least")
    async def of_age(self, least: int, page: PageRequest) -> Page[Person]: ...  # type: ignore[empty-body]  # declared


class Signups(Repository[Signup]):
    """Writes."""

    @query("email = :email")
    async def by_email(self, email: str) -> Signup | None: ...


class Ours:
    """unitwork as its users write it."""

    def __init__(self, place: Place) -> None:
        db = self._db = self.database(place)
        self._people = People(db)
        self._signups = Signups(db)
        self._teams = Repository[Team](db)
        self._members = Repository[Member](db)
        self._houses = Repository[House](db)

        async def select_one(number: int) -> Person:
            return (await db.session.execute(select(Person).where(Person.id == number))).scalar_one()

        self.three_nested = self._nested(select_one)
        self.nested_dtos = self._nested(self._people.card)

    def database(self, place: Place) -> Database:
        """Return what it works on."""
        return database_at(place)

    def _nested(self, read: Callable[[int], Awaitable[T]]) -> Callable[[int], Awaitable[T]]:
        transactional = self._db.transactional

        @transactional
        async def innermost(number: int) -> T:
            return await read(number)

        @transactional
        async def middle(number: int) -> T:
            await read(number)
            return await innermost(number)

        @transactional
        async def outermost(number: int) -> T:
            await read(number)
            return await middle(number)

        return outermost

    async def empty(self, _number: int) -> None:
        async with self._db.transaction():
            pass

    async def select_one(self, number: int) -> Person:
        async with self._db.transaction() as session:
            return (await session.execute(select(Person).where(Person.id == number))).scalar_one()

    async def get(self, number: int) -> Person | None:
        return await self._people.get(number)

    async def get_attached(self, number: int) -> Person | None:
        async with self._db.unit_of_work():
            return await self._people.get(number)

    async def find_dto(self, number: int) -> Card | None:
        return await self._people.card(number)

    async def entities_100(self, _number: int) -> list[Person]:
        return await self._people.between(1, 100)

    async def dtos_100(self, _number: int) -> list[Card]:
        return await self._people.cards_between(1, 100)

    async def dtos_1000(self, _number: int) -> list[Card]:
        return await self._people.cards_between(1, 1000)

    async def insert(self, email: str) -> int:
        return (await self._signups.add(Signup(email=email, name="new"))).id

    async def check_insert(self, email: str) -> int:
        async with self._db.transaction():
            assert await self._signups.by_email(email) is None
            signup = await self._signups.add(Signup(email=email, name="new"))
        return signup.id

    async def page(self, number: int) -> tuple[int | None, list[Person]]:
        found = await self._people.of_age(0, PageRequest(page=number % 50, size=PAGE_ROWS))
        return found.total_elements, list(found.content)

    async def get_inside(self, number: int) -> Person | None:
        async with self._db.transaction():
            return await self._people.get(number)

    async def get_read_only(self, number: int) -> Person | None:
        async with self._db.transaction(read_only=True):
            return await self._people.get(number)

    async def insert_inside(self, email: str) -> int:
        async with self._db.transaction():
            return (await self._signups.add(Signup(email=email, name="new"))).id

    async def savepoint(self, email: str) -> int:
        async with self._db.transaction(), self._db.transaction(propagation="NESTED"):
            return (await self._signups.add(Signup(email=email, name="new"))).id

    async def add_all(self, email: str) -> int:
        async with self._db.transaction():
            signups = await self._signups.add_all(
                Signup(email=f"{number}{email}", name="new") for number in range(10)
            )
        return len({signup.id for signup in signups})

    async def update_one(self, number: int) -> int:
        async with self._db.transaction():
            member = await self._members.get_one(number % 200 + 1)
            member.name = f"changed {number}"
        return 1

    async def delete_one(self, email: str) -> int:
        key = await self.insert(email)
        async with self._db.transaction():
            await self._signups.delete(await self._signups.get_one(key))
        return 1

    async def service(self, email: str) -> int:
        done = 0
        async with self._db.transaction():
            for number in range(1, 6):
                done += await self._people.get(number) is not None
            for number in range(3):
                await self._signups.add(Signup(email=f"{number}{email}", name="new"))
                done += 1
        return done

    async def update_where(self, number: int) -> int:
        return await self._members.where(Member.id == number % 200 + 1).update(name=f"changed {number}")

    async def delete_where(self, email: str) -> int:
        await self.insert(email)
        return await self._signups.delete_where(Signup.email == email)

    async def in_100(self, _number: int) -> list[Person]:
        return await self._people.among(KEYS)

    async def in_100_dtos(self, _number: int) -> list[Card]:
        return await self._people.cards_among(KEYS)

    async def selectin(self, _number: int) -> int:
        teams = await self._teams.select().options(selectinload(Team.members)).all()
        return sum(len(team.members) for team in teams)

    async def joined(self, _number: int) -> int:
        members = await self._members.select().options(joinedload(Member.team)).all()
        return sum(member.team.id == member.team_id for member in members)

    async def inherited(self, _number: int) -> int:
        houses = await self._houses.all()
        return sum(house.rooms >= 0 and house.kind == "house" for house in houses)

    async def close(self) -> None:
        await self._db.dispose()


async def connect(place: Place) -> Ours:
    """Make the contender."""
    return Ours(place)
