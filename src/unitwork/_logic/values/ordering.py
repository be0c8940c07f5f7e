"""This module says in which form values are compared and kept, where rows are walked in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, JSON, Double, Enum, Float, Numeric, PickleType, String, cast, type_coerce
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine
from typing_extensions import override

from unitwork._logic.values.columns import changes_values, inner_type, is_set

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

_LONGEST_LABEL = 255


class StoredValue(TypeDecorator[Any]):
    """The values of another type as the database has them: unrounded, and not as a decorator shows them."""

    impl = NullType
    cache_ok = True

    def __init__(self, shown: TypeEngine[Any]) -> None:
        super().__init__()
        self.shown = shown

    @override
    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        inner = inner_type(self.shown, dialect)
        if isinstance(inner, Numeric) and not dialect.supports_native_decimal:
            # SQLite stores a float, which SQLAlchemy shows with as many digits as the column has.
            inner = Double()
        return dialect.type_descriptor(inner)


def sortable(column: Any) -> Any:  # noqa: ANN401  # attribute or column
    """Return what to order by, so that all databases order alike."""
    # MariaDB orders its enum type by place and compares it by name: as text both are by name.
    return cast(column, String(_LONGEST_LABEL)) if isinstance(inner_type(column.type), Enum) else column


def has_order(column: Any, dialect: Dialect) -> bool:  # noqa: ANN401  # attribute or column
    """Say whether rows can be walked in the order of a column: whether a cursor can hold its values."""
    inner = inner_type(column.type, dialect)
    return not (isinstance(inner, ARRAY | JSON | PickleType) or is_set(inner))


def exact(column: Any) -> Any:  # noqa: ANN401  # attribute or column
    """Return what to select and compare, so that a value that was read is the one that is stored."""
    inner = inner_type(column.type)
    if isinstance(inner, Float):
        # MariaDB compares a FLOAT exactly, but returns it rounded: as a double it comes back whole.
        return cast(column, Double())
    if isinstance(inner, Enum):
        return sortable(column)
    if isinstance(inner, Numeric) or changes_values(column.type):
        return type_coerce(column, StoredValue(column.type))
    return column
