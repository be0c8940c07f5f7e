"""This module loads a file into a table: in pieces, past bad records, and on from where it stopped."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitwork.bulk.fields import Model
from unitwork.cli._blocks import block
from unitwork.cli._output import counted
from unitwork.cli._rejects import GrowingRejects, NewRejects, Rejects, ToldRejects
from unitwork.cli._resuming import Position, Progress
from unitwork.cli._storing import Readable, Refused, Storing
from unitwork.cli._values import Rows, ValueRefusedError
from unitwork.errors import UnitworkError, lines

if TYPE_CHECKING:
    from unitwork.cli._reading import Found, Records
    from unitwork.cli._source import BrokenFileError
    from unitwork.database import Database

CHUNK_ROWS = 5_000

Tell = Callable[[str], object]


class RecordRefusedError(UnitworkError):
    """A record of the file cannot be stored, and nobody wants to go on without it."""

    def __init__(self, place: str, refused: Refused, column: str | None) -> None:
        super().__init__(place, refused, column)
        self.place = place
        self.refused = refused
        self.column = column

    def __str__(self) -> str:
        column = f", column {self.column!r}" if self.column else ""
        return (
            f"{self.place} cannot be stored: {self.refused.reason}.\n"
            f"  Record: {self.refused.record.row:,}{column}\n"
            "  Fix: correct it, or give --rejects FILE to go on without such lines."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What the command line asks for."""

    on_conflict: Any = "fail"
    key: tuple[str, ...] | None = None
    null: str = ""
    rename: Mapping[str, str] = field(default_factory=dict)
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


@dataclass(slots=True)
class Piece:
    """The records that are stored or rejected together."""

    rows: list[Readable] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    line: int = 0
    digest: str = ""

    @property
    def size(self) -> int:
        """How many records it has."""
        return len(self.rows) + len(self.refused)


class Loading:
    """One load of one file. Lives: one command."""

    def __init__(
        self, database: Database, entity: type[Any], records: Records, options: LoadOptions, tell: Tell
    ) -> None:
        self._database = database
        self._options = options
        self._records = records
        self._columns = Columns(records, Model.of(entity), options.rename)
        dialect = database.engine.dialect
        self._rows = Rows(entity, dialect, kind=records.kind, null=options.null)
        self._storing = Storing(database, entity, options.on_conflict, options.key)
        table = Model.of(entity).table.fullname
        self._progress = (
            Progress(options.resume, records.path, table, options.rejects) if options.resume else None
        )
        self._tell = tell
        self._rejects: Rejects | None = None
        self.summary = Summary(dry_run=options.dry_run)
        self._committed_to = 0
        """Where the last record begins that this run has stored or rejected, and committed."""

    async def run(self, on_progress: Callable[[int], object]) -> Summary:
        """Load the file; `on_progress` is told how many bytes were read."""
        started = time.perf_counter()
        if self._progress is not None:
            await self._progress.look(self._database)
        self._rejects = self._chosen_rejects()
        try:
            if self._progress is None or self._options.dry_run:
                await self._at_once(on_progress)
            else:
                await self._as_it_goes(self._progress, on_progress)
        finally:
            if self._rejects is not None:
                self._rejects.close()
        self.summary.stored = self._storing.stored
        self.summary.seconds = time.perf_counter() - started
        return self.summary

    def _chosen_rejects(self) -> Rejects | None:
        path, progress = self._options.rejects, self._progress
        if path is None:
            return None
        if self._options.dry_run:
            return ToldRejects(self._tell)
        if progress is None:
            return NewRejects(path)
        return GrowingRejects(path, progress.announce)

    async def _at_once(self, on_progress: Callable[[int], object]) -> None:
        """Store all of the file in one transaction, or nothing."""
        async with block(self._database, f"the load of {self._records.name}"):
            if self._options.dry_run:
                self._database.set_rollback_only()
            line = 0
            for piece in self._pieces():
                await self._store(piece)
                on_progress(self._records.read)
                line = piece.line
            self._columns.check_all_were_there()
            if self._rejects is not None:
                self._rejects.save()
            self._note_commit(line)

    async def _as_it_goes(self, progress: Progress, on_progress: Callable[[int], object]) -> None:
        """Store each piece in a transaction of its own, together with the position after it."""
        opened = False
        for piece in self._pieces():
            if not opened:
                await progress.open(self._database)
                opened = True
            async with block(self._database, f"the load of {self._records.name}") as session:
                await progress.lock(session)
                await self._store(piece)
                if self._rejects is not None:
                    self._rejects.save()
                position = Position(line=piece.line, digest=piece.digest)
                await progress.advance(session, position)
                self._note_commit(piece.line)
            progress.keep(position)
            on_progress(self._records.read)
        self._columns.check_all_were_there()
        await progress.close(self._database)

    def _note_commit(self, line: int) -> None:
        """Remember, once the block around this is committed, what is stored."""
        stored = self._storing.stored

        def has_committed() -> None:
            self.summary.stored, self._committed_to = stored, line

        self._database.on_commit(has_committed)

    def told_when_stopped(self) -> str:
        """Say what is stored and how to go on, after somebody has stopped the load."""
        name, summary = self._records.name, self.summary
        if summary.dry_run:
            return lines("Stopped: a dry run stores nothing.")
        if self._progress is None:
            if self._committed_to:
                return lines(f"Stopped when all of {name} was stored: {counted(summary.stored, 'row')}.")
            fix = "run it again; with --resume FILE a load commits as it goes, and can be gone on with."
            return lines(f"Stopped: nothing of {name} is stored.", f"Fix: {fix}")
        line = max(self._committed_to, self._progress.position.line)
        place = f"; {name} is done up to {self._records.unit.lower()} {line:,}" if line else ""
        return lines(
            f"Stopped: {counted(summary.stored, 'row')} stored by this command{place}.",
            "Fix: run the same command again to go on from there.",
        )

    async def _store(self, piece: Piece) -> None:
        """Store what can be stored of a piece, and reject the rest, in the order of the file."""
        goes_on = self._rejects is not None
        found = await self._storing.store(piece.rows, past_refused=goes_on)
        for refused in sorted([*piece.refused, *found], key=lambda each: each.record.row):
            if self._rejects is None:
                raise self._error(refused)
            self.summary.rejected += 1
            self._rejects.write(refused.record, refused.reason)

    def _error(self, refused: Refused) -> RecordRefusedError:
        records = self._records
        place = f"{records.unit} {refused.record.line:,} of {records.name}"
        return RecordRefusedError(place, refused, self._columns.named(refused.attribute))

    def _pieces(self) -> Iterator[Piece]:
        piece = Piece()
        for record in self._new_records():
            self.summary.read += 1
            judged = self._judged(record)
            if isinstance(judged, Readable):
                piece.rows.append(judged)
            elif self._rejects is None:
                raise self._error(judged)
            else:
                piece.refused.append(judged)
            piece.line, piece.digest = record.line, self._records.digest
            if piece.size >= CHUNK_ROWS:
                yield piece
                piece = Piece()
        if piece.size:
            yield piece

    def _judged(self, record: Found) -> Readable | Refused:
        if record.problem is not None:
            return Refused(record, None, record.problem)
        try:
            return Readable(record, self._rows.row(self._columns.attributes(record.values)))
        except ValueRefusedError as error:
            return Refused(record, error.attribute, error.problem)

    def _new_records(self) -> Iterator[Found]:
        """Yield the records after the position, if the file is still the one that it was noted for."""
        progress = self._progress
        before = progress.position if progress is not None else Position()
        passed = before.line == 0
        for record in self._records:
            if passed:
                yield record
            elif record.line < before.line:
                self.summary.skipped += 1
            elif record.line == before.line and before.digest in ("", self._records.digest):
                self.summary.skipped += 1
                passed = True
            else:
                break
        if progress is None or passed:
            return
        if not (progress.complete and progress.is_renamed):
            raise progress.other_file(before.line)
        self.summary.skipped = 0
        progress.begin_anew()
        yield from self._new_records()


