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

    def save(self) -> int:
        """Make what was taken outlast this process; called before the rows beside it are committed.

        Returns:
            The bytes that are in the file now.
        """
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

    def save(self) -> int:
        """Put the file in its place. Without a reject there is none, unless an old one would mislead."""
        if self._path.exists():
            self._opened()
        if self._new is not None:
            self._new.__exit__(None, None, None)
            self._new = None
        return 0

    def close(self) -> None:
        """Remove what was not saved."""
        if self._new is not None:
            stopped = InterruptedError()
            self._new.__exit__(type(stopped), stopped, None)


class GrowingRejects:
    """The rejects of a load that commits as it goes; what a killed one has written in vain is cut off."""

    def __init__(self, path: Path, kept_bytes: int) -> None:
        self._path = path
        self._kept = kept_bytes
        self._file: IO[bytes] | None = None

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = self._path.open("r+b" if self._path.exists() else "w+b")
            # Somebody may have taken out of it what is corrected: then all that is there stays.
            if self._file.seek(0, os.SEEK_END) > self._kept:
                self._file.truncate(self._kept)
                self._file.seek(0, os.SEEK_END)
        return self._file

    def write(self, record: Found, reason: str) -> None:
        """Take one record."""
        file = self._opened()
        if file.tell() == 0:
            file.write(_line(_HEADER))
        file.write(_line_of(record, reason))

    def save(self) -> int:
        """Write all to the disk."""
        if self._file is None and not self._path.exists():
            return 0
        file = self._opened()
        file.flush()
        os.fsync(file.fileno())
        return file.tell()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


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

    def save(self) -> int:
        """Tell how many were not told."""
        if self._count > _TOLD:
            self._tell(f"Would reject {self._count - _TOLD:,} more.")
        return 0

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
