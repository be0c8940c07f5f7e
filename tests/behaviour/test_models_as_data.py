"""Entities become plain data and JSON, and come back; nothing is loaded on the way."""

import copy
import datetime as dt
import decimal
import enum
import json
import uuid
from typing import Any

import pytest
from sqlalchemy import JSON, ForeignKey, LargeBinary, MetaData, Numeric, String, TypeDecorator
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableList
from sqlalchemy.orm import Mapped, defer, deferred, mapped_column, relationship, selectinload

from unitwork import (
    Base,
    Database,
    DataclassBase,
    IntPKMixin,
    OptionError,
    Repository,
    UnloadedAttributeError,
)


class Mood(enum.Enum):
    """Name and value differ."""

    GOOD = "g"


class Tables(Base):
    """The base of these models."""

    __abstract__ = True
    metadata = MetaData()


class Letter(Tables, IntPKMixin):
    """One attribute of each type."""

    __tablename__ = "letter"

    title: Mapped[str] = mapped_column(String(50))
    key: Mapped[uuid.UUID | None]
    sent: Mapped[dt.datetime | None]
    day: Mapped[dt.date | None]
    clock: Mapped[dt.time | None]
    price: Mapped[decimal.Decimal | None] = mapped_column(Numeric(10, 2))
    weight: Mapped[float | None]
    mood: Mapped[Mood | None]
    seal: Mapped[bytes | None] = mapped_column(LargeBinary(100))
    text: Mapped[str | None] = deferred(mapped_column(String(100)))

    stamps: Mapped[list["Stamp"]] = relationship()

    @hybrid_property
    def shouted(self) -> str:
        """The title in capitals."""
        return self.title.upper()


class Stamp(Tables, IntPKMixin):
    """Belongs to a letter."""

    __tablename__ = "stamp"

    letter_id: Mapped[int | None] = mapped_column(ForeignKey("letter.id"))
    value: Mapped[int]


class Note(DataclassBase, IntPKMixin):
    """A dataclass model."""

    __tablename__ = "note_as_data"

    text: Mapped[str]
    length: Mapped[int] = mapped_column(init=False, default=0)


FULL = {
    "title": "hello",
    "key": uuid.UUID(int=7),
    "sent": dt.datetime(2026, 7, 14, 12, 30, 45),  # noqa: DTZ001  # the column has no time zone
    "day": dt.date(2026, 7, 14),
    "clock": dt.time(12, 30),
    "price": decimal.Decimal("12.50"),
    "weight": 1.5,
    "mood": Mood.GOOD,
    "seal": b"\x00\xff",
}


@pytest.fixture
async def letters(db: Database) -> Repository[Letter]:
    """A repository with one full letter that has two stamps."""
    await db.create_all(Tables)
    repository = Repository[Letter](db)
    await repository.add(Letter(**FULL, stamps=[Stamp(value=1), Stamp(value=2)]))
    return repository


async def test_entity_becomes_a_dict_of_its_columns(letters: Repository[Letter]) -> None:
    """Values are those of Python; deferred columns and relationships are left out."""
    assert (await letters.get_one(1)).to_dict() == {"id": 1, **FULL}


async def test_fields_choose_what_the_dict_has(letters: Repository[Letter]) -> None:
    """Columns, hybrids, and relationships that are loaded."""
    letter = await letters.get_one(1, options=[selectinload(Letter.stamps)])

    assert letter.to_dict(fields=["title", "shouted", "stamps"]) == {
        "title": "hello",
        "shouted": "HELLO",
        "stamps": [{"id": 1, "letter_id": 1, "value": 1}, {"id": 2, "letter_id": 1, "value": 2}],
    }


def test_metadata_says_which_model_it_was() -> None:
    """`with_meta=True` adds what a reader needs to find the model."""
    meta = Note("x").to_dict(with_meta=True)["__metadata__"]

    assert meta == {"model": f"{__name__}:Note", "table": "note_as_data"}


async def test_entity_survives_json(letters: Repository[Letter]) -> None:
    """`load` reads what `dump_model` wrote, with every type as it was."""
    letter = await letters.get_one(1)

    text = json.dumps(letter.dump_model(with_meta=True))

    assert Letter.load(json.loads(text)).to_dict() == letter.to_dict()


@pytest.mark.parametrize("field", ["text", "stamps"])
async def test_attribute_that_is_not_loaded_is_named(letters: Repository[Letter], field: str) -> None:
    """No MissingGreenlet, and no SELECT behind your back."""
    letter = await letters.get_one(1)

    with pytest.raises(UnloadedAttributeError, match=rf"(?s)Letter.*: {field} would.*Letter\.{field}"):
        letter.to_dict(fields=["title", field])


async def test_column_that_the_query_left_out_is_named(letters: Repository[Letter]) -> None:
    """Also one that is usually loaded."""
    letter = await letters.get_one(1, options=[defer(Letter.title)])

    with pytest.raises(UnloadedAttributeError, match="title"):
        letter.to_dict()


async def test_expired_attribute_is_named(letters: Repository[Letter], db: Database) -> None:
    """What the session has forgotten is not loaded either."""
    async with db.transaction() as session:
        letter = await letters.get_one(1)
        session.expire(letter, ["day"])
        with pytest.raises(UnloadedAttributeError, match="day"):
            letter.to_dict()


