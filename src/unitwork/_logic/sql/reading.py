"""This module reads SQL text as a database does, and answers for all of its statements."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import islice

from unitwork._logic.sql.lexer import Grammar, Kind, Token, grammars_of, tokens
from unitwork._logic.sql.statement import Statement, Step

_LONG = 20_000
_OPENING = 24
_COMPOUND = frozenset({"TRIGGER", "FUNCTION", "PROCEDURE", "EVENT", "PACKAGE"})
_BLOCK_ENDS = frozenset({"IF", "LOOP", "WHILE", "REPEAT", "FOR"})


class SQLText:
    """SQL text as one kind of database reads it."""

    def __init__(self, sql: str, grammar: Grammar, tokens: tuple[Token, ...]) -> None:
        self.sql = sql
        self.grammar = grammar
        self.tokens = tokens

    @cached_property
    def is_whole(self) -> bool:
        """Whether each quote and comment in it has an end."""
        return all(token.kind is not Kind.OPEN for token in self.tokens)

    @cached_property
    def binds(self) -> tuple[str, ...]:
        """The names of its parameters, each once, in order."""
        return tuple(dict.fromkeys(token.name for token in self.tokens if token.kind is Kind.BIND))

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        """The statements that semicolons divide it into; a trigger or procedure is one."""
        found: list[list[Token]] = [[]]
        for token in self.tokens:
            if token.upper == ";" and not _is_inside_body(found[-1]):
                found.append([])
            elif token.significant:
                found[-1].append(token)
        return tuple(Statement(tuple(parts), self.grammar) for parts in found if parts)

    @property
    def writes(self) -> bool:
        """Whether one of its statements may write."""
        return any(statement.writes for statement in self.statements)

    @property
    def locks(self) -> bool:
        """Whether one of its statements locks rows or tables."""
        return any(statement.locks for statement in self.statements)

    @property
    def returns_rows(self) -> bool:
        """Whether its last statement answers with rows."""
        return bool(self.statements) and self.statements[-1].returns_rows

    @property
    def steps(self) -> tuple[Step, ...]:
        """What its statements do to the transaction, in order."""
        return tuple(statement.step for statement in self.statements if statement.step is not None)

    @property
    def commits_by_itself(self) -> bool:
        """Whether the database commits the open transaction because of it, though it says no COMMIT."""
        return any(statement.commits_by_itself for statement in self.statements)

    @property
    def runs_others(self) -> bool:
        """Whether one of its statements may run others that stand elsewhere."""
        return any(statement.runs_others for statement in self.statements)

    @property
    def ends_transaction(self) -> bool:
        """Whether the transaction that it is sent in does not go on behind it."""
        ends = {Step.COMMIT, Step.ROLLBACK}
        return self.commits_by_itself or any(step in ends for step in self.steps)


def _is_inside_body(parts: Sequence[Token]) -> bool:
    """Say whether a statement is not at its end yet: its BEGIN … END is still open."""
    words = [token.upper for token in parts]
    creates = words[:1] == ["CREATE"] and not _COMPOUND.isdisjoint(words[:16])
    if not creates and words[:2] != ["BEGIN", "NOT"]:
        return False
    depth, before = 0, ""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == "BEGIN" or (word == "CASE" and before != "END"):
            depth += 1
        elif word == "END" and after not in _BLOCK_ENDS:
            depth -= 1
        before = word
    return depth > 0


@lru_cache(maxsize=1024)
def _remembered(sql: str, grammar: Grammar) -> SQLText:
    return SQLText(sql, grammar, tuple(tokens(sql, grammar)))


def read(sql: str, grammar: Grammar) -> SQLText:
    """Read text by one grammar."""
    # What is long is not remembered: it may hold many rows.
    return _remembered(sql, grammar) if len(sql) <= _LONG else _remembered.__wrapped__(sql, grammar)


def readings(sql: str, dialect: str | None = None) -> tuple[SQLText, ...]:
    """Return how the text can be read: by a dialect of SQLAlchemy, or by all of them if it is not known.

    What a database could only refuse, because quotes have no end, is left out if there is another way.
    """
    found = tuple(read(sql, grammar) for grammar in grammars_of(dialect))
    return tuple(reading for reading in found if reading.is_whole) or found


def openings(sql: str, dialect: str | None = None) -> tuple[SQLText, ...]:
    """Return readings that tell what the text does to the transaction: of its first words, if they suffice.

    Of a statement with thousands of rows nothing else need be read.
    """
    if ";" in sql.rstrip().removesuffix(";"):
        return readings(sql, dialect)
    return tuple(_opening(sql, grammar) for grammar in grammars_of(dialect))


def _opening(sql: str, grammar: Grammar) -> SQLText:
    first = (token for token in tokens(sql, grammar) if token.significant)
    return SQLText(sql, grammar, tuple(islice(first, _OPENING)))
