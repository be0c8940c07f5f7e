"""Rows whose key is stored already fail, are left out, or change the stored row."""

from collections.abc import AsyncIterator
from itertools import product
from typing import Any, Literal

import pytest
from sqlalchemy import literal_column
from sqlalchemy.exc import DBAPIError, IntegrityError

from tests.fixtures.articles import (
    FEW,
    MANY,
    Article,
    Articles,
    Place,
    Places,
    Plain,
    Plains,
    articles,
    create_articles,
    plains,
)
from tests.fixtures.observer import Observer
from unitwork import ConflictTargetError, Database

SIZES = pytest.mark.parametrize("count", [FEW, MANY])
RETURNING = pytest.mark.parametrize("returning", [True, False])


@pytest.fixture(autouse=True)
async def _tables(db: Database) -> None:
    await create_articles(db)


@SIZES
@RETURNING
async def test_conflict_fails_by_default(
    db: Database, observer: Observer, count: int, *, returning: bool
) -> None:
    """A key that is stored already breaks off the whole insert."""
    await Plains(db).bulk_insert([{"id": count - 1, "name": "first"}])

    with pytest.raises(IntegrityError):
        await Plains(db).bulk_insert(list(plains(count)), returning=returning)

    assert await observer.values(Plain, "name") == ["first"]


@SIZES
@pytest.mark.parametrize("target", [["name"], None])
async def test_nothing_keeps_stored_rows(
    db: Database, observer: Observer, count: int, target: list[str] | None
) -> None:
    """`on_conflict="nothing"` inserts the new rows, returns those, and counts those."""
    await Plains(db).bulk_insert([{"id": 1000, "name": "n1", "note": "old"}])
    rows = [*plains(count), {"id": 2000, "name": "n0", "note": "twice"}]

    entities = await Plains(db).bulk_insert(rows, on_conflict="nothing", index_elements=target)
    assert [entity.name for entity in entities] == [f"n{n}" for n in range(count) if n != 1]

    again = [*plains(count + 2), {"id": 2000, "name": "n0"}]
    assert (
        await Plains(db).bulk_insert(again, on_conflict="nothing", index_elements=target, returning=False)
        == 2
    )
    assert await observer.scalar("SELECT note FROM plain WHERE name = 'n1'") == "old"
    assert await observer.scalar("SELECT id FROM plain WHERE name = 'n0'") == 0


@SIZES
async def test_update_changes_what_the_rows_name(db: Database, count: int) -> None:
    """`on_conflict="update"` sets the attributes of the row, and `onupdate`; defaults change nothing."""
    articles_ = Articles(db)
    await articles_.bulk_insert([*articles(count, active=False, stock=1)], returning=False)
    rows = list(articles(2 * count, title="new"))

    stored = await articles_.bulk_insert(
        rows, on_conflict="update", index_elements=["number"], returning=False
    )

    assert stored == 2 * count
    old, new = await articles_.find_by(number="a0"), await articles_.find_by(number=f"a{count}")
    assert old is not None
    assert new is not None
    assert (old.title, old.active, old.stock, old.changes, old.label) == ("new", False, 1, 1, "a0!")
    assert (new.title, new.active, new.stock, new.changes) == ("new", True, 7, 0)


@SIZES
async def test_update_returns_fresh_entities_in_order(db: Database, count: int) -> None:
    """Entities come back in the order of the rows, also those that the session has already."""
    await Plains(db).bulk_insert(list(plains(count, note="old")))
    rows = list(plains(2 * count, note="new"))[::-1]

    async with db.transaction():
        held = await Plains().get_one(0)
        entities = await Plains().bulk_insert(rows, on_conflict="update")

        assert [entity.id for entity in entities] == [row["id"] for row in rows]
        assert {entity.note for entity in entities} == {"new"}
        assert entities[-1] is held


@SIZES
@RETURNING
async def test_last_of_equal_keys_wins(db: Database, count: int, *, returning: bool) -> None:
    """Rows with the same key update one after another."""
    rows = [*plains(count), {"id": 0, "name": "n0", "note": "later"}, {"id": 0, "name": "n0", "note": "last"}]

    result: Any = await Plains(db).bulk_insert(rows, on_conflict="update", returning=returning)

    assert (await Plains(db).get_one(0)).note == "last"
    if returning:
        assert result[0] is result[-1]
        assert result[0].note == "last"
    else:
        assert result == count + 2


@SIZES
@RETURNING
async def test_rows_with_null_in_the_key_never_conflict(db: Database, count: int, *, returning: bool) -> None:
    """NULL is equal to nothing, not even to another NULL."""
    rows = [*articles(count), {"number": "same", "title": "x", "shop": 1, "shelf": 1}]
    rows = [{"shop": None, "shelf": 1, **row} for row in rows]
    rows += [{"number": "again", "title": "x", "shop": 1, "shelf": 1}]

    await Articles(db).bulk_insert(
        rows, on_conflict="update", index_elements=["shop", "shelf"], update=["title"], returning=returning
    )

    assert await Articles(db).count() == count + 1


