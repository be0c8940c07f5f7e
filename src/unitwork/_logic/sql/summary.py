"""This module says of a statement what may leave the program: its words without values, and a short name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from unitwork._logic.sql.lexer import Kind, Token
from unitwork._logic.sql.reading import SQLText, readings
from unitwork._logic.sql.scopes import Scopes
from unitwork._logic.sql.statement import CHANGES, QUERIES, Statement, Step

LONGEST_TEXT = 2_000
"""Characters of a statement that are read. The rest of a long one is mostly rows of values."""
_LONGEST_LINE = 255
_MADE = frozenset({"CREATE", "ALTER", "DROP"})
_NAMES_TABLES = CHANGES | QUERIES | {"COPY", "TRUNCATE", "LOCK"}
_COMPARES = frozenset(
    {
        *("=", "==", "<>", "!=", "<", ">", "<=", ">=", "||"),
        *("LIKE", "GLOB", "MATCH", "REGEXP", "BETWEEN"),
    }
)


@dataclass(frozen=True, slots=True)
class Summary:
    """A statement, told in few words; there are few of them, however many values there are.

    Attributes:
        operation: Its verb, in capital letters; empty where there is none.
        collection: The only table that it names; None if it names several, or none.
        procedure: The stored procedure that it calls.
        line: The operation and its tables.
        text: The whole text with `?` for each literal, and without comments; None where it is not known
            what is a literal. Long ones are cut.
        returns_rows: Whether it answers with rows.
    """

    operation: str
    collection: str | None
    procedure: str | None
    line: str
    text: str | None
    returns_rows: bool


def summary_of(sql: str, dialect: str | None) -> Summary:
    """Return what may be told of a statement.

    Args:
        sql: As it was sent.
        dialect: What SQLAlchemy calls the kind of database; None if it is not known.
    """
    return _summary_of(sql[:LONGEST_TEXT], len(sql) > LONGEST_TEXT, dialect)


@lru_cache(maxsize=500)
def _summary_of(sql: str, is_cut: bool, dialect: str | None) -> Summary:  # noqa: FBT001  # a key of the cache
    ways = readings(sql, dialect)
    statement = next(iter(ways[0].statements), None)
    begin = 0
    if statement is not None and statement.words[:2] == ("SET", "STATEMENT") and statement.inner is not None:
        # A time limit that a block has added; what was asked for stands behind it.
        statement = statement.inner
        begin = statement.parts[0].start
    texts = {_without_values(way, begin) for way in ways}
    text = texts.pop() if len(texts) == 1 else None
    tables = _tables(statement) if statement is not None else []
    operation = _operation(statement) if statement is not None else ""
    procedure = _procedure(statement) if statement is not None and operation == "CALL" else None
    return Summary(
        operation=operation,
        collection=tables[0] if len(tables) == 1 else None,
        procedure=procedure,
        line=_line([operation, *tables, *([procedure] if procedure else [])]),
        text=text + " ..." if text is not None and is_cut else text,
        returns_rows=statement is not None and statement.returns_rows,
    )


def _operation(statement: Statement) -> str:
    verb = statement.verb
    if not verb.isidentifier():
        return ""
    if statement.step is Step.ROLLBACK_TO:
        return "ROLLBACK TO"
    after = statement.words[statement.main + 1 : statement.main + 2]
    return f"{verb} {after[0]}" if verb in _MADE and after and after[0] else verb


def _tables(statement: Statement) -> list[str]:
    """Return the tables that it reads or changes, each once, in the order of their names."""
    told = statement.inner or statement
    if told.verb not in _NAMES_TABLES:
        return []
    tables = Scopes(told).tables
    return list(
        dict.fromkeys(f"{table.schema}.{table.name}" if table.schema else table.name for table in tables)
    )


def _procedure(statement: Statement) -> str | None:
    name: list[str] = []
    for token in statement.parts[1:]:
        if not (token.is_name or token.upper == "."):
            break
        name.append(token.name)
    return "".join(name) or None


def _line(words: Sequence[str]) -> str:
    """Return words as a line; those that have no room are left out."""
    line = ""
    for word in filter(None, words):
        longer = f"{line} {word}" if line else word
        if len(longer) > _LONGEST_LINE:
            break
        line = longer
    return line


def _without_values(way: SQLText, begin: int) -> str:
    quoted = _quoted_values(way) if way.grammar.name == "sqlite" else frozenset[int]()
    parts: list[str] = []
    before: Token | None = None
    for token in way.tokens:
        if token.start < begin:
            continue
        touches = before is not None and before.end == token.start
        if token.kind in (Kind.STRING, Kind.OPEN) or token.start in quoted:
            parts.append("?")
        elif token.kind is Kind.NUMBER:
            # `$1` and `?1` are parameters.
            is_parameter = touches and before is not None and before.upper in ("$", "?")
            parts.append(token.text if is_parameter else "?")
        elif token.kind is Kind.WORD and touches and before is not None and before.kind is Kind.NUMBER:
            pass  # `0b1010`
        elif token.kind is Kind.COMMENT or token.text.startswith("/*+"):
            parts.append(" ")
        else:
            parts.append(token.text)
        before = token
    return " ".join("".join(parts).split())


def _quoted_values(way: SQLText) -> frozenset[int]:
    """Return where `"text"` may be a value: SQLite takes a name that it does not find for a string."""
    return frozenset(_places_of_quoted_values([token for token in way.tokens if token.significant]))


def _places_of_quoted_values(parts: Sequence[Token]) -> Iterator[int]:
    opened, closed = [""], ""
    for place, token in enumerate(parts):
        before = parts[place - 1].upper if place else ""
        if token.upper == "(":
            # Rows follow each other: `VALUES (…), (…)`.
            opened.append(closed if before == "," and closed == "VALUES" else before)
        elif token.upper == ")" and len(opened) > 1:
            closed = opened.pop()
        listed = opened[-1] in ("VALUES", "IN") and before in ("(", ",")
        dotted = place + 1 < len(parts) and parts[place + 1].upper == "."
        if token.text.startswith('"') and not dotted and (listed or before in _COMPARES):
            yield token.start
