"""This module decides which of the differences that Alembic finds are written into a revision."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from alembic.operations import ops
from alembic.util import CommandError
from sqlalchemy import ClauseElement, inspect
from sqlalchemy.sql.elements import conv

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine.reflection import Inspector

__all__: list[str] = []

_Operations: TypeAlias = "list[ops.MigrateOperation]"

# A database gives SQL text back with other brackets, casts and quotes than a model has.
_WRITTEN_OTHERWISE = re.compile(r"::[\w ]+|[\s()\"`]")


def refuse_drops(scripts: Iterable[ops.MigrationScript], modules: Sequence[str]) -> None:
    """Refuse revisions that drop tables or columns: a model that was not loaded looks like one that is gone.

    Args:
        scripts: What is about to be written.
        modules: Where the models that were compared come from.

    Raises:
        CommandError: They drop some; it names them.
    """
    dropped = [each for script in scripts for part in script.upgrade_ops_list for each in _dropped(part.ops)]
    if dropped:
        raise CommandError(
            f"The revision would drop what no loaded model names; it is not written: {', '.join(dropped)}.\n"
            f"  Loaded: models of {', '.join(modules) or 'no module'}. A base, or a module, may be missing.\n"
            "  Fix: import that module in env.py; leave what belongs to others to them, with "
            "`run_environment(include_object=...)`; or drop with --allow-drop, and lose the data."
        )


def _dropped(operations: _Operations) -> Iterator[str]:
    for operation in operations:
        if isinstance(operation, ops.DropTableOp):
            yield f"table {_dotted(operation.schema, operation.table_name)}"
        elif isinstance(operation, ops.DropColumnOp):
            yield f"column {_dotted(operation.schema, operation.table_name, operation.column_name)}"
        elif isinstance(operation, ops.OpContainer):
            yield from _dropped(operation.ops)


def _dotted(*names: str | None) -> str:
    return ".".join(name for name in names if name)


def keep_names(context: MigrationContext, scripts: Iterable[ops.MigrationScript]) -> None:
    """Take out of the scripts what only gives constraints and indexes the names of a convention."""
    if context.connection is None:
        return
    names = _Names(inspect(context.connection))
    for script in scripts:
        for upgrade, downgrade in zip(script.upgrade_ops_list, script.downgrade_ops_list, strict=True):
            redundant = names.redundant(list(_flat(upgrade.ops)))
            if redundant:
                _remove(upgrade, redundant)
                upgrade.reverse_into(downgrade)


class _Names:
    """Finds out which operations change nothing but names. Lives: one call."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector
        self._options = f"{inspector.dialect.name}_"

    def redundant(self, operations: _Operations) -> _Operations:
        """Return the pairs that drop and create the same, and what exists without a name."""
        gone: dict[object, _Operations] = defaultdict(list)
        for operation in operations:
            if isinstance(operation, ops.DropIndexOp | ops.DropConstraintOp):
                gone[self._meaning(operation.reverse())].append(operation)
        found: _Operations = []
        for operation in operations:
            meaning = self._meaning(operation) if _has_a_conventions_name(operation) else None
            if meaning is not None and gone[meaning]:
                found += [operation, gone[meaning].pop()]
            elif meaning is not None and self._exists_without_a_name(operation):
                found.append(operation)
        return found

    def _meaning(self, operation: ops.MigrateOperation) -> object:
        """Return all of an index or a unique constraint but its name; None for other things.

        A unique index and a unique constraint mean the same; MariaDB does not even tell them apart.
        """
        if not isinstance(operation, ops.CreateIndexOp | ops.CreateUniqueConstraintOp):
            return None
        unique = isinstance(operation, ops.CreateUniqueConstraintOp) or bool(operation.unique)
        columns = tuple(_text(column) for column in operation.columns)
        options = {(name, _text(value)) for name, value in operation.kw.items() if self._counts(name, value)}
        return operation.schema, operation.table_name, unique, columns, frozenset(options)

    def _counts(self, option: str, value: object) -> bool:
        is_set = isinstance(value, ClauseElement) or bool(value)
        return is_set and (option.startswith(self._options) or option in {"deferrable", "initially"})

    def _exists_without_a_name(self, operation: ops.MigrateOperation) -> bool:
        # SQLite knows such constraints, and Alembic passes over them.
        if not isinstance(operation, ops.CreateUniqueConstraintOp):
            return False
        known = self._inspector.get_unique_constraints(operation.table_name, schema=operation.schema)
        return any(each["name"] is None and each["column_names"] == list(operation.columns) for each in known)


def _has_a_conventions_name(operation: ops.MigrateOperation) -> bool:
    name = getattr(operation, "index_name", None) or getattr(operation, "constraint_name", None)
    return isinstance(name, conv)


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
