"""This module lets many clients write and read at once through a Database, and writes their history down.

A client is a task. It appends numbers to keys: a number is an order, its key the account of the order.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

from asyncpg import InterfaceError
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, InvalidRequestError

from tests.clusters.history import Finding, History, Outcome
from tests.fixtures.clusters.replicated import connections_in_use
from tests.fixtures.models import Account, Order
from tests.fixtures.observer import Observer
from unitwork import CommitOutcomeUnknownError, Database, Repository, RetryPolicy

KEYS = 50
KEYS_OF_CLIENT = 2
"""Few, so that each client meets again what it has written and read."""
LOST = (DBAPIError, OSError, TimeoutError, InterfaceError, InvalidRequestError)
"""What a block raises whose server goes away: all of them say that nothing is stored.

The last is SQLAlchemy's "This connection is closed": two in a row had ended when the pool looked at them.
"""
PAUSE_S = 0.005


@dataclass(slots=True)
class Workload:
    """Clients of one Database, and what they were told. Lives: one test.

    Args:
        db: What they use.
        seed: Decides who does what, though not in which order.
    """

    db: Database
    seed: int
    history: History = field(default_factory=History)
    failures: Counter[str] = field(default_factory=Counter)
    """What was raised, by operation."""
    wanted: int = 0
    _values: "count[int]" = field(default_factory=lambda: count(1))

    async def prepare(self) -> None:
        """Write the keys."""
        async with self.db.transaction() as session:
            session.add_all([Account(id=number, name=f"key {number}") for number in range(1, KEYS + 1)])

    async def run(self, clients: int, operations: int) -> None:
        """Let so many clients do so many operations in all, from now on; what fails does not count."""
        self.wanted = len(self.history) + operations
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(self._client(number))

    def check(self, final: dict[str, list[str]]) -> list[Finding]:
        """What is wrong with it, given what is stored in the end."""
        return self.history.findings(final)

    async def _client(self, number: int) -> None:
        chosen = random.Random(self.seed * 1000 + number)  # noqa: S311 - to be repeated
        writes: list[Write] = [self._add_alone, self._add_in_block, self._add_again_and_again]
        reads: list[Read] = [self._read_alone, self._read_in_block, self._read_fresh, self._read_in_child]
        while len(self.history) < self.wanted:
            key = 1 + (number + chosen.randrange(KEYS_OF_CLIENT)) % KEYS
            if chosen.random() < 0.4:
                await self._written(f"client {number}", key, chosen.choice(writes))
            else:
                await self._read(f"client {number}", key, chosen.choice(reads))
            await asyncio.sleep(chosen.random() * PAUSE_S)

    # -- writes: each appends, and returns when it is acknowledged ---------------------------------

    async def _written(self, client: str, key: int, write: "Write") -> None:
        value = next(self._values)
        began = self.history.now()
        try:
            await write(key, value)
        except CommitOutcomeUnknownError:
            outcome = Outcome.UNKNOWN
        except LOST as error:
            self._note(write.__name__, error)
            # A statement that commits by itself was perhaps answered on a line that was cut.
            outcome = Outcome.UNKNOWN if write == self._add_alone else Outcome.FAILED
        else:
            outcome = Outcome.ACKNOWLEDGED
        self.history.wrote(client, f"{key}", f"{value}", began, outcome)

    async def _add_alone(self, key: int, value: int) -> None:
        await Repository[Order](self.db).add(Order(account_id=key, total=value))

    async def _add_in_block(self, key: int, value: int) -> None:
        async with self.db.transaction() as session:
            session.add(Order(account_id=key, total=value))
            await session.flush()

    async def _add_again_and_again(self, key: int, value: int) -> None:
        @self.db.transactional(retry=RetryPolicy(attempts=5, first_delay_s=0.1))
        async def add() -> None:
            self.db.session.add(Order(account_id=key, total=value))
            await self.db.session.flush()

        await add()

    # -- reads -------------------------------------------------------------------------------------

    async def _read(self, client: str, key: int, read: "Read") -> None:
        began = self.history.now()
        try:
            values = await read(key)
        except LOST as error:
            self._note(read.__name__, error)
            return
        self.history.read(
            client,
            f"{key}",
            (f"{value}" for value in values),
            began=began,
            fresh=read == self._read_fresh,
            forgotten=read == self._read_in_child,
        )

    async def _read_alone(self, key: int) -> list[int]:
        orders = await Repository[Order](self.db).where(Order.account_id == key).all()
        return [order.total for order in orders]

    async def _read_in_block(self, key: int) -> list[int]:
        async with self.db.transaction(read_only=True) as session:
            return list(await session.scalars(select(Order.total).where(Order.account_id == key)))

    async def _read_fresh(self, key: int) -> list[int]:
        async with self.db.transaction(read_only=True, fresh=True) as session:
            return list(await session.scalars(select(Order.total).where(Order.account_id == key)))

    async def _read_in_child(self, key: int) -> list[int]:
        return await asyncio.create_task(self._read_alone(key))

    def _note(self, operation: str, error: BaseException) -> None:
        self.failures[f"{operation}: {type(error).__name__}: {error}".partition("\n")[0]] += 1


Write = Callable[[int, int], Awaitable[None]]
Read = Callable[[int], Awaitable[list[int]]]


async def stored(observer: Observer) -> dict[str, list[str]]:
    """What each key holds."""
    found: dict[str, list[str]] = {}
    async with observer.engine.connect() as connection:
        for key, value in await connection.execute(select(Order.account_id, Order.total)):
            found.setdefault(f"{key}", []).append(f"{value}")
    return found


async def assert_nothing_is_left(db: Database) -> None:
    """No connection is out on any server, and the next block works."""
    assert connections_in_use(db) == 0
    async with db.transaction() as session:
        await session.scalars(select(Account.id))
    assert connections_in_use(db) == 0
