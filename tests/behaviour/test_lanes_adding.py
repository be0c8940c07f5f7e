"""A new entity that is inserted past the session ends up, in Python and as a row, as through the session."""

import re
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from enum import Enum
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    URL,
    Computed,
    Dialect,
    FetchedValue,
    ForeignKey,
    Identity,
    MetaData,
    String,
    TypeDecorator,
    func,
    inspect,
    text,
)
from sqlalchemy.exc import SAWarning
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    Mapped,
    WriteOnlyMapped,
    mapped_column,
    relationship,
    validates,
)

from tests.fixtures.leaks import left_in_context
from unitwork import Base, Database, DataclassBase, Propagation, Repository
from unitwork.options import Lane


class Goods(Base):
    """The base of these tables, apart from those that every database has."""

    __abstract__ = True
    metadata = MetaData()


class Size(Enum):
    """Names and values differ."""

    SMALL = "s"
    LARGE = "l"


class Shouted(TypeDecorator[str]):
    """A value that changes on its way, NULL too."""

    impl = String(50)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str:
        del dialect
        return "nothing" if value is None else value.upper()

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        del dialect
        return value if value is None else value.lower()


class Maker(Goods):
    """What goods belong to."""

    __tablename__ = "maker"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(20))

    goods: Mapped[list["Good"]] = relationship(back_populates="maker")
    labels: WriteOnlyMapped["Label"] = relationship()

    def __len__(self) -> int:
        return 0  # is not true


class Label(Goods):
    """Belongs to a maker, who does not load it."""

    __tablename__ = "label"

    id: Mapped[int] = mapped_column(primary_key=True)
    maker_id: Mapped[int | None] = mapped_column(ForeignKey("maker.id"))


class Good(Goods):
    """One column for each way to fill it."""

    __tablename__ = "good"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column("the code", String(20))
    plain: Mapped[str | None] = mapped_column(String(20))
    by_value: Mapped[str] = mapped_column(String(20), default="value")
    by_call: Mapped[int] = mapped_column(default=lambda: 11)
    by_context: Mapped[str] = mapped_column(
        String(20), default=lambda context: str(len(context.get_current_parameters()))
    )
    by_expression: Mapped[int] = mapped_column(default=text("3 + 4"))
    by_server: Mapped[str] = mapped_column(String(20), server_default="server")
    size: Mapped[Size] = mapped_column(default=Size.LARGE)
    shouted: Mapped[str | None] = mapped_column(Shouted)
    data: Mapped[Any | None] = mapped_column(JSON)
    nulls: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    maker_id: Mapped[int | None] = mapped_column(ForeignKey("maker.id"))

    maker: Mapped[Maker | None] = relationship(back_populates="goods")

    @validates("plain")
    def _trimmed(self, _key: str, value: str | None) -> str | None:
        return value and value.strip()


class Simple(Goods):
    """All that the faster lane may do itself."""

    __tablename__ = "simple"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column("the code", String(20), unique=True)
    plain: Mapped[str | None] = mapped_column(String(20))
    shouted: Mapped[str | None] = mapped_column(Shouted)
    by_call: Mapped[int] = mapped_column(default=lambda: 11)
    by_expression: Mapped[int] = mapped_column(default=text("3 + 4"))
    by_function: Mapped[str] = mapped_column(String(20), default=func.lower("ABC"))
    at: Mapped[datetime] = mapped_column(server_default=text("'2020-01-01 00:00:00'"))
    size: Mapped[Size] = mapped_column(server_default="SMALL")
    small: Mapped[int | None] = mapped_column(insert_default=5)
    maker_id: Mapped[int | None] = mapped_column(ForeignKey("maker.id"))

    maker: Mapped[Maker | None] = relationship()


class Surprise(Goods):
    """The database has defaults that the model does not know."""

    __tablename__ = "surprise"

    id: Mapped[int] = mapped_column(primary_key=True)
    silent: Mapped[str | None] = mapped_column(String(20))
    told: Mapped[str | None] = mapped_column(String(20), server_default=FetchedValue())


class Doubled(Goods):
    """A column that the database computes."""

    __tablename__ = "doubled"

    id: Mapped[int] = mapped_column(Identity(start=5), primary_key=True)
    one: Mapped[int]
    two: Mapped[int] = mapped_column(Computed("one * 2", persisted=True))


