"""This module holds the declarative bases."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, MappedAsDataclass
from typing_extensions import override

from unitwork.models.data import PlainData
from unitwork.models.shared import declare_shared

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(PlainData, AsyncAttrs, DeclarativeBase):
    """A declarative base with names for all constraints, and a repr that tells the columns.

    What the server fills in is there after the flush (`eager_defaults`).

    Examples:
        >>> class Person(Base):
        ...     __tablename__ = "people"
        ...     id: Mapped[int] = mapped_column(primary_key=True)
        ...     name: Mapped[str]
        >>> Person(id=1, name="Ann")
        Person(id=1, name='Ann')
    """

    __abstract__ = True
    __mapper_args__: Any = {"eager_defaults": True}  # noqa: RUF012  # as SQLAlchemy declares it
    metadata = MetaData(naming_convention=_NAMES)


class DataclassBase(PlainData, MappedAsDataclass, AsyncAttrs, DeclarativeBase, repr=False, eq=False):
    """As `Base`, for models that are dataclasses: the fields are the arguments of the constructor.

    The columns of mixins are keywords, or no arguments at all. Two entities are equal only if they are
    the same, as without a dataclass: they can be in sets, and comparing them loads nothing.

    Examples:
        >>> class Pet(DataclassBase, IntPKMixin):
        ...     __tablename__ = "pets"
        ...     name: Mapped[str]
        ...     legs: Mapped[int] = mapped_column(default=4)
        >>> Pet("Rex").legs
        4
    """

    __abstract__ = True
    __mapper_args__: ClassVar[Any] = {"eager_defaults": True}  # type: ignore[misc]  # else it were a field
    metadata = MetaData(naming_convention=_NAMES)

    @override
    def __init_subclass__(cls, **keywords: Any) -> None:
        declare_shared(cls)
        super().__init_subclass__(**keywords)
