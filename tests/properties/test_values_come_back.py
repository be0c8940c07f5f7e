"""What goes in comes out: a value of any type, whichever way it is stored, and however many there are."""

import decimal
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle, islice, zip_longest
from typing import Any

import pytest
import sqlalchemy as sa

from tests.fixtures.columns import SAMPLES, Sample
from tests.fixtures.databases import Backend
from unitwork import CursorRequest, Database, OptionError, Repository, Sort

METADATA = {sample.name: sa.MetaData() for sample in SAMPLES}
MODELS = {sample.name: sample.model(METADATA[sample.name]) for sample in SAMPLES}


def _shown(value: object) -> str:
    """A value as text, so that a NaN is equal to itself, and 1 is not True."""
    if isinstance(value, decimal.Decimal):
        value = value.normalize()  # how many zeros there are is the column's matter
    return f"{type(value).__name__} {sorted(value) if isinstance(value, set) else value!r}"


async def _stored(db: Database, model: Any) -> list[Any]:  # noqa: ANN401  # a mapped class
    async with db.transaction():
        return list(await db.session.scalars(sa.select(model.value).order_by(model.id)))


async def _emptied(db: Database, model: Any) -> None:  # noqa: ANN401  # a mapped class
    async with db.transaction():
        await db.session.execute(sa.delete(model))


class Ways:
    """The ways to store values in the rows of one model. Each takes the values, and stores them in order."""

    def __init__(self, db: Database, model: Any) -> None:  # noqa: ANN401  # a mapped class
        self._model = model
        self.rows: Repository[Any] = Repository[model](db)

    def _mappings(self, values: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"id": number, "value": value} for number, value in enumerate(values)]

    async def add_all(self, values: Sequence[Any]) -> None:
        """The ORM's own."""
        await self.rows.add_all([self._model(**row) for row in self._mappings(values)])

    async def add(self, values: Sequence[Any]) -> None:
        """One by one, each committed by itself."""
        for row in self._mappings(values):
            await self.rows.add(self._model(**row))

    async def insert(self, values: Sequence[Any]) -> None:
        """`bulk_insert` by the fastest way."""
        await self.rows.bulk_insert(self._mappings(values), returning=False)

    async def insert_returning(self, values: Sequence[Any]) -> None:
        """`bulk_insert` of entities."""
        await self.rows.bulk_insert(self._mappings(values))

    async def update(self, values: Sequence[Any]) -> None:
        """`bulk_update` of rows that have nothing yet."""
        await self.rows.bulk_insert([{"id": number} for number in range(len(values))], returning=False)
        assert await self.rows.bulk_update(self._mappings(values)) == len(values)

    async def upsert(self, values: Sequence[Any]) -> None:
        """An upsert of rows that are there."""
        await self.rows.bulk_insert([{"id": number} for number in range(len(values))], returning=False)
        await self.rows.bulk_insert(self._mappings(values), on_conflict="update", returning=False)


WAYS: tuple[tuple[Callable[[Ways, Sequence[Any]], Awaitable[None]], tuple[int, ...]], ...] = (
    (Ways.add, (12,)),
    (Ways.add_all, (49,)),
    (Ways.insert, (1, 49, 50, 1000)),
    (Ways.insert_returning, (1, 49)),
    (Ways.update, (1, 60)),
    (Ways.upsert, (1, 60)),
)


UNORDERED = {
    "json", "json_of_halves", "json_or_null", "pickle", "own_json", "points", "jsonb", "mysql_json",
    "numbers", "texts", "moods", "grid", "uuids", "set", "words", "array_or_json",
}  # fmt: skip
"""Types whose values nobody sorts by."""
UNORDERED_ON = {"postgresql": {"document", "text_or_json"}}
"""Those for which a database has another type, of values that nobody sorts by."""
NOT_WALKED = {"inet", "cidr", "range", "numrange", "daterange", "tstzrange", "multirange"}
"""Types that the database orders, and whose values no cursor holds."""


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
async def test_value_comes_back(db: Database, backend: Backend, sample: Sample) -> None:
    """The values are those that were given, after each way to store them, NULL included."""
    if backend.database not in sample.databases:
        pytest.skip(f"{backend.database} has no such type, or not these values")
    model = MODELS[sample.name]
    async with db.engine.begin() as connection:
        await connection.run_sync(METADATA[sample.name].create_all)

    wrong: dict[str, object] = {}
    for store, counts in WAYS:
        for count in counts:
            values = list(islice(cycle((*sample.values, None)), count))
            await store(Ways(db, model), values)
            pairs = list(zip_longest(map(_shown, await _stored(db, model)), map(_shown, values)))
            if different := [pair for pair in pairs if pair[0] != pair[1]]:
                wrong[f"{store.__name__} of {count}"] = different[0]
            await _emptied(db, model)
    assert not wrong


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.filterwarnings("ignore:.*operator_classes:sqlalchemy.exc.SADeprecationWarning")
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
async def test_walk_in_the_order_of_any_type(
    db: Database, backend: Backend, sample: Sample, *, descending: bool
) -> None:
    """Cursor pages show each row once, there and back, or say that there is no order."""
    if backend.database not in sample.databases or sample.name in NOT_WALKED:
        pytest.skip(f"{backend.database} has no such type, or not these values, or no cursor takes them")
    async with db.engine.begin() as connection:
        await connection.run_sync(METADATA[sample.name].create_all)
    ways, values = Ways(db, MODELS[sample.name]), [*sample.values, *sample.values, None, None]
    await ways.insert(values)
    rows = ways.rows
    sorts = [Sort("value", "DESC" if descending else "ASC")]

    if sample.name in UNORDERED | UNORDERED_ON.get(backend.database, set()):
        with pytest.raises(OptionError):
            await rows.select().cursor_page(CursorRequest(None, 3, sorts))
        return
    seen: list[int] = []
    page = await rows.select().cursor_page(CursorRequest(None, 3, sorts))
    while page.next_cursor is not None:
        seen += [row.id for row in page.content]
        assert len(seen) <= len(values)
        page = await rows.select().cursor_page(CursorRequest(page.next_cursor, 3, sorts))
    seen += [row.id for row in page.content]
    assert sorted(seen) == list(range(len(values)))
    back = [row.id for row in page.content][::-1]
    while page.previous_cursor is not None:
        page = await rows.select().cursor_page(CursorRequest(page.previous_cursor, 3, sorts))
        back += [row.id for row in page.content][::-1]
    assert back == seen[::-1]