class Bare(Goods):
    """Nothing needs to be given."""

    __tablename__ = "bare"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[str] = mapped_column(String(20), server_default="then")


class Alone(Goods):
    """Only a key."""

    __tablename__ = "alone"

    id: Mapped[int] = mapped_column(primary_key=True)


class Token(Goods):
    """A key that the program makes."""

    __tablename__ = "token"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=lambda: uuid.UUID(int=5000))
    word: Mapped[str | None] = mapped_column(String(20))


class Place(Goods):
    """A key of two columns."""

    __tablename__ = "place"

    row: Mapped[int] = mapped_column(primary_key=True)
    seat: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None] = mapped_column(String(20))


class Counted(Goods):
    """Counts its versions."""

    __tablename__ = "counted"
    __mapper_args__ = {"version_id_col": "version"}  # noqa: RUF012  # SQLAlchemy's

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]


class Watched(Goods):
    """A value that tells of its changes."""

    __tablename__ = "watched"

    id: Mapped[int] = mapped_column(primary_key=True)
    filled: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON()), default=dict)
    stored: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON()), server_default="{}")


class Data(DataclassBase):
    """A dataclass."""

    __abstract__ = True
    metadata = MetaData()


class Box(Data):
    """What crates belong to."""

    __tablename__ = "box"

    id: Mapped[int] = mapped_column(primary_key=True, init=False)


class Crate(Data):
    """Compares by value."""

    __tablename__ = "crate"

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    word: Mapped[str | None] = mapped_column(String(20), default=None)
    many: Mapped[int] = mapped_column(default=4)
    box_id: Mapped[int | None] = mapped_column(ForeignKey("box.id"), default=None)
    box: Mapped[Box | None] = relationship(default=None)


def with_removed() -> Simple:
    """An attribute that was set and deleted again."""
    made = Simple(plain="x")
    del made.plain
    return made


def with_labels() -> Maker:
    """Related entities that are not in a list."""
    made = Maker(name="labelled")
    made.labels.add(Label())
    return made


def in_backref() -> Maker:
    """Related from the other side."""
    made = Maker(name="behind")
    Good(maker=made)
    return made


def read_before() -> Simple:
    """An attribute was asked for before it was set."""
    made = Simple()
    assert made.plain is None
    assert made.maker is None
    return made


def of_other_maker() -> Good:
    """Without a maker after all, whatever its key says."""
    return Good(maker_id=1, maker=None)


NEW: dict[str, Callable[[], Any]] = {
    "maker": lambda: Maker(id=1),
    "all by itself": Good,
    "simple": Simple,
    "simple, all given": lambda: Simple(id=70, code="a", plain="b", shouted="c", by_call=2, by_expression=3),
    "same code again": lambda: Simple(code="a"),
    "same key again": lambda: Simple(id=70),
    "too long": lambda: Simple(plain="x" * 30, by_call="no number"),
    "None for each": lambda: Simple(code=None, plain=None, shouted=None, by_call=None, small=None),
    "an expression": lambda: Simple(plain=func.lower("ABC")),
    "deleted": with_removed,
    "read before": read_before,
    "server": lambda: Simple(at=datetime(2021, 1, 1), size=Size.LARGE),  # noqa: DTZ001  # no zone
    "JSON": lambda: Good(data={"a": [1]}, nulls=None),
    "JSON None": lambda: Good(data=None),
    "trimmed": lambda: Good(plain="  x ", by_context="y"),
    "maker as object": lambda: Simple(maker=Maker(name="with")),
    "maker as key": lambda: Simple(maker_id=1),
    "maker as key, None": lambda: Simple(maker_id=1, maker=None),
    "good without maker": of_other_maker,
    "no such maker": lambda: Simple(maker_id=999),
    "empty list": lambda: Maker(goods=[]),
    "full list": lambda: Maker(goods=[Good()]),
    "labels": with_labels,
    "backref": in_backref,
    "unknown defaults": Surprise,
    "computed": lambda: Doubled(one=4),
    "computed, given": lambda: Doubled(one=4, two=9),
    "identity, given": lambda: Doubled(id=60, one=4),
    "bare": Bare,
    "alone": Alone,
    "token": Token,
    "token, given": lambda: Token(id=uuid.UUID(int=7000), word="x"),
    "place": lambda: Place(row=1, seat=2),
    "place again": lambda: Place(row=1, seat=2),
    "half a place": lambda: Place(row=1),
    "counted": Counted,
    "watched": Watched,
    "crate": Crate,
    "crate in box": lambda: Crate(word="x", box_id=1),
    "box": Box,
    "crate in a box": lambda: Crate(box=Box()),
    "wrong type": lambda: Simple(by_call="no number"),
    "no entity": lambda: "no entity",
}


