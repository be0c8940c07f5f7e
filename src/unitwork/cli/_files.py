"""This module opens the files of `load` and `dump`: what is written appears whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from types import TracebackType

FORMATS = ("csv", "jsonl", "parquet")
STANDARD = "-"
"""The name that stands for stdin and stdout."""
_ENDINGS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


def format_of(path: str, chosen: str | None) -> str:
    """Return the format of a file, by its name if none was chosen.

    Raises:
        click.UsageError: The name does not tell.
    """
    found = chosen or _ENDINGS.get(Path(path).suffix.lower())
    if found is None:
        raise click.UsageError(f"What is in {path!r}? Give --format {'|'.join(FORMATS)}.")
    return found


def opened(path: str) -> IO[bytes]:
    """Open a file for reading, or stdin."""
    return sys.stdin.buffer if path == STANDARD else Path(path).open("rb")


class NewFile:
    """A file that takes the place of the old one when the block ends well. Lives: one block.

    It is written beside its target and renamed, so that nobody ever sees half of it, and the old one
    stays when something fails. A pipe or a device has no other place, and is written straight away.
    What a program that was killed has left beside the target goes with the next one that writes there.
    """

    def __init__(self, path: str | Path) -> None:
        # A link keeps pointing to its file.
        self._path = Path(os.path.realpath(path)) if str(path) != STANDARD else None
        self._beside: Path | None = None
        self._file: IO[bytes] | None = None

    def __enter__(self) -> IO[bytes]:
        if self._path is None:
            file: IO[bytes] = sys.stdout.buffer
        elif self._path.exists() and not self._path.is_file():
            file = self._path.open("wb")
        else:
            self._beside, file = _beside(self._path)
            if self._path.exists():
                self._beside.chmod(stat.S_IMODE(self._path.stat().st_mode))
        self._file = file
        return file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        try:
            self._file.flush()
            if error is None and self._path is not None and self._beside is not None:
                os.fsync(self._file.fileno())
                self._beside.replace(self._path)
                sync_folder(self._path.parent)
                self._beside = None
        finally:
            if self._path is not None:
                self._file.close()
            if self._beside is not None:
                self._beside.unlink(missing_ok=True)


def _beside(path: Path) -> tuple[Path, IO[bytes]]:
    """Open a new file beside a target, and remove what nobody uses any more of those that were there."""
    begins = f".unitwork-{hashlib.sha256(path.name.encode()).hexdigest()[:12]}-"
    for left in path.parent.glob(f"{begins}*"):
        with suppress(OSError), left.open("rb") as unused:
            if _is_ours(unused):
                left.unlink()
    while True:
        new = path.with_name(f"{begins}{secrets.token_hex(6)}")
        try:
            file = new.open("xb")
        except OSError as error:
            # The name that a person knows.
            raise type(error)(error.errno, error.strerror, str(path)) from None
        # Somebody else may have taken it for one that is not used, in the moment between.
        if _is_ours(file) is not False and new.exists():
            return new, file
        file.close()


def _is_ours(file: IO[bytes]) -> bool | None:
    """Mark an open file as used, until this program ends, however it does; False if another uses it.

    None where a system or a file system knows no such marks: then nothing is known of any file.
    """
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder outlast a loss of power."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_text(path: Path, text: str) -> None:
    """Replace what is in a file, all of it or nothing."""
    with NewFile(path) as file:
        file.write(text.encode())
