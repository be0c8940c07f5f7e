"""This module writes the records that were not stored to a file: line, reason, and the record."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from unitwork.cli._files import NewFile

if TYPE_CHECKING:
    from unitwork.cli._reading import Found

_HEADER = ["line", "reason", "record"]
_TOLD = 20


class Rejects(Protocol):
    """Takes the records that were not stored. Lives: one load."""

    def write(self, record: Found, reason: str) -> None:
        """Take one record."""
        ...

    def save(self) -> None:
        """Make what was taken outlast this process; called before the rows beside it are committed."""
        ...

    def close(self) -> None:
        """Let go of the file; what was not saved is lost."""
        ...


class NewRejects:
    """The rejects of a load that stores all at once: a file that is there when the load is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new: NewFile | None = None
        self._file: IO[bytes] | None = None

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._new = NewFile(self._path)
            self._file = self._new.__enter__()
            self._file.write(_line(_HEADER))
        return self._file

    def write(self, record: Found, reason: str) -> None:
        """Take one record."""
        self._opened().write(_line_of(record, reason))

    def save(self) -> None:
        """Put the file in its place. Without a reject there is none, unless an old one would mislead."""
        if self._path.exists():
            self._opened()
        if self._new is not None:
            self._new.__exit__(None, None, None)
            self._new = None

    def close(self) -> None:
        """Remove what was not saved."""
        if self._new is not None:
            stopped = InterruptedError()
            self._new.__exit__(type(stopped), stopped, None)


Announce = Callable[[Path, int, bytes], object]
"""Is told what is about to be written to which file, and after how many bytes of it."""


class GrowingRejects:
    """The rejects of a load that commits as it goes: they are added to what is in the file.

    What is about to be added is announced, so that the next load can take out again what belongs to
    rows that were never committed (`withdraw`), and nothing that somebody else has written.
    """

    def __init__(self, path: Path, announce: Announce) -> None:
        self._path = path
        self._announce = announce
        self._waiting: list[bytes] = []

    def write(self, record: Found, reason: str) -> None:
        """Take one record."""
        self._waiting.append(_line_of(record, reason))

    def save(self) -> None:
        """Write all to the disk."""
        if not self._waiting:
            return
        with self._path.open("ab") as file:
            if file.seek(0, os.SEEK_END) == 0:
                file.write(_line(_HEADER))
            added = b"".join(self._waiting)
            self._announce(self._path, file.tell(), added)
            file.write(added)
            file.flush()
            os.fsync(file.fileno())
        self._waiting.clear()

    def close(self) -> None:
        """What was not saved is lost."""
        self._waiting.clear()


def withdraw(path: Path, at: int, added: bytes) -> None:
    """Take out of a file what was announced, as far as it was written; all else stays."""
    if not path.is_file():
        return
    content = path.read_bytes()
    if len(content) >= at and added.startswith(content[at:]):
        kept = content[:at]
    else:
        # Somebody has added lines, or taken out what is corrected.
        place = at if content.startswith(added, at) else content.rfind(added)
        kept = content if place < 0 else content[:place] + content[place + len(added) :]
    if kept != content:
        with NewFile(path) as file:
            file.write(kept)


class ToldRejects:
    """The rejects of a dry run, which writes no file: the first of them are told."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._count = 0

    def write(self, record: Found, reason: str) -> None:
        """Take one record."""
        self._count += 1
        if self._count <= _TOLD:
            self._tell(f"Would reject line {record.line:,}: {reason}.")

    def save(self) -> None:
        """Tell how many were not told."""
        if self._count > _TOLD:
            self._tell(f"Would reject {self._count - _TOLD:,} more.")

    def close(self) -> None:
        """Nothing is open."""


def _line_of(record: Found, reason: str) -> bytes:
    return _line([record.line, reason, record.text if record.text is not None else _as_json(record.values)])


def _as_json(values: dict[str, Any]) -> str:
    try:
        return json.dumps(values, ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        return str(values)


def _line(fields: list[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(fields)
    # Half of a surrogate pair is no text; its escape is one, and in JSON it means the same.
    return text.getvalue().encode("utf-8", "backslashreplace")
