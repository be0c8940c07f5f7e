"""What a statement does beyond reading is found in one walk, however deep it is hidden."""

import pytest
from sqlalchemy import func, insert, select, text, update

from tests.fixtures.people import Person
from unitwork._logic.effects import NOTHING, Effects, effects_of

WRITES = Effects(writes=True)
LOCKS = Effects(locks=True)
CALLS = Effects(may_call=True, replicas_lack=True)
COUNTS = Effects(replicas_lack=True)


@pytest.mark.parametrize(
    ("statement", "effects"),
    [
        (select(Person), NOTHING),
        (select(func.count()).select_from(Person), NOTHING),
        (insert(Person), WRITES),
        (update(Person).values(age=func.own()), WRITES),
        (select(insert(Person).returning(Person.id).cte()), WRITES),
        (select(Person).with_for_update(), LOCKS),
        (select(select(Person.id).with_for_update().subquery()), LOCKS),
        (select(func.own(Person.id)), CALLS),
        (select(Person).where(text("own(id) = 1")), CALLS),
        (
            select(func.own(Person.id)).with_for_update(),
            Effects(locks=True, may_call=True, replicas_lack=True),
        ),
        (text("SELECT 1"), NOTHING),
        (text("DELETE FROM person"), WRITES),
        (text("SELECT 1 FOR UPDATE"), LOCKS),
        (text("SELECT own(1)"), CALLS),
        (select(func.nextval("numbers")), COUNTS),
        (text("SELECT nextval('numbers')"), COUNTS),
        (select(Person).from_statement(select(Person).with_for_update()), LOCKS),
        (select(Person).from_statement(text("SELECT * FROM person FOR UPDATE")), LOCKS),
        (select(Person).from_statement(insert(Person).returning(Person)), WRITES),
    ],
)
def test_effects_are_told_apart(statement: object, effects: Effects) -> None:
    """Also below a subquery, and of text."""
    assert effects_of(statement, "postgresql") == effects


@pytest.mark.parametrize("statement", [select(func.own(1)), text("SELECT own(1)")])
def test_functions_of_sqlite_cannot_write(statement: object) -> None:
    """They are the program's own, and cannot write in the transaction that calls them."""
    assert effects_of(statement, "sqlite") == COUNTS


@pytest.mark.parametrize(
    ("effects", "needed"), [(NOTHING, False), (WRITES, True), (LOCKS, True), (COUNTS, True)]
)
def test_replicas_only_read(effects: Effects, needed: bool) -> None:  # noqa: FBT001  # of the table
    """What writes, locks or counts is done by the primary."""
    assert effects.need_primary is needed
