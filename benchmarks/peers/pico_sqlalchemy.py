"""pico-sqlalchemy: `@transactional`, `@repository` and `@query`, on the container pico-ioc."""

import sys
from collections.abc import Sequence
from typing import Any

from pico_ioc import DictSource, component, configuration, init
from pico_sqlalchemy import (
    Page,
    PageRequest,
    SessionManager,
    get_session,
    query,
    repository,
    transactional,
)
from sqlalchemy import select

from benchmarks.card import PAGE_ROWS, Card
from benchmarks.model import Person, Signup, equip
from benchmarks.place import POOL, Place

TITLE = "pico-sqlalchemy"
REQUIREMENTS = ("pico-sqlalchemy==0.5.3", "asyncpg", "aiosqlite", "greenlet")
DATABASES = ("postgresql", "sqlite")


@repository(entity=Person)
class People:
    """Reads. The results of `@query` are mappings, whatever the annotation says."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager

    async def get(self, number: int) -> Person | None:
        return await get_session(self._manager).get(Person, number)

    async def one(self, number: int) -> Person:
        statement = select(Person).where(Person.id == number)
        return (await get_session(self._manager).execute(statement)).scalar_one()

    async def entities(self, low: int, high: int) -> list[Person]:
        statement = select(Person).where(Person.id.between(low, high))
        return list(await get_session(self._manager).scalars(statement))

    @query(expr="id = :number", unique=True)
    async def row(self, number: int) -> Any: ...

    @query(expr="id BETWEEN :low AND :high")
    async def rows(self, low: int, high: int) -> Any: ...

    @query.sql("SELECT * FROM person WHERE age >= :least ORDER BY id", paged=True)
    async def of_age(self, least: int, page: PageRequest) -> Page[Any]: ...


@repository(entity=Signup)
class Signups:
    """Writes."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager

    async def add(self, signup: Signup) -> Signup:
        session = get_session(self._manager)
        session.add(signup)
        await session.flush()
        return signup

    @query(expr="email = :email", unique=True)
    async def by_email(self, email: str) -> Any: ...


@component
class Service:
    """Blocks."""

    def __init__(self, people: People, signups: Signups) -> None:
        self._people = people
        self._signups = signups

    @transactional
    async def nothing(self) -> None:
        pass

    @transactional
    async def one(self, number: int) -> Person:
        return await self._people.one(number)

    @transactional
    async def three(self, number: int) -> Person:
        await self._people.one(number)
        await self._people.one(number)
        return await self._people.one(number)

    @transactional
    async def sign_up(self, email: str) -> Signup:
        assert await self._signups.by_email(email) is None
        return await self._signups.add(Signup(email=email, name="new"))


class Pico:
    """The components above, from their container."""

    def __init__(self, place: Place) -> None:
        settings = {"url": place.sqlalchemy_url(), "pool_size": POOL, "pool_pre_ping": False}
        container = init(
            modules=[sys.modules[__name__], "pico_sqlalchemy"],
            config=configuration(DictSource({"database": settings})),
        )
        self._manager = container.get(SessionManager)
        if place.database == "sqlite":
            equip(self._manager.engine)
        self._people: Any = container.get(People)
        self._signups: Any = container.get(Signups)
        self._service: Any = container.get(Service)

    async def empty(self, _number: int) -> None:
        await self._service.nothing()

    async def select_one(self, number: int) -> Any:
        return await self._service.one(number)

    async def three_nested(self, number: int) -> Any:
        return await self._service.three(number)

    async def get(self, number: int) -> Any:
        return await self._people.get(number)

    get_attached = get

    async def find_dto(self, number: int) -> Card:
        return Card(**await self._people.row(number))

    async def entities_100(self, _number: int) -> Any:
        return await self._people.entities(1, 100)

    async def dtos_100(self, _number: int) -> list[Card]:
        return [Card(**row) for row in await self._people.rows(1, 100)]

    async def dtos_1000(self, _number: int) -> list[Card]:
        return [Card(**row) for row in await self._people.rows(1, 1000)]

    async def insert(self, email: str) -> int:
        return int((await self._signups.add(Signup(email=email, name="new"))).id)

    async def check_insert(self, email: str) -> int:
        return int((await self._service.sign_up(email)).id)

    async def page(self, number: int) -> tuple[int, Sequence[Any]]:
        page = await self._people.of_age(0, PageRequest(page=number % 50, size=PAGE_ROWS))
        return page.total_elements, page.content

    async def close(self) -> None:
        await self._manager.engine.dispose()


async def connect(place: Place) -> Pico:
    """Make the contender."""
    return Pico(place)
