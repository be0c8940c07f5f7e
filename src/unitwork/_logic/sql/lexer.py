"""This module cuts SQL text into tokens, by the rules of SQLite, PostgreSQL, or MariaDB and MySQL."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple


class Kind(enum.Enum):
    """What a token is."""

    BLANK = enum.auto()
    COMMENT = enum.auto()
    HINT = enum.auto()
    """A comment that the database reads: `/*+ … */`, and on MySQL the edges of `/*! … */`."""
    STRING = enum.auto()
    NAME = enum.auto()
    """A name in quotes."""
    WORD = enum.auto()
    """A keyword, or a name without quotes."""
    NUMBER = enum.auto()
    BIND = enum.auto()
    """A parameter, `:name`."""
    SYMBOL = enum.auto()
    OPEN = enum.auto()
    """Quotes or a comment without an end: the rest of the text."""


class Token(NamedTuple):
    """One piece of SQL text; all pieces together are the text."""

    kind: Kind
    text: str
    start: int
    upper: str
    """A word or symbol in capital letters; empty for what is neither."""

    @property
    def end(self) -> int:
        """Where the next token begins."""
        return self.start + len(self.text)

    @property
    def significant(self) -> bool:
        """Whether it means something to the database."""
        return self.kind not in (Kind.BLANK, Kind.COMMENT, Kind.HINT)

    @property
    def is_name(self) -> bool:
        """Whether it may be the name of something."""
        return self.kind in (Kind.NAME, Kind.WORD)

    @property
    def name(self) -> str:
        """What a name or a parameter is called, without quotes or colon."""
        if self.kind is Kind.BIND:
            return self.text[1:]
        if self.kind is not Kind.NAME:
            return self.text
        quote = self.text[-1]
        inner = self.text[self.text.index("[" if quote == "]" else quote) + 1 : -1]
        return inner if quote == "]" else inner.replace(quote * 2, quote)


class Grammar(NamedTuple):
    """How one kind of database cuts text. Lives: as long as the program."""

    name: str
    parts: tuple[str, ...]
    nests_comments: bool = False

    @property
    def pattern(self) -> re.Pattern[str]:
        """What a token looks like."""
        return _pattern(self.parts)


_PLAIN = r"'(?:[^']|'')*+'"
_ESCAPED = r"'(?:[^'\\]|\\.|'')*+'"
_DOUBLE = r'"(?:[^"]|"")*+"'
_TICKS = r"`(?:[^`]|``)*+`"
_LINE = r"--[^\n]*"
# The backslashes of an E'' string count behind the end of a line too, where it goes on, even without an end.
_NEXT_LINE = rf"[^\S\n]*(?:{_LINE})?\n(?:\s|{_LINE}\n)*"
_MORE_LINES = rf"(?:{_NEXT_LINE}{_ESCAPED})*+(?!{_NEXT_LINE}')"
_COMMON = (
    r"(?P<NUMBER>0[xX][0-9a-fA-F]+|(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)",
    # As SQLAlchemy's: `1:n` and `a\\:b` hold no parameter. Unlike there, `:name::int` does.
    r"(?P<BIND>(?<![:\w$\\]):[^\W\d]\w*)",
    r"(?P<WORD>[^\W\d][\w$]*)",
    r"(?P<SYMBOL>::|:=|\|\||<=>|->>|->|<>|[<>!=]=|.)",
)


@cache
def _pattern(parts: tuple[str, ...]) -> re.Pattern[str]:
    """Compile it for the first text: that takes long, and a program needs one grammar of three."""
    return re.compile("|".join([r"(?P<BLANK>\s+)", *parts, *_COMMON]), re.DOTALL)


SQLITE = Grammar(
    "sqlite",
    (
        rf"(?P<COMMENT>/\*.*?(?:\*/|\Z)|{_LINE})",
        rf"(?P<STRING>[xX]?{_PLAIN})",
        rf"(?P<NAME>{_DOUBLE}|{_TICKS}|\[[^\]]*\])",
        r"(?P<OPEN>['\"`\[].*)",
    ),
)
POSTGRESQL = Grammar(
    "postgresql",
    (
        rf"(?P<COMMENT>/\*|{_LINE})",
        (
            rf"(?P<STRING>[eE]{_ESCAPED}{_MORE_LINES}|(?:[bBxXnN]|[uU]&)?{_PLAIN}"
            r"|(?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag))"
        ),
        rf"(?P<NAME>(?:[uU]&)?{_DOUBLE})",
        r"(?P<OPEN>(?:[eE]?'|\"|\$(?:[^\W\d]\w*)?\$).*)",
    ),
    nests_comments=True,
)
MYSQL = Grammar(
    "mysql",
    (
        # What stands between the edges of `/*! … */` is run.
        r"(?P<HINT>/\*M?!\d*|\*/|/\*\+.*?\*/)",
        r"(?P<COMMENT>/\*.*?\*/|--(?=\s|\Z)[^\n]*|\#[^\n]*)",
        rf"(?P<STRING>[xXbBnN]?{_ESCAPED}|" + r'"(?:[^"\\]|\\.|"")*+")',
        rf"(?P<NAME>{_TICKS})",
        r"(?P<OPEN>(?:['\"`]|/\*).*)",
    ),
)
GRAMMARS = (POSTGRESQL, SQLITE, MYSQL)
"""All that are known; the first is nearest to the standard."""

_BY_DIALECT = {grammar.name: grammar for grammar in GRAMMARS} | {"mariadb": MYSQL}
_EDGE = re.compile(r"/\*|\*/")


def grammars_of(dialect: str | None) -> tuple[Grammar, ...]:
    """Return how a dialect of SQLAlchemy reads text; all ways, if that is not known."""
    known = _BY_DIALECT.get(dialect or "")
    return GRAMMARS if known is None else (known,)


def tokens(sql: str, grammar: Grammar) -> Iterator[Token]:
    """Cut text into tokens. Never fails: what the database would refuse is cut somehow."""
    position, hints = 0, 0
    while position < len(sql):
        token = _token(sql, position, grammar)
        if token.kind is Kind.HINT and token.text.startswith(("/*!", "/*M!")):
            hints += 1
        elif token.kind is Kind.HINT and token.text == "*/":
            if not hints:  # `2*/* two */3`
                token = _made(Kind.SYMBOL, "*", position)
            hints = max(hints - 1, 0)
        yield token
        position = token.end


def _made(kind: Kind, text: str, start: int) -> Token:
    return Token(kind, text, start, text.upper() if kind is Kind.WORD or kind is Kind.SYMBOL else "")


def _token(sql: str, start: int, grammar: Grammar) -> Token:
    match = grammar.pattern.match(sql, start)
    assert match is not None  # noqa: S101  # the last symbol is any character
    text = match.group()
    if not (grammar.nests_comments and text == "/*"):
        return _made(Kind[match.lastgroup or ""], text, start)
    end = _end_of_nested(sql, start)
    if end is None:
        return _made(Kind.OPEN, sql[start:], start)
    kind = Kind.HINT if sql.startswith("/*+", start) else Kind.COMMENT
    return _made(kind, sql[start:end], start)


def _end_of_nested(sql: str, start: int) -> int | None:
    depth = 0
    for edge in _EDGE.finditer(sql, start):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return None
