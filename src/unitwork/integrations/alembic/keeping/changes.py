"""This module says how a batch leaves a table of SQLite: as it is stored, but for what changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.util import CommandError
from sqlalchemy import (
    CheckConstraint,
    Column,
    Constraint,
    ForeignKeyConstraint,
    PrimaryKeyConstraint,
    UniqueConstraint,
)
from sqlalchemy.schema import CreateColumn
from sqlalchemy.types import NullType, Numeric

from unitwork.integrations.alembic.keeping.stored import (
    Clause,
    StoredColumn,
    StoredTable,
    meaning_of,
    names_in,
    read_column,
    tokens_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alembic.operations.batch import ApplyBatchImpl
    from sqlalchemy import Dialect, Table

__all__: list[str] = []

_KINDS: dict[type[Constraint], tuple[str, ...]] = {
    PrimaryKeyConstraint: ("PRIMARY KEY",),
    UniqueConstraint: ("UNIQUE",),
    CheckConstraint: ("CHECK",),
    ForeignKeyConstraint: ("FOREIGN KEY", "REFERENCES"),
}


class Changes:
    """What a batch changes of a stored table. Lives: one batch.

    What Alembic has read of the table is compared with what it makes of it; the differences alone go into
    the text that is stored.

    Args:
        batch: What the batch makes of the table, as Alembic understands it; columns have their new names.
        stored: The table as it is.
        dialect: SQLite.

    Raises:
        CommandError: A constraint that is dropped is not found.
    """

    def __init__(self, batch: ApplyBatchImpl, stored: StoredTable, dialect: Dialect) -> None:
        self._batch = batch
        self._stored = stored
        self._dialect = dialect
        self._old = batch.table
        self._new: Table = batch.new_table  # type: ignore[assignment]  # it is made before
        kept = {column.name.lower() for key, column in batch.columns.items() if is_old(batch, key)}
        self._gone = frozenset(stored.columns) - kept
        self._lost: list[str] = []
        self._take_constraints()

    def create(self, name: str) -> str:
        """Return the statement that creates the new table, under a name as it is written in SQL."""
        columns = [self._column(key) for key in self._batch.columns]
        columns += [
            self._compiled(CreateColumn(each)) for each in self._batch.table_args if isinstance(each, Column)
        ]
        return self._stored.create(name, columns)

    def indexes(self, stored: Iterable[str]) -> list[str]:
        """Return those of the stored indexes that stay."""
        reflected = {index.name for index in self._old.indexes}
        dropped = {str(name).lower() for name in reflected - set(self._batch.indexes)}
        stay = []
        for sql in stored:
            tokens = list(tokens_of(sql))
            on = next(place for place, each in enumerate(tokens) if each.keyword == "ON")
            about = names_in(sql[tokens[on + 1].end :]) & frozenset(self._stored.columns)
            name = tokens[on - 1].name
            # Alembic would create it again, without what it does not know.
            for each in [each for each in self._batch.indexes if str(each).lower() == name]:
                del self._batch.indexes[each]
            if name in dropped or (about and about <= self._gone):
                continue
            if about & self._gone:
                self._lost.append(f"index {name}")
            stay.append(sql)
        return stay

    def refuse_losses(self) -> None:
        """Refuse a batch that drops a column which others have a part in.

        Raises:
            CommandError: It lists what would be lost.
        """
        if self._lost:
            raise CommandError(
                f"Without {', '.join(sorted(self._gone))}, table {self._old.name!r} would lose what other "
                f"columns have a part in; nothing is changed: {', '.join(self._lost)}.\n"
                "  Fix: say in upgrade() that they go: with op.drop_index() before the batch; in the batch "
                "with drop_constraint(), and create_primary_key() for another one. What has no name gets one "
                "by naming_convention= of batch_alter_table(); a CHECK without a name goes when "
                "table_args=(CheckConstraint(...),) has another one about the columns that stay."
            )

    def _column(self, key: str) -> str:
        """Return a column of the new table as it is written in CREATE TABLE."""
        column = self._batch.columns[key]
        if not is_old(self._batch, key):
            return self._compiled(CreateColumn(column))
        stored = self._stored.columns[column.name.lower()]
        lost = [each.text for each in stored.clauses if self._words(each) & self._gone]
        self._lost += [f"{text!r} of column {stored.name}" for text in lost]
        before, after = self._spec(self._old.c[key]), self._spec(column)
        if before.type != after.type:
            stored.type, stored.text = after.type, None
        for kind in ("NOT NULL", "DEFAULT", "COLLATE"):
            was, shall = (next((each.text for each in spec.of_kind(kind)), None) for spec in (before, after))
            # A type that says no collation does not say that it goes.
            if was != shall and not (kind == "COLLATE" and shall is None):
                stored.without(stored.of_kind("NULL") if kind == "NOT NULL" else ())
                stored.put(kind, shall)
        if after.of_kind("PRIMARY KEY") and not before.of_kind("PRIMARY KEY"):
            # `sqlite_autoincrement` of the batch's table_kwargs.
            for each in [each for each in self._stored.clauses() if each.kind == "PRIMARY KEY"]:
                self._stored.remove(each)
            stored.put("PRIMARY KEY", after.of_kind("PRIMARY KEY")[0].text)
        return str(stored)

    def _spec(self, column: Column[Any]) -> StoredColumn:
        """Return a column as SQLAlchemy writes it."""
        kind = column.type
        try:
            if isinstance(kind, NullType):
                column.type = Numeric()  # a column without a type is not written
            return read_column(self._compiler().get_column_specification(column))
        finally:
            column.type = kind

    def _compiler(self) -> Any:  # noqa: ANN401  # it has no type
        return self._dialect.ddl_compiler(self._dialect, None)  # type: ignore[arg-type]  # as SQLAlchemy does

    def _compiled(self, construct: Any) -> str:  # noqa: ANN401  # any DDL
        return str(construct.compile(dialect=self._dialect)).strip()

    def _take_constraints(self) -> None:
        """Take out of the stored table what the batch drops, and put in what it adds."""
        for constraint in self._old.constraints:
            if not self._stays(constraint):
                self._drop(constraint)
        self._replace_checks()
        old = {self._identity(each) for each in self._old.constraints}
        added = {
            self._identity(each): each for each in self._new.constraints if self._identity(each) not in old
        }
        known = {each.meaning for each in self._stored.clauses()}
        for constraint in added.values():
            sql = self._compiler().process(constraint)
            if sql and not (_name(constraint) is None and meaning_of(tokens_of(sql)) in known):
                self._stored.added.append(sql)
                self._take_unnamed(constraint)
        for clause in self._stored.constraints:
            about = self._words(clause)
            if about and about <= self._gone:
                self._stored.remove(clause)
            elif about & self._gone:
                self._lost.append(repr(clause.text))

    def _take_unnamed(self, constraint: Constraint) -> None:
        """Let an added constraint be the one that is there without a name: SQLAlchemy would find that one."""
        for clause in self._stored.clauses():
            same = clause.kind == "UNIQUE" and isinstance(constraint, UniqueConstraint)
            if (
                same
                and clause.name is None
                and "conflict" not in clause.words
                and self._means(clause, constraint)
            ):
                self._stored.remove(clause)

    def _stays(self, constraint: Constraint) -> bool:
        """Say whether the batch keeps a constraint."""
        if getattr(constraint, "_type_bound", False):
            # It comes and goes with a type, such as Boolean or Enum.
            return self._identity(constraint) in {self._identity(each) for each in self._new.constraints}
        if self._batch.reflected and isinstance(constraint, CheckConstraint) and not constraint.name:
            return True  # Alembic passes over it
        after = [*self._batch.named_constraints.values(), *self._batch.unnamed_constraints]
        return any(constraint is each for each in after)

    def _drop(self, constraint: Constraint) -> None:
        kinds = _KINDS.get(type(constraint), ())
        candidates = [each for each in self._stored.clauses() if each.kind in kinds]
        named = [each for each in candidates if each.name and each.name == (_name(constraint) or "").lower()]
        alike = [each for each in candidates if not each.name and self._means(each, constraint)]
        if not (named or alike):
            if getattr(constraint, "_type_bound", False) or set(_columns(constraint)) <= self._gone:
                return  # the type never had one here; or it goes with its column
            raise CommandError(
                f"Constraint {constraint.name!r} of table {self._old.name!r} is not found in what SQLite has "
                "stored of it; nothing is changed.\n  Fix: name it as `.schema` of sqlite3 shows it, or give "
                "batch_alter_table() the naming_convention that makes its name."
            )
        self._stored.remove((named or alike)[0])

    def _identity(self, constraint: Constraint) -> object:
        """Return what a constraint and its copy for the new table have in common."""
        about: object = _columns(constraint)
        if isinstance(constraint, ForeignKeyConstraint):
            targets = tuple(each.target_fullname for each in constraint.elements)
            when = (constraint.ondelete, constraint.onupdate, constraint.deferrable, constraint.initially)
            about = (about, targets, when)
        elif isinstance(constraint, CheckConstraint):
            about = self._condition(constraint)
        return type(constraint), _name(constraint), about

    def _means(self, clause: Clause, constraint: Constraint) -> bool:
        """Say whether a stored constraint without a name is this one."""
        if isinstance(constraint, PrimaryKeyConstraint):
            return True  # there is one at most
        if isinstance(constraint, CheckConstraint):
            return clause.meaning == meaning_of(tokens_of(f"CHECK ({self._condition(constraint)})"))
        if clause.columns != _columns(constraint):
            return False
        if not isinstance(constraint, ForeignKeyConstraint):
            return True
        table, columns = clause.refers_to
        targets = [each.target_fullname.lower().split(".") for each in constraint.elements]
        return targets[0][-2] == table and columns in {(), tuple(each[-1] for each in targets)}

    def _condition(self, constraint: CheckConstraint) -> str:
        process = self._compiler().sql_compiler.process
        return str(process(constraint.sqltext, include_table=False, literal_binds=True))

    def _replace_checks(self) -> None:
        """Let a CHECK without a name in `table_args` take the place of those about the same columns.

        Alembic's documentation has it so; there it takes the place of all.
        """
        for given in self._batch.table_args:
            if isinstance(given, CheckConstraint) and given.name is None:
                about = names_in(str(given.sqltext)) & frozenset(self._stored.columns)
                for clause in self._stored.clauses():
                    unnamed = clause.kind == "CHECK" and clause.name is None
                    if unnamed and self._words(clause) - self._gone == about - self._gone:
                        self._stored.remove(clause)

    def _words(self, clause: Clause) -> frozenset[str]:
        """Return the columns of the table that a clause is about."""
        if clause.kind in {"FOREIGN KEY", "REFERENCES"}:
            table, columns = clause.refers_to
            itself = columns if table == self._old.name.lower() else ()
            return frozenset((*clause.columns, *itself))
        return clause.words & frozenset(self._stored.columns)


def is_old(batch: ApplyBatchImpl, key: str) -> bool:
    """Say whether a column of the new table is one that the old table has."""
    return key in batch.table.c and "expr" in batch.column_transfers[key]


def _name(constraint: Constraint) -> str | None:
    return str(constraint.name) if isinstance(constraint.name, str) else None


def _columns(constraint: Constraint) -> tuple[str, ...]:
    return tuple(column.name.lower() for column in getattr(constraint, "columns", ()))
