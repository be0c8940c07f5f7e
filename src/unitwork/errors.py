"""This module holds every exception of unitwork: data in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

__all__ = [
    "AfterCommitError",
    "CommitOutcomeUnknownError",
    "ConflictTargetError",
    "CursorError",
    "DatabaseChoiceError",
    "DeclarationError",
    "MissingExtraError",
    "NoRowError",
    "NoTransactionError",
    "OptionError",
    "QueryDeclarationError",
    "ReplicaError",
    "RowCountError",
    "RowError",
    "StaleRowError",
    "TooManyRowsError",
    "TransactionEndedError",
    "TransactionRefusedError",
    "TransactionTimeoutError",
    "UnexpectedRollbackError",
    "UnitworkError",
    "UnloadedAttributeError",
]


def lines(first: str, *more: str) -> str:
    """Join one sentence and its facts and fixes, which are indented; empty ones are left out.

    Blocks that have no name of their own are called such as "the block at shop.py:3": the sentence may begin
    with that.
    """
    sentence = f"The {first[4:]}" if first.startswith("the ") else first
    return "\n".join([sentence, *(f"  {line}" for line in more if line)])


def session_of(block: str) -> str:
    """Return what a sentence calls the session of a block, which may be named after a session itself."""
    return block if block.startswith("the session ") else f"the session of {block}"


class UnitworkError(Exception):
    """The root of all errors that unitwork raises for its own rules."""


class NoTransactionError(UnitworkError, RuntimeError):
    """A session was asked for where no unit of work or transaction block is open."""

    def __init__(self, database: str) -> None:
        super().__init__(database)
        self.database = database

    def __str__(self) -> str:
        return lines(
            f"No transaction is open on database {self.database!r}.",
            "Fix: enter `async with db.transaction():` first, or decorate the caller "
            "with `@db.transactional`.",
        )


class TransactionEndedError(UnitworkError):
    """The unit of work or block that this code was started in has ended."""

    def __init__(self, database: str, block: str) -> None:
        super().__init__(database, block)
        self.database = database
        self.block = block

    def __str__(self) -> str:
        return lines(
            f"{session_of(self.block)} on database {self.database!r} has ended.",
            "Fix: await tasks inside the block that they write to, or open `async with db.transaction():` "
            "in the task.",
        )


class TransactionRefusedError(UnitworkError, RuntimeError):
    """A rule of the transaction (propagation, isolation, read-only, condemned) forbids this now."""

    def __init__(self, database: str, sentence: str, fix: str, facts: Sequence[str] = ()) -> None:
        super().__init__(database, sentence, fix, tuple(facts))
        self.database = database
        self.sentence = sentence
        self.fix = fix
        self.facts = tuple(facts)

    def __str__(self) -> str:
        return lines(self.sentence, *self.facts, f"Fix: {self.fix}")


class UnexpectedRollbackError(UnitworkError):
    """Commit was asked for, but something inside the transaction had failed."""

    def __init__(
        self,
        database: str,
        marked_by: str,
        open_blocks: Sequence[str] = (),
        asked: bool = False,  # noqa: FBT001, FBT002  # positional, so that pickling works
    ) -> None:
        super().__init__(database, marked_by, tuple(open_blocks), asked)
        self.asked = asked
        self.database = database
        self.marked_by = marked_by
        self.open_blocks = tuple(open_blocks)

    def __str__(self) -> str:
        head = f"The transaction on database {self.database!r} cannot commit:"
        if self.open_blocks:
            return lines(
                f"{head} blocks inside it are still open.",
                f"Open blocks: {', '.join(self.open_blocks)}",
                "Fix: await the tasks that are in them (`gather`, `TaskGroup`) before the outer block ends.",
            )
        if self.asked:
            return lines(
                f"{head} a block inside it asked for a rollback.",
                f"Block: {self.marked_by}",
                "Fix: call `db.set_rollback_only()` in the outer block, whose rollback is silent then.",
            )
        return lines(
            f"{head} a block inside it failed.",
            f"Failed block: {self.marked_by}",
            "Fix: let that error propagate, or run the block with propagation=NESTED so it can fail alone.",
        )


class TransactionTimeoutError(UnitworkError, TimeoutError):
    """The time of a block was over before it ended; its transaction is rolled back."""

    def __init__(self, database: str, block: str, timeout_s: float) -> None:
        super().__init__(database, block, timeout_s)
        self.database = database
        self.block = block
        self.timeout_s = timeout_s

    def __str__(self) -> str:
        return lines(
            f"{self.block} on database {self.database!r} took longer than {self.timeout_s:g} s: rolled back.",
            "Fix: raise `timeout=`, or do less inside the block.",
        )


class CommitOutcomeUnknownError(UnitworkError):
    """The connection was lost during COMMIT: the work may or may not be stored."""

    def __init__(self, database: str, block: str) -> None:
        super().__init__(database, block)
        self.database = database
        self.block = block

    def __str__(self) -> str:
        return lines(
            f"The connection to database {self.database!r} was lost during COMMIT: the outcome is unknown.",
            f"Block: {self.block}",
            "Fix: look in the database whether the work is stored before doing it again.",
        )


class AfterCommitError(UnitworkError, ExceptionGroup[Exception]):
    """The transaction is committed, but functions registered with `on_commit` failed."""

    database: str

    def __new__(cls, database: str, failures: Sequence[Exception]) -> Self:
        """Build the group from the database's name and what failed."""
        message = (
            f"The transaction on database {database!r} is committed, "
            "but work registered for afterwards failed"
        )
        group = super().__new__(cls, message, failures)
        group.database = database
        return group

    def __init__(self, database: str, failures: Sequence[Exception]) -> None:
        super().__init__(database, failures)

    def derive(self, failures: Sequence[Exception], /) -> AfterCommitError:  # type: ignore[override]  # narrower
        """Keep the class and the database when the group is split."""
        return AfterCommitError(self.database, failures)

    def __reduce__(self) -> tuple[type[AfterCommitError], tuple[str, list[Exception]]]:
        return type(self), (self.database, list(self.exceptions))

    def __str__(self) -> str:
        return lines(
            f"{self.message}.",
            *(f"Failed: {type(failure).__name__}: {failure}" for failure in self.exceptions),
            "Fix: repeat only what failed; the transaction itself must not be repeated.",
        )