def shown(value: object) -> str:
    """A value as text, without the address of an object."""
    return re.sub(r" at 0x\w+", "", repr(value))


def seen_in_python(entity: object) -> object:
    """All that a program can see of an entity without a word to the database."""
    if isinstance(entity, str):
        return None
    state: Any = inspect(entity)
    flags = [name for name in ("transient", "pending", "persistent", "detached") if getattr(state, name)]
    values = {
        key: type(value).__name__ if isinstance(value, Goods | Data) else shown(value)
        for key, value in sorted(vars(entity).items())
        if key != "_sa_instance_state" and not (isinstance(value, list) and value)
    }
    columns = state.mapper.column_attrs.keys()
    return {
        "flags": flags,
        "values": values,
        "read": {key: shown(getattr(entity, key)) for key in columns if key not in state.expired_attributes},
        "key": str(state.key),
        "modified": state.modified,
        "expired": sorted(state.expired_attributes),
        "unloaded": sorted(state.unloaded),
        "committed": sorted(state.committed_state),
        "history": [key for key in columns if state.attrs[key].history.has_changes()],
    }


def change(entity: object) -> None:
    """Change what can be changed."""
    if isinstance(entity, Simple | Good):
        entity.plain = "changed"
    if isinstance(entity, Watched):
        entity.filled["more"] = entity.stored["more"] = 1


