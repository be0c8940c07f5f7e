"""This module loads a file into a table: in chunks, past bad records, and on from where it stopped."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DataError, IntegrityError

from unitwork.bulk.fields import Model
from unitwork.cli._fields import ValueRefusedError, Values
from unitwork.cli._files import BrokenRecordError, Record, Records
from unitwork.errors import RowError, UnitworkError
from unitwork.repository import Repository

if TYPE_CHECKING:
    from unitwork.database import Database

CHUNK_ROWS = 5_000
_REFUSED = (IntegrityError, DataError, RowError)

Loaded = tuple[int, Record, dict[str, Any]]


class RecordRefusedError(UnitworkError):
    """A record of the file cannot be stored, and nobody wants to go on without it."""

    def __init__(self, path: str, line: int, reason: str) -> None:
        super().__init__(path, line, reason)
        self.path = path
        self.line = line
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"Line {self.line:,} of {self.path} cannot be stored: {self.reason}.\n"
            "  Fix: correct it, or give --rejects FILE to go on without such lines."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What the command line asks for."""

    on_conflict: Any = "fail"
    key: tuple[str, ...] | None = None
    null: str = ""
    rename: dict[str, str] = field(default_factory=dict)
    rejects: Path | None = None
    resume: Path | None = None
    dry_run: bool = False


@dataclass(slots=True)
class Summary:
    """What came of a load."""

    read: int = 0
    stored: int = 0
    rejected: int = 0
    skipped: int = 0
    seconds: float = 0.0
    dry_run: bool = False


class Loading:
    """One load of one file. Lives: one command."""

    def __init__(self, database: Database, model: type[Any], records: Records, options: LoadOptions) -> None:
        self._database = database
        self._repository: Repository[Any] = Repository[model](database)  # type: ignore[valid-type]  # known at run time
        self._values = Values(Model.of(model), options.null)
        self._records = records
        self._options = options
        self._rejects = Rejects(options.rejects)
        self._position = Position(options.resume, records.path)
        self.summary = Summary(dry_run=options.dry_run)

    async def run(self, on_progress: Callable[[int], object]) -> Summary:
        """Load the file; `on_progress` is told how many bytes were read."""
        started = time.perf_counter()
        try:
            if self._options.resume is not None and not self._options.dry_run:
                await self._load(on_progress, commit_each=True)
            else:
                async with self._database.transaction():
                    if self._options.dry_run:
                        self._database.set_rollback_only()
                    await self._load(on_progress, commit_each=False)
        finally:
            self._rejects.close()
        self._position.forget()
        self.summary.seconds = time.perf_counter() - started
        return self.summary

    async def _load(self, on_progress: Callable[[int], object], *, commit_each: bool) -> None:
        waiting: list[Loaded] = []
        line = 0
        for line, record, read in self._records:
            if line <= self._position.line:
                self.summary.skipped += 1
                continue
            self.summary.read += 1
            loaded = self._loaded(line, record)
            if loaded is not None:
                waiting.append(loaded)
            if len(waiting) >= CHUNK_ROWS:
                await self._chunk(waiting, line, commit_each=commit_each)
                waiting = []
                on_progress(read)
        await self._chunk(waiting, line, commit_each=commit_each)

    def _loaded(self, line: int, record: Record | BrokenRecordError) -> Loaded | None:
        try:
            if isinstance(record, BrokenRecordError):
                raise record
            names = self._options.rename
            renamed = {names.get(name, name): value for name, value in record.items()}
            renamed.pop("", None)
            return line, record, self._values.row(renamed)
        except (BrokenRecordError, ValueRefusedError) as error:
            self._reject(line, None if isinstance(record, BrokenRecordError) else record, str(error), error)
            return None

    async def _chunk(self, rows: Sequence[Loaded], line: int, *, commit_each: bool) -> None:
        if not commit_each:
            await self._store(rows)
            return
        async with self._database.transaction():
            await self._store(rows)
        self._position.remember(line)

    async def _store(self, rows: Sequence[Loaded]) -> None:
        """Store rows; with a file for rejects, halve them until those that fail are alone."""
        if not rows:
            return
        if self._options.rejects is None:
            self.summary.stored += await self._insert(rows)
            return
        try:
            async with self._database.transaction(propagation="NESTED"):
                stored = await self._insert(rows)
        except _REFUSED as error:
            if len(rows) == 1:
                line, record, _row = rows[0]
                self._reject(line, record, _reason(error), error)
                return
            half = len(rows) // 2
            await self._store(rows[:half])
            await self._store(rows[half:])
        else:
            self.summary.stored += stored

    async def _insert(self, rows: Sequence[Loaded]) -> int:
        options = self._options
        try:
            return await self._repository.bulk_insert(
                [row for _line, _record, row in rows],
                on_conflict=options.on_conflict,
                index_elements=options.key,
                returning=False,
            )
        except RowError as error:
            if options.rejects is not None:
                raise
            line = rows[error.row - 1][0]
            raise RecordRefusedError(self._records.path, line, _reason(error)) from error

    def _reject(self, line: int, record: Record | None, reason: str, error: Exception) -> None:
        if self._options.rejects is None:
            raise RecordRefusedError(self._records.path, line, reason) from error
        self.summary.rejected += 1
        self._rejects.write(line, reason, record)


def _reason(error: Exception) -> str:
    if isinstance(error, RowError):
        return f"{error.attribute}: {error.problem}" if error.attribute else error.problem
    return " ".join(str(getattr(error, "orig", error)).split())


class Rejects:
    """The file of what was not stored: line, reason, and the record as JSON. Made with the first one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: Any = None

    def write(self, line: int, reason: str, record: Record | None) -> None:
        """Add one record."""
        if self._path is None:
            return
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8", newline="")
            csv.writer(self._file).writerow(["line", "reason", "record"])
        text = "" if record is None else json.dumps(record, ensure_ascii=False, default=str)
        csv.writer(self._file).writerow([line, reason, text])

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()


class Position:
    """How far a load has come, in a file of its own. Lives: from the first commit to the end of the load."""

    def __init__(self, path: Path | None, source: str) -> None:
        self._path = path
        self._source = source
        self.line = 0
        if path is not None and path.exists():
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["source"] == source:
                self.line = known["line"]

    def remember(self, line: int) -> None:
        """Note that everything up to this line is committed."""
        if self._path is not None:
            fresh = self._path.with_name(self._path.name + ".new")
            fresh.write_text(json.dumps({"source": self._source, "line": line}), encoding="utf-8")
            fresh.replace(self._path)

    def forget(self) -> None:
        """Remove the file: the load has ended."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