@SIZES
async def test_update_sets_what_is_named(db: Database, count: int) -> None:
    """`update=` names the attributes to set, or says to what."""
    await Plains(db).bulk_insert(list(plains(count, note="old")), returning=False)

    await Plains(db).bulk_insert(
        [{"id": n, "name": f"other{n}", "note": "new"} for n in range(count)],
        on_conflict="update",
        update=["note"],
        returning=False,
    )
    assert (await Plains(db).get_one(0)).name == "n0"
    assert (await Plains(db).get_one(0)).note == "new"

    await Plains(db).bulk_insert(
        list(plains(count)),
        on_conflict="update",
        update={"note": "50 % value", "name": literal_column("upper(plain.name)")},
        returning=False,
    )
    assert [(p.note, p.name) for p in await Plains(db).where(Plain.id == 1).all()] == [("50 % value", "N1")]


async def test_update_of_nothing_but_the_key_returns_the_stored_rows(db: Database) -> None:
    """Rows that hold only their key come back with what is stored."""
    await Places(db).bulk_insert([{"row": 1, "seat": 1, "guest": "Ann"}])

    both = await Places(db).bulk_insert([{"row": 1, "seat": 2}, {"row": 1, "seat": 1}], on_conflict="update")

    assert [(place.seat, place.guest) for place in both] == [(2, None), (1, "Ann")]


@SIZES
@RETURNING
async def test_composite_key_is_a_target(db: Database, count: int, *, returning: bool) -> None:
    """A key of several columns is named by all of them, in any order."""
    rows = [{"row": n, "seat": n, "guest": "old"} for n in range(count)]
    await Places(db).bulk_insert(rows, returning=False)

    await Places(db).bulk_insert(
        [{**row, "guest": "new"} for row in rows],
        on_conflict="update",
        index_elements=["seat", "row"],
        returning=returning,
    )

    assert await Places(db).where(Place.guest == "new").count() == count


@SIZES
async def test_conflict_with_another_key_is_an_error(db: Database, observer: Observer, count: int) -> None:
    """Only the key that is named may conflict; another one never changes a row that was not meant."""
    await Plains(db).bulk_insert([{"id": 5000, "name": "n1", "note": "mine"}])

    actions: list[Literal["nothing", "update"]] = ["nothing", "update"]
    for on_conflict, returning in product(actions, (True, False)):
        with pytest.raises(DBAPIError):
            await Plains(db).bulk_insert(
                list(plains(count, note="x")),
                on_conflict=on_conflict,
                index_elements=["id"],
                returning=returning,
            )

    assert await observer.values(Plain, "note") == ["mine"]


async def test_target_without_unique_key_is_refused(db: Database) -> None:
    """Columns that no unique key covers are refused before anything is sent, with the keys that exist."""
    with pytest.raises(ConflictTargetError) as caught:
        await Articles(db).bulk_insert(
            list(articles(2)), on_conflict="update", index_elements=["title", "shop"]
        )

    assert caught.value.keys == (("id",), ("nr",), ("shop", "shelf"))


async def test_attributes_may_be_named_by_themselves(db: Database) -> None:
    """`index_elements` takes attributes as well as their names."""
    await Articles(db).bulk_insert(list(articles(1)))

    changed = await Articles(db).bulk_insert(
        list(articles(1, title="new")), on_conflict="update", index_elements=[Article.number]
    )

    assert [article.title for article in changed] == ["new"]


async def test_upsert_stores_one_row(db: Database, observer: Observer) -> None:
    """`upsert` inserts, and then updates."""
    first = await Plains(db).upsert({"id": 1, "name": "a"})
    second = await Plains(db).upsert({"id": 2, "name": "a", "note": "x"}, index_elements=["name"])

    assert (first.id, second.id, second.note) == (1, 1, "x")
    assert await observer.count(Plain) == 1


async def test_conflicting_rows_from_a_generator_are_merged_at_the_end(db: Database) -> None:
    """An async generator with conflicts counts all of its rows."""

    async def rows() -> AsyncIterator[dict[str, Any]]:
        for row in plains(2 * MANY, note="new"):
            yield row

    await Plains(db).bulk_insert(list(plains(MANY)), returning=False)

    assert (
        await Plains(db).bulk_insert(rows(), on_conflict="update", returning=False, batch_rows=70) == 2 * MANY
    )
    assert await Plains(db).where(Plain.note == "new").count() == 2 * MANY