async def told(entity: object, db: Database) -> tuple[object, list[str]]:
    """How adding it ends."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", SAWarning)
        try:
            repository: Repository[Any] = Repository[Simple](db)
            assert await repository.add(entity) is entity
            ended: object = "added"
        except Exception as error:  # noqa: BLE001  # told
            # What comes back is asked for in the statement; the session may ask the driver.
            said = re.sub(r" RETURNING [^\]]*", "", str(error))
            ended = (type(error), said, getattr(error, "__notes__", []))
    return ended, [str(each.message) for each in warned]


@asynccontextmanager
async def nothing(db: Database) -> AsyncIterator[None]:
    """No block."""
    del db
    yield


@asynccontextmanager
async def after_read(db: Database) -> AsyncIterator[None]:
    """A block that has begun, and whose session holds an entity."""
    async with db.transaction() as session:
        await session.get(Maker, 1)
        yield


@asynccontextmanager
async def rolled_back(db: Database) -> AsyncIterator[None]:
    """A block that is rolled back, as its owner wants it."""
    async with db.transaction():
        yield
        db.set_rollback_only()


@asynccontextmanager
async def rolled_back_by_error(db: Database) -> AsyncIterator[None]:
    """A block that an exception leaves, after its session has had work of its own."""
    async with db.transaction() as session:
        await session.execute(text("SELECT 1"))
        yield
        raise LookupError


@asynccontextmanager
async def savepoint(db: Database) -> AsyncIterator[None]:
    """A savepoint that is kept."""
    async with db.transaction(), db.transaction(propagation=Propagation.NESTED):
        yield


@asynccontextmanager
async def savepoint_undone(db: Database) -> AsyncIterator[None]:
    """A savepoint that is rolled back, in a block that is kept."""
    async with db.transaction():
        async with db.transaction(propagation=Propagation.NESTED):
            yield
            db.set_rollback_only()


@asynccontextmanager
async def savepoint_in_undone_block(db: Database) -> AsyncIterator[None]:
    """A savepoint that is kept, in a block that is rolled back."""
    async with db.transaction():
        async with db.transaction(propagation=Propagation.NESTED):
            yield
        db.set_rollback_only()


@asynccontextmanager
async def savepoint_in_undone_savepoint(db: Database) -> AsyncIterator[None]:
    """A savepoint that is kept, in one that is rolled back."""
    async with db.transaction(), db.transaction(propagation=Propagation.NESTED):
        async with db.transaction(propagation=Propagation.NESTED):
            yield
        db.set_rollback_only()


@asynccontextmanager
async def around_undone_savepoint(db: Database) -> AsyncIterator[None]:
    """A block in which a savepoint is rolled back later."""
    async with db.transaction() as session:
        yield
        async with db.transaction(propagation=Propagation.NESTED):
            await session.execute(text("SELECT 1"))
            db.set_rollback_only()


@asynccontextmanager
async def block_in_unit(db: Database) -> AsyncIterator[None]:
    """A block on the session of a unit of work."""
    async with db.unit_of_work(), db.transaction():
        yield


@asynccontextmanager
async def undone_in_unit(db: Database) -> AsyncIterator[None]:
    """A block that is rolled back, on the session of a unit of work."""
    async with db.unit_of_work(), db.transaction():
        yield
        db.set_rollback_only()


PLACES: dict[str, Callable[[Database], AbstractAsyncContextManager[Any]]] = {
    "outside": nothing,
    "unit": lambda db: db.unit_of_work(),
    "block": lambda db: db.transaction(),
    "after a read": after_read,
    "rolled back": rolled_back,
    "rolled back by an error": rolled_back_by_error,
    "savepoint": savepoint,
    "savepoint undone": savepoint_undone,
    "savepoint in an undone block": savepoint_in_undone_block,
    "savepoint in an undone savepoint": savepoint_in_undone_savepoint,
    "around an undone savepoint": around_undone_savepoint,
    "block in a unit": block_in_unit,
    "undone in a unit": undone_in_unit,
    "read-only block": lambda db: db.transaction(read_only=True),
    "supports": lambda db: db.transaction(propagation=Propagation.SUPPORTS),
}


async def all_ends(url: URL, lane: Lane, place: str) -> dict[str, object]:
    """What becomes of each new entity."""
    ends: dict[str, object] = {}
    async with Database(url, name="goods", fastest_lane=lane) as db:
        async with db.engine.begin() as connection:
            for metadata in (Goods.metadata, Data.metadata):
                await connection.run_sync(metadata.drop_all)
                await connection.run_sync(metadata.create_all)
            await connection.execute(text("ALTER TABLE surprise RENAME COLUMN silent TO gone"))
            await connection.execute(text("ALTER TABLE surprise ADD COLUMN silent VARCHAR(20) DEFAULT 'set'"))
        for name, make in NEW.items():
            entity = make()
            seen: list[object] = []
            try:
                async with PLACES[place](db):
                    ended = await told(entity, db)
                    seen += [ended, seen_in_python(entity)]
                    seen += [await told(entity, db), seen_in_python(entity)]
                    if "block" in place and ended[0] == "added":
                        change(entity)
                        seen.append(seen_in_python(entity))
                    if place == "unit" and ended[0] == "added":
                        change(entity)
                        seen.append(seen_in_python(entity))
                        await db.commit()
                        seen.append(seen_in_python(entity))
            except Exception as error:  # noqa: BLE001  # told
                seen.append((type(error), str(error)))
            ends[name] = [seen, seen_in_python(entity)]
            assert db.pool_status().checked_out == 0
            assert left_in_context() == {}
        async with db.engine.connect() as connection:
            for table in [*Goods.metadata.sorted_tables, *Data.metadata.sorted_tables]:
                rows = await connection.execute(text(f"SELECT * FROM {table.name} ORDER BY 1"))
                ends[f"rows of {table.name}"] = [dict(row._mapping) for row in rows]
    return ends


def differences(where: str, one: object, other: object) -> Iterator[str]:
    """Where two nested values are not the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            if key in ("id", "key") and None not in (one.get(key), other.get(key)):
                continue  # an INSERT that failed has taken a number too
            yield from differences(f"{where}/{key}", one.get(key), other.get(key))
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        for place, (mine, its) in enumerate(zip(one, other, strict=True)):
            yield from differences(f"{where}/{place}", mine, its)
    elif one != other:
        yield f"{where}: {one!r} is {other!r} through the session"


@pytest.mark.parametrize("place", list(PLACES))
async def test_added_as_by_the_session(database_url: URL, place: str) -> None:
    """The row, the values, the state, the errors."""
    fast = await all_ends(database_url, Lane.DRIVER, place)
    slow = await all_ends(database_url, Lane.SESSION, place)

    assert list(differences("", fast, slow)) == []
