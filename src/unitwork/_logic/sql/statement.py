"""This module answers what one statement of SQL text does to data, locks and transactions."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise

from unitwork._logic.sql.lexer import MYSQL, POSTGRESQL, Grammar, Kind, Token, tokens


class Step(enum.Enum):
    """What a statement does to the transaction that it is sent in."""

    BEGIN = enum.auto()
    COMMIT = enum.auto()
    """Also END, and what prepares or ends a transaction in two phases."""
    ROLLBACK = enum.auto()
    SAVEPOINT = enum.auto()
    RELEASE = enum.auto()
    ROLLBACK_TO = enum.auto()
    SETTINGS = enum.auto()
    """`SET TRANSACTION …`, and the switches for read-only and autocommit."""


CHANGES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"})
"""The verbs that change rows."""
QUERIES = frozenset({"SELECT", "VALUES", "TABLE"})
"""The verbs that read rows."""
_TELLS = frozenset({"SHOW", "DESCRIBE", "DESC", "FETCH", "HELP"})
_REPORTS = frozenset({"EXPLAIN", "PRAGMA", "CHECK", "CHECKSUM", "OPTIMIZE", "REPAIR"})
_HARMLESS = frozenset(
    {
        "SET",
        "RESET",
        "LOCK",
        "SAVEPOINT",
        "RELEASE",
        "PREPARE",
        "DEALLOCATE",
        "DECLARE",
        "MOVE",
        "CLOSE",
        "EXPLAIN",
    }
)
_READ_ONLY_SWITCHES = ("read_only", "query_only")
_ASKING_PRAGMAS = frozenset(
    {
        *("foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo"),
        *("integrity_check", "quick_check", "table_info", "table_list", "table_xinfo"),
    }
)
_ACTING_PRAGMAS = frozenset({"incremental_vacuum", "optimize", "wal_checkpoint"})
# MariaDB and MySQL end the open transaction before these, unless a table is temporary.
_COMMITS_BEFORE = frozenset(
    {
        *(
            "ALTER",
            "ANALYZE",
            "BACKUP",
            "BEGIN",
            "CACHE",
            "CHANGE",
            "CHECK",
            "CREATE",
            "DROP",
            "FLUSH",
            "GRANT",
        ),
        *("INSTALL", "LOCK", "OPTIMIZE", "RENAME", "REPAIR", "RESET", "REVOKE", "SHUTDOWN", "TRUNCATE"),
        *("UNINSTALL", "UNLOCK"),
    }
)
_COMMITS_BEFORE_PAIRS = frozenset(
    {
        *(("LOAD", "INDEX"), ("START", "TRANSACTION"), ("START", "SLAVE"), ("STOP", "SLAVE")),
        *(("SET", "PASSWORD"), ("SET", "DEFAULT")),
    }
)
# What MariaDB and MySQL run as it stands; functions and triggers in it can end nothing.
_ALONE = (
    CHANGES
    | QUERIES
    | _TELLS
    | _REPORTS
    | _HARMLESS
    | {"WITH", "LOAD", "DO", "HANDLER", "USE", "KILL", "SIGNAL", "RESIGNAL", "CREATE", "DROP", ""}
)
_STEPS = {
    "COMMIT": Step.COMMIT,
    "END": Step.COMMIT,
    "SAVEPOINT": Step.SAVEPOINT,
    "RELEASE": Step.RELEASE,
    "START TRANSACTION": Step.BEGIN,
    "PREPARE TRANSACTION": Step.COMMIT,
    "XA START": Step.BEGIN,
    "XA BEGIN": Step.BEGIN,
    "XA ROLLBACK": Step.ROLLBACK,
    "XA END": Step.COMMIT,
    "XA PREPARE": Step.COMMIT,
    "XA COMMIT": Step.COMMIT,
}


class Statement:
    """One statement of a text: what means something in it."""

    def __init__(self, parts: tuple[Token, ...], grammar: Grammar) -> None:
        self.parts = parts
        self.grammar = grammar

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Its words and symbols in capital letters; an empty text stands for all else."""
        return tuple(token.upper for token in self.parts)

    @cached_property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Each of its words with the one behind it."""
        return tuple(pairwise(self.words))

    @cached_property
    def _depths(self) -> tuple[int, ...]:
        """How many parentheses are open at each token; those that open and close count as outside."""
        depth, found = 0, []
        for word in self.words:
            depth -= word == ")"
            found.append(depth)
            depth += word == "("
        return tuple(found)

    @cached_property
    def _begin(self) -> int:
        return next((place for place, word in enumerate(self.words) if word != "("), len(self.words))

    def _at(self, depth: int) -> tuple[int, ...]:
        return tuple(
            place
            for place, (word, found) in enumerate(zip(self.words, self._depths, strict=True))
            if found == depth and word not in ("(", ")")
        )

    @cached_property
    def top(self) -> tuple[int, ...]:
        """The places of the tokens outside of all parentheses but those around the whole."""
        around = min(self._depths[self._begin : len(self.words) - self._begin], default=0)
        return self._at(around)

    @cached_property
    def main(self) -> int:
        """The place of the verb."""
        if self._word(0) != "WITH":
            return self._begin
        level = self._at(self._depths[self._begin])
        for before, place in pairwise(level):
            # What stands behind these is the name of a CTE, whatever it is called.
            named = self.words[before] in ("WITH", "RECURSIVE", ",")
            if self.words[place] in CHANGES | QUERIES and not named:
                return place
        return self._begin

    @property
    def verb(self) -> str:
        """Its first word; behind WITH, that of the statement itself."""
        return self.words[self.main] if self.main < len(self.words) else ""

    @cached_property
    def inner(self) -> Statement | None:
        """The statement that this one explains, limits or declares."""
        first, second = self._word(0), self._word(1)
        verbs = CHANGES | QUERIES | {"WITH"}
        if first == "ANALYZE":
            verbs -= {"TABLE"}  # that gathers statistics
        if first in ("EXPLAIN", "DESCRIBE", "DESC", "ANALYZE", "DECLARE"):
            return self._from(place for place in self.top[1:] if self.words[place] in verbs)
        if (first, second) == ("SET", "STATEMENT"):
            return self._from(place + 1 for place in self.top[1:] if self.words[place] == "FOR")
        if (first, second) == ("EXECUTE", "IMMEDIATE"):
            return self._in_quotes(self.parts[-1])
        return None

    def _in_quotes(self, last: Token) -> Statement | None:
        if last.kind is not Kind.STRING:
            return None
        text = last.text[1:-1].replace(last.text[-1] * 2, last.text[-1])
        return Statement(
            tuple(token for token in tokens(text, self.grammar) if token.significant), self.grammar
        )

    def _from(self, places: Iterator[int]) -> Statement | None:
        place = next(places, len(self.parts))
        return Statement(self.parts[place:], self.grammar) if place < len(self.parts) else None

    def _word(self, number: int) -> str:
        place = self._begin + number
        return self.words[place] if place < len(self.words) else ""

    @cached_property
    def runs_inner(self) -> bool:
        """Whether the statement inside is run, and not only explained."""
        first = self._word(0)
        if first != "EXPLAIN" or self.inner is None:
            return first in ("ANALYZE", "SET", "EXECUTE")
        options = self.words[: len(self.words) - len(self.inner.words)]
        for place, word in enumerate(options):
            if word in ("ANALYZE", "ANALYSE"):
                value = self.parts[place + 1].text.strip("'").upper()
                return value not in ("FALSE", "OFF", "0")
        return False

    @cached_property
    def writes(self) -> bool:
        """Whether it may change data, tables or settings that outlive it. What is not known may."""
        if not self.parts:
            return False
        if self.inner is not None:
            return self.runs_inner and self.inner.writes
        special: Callable[[], bool] | None = {
            "PRAGMA": self._pragma_writes,
            "SET": self._set_writes,
            "COPY": self._copy_writes,
            "PREPARE": lambda: self.step is not None,
            "RESET": lambda: self.grammar is MYSQL,
        }.get(self.verb)
        if special is not None:
            return special()
        if self.verb in QUERIES:
            return self._changes_inside() or self._selects_into()
        return self.verb not in _HARMLESS | _TELLS

    def _changes_inside(self) -> bool:
        """Say whether a part in parentheses changes rows, as `WITH x AS (DELETE …)` does."""
        return self._word(0) == "WITH" and any(one == "(" and two in CHANGES for one, two in self.pairs)

    def _selects_into(self) -> bool:
        after = [place + 1 for place in self.top if self.words[place] == "INTO"]
        # `INTO @variable` keeps a value in the connection alone.
        return any(place < len(self.words) and self.words[place] != "@" for place in after)

    def _pragma_writes(self) -> bool:
        name = self._pragma
        if "=" in self.words or name in _ACTING_PRAGMAS:
            return True
        return "(" in self.words and name not in _ASKING_PRAGMAS

    @property
    def _pragma(self) -> str:
        names = [token.name.lower() for token in self.parts[1:4] if token.is_name]
        schema = "." in self.words[2:3]
        return names[schema] if len(names) > schema else ""

    def _set_writes(self) -> bool:
        widens = self._switches(*_READ_ONLY_SWITCHES) or ("READ", "WRITE") in self.pairs
        return widens or self._word(1) == "PASSWORD"

    def _switches(self, *endings: str) -> bool:
        return any(token.name.lower().endswith(endings) for token in self.parts if token.is_name)

    def _copy_writes(self) -> bool:
        outside = [self.words[place] for place in self.top]
        if "FROM" in outside or "TO" not in outside or "STDOUT" not in outside:
            return True
        return any(one == "(" and two in CHANGES for one, two in self.pairs)

    @cached_property
    def locks(self) -> bool:
        """Whether it locks rows or tables until the transaction ends, or sets something for as long."""
        if self.inner is not None:
            return self.runs_inner and self.inner.locks
        if self.verb == "LOCK" or (self.verb == "SET" and self._word(1) in ("LOCAL", "CONSTRAINTS")):
            return True
        return self.verb in QUERIES and any(
            (one == "FOR" and two in ("UPDATE", "SHARE", "NO", "KEY")) or (one, two) == ("LOCK", "IN")
            for one, two in self.pairs
        )

    @cached_property
    def returns_rows(self) -> bool:
        """Whether it answers with rows, as far as text can tell."""
        if self.inner is not None and self.runs_inner and self._word(0) == "SET":
            return self.inner.returns_rows
        if self._word(0) == "ANALYZE":  # MariaDB's; PostgreSQL has no word TABLE there
            return self.inner is not None or "TABLE" in self.words
        if self.verb in CHANGES:
            return any(self.words[place] == "RETURNING" for place in self.top if place > self.main)
        if self.verb in QUERIES:
            return not self._selects_into()
        return self.verb in _TELLS | _REPORTS

    @cached_property
    def is_ordered(self) -> bool:
        """Whether it says an order or a limit itself, outside of all parentheses."""
        outside = [self.words[place] for place in self.top]
        pairs = set(pairwise(outside))
        wholes = {("ORDER", "BY"), ("FETCH", "FIRST"), ("FETCH", "NEXT")}
        return bool(pairs & wholes) or "LIMIT" in outside or "OFFSET" in outside

    @cached_property
    def step(self) -> Step | None:
        """What it does to the transaction; None if it is no statement about one."""
        one, two, three = self._word(0), self._word(1), self._word(2)
        if one == "EXECUTE" and self.inner is not None:
            return self.inner.step
        if one == "BEGIN":
            return None if (two, three) == ("NOT", "ATOMIC") else Step.BEGIN
        if one == "ROLLBACK" or (one == "ABORT" and self.grammar is POSTGRESQL):
            return Step.ROLLBACK_TO if "TO" in (two, three) else Step.ROLLBACK
        if one == "SET" and two != "STATEMENT":
            sets = "TRANSACTION" in self.words or self._switches("autocommit", *_READ_ONLY_SWITCHES)
            return Step.SETTINGS if sets else None
        if one == "PRAGMA" and self._pragma == "query_only" and self.writes:
            return Step.SETTINGS
        return _STEPS.get(one) or _STEPS.get(f"{one} {two}")

    @cached_property
    def commits_by_itself(self) -> bool:
        """Whether the database commits the open transaction because of it, though it says no COMMIT."""
        if self.grammar is not MYSQL:
            return False
        if self.inner is not None:
            return self.runs_inner and self.inner.commits_by_itself
        one, two = self._word(0), self._word(1)
        if one in ("CREATE", "DROP"):
            kind = self._word(3) if two == "OR" else two
            return kind != "TEMPORARY"
        if one == "BEGIN":
            return self.step is Step.BEGIN
        known = one in _COMMITS_BEFORE or (one, two) in _COMMITS_BEFORE_PAIRS
        return known or (one == "SET" and self._turns_autocommit_on())

    @cached_property
    def runs_others(self) -> bool:
        """Whether it may run statements that stand elsewhere, which may commit. What is not known may."""
        if self.grammar is not MYSQL:
            return False
        if self.inner is not None:
            return self.runs_inner and self.inner.runs_others
        if self._word(0) == "BEGIN":
            return self.step is None
        return self.verb not in _ALONE and self.step is None and not self.commits_by_itself

    def _turns_autocommit_on(self) -> bool:
        names = [token.name.lower() for token in self.parts]
        after = names[names.index("autocommit") + 2 :] if "autocommit" in names else []
        return bool(after) and after[0] not in ("0", "off", "false")
