"""This module holds the mixin that hides rows instead of deleting them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.orm import (
    Mapped,
    MappedColumn,
    Mapper,
    ORMExecuteState,
    Session,
    mapped_column,
    with_loader_criteria,
)

from unitwork._runtime.connections.listeners import HARMLESS, HIDES
from unitwork._runtime.sessions.sync_session import SHOWS_HIDDEN
from unitwork._sqlalchemy.versions import with_criteria
from unitwork.models.shared import SharedColumn
from unitwork.models.timestamps import UTCDateTime

__all__ = ["SoftDeleteMixin"]

_OPTION = "include_deleted"


def _deleted(_model: type, **options: Any) -> MappedColumn[dt.datetime | None]:
    return mapped_column(UTCDateTime(), nullable=True, index=True, sort_order=120, **options)


class SoftDeleteMixin:
    """`deleted_at`: rows that have it are hidden from every SELECT, join and loader of the ORM.

    `execution_options(include_deleted=True)` on a statement shows them. `delete()` of a session or a
    repository deletes for good, and an UPDATE or DELETE of many rows touches those that it names.
    """

    __unitwork_hidden_by__ = "deleted_at"

    if TYPE_CHECKING:
        deleted_at: Mapped[dt.datetime | None]
    else:
        deleted_at = SharedColumn(dt.datetime | None, _deleted, default=None, kw_only=True)

    @property
    def is_deleted(self) -> bool:
        """Whether the row is hidden."""
        return self.deleted_at is not None

    def soft_delete(self) -> None:
        """Hide the row, with the next flush."""
        self.deleted_at = dt.datetime.now(dt.UTC)

    def restore(self) -> None:
        """Show the row again, with the next flush."""
        self.deleted_at = None

    def __unitwork_hidden__(self, options: Mapping[str, Any] | None) -> bool:
        return self.is_deleted and not (options or {}).get(_OPTION, False)


def _is_kept(model: Any) -> Any:  # noqa: ANN401  # a model, and a condition
    return model.deleted_at.is_(None)


_HIDE = with_loader_criteria(SoftDeleteMixin, _is_kept, include_aliases=True)


def _hide(asked: ORMExecuteState) -> None:
    if not asked.is_select or asked.is_column_load:
        return
    if _shows(asked):
        asked.statement = _without_option(asked.statement)
    else:
        asked.statement = _without_deleted(asked.statement)


def _without_deleted(statement: Any) -> Any:  # noqa: ANN401  # any SELECT
    return with_criteria(statement, _HIDE)


def _without_option(statement: Any) -> Any:  # noqa: ANN401  # any SELECT
    """Return a statement without the option that it got from the entity whose relationship it loads."""
    if _HIDE not in statement._with_options:  # noqa: SLF001  # options can be added in public, not taken
        return statement
    kept = tuple(option for option in statement._with_options if option is not _HIDE)  # noqa: SLF001
    shown = statement._generate()  # noqa: SLF001
    shown._with_options = kept  # noqa: SLF001
    return shown


def _shows(asked: ORMExecuteState) -> bool:
    session = asked.session
    # A flush loads what refers to a deleted row, and must find all of it.
    flushing: bool = getattr(session, "_flushing", False)
    return bool(asked.execution_options.get(_OPTION)) or flushing or SHOWS_HIDDEN in session.info


@event.listens_for(SoftDeleteMixin, "instrument_class", propagate=True)
def _watch(mapper: Mapper[Any], model: type) -> None:
    """Listen to sessions from the first such model on; programs without one pay nothing."""
    del mapper, model
    if not event.contains(Session, "do_orm_execute", _hide):
        event.listen(Session, "do_orm_execute", _hide)
        HARMLESS["do_orm_execute"] += 1
        HIDES.append(_without_deleted)
