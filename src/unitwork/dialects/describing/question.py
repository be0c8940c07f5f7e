"""This module says what a database is asked about a statement, and what it answers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from unitwork._logic.promises import Sending
from unitwork._logic.sql.lexer import Kind
from unitwork._logic.sql.reading import SQLText, readings
from unitwork._logic.sql.scopes import Table
from unitwork.dialects.backend import BeginMode

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine


class RefusedError(Exception):
    """The database, or its driver, would refuse the statement; the text is what it says."""

    def __init__(self, said: str, fix: str = "", *, by_driver: bool = False) -> None:
        super().__init__(said)
        self.fix = fix
        self.by_driver = by_driver


@dataclass(frozen=True, slots=True)
class Question:
    """A statement as its database reads it, with its parameters by name.

    Args:
        text: The statement, with `:name` for each parameter.
        bases: For each name in it the parameter of the query, which may stand for several in a list.
        types: What SQLAlchemy knows of the parameters, by the names in the text.
        samples: Values that they may have, by the names in the text.
    """

    text: SQLText
    bases: Mapping[str, str]
    types: Mapping[str, TypeEngine[Any]]
    samples: Mapping[str, Any]

    def marked(self, mark: Callable[[str], str]) -> str:
        """Return the statement with `mark(name)` for each parameter."""
        parts = (
            mark(token.name) if token.kind is Kind.BIND and token.name in self.bases else token.text
            for token in self.text.tokens
        )
        return "".join(parts)

    def literal(self, name: str) -> str:
        """Return a value that a parameter may have, as SQL; for plans, which depend on it."""
        value = self.samples.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return repr(value)
        return "'x'" if isinstance(value, str) else "NULL"

    def numbered(self) -> tuple[str, list[str]]:
        """Return the statement with `$1` for its parameters, and their names in order."""
        names: list[str] = []

        def mark(name: str) -> str:
            if name not in names:
                names.append(name)
            return f"${names.index(name) + 1}"

        return self.marked(mark), names


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a result.

    Args:
        name: As the rows call it.
        type: What the driver answers; None if the database does not tell it.
        declared: The type that the table says, where the driver answers something else.
    """

    name: str
    type: TypeEngine[Any] | None = None
    declared: TypeEngine[Any] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a database makes of a statement.

    Args:
        types: Of the parameters that it tells, by the names in the text.
        columns: Of the rows; None if it does not tell them, none if there are no rows.
        unseen: What it does not look at before it runs the statement; empty if it looks at all.
        taken_as_text: Names in double quotes that it takes as text, as there are no such columns.
    """

    types: Mapping[str, TypeEngine[Any]]
    columns: Sequence[Column] | None
    unseen: str = ""
    taken_as_text: Sequence[str] = ()


class Describer:
    """Asks one kind of database. This one knows of none, and leaves all unseen. Lives: one check."""

    mode = BeginMode(read_only=True)
    """The transactions in which its questions are allowed, also those about statements that write."""

    def sending(self, connection: Connection) -> Sending:  # noqa: ARG002  # for those that differ
        """Return what the driver makes of the values that it sends."""
        return Sending()

    def begin(self, connection: Connection) -> None:
        """Prepare a connection, so that no question waits long for a lock."""

    def end(self, connection: Connection) -> None:
        """Undo what `begin` did; the transactions are over."""

    def describe(self, connection: Connection, question: Question) -> Answer:  # noqa: ARG002  # for those that tell
        """Let the database look at a statement, which must not run.

        Raises:
            RefusedError: It cannot run there.
        """
        return Answer({}, None, "this kind of database is not known")

    def scanned(self, connection: Connection, question: Question) -> list[Table]:  # noqa: ARG002  # as above
        """Return the tables that the plan of a statement reads as a whole."""
        return []


def refused_as_several(question: Question, driver: str) -> RefusedError:
    """Return the refusal of a text that holds more statements than a driver sends at once."""
    number = len(question.text.statements)
    return RefusedError(
        f"it holds {number} statements, and the driver {driver} sends one at a time.",
        "declare a query for each of them; one transaction around the calls holds them together.",
        by_driver=True,
    )


def question_of(statement: Any, parameters: Mapping[str, Any] | None, dialect: Dialect) -> Question:  # noqa: ANN401  # any statement
    """Write a statement as its database reads it, with its parameters by name."""
    compiled: Any = statement.compile(dialect=_with_names(dialect))
    state = compiled.construct_expanded_state(dict(parameters) if parameters else None)
    written = {**compiled.escaped_bind_names}
    bases = {written.get(name, name): name for name in state.parameters}
    types = {name: compiled.binds[name].type for name in bases.values() if name in compiled.binds}
    for base, expanded in state.parameter_expansion.items():
        kind = compiled.binds[base].type
        bases.update(dict.fromkeys((written.get(name, name) for name in expanded), base))
        types.update(dict.fromkeys(expanded, kind))
    (text,) = readings(state.statement, dialect.name)[:1]
    samples = {written.get(name, name): value for name, value in state.parameters.items()}
    return Question(text, bases, types, samples)


def _with_names(dialect: Dialect) -> Dialect:
    """Return a dialect that writes its own SQL, but `:name` for parameters."""
    named: Any = copy.copy(dialect)
    named.paramstyle, named.positional = "named", False
    named.identifier_preparer = named.preparer(named)
    return named  # type: ignore[no-any-return]  # a copy of what came in


def first_line(error: BaseException) -> str:
    """Return what a database says of a statement, without the statement."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = cause.args[1] if len(cause.args) > 1 and isinstance(cause.args[0], int) else cause
    return " ".join(str(said).split("\n")[0].split())
