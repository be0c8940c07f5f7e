"""Many rows are changed and deleted by their primary keys."""

from collections.abc import AsyncIterator
from typing import Any

import pydantic
import pytest
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from tests.fixtures.articles import (
    FEW,
    MANY,
    Article,
    ArticleBase,
    Articles,
    Colour,
    Place,
    Places,
    Plain,
    Plains,
    articles,
    create_articles,
    plains,
)
from tests.fixtures.observer import Observer
from unitwork import Database, Repository, RowError, StaleRowError
from unitwork.models import VersionMixin

SIZES = pytest.mark.parametrize("count", [FEW, MANY])


class Counted(VersionMixin, ArticleBase):
    """Something whose changes are counted."""

    __tablename__ = "counted"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(50))


class Counteds(Repository[Counted]):
    """Their repository."""


@pytest.fixture(autouse=True)
async def _tables(db: Database) -> None:
    await create_articles(db)


@SIZES
async def test_bulk_update_sets_what_each_row_names(db: Database, count: int) -> None:
    """Rows name the key and what to set; types, names and `onupdate` are those of the ORM."""
    stored = await Articles(db).bulk_insert(list(articles(count)))
    rows: list[dict[str, Any]] = [
        {"id": article.id, "title": f"new\t{n}", "colour": Colour.BLUE, "details": {"n": n}, "secret": None}
        for n, article in enumerate(stored)
    ]
    rows.append({"id": stored[0].id, "number": "other"})

    assert await Articles(db).bulk_update(rows) == count + 1

    first = await Articles(db).get_one(stored[0].id)
    assert (first.title, first.colour, first.details) == ("new\t0", Colour.BLUE, {"n": 0})
    assert (first.number, first.changes, first.stock, first.active) == ("other", 1, 7, True)


@SIZES
async def test_bulk_update_tells_how_many_there_were(db: Database, count: int) -> None:
    """Rows that do not exist are not made, and not counted."""
    await Plains(db).bulk_insert(list(plains(count)), returning=False)

    assert await Plains(db).bulk_update([{"id": n, "note": "x"} for n in range(2 * count)]) == count
    assert await Plains(db).count() == count


async def test_bulk_update_shows_in_entities_of_the_session(db: Database) -> None:
    """What the session holds already is loaded again."""
    await Plains(db).bulk_insert(list(plains(MANY)), returning=False)

    async with db.transaction():
        held = await Plains().get_one(5)
        await Plains().bulk_update([{"id": n, "note": "x"} for n in range(MANY)])
        assert held.note == "x"


@SIZES
async def test_bulk_update_refuses_what_somebody_else_has_changed(
    db: Database, observer: Observer, count: int
) -> None:
    """Rows that give their version are checked; the version counts on either way."""
    await Counteds(db).bulk_insert([{"id": n, "name": "a"} for n in range(count)], returning=False)
    await Counteds(db).bulk_update([{"id": n, "name": "b"} for n in range(count)])
    await Counteds(db).bulk_update([{"id": n, "name": "c", "version": 2} for n in range(count)])
    await observer.run("UPDATE counted SET version = 9 WHERE id = 1")

    with pytest.raises(StaleRowError):
        await Counteds(db).bulk_update([{"id": n, "name": "d", "version": 3} for n in range(count)])

    assert set(await observer.values(Counted, "name")) == {"c"}
    assert await observer.scalar("SELECT version FROM counted WHERE id = 0") == 3


async def test_bulk_update_takes_patches_from_an_async_generator(db: Database) -> None:
    """Of a Pydantic model only what was set is set."""

    class Patch(pydantic.BaseModel):
        id: int
        name: str | None = None
        note: str | None = None

    async def patches() -> AsyncIterator[Patch]:
        for n in range(MANY):
            yield Patch(id=n, note="x")

    await Plains(db).bulk_insert(list(plains(MANY)), returning=False)

    assert await Plains(db).bulk_update(patches(), batch_rows=50) == MANY
    assert (await Plains(db).get_one(3)).name == "n3"
    assert (await Plains(db).get_one(3)).note == "x"


@pytest.mark.parametrize(
    ("row", "attribute"),
    [({"note": "x"}, "id"), ({"id": 1, "nota": "x"}, "nota"), ({"id": 1, "note": 5}, "note")],
)
async def test_bulk_update_names_a_bad_row(
    db: Database, observer: Observer, row: dict[str, Any], attribute: str
) -> None:
    """The row is named, and nothing is changed."""
    await Plains(db).bulk_insert(list(plains(FEW, note="old")), returning=False)

    with pytest.raises(RowError) as caught:
        await Plains(db).bulk_update([{"id": 0, "note": "new"}, {"id": 1, "note": "new"}, row], batch_rows=2)

    assert (caught.value.row, caught.value.attribute) == (3, attribute)
    assert set(await observer.values(Plain, "note")) == {"old"}


@SIZES
async def test_bulk_delete_takes_keys_of_any_kind(db: Database, observer: Observer, count: int) -> None:
    """Values, mappings and entities name rows; those that are not there are not counted."""
    await Plains(db).bulk_insert(list(plains(count + 3)), returning=False)
    keys = [*range(count), {"id": count}, await Plains(db).get_one(count + 1), 10**6]

    assert await Plains(db).bulk_delete(keys, batch_rows=50) == count + 2
    assert await observer.values(Plain, "id") == [count + 2]


async def test_bulk_delete_takes_composite_keys(db: Database, observer: Observer) -> None:
    """A key of several columns is a tuple."""
    await Places(db).bulk_insert([{"row": n % 2, "seat": n} for n in range(10)], returning=False)

    assert await Places(db).bulk_delete([(0, 0), (1, 1), (0, 1)]) == 2
    assert await observer.count(Place) == 8
    with pytest.raises(RowError, match="Row 2"):
        await Places(db).bulk_delete([(0, 2), 5])


async def test_bulk_delete_is_known_to_the_session(db: Database) -> None:
    """Deleted entities are gone from the session."""
    await Plains(db).bulk_insert(list(plains(FEW)), returning=False)

    async with db.transaction():
        held = await Plains().get_one(1)
        await Plains().bulk_delete([0, 1])
        assert held not in db.session
        assert await Plains().get(1) is None


async def test_bulk_changes_of_nothing_change_nothing(db: Database) -> None:
    """An empty list is no error."""
    assert await Plains(db).bulk_update([]) == 0
    assert await Plains(db).bulk_delete([]) == 0


async def test_bulk_changes_tell_their_progress(db: Database) -> None:
    """Whoever asks is told how many rows are done, of how many."""
    told: list[tuple[int, int | None]] = []
    await Plains(db).bulk_insert(list(plains(5)), returning=False)

    def on_progress(done: int, total: int | None) -> None:
        told.append((done, total))

    rows = [{"id": n, "note": "x"} for n in range(5)]
    await Plains(db).bulk_update(rows, batch_rows=3, on_progress=on_progress)
    await Plains(db).bulk_delete(range(5), batch_rows=4, on_progress=on_progress)

    assert told == [(3, 5), (5, 5), (4, 5), (5, 5)]
    assert await Articles(db).where(Article.id == 1).count() == 0
