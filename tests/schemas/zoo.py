"""This module holds models with every trap that a schema can fall into."""

import datetime as dt
import decimal
import enum
import uuid
from typing import Annotated, Any, Literal, NewType

from sqlalchemy import JSON, Computed, Enum, ForeignKey, Identity, Integer, MetaData, Numeric, String, func
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, column_property, deferred, mapped_column, relationship

from unitwork import (
    Base,
    DataclassBase,
    IntPKMixin,
    SoftDeleteMixin,
    StatusMixin,
    TimestampMixin,
    UUIDPKMixin,
    VersionMixin,
)

Name = Annotated[str, mapped_column(String(50))]
Weight = NewType("Weight", int)


class Size(enum.Enum):
    """Names and values differ in length, too."""

    SMALL = "s"
    ENORMOUS = "e"


class Zoo(Base):
    """The base of the plain models."""

    __abstract__ = True
    metadata = MetaData()


class Keeper(Zoo, IntPKMixin, TimestampMixin, VersionMixin):
    """Has animals, and a boss who is a keeper."""

    __tablename__ = "keepers"

    name: Mapped[Name]
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("keepers.id"))

    boss: Mapped["Keeper | None"] = relationship(remote_side="Keeper.id")
    animals: Mapped[list["Animal"]] = relationship(back_populates="keeper")


class Animal(Zoo, UUIDPKMixin, StatusMixin, SoftDeleteMixin):
    """Everything at once."""

    __tablename__ = "animals"

    name: Mapped[Name] = mapped_column(doc='What "visitors" call it.')
    nick: Mapped[str | None]
    size: Mapped[Size] = mapped_column(default=Size.SMALL)
    diet: Mapped[Literal["meat", "grass"]] = mapped_column(default="grass")
    facts: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    price: Mapped[decimal.Decimal] = mapped_column(Numeric(10, 2), default=decimal.Decimal("9.50"))
    weight: Mapped[Weight] = mapped_column("weight_in_kg", Integer, default=1)
    born: Mapped[dt.date] = mapped_column(default=dt.date(2020, 1, 1))
    fed: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    tag: Mapped[uuid.UUID] = mapped_column(default=uuid.uuid4)
    loud: Mapped[str] = mapped_column(Computed("upper(name)"))
    datetime: Mapped[dt.datetime | None]
    schema: Mapped[str | None] = mapped_column(String(10))
    model_name: Mapped[str] = mapped_column(server_default="lion")
    story: Mapped[str | None] = deferred(mapped_column(String(1000)))
    old_style = mapped_column(Enum("x", "y", name="old_style"))
    untyped = mapped_column(JSON)
    length: Mapped[int] = column_property(func.length("four"))
    keeper_id: Mapped[int] = mapped_column(ForeignKey("keepers.id"))

    keeper: Mapped[Keeper] = relationship(back_populates="animals")

    @hybrid_property
    def title(self) -> str:
        """A hybrid."""
        return f"{self.name} the lion"


class Cage(DataclassBase, IntPKMixin, TimestampMixin):
    """A dataclass model."""

    __tablename__ = "cages_of_the_zoo"

    name: Mapped[Name]
    tags: Mapped[list[str]] = mapped_column(JSON, default_factory=list)
    open: Mapped[bool] = mapped_column(default=False)


class Ticket(Zoo):
    """Its key is always the server's."""

    __tablename__ = "tickets"

    number: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    paid: Mapped[bool]


MODELS: list[type[Zoo] | type[DataclassBase]] = [Animal, Cage, Keeper, Ticket]
