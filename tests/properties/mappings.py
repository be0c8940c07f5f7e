"""Random mapped classes with rows for them: what they are made of, and how hypothesis makes them."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    PickleType,
    String,
    Text,
    Time,
    Uuid,
)
from sqlalchemy.dialects.postgresql import INET, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column
from sqlalchemy.types import TypeEngine

from tests.fixtures.articles import Colour, Reversed
from unitwork.models import UTCDateTime

POSTGRESQL = "postgresql"
_LENGTH = 40


class Level(enum.IntEnum):
    """Stored as its value, in text."""

    LOW = 1
    HIGH = 2


@dataclass(frozen=True)
class Kind:
    """One type of column, and the values that it can hold."""

    make: Callable[[], TypeEngine[Any]]
    values: st.SearchStrategy[Any]
    only: str | None = None
    compares: bool = True


_texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=_LENGTH // 4)
_uuids = st.uuids(version=4)  # MariaDB stores no other
_words = st.text("abc%_'\"\\: ", max_size=8)
_whole = st.integers(-(2**31), 2**31 - 1)
_cents = st.decimals(-(10**6), 10**6, places=2)
_moments = st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2037, 1, 1))  # noqa: DTZ001  # zones are added below
_aware = _moments.map(lambda moment: moment.replace(tzinfo=dt.UTC))
_spans = st.timedeltas(dt.timedelta(days=-999), dt.timedelta(days=999))
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=5,
)

KINDS: dict[str, Kind] = {
    "integer": Kind(Integer, _whole),
    "big": Kind(BigInteger, st.integers(-(2**63), 2**63 - 1)),
    "float": Kind(Float, st.floats(-1e6, 1e6)),
    "boolean": Kind(Boolean, st.booleans()),
    "string": Kind(lambda: String(_LENGTH), _texts),
    "text": Kind(Text, _texts),
    "enum": Kind(lambda: Enum(Colour, native_enum=False, length=9), st.sampled_from(Colour)),
    "enum of values": Kind(
        lambda: Enum(
            Level,
            native_enum=False,
            length=9,
            values_callable=lambda kind: [str(each.value) for each in kind],
        ),
        st.sampled_from(Level),
    ),
    "native enum": Kind(lambda: Enum("x", "y y", name="letters"), st.sampled_from(["x", "y y"])),
    "json": Kind(JSON, _json, compares=False),
    "json with null": Kind(
        lambda: JSON(none_as_null=True), _json.filter(lambda value: value is not None), compares=False
    ),
    "uuid": Kind(Uuid, _uuids),
    "uuid as text": Kind(lambda: Uuid(as_uuid=False), _uuids.map(str)),
    "decimal": Kind(lambda: Numeric(12, 2), _cents),
    "decimal as float": Kind(lambda: Numeric(12, 2, asdecimal=False), _cents.map(float)),
    "date": Kind(Date, st.dates()),
    "time": Kind(Time, st.times()),
    "moment": Kind(DateTime, _moments),
    "moment with zone": Kind(lambda: DateTime(timezone=True), _aware, only=POSTGRESQL),
    "moment in UTC": Kind(UTCDateTime, _aware),
    "interval": Kind(Interval, _spans),
    "bytes": Kind(LargeBinary, st.binary(max_size=9), compares=False),
    "pickle": Kind(PickleType, st.tuples(_whole, _words), compares=False),
    "custom": Kind(Reversed, _words),
    "array": Kind(lambda: ARRAY(Integer), st.lists(_whole, max_size=3), only=POSTGRESQL),
    "array of texts": Kind(lambda: ARRAY(Text), st.lists(_words, max_size=3), only=POSTGRESQL),
    "array of arrays": Kind(
        lambda: ARRAY(Uuid, dimensions=2), st.lists(st.tuples(_uuids).map(list), max_size=2), only=POSTGRESQL
    ),
    "jsonb": Kind(JSONB, _json, only=POSTGRESQL, compares=False),
    "address": Kind(INET, st.ip_addresses(v=4).map(str), only=POSTGRESQL),
}
_KEYS: dict[str, tuple[str, ...]] = {
    "number": ("integer",),
    "id": ("uuid",),
    "word": ("custom",),
    "two": ("integer", "string"),
    "three": ("uuid", "integer", "date"),
}


@dataclass(frozen=True)
class Column:
    """One column: what it is called in Python and in the database, and what it holds."""

    attribute: str
    name: str
    kind: str
    key: bool
    nullable: bool
    deferred: bool


@dataclass(frozen=True)
class Sample:
    """A mapped class to be made, and its rows."""

    columns: tuple[Column, ...]
    as_dataclass: bool
    rows: tuple[dict[str, Any], ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The attributes of the primary key."""
        return tuple(column.attribute for column in self.columns if column.key)

    def mapped(self, table: str) -> type[DeclarativeBase]:
        """Make the class, with a base and a table of its own."""
        fields: dict[str, Any] = {"__tablename__": table, "__annotations__": {}}
        for column in self.columns:
            fields[column.attribute] = mapped_column(
                column.name,
                KINDS[column.kind].make(),
                nullable=column.nullable,
                primary_key=column.key,
                autoincrement=False,
                deferred=column.deferred,
            )
            fields["__annotations__"][column.attribute] = Mapped[Any]

        if self.as_dataclass:

            class DataBase(MappedAsDataclass, DeclarativeBase, kw_only=True):
                metadata = MetaData()

            made: type[DeclarativeBase] = type("Sample", (DataBase,), fields)
            return made

        class PlainBase(DeclarativeBase):
            metadata = MetaData()

        return type("Sample", (PlainBase,), fields)


@st.composite
def samples(draw: st.DrawFn, database: str) -> Sample:
    """Classes of one to eight columns, with up to six rows."""
    kinds = [name for name, kind in KINDS.items() if kind.only in (None, database)]
    key = _KEYS[draw(st.sampled_from(sorted(_KEYS)))]
    others = draw(st.lists(st.sampled_from(kinds), max_size=6))
    order = draw(st.permutations([*((kind, True) for kind in key), *((kind, False) for kind in others)]))
    columns = tuple(
        Column(
            attribute=f"a{place}",
            name=draw(st.sampled_from([f"a{place}", f"column {place}", f"C{place}"])),
            kind=kind,
            key=is_key,
            nullable=not is_key and draw(st.booleans()),
            deferred=not is_key and draw(st.sampled_from([False, False, False, True])),
        )
        for place, (kind, is_key) in enumerate(order)
    )
    values = {
        column.attribute: KINDS[column.kind].values | (st.none() if column.nullable else st.nothing())
        for column in columns
    }
    rows = draw(
        st.lists(
            st.fixed_dictionaries(values),
            max_size=6,
            unique_by=lambda row: tuple(_folded(row[column.attribute]) for column in columns if column.key),
        )
    )
    return Sample(columns, draw(st.booleans()), tuple(rows))


def _folded(value: object) -> object:
    # MariaDB compares keys without case, accents and blanks at the end.
    if isinstance(value, uuid.UUID | dt.date | decimal.Decimal | int):
        return value
    return str(value).isascii() and str(value).lower().strip()
