"""context-async-sqlalchemy: a session from the context, made at first use."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from context_async_sqlalchemy import (
    DBConnect,
    atomic_db_session,
    close_db_session,
    db_session,
    init_db_session_ctx,
    reset_db_session_ctx,
)
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from benchmarks.card import PAGE_ROWS, Card
from benchmarks.model import Person, Signup, card_of, engine_at
from benchmarks.place import Place

TITLE = "context-async-sqlalchemy"
REQUIREMENTS = ("context-async-sqlalchemy==2.1.9", "asyncpg", "aiosqlite", "greenlet")
DATABASES = ("postgresql", "sqlite")


class ContextAsync:
    """Each call is a context of its own, as a request is."""

    def __init__(self, place: Place) -> None:
        self._connect = DBConnect(
            lambda _host: engine_at(place),
            lambda engine: async_sessionmaker(engine, expire_on_commit=False),
            host="here",
        )

    @asynccontextmanager
    async def _block(self) -> AsyncIterator[AsyncSession]:
        token = init_db_session_ctx(force=True)
        try:
            async with atomic_db_session(self._connect) as session:
                yield session
            await close_db_session(self._connect)
        finally:
            await reset_db_session_ctx(token)

    async def empty(self, _number: int) -> None:
        async with self._block():
            pass

    async def _select(self, number: int) -> Person:
        session = await db_session(self._connect)
        return (await session.execute(select(Person).where(Person.id == number))).scalar_one()

    async def select_one(self, number: int) -> Person:
        async with self._block():
            return await self._select(number)

    async def three_nested(self, number: int) -> Person:
        # Functions inside use the session of the context; it knows no nested blocks.
        async with self._block():
            await self._select(number)
            await self._select(number)
            return await self._select(number)

    async def get(self, number: int) -> Person | None:
        async with self._block() as session:
            return await session.get(Person, number)

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
        async with self._block() as session:
            return list(await session.scalars(select(Person).where(Person.id.between(low, high))))

    async def insert(self, email: str) -> int:
        async with self._block() as session:
            signup = Signup(email=email, name="new")
            session.add(signup)
        return signup.id

    async def check_insert(self, email: str) -> int:
        async with self._block() as session:
            assert await session.scalar(select(Signup).where(Signup.email == email)) is None
            signup = Signup(email=email, name="new")
            session.add(signup)
        return signup.id

    async def page(self, number: int) -> tuple[int | None, list[Person]]:
        chosen = select(Person).where(Person.age >= 0)
        async with self._block() as session:
            rows = await session.scalars(chosen.order_by(Person.id).limit(PAGE_ROWS).offset(number % 50))
            people = list(rows)
            return await session.scalar(select(func.count()).select_from(chosen.subquery())), people

    async def close(self) -> None:
        await self._connect.close()


async def connect(place: Place) -> ContextAsync:
    """Make the contender."""
    return ContextAsync(place)