async def test_new_entity_has_a_dict_too(letters: Repository[Letter]) -> None:
    """What was not set is None, before the insert and after it."""
    letter = Letter(title="new")
    before = letter.to_dict(fields=["title", "day"])

    await letters.add(letter)

    assert before == letter.to_dict(fields=["title", "day"]) == {"title": "new", "day": None}


def test_unknown_names_are_refused() -> None:
    """The message lists the names that exist."""
    with pytest.raises(OptionError, match=r"'nope'.*\n.*'title'"):
        Letter(title="x").to_dict(fields=["nope"])
    with pytest.raises(OptionError, match=r"'nope'.*\n.*'title'"):
        Letter.load({"nope": 1})


@pytest.mark.parametrize(
    ("field", "value"), [("key", "no-uuid"), ("sent", "yesterday"), ("mood", "sad"), ("price", "much")]
)
def test_text_that_cannot_be_read_is_refused(field: str, value: str) -> None:
    """The message names the attribute, and not the value, which may be secret."""
    with pytest.raises(OptionError, match=field) as caught:
        Letter.load({"title": "x", field: value})

    assert value not in str(caught.value)


@pytest.mark.parametrize("data", ["text", None, 5, [1], [("title", "x")]])
def test_loading_what_is_no_mapping_is_refused(data: Any) -> None:  # noqa: ANN401  # what may come from outside
    """The error names the class of what was given, and what is taken."""
    with pytest.raises(OptionError, match=rf"data does not take '{type(data).__name__}'(.|\n)*a mapping"):
        Letter.load(data)


def test_loading_makes_related_entities() -> None:
    """Mappings inside become entities of the related model."""
    letter = Letter.load({"title": "x", "stamps": [{"value": 3}]})

    assert [(type(stamp), stamp.value) for stamp in letter.stamps] == [(Stamp, 3)]


def test_loading_a_dataclass_sets_what_its_constructor_does_not_take() -> None:
    """So that `load` undoes `to_dict`."""
    note = Note.load({"text": "hi", "length": 2, "id": 5})

    assert (note.text, note.length, note.id) == ("hi", 2, 5)
    with pytest.raises(TypeError, match="text"):
        Note.load({"length": 2})


class Strange:
    """JSON has no form for this."""


@pytest.mark.parametrize(
    ("value", "json_value"),
    [
        ({"a": {1}, 2: None}, {"a": [1], "2": None}),
        ((True, 1.5), [True, 1.5]),
        (dt.timedelta(minutes=1), 60.0),
    ],
)
def test_nested_values_become_json(value: Any, json_value: Any) -> None:  # noqa: ANN401  # of any type
    """Also inside of what a JSON column holds."""
    letter = Letter(title="x")
    letter.title = value

    assert letter.dump_model(["title"]) == {"title": json_value}


def test_value_without_a_form_in_json_is_refused() -> None:
    """The message names the attribute and the type."""
    letter = Letter(title="x")
    letter.title = Strange()  # type: ignore[assignment]  # that is the point

    with pytest.raises(OptionError, match=r"title.*Strange"):
        letter.dump_model(["title"])


async def test_repr_tells_columns_and_loads_nothing(letters: Repository[Letter]) -> None:
    """On both bases."""
    letter = await letters.get_one(1, options=[defer(Letter.title)])

    assert repr(letter).startswith("Letter(id=1, key=UUID(")
    assert "title" not in repr(letter)
    # SQLAlchemy 2.0 sets at once what 2.1 leaves to the flush.
    assert repr(Note("hi")) in ("Note(text='hi')", "Note(id=None, text='hi', length=0)")


def test_dataclass_entities_are_equal_only_to_themselves() -> None:
    """They can be in sets, whatever is loaded."""
    first, second = Note("x"), Note("x")

    assert first != second
    assert len({first, second, first}) == 2


class Numbers(TypeDecorator[Any]):
    """Numbers, stored as text."""

    impl = String(50)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: object) -> str:  # noqa: ANN401  # a set or a tuple
        """To text."""
        return ",".join(map(str, value))


class Draw(Tables, IntPKMixin):
    """Values that are collections."""

    __tablename__ = "draw"

    drawn: Mapped[set[int]] = mapped_column(Numbers)
    fixed: Mapped[frozenset[int]] = mapped_column(Numbers)
    order: Mapped[tuple[int, ...]] = mapped_column(Numbers)
    plan: Mapped[list[Any]] = mapped_column(MutableList.as_mutable(JSON()))


def test_collection_that_is_a_value_keeps_its_class() -> None:
    """In plain data, and where JSON has a list of it; what the entity changes is not the data's."""
    values = {"drawn": {3, 1}, "fixed": frozenset({2}), "order": (2, 1), "plan": [{"a": (1,)}, [2]]}
    draw = Draw(**copy.deepcopy(values))

    data = draw.to_dict(list(values))
    draw.drawn.add(9)
    draw.plan[1].append(9)

    assert data == values
    assert [type(each) for each in data.values()] == [set, frozenset, tuple, list]
    loaded = Draw.load(json.loads(json.dumps(Draw.load(data).dump_model(list(values)))))
    assert (loaded.drawn, loaded.fixed, loaded.order) == ({3, 1}, frozenset({2}), (2, 1))
