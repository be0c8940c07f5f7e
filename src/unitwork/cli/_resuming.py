"""This module remembers how far a load has come, so that no kill stores or rejects a record twice.

What is true stands in a small table of the database, which changes in the transaction that stores the
rows: there is no moment at which one is committed without the other. The file that `--resume` names
tells which table that is, and what the file and the rejects looked like; it outlives the load, so that
the same command, given again, knows that everything is stored.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, MetaData, String, Table, insert, inspect, select, update
from sqlalchemy.exc import DBAPIError

from unitwork._logic.own_tables import LOAD_PREFIX
from unitwork.cli._files import replace_text
from unitwork.errors import UnitworkError

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncSession

    from unitwork.database import Database

_NO_DIGEST = ""


class ResumeRefusedError(UnitworkError):
    """A load cannot go on from where the file of its position says it is."""

    def __init__(self, path: str, problem: str, fix: str) -> None:
        super().__init__(path, problem, fix)
        self.path = path
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.path} {self.problem}.\n  Fix: {self.fix}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a load has come."""

    line: int = 0
    """Where the last record that is stored or rejected begins; 0 before the first."""
    digest: str = _NO_DIGEST
    """What the file was up to that record."""
    rejects_bytes: int = 0
    """How much of the file of rejects is about what is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    """What the file of `--resume` says."""

    source: str
    into: str
    line: int = 0
    digest: str = _NO_DIGEST
    rejects: str | None = None
    rejects_bytes: int = 0
    table: str | None = None
    complete: bool = False

    @property
    def position(self) -> Position:
        return Position(line=self.line, digest=self.digest, rejects_bytes=self.rejects_bytes)


class Progress:
    """The position of one load, in its file and in the database. Lives: one command.

    `open` it before the first record, `lock` and `advance` it in the transaction of each piece, and
    `close` it after the last one.
    """

    def __init__(self, path: Path, source: str, into: str, rejects: Path | None) -> None:
        self._path = path
        self._note = self._read() or _Note(source=source, into=into)
        if not self._note.complete and self._note.line and self._note.into not in (into, ""):
            raise self._refused(
                f"belongs to a load into {self._note.into} that has not ended", "give another --resume FILE"
            )
        self._old_rejects = self._note.rejects
        rejects_name = str(rejects.resolve()) if rejects is not None else None
        self._note = replace(self._note, source=source, into=into, rejects=rejects_name)
        self.position = self._note.position

    @property
    def complete(self) -> bool:
        """Whether the whole file was stored, as it was then."""
        return self._note.complete

    def kept_rejects(self, path: Path) -> int:
        """Return how much of a file of rejects is about what is stored."""
        return self.position.rejects_bytes if self._old_rejects == str(path.resolve()) else 0

    def other_file(self, line: int) -> ResumeRefusedError:
        """Return the error that a file is not the one whose position this is."""
        return self._refused(
            f"is the position in another file: up to line {line:,} this one is not what was loaded",
            "name that file, or remove the file of the position to load this one from its beginning",
        )

    def _refused(self, problem: str, fix: str) -> ResumeRefusedError:
        return ResumeRefusedError(str(self._path), problem, fix)

    def _read(self) -> _Note | None:
        if not self._path.exists():
            return None
        try:
            found: dict[str, Any] = {"into": "", **json.loads(self._path.read_bytes())}
            note = _Note(**found)
        except (ValueError, TypeError, RecursionError):
            note = None
        if note is None or not all(type(number) is int for number in (note.line, note.rejects_bytes)):
            raise self._refused("is not the position of a load", "give a --resume FILE that is not there yet")
        return note

    def begin_anew(self) -> None:
        """Forget a load that was completed: this is another file."""
        self.position = Position()

    async def look(self, database: Database) -> None:
        """Find out how far the load has come, and change nothing.

        Raises:
            ResumeRefusedError: This is another database.
        """
        name = self._note.table
        if name is None or self._note.complete:
            return
        async with database.engine.connect() as connection:
            exists = await connection.run_sync(lambda sync: inspect(sync).has_table(name))
        if exists:
            async with database.transaction() as session:
                self.position = await self._stored(session, _table(name))
        elif self._note.line:
            raise self._refused(
                f"belongs to a load that this database knows nothing of: it has no table {name}",
                "name the database of that load, or remove the file to begin anew",
            )

    async def open(self, database: Database) -> None:
        """Make the load one that can be gone on with.

        Database: creates a table for the time of the load, in a transaction of its own.
        """
        # The file comes first: a table that no file names would stay for ever.
        self._keep(replace(self._note, table=self._note.table or f"{LOAD_PREFIX}{secrets.token_hex(6)}"))
        try:
            async with database.engine.begin() as connection:
                await connection.run_sync(_create, self._table, self.position)
        except DBAPIError as error:
            error.add_note("While creating the table that --resume keeps the position in.")
            raise
        self._keep(replace(self._note, **asdict(self.position), complete=False))

    @property
    def _table(self) -> Table:
        if self._note.table is None:
            raise RuntimeError("the position has not been opened")
        return _table(self._note.table)

    async def lock(self, session: AsyncSession) -> None:
        """Keep every other load with this position out until the transaction ends.

        Raises:
            ResumeRefusedError: Another load has gone on meanwhile.
        """
        if await self._stored(session, self._table) != self.position:
            raise self._refused("is that of another load, which runs now", "wait until that has ended")

    async def _stored(self, session: AsyncSession, table: Table) -> Position:
        # Waits for a transaction of a process that was killed, but whose COMMIT was on its way.
        row = (await session.execute(select(table).with_for_update())).mappings().one_or_none()
        return self.position if row is None else Position(**row)

    async def advance(self, session: AsyncSession, position: Position) -> None:
        """Move on, in the transaction that stores what lies before."""
        await session.execute(update(self._table).values(**asdict(position)))

    def keep(self, position: Position) -> None:
        """Tell the file what is committed."""
        self.position = position
        self._keep(replace(self._note, **asdict(position)))

    async def close(self, database: Database) -> None:
        """Note that the whole file is stored, and remove the table."""
        self._keep(replace(self._note, **asdict(self.position), complete=True))
        if self._note.table is None:
            return
        table = self._table
        async with database.engine.begin() as connection:
            await connection.run_sync(lambda sync: table.drop(sync, checkfirst=True))
        self._keep(replace(self._note, table=None))

    def _keep(self, note: _Note) -> None:
        self._note = note
        replace_text(self._path, json.dumps(asdict(note), ensure_ascii=False) + "\n")


def _table(name: str) -> Table:
    return Table(
        name,
        MetaData(),
        Column("line", BigInteger, nullable=False),
        Column("digest", String(32), nullable=False),
        Column("rejects_bytes", BigInteger, nullable=False),
        mysql_engine="InnoDB",
    )


def _create(connection: Connection, table: Table, position: Position) -> None:
    """Create the table, unless the load goes on; its row is the position either way."""
    table.create(connection, checkfirst=True)
    if connection.execute(update(table).values(**asdict(position))).rowcount == 0:
        connection.execute(insert(table).values(**asdict(position)))
