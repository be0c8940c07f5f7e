"""What `unitwork dump` has written, `unitwork load` stores again as it was: each type, in each format."""

import datetime as dt
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from click import ClickException
from sqlalchemy import (
    JSON,
    Date,
    DateTime,
    Double,
    Float,
    Integer,
    MetaData,
    Numeric,
    String,
    Text,
    cast,
    delete,
    insert,
    literal_column,
    null,
    select,
    type_coerce,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from tests.fixtures.columns import SAMPLES, Absent, Sample, Wordy
from tests.fixtures.databases import Backend
from unitwork import Database, Repository
from unitwork.cli._dumping import Dumping
from unitwork.cli._files import NewFile
from unitwork.cli._loading import Loading, LoadOptions
from unitwork.cli._reading import Records

METADATA = {sample.name: MetaData() for sample in SAMPLES}
MODELS = {sample.name: sample.model(METADATA[sample.name]) for sample in SAMPLES}


_NOT_IN_FILES = ("pickle",)


async def all_values(db: Database, model: Any) -> list[str]:  # noqa: ANN401  # a mapped class
    """The values of all rows with their types, and whether each is NULL."""
    if not hasattr(model, "value"):
        return []
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


class Blank(TypeDecorator[str]):
    """Text, of which the empty one stands for None."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: object) -> str:
        """None is empty."""
        return value or ""

    def process_result_value(self, value: str | None, dialect: object) -> str | None:
        """And empty is None."""
        return value or None


class Words(TypeDecorator[list[str]]):
    """Words, of which there are none where there is NULL."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: list[str] | None, dialect: object) -> str | None:
        """No words are NULL."""
        return ",".join(value) if value else None

    def process_result_value(self, value: str | None, dialect: object) -> list[str]:
        """And NULL is no words."""
        return value.split(",") if value else []


class Odd(DeclarativeBase):
    """Tables that hold what their types do not show."""


class Told(Odd):
    """None, NULL and nothing are three things here."""

    __tablename__ = "told"

    id: Mapped[int] = mapped_column(primary_key=True)
    absent: Mapped[int | None] = mapped_column(Absent())
    never: Mapped[int | None] = mapped_column(Absent(), nullable=False)
    blank: Mapped[str | None] = mapped_column(Blank())
    words: Mapped[list[str] | None] = mapped_column(Words())
    document: Mapped[Any] = mapped_column(JSON, nullable=False)


class Secret(Odd):
    """A text that no other one stands for."""

    __tablename__ = "secrets"

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str | None] = mapped_column(Wordy())


class Number(Odd):
    """Numbers of which a SELECT does not show all."""

    __tablename__ = "odd_numbers"

    id: Mapped[int] = mapped_column(primary_key=True)
    few: Mapped[Any] = mapped_column(Numeric(20, 10), nullable=True)
    many: Mapped[Any] = mapped_column(Numeric(38, 20), nullable=True)
    single: Mapped[float | None] = mapped_column(Float(24))
    shown: Mapped[Any] = mapped_column(Float(53, asdecimal=True), nullable=True)


