"""tortoise-orm: an object mapper without SQLAlchemy."""

from tortoise import Tortoise, fields
from tortoise.models import Model
from tortoise.transactions import in_transaction

from benchmarks.card import PAGE_ROWS, Card
from benchmarks.place import POOL, Place

TITLE = "tortoise-orm"
REQUIREMENTS = ("tortoise-orm==1.1.9", "asyncpg", "aiosqlite")
DATABASES = ("postgresql", "sqlite")


class Person(Model):
    """Is only read."""

    id = fields.IntField(primary_key=True)
    name = fields.CharField(80)
    email = fields.CharField(120)
    age = fields.IntField()
    city = fields.CharField(80)

    class Meta:
        """Where it is."""

        table = "person"


class Signup(Model):
    """Is only written."""

    id = fields.IntField(primary_key=True)
    email = fields.CharField(120)
    name = fields.CharField(80)

    class Meta:
        """Where it is."""

        table = "signup"


class TortoiseOrm:
    """Models of tortoise."""

    async def empty(self, _number: int) -> None:
        async with in_transaction():
            pass

    async def select_one(self, number: int) -> Person:
        async with in_transaction() as connection:
            return await Person.filter(id=number).using_db(connection).get()

    async def three_nested(self, number: int) -> Person:
        async with in_transaction() as connection:
            for _ in range(3):
                found = await Person.filter(id=number).using_db(connection).get()
            return found

    async def get(self, number: int) -> Person:
        return await Person.get(id=number)

    async def find_dto(self, number: int) -> Card:
        return Card(**(await Person.get(id=number).values(*Card.__slots__)))

    async def entities_100(self, _number: int) -> list[Person]:
        return await Person.filter(id__range=(1, 100))

    async def dtos_100(self, _number: int) -> list[Card]:
        return [Card(*row) for row in await Person.filter(id__range=(1, 100)).values_list(*Card.__slots__)]

    async def dtos_1000(self, _number: int) -> list[Card]:
        return [Card(*row) for row in await Person.filter(id__range=(1, 1000)).values_list(*Card.__slots__)]

    async def insert(self, email: str) -> int:
        return (await Signup.create(email=email, name="new")).id

    async def check_insert(self, email: str) -> int:
        async with in_transaction() as connection:
            assert await Signup.filter(email=email).using_db(connection).first() is None
            return (await Signup.create(email=email, name="new", using_db=connection)).id

    async def page(self, number: int) -> tuple[int, list[Person]]:
        chosen = Person.filter(age__gte=0)
        people = await chosen.order_by("id").limit(PAGE_ROWS).offset(number % 50)
        return await chosen.count(), people

    async def close(self) -> None:
        await Tortoise.close_connections()


async def connect(place: Place) -> TortoiseOrm:
    """Make the contender."""
    url = f"{place.url('asyncpg')}?minsize={POOL}&maxsize={POOL}"
    if place.database == "sqlite":
        url = f"sqlite://{place.name}?synchronous=NORMAL&busy_timeout=5000"
    await Tortoise.init(db_url=url, modules={"models": [__name__]}, _enable_global_fallback=True)
    return TortoiseOrm()
