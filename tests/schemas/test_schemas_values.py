"""Schemas take the values that an annotation names, and check of them what the column limits."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from datetime import date, time
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import LargeBinary, MetaData, Numeric, String, TypeDecorator
from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base, DataclassBase
from unitwork.schemas import schema_for


class Values(Base):
    """The base of these models."""

    __abstract__ = True
    metadata = MetaData()


class Reversed(TypeDecorator[str]):
    """Stores text twice, so that the column's length is none of the text's."""

    impl = String(10)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: object) -> str | None:
        """Twice."""
        return value and value * 2


class Named(TypeDecorator[str]):
    """A name for a type alone."""

    impl = String(10)
    cache_ok = True


class Color(enum.Enum):
    """Stored as text of the program's own."""

    RED = "red"


class Product(Values):
    """Annotations and columns of different minds."""

    __tablename__ = "products_of_values"

    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[float] = mapped_column(Numeric(10, 2, asdecimal=False))
    weight: Mapped[float] = mapped_column(Numeric(10, 2))
    pieces: Mapped[int] = mapped_column(Numeric(4, 0))
    cost: Mapped[decimal.Decimal] = mapped_column(Numeric(10, 2))
    rounded: Mapped[decimal.Decimal] = mapped_column(Numeric(10, -2))
    ref: Mapped[uuid.UUID] = mapped_column(String(36))
    color: Mapped[Color] = mapped_column(String(2))
    whole: Mapped[Any] = mapped_column(String(2))
    name: Mapped[str] = mapped_column(String(5))
    picture: Mapped[bytes] = mapped_column(LargeBinary(3))
    named: Mapped[str] = mapped_column(Named)
    back: Mapped[str] = mapped_column(Reversed)


REF = uuid.UUID("69b7e6e4-b635-43da-8465-d7c9e6739ad3")
RIGHT: list[tuple[str, object, object]] = [
    ("price", 1.555, 1.555),
    ("weight", 12.25, 12.25),
    ("pieces", 12345, 12345),
    ("cost", "1.50", decimal.Decimal("1.50")),
    ("rounded", "1200", decimal.Decimal(1200)),
    ("ref", str(REF), REF),
    ("color", "red", Color.RED),
    ("whole", ["any", "thing"], ["any", "thing"]),
    ("name", "lamp", "lamp"),
    ("picture", b"abc", b"abc"),
    ("named", "0123456789", "0123456789"),
    ("back", "01234567890", "01234567890"),
]
WRONG = [("cost", "1.555"), ("ref", "none"), ("name", "too long"), ("picture", b"abcd"), ("named", "x" * 11)]


@pytest.mark.parametrize("purpose", ["create", "update"])
@pytest.mark.parametrize(("name", "given", "taken"), RIGHT)
def test_values_of_the_annotation_are_taken(purpose: Any, name: str, given: object, taken: object) -> None:  # noqa: ANN401  # one of three
    """Whatever the column's type is; a limit that means nothing to them is not asked of them."""
    schema = schema_for(Product, purpose=purpose, include={name})

    assert getattr(schema.model_validate({name: given}), name) == taken


@pytest.mark.parametrize(("name", "given"), WRONG)
def test_values_beyond_the_column_are_refused(name: str, given: object) -> None:
    """Lengths and digits, where the column limits just these values."""
    with pytest.raises(ValidationError, match=name):
        schema_for(Product, purpose="create", include={name}).model_validate({name: given})


class Visit(Values):
    """Attributes that are called as their types; annotations are text in this module."""

    __tablename__ = "visits_of_values"

    id: Mapped[int] = mapped_column(primary_key=True)
    date: Mapped[date]
    time: Mapped[time | None]
    until: Mapped[date | None]  # type: ignore[valid-type]  # that is the point


@pytest.mark.parametrize("name", ["date", "until"])
def test_attribute_called_as_its_type_is_checked(name: str) -> None:
    """The annotation means the type, not the attribute that hides it."""
    known = schema_for(Visit).model_fields

    assert (known["date"].annotation, known["until"].annotation) == (dt.date, dt.date | None)
    with pytest.raises(ValidationError, match=name):
        schema_for(Visit, purpose="update").model_validate({name: "no date at all"})


class Data(DataclassBase):
    """The base of a dataclass model."""

    __abstract__ = True
    metadata = MetaData()


class Keyed(Data):
    """What its fields are filled with is known to the class alone, or to the column."""

    __tablename__ = "keyed_of_values"

    name: Mapped[str] = mapped_column(String(20))
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default_factory=uuid.uuid4, kw_only=True)
    place: Mapped[str] = mapped_column(String(20), default_factory=lambda: "here")
    note: Mapped[str | None] = mapped_column(String(20), default="plain")
    mark: Mapped[str | None] = mapped_column(String(20), default=None)
    made: Mapped[str] = mapped_column(String(20), init=False, default="by itself")


def test_defaults_of_a_dataclass_are_known() -> None:
    """A default is shown; what a factory makes may be left out, or is left out if it is the key."""
    known = schema_for(Keyed, purpose="create").model_fields

    assert {name for name, field in known.items() if field.is_required()} == {"name"}
    assert "id" not in known
    assert (known["note"].default, known["mark"].default) == ("plain", None)


def test_what_is_dumped_makes_the_entity() -> None:
    """The schema has what the constructor takes, and the rest is filled in as without a schema."""
    schema = schema_for(Keyed, purpose="create")
    new = schema.model_validate({"name": "ann"})

    made = Keyed(**new.model_dump(exclude_unset=True))
    everything: dict[str, Any] = {**new.model_dump(), "place": "there"}
    shown = Keyed(**everything)

    assert (made.name, made.place, made.note) == ("ann", "here", "plain")
    assert (shown.place, shown.note, shown.mark) == ("there", "plain", None)
    assert "made" not in schema.model_fields
    assert "made" in schema_for(Keyed, purpose="update").model_fields


class Shape(Values):
    """One table for several classes."""

    __tablename__ = "shapes_of_values"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "shape"}  # noqa: RUF012  # as SQLAlchemy has it

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(9))
    name: Mapped[str] = mapped_column(String(9))


class Circle(Shape):
    """Its kind is known."""

    __mapper_args__ = {"polymorphic_identity": "circle"}  # noqa: RUF012  # as SQLAlchemy has it


def test_kind_of_an_entity_is_not_asked_for() -> None:
    """The class says it."""
    assert set(schema_for(Circle, purpose="create").model_fields) == {"name"}
    assert "kind" in schema_for(Circle).model_fields