class Columns:
    """What the columns of a file are called, and which attributes they mean. Lives: one load."""

    def __init__(self, records: Records, model: Model, rename: Mapping[str, str]) -> None:
        self._records = records
        self._model = model
        self._rename = rename
        self._unseen = set(rename)
        self._seen: dict[str, None] = {}
        """What the columns, or the members of the records, are called; in the order that they come in."""
        records.check_names = self._check

    def _check(self, names: Sequence[str]) -> None:
        """Refuse a header that is not about this model, before anything is stored."""
        line = 1 if self._records.unit == "Line" else None
        seen: dict[str, str] = {}
        self._note_names(names)
        self.check_all_were_there()
        for name in names:
            attribute = self._rename.get(name, name)
            if not name and name not in self._rename:
                problem = "names no column between two commas"
                raise self._records.broken(line, problem, "name it, or give --rename = to leave such out")
            if not attribute:
                continue
            if attribute in seen:
                raise self._twice(line, seen[attribute], name)
            if attribute not in self._model.fields:
                raise self._unknown(line, name, attribute)
            seen[attribute] = name

    def _twice(self, line: int | None, first: str, second: str) -> BrokenFileError:
        if first == second:
            problem, fix = f"names {first!r} twice", "leave one of them out of the file"
        else:
            attribute = self._rename.get(first, first)
            problem = f"has two columns for attribute {attribute!r}: {first!r} and {second!r}"
            fix = f"leave one of them out: --rename '{first}='"
        return self._records.broken(line, problem, fix)

    def _unknown(self, line: int | None, name: str, attribute: str) -> BrokenFileError:
        entity = self._model.entity.__name__
        return self._records.broken(
            line,
            f"cannot be stored: {attribute}: is no attribute of {entity}",
            f"--rename '{name}={self._near(name)}', or '{name}=' to leave it out; {entity} has"
            f" {', '.join(self._model.fields)}",
        )

    def _near(self, name: str) -> str:
        """Return the attribute that a column may be meant for, however it is written."""
        known = {_letters(each): each for each in self._model.fields}
        return next(
            (known[each] for each in difflib.get_close_matches(_letters(name), known, 1)), "ATTRIBUTE"
        )

    def check_all_were_there(self) -> None:
        """Refuse a `--rename` of what no column and no record is called.

        Raises:
            BrokenFileError: Names it.
        """
        if self._unseen:
            name = min(self._unseen)
            fix = f"write it as the file does, which has {', '.join(map(repr, self._seen)) or 'nothing'}"
            raise self._records.broken(None, f"has no {name!r}, which --rename speaks of", fix)

    def attributes(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the values of a record by attribute.

        Raises:
            ValueRefusedError: Two of them are for one attribute.
        """
        if not self._rename:
            return values
        self._note_names(values)
        found: dict[str, Any] = {}
        for name, value in values.items():
            attribute = self._rename.get(name, name)
            if attribute in found:
                raise ValueRefusedError(attribute, "has two values, one of them by --rename")
            if attribute:
                found[attribute] = value
        return found

    def _note_names(self, names: Iterable[str]) -> None:
        if self._unseen:
            self._unseen.difference_update(names)
            self._seen |= dict.fromkeys(names)

    def named(self, attribute: str | None) -> str | None:
        """Return what the file calls an attribute."""
        names = (old for old, new in self._rename.items() if new and new == attribute)
        return next(names, attribute)


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()
