"""This module holds the declarative base that containers give out."""

from __future__ import annotations

from sqlalchemy import MetaData

from unitwork.integrations.pico_ioc.marks import provides
from unitwork.models import Base


class AppBase(Base):
    """The declarative base of an application in a container; a component asks for it by its type.

    As `unitwork.Base`, with tables of its own.

    Examples:
        >>> class Account(AppBase):
        ...     __tablename__ = "accounts"
        ...     id: Mapped[int] = mapped_column(primary_key=True)
        ...     owner: Mapped[str]
        >>> Account(id=1, owner="Ann")
        Account(id=1, owner='Ann')
    """

    __abstract__ = True
    metadata = MetaData(naming_convention=Base.metadata.naming_convention)


# Not a component itself: its subclasses would inherit the marks, and one of them be given out.
@provides(AppBase)
def app_base() -> type[AppBase]:
    """Give out the class; `AppBase` as the annotation of a component's argument means it."""
    return AppBase