class DatabaseChoiceError(UnitworkError):
    """No Database, or several, could be meant."""

    def __init__(self, sentence: str, candidates: Sequence[str], fix: str) -> None:
        super().__init__(sentence, tuple(candidates), fix)
        self.sentence = sentence
        self.candidates = tuple(candidates)
        self.fix = fix

    def __str__(self) -> str:
        known = ", ".join(repr(name) for name in self.candidates) or "none"
        return lines(self.sentence, f"Live Databases: {known}", f"Fix: {self.fix}")


class OptionError(UnitworkError, ValueError):
    """An option has a value that does not exist or is out of range."""

    def __init__(self, option: str, value: object, allowed: Iterable[str]) -> None:
        super().__init__(option, value, tuple(allowed))
        self.option = option
        self.value = value
        self.allowed: tuple[str, ...] = self.args[2]

    def __str__(self) -> str:
        return lines(
            f"The option {self.option} does not take {self.value!r}.",
            f"Fix: use {' or '.join(self.allowed)}.",
        )


class DeclarationError(UnitworkError, TypeError):
    """Something was declared in a way that cannot work; raised at import."""

    def __init__(self, subject: str, problem: str, fix: str) -> None:
        super().__init__(subject, problem, fix)
        self.subject = subject
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return lines(f"{self.subject} is declared wrongly: {self.problem}.", f"Fix: {self.fix}")


class QueryDeclarationError(DeclarationError):
    """A declared query is wrong; raised at import, or at the call if only the rows can tell."""

    def __str__(self) -> str:
        return lines(f"Query {self.subject} is declared wrongly: {self.problem}.", f"Fix: {self.fix}")


class RowCountError(UnitworkError):
    """A query returned another number of rows than it promises."""

    def __init__(self, query: str, statement: str = "") -> None:
        super().__init__(query, statement)
        self.query = query
        self.statement = statement


class NoRowError(RowCountError):
    """Exactly one row was promised, but none came."""

    def __str__(self) -> str:
        return lines(
            f"Query {self.query} promises exactly 1 row but the database returned none.",
            f"Statement: {self.statement}" if self.statement else "",
            "Fix: allow a missing row (`-> Model | None`, `get`), or make sure that the row exists.",
        )


