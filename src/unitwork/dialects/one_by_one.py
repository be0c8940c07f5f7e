"""This module inserts rows one by one as a driver does it fastest, past those that the database refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unitwork.dialects.refusals import REFUSING_CODES, refuses_values

_SAVE = "SAVEPOINT unitwork_row"
_KEEP = "RELEASE SAVEPOINT unitwork_row; SAVEPOINT unitwork_row"
_UNDO = "ROLLBACK TO SAVEPOINT unitwork_row"
_END = "RELEASE SAVEPOINT unitwork_row"

_LONGEST = 256_000
"""Characters of rows that are sent to MariaDB together."""
# What is no refusal of a row ends the program, as it ends a single INSERT. Of a row that was updated MariaDB
# counts two.
_PROGRAM = """BEGIN NOT ATOMIC
DECLARE unitwork_place, unitwork_stored INT DEFAULT 0;
DECLARE unitwork_refused LONGTEXT CHARACTER SET utf8mb4 DEFAULT '';
DECLARE unitwork_code INT;
DECLARE unitwork_said TEXT CHARACTER SET utf8mb4;
DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN
    GET DIAGNOSTICS CONDITION 1 unitwork_code = MYSQL_ERRNO, unitwork_said = MESSAGE_TEXT;
    IF unitwork_code NOT IN ({codes}) THEN RESIGNAL; END IF;
    SET unitwork_refused =
        CONCAT(unitwork_refused, unitwork_place, ',', unitwork_code, ',', HEX(unitwork_said), ' ');
END;
{inserts};
SELECT unitwork_stored, unitwork_refused;
END""".replace("{codes}", ", ".join(map(str, sorted(REFUSING_CODES))))
_COUNTED = (
    "SET unitwork_place = unitwork_place + 1; {}; "
    "SET unitwork_stored = unitwork_stored + GREATEST(0, LEAST(1, ROW_COUNT()))"
)


class RefusedByServerError(Exception):
    """What a server says of a row that it does not store, as its driver would raise it."""


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
    """Through asyncmy or aiomysql: MariaDB does it by itself, many rows in one exchange. MySQL cannot."""

    async def run(self, driver: Any) -> None:  # noqa: ANN401  # of any driver
        """Send many together; MySQL has no program for that, and gets them singly."""
        if "mariadb" not in driver.get_server_info().lower():
            await super().run(driver)
            return
        cursor = driver.cursor()
        await cursor.execute("SELECT @@max_allowed_packet")
        (most,) = await cursor.fetchone()
        for places, inserts in self._pieces(cursor, min(_LONGEST, most // 4)):
            await self._send_together(cursor, places, inserts)
        self.refused.sort(key=lambda each: each[0])
        await cursor.close()

    def _pieces(self, cursor: Any, longest: int) -> Iterator[tuple[list[int], list[str]]]:  # noqa: ANN401  # of any driver
        """Yield the rows as SQL; what the driver cannot write so is refused."""
        places: list[int] = []
        inserts: list[str] = []
        length = 0
        for place, row in enumerate(self._rows):
            try:
                insert: str = cursor.mogrify(self._statement, row)
            except Exception as error:
                if not refuses_values(error):
                    raise
                self.refused.append((place, error))
                continue
            if length + len(insert) > longest and inserts:
                yield places, inserts
                places, inserts, length = [], [], 0
            places.append(place)
            inserts.append(insert)
            length += len(insert)
        if inserts:
            yield places, inserts

    async def _send_together(self, cursor: Any, places: list[int], inserts: list[str]) -> None:  # noqa: ANN401  # of any driver
        try:
            await cursor.execute(_SAVE)
            await cursor.execute(_PROGRAM.format(inserts=";\n".join(map(_COUNTED.format, inserts))))
            stored, refused = await cursor.fetchone()
        except Exception as error:
            if not refuses_values(error):
                raise
            # The driver counts more codes among such errors than the program does.
            await cursor.execute(_UNDO)
            for place, insert in zip(places, inserts, strict=True):
                await self._send_alone(cursor, place, insert)
            return
        await cursor.execute(_END)
        self.stored += int(stored)
        for line in refused.split():
            number, code, said = line.split(",")
            told = RefusedByServerError(int(code), bytes.fromhex(said).decode())
            self.refused.append((places[int(number) - 1], told))

    async def _send_alone(self, cursor: Any, place: int, insert: str) -> None:  # noqa: ANN401  # of any driver
        try:
            self.stored += min(1, int(await cursor.execute(insert)))
        except Exception as error:
            if not refuses_values(error):
                raise
            self.refused.append((place, error))

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
