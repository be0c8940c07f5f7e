"""The bare driver with a pool of its own: the floor. SQLAlchemy is imported in its process all the same.

Without that import the C library gives memory back to the system at other sizes, which makes each
round trip of asyncio some 15 µs slower, and every other contender look better than it is.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import sqlalchemy.orm  # noqa: F401  # see above

from benchmarks.card import KEYS, PAGE_ROWS, Card
from benchmarks.place import POOL, Place

TITLE = "driver"
REQUIREMENTS: tuple[str, ...] = ()
DATABASES = ("postgresql", "sqlite", "mariadb")

_COLUMNS = "id, name, email, age, city"


class Wire(Protocol):
    """One connection of a driver, as far as the benchmark needs it. `?` stands for a value."""

    async def rows(self, sql: str, *values: Any) -> Sequence[Any]: ...

    async def insert(self, email: str) -> int: ...


class Driver:
    """Statements as text; rows to records."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def get(self, number: int) -> Card:
        async with self._pool.wire() as wire:
            return Card(*(await wire.rows(f"SELECT {_COLUMNS} FROM person WHERE id = ?", number))[0])

    select_one = find_dto = get

    async def three_nested(self, number: int) -> Card:
        async with self._pool.transaction() as wire:
            for _ in range(3):
                rows = await wire.rows(f"SELECT {_COLUMNS} FROM person WHERE id = ?", number)
        return Card(*rows[0])

    nested_dtos = three_nested

    async def dtos_100(self, _number: int) -> list[Card]:
        return await self._between(1, 100)

    async def dtos_1000(self, _number: int) -> list[Card]:
        return await self._between(1, 1000)

    async def _between(self, low: int, high: int) -> list[Card]:
        async with self._pool.wire() as wire:
            rows = await wire.rows(f"SELECT {_COLUMNS} FROM person WHERE id BETWEEN ? AND ?", low, high)
        return [Card(*row) for row in rows]

    async def insert(self, email: str) -> int:
        async with self._pool.wire() as wire:
            return int(await wire.insert(email))

    async def check_insert(self, email: str) -> int:
        async with self._pool.transaction() as wire:
            taken = await wire.rows("SELECT id, email, name FROM signup WHERE email = ?", email)
            assert not taken
            return int(await wire.insert(email))

    async def page(self, number: int) -> tuple[int, list[Card]]:
        async with self._pool.wire() as wire:
            rows = await wire.rows(
                f"SELECT {_COLUMNS} FROM person WHERE age >= ? ORDER BY id LIMIT ? OFFSET ?",
                0,
                PAGE_ROWS,
                number % 50,
            )
            total = (await wire.rows("SELECT count(*) FROM person WHERE age >= ?", 0))[0][0]
        return total, [Card(*row) for row in rows]

    async def get_inside(self, number: int) -> Card:
        async with self._pool.transaction() as wire:
            return Card(*(await wire.rows(f"SELECT {_COLUMNS} FROM person WHERE id = ?", number))[0])

    async def insert_inside(self, email: str) -> int:
        async with self._pool.transaction() as wire:
            return int(await wire.insert(email))

    async def service(self, email: str) -> int:
        done = 0
        async with self._pool.transaction() as wire:
            for number in range(1, 6):
                done += len(await wire.rows(f"SELECT {_COLUMNS} FROM person WHERE id = ?", number))
            for number in range(3):
                await wire.insert(f"{number}{email}")
                done += 1
        return done

    async def in_100_dtos(self, _number: int) -> list[Card]:
        places = ", ".join("?" * len(KEYS))
        async with self._pool.wire() as wire:
            rows = await wire.rows(f"SELECT {_COLUMNS} FROM person WHERE id IN ({places})", *KEYS)
        return [Card(*row) for row in rows]

    async def close(self) -> None:
        await self._pool.close()


class Pool(Protocol):
    """The connections of a driver."""

    def wire(self) -> Any: ...

    def transaction(self) -> Any: ...

    async def close(self) -> None: ...


