"""Cursors are exact: any value comes back as it was, and nothing else is taken for a cursor."""

import datetime as dt
import decimal
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from tests.fixtures.people import Color, Person, Tables
from unitwork import CursorError, Sort
from unitwork._logic.paging import CursorCodec, Position
from unitwork.query.order import order_of

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.datetimes(timezones=st.none() | st.just(dt.UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False).map(decimal.Decimal),
)
CODEC = CursorCodec(b"key", "shop.Users.walk", [Sort("name"), Sort("id")])


@given(st.booleans(), st.lists(VALUES).map(tuple))
def test_cursor_gives_back_what_it_was_made_of(forward: bool, values: tuple[object, ...]) -> None:  # noqa: FBT001
    """Write and read is the identity, types included; the text is fit for a URL."""
    cursor = CODEC.write(Position(forward, values))
    position = CODEC.read(cursor)

    assert (position.forward, position.values) == (forward, values)
    assert [type(value) for value in position.values] == [type(value) for value in values]
    assert set(cursor) <= set(string.ascii_letters + string.digits + "-_")


@given(st.lists(VALUES, min_size=1).map(tuple), st.data())
def test_changed_cursor_is_refused(values: tuple[object, ...], data: st.DataObject) -> None:
    """One other character, one less, or one more: never another position."""
    cursor = CODEC.write(Position(True, values))  # noqa: FBT003
    place = data.draw(st.integers(0, len(cursor) - 1))
    letter = data.draw(st.characters().filter(lambda drawn: drawn != cursor[place]))

    for wrong in (
        cursor[:place] + letter + cursor[place + 1 :],
        cursor[:place] + cursor[place + 1 :],
        cursor[:place] + letter + cursor[place:],
    ):
        with pytest.raises(CursorError):
            CODEC.read(wrong)


@given(st.text() | st.binary().map(bytes.hex))
def test_any_text_is_refused(text: str) -> None:
    """What never was a cursor is a CursorError, and nothing else."""
    with pytest.raises(CursorError):
        CODEC.read(text)


PEOPLE = st.lists(
    st.fixed_dictionaries(
        {
            "age": st.none() | st.integers(0, 3),
            "name": st.sampled_from(["a", "B", "", "é"]),
            "score": st.none() | st.sampled_from([0.1, 1.1, -1e-7]),
            "color": st.none() | st.sampled_from(Color),
            "active": st.booleans(),
        }
    ),
    max_size=12,
)
SORTS = st.lists(
    st.builds(
        Sort,
        st.sampled_from(["age", "name", "score", "color", "active", "id"]),
        st.sampled_from(["ASC", "DESC"]),
    ),
    max_size=3,
    unique_by=lambda sort: sort.field,
)


@given(PEOPLE, SORTS, st.integers(1, 5))
def test_walk_visits_each_row_once(people: list[dict[str, object]], sorts: list[Sort], size: int) -> None:
    """Whatever the rows, the order and the size of a page: forward all in order, backward the reverse."""
    order = order_of(Person, sorts)
    engine = create_engine("sqlite://")
    Tables.metadata.create_all(engine, [Tables.metadata.tables["person"]])
    with Session(engine) as session:
        session.add_all(Person(**person) for person in people)
        session.flush()
        whole = select(Person.id, *order.columns(engine.dialect))
        expected = list(session.scalars(whole.order_by(*order.clauses())))

        for forward in (True, False):
            seen: list[int] = []
            statement = whole.order_by(*order.clauses(forward=forward)).limit(size)
            rows = session.execute(statement).all()
            while rows:
                assert len(seen) <= len(people)
                seen += [row[0] for row in rows]
                codec = CursorCodec(b"key", "walk", order.sorts)
                cursor = codec.write(Position(forward, tuple(rows[-1])[1:]))
                rows = session.execute(statement.where(order.beyond(codec.read(cursor)))).all()
            assert seen == (expected if forward else expected[::-1])
    engine.dispose()
