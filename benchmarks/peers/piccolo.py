"""piccolo: a query builder and object mapper without SQLAlchemy."""

from typing import Any

from piccolo.columns import Integer, Serial, Varchar
from piccolo.engine.postgres import PostgresEngine
from piccolo.engine.sqlite import SQLiteEngine
from piccolo.table import Table

from benchmarks.card import PAGE_ROWS, Card
from benchmarks.place import POOL, Place

TITLE = "piccolo"
REQUIREMENTS = ("piccolo[postgres,sqlite]==1.38.0",)
DATABASES = ("postgresql", "sqlite")


class Person(Table, tablename="person"):
    """Is only read."""

    id = Serial(primary_key=True)
    name = Varchar(80)
    email = Varchar(120)
    age = Integer()
    city = Varchar(80)


class Signup(Table, tablename="signup"):
    """Is only written."""

    id = Serial(primary_key=True)
    email = Varchar(120)
    name = Varchar(80)


class Piccolo:
    """Tables of piccolo."""

    def __init__(self, engine: Any) -> None:  # two engines without a common class
        self._engine = engine
        for table in (Person, Signup):
            table._meta._db = engine  # noqa: SLF001  # its own tests do it, too: there is no settings file here

    async def empty(self, _number: int) -> None:
        async with self._engine.transaction():
            pass

    async def select_one(self, number: int) -> Any:
        async with self._engine.transaction():
            return await Person.objects().where(Person.id == number).first()

    async def three_nested(self, number: int) -> Any:
        async with self._engine.transaction():
            for _ in range(3):
                found = await Person.objects().where(Person.id == number).first()
            return found

    async def get(self, number: int) -> Any:
        return await Person.objects().get(Person.id == number)

    async def find_dto(self, number: int) -> Card:
        return Card(**(await Person.select().where(Person.id == number).first()))

    async def entities_100(self, _number: int) -> Any:
        return await Person.objects().where((Person.id >= 1) & (Person.id <= 100))

    async def dtos_100(self, _number: int) -> list[Card]:
        return await self._between(1, 100)

    async def dtos_1000(self, _number: int) -> list[Card]:
        return await self._between(1, 1000)

    async def _between(self, low: int, high: int) -> list[Card]:
        rows = await Person.select().where((Person.id >= low) & (Person.id <= high))
        return [Card(**row) for row in rows]

    async def insert(self, email: str) -> int:
        rows = await Signup.insert(Signup(email=email, name="new")).returning(Signup.id)
        return int(rows[0]["id"])

    async def check_insert(self, email: str) -> int:
        async with self._engine.transaction():
            assert await Signup.select().where(Signup.email == email).first() is None
            return await self.insert(email)

    async def page(self, number: int) -> tuple[int, Any]:
        found = Person.objects().where(Person.age >= 0).order_by(Person.id)
        people = await found.limit(PAGE_ROWS).offset(number % 50)
        return await Person.count().where(Person.age >= 0), people

    async def close(self) -> None:
        if isinstance(self._engine, PostgresEngine):
            await self._engine.close_connection_pool()


async def connect(place: Place) -> Piccolo:
    """Make the contender."""
    if place.database == "sqlite":
        return Piccolo(SQLiteEngine(path=place.name))
    address = {"host": place.host, "port": place.port, "user": place.user, "database": place.name}
    engine = PostgresEngine(config=address, log_queries=False)
    await engine.start_connection_pool(min_size=POOL, max_size=POOL)
    return Piccolo(engine)
