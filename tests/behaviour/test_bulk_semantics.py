"""What None, missing values, defaults and `onupdate` mean in bulk writes is what they mean to the ORM."""

import uuid
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from sqlalchemy import JSON, Computed, MetaData, String, func, null, select
from sqlalchemy.orm import Mapped, mapped_column

from tests.fixtures.observer import Observer
from unitwork import Base, Database, DataclassBase, Repository, RowError, StaleRowError, VersionMixin


class SheetBase(Base):
    """Tables that only this module has."""

    __abstract__ = True
    metadata = MetaData()


class Sheet(SheetBase):
    """A column for each way in which something is filled in."""

    __tablename__ = "sheet"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    plain: Mapped[str | None] = mapped_column(String(20))
    fixed: Mapped[str | None] = mapped_column(String(20), default="fixed")
    made: Mapped[str | None] = mapped_column(String(20), default=lambda: "made")
    seen: Mapped[str | None] = mapped_column(
        "look", String(40), default=lambda context: f"saw {context.get_current_parameters().get('fixed')}"
    )
    served: Mapped[str | None] = mapped_column(String(20), server_default="served")
    counted: Mapped[int | None] = mapped_column(default=func.length("four"))
    needed: Mapped[str] = mapped_column(String(20), default="needed")
    data: Mapped[Any] = mapped_column(JSON, nullable=True)
    maybe: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=True)
    twice: Mapped[int] = mapped_column(Computed("id * 2", persisted=True))
    stamped: Mapped[str | None] = mapped_column(String(20), onupdate="stamped")
    length: Mapped[int | None] = mapped_column(onupdate=func.length("seven"))
    folded: Mapped[str | None] = mapped_column(
        String(40), onupdate=lambda context: str(context.get_current_parameters().get("plain")).lower()
    )


class Visit(SheetBase, VersionMixin):
    """A row that counts its versions, and whose tag is new with each change."""

    __tablename__ = "visit"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hits: Mapped[int] = mapped_column(default=1)
    tag: Mapped[str | None] = mapped_column(String(40), onupdate=lambda: uuid.uuid4().hex)


class Issue(SheetBase):
    """A row whose version is not a number."""

    __tablename__ = "issue"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    title: Mapped[str] = mapped_column(String(20))
    etag: Mapped[str] = mapped_column(String(40))
    __mapper_args__ = {"version_id_col": etag, "version_id_generator": lambda _old: uuid.uuid4().hex}  # noqa: RUF012


class Tagged(DataclassBase):
    """A dataclass, which fills its fields itself."""

    __tablename__ = "tagged"
    metadata = MetaData()

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    place: Mapped[str] = mapped_column(String(20), default_factory=lambda: "here")
    tags: Mapped[list[str] | None] = mapped_column(JSON, default_factory=lambda: ["new"])
    note: Mapped[str | None] = mapped_column(String(20), default="plain")


@pytest.fixture(autouse=True)
async def _tables(db: Database) -> None:
    await db.create_all(SheetBase)
    await db.create_all(Tagged)


FILLED = ("plain", "fixed", "made", "seen", "served", "counted", "needed", "data", "maybe")
CASES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a value": {"plain": "x", "fixed": "y", "made": "z", "served": "s", "counted": 9, "data": [1]},
    **{f"None for {name}": {name: None} for name in FILLED},
    **{f"null() for {name}": {name: null()} for name in FILLED if name != "needed"},
    "None for all": dict.fromkeys(FILLED),
    "JSON's null": {"data": JSON.NULL, "maybe": JSON.NULL},
}
COLUMNS = [column for column in Sheet.__table__.columns if column.name not in {"id", "twice"}]


def cases(*, without: str = "") -> pytest.MarkDecorator:
    """Run a test with each of the rows."""
    kept = {name: case for name, case in CASES.items() if without not in case}
    return pytest.mark.parametrize("case", list(kept.values()), ids=list(kept))


async def _found(db: Database, ids: range) -> set[tuple[Any, ...]]:
    """What is stored, and where it is SQL's NULL."""
    nulls = [Sheet.data.is_(None), Sheet.maybe.is_(None)]
    statement = select(*COLUMNS, *nulls).where(Sheet.id.in_(list(ids)))
    async with db.transaction():
        return {tuple(map(repr, row)) for row in (await db.session.execute(statement)).all()}


