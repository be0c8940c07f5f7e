"""This module decides which of the differences that Alembic finds are written into a revision."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from alembic.operations import ops
from alembic.util import CommandError
from sqlalchemy import ClauseElement
from sqlalchemy.sql.elements import conv

from unitwork.integrations.alembic.keeping.existing import StoredTables

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import Connection

__all__: list[str] = []

_Operations: TypeAlias = "list[ops.MigrateOperation]"

_CREATES = (ops.CreateIndexOp, ops.CreateUniqueConstraintOp, ops.CreateForeignKeyOp)
_WORDS = {"unique": "unique constraint", "foreignkey": "foreign key", "check": "check constraint"}

# A database gives SQL text back with other brackets, casts and quotes than a model has.
_WRITTEN_OTHERWISE = re.compile(r"::[\w ]+|[\s()\"`]")


def refuse_drops(scripts: Iterable[ops.MigrationScript], modules: Sequence[str], dialect: str) -> None:
    """Refuse revisions that drop what no model names: a model that is not loaded looks like one that is gone.

    Args:
        scripts: What is about to be written.
        modules: Where the models that were compared come from.
        dialect: The name of SQLAlchemy for the database.

    Raises:
        CommandError: They drop tables, columns, indexes, constraints, comments or defaults; it names them.
    """
    dropped = [
        each
        for script in scripts
        for part in script.upgrade_ops_list
        for each in _dropped(list(_flat(part.ops)), dialect)
    ]
    if dropped:
        raise CommandError(
            f"The revision would drop what no loaded model names; it is not written: {', '.join(dropped)}.\n"
            f"  Loaded: models of {', '.join(modules) or 'no module'}. A base, or a module, may be missing.\n"
            "  Fix: import that module in env.py; say in the models what is to stay; leave what belongs to "
            "others to them, with `run_environment(include_object=...)`; or drop it with --allow-drop, and "
            "lose what it holds."
        )


def _dropped(operations: _Operations, dialect: str) -> Iterator[str]:
    created = [each for each in operations if isinstance(each, _CREATES)]
    kept = {_meaning(each, dialect) for each in created} | {_key(each) for each in created} - {None}
    tables = {(each.schema, each.table_name) for each in operations if isinstance(each, ops.DropTableOp)}
    for operation in operations:
        if isinstance(operation, ops.DropTableOp):
            yield f"table {_dotted(operation.schema, operation.table_name)}"
        elif isinstance(operation, ops.DropColumnOp):
            yield f"column {_dotted(operation.schema, operation.table_name, operation.column_name)}"
        elif isinstance(operation, ops.DropIndexOp | ops.DropConstraintOp):
            # Alembic drops and creates what it changes; the model names that.
            replaced = {
                _meaning(operation.reverse(), dialect),
                _key(operation),
                _key(operation.reverse()),
            } & kept
            if not replaced and (operation.schema, operation.table_name) not in tables:
                yield _part(operation)
        elif isinstance(operation, ops.AlterColumnOp) and operation.modify_server_default is None:
            yield f"default of {_dotted(operation.schema, operation.table_name, operation.column_name)}"


def _part(operation: ops.DropIndexOp | ops.DropConstraintOp) -> str:
    """Return the words for an index or a constraint."""
    if isinstance(operation, ops.DropIndexOp):
        return f"index {_dotted(operation.schema, operation.table_name, operation.index_name)}"
    kind = _WORDS.get(operation.constraint_type or "", "constraint")
    if isinstance(operation.constraint_name, str):
        return f"{kind} {_dotted(operation.schema, operation.table_name, operation.constraint_name)}"
    made: Any = operation.reverse()
    columns = made.local_cols if isinstance(made, ops.CreateForeignKeyOp) else made.columns
    return f"{kind} {_dotted(operation.schema, operation.table_name)}({', '.join(map(str, columns))})"


def _key(operation: Any) -> object:  # noqa: ANN401  # what creates or drops an index or a constraint
    """Return by what a model names an index or constraint: its name, or the columns of a foreign key."""
    if isinstance(operation, ops.CreateForeignKeyOp):
        return operation.kw.get("source_schema"), operation.source_table, tuple(operation.local_cols)
    name = _name(operation)
    return name and ("name", operation.schema, operation.table_name, str(name))


def _dotted(*names: str | None) -> str:
    return ".".join(name for name in names if name)


def keep_form(context: MigrationContext, scripts: Iterable[ops.MigrationScript], *, rename: bool) -> None:
    """Take out of the scripts what changes the form alone.

    Args:
        context: Knows the database.
        scripts: What is about to be written.
        rename: Names that a convention makes are given to what has others.
    """
    if context.connection is None:
        return
    existing = _Existing(context.connection, rename=rename)
    for script in scripts:
        for upgrade, downgrade in zip(script.upgrade_ops_list, script.downgrade_ops_list, strict=True):
            redundant = existing.redundant(list(_flat(upgrade.ops)))
            _remove(upgrade, redundant)
            upgrade.reverse_into(downgrade)


class _Existing:
    """Finds out which operations ask for what is there. Lives: one comparison."""

    def __init__(self, connection: Connection, *, rename: bool) -> None:
        self._rename = rename
        self._dialect = connection.dialect.name
        self._stored = StoredTables(connection) if self._dialect == "sqlite" else None

    def redundant(self, operations: _Operations) -> _Operations:
        """Return the pairs that drop and create the same, and what exists unseen.

        Models seldom repeat the comments that a database has: one without a comment does not ask for none.
        """
        gone: dict[object, _Operations] = defaultdict(list)
        for operation in operations:
            if isinstance(operation, ops.DropIndexOp | ops.DropConstraintOp):
                gone[_meaning(operation.reverse(), self._dialect)].append(operation)
        found: _Operations = [each for each in operations if isinstance(each, ops.DropTableCommentOp)]
        for operation in operations:
            if isinstance(operation, ops.AlterColumnOp) and operation.modify_comment is None:
                operation.modify_comment = False
                found += [] if operation.has_changes() else [operation]
            open_name = not self._rename and _says_no_name(operation)
            meaning = _meaning(operation, self._dialect) if open_name else None
            if meaning is not None and gone[meaning]:
                found += [operation, gone[meaning].pop()]
            elif self._stored is not None and self._stored.has(operation, open_name=open_name):
                found.append(operation)
                # Alembic has read it in another form, and drops that.
                found += [each for each in operations if _is_same_reference(each, operation)]
        return found


def _is_same_reference(dropped: ops.MigrateOperation, created: ops.MigrateOperation) -> bool:
    if not isinstance(dropped, ops.DropConstraintOp) or not isinstance(created, ops.CreateForeignKeyOp):
        return False
    return _key(dropped.reverse()) == _key(created)


def _meaning(operation: ops.MigrateOperation, dialect: str) -> object:
    """Return all of an index or a unique constraint but its name; None for other things.

    A unique index and a unique constraint mean the same; MariaDB does not even tell them apart.
    """
    if not isinstance(operation, ops.CreateIndexOp | ops.CreateUniqueConstraintOp):
        return None
    unique = isinstance(operation, ops.CreateUniqueConstraintOp) or bool(operation.unique)
    columns = tuple(_text(column) for column in operation.columns)
    options = {(name, _text(value)) for name, value in operation.kw.items() if _counts(name, value, dialect)}
    return operation.schema, operation.table_name, unique, columns, frozenset(options)


def _counts(option: str, value: object, dialect: str) -> bool:
    is_set = isinstance(value, ClauseElement) or bool(value)
    return is_set and (option.startswith(f"{dialect}_") or option in {"deferrable", "initially"})


def _name(operation: ops.MigrateOperation) -> str | None:
    return getattr(operation, "index_name", None) or getattr(operation, "constraint_name", None)


def _says_no_name(operation: ops.MigrateOperation) -> bool:
    """Say whether the model leaves the name open, to a convention or to the database."""
    name = _name(operation)
    return name is None or isinstance(name, conv)


def _text(part: Any) -> str:  # noqa: ANN401  # a name, an expression, or an option
    return _WRITTEN_OTHERWISE.sub("", str(getattr(part, "name", None) or part)).lower()


def _flat(operations: _Operations) -> Iterator[ops.MigrateOperation]:
    for operation in operations:
        if isinstance(operation, ops.OpContainer):
            yield from _flat(operation.ops)
        else:
            yield operation


def _remove(container: ops.OpContainer, redundant: _Operations) -> None:
    for operation in list(container.ops):
        if isinstance(operation, ops.OpContainer):
            _remove(operation, redundant)
            if not operation.ops:
                container.ops.remove(operation)
        elif any(operation is each for each in redundant):
            container.ops.remove(operation)
