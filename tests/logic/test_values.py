"""What a column holds is told from its type and its annotation, once for all floors."""

import datetime as dt
import decimal
import enum
import uuid
from typing import Any, Literal

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from tests.fixtures.columns import Cents, Mood, Point, Points, plain
from unitwork._logic.values import ColumnValues, values_of
from unitwork._logic.values.annotations import NOTHING, element_of, plain_type, without_none
from unitwork._logic.values.classes import CLASSES
from unitwork._logic.values.files import FileForm


class Models(DeclarativeBase):
    """Tables that are never created."""


class Untold(TypeDecorator[Any]):
    """Money that does not say what it is."""

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: object) -> Any:  # noqa: ANN401
        """To cents."""
        return int(value * 100)

    def process_result_value(self, value: Any, dialect: object) -> Any:  # noqa: ANN401
        """From cents."""
        return decimal.Decimal(value) / 100


class Thing(Models):
    """An attribute for each way to say what it holds."""

    __tablename__ = "thing"

    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[decimal.Decimal | None] = mapped_column(Cents)
    rough: Mapped[float] = mapped_column(sa.Numeric(5, 2))
    place: Mapped[Point] = mapped_column(Points)
    told = mapped_column(Cents, nullable=False)
    own = mapped_column(Untold, nullable=False)
    day: Mapped[dt.date] = mapped_column(plain(plain(sa.Date())))
    mood: Mapped[Mood]
    label = mapped_column(sa.Enum("a", "b", name="label"))
    tags: Mapped[list[uuid.UUID]] = mapped_column(sa.ARRAY(sa.Uuid))
    data: Mapped[dict[str, Any]] = mapped_column(sa.JSON)


@pytest.mark.parametrize(
    ("name", "kind", "annotation", "nullable"),
    [
        ("id", int, int, False),
        ("price", decimal.Decimal, decimal.Decimal, True),
        ("rough", decimal.Decimal, float, False),  # what the column gives, and what a schema shows
        ("place", Point, Point, False),
        ("told", decimal.Decimal, decimal.Decimal, False),
        ("own", None, Any, False),
        ("day", dt.date, dt.date, False),
        ("mood", Mood, Mood, False),
        ("label", str, Literal["a", "b"], True),
        ("tags", list, list[uuid.UUID], False),
        ("data", None, dict[str, Any], False),
    ],
)
def test_attribute_says_what_it_holds(name: str, kind: type, annotation: object, *, nullable: bool) -> None:
    """The type knows; where it does not, the annotation does."""
    values = values_of(Thing, name)
    assert (values.kind, values.annotation, values.nullable) == (kind, annotation, nullable)


def test_list_says_what_its_items_are() -> None:
    """Also what is inside of a list has a class."""
    element = values_of(Thing, "tags").element
    assert element is not None
    assert element.kind is uuid.UUID


@pytest.mark.parametrize(
    ("annotation", "single", "kind"),
    [
        (int | None, int, int),
        (list[str] | None, list[str], str),
        (frozenset[Mood], frozenset[Mood], Mood),
        (int | str, int | str, None),
        (list, list, None),
        (Any, Any, None),
    ],
)
def test_annotation_says_its_class(annotation: Any, single: Any, kind: type | None) -> None:  # noqa: ANN401
    """Without its None, and of a list that of its items."""
    assert without_none(annotation) == single
    assert plain_type(annotation) == kind
    assert (element_of(annotation) is NOTHING) == (annotation in (int | None, int | str, Any))


def test_each_class_reads_what_it_writes() -> None:
    """As text and as JSON; the sample is accepted, and is its own normal form."""
    for kind, known in CLASSES.items():
        assert known.read(known.text(known.sample)) == known.sample
        written = known.json(known.sample)
        assert (known.read(written) if isinstance(written, str) else known.read_json(written)) == known.sample
        assert isinstance(known.sample, known.accepts)
        assert type(known.normal(known.sample)) is kind


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (sa.Integer(), "1_000"),
        (sa.Integer(), "1.5"),
        (sa.Integer(), "\u0663"),
        (sa.Float(), "1_0"),
        (sa.Numeric(), "1,5"),
        (sa.Boolean(), "2"),
        (sa.Date(), "yesterday"),
        (sa.Interval(), "soon"),
        (sa.Uuid(), "12"),
        (sa.LargeBinary(), "\\xzz"),
        (sa.Enum(Mood), "NEITHER"),
        (sa.JSON(), "plain"),
        (sa.PickleType(), "\\x80"),
    ],
)
def test_text_that_is_no_value_is_refused(type_: sa.types.TypeEngine[Any], text: str) -> None:
    """What Python alone would read as a number is none, and a pickle is read from no file."""
    with pytest.raises(ValueError):  # noqa: PT011  # each class says it in its own words
        FileForm(ColumnValues(type_), sqlite.dialect()).from_text(text)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90", dt.timedelta(seconds=90)),
        ("-0.000001", dt.timedelta(microseconds=-1)),
        ("1 day, 2:03:04.5", dt.timedelta(1, 7384, 500_000)),
        ("-1 days +23:59:59", dt.timedelta(seconds=-1)),
        ("3 days", dt.timedelta(3)),
        ("-01:00:00", dt.timedelta(hours=-1)),
    ],
)
def test_lengths_of_time_are_read_as_others_write_them(text: str, length: dt.timedelta) -> None:
    """Seconds, and what Python and PostgreSQL show."""
    assert CLASSES[dt.timedelta].read(text) == length


def test_values_of_json_are_written_once() -> None:
    """A text in JSON is JSON text; one that looks like a number stays a text."""
    form = FileForm(values_of(Thing, "data"), sqlite.dialect())
    for value in ("123", "", "null", {"a": 1}, [None], True):
        assert form.from_text(form.to_text(value)) == value
        assert form.from_json(form.to_json(value)) == value


def test_decorator_that_nobody_knows_is_written_as_it_is_stored() -> None:
    """Its own code makes a value of it again."""
    for name, value, text in (("own", decimal.Decimal("1.10"), "110"), ("place", Point(1, 2), "[1, 2]")):
        form = FileForm(values_of(Thing, name), sqlite.dialect())
        assert form.to_text(value) == text
        assert form.from_text(text) == value


class Swapped(enum.Enum):
    """A name of one member is the value of another."""

    ONE = "TWO"
    TWO = "ONE"


def test_label_is_a_name_before_it_is_a_value() -> None:
    """As SQLAlchemy stores it."""
    form = FileForm(ColumnValues(sa.Enum(Swapped)), sqlite.dialect())
    assert [form.from_text(form.to_text(member)) for member in Swapped] == list(Swapped)
