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
_NAMING = frozenset(
    {
        *(".", "AS", "COLUMN", "CONSTRAINT", "EXISTS", "FROM", "INDEX", "INTO", "JOIN", "ON", "RECURSIVE"),
        *(
            "REFERENCES",
            "RELEASE",
            "RENAME",
            "SAVEPOINT",
            "SET",
            "TABLE",
            "TO",
            "TRIGGER",
            "UPDATE",
            "VIEW",
            "WITH",
        ),
    }
)
"""What stands before a name, and not before a value."""
_LISTING = frozenset({"KEY", "UNIQUE", "USING", "CONFLICT"})
_SET_WITHOUT_SIGN = frozenset({"ROLE", "AUTHORIZATION", "ZONE", "FOR"})
"""Behind which a value stands at once, as in `SET ROLE ann` and `SET PASSWORD FOR ann`."""
_SWITCHES = frozenset({"ON", "OFF", "TRUE", "FALSE", "DEFAULT", "NULL", "NONE"})


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
    quoted = quoted.union(_set_values(way))
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
    names = [False]
    for place, token in enumerate(parts):
        if token.upper == "(":
            names.append(_lists_names(parts, place))
        elif token.upper == ")" and len(names) > 1:
            names.pop()
        elif token.text.startswith('"'):
            before, after, value = (
                parts[there].upper if 0 <= there < len(parts) else ""
                for there in (place - 1, place + 1, place + 2)
            )
            if before == "FROM" and place > 1 and parts[place - 2].upper == "DISTINCT":
                before = "="  # IS DISTINCT FROM
            listed = names[-1] and before in ("(", ",")
            # What is compared with a parameter or a literal is none itself.
            compared = after in _COMPARES - {"||"} and before not in _COMPARES and value in ("", "?")
            if not (listed or compared or before in _NAMING or after in (".", "(")):
                yield token.start


def _lists_names(parts: Sequence[Token], opening: int) -> bool:
    """Say whether a parenthesis holds names of columns, as that of `INTO t (…)` does."""
    place = opening - 1
    if place >= 0 and parts[place].upper in _LISTING:
        return True
    while place > 1 and parts[place - 1].upper == ".":
        place -= 2
    return place > 0 and parts[place].is_name and parts[place - 1].upper in _NAMING


def _set_values(way: SQLText) -> Iterator[int]:
    """Yield where words stand that a setting is set to: they may be values, such as a tenant or a key."""
    for statement in way.statements:
        if statement.verb not in ("SET", "PRAGMA") or statement.inner is not None:
            continue
        behind = False
        for token in statement.parts:
            if token.upper in ("=", ":=", "TO", "(") or (token.upper in _SET_WITHOUT_SIGN and not behind):
                behind = True
            elif token.upper == "," and way.grammar.name == "mysql":
                behind = False  # elsewhere it parts the values of one setting
            elif behind and token.is_name and token.upper not in _SWITCHES:
                yield token.start