class _AsyncpgWire:
    _numbered: dict[str, str] = {}  # noqa: RUF012  # shared on purpose: the text of each statement, once

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def rows(self, sql: str, *values: Any) -> Sequence[Any]:
        text = self._numbered.get(sql)
        if text is None:
            first, *others = sql.split("?")
            text = first + "".join(f"${place}{part}" for place, part in enumerate(others, 1))
            self._numbered[sql] = text
        found: Sequence[Any] = await self._connection.fetch(text, *values)
        return found

    async def insert(self, email: str) -> int:
        sql = "INSERT INTO signup (email, name) VALUES ($1, $2) RETURNING id"
        return int(await self._connection.fetchval(sql, email, "new"))


class _AsyncpgPool:
    def __init__(self, pool: Any) -> None:
        self._pool = pool

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[Wire]:
        async with self._pool.acquire() as connection:
            yield _AsyncpgWire(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Wire]:
        async with self._pool.acquire() as connection, connection.transaction():
            yield _AsyncpgWire(connection)

    async def close(self) -> None:
        await self._pool.close()


class _AiosqliteWire:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def rows(self, sql: str, *values: Any) -> Sequence[Any]:
        found: Sequence[Any] = await self._connection.execute_fetchall(sql, values)
        return found

    async def insert(self, email: str) -> int:
        sql = "INSERT INTO signup (email, name) VALUES (?, ?)"
        return int((await self._connection.execute_insert(sql, (email, "new")))[0])


class _AiosqlitePool:
    def __init__(self, connections: Sequence[Any]) -> None:
        self._connections = connections
        self._idle: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        for connection in connections:
            self._idle.put_nowait(connection)

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[Wire]:
        connection = await self._idle.get()
        try:
            yield _AiosqliteWire(connection)
        finally:
            self._idle.put_nowait(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Wire]:
        connection = await self._idle.get()
        try:
            await connection.execute("BEGIN IMMEDIATE")
            yield _AiosqliteWire(connection)
            await connection.execute("COMMIT")
        finally:
            self._idle.put_nowait(connection)

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()


class _AsyncmyWire:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def rows(self, sql: str, *values: Any) -> Sequence[Any]:
        async with self._connection.cursor() as cursor:
            await cursor.execute(sql.replace("?", "%s"), values)
            found: Sequence[Any] = await cursor.fetchall()
            return found

    async def insert(self, email: str) -> int:
        async with self._connection.cursor() as cursor:
            await cursor.execute("INSERT INTO signup (email, name) VALUES (%s, %s)", (email, "new"))
            return int(cursor.lastrowid)


class _AsyncmyPool:
    def __init__(self, pool: Any) -> None:
        self._pool = pool

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[Wire]:
        async with self._pool.acquire() as connection:
            yield _AsyncmyWire(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Wire]:
        async with self._pool.acquire() as connection:
            await connection.begin()
            yield _AsyncmyWire(connection)
            await connection.commit()

    async def close(self) -> None:
        self._pool.close()
        await self._pool.wait_closed()


async def _asyncpg(place: Place) -> Pool:
    import asyncpg  # noqa: PLC0415  # each process needs one driver

    return _AsyncpgPool(await asyncpg.create_pool(place.url("postgresql"), min_size=POOL, max_size=POOL))


async def _aiosqlite(place: Place) -> Pool:
    import aiosqlite  # noqa: PLC0415  # as above

    connections = []
    for _ in range(POOL):
        connection = await aiosqlite.connect(place.name, isolation_level=None)
        for pragma in ("busy_timeout=5000", "foreign_keys=ON", "synchronous=NORMAL", "journal_mode=WAL"):
            await connection.execute(f"PRAGMA {pragma}")
        connections.append(connection)
    return _AiosqlitePool(connections)


async def _asyncmy(place: Place) -> Pool:
    import asyncmy  # noqa: PLC0415  # as above

    address: dict[str, Any] = {"host": place.host, "port": place.port, "user": place.user, "db": place.name}
    pool = await asyncmy.create_pool(minsize=POOL, maxsize=POOL, autocommit=True, **address)
    return _AsyncmyPool(pool)


_POOLS = {"postgresql": _asyncpg, "sqlite": _aiosqlite, "mariadb": _asyncmy}


async def connect(place: Place) -> Driver:
    """Make the contender."""
    return Driver(await _POOLS[place.database](place))
