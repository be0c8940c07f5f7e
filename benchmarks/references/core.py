"""SQLAlchemy Core by hand: statements on a connection, rows to records, AUTOCOMMIT for single reads."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, insert, select

from benchmarks.card import PAGE_ROWS, Card
from benchmarks.model import Person, Signup
from benchmarks.place import Place
from benchmarks.references.engine import engine_by_hand

TITLE = "Core by hand"
REQUIREMENTS: tuple[str, ...] = ()
DATABASES = ("postgresql", "sqlite", "mariadb")

# Any: SQLAlchemy's declared type is wider than a table, which this is.
_PERSON: Any = Person.__table__
_SIGNUP: Any = Signup.__table__


class Core:
    """Connections written by hand."""

    def __init__(self, place: Place) -> None:
        self._engine = engine_by_hand(place)
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    async def empty(self, _number: int) -> None:
        async with self._engine.begin():
            pass

    async def _rows(self, statement: Any) -> Sequence[Any]:
        async with self._reading.connect() as connection:
            return (await connection.execute(statement)).all()

    async def get(self, number: int) -> Card:
        return Card(*(await self._rows(select(_PERSON).where(_PERSON.c.id == number)))[0])

    select_one = find_dto = get

    async def three_nested(self, number: int) -> Card:
        async with self._engine.begin() as connection:
            for _ in range(3):
                row: Any = (await connection.execute(select(_PERSON).where(_PERSON.c.id == number))).one()
        return Card(*row)

    nested_dtos = three_nested

    async def dtos_100(self, _number: int) -> list[Card]:
        return [Card(*row) for row in await self._rows(select(_PERSON).where(_PERSON.c.id.between(1, 100)))]

    async def dtos_1000(self, _number: int) -> list[Card]:
        return [Card(*row) for row in await self._rows(select(_PERSON).where(_PERSON.c.id.between(1, 1000)))]

    async def insert(self, email: str) -> int:
        async with self._engine.begin() as connection:
            done: Any = await connection.execute(insert(_SIGNUP).values(email=email, name="new"))
        return int(done.inserted_primary_key[0])

    async def check_insert(self, email: str) -> int:
        async with self._engine.begin() as connection:
            taken = (await connection.execute(select(_SIGNUP).where(_SIGNUP.c.email == email))).first()
            assert taken is None
            done: Any = await connection.execute(insert(_SIGNUP).values(email=email, name="new"))
        return int(done.inserted_primary_key[0])

    async def page(self, number: int) -> tuple[int, list[Card]]:
        chosen = select(_PERSON).where(_PERSON.c.age >= 0)
        async with self._reading.connect() as connection:
            wanted = chosen.order_by(_PERSON.c.id).limit(PAGE_ROWS).offset(number % 50)
            rows = (await connection.execute(wanted)).all()
            total = await connection.scalar(select(func.count()).select_from(chosen.subquery()))
        assert total is not None
        return int(total), [Card(*row) for row in rows]

    async def close(self) -> None:
        await self._engine.dispose()


async def connect(place: Place) -> Core:
    """Make the contender."""
    return Core(place)
