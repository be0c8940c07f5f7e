"""What a conflict is about is decided by the unique keys of the table."""

import pytest
from sqlalchemy import Column, Index, Integer, MetaData, Table, UniqueConstraint, func, text

from unitwork._logic.conflicts import check_target, unique_keys
from unitwork.errors import ConflictTargetError

TABLE = Table(
    "things",
    MetaData(),
    Column("identity", Integer, key="id", primary_key=True),
    Column("email", Integer, unique=True),
    Column("tenant", Integer),
    Column("name", Integer),
    UniqueConstraint("tenant", "name"),
    Index("by_name", "name", unique=True, postgresql_where=text("name > 0")),
    Index("plain", "tenant"),
)
Index("lower", func.lower(TABLE.c.name), unique=True)


def test_unique_keys_are_those_of_whole_columns() -> None:
    """The primary key, unique constraints and indexes; none that covers only some rows or an expression."""
    assert unique_keys(TABLE) == [("id",), ("email",), ("tenant", "name")]


@pytest.mark.parametrize("target", [["id"], ["email"], ["name", "tenant"]])
def test_target_is_a_unique_key_in_any_order(target: list[str]) -> None:
    """Columns that are a key are accepted."""
    check_target(TABLE, target)


@pytest.mark.parametrize("target", [["name"], ["tenant"], ["email", "id"], []])
def test_other_targets_are_refused(target: list[str]) -> None:
    """A part of a key, or more than one, is none."""
    with pytest.raises(ConflictTargetError):
        check_target(TABLE, target)
