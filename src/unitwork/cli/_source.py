"""This module reads files as lines of text, whatever is in them, and tells one file from another."""

from __future__ import annotations

import codecs
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from unitwork.cli._files import STANDARD, opened
from unitwork.errors import UnitworkError

_LINE_ENDS = (b"\r\n", b"\n", b"\r")
LONGEST_LINE = 2**30
"""Bytes of one line. A file that has no line ends at all must not fill the memory."""


class BrokenFileError(UnitworkError):
    """A file cannot be read, or not beyond this line."""

    def __init__(self, path: str, line: int | None, problem: str, fix: str) -> None:
        super().__init__(path, line, problem, fix)
        self.path = path
        self.line = line
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        place = f"Line {self.line:,} of {self.path}" if self.line else self.path
        return f"{place} {self.problem}.\n  Fix: {self.fix}."


class Source:
    """A file that is read from its beginning to its end, or stdin. Lives: one command."""

    def __init__(self, path: str, encoding: str) -> None:
        self.path = path
        self.encoding = encoding
        self.size = Path(path).stat().st_size if path != STANDARD else None
        self.begin()

    def begin(self) -> None:
        """Count from the beginning."""
        self.read = 0
        """Bytes read so far."""
        self._digest = hashlib.blake2b(digest_size=16)
        self._line_end = b""

    @property
    def name(self) -> str:
        """What a person calls it."""
        return "stdin" if self.path == STANDARD else self.path

    @property
    def digest(self) -> str:
        """What tells this file, as far as it was read, from any other.

        The end of the last line does not count: a file that grows may not have had one yet.
        """
        return self._digest.hexdigest()

    def note(self, piece: bytes) -> None:
        """Count a piece of the file as read."""
        end = next((end for end in _LINE_ENDS if piece.endswith(end)), b"")
        self._digest.update(self._line_end + piece.removesuffix(end))
        self._line_end = end

    def broken(self, line: int | None, problem: str, fix: str) -> BrokenFileError:
        """Return the error that ends the reading."""
        return BrokenFileError(self.name, line, problem, fix)

    def lines(self) -> Iterator[str]:
        """Yield the lines, each with its end; what cannot be decoded as `Undecodable`.

        Raises:
            BrokenFileError: A line never ends, or nothing after a place can be decoded.
        """
        file = opened(self.path)
        try:
            yield from _lines(self, file) if _keeps_ascii(self.encoding) else _recoded_lines(self, file)
        finally:
            if self.path != STANDARD:
                file.close()


class Undecodable(str):
    """A line that is not written in the encoding; what it is as far as it can be shown."""

    __slots__ = ("problem",)
    problem: str


def _lines(source: Source, file: IO[bytes]) -> Iterator[str]:
    """Yield the lines of a file, each with its end; what cannot be decoded as `Undecodable`."""
    encoding = source.encoding
    for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
        if len(raw) >= LONGEST_LINE:
            raise source.broken(
                number, f"has more than {LONGEST_LINE:,} bytes", "name a file of text with line ends"
            )
        source.read += len(raw)
        source.note(raw)
        line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 and encoding == "utf-8" else raw
        try:
            yield line.decode(encoding)
        except UnicodeError as error:
            shown = Undecodable(line.decode(encoding, "backslashreplace"))
            shown.problem = _why(error, encoding)
            yield shown


def _why(error: UnicodeError, encoding: str) -> str:
    if not isinstance(error, UnicodeDecodeError):
        return f"is not written in {encoding}"
    return f"is not written in {encoding} (byte {error.start + 1:,} is 0x{error.object[error.start]:02x})"


def _keeps_ascii(encoding: str) -> bool:
    """Say whether line ends are single bytes, so that each line is decoded alone."""
    try:
        return '\n,"a0{'.encode(encoding) == b'\n,"a0{'
    except UnicodeError:
        return False


def _recoded_lines(source: Source, file: IO[bytes]) -> Iterator[str]:
    """Yield the lines of a file such as UTF-16, where one bad byte spoils all that follows."""

    class Counting(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:  # noqa: ANN401  # any buffer
            piece = file.read(len(buffer))
            buffer[: len(piece)] = piece
            source.read += len(piece)
            return len(piece)

    number = 0
    # Line ends stay as they are: they may be part of a value.
    with io.TextIOWrapper(io.BufferedReader(Counting()), encoding=source.encoding, newline="\n") as text:
        try:
            while line := text.readline(LONGEST_LINE):
                number += 1
                source.note(line.encode("utf-8", "surrogatepass"))
                yield line
        except UnicodeError as error:
            problem = _why(error, source.encoding)
            raise source.broken(number + 1, problem, "give the --encoding that it is written in") from None