@cases()
async def test_new_rows_are_those_of_add_all(db: Database, case: dict[str, Any]) -> None:
    """As mappings and as entities, with and without their entities, and as rows of an upsert."""
    sheets = Repository[Sheet](db)
    await sheets.add_all([Sheet(id=0, **case)])
    right = await _found(db, range(1))

    def entities(count: int) -> list[Sheet]:
        return [Sheet(id=n, **case) for n in range(1, count + 1)]

    def mappings(count: int) -> list[dict[str, Any]]:
        return [{"id": n, **case} for n in range(1, count + 1)]

    ways: dict[str, Callable[[int], Any]] = {
        "mappings": lambda count: sheets.bulk_insert(mappings(count), returning=False),
        "entities": lambda count: sheets.bulk_insert(entities(count), returning=False),
        "returning": lambda count: sheets.bulk_insert(mappings(count)),
        "upsert": lambda count: sheets.bulk_insert(mappings(count), on_conflict="update", returning=False),
    }
    stored = {}
    for count, (way, insert) in product((1, 49, 50), ways.items()):
        await insert(count)
        stored[way, count] = await _found(db, range(1, count + 1))
        await sheets.where(Sheet.id > 0).delete()
    assert stored == dict.fromkeys(stored, right)


@cases(without="needed")
@pytest.mark.parametrize("count", [1, 60])
async def test_changed_rows_are_those_of_an_update(db: Database, case: dict[str, Any], count: int) -> None:
    """`bulk_update`, and an upsert of stored rows, set what changed entities set."""
    sheets, ids = Repository[Sheet](db), range(1, count + 1)
    before: dict[str, Any] = {
        "plain": "p",
        "fixed": "f",
        "made": "m",
        "seen": "n",
        "served": "s",
        "counted": 3,
    }
    before |= {"data": 1, "maybe": 2}
    await sheets.bulk_insert([{"id": n, **before} for n in range(count + 1)], returning=False)
    async with db.transaction():
        sheet = await sheets.get_one(0)
        for name, value in case.items():
            setattr(sheet, name, value)
    right = await _found(db, range(1))

    assert await sheets.bulk_update([{"id": n, **case} for n in ids]) == count
    assert await _found(db, ids) == right

    await sheets.where(Sheet.id > 0).delete()
    await sheets.bulk_insert([{"id": n, **before} for n in ids], returning=False)
    await sheets.bulk_insert([{"id": n, **case} for n in ids], on_conflict="update", returning=False)
    assert {row[:10] for row in await _found(db, ids)} == {row[:10] for row in right}


@pytest.mark.parametrize("count", [1, 60])
async def test_none_where_a_value_must_be_is_refused(db: Database, observer: Observer, count: int) -> None:
    """An update to None is no default: it fails, as that of the ORM does, and the row stays."""
    sheets = Repository[Sheet](db)
    await sheets.bulk_insert([{"id": n, "needed": "paid"} for n in range(count)], returning=False)

    with pytest.raises(RowError) as caught:
        await sheets.bulk_update([{"id": n, "needed": None} for n in range(count)])

    assert (caught.value.row, caught.value.attribute) == (1, "needed")
    assert await observer.column("SELECT DISTINCT needed FROM sheet") == ["paid"]


async def test_computed_columns_are_not_asked_of_entities(db: Database) -> None:
    """Loaded entities can be written again; a mapping that names such a column is told."""
    sheets = Repository[Sheet](db)
    await sheets.bulk_insert([{"id": n} for n in range(60)], returning=False)
    loaded = await sheets.all()
    await sheets.select().delete()

    assert await sheets.bulk_insert(loaded, returning=False) == 60
    assert await sheets.bulk_update(loaded) == 60

    assert {sheet.twice for sheet in await sheets.all()} == {2 * n for n in range(60)}
    with pytest.raises(RowError, match="computed by the database"):
        await sheets.bulk_insert([{"id": 99, "twice": 1}])


