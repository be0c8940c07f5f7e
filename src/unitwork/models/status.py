"""This module holds the mixin for what can be switched off."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from sqlalchemy import Enum
from sqlalchemy.orm import Mapped, MappedColumn, mapped_column

from unitwork.models.shared import SharedColumn

__all__ = ["StatusMixin"]

_LONGEST = 32


def _values(kind: type[enum.Enum]) -> list[str]:
    return [str(member.value) for member in kind]


def _first(model: type[StatusMixin]) -> enum.Enum:
    return next(iter(model.Status))


def _status(model: type[StatusMixin], **options: Any) -> MappedColumn[Any]:
    # Text, so that a new member needs no migration.
    kind = Enum(
        model.Status, native_enum=False, length=_LONGEST, values_callable=_values, validate_strings=True
    )
    first = _first(model)
    return mapped_column(kind, default=first, server_default=str(first.value), sort_order=90, **options)


class StatusMixin:
    """`status`: enabled, the default, or disabled.

    A model may have a `Status` of its own, whose first member is the default then.

    Examples:
        >>> class Lamp(Base, IntPKMixin, StatusMixin):
        ...     __tablename__ = "lamps"
        >>> lamp = Lamp(status=Lamp.Status.DISABLED)
        >>> lamp.is_enabled
        False
    """

    class Status(enum.Enum):
        """Whether something is in use."""

        ENABLED = "enabled"
        DISABLED = "disabled"

    if TYPE_CHECKING:
        status: Mapped[Status]
    else:
        status = SharedColumn(lambda model: model.Status, _status, kw_only=True)

    @property
    def is_enabled(self) -> bool:
        """Whether the status is the first one, or not set yet, which is the same."""
        return self.status in (None, _first(type(self)))
