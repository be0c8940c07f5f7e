"""This module remembers how far a load has come, so that no kill stores or rejects a record twice.

What is true stands in a small table of the database, which changes in the transaction that stores the
rows: there is no moment at which one is committed without the other. The file that `--resume` names
tells which table that is, what the file looked like, and what was about to be added to the rejects; it
outlives the load, so that the same command, given again, knows that everything is stored.
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
from unitwork.cli._blocks import block
from unitwork.cli._files import STANDARD, replace_text
from unitwork.cli._rejects import withdraw
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Added:
    """What was about to be added to a file of rejects."""

    path: str
    at: int
    text: str
    line: int
    """The position of the load before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    """What the file of `--resume` says."""

    source: str
    into: str
    line: int = 0
    digest: str = _NO_DIGEST
    rejects: tuple[str, ...] = ()
    """The files of rejects that this load has written to."""
    added: _Added | None = None
    table: str | None = None
    complete: bool = False

    @property
    def position(self) -> Position:
        return Position(line=self.line, digest=self.digest)


class Progress:
    """The position of one load, in its file and in the database. Lives: one command.

    `open` it before the first record, `lock` and `advance` it in the transaction of each piece, and
    `close` it after the last one.
    """

    def __init__(self, path: Path, source: str, into: str, rejects: Path | None) -> None:
        self._path = path
        source = source if source == STANDARD else str(Path(source).resolve())
        self._note = self._read() or _Note(source=source, into=into)
        if not self._note.complete and self._note.line and self._note.into not in (into, ""):
            raise self._refused(
                f"belongs to a load into {self._note.into} that has not ended", "give another --resume FILE"
            )
        self.position = self._note.position
        self.is_renamed = STANDARD not in (source, self._note.source) and source != self._note.source
        """Whether the file is not called as the one whose position this is."""
        known = self._note.rejects
        if rejects is not None and str(rejects.resolve()) not in known:
            self._refuse_rejects_of_others(rejects)
            known = (*known, str(rejects.resolve()))
        self._note = replace(self._note, source=source, into=into, rejects=known)

    @property
    def complete(self) -> bool:
        """Whether the whole file was stored, as it was then."""
        return self._note.complete

    @staticmethod
    def _refuse_rejects_of_others(path: Path) -> None:
        if path.is_file() and path.stat().st_size:
            problem = "holds something already, and nothing of this load"
            raise ResumeRefusedError(str(path), problem, "move it away, or give another --rejects FILE")

    def other_file(self, line: int) -> ResumeRefusedError:
        """Return the error that a file is not the one whose position this is."""
        if self.complete:
            return self._refused(
                f"says that this file is stored up to line {line:,}, and that part of it has changed since",
                "load what is new from a file of another name, or remove the file of the position to load"
                " all of this one",
            )
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
            added = found.pop("added", None)
            rejects = tuple(found.pop("rejects", ()))
            note = _Note(**found, rejects=rejects, added=None if added is None else _Added(**added))
        except (ValueError, TypeError, RecursionError):
            note = None
        if note is None or type(note.line) is not int:
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
            async with block(database, "the load") as session:
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
        table = self._note.table or f"{LOAD_PREFIX}{secrets.token_hex(6)}"
        self._keep(replace(self._note, **asdict(self.position), table=table))
        try:
            async with database.engine.begin() as connection:
                await connection.run_sync(_create, self._table, self.position, is_over=self._note.complete)
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
        added = self._note.added
        if added is not None:
            if self.position.line <= added.line:
                withdraw(Path(added.path), added.at, added.text.encode())
            self._keep(replace(self._note, added=None))

    async def _stored(self, session: AsyncSession, table: Table) -> Position:
        # Waits for a transaction of a process that was killed, but whose COMMIT was on its way.
        row = (await session.execute(select(table).with_for_update())).mappings().one_or_none()
        return self.position if row is None else Position(**row)

    def announce(self, rejects: Path, at: int, text: bytes) -> None:
        """Note what is about to be added to the rejects, until `keep`."""
        path = str(rejects.resolve())
        added = _Added(path=path, at=at, text=text.decode(), line=self.position.line)
        self._keep(replace(self._note, added=added))

    async def advance(self, session: AsyncSession, position: Position) -> None:
        """Move on, in the transaction that stores what lies before."""
        await session.execute(update(self._table).values(**asdict(position)))

    def keep(self, position: Position) -> None:
        """Tell the file what is committed."""
        self.position = position
        self._keep(replace(self._note, **asdict(position), added=None))

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
        mysql_engine="InnoDB",
    )


def _create(connection: Connection, table: Table, position: Position, *, is_over: bool) -> None:
    """Create the table, unless the load goes on; then its row is another load's, if that runs now."""
    table.create(connection, checkfirst=True)
    there = connection.execute(select(table)).one_or_none() is not None
    if not there:
        connection.execute(insert(table).values(**asdict(position)))
    elif is_over:
        connection.execute(update(table).values(**asdict(position)))