@pytest.mark.parametrize("count", [1, 60])
@pytest.mark.parametrize("returning", [True, False])
async def test_dataclasses_fill_their_fields(db: Database, count: int, *, returning: bool) -> None:
    """`default_factory` fills what a mapping does not name; None that is given is a value."""
    tagged = Repository[Tagged](db)
    await tagged.bulk_insert([{"id": n} for n in range(count)], returning=returning)
    await tagged.bulk_insert([{"id": -1, "tags": None}], returning=returning)

    found = {each.id: (each.place, each.tags, each.note) for each in await tagged.all()}
    assert found == {-1: ("here", None, "plain"), **{n: ("here", ["new"], "plain") for n in range(count)}}


@pytest.mark.parametrize("count", [1, 3, 60])
async def test_onupdate_is_made_for_each_row(db: Database, observer: Observer, count: int) -> None:
    """A function in `onupdate` is called for each row, by updates and by upserts."""
    visits = Repository[Visit](db)
    rows = [{"id": n, "hits": 2} for n in range(count)]
    await visits.bulk_insert(rows, returning=False)
    tags = "SELECT count(DISTINCT tag) FROM visit"
    assert await observer.scalar(tags) == 0

    await visits.bulk_update(rows)
    assert await observer.scalar(tags) == count
    for returning in (False, True):
        await visits.where(Visit.id >= 0).update(tag=None)
        await visits.bulk_insert(rows, on_conflict="update", returning=returning)
        assert await observer.scalar(tags) == count
    assert await observer.column("SELECT DISTINCT version FROM visit") == [6]


@pytest.mark.parametrize("count", [1, 60])
async def test_rows_that_name_their_key_alone_are_counted(
    db: Database, observer: Observer, count: int
) -> None:
    """They change nothing; `onupdate` and the version stay as they were; only those that exist count."""
    visits = Repository[Visit](db)
    await visits.bulk_insert([{"id": n} for n in range(count)], returning=False)

    assert await visits.bulk_update([{"id": n} for n in range(2 * count)]) == count

    assert await observer.column("SELECT DISTINCT version FROM visit") == [1]
    assert await observer.scalar("SELECT count(tag) FROM visit") == 0


async def test_version_that_rows_give_is_kept_by_inserts(db: Database) -> None:
    """Rows that were dumped come back as they were; the ORM alone would begin anew."""
    visits = Repository[Visit](db)
    for n, returning in enumerate((False, True)):
        await visits.bulk_insert([{"id": n, "version": 7}], returning=returning)
    assert {visit.version for visit in await visits.all()} == {7}


@pytest.mark.parametrize("count", [1, 60])
async def test_versions_of_another_kind_are_made_by_the_model(db: Database, count: int) -> None:
    """`version_id_generator` makes the versions of new rows and of changed ones."""
    issues = Repository[Issue](db)
    await issues.bulk_insert([{"id": n, "title": "old"} for n in range(count)], returning=False)
    first = {issue.id: issue.etag for issue in await issues.all()}
    assert len(set(first.values())) == count

    assert (
        await issues.bulk_update([{"id": n, "title": "new", "etag": first[n]} for n in range(count)]) == count
    )

    then = {issue.etag for issue in await issues.all()}
    assert len(then | set(first.values())) == 2 * count


@pytest.mark.parametrize("count", [2, 10, 60, 200])
@pytest.mark.parametrize("returning", [True, False])
async def test_upsert_counts_each_row_of_a_key(db: Database, count: int, *, returning: bool) -> None:
    """Rows of one key see what those before them have done, however many there are."""
    visits = Repository[Visit](db)
    await visits.bulk_insert(
        [{"id": 1}] * count, on_conflict="update", update={"hits": Visit.hits + 1}, returning=returning
    )
    found = await visits.get_one(1)
    assert (found.hits, found.version) == (count, count)


async def test_stale_version_alone_is_refused(db: Database) -> None:
    """A row that names its key and a version says that it has seen that version."""
    visits = Repository[Visit](db)
    await visits.bulk_insert([{"id": 1}], returning=False)

    with pytest.raises(StaleRowError):
        await visits.bulk_update([{"id": 1, "version": 77}])
    assert await visits.bulk_update([{"id": 1, "version": 1}]) == 1
