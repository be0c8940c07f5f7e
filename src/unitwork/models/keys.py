"""This module holds mixins with a primary key."""

from __future__ import annotations

import secrets
import time
import uuid
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sqlalchemy import BigInteger, Integer, Uuid
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, MappedColumn, mapped_column
from sqlalchemy.sql.functions import FunctionElement

from unitwork.models.shared import SharedColumn

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.sql.compiler import SQLCompiler

__all__ = ["IntPKMixin", "PGUUIDPKMixin", "UUIDPKMixin"]

# What the constructor of a dataclass model takes, and where the column stands in the table.
_FIRST: Any = {"primary_key": True, "sort_order": -100}


def uuid7() -> uuid.UUID:
    """Return a UUID of version 7: it begins with the time in milliseconds, so new ones sort last."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (2**48 - 1)) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


# Python 3.14 has one of its own, which also counts within a millisecond.
_GENERATORS: dict[int, Callable[[], uuid.UUID]] = {4: uuid.uuid4, 7: getattr(uuid, "uuid7", uuid7)}


def _integer(_model: type, **options: Any) -> MappedColumn[int]:
    # SQLite counts up in columns of exactly this type.
    return mapped_column(BigInteger().with_variant(Integer, "sqlite"), **_FIRST, **options)


def _uuid(model: type[UUIDPKMixin], **options: Any) -> MappedColumn[uuid.UUID]:
    generate = _GENERATORS[model.__uuid_version__]
    if options.pop("generated", False):
        options["default_factory"] = generate
    return mapped_column(Uuid(), insert_default=generate, **_FIRST, **options)


def _server_uuid(_model: type, **options: Any) -> MappedColumn[uuid.UUID]:
    return mapped_column(Uuid(), server_default=random_uuid(), **_FIRST, **options)


class IntPKMixin:
    """`id`: a number of 64 bits that the database counts up."""

    if TYPE_CHECKING:
        id: Mapped[int]
    else:
        id = SharedColumn(int, _integer, default=None, kw_only=True)


class UUIDPKMixin:
    """`id`: a UUID made by the program, of version 4 (random), or 7 (`__uuid_version__ = 7`).

    Version 7 sorts by the time it was made, which keeps indexes compact, and tells that time.
    """

    __uuid_version__: ClassVar[Literal[4, 7]] = 4

    if TYPE_CHECKING:
        id: Mapped[uuid.UUID]
    else:
        id = SharedColumn(uuid.UUID, _uuid, generated=True, kw_only=True)


class PGUUIDPKMixin:
    """`id`: a random UUID made by the server: on PostgreSQL by `gen_random_uuid()`."""

    if TYPE_CHECKING:
        id: Mapped[uuid.UUID]
    else:
        id = SharedColumn(uuid.UUID, _server_uuid, default=None, kw_only=True)


class random_uuid(FunctionElement[uuid.UUID]):  # noqa: N801  # reads as SQL
    """A random UUID made by the server."""

    type = Uuid()
    inherit_cache = True


@compiles(random_uuid)
def _postgresql(_element: random_uuid, _compiler: SQLCompiler, **_more: Any) -> str:
    return "gen_random_uuid()"


@compiles(random_uuid, "mariadb")
def _mariadb(_element: random_uuid, _compiler: SQLCompiler, **_more: Any) -> str:
    return "UUID()"


@compiles(random_uuid, "mysql")
def _mysql(_element: random_uuid, _compiler: SQLCompiler, **_more: Any) -> str:
    return "(REPLACE(UUID(), '-', ''))"


@compiles(random_uuid, "sqlite")
def _sqlite(_element: random_uuid, _compiler: SQLCompiler, **_more: Any) -> str:
    # Version 4: one digit says so, another one is 8, 9, a or b.
    return (
        "lower(hex(randomblob(6)) || '4' || substr(hex(randomblob(2)), 2) || "
        "substr('89AB', 1 + (abs(random()) % 4), 1) || substr(hex(randomblob(8)), 2))"
    )