class TooManyRowsError(RowCountError):
    """At most one row was promised, but more came."""

    def __str__(self) -> str:
        return lines(
            f"Query {self.query} allows 1 row but the database returned more.",
            f"Statement: {self.statement}" if self.statement else "",
            "Fix: declare it with a list (`-> list[Model]`), or make the WHERE clause match a unique key.",
        )


class CursorError(UnitworkError, ValueError):
    """A cursor was changed, or belongs to another query or another order."""

    def __init__(self, query: str) -> None:
        super().__init__(query)
        self.query = query

    def __str__(self) -> str:
        return lines(
            f"The cursor is none of query {self.query} in this order.",
            "Fix: pass `next_cursor` or `previous_cursor` of one of its pages, with the same sorts; "
            "start without a cursor.",
        )


class ConflictTargetError(UnitworkError):
    """An upsert names columns that no unique key covers."""

    def __init__(self, table: str, columns: Sequence[str], keys: Sequence[Sequence[str]]) -> None:
        super().__init__(table, tuple(columns), tuple(tuple(key) for key in keys))
        self.table = table
        self.columns: tuple[str, ...] = self.args[1]
        self.keys: tuple[tuple[str, ...], ...] = self.args[2]

    def __str__(self) -> str:
        keys = "; ".join(f"({', '.join(key)})" for key in self.keys) or "none"
        return lines(
            f"Cannot upsert into table {self.table!r} on ({', '.join(self.columns)}): "
            "no unique key covers exactly these columns.",
            f"Unique keys: {keys}",
            "Fix: name one of the keys above, or add a unique constraint.",
        )


class ReplicaError(UnitworkError):
    """A server that was given as a replica is none of this primary. `problems` says of each what is wrong."""

    def __init__(self, database: str, problems: Sequence[str]) -> None:
        super().__init__(database, tuple(problems))
        self.database = database
        self.problems: tuple[str, ...] = self.args[1]

    def __str__(self) -> str:
        return lines(
            f"Database {self.database!r} cannot read from its replicas.",
            *self.problems,
            "Fix: give in `replicas=` only servers that replicate this primary.",
        )


class RowError(UnitworkError, ValueError):
    """A row of a bulk write cannot be stored; nothing of that write is."""

    def __init__(self, row: int, attribute: str, problem: str) -> None:
        super().__init__(row, attribute, problem)
        self.row = row
        self.attribute = attribute
        self.problem = problem

    def __str__(self) -> str:
        subject = f"attribute {self.attribute!r}" if self.attribute else "it"
        return lines(
            f"Row {self.row:,} cannot be stored: {subject} {self.problem}.",
            "Fix: correct or leave out this row; nothing of this call is stored.",
        )


class StaleRowError(UnitworkError):
    """A versioned row was changed or deleted by somebody else."""

    def __init__(self, entity: str, key: str) -> None:
        super().__init__(entity, key)
        self.entity = entity
        self.key = key

    def __str__(self) -> str:
        return lines(
            f"The row {self.entity} {self.key} was changed or deleted by another transaction.",
            "Fix: read it again, apply the change again, and save it.",
        )


class UnloadedAttributeError(UnitworkError, AttributeError):
    """Attributes of an entity were asked for, but are not loaded, and reading them may not send anything."""

    def __init__(self, entity: str, attributes: Sequence[str]) -> None:
        super().__init__(entity, tuple(attributes))
        self.entity = entity
        self.attributes: tuple[str, ...] = self.args[1]

    def __str__(self) -> str:
        first = f"{self.entity}.{self.attributes[0]}"
        return lines(
            f"{self.entity} is not loaded completely: {', '.join(self.attributes)} would need a SELECT.",
            f"Fix: load it with the entity, by `options=[selectinload({first})]` for a relationship or "
            f"`undefer({first})` for a column; or `await repository.refresh(entity)`.",
        )


class MissingExtraError(UnitworkError, ImportError):
    """An optional package that this feature needs is not installed. `extra` is empty if none installs it."""

    def __init__(self, feature: str, package: str, extra: str = "") -> None:
        super().__init__(feature, package, extra)
        self.feature = feature
        self.package = package
        self.extra = extra

    def __str__(self) -> str:
        wanted = f"'unitwork[{self.extra}]'" if self.extra else self.package
        return lines(
            f"{self.feature} needs the package {self.package!r}, which is not installed.",
            f"Fix: pip install {wanted}",
        )
