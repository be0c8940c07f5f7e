"""This module holds the mixin that finds out when somebody else has changed a row meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnDefault, event, text
from sqlalchemy.orm import Mapped, MappedColumn, Mapper, mapped_column

from unitwork.models.shared import SharedColumn

__all__ = ["VersionMixin"]


def _version(_model: type, **options: Any) -> MappedColumn[int]:
    return mapped_column(insert_default=1, server_default=text("1"), sort_order=100, **options)


class VersionMixin:
    """`version`: counts the changes of a row, and refuses one that is based on an older version.

    Such a change raises `StaleRowError` from a repository, and SQLAlchemy's `StaleDataError` from a
    session.
    """

    if TYPE_CHECKING:
        version: Mapped[int]
    else:
        version = SharedColumn(int, _version, init=False)


# Not `__mapper_args__`: those of the model itself would replace them without a word.
@event.listens_for(VersionMixin, "instrument_class", propagate=True)
def _count_versions(mapper: Mapper[Any], model: type) -> None:
    del model
    if mapper.inherits is None:
        column: Any = mapper.local_table.c.version
        mapper.version_id_col = column
        # An UPDATE of many rows is a change of each as well. `onupdate=` cannot name its own column.
        counted: Any = ColumnDefault(column + 1)
        counted.for_update = True
        counted._set_parent_with_dispatch(column)  # noqa: SLF001  # what a column does with `onupdate=`
