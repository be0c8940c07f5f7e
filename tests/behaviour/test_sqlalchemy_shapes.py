"""What tells plain statements apart at a glance agrees with what SQLAlchemy knows them by."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    LABEL_STYLE_TABLENAME_PLUS_COL,
    and_,
    bindparam,
    exists,
    func,
    not_,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import aliased, lazyload

from tests.fixtures.people import Person, Pet
from unitwork._sqlalchemy import private, shapes

ALIKE: dict[str, Callable[[int, str], list[Any]]] = {
    "equal": lambda number, _name: [Person.id == number],
    "several": lambda number, name: [Person.id >= number, Person.name != name],
    "joined": lambda number, name: [(Person.id == number) | ((Person.id < number) & Person.name.like(name))],
    "null": lambda number, _name: [Person.name.is_(None) | (Person.id == number)],
    "list": lambda number, name: [Person.id.in_([number, len(name)])],
    "constant": lambda number, _name: [Person.active.is_(True) | (Person.id == number)],
    "negated": lambda number, _name: [not_(Person.id == number), Person.id == Person.id],
    "flag": lambda number, _name: [Person.active, Person.id == number],
}


@pytest.mark.parametrize("name", ALIKE)
def test_statements_of_one_shape_differ_in_values_alone(name: str) -> None:
    """SQLAlchemy knows them by the same key, too, and their values come in an order that is told."""
    one, two = (select(Person).where(*ALIKE[name](*values)) for values in ((1, "Ann"), (2, "Bo")))
    first, second = shapes.shape_of(one), shapes.shape_of(two)
    key = private.cache_key(two)

    assert first is not None
    assert second is not None
    assert key is not None
    assert first.key == second.key
    assert key.key == private.cache_key(one).key  # type: ignore[union-attr]  # as above
    assert set(map(id, second.binds)) == set(map(id, key.bindparams))
    assert second.values == [bind.value for bind in second.binds]


def test_statements_that_differ_in_more_have_other_shapes() -> None:
    """In a column, an operator, NULL, the order, what is selected, or the class of the statement."""
    other = aliased(Person)
    plain = select(Person).where(Person.id == 1)
    statements = [
        plain,
        select(Person),
        select(Person.id).where(Person.id == 1),
        shapes.WatchedSelect(Person).where(Person.id == 1),
        plain.order_by(Person.id),
        plain.order_by(Person.id.desc()),
        plain.order_by(Person.id.asc()),
        select(Person).where(Person.id == 1, Person.id == 1),
        select(Person).where(and_(Person.id == 1, Person.id == 1)),
        select(Person).where(or_(Person.id == 1, Person.id == 1)),
        select(Person).where(Person.id != 1),
        select(Person).where(Person.id == None),  # noqa: E711  # as users write it
        select(Person).where(Person.id.in_([1])),
        select(Person).where(Person.id == Person.id),
        select(Person).where(other.id == 1),
        select(Person).where(Person.__table__.c.id == 1),
    ]
    known = [shapes.shape_of(each) for each in statements]

    assert None not in known
    assert len({each.key for each in known if each is not None}) == len(statements)


def test_statements_with_more_than_plain_parts_have_no_shape() -> None:
    """Values with a name, of another type, computed, or twice; functions, limits, options."""
    once = Person.id == 1
    plain = select(Person)

    for statement in (
        plain.where(Person.id == bindparam("number", 1)),
        plain.where(Person.id == bindparam(None, callable_=lambda: 1, unique=True, type_=Person.id.type)),
        plain.where(Person.id == bindparam("number", unique=True, type_=Person.id.type)),
        plain.where(Person.id == "1"),
        plain.where(Person.id == 1.5),
        plain.where(or_(once, and_(once, true()))),
        plain.where(func.lower(Person.name) == "ann"),
        plain.where(Person.name.like("a/%", escape="/")),
        plain.where(Person.name.contains("a")),
        plain.where(Person.id.in_(select(Pet.id))),
        plain.where(exists().where(Pet.id == 1)),
        plain.where(text("id = 1")),
        plain.where(Person.id.op("=")(1)),
        plain.order_by(func.lower(Person.name)),
        plain.order_by(Person.id.desc().nulls_last()),
        plain.limit(1),
        plain.distinct(),
        plain.with_for_update(),
        plain.options(lazyload("*")),
        plain.execution_options(populate_existing=True),
        plain.set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL),
        plain.join(Pet, Pet.id == Person.id),
        select(aliased(Person)),
        select(func.count()),
        select(Person).where(once).union(select(Person)),
        update(Person).where(once),
        text("SELECT 1"),
    ):
        assert shapes.shape_of(statement) is None, statement


def test_values_of_an_update_are_known_in_the_order_in_which_they_are_given() -> None:
    """Also where several of them are the same."""
    for values in ({Person.name: "Ann", Person.age: 3}, {Person.age: 3, Person.name: "Ann"}):
        key = private.cache_key(update(Person).where(Person.id == 7).values(values))

        assert key is not None
        assert [bind.value for bind in key.bindparams if bind.value != 7] == list(values.values())


def test_shape_of_a_change_says_what_is_changed_and_how() -> None:
    """The verb, the class, and the names of attributes in their order; expressions have none."""
    chosen = shapes.shape_of(select(Person).where(Person.id == 1))
    values = {"name": "Ann", "age": None}
    known = [
        shapes.shape_of_change(verb, entity, chosen, given)
        for verb, entity, given in (
            ("update", Person, values),
            ("update", Pet, values),
            ("update", Person, dict(reversed(values.items()))),
            ("update", Person, {}),
            ("delete", Person, {}),
        )
    ]

    assert len({each.key for each in known if each is not None}) == len(known)
    assert known[0] is not None
    assert known[0].values == [1, "Ann", None]
    assert shapes.shape_of_change("update", Person, chosen, {"age": Person.age + 1}) is None
    assert shapes.shape_of_change("update", Person, chosen, {"age": Person.age}) is None
    assert shapes.shape_of_change("update", Person, None, values) is None
