"""This module lets Alembic change columns of MariaDB without losing what the migration does not name."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from alembic.ddl.mysql import MariaDBImpl, MySQLChangeColumn, MySQLImpl
from sqlalchemy import String, text
from sqlalchemy.types import to_instance

from unitwork.integrations.alembic.keeping.stored import read_column, tokens_of

if TYPE_CHECKING:
    from unitwork.integrations.alembic.keeping.stored import StoredColumn

__all__: list[str] = []

_CLAUSES = frozenset(
    {
        "CHARACTER",
        "COLLATE",
        "GENERATED",
        "AS",
        "NOT",
        "NULL",
        "DEFAULT",
        "ON",
        "AUTO_INCREMENT",
        "COMMENT",
        "CHECK",
    }
    | {"INVISIBLE", "COMPRESSED", "WITHOUT", "WITH", "REF_SYSTEM_ID"}
)
_OF_TEXT = ("CHARACTER", "COLLATE")
# By which value an argument of `alter_column` names nothing, and what it is about.
_UNNAMED: defaultdict[str, object] = defaultdict(lambda: None, server_default=False, comment=False)
_KINDS: defaultdict[str, tuple[str, ...]] = defaultdict(
    tuple,
    nullable=("NOT NULL", "NULL"),
    server_default=("DEFAULT", "ON"),
    comment=("COMMENT",),
    autoincrement=("AUTO_INCREMENT",),
)
# The character set belongs to the type, and a condition comes last.
_ORDER = {"CHARACTER": -3, "COLLATE": -2, "GENERATED": -1, "CHECK": 1}


class _KeepingColumns(MySQLImpl):
    """MariaDB as Alembic sees it, except that a column keeps what is not named.

    MODIFY says a column anew: its character set, ON UPDATE and its CHECK go if they are not said again.
    """

    _named: dict[str, Any] | None = None

    def alter_column(self, table_name: str, column_name: str, **named: Any) -> None:
        """Change a column."""
        self._named = named
        try:
            super().alter_column(table_name, column_name, **named)
        finally:
            self._named = None

    def _exec(self, construct: Any, *rest: Any, **more: Any) -> Any:  # noqa: ANN401  # as Alembic has it
        if self._named is None or self.as_sql or not isinstance(construct, MySQLChangeColumn):
            return super()._exec(construct, *rest, **more)
        statement = self._keeping(construct, self._named)
        return super()._exec(construct if statement is None else text(statement.replace(":", "\\:")))

    def _keeping(self, construct: MySQLChangeColumn, named: dict[str, Any]) -> str | None:
        """Return the statement that changes a column and keeps the rest of it; None if there is none."""
        quote = self.dialect.identifier_preparer.quote_identifier
        table = ".".join(quote(str(each)) for each in (construct.schema, construct.table_name) if each)
        column = quote(construct.column_name)
        stored = self._stored(table, column)
        if stored is None:
            return None
        wanted = str(construct.compile(dialect=self.dialect))
        if self.dialect.paramstyle in {"format", "pyformat"}:
            wanted = wanted.replace("%%", "%")
        # Of CHANGE and of MODIFY the name and what the column shall be come last.
        words = list(tokens_of(wanted))
        place = next(place for place, each in enumerate(words) if each.keyword in {"CHANGE", "MODIFY"})
        name = place + (2 if words[place].keyword == "CHANGE" else 1)
        _merge(stored, read_column(wanted[words[name].start :], _CLAUSES), named)
        stored.clauses.sort(key=lambda each: _ORDER.get(each.kind, 0))
        stored.written, stored.text = quote(str(construct.newname)), None
        for check in stored.of_kind("CHECK"):
            stored.put("CHECK", check.text.replace(column, stored.written))
        return f"ALTER TABLE {table} CHANGE {column} {stored}"

    def _stored(self, table: str, column: str) -> StoredColumn | None:
        connection = self.connection
        assert connection is not None  # noqa: S101  # it is without in offline mode alone
        created = str(connection.exec_driver_sql(f"SHOW CREATE TABLE {table}").one()[1])
        found = re.search(rf"^ *({re.escape(column)} .*?),?$", created, re.MULTILINE | re.IGNORECASE)
        return None if found is None else read_column(found[1], _CLAUSES)


class KeepingMySQL(_KeepingColumns):
    """For `mysql+asyncmy` and `mysql+aiomysql`."""

    __dialect__ = "mysql"


class KeepingMariaDB(_KeepingColumns, MariaDBImpl):
    """For `mariadb+asyncmy` and `mariadb+aiomysql`."""

    __dialect__ = "mariadb"


def _merge(stored: StoredColumn, wanted: StoredColumn, named: dict[str, Any]) -> None:
    """Take over from the wanted column what is named."""
    said = {each.kind: each.text for each in wanted.clauses}
    named = {name: value for name, value in named.items() if value is not _UNNAMED[name]}
    kinds = [kind for name in named for kind in _KINDS[name]]
    if "type_" in named:
        stored.type = wanted.type
        if said.keys() & set(_OF_TEXT) or not isinstance(to_instance(named["type_"]), String):
            kinds += _OF_TEXT
    if "ON" not in said and "ON" in kinds:
        kinds.remove("ON")  # a default does not say whether it is taken again
    for kind in kinds:
        stored.put(kind, said.get(kind))
    if "NOT NULL" in {each.kind for each in stored.clauses}:
        stored.without(each for each in stored.of_kind("DEFAULT") if each.meaning == "default null")
