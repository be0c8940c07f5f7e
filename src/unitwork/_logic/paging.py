"""This module holds pages: what is asked for, what comes back, and the cursors between them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from unitwork._logic.values.classes import CLASSES
from unitwork.errors import CursorError, OptionError

__all__ = ["CursorPage", "CursorRequest", "Page", "PageRequest", "Sort"]

T = TypeVar("T")

LARGEST_PAGE = 1_000
_DIRECTIONS = ("ASC", "DESC")
_SIGNATURE_BYTES = 16
_LARGEST_OFFSET = 2**63 - 1
_SHOWN_CHARACTERS = 60


def shortened(value: object) -> object:
    """Return a value that came from outside, not longer than an error message can bear."""
    return value[:_SHOWN_CHARACTERS] if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Sort:
    """Sort by an attribute, "ASC" (as by default) or "DESC".

    Raises:
        OptionError: The direction is neither.
    """

    field: str
    direction: str = "ASC"

    def __post_init__(self) -> None:
        if str(self.direction).upper() not in _DIRECTIONS:
            raise OptionError("direction", shortened(self.direction), ["'ASC'", "'DESC'"])

    @property
    def descending(self) -> bool:
        """Whether large values come first."""
        return self.direction.upper() == "DESC"


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Ask for one page.

    Args:
        page: Number of the page, from 0.
        size: Rows per page, from 1 to `largest`.
        sorts: Attributes to sort by; the primary key is added to make the order complete.
        count: False skips the second statement that counts all rows.
        largest: The largest size that is allowed here.

    Raises:
        OptionError: A number is out of range.

    Examples:
        >>> PageRequest(page=2, size=20).offset
        40
    """

    page: int = 0
    size: int = 20
    sorts: Sequence[Sort] = field(default_factory=tuple)
    count: bool = True
    largest: int = LARGEST_PAGE

    def __post_init__(self) -> None:
        _check_size(self.size, self.largest)
        last = _LARGEST_OFFSET // self.size
        if not _is_number(self.page) or not 0 <= self.page <= last:
            raise OptionError("page", shortened(self.page), [f"a number from 0 to {last}"])

    @property
    def offset(self) -> int:
        """Rows before this page."""
        return self.page * self.size


@dataclass(frozen=True, slots=True)
class CursorRequest:
    """Ask for the page after or before a cursor that an earlier page gave.

    Args:
        cursor: `next_cursor` or `previous_cursor` of a page, or None for the first page.
        size: Rows per page, from 1 to `largest`.
        sorts: Attributes to sort by; must be the same for all pages of one walk.
        largest: The largest size that is allowed here.

    Raises:
        OptionError: The size is out of range.
    """

    cursor: str | None = None
    size: int = 20
    sorts: Sequence[Sort] = field(default_factory=tuple)
    largest: int = LARGEST_PAGE

    def __post_init__(self) -> None:
        _check_size(self.size, self.largest)


def _check_size(size: int, largest: int) -> None:
    if not _is_number(size) or not 1 <= size <= largest:
        raise OptionError("size", shortened(size), [f"a number from 1 to {largest}"])


def _check_number(name: str, value: object, least: int) -> None:
    if not _is_number(value) or value < least:  # type: ignore[operator]  # a number, then
        raise OptionError(name, shortened(value), [f"a number from {least}"])


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page. `total_elements` counts the rows of all pages; None if the count was skipped.

    Raises:
        OptionError: A number is out of range; a page without rows has a size too.

    Examples:
        >>> page = Page(content=["x"], total_elements=41, page=2, size=20)
        >>> page.total_pages, page.is_first, page.is_last
        (3, False, True)
    """

    content: Sequence[T]
    total_elements: int | None
    page: int
    size: int
    has_more: bool = False
    """Whether rows come after this page."""

    def __post_init__(self) -> None:
        _check_number("size", self.size, 1)
        _check_number("page", self.page, 0)
        if self.total_elements is not None:
            _check_number("total_elements", self.total_elements, 0)

    @property
    def total_pages(self) -> int | None:
        """How many pages there are; None if the count was skipped."""
        return None if self.total_elements is None else -(-self.total_elements // self.size)

    @property
    def is_first(self) -> bool:
        """Whether no page comes before."""
        return self.page == 0

    @property
    def is_last(self) -> bool:
        """Whether no page comes after."""
        if self.total_pages is None:
            return not self.has_more
        return self.page + 1 >= self.total_pages


@dataclass(frozen=True, slots=True)
class CursorPage(Generic[T]):
    """One page of a walk. A cursor is None where there is no page to go to."""

    content: Sequence[T]
    next_cursor: str | None
    previous_cursor: str | None
    size: int


class Position(NamedTuple):
    """Where a cursor points: the sort values of one row, and the direction of the walk."""

    forward: bool
    values: tuple[Any, ...]


def signing_key(address: str) -> bytes:
    """Return the key that signs the cursors of the database at this address."""
    return hashlib.sha256(f"unitwork cursor {address}".encode()).digest()


class UnorderedValueError(Exception):
    """A value cannot be written into a cursor; the text is its type."""


class CursorCodec:
    """Writes and reads the cursors of one query; others are refused. Lives: one call."""

    def __init__(self, key: bytes, query: str, sorts: Sequence[Sort]) -> None:
        order = ",".join(f"{sort.field} {sort.direction.upper()}" for sort in sorts)
        self._key = key
        self._query = query
        self._order = order

    def write(self, position: Position) -> str:
        """Return an opaque text that leads to this position."""
        payload = json.dumps(
            [int(position.forward), [_to_json(value) for value in position.values]], separators=(",", ":")
        ).encode()
        return _as_text(self._signature(payload) + payload)

    def read(self, cursor: str) -> Position:
        """Return the position that a text leads to.

        Raises:
            CursorError: It was changed, or belongs to another query or another order.
        """
        try:
            raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except (binascii.Error, ValueError, TypeError) as error:
            raise CursorError(self._query) from error
        signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        # The decoder passes over what it does not know; one position has one text.
        genuine = hmac.compare_digest(signature, self._signature(payload))
        if not genuine or _as_text(raw) != cursor:
            raise CursorError(self._query)
        forward, values = json.loads(payload)
        return Position(bool(forward), tuple(_from_json(value) for value in values))

    def _signature(self, payload: bytes) -> bytes:
        about = f"{self._query}|{self._order}|".encode()
        return hmac.new(self._key, about + payload, hashlib.sha256).digest()[:_SIGNATURE_BYTES]


def _as_text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


_TAGGED = {known.kind: known for known in CLASSES.values() if known.tag}
_READERS = {known.tag: known.read for known in _TAGGED.values()}


def _to_json(value: object) -> object:
    if value is None or type(value) in (str, int, float, bool):
        return value
    for kind, known in _TAGGED.items():
        if isinstance(value, kind):
            return [known.tag, known.text(value)]
    raise UnorderedValueError(type(value).__name__)


def _from_json(value: object) -> object:
    if isinstance(value, list):
        tag, text = value
        return _READERS[tag](text)
    return value
