"""What `unitwork dump` has written, `unitwork load` stores again as it was: each type, in each format."""

from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Integer, MetaData, Numeric, String, delete, null, select, type_coerce
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.fixtures.columns import SAMPLES, Sample
from tests.fixtures.databases import Backend
from unitwork import Database
from unitwork.cli._dumping import Dumping
from unitwork.cli._files import NewFile
from unitwork.cli._loading import Loading, LoadOptions
from unitwork.cli._reading import Records

METADATA = {sample.name: MetaData() for sample in SAMPLES}
MODELS = {sample.name: sample.model(METADATA[sample.name]) for sample in SAMPLES}


# Pickles are refused; ranges are written, but asyncpg reads no text of them.
_NOT_IN_FILES = ("pickle", "range")


async def all_values(db: Database, model: Any) -> list[str]:  # noqa: ANN401  # a mapped class
    """The values of all rows with their types, and whether each is NULL."""
    statement = select(model.value, type_coerce(model.value, Integer).is_(null())).order_by(model.id)
    async with db.transaction() as session:
        rows = await session.execute(statement)
        return [f"{value!r} {type(value).__name__} {'NULL' if is_null else ''}" for value, is_null in rows]


async def there_and_back(db: Database, model: Any, file: Path, null_text: str) -> str | None:  # noqa: ANN401
    """Dump all rows, delete them, load the file, and say what has changed."""
    kind = file.suffix[1:]
    before = await all_values(db, model)
    with NewFile(file) as opened:
        await Dumping(db, model, None, None).run(opened, kind, null_text)
    async with db.transaction() as session:
        await session.execute(delete(model))
    told: list[str] = []
    records = Records(str(file), kind, null=null_text)
    await Loading(db, model, records, LoadOptions(null=null_text), told.append).run(lambda _read: None)
    after = await all_values(db, model)
    pairs = zip_longest(before, after)
    return next((f"{one} became {other}" for one, other in pairs if one != other), None)


async def stored(db: Database, sample: Sample) -> Any:  # noqa: ANN401  # a mapped class
    """The model of a sample, with its values, NULL, and, of JSON, its own null."""
    model = MODELS[sample.name]
    await db.create_all(METADATA[sample.name])
    values = [*sample.values, null(), *([None] if model.value.type.should_evaluate_none else [])]
    async with db.transaction() as session:
        session.add_all([model(id=number, value=value) for number, value in enumerate(values)])
    return model


@pytest.mark.parametrize("null_text", ["", "\\N"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.timeout(180)
async def test_values_of_every_type_come_back(
    db: Database, backend: Backend, tmp_path: Path, kind: str, null_text: str
) -> None:
    """Dump and load change nothing, whatever the type."""
    if null_text and kind != "csv":
        pytest.skip("only CSV has a text for no value")
    changed: dict[str, str | None] = {}
    for sample in SAMPLES:
        if backend.database not in sample.databases or sample.name in _NOT_IN_FILES:
            continue
        model = await stored(db, sample)
        try:
            found = await there_and_back(db, model, tmp_path / f"{sample.name}.{kind}", null_text)
        except Exception as error:  # noqa: BLE001  # all types are told
            found = f"{type(error).__name__}: {error}"
        if found is not None:
            changed[sample.name] = found
    assert changed == {}


class Defaults(DeclarativeBase):
    """Tables whose columns are filled in when they are left out."""


class Dose(Defaults):
    """What is NULL here was meant to be."""

    __tablename__ = "doses"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int | None] = mapped_column(default=3)
    named: Mapped[str | None] = mapped_column(String(20), server_default="usual")
    amount: Mapped[float | None] = mapped_column(Numeric(10, 2, asdecimal=False), default=1.5)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
async def test_null_stays_null_where_a_default_would_fill_it_in(
    db: Database, tmp_path: Path, kind: str
) -> None:
    """And whole numbers come back where a column has others."""
    await db.create_all(Defaults)
    async with db.transaction() as session:
        session.add_all(
            [
                Dose(id=1, value=null(), named=null(), amount=null()),
                Dose(id=2, value=7, named="few", amount=4),
            ]
        )

    assert await there_and_back(db, Dose, tmp_path / f"doses.{kind}", "") is None
    async with db.transaction() as session:
        rows = await session.execute(select(Dose.value, Dose.named, Dose.amount).order_by(Dose.id))
        assert [tuple(row) for row in rows] == [(None, None, None), (7, "few", 4)]
    await db.drop_all(Defaults)
