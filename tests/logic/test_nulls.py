"""What an annotation promises as a value, and where nobody has to look for NULL."""

import collections.abc
from typing import Annotated, Any, Final, Literal, NamedTuple, NewType, Protocol, TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from typing_extensions import TypeAliasType

from tests.fixtures.columns import Cents, Mood
from unitwork._logic.nulls import promised_values
from unitwork._logic.shape import shape_of
from unitwork._logic.values import column_values
from unitwork._logic.values.annotations import refuses_none

T = TypeVar("T")


class Sized(Protocol):
    """None might have it."""

    size: int


@pytest.mark.parametrize(
    "annotation",
    [
        int,
        Mood,
        list[int | None],
        dict[str, Any],
        int | str,
        Literal["a", 1],
        Annotated[int, "x"],
        Final[int],
        NewType("Key", int),
        TypeAliasType("Name", str),
        collections.abc.Sequence[int],
        type[int],
    ],
)
def test_annotation_promises_a_value(annotation: Any) -> None:  # noqa: ANN401
    """None is surely none of these."""
    assert refuses_none(annotation)


@pytest.mark.parametrize(
    "annotation",
    [
        int | None,
        None,
        type(None),
        Any,
        object,
        T,
        "int",
        Literal["a", None],  # noqa: PYI061  # as it may be written
        Annotated[int | None, "x"],
        Final[int | None],
        NewType("Key", int) | None,
        TypeAliasType("Name", str | None),
        int | TypeAliasType("Name", str | None),
        collections.abc.Hashable,
        Sized,
    ],
)
def test_annotation_may_have_none(annotation: Any) -> None:  # noqa: ANN401
    """Nor is anything said where nobody knows."""
    assert not refuses_none(annotation)


class Pair(NamedTuple):
    """A record."""

    first: int
    second: str | None


@pytest.mark.parametrize(
    ("annotation", "places"),
    [
        (int, [0]),
        (int | None, []),
        (list[int], [0]),
        (list[int | None], []),
        (Pair, [2]),
        (Pair | None, [2]),
        (dict[str, int], [0, 1, 2]),
        (dict[str, Any], []),
        (dict, []),
        (tuple[int, int | None, str], [0, 2]),
        (tuple[int, ...], [0, 1, 2]),
        (tuple[int, int], []),  # another number of columns: nothing is known
        (tuple, []),
        (Any, []),
    ],
)
def test_promise_says_which_columns_have_values(annotation: Any, places: list[int]) -> None:  # noqa: ANN401
    """Of a row with three columns; what never is NULL is left out."""
    names = ("third", "second", "first")
    shape = shape_of(annotation, None, {})

    assert [value.place for value in promised_values(shape, names)] == places
    assert promised_values(shape, names, frozenset(names)) == []


@pytest.mark.parametrize(
    ("kind", "never"),
    [
        (sa.Integer(), True),
        (sa.Enum(Mood), True),
        (postgresql.ARRAY(sa.Integer()), True),
        (sa.JSON(), False),
        (Cents(), False),  # a decorator may make None of anything
        (sa.PickleType(), False),
    ],
)
def test_column_is_known_to_hold_no_none(kind: Any, *, never: bool) -> None:  # noqa: ANN401
    """Where NULL is refused, and the type makes no None of something else."""
    assert column_values(sa.Column("x", kind, nullable=False)).never_none == never
    assert not column_values(sa.Column("x", kind)).never_none
    assert not column_values(sa.func.max(sa.Column("x", kind, nullable=False))).never_none
