"""This module holds times in UTC, on every database, and the mixin that keeps them."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from sqlalchemy import DateTime, Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, MappedColumn, mapped_column
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine
from typing_extensions import override

from unitwork._sqlalchemy.dialects import mysql
from unitwork.models.shared import SharedColumn

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler

__all__ = ["TimestampMixin", "UTCDateTime", "utc_now"]


class UTCDateTime(TypeDecorator[dt.datetime]):
    """A time with its time zone, which is always UTC in Python, to the microsecond.

    PostgreSQL stores `timestamptz`; SQLite and MariaDB, which know no time zones, store UTC.

    Raises:
        sqlalchemy.exc.StatementError: A value without a time zone; nobody could say what it means.
    """

    impl = DateTime
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(timezone=True)

    @override
    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        # Without the number, MariaDB cuts the microseconds off.
        kind: TypeEngine[Any] = mysql.DATETIME(fsp=6) if _is_mysql(dialect) else DateTime(timezone=True)
        return dialect.type_descriptor(kind)

    @override
    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("This time has no time zone.\n  Fix: use datetime.now(UTC).")
        there = value.astimezone(dt.UTC)
        return there if dialect.name == "postgresql" else there.replace(tzinfo=None)

    @override
    def process_result_value(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


class utc_now(FunctionElement[dt.datetime]):  # noqa: N801  # reads as SQL
    """The server's time; on PostgreSQL that at which the transaction began."""

    type = UTCDateTime()
    inherit_cache = True


@compiles(utc_now)
def _standard(_element: utc_now, _compiler: SQLCompiler, **_more: Any) -> str:
    return "CURRENT_TIMESTAMP"


@compiles(utc_now, "mysql")
@compiles(utc_now, "mariadb")
def _mysql(_element: utc_now, _compiler: SQLCompiler, **_more: Any) -> str:
    return "UTC_TIMESTAMP(6)"


@compiles(utc_now, "sqlite")
def _sqlite(_element: utc_now, _compiler: SQLCompiler, **_more: Any) -> str:
    # SQLite's clock knows milliseconds; SQLAlchemy reads the fraction as a number of microseconds.
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


def _is_mysql(dialect: Dialect) -> bool:
    return dialect.name in {"mysql", "mariadb"}


def _created(_model: type, **options: Any) -> MappedColumn[dt.datetime]:
    return mapped_column(UTCDateTime(), server_default=utc_now(), sort_order=110, **options)


def _updated(_model: type, **options: Any) -> MappedColumn[dt.datetime]:
    return mapped_column(
        UTCDateTime(), server_default=utc_now(), onupdate=utc_now(), sort_order=111, **options
    )


class TimestampMixin:
    """`created_at` and `updated_at`: by the clock of the server, in UTC.

    `updated_at` changes with each UPDATE of SQLAlchemy, also one of many rows, and with an upsert of
    unitwork. Only SQL that is written by hand has to set it.
    """

    if TYPE_CHECKING:
        created_at: Mapped[dt.datetime]
        updated_at: Mapped[dt.datetime]
    else:
        created_at = SharedColumn(dt.datetime, _created, default=None, kw_only=True)
        updated_at = SharedColumn(dt.datetime, _updated, default=None, kw_only=True)