async def held(db: Database, model: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401  # a mapped class
    """What the database itself has, past every type."""
    columns: list[Any] = []
    for each in model.__table__.columns:
        number = isinstance(each.type, Float | Numeric)
        columns.append(cast(each, Double()) if number else cast(type_coerce(each, String), String(60)))
    async with db.transaction() as session:
        rows = await session.execute(
            select(*(type_coerce(each, String) for each in columns)).order_by(model.id)
        )
        return [tuple(row) for row in rows]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
async def test_what_is_held_comes_back(db: Database, tmp_path: Path, kind: str) -> None:
    """What types make of None and NULL, and numbers that are shown rounded, are stored as they were."""
    await db.create_all(Odd)
    odd = dict.fromkeys(("absent", "blank", "words"), null())
    async with db.transaction() as session:
        session.add_all(
            [Told(id=1, never=None, document=None, **odd), Told(id=2, never=3, document={"a": 1})]
        )
        session.add(Told(id=3, absent=0, never=0, blank="x", words=["a", "b"], document=[]))
        if kind == "parquet":  # it has no third thing
            await session.execute(delete(Told).where(Told.id == 2))
        wide = [0.1, 1234567.125, 1e-7, 12345.6789012345, 1 / 3]
        for place, each in enumerate(wide, start=1):
            values: dict[str, Any] = dict.fromkeys(("many", "single", "shown"), literal_column(repr(each)))
            values["few"] = literal_column(repr(round(each, 10)))
            await session.execute(insert(Number).values(id=place, **values))
    before = [await held(db, model) for model in (Told, Number)]
    assert before[0][0][1:6] == (None, "-1", None, None, "null")
    if kind != "parquet":
        assert before[0][1][1:5] == ("-1", "3", "", None)

    for model in (Told, Number):
        assert await there_and_back(db, model, tmp_path / f"odd.{kind}", "") is None

    assert [await held(db, model) for model in (Told, Number)] == before
    await db.drop_all(Odd)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
async def test_what_a_format_cannot_tell_from_null_is_refused(
    db: Database, tmp_path: Path, kind: str
) -> None:
    """None that is stored as a text like any other is told apart by JSON lines alone; no file is made."""
    await db.create_all(Odd)
    async with db.transaction() as session:
        session.add_all([Secret(id=1, word=None), Secret(id=2, word=null()), Secret(id=3, word="a")])
    before = await held(db, Secret)
    assert [word for _id, word in before] == ["nothing", None, "A"]

    file = tmp_path / f"secrets.{kind}"
    if kind == "jsonl":
        assert await there_and_back(db, Secret, file, "") is None
    else:
        with pytest.raises(ClickException, match="word, which is None but not NULL; only --format jsonl"):
            await there_and_back(db, Secret, file, "")
        assert not file.exists()
    assert await held(db, Secret) == before
    await db.drop_all(Odd)


class Ends(DeclarativeBase):
    """Tables that hold PostgreSQL's ends of time."""


class Contract(Ends):
    """Without an end."""

    __tablename__ = "contracts"

    id: Mapped[int] = mapped_column(primary_key=True)
    since: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))
    until: Mapped[dt.datetime | None] = mapped_column(DateTime)
    day: Mapped[dt.date | None] = mapped_column(Date)


@pytest.mark.only("asyncpg", reason="only its driver answers with them")
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
async def test_ends_of_time_come_back(db: Database, tmp_path: Path, kind: str) -> None:
    """Also where times have a zone, which these have not; and bulk writes take them as `add` does."""
    await db.create_all(Ends)
    first, last = dt.datetime.min, dt.datetime.max  # noqa: DTZ901  # as asyncpg answers them
    contracts = Repository[Contract](db)
    await contracts.add(Contract(id=1, since=first, until=last, day=dt.date.max))
    for count in (1, 60):
        rows = [
            {"id": 100 * count + n, "since": last, "until": first, "day": dt.date.min} for n in range(count)
        ]
        await contracts.bulk_insert(rows)
    names = (Contract.since, Contract.until, Contract.day)

    async def ends() -> list[tuple[str, ...]]:
        async with db.transaction() as session:
            found = await session.execute(select(*(cast(each, Text) for each in names)).order_by(Contract.id))
            return [tuple(row) for row in found]

    before = await ends()
    assert before == [("-infinity", "infinity", "infinity"), *[("infinity", "-infinity", "-infinity")] * 61]

    assert await there_and_back(db, Contract, tmp_path / f"contracts.{kind}", "") is None

    assert await ends() == before
    await db.drop_all(Ends)


class Hidden(TypeDecorator[Any]):
    """Does not say what it returns; -1 stands for None."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: object) -> Any:  # noqa: ANN401  # nobody knows
        """None is -1."""
        return -1 if value is None else value

    def process_result_value(self, value: Any, dialect: object) -> Any:  # noqa: ANN401  # as above
        """And -1 is None."""
        return None if value == -1 else value


class Untold(DeclarativeBase):
    """Tables of what nobody has said."""


class Riddle(Untold):
    """Only its type knows what its values are."""

    __tablename__ = "riddles"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[Any] = mapped_column(Hidden(), nullable=True)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
async def test_none_of_an_unknown_type_comes_back_or_is_refused(
    db: Database, tmp_path: Path, kind: str
) -> None:
    """Parquet has no third thing beside a value and NULL, and no file that cannot be loaded is made."""
    await db.create_all(Untold)
    async with db.transaction() as session:
        session.add_all([Riddle(id=1, value=None), Riddle(id=2, value=null()), Riddle(id=3, value=7)])
    before = await held(db, Riddle)
    assert [value for _id, value in before] == ["-1", None, "7"]

    file = tmp_path / f"riddles.{kind}"
    if kind == "parquet":
        with pytest.raises(ClickException, match="value, which is None but not NULL; only --format jsonl"):
            await there_and_back(db, Riddle, file, "")
        assert not file.exists()
    else:
        assert await there_and_back(db, Riddle, file, "") is None

    assert await held(db, Riddle) == before
    await db.drop_all(Untold)
