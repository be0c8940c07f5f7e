"""This module takes the text of SQLite's CREATE TABLE apart, and puts it together again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeAlias

__all__: list[str] = []

_TOKEN = re.compile(
    r"""(?P<gap>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<text>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
    |(?P<word>[^\W\d][\w$]*)
    |(?P<sign>\d[\w.]*|.)""",
    re.VERBOSE | re.DOTALL,
)
_TABLE_CLAUSES = frozenset({"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"})
_COLUMN_CLAUSES = _TABLE_CLAUSES - {"FOREIGN"} | {
    *("NOT", "NULL", "DEFAULT", "COLLATE", "REFERENCES", "GENERATED", "AS")
}
_KINDS = {"PRIMARY": "PRIMARY KEY", "NOT": "NOT NULL", "FOREIGN": "FOREIGN KEY", "AS": "GENERATED"}
# What may stand before NULL, DEFAULT and AS without ending the clause it is in.
_GOES_ON = {"NULL": {"NOT", "SET", "DEFAULT"}, "DEFAULT": {"SET"}, "AS": {"ALWAYS"}}


class UnreadableError(Exception):
    """Such a text is not understood."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word, name, text or sign of SQL, at its place."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + len(self.text)

    @property
    def keyword(self) -> str:
        """The word in capitals; nothing for quoted names and signs."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        """The name that it is, in small letters and without quotes."""
        text = self.text.lower()
        if self.kind in {"quoted", "text"}:
            return text[1:-1].replace(text[-1] * 2, text[-1])
        return text


_Tokens: TypeAlias = "Sequence[Token]"


@dataclass(frozen=True, slots=True)
class Clause:
    """A constraint or another property, of a column or of the table."""

    kind: str
    text: str
    name: str | None = None
    columns: tuple[str, ...] = ()
    """Whose key, reference or uniqueness it is, in small letters."""
    refers_to: tuple[str, tuple[str, ...]] = ("", ())
    words: frozenset[str] = frozenset()
    """All names in it."""
    meaning: str = ""
    """Its text without its name, and without what makes no difference."""


@dataclass(slots=True)
class StoredColumn:
    """A column as it was written."""

    name: str
    written: str
    """The name with its quotes."""
    type: str
    clauses: list[Clause]
    text: str | None = None
    """The whole of it as long as nothing was changed."""

    def of_kind(self, *kinds: str) -> list[Clause]:
        """Return its clauses of these kinds."""
        return [each for each in self.clauses if each.kind in kinds]

    def without(self, clauses: Iterable[Clause]) -> None:
        """Take clauses away."""
        gone = list(clauses)
        if gone:
            self.clauses = [each for each in self.clauses if each not in gone]
            self.text = None

    def put(self, kind: str, text: str | None) -> None:
        """Have this as the only clause of the kind; without a text, none."""
        self.without(self.of_kind(kind))
        if text is not None:
            self.clauses.append(Clause(kind, text))
            self.text = None

    def __str__(self) -> str:
        if self.text is not None:
            return self.text
        parts = [part for part in (self.written, self.type, *(each.text for each in self.clauses)) if part]
        # A comment to the end of the line would take the next part with it.
        ends = ["\n" if "--" in part.rpartition("\n")[2] else " " for part in parts]
        return "".join(part + end for part, end in zip(parts, ends, strict=True)).rstrip()


@dataclass(slots=True)
class StoredTable:
    """A table as it was written: columns by their names in small letters, constraints, and the end."""

    columns: dict[str, StoredColumn]
    constraints: list[Clause]
    options: str
    added: list[str] = field(default_factory=list)

    def clauses(self) -> list[Clause]:
        """Return all constraints, those of columns too."""
        return [*self.constraints, *(each for column in self.columns.values() for each in column.clauses)]

    def remove(self, clause: Clause) -> None:
        """Take a constraint away, wherever it stands."""
        self.constraints = [each for each in self.constraints if each is not clause]
        for column in self.columns.values():
            column.without([each for each in column.clauses if each is clause])

    def create(self, table: str, columns: Iterable[str]) -> str:
        """Return the statement that creates such a table with these columns, both as SQL writes them."""
        parts = [*columns, *(each.text for each in self.constraints), *self.added]
        body = "\n, ".join(parts)
        return f"CREATE TABLE {table} (\n  {body}\n){self.options}"


def read_table(sql: str) -> StoredTable:
    """Take a CREATE TABLE apart.

    Raises:
        UnreadableError: It is none, or one that is not understood.
    """
    tokens = list(tokens_of(sql))
    first = [each.keyword for each in tokens[:2]]
    opened = next((place for place, token in enumerate(tokens) if token.text == "("), None)
    if first != ["CREATE", "TABLE"] or opened is None:
        raise UnreadableError(sql)
    items, closed = _items(tokens, opened)
    table = StoredTable({}, [], sql[closed.end :])
    for item, start, end in items:
        # Comments before and after it are in there.
        text = sql[start:end]
        here = [replace(token, start=token.start - start) for token in item]
        if here[0].keyword in _TABLE_CLAUSES:
            table.constraints += _clauses(text, here, _TABLE_CLAUSES, ())
        else:
            column = _column(text, here, _COLUMN_CLAUSES)
            column.text = text.strip()
            table.columns[column.name] = column
    return table


def read_column(text: str, words: frozenset[str] = _COLUMN_CLAUSES) -> StoredColumn:
    """Take a column apart, as it stands in a CREATE TABLE; clauses begin with these words."""
    return _column(text, list(tokens_of(text)), words)


def tokens_of(sql: str) -> Iterator[Token]:
    """Return the words, names, texts and signs of an SQL text, without blanks and comments."""
    for found in _TOKEN.finditer(sql):
        if found.lastgroup != "gap":
            yield Token(str(found.lastgroup), found.group(), found.start())


def names_in(sql: str) -> frozenset[str]:
    """Return all names and words of an SQL text, in small letters."""
    return frozenset(each.name for each in tokens_of(sql) if each.kind in {"word", "quoted"})


def in_schema(sql: str, kind: str, prefix: str) -> str:
    """Return the text that creates an index, trigger or view so that it comes into a schema.

    Args:
        sql: The text as SQLite stores it, which names no schema.
        kind: "index", "trigger" or "view".
        prefix: What stands before names in the schema, with the dot; or nothing.
    """
    if not prefix:
        return sql
    end = next(each.end for each in tokens_of(sql) if each.keyword == kind.upper())
    return f"{sql[:end]} {prefix}{sql[end:].lstrip()}"


def in_brackets(sql: str) -> str:
    """Return an SQL text in which SQLite cannot take names in double quotes for texts."""
    parts, since = [], 0
    for token in tokens_of(sql):
        if token.text.startswith('"') and "]" not in token.text:
            parts += [sql[since : token.start], "[", token.text[1:-1].replace('""', '"'), "]"]
            since = token.end
    return "".join([*parts, sql[since:]])


def _items(tokens: _Tokens, opened: int) -> tuple[list[tuple[list[Token], int, int]], Token]:
    """Return what stands between the commas within a bracket, from where to where, and what closes it."""
    depth = 1
    item: list[Token] = []
    items: list[tuple[list[Token], int, int]] = []
    start = tokens[opened].end
    for token in tokens[opened + 1 :]:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 or (depth == 1 and token.text == ","):
            if not item:
                raise UnreadableError(tokens[0].text)
            items.append((item, start, token.start))
            item, start = [], token.end
        else:
            item.append(token)
        if depth == 0:
            return items, token
    raise UnreadableError(tokens[0].text)


def _column(sql: str, tokens: _Tokens, words: frozenset[str]) -> StoredColumn:
    name = tokens[0].name
    clauses = _clauses(sql, tokens[1:], words, (name,))
    starts = _starts(tokens[1:], words)
    end = tokens[1:][starts[0]].start if starts else tokens[-1].end
    return StoredColumn(name, sql[: tokens[0].end].strip(), sql[tokens[0].end : end].strip(), clauses)


def _clauses(sql: str, tokens: _Tokens, words: frozenset[str], columns: tuple[str, ...]) -> list[Clause]:
    starts = _starts(tokens, words)
    found = []
    for start, end in pairwise([*starts, len(tokens)]):
        # Comments before the next one belong to this one; those before the first one of a table to that.
        since = tokens[start].start if start or columns else 0
        until = tokens[end].start if end < len(tokens) else len(sql)
        found.append(_clause(sql[since:until].strip(), tokens[start:end], columns))
    return found


def _starts(tokens: _Tokens, words: frozenset[str]) -> list[int]:
    """Return at which tokens clauses begin."""
    starts: list[int] = []
    depth = skip = 0
    for place, token in enumerate(tokens):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        before = tokens[place - 1].keyword if place else ""
        after = tokens[place + 1].keyword if place + 1 < len(tokens) else ""
        if depth or place < skip or token.keyword not in words:
            continue
        if before in _GOES_ON.get(token.keyword, ()) or (token.keyword == "NOT" and after != "NULL"):
            continue
        starts.append(place)
        # The name of a constraint and the word after it, a value, a collation.
        skip = place + {"CONSTRAINT": 3, "DEFAULT": 2, "COLLATE": 2, "NOT": 2}.get(token.keyword, 1)
    return starts


def _clause(text: str, tokens: _Tokens, columns: tuple[str, ...]) -> Clause:
    name = None
    if tokens[0].keyword == "CONSTRAINT":
        name, tokens = tokens[1].name, tokens[2:]
    word = tokens[0].keyword if tokens else ""
    clause = Clause(
        _KINDS.get(word, word),
        text,
        name,
        columns,
        words=frozenset(each.name for each in tokens if each.kind in {"word", "quoted"}),
        meaning=meaning_of(tokens),
    )
    if columns == () and word in {"PRIMARY", "UNIQUE", "FOREIGN"}:
        clause = replace(clause, columns=_names(tokens, 0))
    for place, token in enumerate(tokens):
        if token.keyword == "REFERENCES":
            has_columns = place + 2 < len(tokens) and tokens[place + 2].text == "("
            target = (tokens[place + 1].name, _names(tokens, place) if has_columns else ())
            return replace(clause, refers_to=target)
    return clause


def _names(tokens: _Tokens, after: int) -> tuple[str, ...]:
    """Return the names at the beginning of each part of the next bracket."""
    opened = next(place for place, each in enumerate(tokens) if place >= after and each.text == "(")
    return tuple(item[0].name for item, _start, _end in _items(tokens, opened)[0])


def meaning_of(tokens: Iterable[Token]) -> str:
    """Return a text without what makes no difference: blanks, comments, quotes of names, capitals."""
    return " ".join(each.text if each.kind == "text" else each.name for each in tokens)
