"""This module inserts rows one by one as a driver does it fastest, past those that the database refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unitwork.dialects.refusals import refuses_values

_SAVE = "SAVEPOINT unitwork_row"
_KEEP = "RELEASE SAVEPOINT unitwork_row; SAVEPOINT unitwork_row"
_UNDO = "ROLLBACK TO SAVEPOINT unitwork_row"
_END = "RELEASE SAVEPOINT unitwork_row"


class OneByOne:
    """One INSERT for each row; a failed one has undone itself. Lives: one statement."""

    def __init__(self, statement: str, rows: Sequence[Any]) -> None:
        self._statement = statement
        self._rows = rows
        self.stored = 0
        """How many rows the database says it has stored."""
        self.refused: list[tuple[int, Exception]] = []
        """The places of the rows that are not stored, and the driver's errors."""

    @property
    def statement(self) -> str:
        """The SQL, as observers and errors show it."""
        return self._statement

    async def run(self, driver: Any) -> None:  # noqa: ANN401  # a connection of any driver
        """Send them."""
        cursor = await self._begin(driver)
        for place, row in enumerate(self._rows):
            try:
                count = await self._insert(cursor, row)
            except Exception as error:
                if not refuses_values(error):
                    raise
                self.refused.append((place, error))
                await self._undo(cursor)
            else:
                self.stored += count
                await self._keep(cursor)
        await self._end(cursor)

    async def _begin(self, driver: Any) -> Any:  # noqa: ANN401  # of any driver
        """Return what runs the statements."""
        return await driver.cursor()

    async def _insert(self, cursor: Any, row: Any) -> int:  # noqa: ANN401  # of any driver
        await cursor.execute(self._statement, row)
        return int(cursor.rowcount)

    async def _keep(self, cursor: Any) -> None:  # noqa: ANN401  # of any driver
        """Make the last row outlast the next one."""

    async def _undo(self, cursor: Any) -> None:  # noqa: ANN401  # of any driver
        """Undo the last row."""

    async def _end(self, cursor: Any) -> None:  # noqa: ANN401  # of any driver
        """Leave nothing behind."""
        await cursor.close()


class MariaDBOneByOne(OneByOne):
    """Through asyncmy or aiomysql, whose cursors are made without waiting."""

    async def _begin(self, driver: Any) -> Any:  # noqa: ANN401  # of any driver
        return driver.cursor()

    async def _insert(self, cursor: Any, row: Any) -> int:  # noqa: ANN401  # of any driver
        # Of a row that was updated it counts two.
        return min(1, int(await cursor.execute(self._statement, row)))


class AsyncpgOneByOne(OneByOne):
    """On PostgreSQL, where a failed statement ends the transaction: a savepoint moves along."""

    async def _begin(self, driver: Any) -> Any:  # noqa: ANN401  # of any driver
        await driver.execute(_SAVE)
        return driver

    async def _insert(self, cursor: Any, row: Any) -> int:  # noqa: ANN401  # of any driver
        status: str = await cursor.execute(self._statement, *row)
        return int(status.rpartition(" ")[2])

    async def _keep(self, cursor: Any) -> None:  # noqa: ANN401  # of any driver
        await cursor.execute(_KEEP)

    async def _undo(self, cursor: Any) -> None:  # noqa: ANN401  # of any driver
        await cursor.execute(_UNDO)

    async def _end(self, cursor: Any) -> None:  # noqa: ANN401  # of any driver
        await cursor.execute(_END)


class PsycopgOneByOne(AsyncpgOneByOne):
    """The same through psycopg."""

    async def _insert(self, cursor: Any, row: Mapping[str, Any]) -> int:  # noqa: ANN401  # of any driver
        done = await cursor.execute(self._statement, row)
        return int(done.rowcount)


ONE_BY_ONE: Mapping[str, type[OneByOne]] = {
    "aiosqlite": OneByOne,
    "asyncpg": AsyncpgOneByOne,
    "psycopg": PsycopgOneByOne,
    "asyncmy": MariaDBOneByOne,
    "aiomysql": MariaDBOneByOne,
}
