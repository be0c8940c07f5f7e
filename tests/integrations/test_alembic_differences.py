"""A revision holds what differs, drops nothing by omission, and runs as it was written."""

import subprocess
import sys
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
    types,
)
from sqlalchemy.dialects.postgresql import INT4RANGE
from sqlalchemy.orm import (
    DeclarativeBase,
    DeclarativeBaseNoMeta,
    Mapped,
    MappedAsDataclass,
    declarative_base,
    mapped_column,
    registry,
)

from tests.fixtures.models import TABLES
from tests.fixtures.observer import Observer
from unitwork import Base, Database
from unitwork.integrations.alembic import Migrations
from unitwork.models.loaded import loaded_metadata, metadata_in, modules_of

KNOWN = TABLES[0].metadata
OWN = MetaData(naming_convention=KNOWN.naming_convention)
"""The tables of the tests alone: other tests of the same process add theirs to the MetaData of `Base`."""

for _table in TABLES:
    _table.to_metadata(OWN)


class Adopted(Base):
    """Models of tables that others have made; names come from the convention of `Base`."""

    __abstract__ = True
    metadata = MetaData(naming_convention=Base.metadata.naming_convention)


class Customer(Adopted):
    """Has constraints and indexes of each kind."""

    __tablename__ = "customer"
    __table_args__ = (
        UniqueConstraint("first", "last"),
        CheckConstraint("age > 0", name="old_enough"),
        Index(None, "last", "age"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    email: Mapped[str] = mapped_column(String(50), index=True)
    login: Mapped[str] = mapped_column(String(50), index=True, unique=True)
    first: Mapped[str] = mapped_column(String(50))
    last: Mapped[str] = mapped_column(String(50))
    age: Mapped[int]


class Purchase(Adopted):
    """Refers to a customer, twice."""

    __tablename__ = "purchase"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id", ondelete="CASCADE"))
    referrer_id: Mapped[int | None] = mapped_column(ForeignKey("customer.id"))


EXISTING = """
CREATE TABLE customer (
    id INTEGER NOT NULL, name VARCHAR(50) NOT NULL, email VARCHAR(50) NOT NULL, login VARCHAR(50) NOT NULL,
    first VARCHAR(50) NOT NULL, last VARCHAR(50) NOT NULL, age INTEGER NOT NULL,
    PRIMARY KEY (id), UNIQUE (name), CONSTRAINT full_name UNIQUE (first, last), CONSTRAINT old CHECK (age > 0)
);
CREATE INDEX by_email ON customer (email);
CREATE UNIQUE INDEX by_login ON customer (login);
CREATE INDEX by_last ON customer (last, age);
CREATE TABLE purchase (
    id INTEGER NOT NULL, customer_id INTEGER NOT NULL, referrer_id INTEGER, PRIMARY KEY (id),
    FOREIGN KEY (customer_id) REFERENCES customer (id) ON DELETE CASCADE,
    CONSTRAINT odd FOREIGN KEY (referrer_id) REFERENCES customer (id)
)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the migrations are."""
    return tmp_path / "migrations"


@pytest.fixture
async def adopted(db: Database, observer: Observer, folder: Path) -> AsyncIterator[Migrations]:
    """Migrations of tables that others have made."""
    for statement in EXISTING.split(";"):
        await observer.run(statement)
    found = Migrations(db, folder, [Adopted.metadata])
    found.init()
    yield found
    for table in ("purchase", "customer"):
        await observer.run(f"DROP TABLE {table}")


def body(file: Path) -> str:
    """What a revision does."""
    return file.read_text().split("def upgrade")[1].split("def downgrade")[0]


# --- drops ---


async def test_revision_that_drops_is_not_written(db: Database, observer: Observer, folder: Path) -> None:
    """Tables and columns that no loaded model names are listed, with what was loaded; nothing is written."""
    migrations = Migrations(db, folder, [KNOWN])
    migrations.init()
    await observer.run("CREATE TABLE strange (id INTEGER PRIMARY KEY)")
    await observer.run("ALTER TABLE audit ADD COLUMN strange INTEGER")

    with pytest.raises(CommandError) as error:
        await migrations.revision("anything")

    said = str(error.value)
    assert "table strange" in said
    assert "column audit.strange" in said
    assert "tests.fixtures.models" in said
    assert "base" in said.lower()
    assert "--allow-drop" in said
    assert not list((folder / "versions").glob("*.py"))
    assert "remove_table strange" in await migrations.check()
    [file] = await migrations.revision("by hand", autogenerate=False)
    assert "drop" not in body(file)


async def test_drop_that_is_asked_for_is_written(db: Database, observer: Observer, folder: Path) -> None:
    """`allow_drop=True` says so, and only then data is lost."""
    migrations = Migrations(db, folder, [OWN])
    migrations.init()
    await observer.run("CREATE TABLE strange (id INTEGER PRIMARY KEY)")
    await observer.run("ALTER TABLE audit ADD COLUMN strange INTEGER")

    [file] = await migrations.revision("without strangers", allow_drop=True)
    await migrations.upgrade()

    assert "drop_table('strange')" in body(file)
    assert await migrations.check() == []


def purchases(customers: Table, referrer: Column[Any]) -> MetaData:
    """The models of customers and of their purchases."""
    owner: Column[Any] = Column("customer_id", ForeignKey("customer.id", ondelete="CASCADE"), nullable=False)
    Table("purchase", customers.metadata, Column("id", Integer, primary_key=True), owner, referrer)
    return customers.metadata


async def test_revision_that_drops_indexes_or_constraints_is_not_written(
    adopted: Migrations, db: Database
) -> None:
    """They are listed as tables and columns are, and go when it is asked for."""
    names = ("name", "email", "login", "first", "last")
    plain = [Column(name, String(50), nullable=False, unique=name == "name") for name in names]
    numbers = [Column("id", Integer, primary_key=True), Column("age", Integer, nullable=False)]
    customers = Table("customer", MetaData(), *numbers, *plain)
    known = purchases(customers, Column("referrer_id", Integer))
    migrations = Migrations(db, adopted.directory, [known])

    with pytest.raises(CommandError) as error:
        await migrations.revision("anything")

    said = str(error.value)
    assert all(f"index customer.{name}" in said for name in ("by_email", "by_login", "by_last"))
    assert "customer.full_name" in said
    assert "foreign key purchase.odd" in said
    assert "customer_id" not in said
    assert not list((adopted.directory / "versions").glob("*.py"))
    await migrations.revision("without them", allow_drop=True)
    await migrations.upgrade()
    # MariaDB keeps the index that it has made for the reference.
    assert set(await migrations.check()) <= {"remove_index purchase.odd"}


async def test_what_a_model_changes_is_no_drop(adopted: Migrations, db: Database) -> None:
    """It names the index or constraint still, by the name or, for a reference, by the columns."""
    for number, (name, rule) in enumerate([("odd", "SET NULL"), ("other", "CASCADE")]):
        wanted = MetaData(naming_convention=Base.metadata.naming_convention)
        customers = Adopted.metadata.tables["customer"].to_metadata(wanted)
        rules = ForeignKey("customer.id", ondelete=rule, name=name)
        migrations = Migrations(db, adopted.directory, [purchases(customers, Column("referrer_id", rules))])

        [file] = await migrations.revision(f"rule {number}")
        await migrations.upgrade()

        assert "drop_constraint" in body(file)


async def test_table_of_a_model_that_is_not_compared_stays(
    adopted: Migrations, db: Database, folder: Path
) -> None:
    """Its metadata was left out, but the model is loaded: nothing is dropped, and no difference is told."""
    others = Migrations(db, folder, [OWN])

    assert await others.check() == []
    assert await adopted.check() == []


async def test_table_of_a_load_that_was_stopped_stays(adopted: Migrations, db: Database) -> None:
    """It says how far the load has come, and goes when it is finished."""
    async with db.transaction() as session:
        await session.execute(text("CREATE TABLE unitwork_load_5ad1 (id integer PRIMARY KEY)"))

    assert await adopted.check() == []

    async with db.transaction() as session:
        await session.execute(text("DROP TABLE unitwork_load_5ad1"))


PARTS = {
    "postgresql": [
        "CREATE TABLE measured (id INTEGER, body TEXT) PARTITION BY RANGE (id)",
        "CREATE TABLE measured_1 PARTITION OF measured FOR VALUES FROM (1) TO (10)",
        "CREATE TABLE of_extension (id INTEGER PRIMARY KEY)",
        "ALTER EXTENSION plpgsql ADD TABLE of_extension",
    ],
    "sqlite": ["CREATE VIRTUAL TABLE measured USING fts5(id, body)"],
}


@pytest.mark.only("postgresql", "sqlite", reason="they have tables that are parts of others")
async def test_part_of_another_table_is_no_drop(db: Database, observer: Observer, folder: Path) -> None:
    """Partitions, tables of extensions and of virtual tables stay, whatever is allowed to be dropped."""
    for statement in PARTS[db.engine.dialect.name]:
        await observer.run(statement)
    await observer.run("INSERT INTO measured (id, body) VALUES (1, 'kept')")
    await observer.run("CREATE TABLE strange (id INTEGER PRIMARY KEY)")
    models = MetaData()
    Table("measured", models, Column("id", Integer), Column("body", Text))
    migrations = Migrations(db, folder, [models])
    migrations.init()

    dropped = [each for each in await migrations.check() if each.startswith("remove_table")]
    await migrations.revision("without the stranger", allow_drop=True)
    await migrations.upgrade()

    assert dropped == ["remove_table strange"]
    assert await observer.scalar("SELECT body FROM measured") == "kept"
    if db.engine.dialect.name == "postgresql":
        await observer.run("ALTER EXTENSION plpgsql DROP TABLE of_extension")
        await observer.run("DROP TABLE of_extension")
    await observer.run("DROP TABLE measured")


@pytest.mark.only("sqlite", reason="it is the same for all")
async def test_two_tables_of_one_name_are_refused(db: Database, folder: Path) -> None:
    """Which one is meant cannot be known; upgrades do not ask."""
    double = MetaData()
    Table("audit", double, Column("id", Integer, primary_key=True))
    migrations = Migrations(db, folder, [KNOWN, double])
    migrations.init()

    with pytest.raises(CommandError, match=r"(?s)same table: audit.*run_environment\(Base.metadata\)"):
        await migrations.check()
    assert await migrations.upgrade() == []


# --- names ---


async def test_existing_database_needs_no_revision(adopted: Migrations) -> None:
    """Constraints and indexes keep the names that they have, whatever the convention of the models is."""
    assert await adopted.check() == []
    [file] = await adopted.revision("nothing")
    assert body(file).count("pass") == 1


OPEN = {
    "postgresql": """
    CREATE TABLE shop (id INTEGER GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, code VARCHAR(9) DEFAULT 'x',
        n INT);
    COMMENT ON TABLE shop IS 'said by others'; COMMENT ON COLUMN shop.code IS 'said by others';
    CREATE INDEX shop_part ON shop (n) WHERE n > 3;
    CREATE TABLE sale (id SERIAL PRIMARY KEY, shop_id INT UNIQUE REFERENCES shop (id) ON DELETE CASCADE,
        other_id INT REFERENCES shop, span INT4RANGE, twice INT GENERATED ALWAYS AS (shop_id * 2) STORED,
        EXCLUDE USING gist (span WITH &&), CHECK (shop_id > 0));
    """,
    "mysql": """
    CREATE TABLE shop (id INT AUTO_INCREMENT PRIMARY KEY, code VARCHAR(9) DEFAULT 'x' COMMENT 'ours',
        n INT) COMMENT 'said by others';
    CREATE INDEX shop_part ON shop (n DESC);
    CREATE TABLE sale (id INT AUTO_INCREMENT PRIMARY KEY, shop_id INT UNIQUE, other_id INT, span INT,
        twice INT AS (shop_id * 2) PERSISTENT, CHECK (shop_id > 0),
        FOREIGN KEY (other_id) REFERENCES shop (id),
        FOREIGN KEY (shop_id) REFERENCES shop (id) ON DELETE CASCADE);
    """,
    "sqlite": """
    CREATE TABLE shop (id INTEGER PRIMARY KEY AUTOINCREMENT, code VARCHAR(9) COLLATE NOCASE DEFAULT 'x',
        n INT);
    CREATE INDEX shop_part ON shop (n DESC) WHERE n > 3;
    CREATE INDEX shop_low ON shop (lower(code));
    CREATE TABLE sale (id INTEGER PRIMARY KEY, twice INT GENERATED ALWAYS AS (shop_id * 2) STORED,
        shop_id INT REFERENCES shop (id) ON DELETE CASCADE CHECK (shop_id > 0) UNIQUE,
        other_id INT REFERENCES shop, span INT);
    """,
}


@pytest.mark.parametrize("convention", [Base.metadata.naming_convention, None], ids=["convention", "none"])
async def test_what_models_leave_open_is_no_difference(
    db: Database, observer: Observer, folder: Path, convention: dict[str, str] | None
) -> None:
    """Comments, identities, defaults, the form of constraints: as they are; nothing is added twice."""
    kind = db.engine.dialect.name.replace("mariadb", "mysql")
    for statement in [*OPEN[kind].split(";"), "CREATE UNIQUE INDEX coded ON shop (code)"]:
        if statement.strip():
            await observer.run(statement)
    wanted = MetaData(naming_convention=convention)
    shop = Table(
        "shop", wanted, Column("id", Integer, primary_key=True), Column("code", String(9), unique=True)
    )
    shop.append_column(Column("n", Integer))
    Index("shop_part", shop.c["n"].desc() if kind == "mysql" else shop.c["n"])
    [part] = shop.indexes
    part.dialect_options["postgresql"]["where"] = text("n > 3")
    owner: Column[Any] = Column("shop_id", ForeignKey("shop.id", ondelete="CASCADE"), unique=True)
    sale = Table("sale", wanted, Column("id", Integer, primary_key=True), owner, Column("twice", Integer))
    sale.append_column(Column("other_id", ForeignKey("shop.id")))
    sale.append_column(Column("span", INT4RANGE().with_variant(Integer(), "sqlite", "mysql", "mariadb")))
    migrations = Migrations(db, folder, [wanted])
    migrations.init()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Computed default on")  # Alembic cannot change them
            assert await migrations.check() == []
            [file] = await migrations.revision("nothing")
        assert body(file).count("pass") == 1
    finally:
        await observer.run("DROP TABLE sale")
        await observer.run("DROP TABLE shop")


async def test_names_of_the_models_are_taken_when_asked_for(adopted: Migrations, folder: Path) -> None:
    """`run_environment(rename_constraints=True)` in env.py; afterwards both have the same names."""
    environment = folder / "env.py"
    asked = "run_environment(rename_constraints=True)"
    environment.write_text(environment.read_text().replace("run_environment()", asked))

    assert "add_constraint customer.uq_customer_name" in await adopted.check()
    [file] = await adopted.revision("our names")
    await adopted.upgrade()

    assert "uq_customer_first_last" in body(file)
    assert await adopted.check() == []


async def test_name_that_a_model_says_is_taken(adopted: Migrations, db: Database) -> None:
    """What no convention has made was asked for; other differences are told as ever."""
    wanted = MetaData(naming_convention=Base.metadata.naming_convention)
    customer, _purchase = (table.to_metadata(wanted) for table in Adopted.metadata.sorted_tables)
    [unnamed] = [index for index in customer.indexes if len(index.columns) > 1]
    customer.indexes.remove(unnamed)
    Index("said_so", customer.c["last"], customer.c["age"])
    Index(None, customer.c["age"])

    found = await Migrations(db, adopted.directory, [wanted]).check()

    assert sorted(found) == [
        "add_index customer.ix_customer_age",
        "add_index customer.said_so",
        "remove_index customer.by_last",
    ]


@pytest.mark.only("postgresql", reason="it has such indexes, and tells them")
async def test_names_of_partial_indexes_stay(adopted: Migrations, db: Database, observer: Observer) -> None:
    """What an index is about counts with its columns: one of other rows is another index."""
    wanted = MetaData(naming_convention=Base.metadata.naming_convention)
    customer, _purchase = (table.to_metadata(wanted) for table in Adopted.metadata.sorted_tables)
    Index(None, customer.c["age"], postgresql_where=text("age > 17"))
    Index(None, customer.c["first"], postgresql_using="hash")
    await observer.run("CREATE INDEX of_age ON customer (age) WHERE age > 17")
    await observer.run("CREATE INDEX hashed ON customer USING hash (first)")
    migrations = Migrations(db, adopted.directory, [wanted])

    assert await migrations.check() == []
    await observer.run("DROP INDEX of_age")
    await observer.run("CREATE INDEX of_age ON customer (age) WHERE age > 65")
    assert sorted(await migrations.check()) == [
        "add_index customer.ix_customer_age",
        "remove_index customer.of_age",
    ]


# --- what is loaded ---


def tables_of(found: list[MetaData]) -> set[str]:
    """The names of all tables."""
    return {name for metadata in found for name in metadata.tables}


def test_models_on_every_kind_of_base_are_found() -> None:
    """Whatever they stand on, and wherever their tables are."""

    class Plain(DeclarativeBase):
        pass

    class Inner(Plain):
        __abstract__ = True
        metadata = MetaData()

    class Deep(Inner):
        __abstract__ = True
        metadata = MetaData()

    class OfDeep(Deep):
        __tablename__ = "loaded_deep"
        id: Mapped[int] = mapped_column(primary_key=True)

    class OfItsOwn(Plain):
        __tablename__ = "loaded_own"
        metadata = MetaData()
        id: Mapped[int] = mapped_column(primary_key=True)

    class OfTable(Plain):
        __table__ = Table("loaded_table", MetaData(), Column("id", Integer, primary_key=True))

    class Data(MappedAsDataclass, DeclarativeBase):
        pass

    class OfData(Data):
        __tablename__ = "loaded_data"
        id: Mapped[int] = mapped_column(primary_key=True)

    class NoMeta(DeclarativeBaseNoMeta):
        pass

    class OfNoMeta(NoMeta):
        __tablename__ = "loaded_no_meta"
        id: Mapped[int] = mapped_column(primary_key=True)

    old = declarative_base()

    class OfOld(old):  # type: ignore[misc,valid-type]  # as SQLAlchemy 1.4 had it
        __tablename__ = "loaded_old"
        id = Column(Integer, primary_key=True)

    mapped = registry()

    @mapped.mapped
    class Decorated:
        __tablename__ = "loaded_decorated"
        id: Mapped[int] = mapped_column(primary_key=True)

    class ByHand:
        pass

    registry().map_imperatively(
        ByHand, Table("loaded_by_hand", MetaData(), Column("id", Integer, primary_key=True))
    )
    Table("loaded_without_model", Inner.metadata, Column("id", Integer))
    kept = [OfDeep, OfItsOwn, OfTable, OfData, OfNoMeta, OfOld, Decorated, ByHand]

    names = {name for name in tables_of(loaded_metadata()) if name.startswith("loaded_")}

    assert names == {
        "loaded_by_hand",
        "loaded_data",
        "loaded_decorated",
        "loaded_deep",
        "loaded_no_meta",
        "loaded_old",
        "loaded_own",
        "loaded_table",
        "loaded_without_model",
    }
    assert modules_of([Deep.metadata]) == [__name__]
    assert len(kept) == 8


def test_models_of_a_module_are_found() -> None:
    """With the MetaData of their bases."""
    assert {"customer", "purchase"} <= tables_of(metadata_in(sys.modules[__name__]))


# --- env.py of others ---

MIGRATION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "one", None
def upgrade(): op.create_table("made", sa.Column("id", sa.Integer, primary_key=True))
def downgrade(): op.drop_table("made")
"""


def made_by_alembic(folder: Path, template: str) -> Path:
    """An `env.py` of Alembic's own; one migration stands beside it."""
    command.init(Config(str(folder.parent / "alembic.ini")), str(folder), template=template)
    (folder / "versions" / "one.py").write_text(MIGRATION)
    return folder / "env.py"


@pytest.mark.parametrize("template", ["generic", "async"])
async def test_environment_that_connects_by_itself_is_refused(
    db: Database, folder: Path, template: str
) -> None:
    """It would migrate another database; the error names the line that adopts it."""
    made_by_alembic(folder, template)

    for ask in (db.migrate(folder), Migrations(db, folder).check(), Migrations(db, folder).sql()):
        with pytest.raises(CommandError, match=r"(?s)connects by itself.*run_environment\(target_metadata\)"):
            await ask


@pytest.mark.parametrize("template", ["generic", "async"])
async def test_environment_of_others_is_adopted_with_one_line(
    db: Database, folder: Path, observer: Observer, template: str
) -> None:
    """In place of its last lines; its own options go on to Alembic."""
    environment = made_by_alembic(folder, template)
    own = "from sqlalchemy import MetaData\ntarget_metadata = MetaData()"
    kept = environment.read_text().split("if context.is_offline_mode():")[0]
    kept = kept.replace("target_metadata = None", own)
    environment.write_text(
        f"{kept}\nfrom unitwork.integrations.alembic import run_environment\n"
        "run_environment(target_metadata, include_object=lambda *_about: False)\n"
    )

    assert await db.migrate(folder) == ["one"]
    assert await observer.scalar("SELECT count(*) FROM made") == 0
    assert await Migrations(db, folder).check() == []
    assert await Migrations(db, folder).downgrade() == ["one"]


async def test_environment_that_takes_a_connection_is_right_as_it_is(
    db: Database, folder: Path, observer: Observer
) -> None:
    """As Alembic's cookbook has it: what ran is told as well, and drops are refused."""
    environment = made_by_alembic(folder, "generic")
    kept = environment.read_text().split("if context.is_offline_mode():")[0]
    environment.write_text(
        f"{kept}\nfrom sqlalchemy import MetaData\n"
        "context.configure(connection=config.attributes['connection'], target_metadata=MetaData())\n"
        "with context.begin_transaction():\n    context.run_migrations()\n"
    )

    assert await db.migrate(folder) == ["one"]
    assert await db.migrate(folder) == []
    assert await observer.scalar("SELECT count(*) FROM made") == 0
    with pytest.raises(CommandError, match="table made"):
        await Migrations(db, folder).revision("drops")


# --- types of one's own ---


class Upper(TypeDecorator[str]):
    """Made as the type inside is."""

    impl = String(50)
    cache_ok = True


class Tenth(TypeDecorator[int]):
    """Made in a way of its own, which cannot be read off it."""

    impl = Integer
    cache_ok = True

    def __init__(self, *, unit: str) -> None:
        super().__init__()
        self.unit = unit


class Point(types.UserDefinedType[str]):
    """Made without anything."""

    cache_ok = True

    def get_col_spec(self, **_options: object) -> str:
        """Its name in DDL."""
        return "VARCHAR(30)"

    def __repr__(self) -> str:
        return "<a point>"


class Holder:
    """Has a type inside."""

    class Lower(TypeDecorator[str]):
        """A class in a class."""

        impl = String(20)
        cache_ok = True


class Typed(Base):
    """The base of the table with such types."""

    __abstract__ = True
    metadata = MetaData()


class Sign(Typed):
    """One column for each."""

    __tablename__ = "sign"

    id: Mapped[int] = mapped_column(primary_key=True)
    upper: Mapped[str] = mapped_column(Upper)
    longer: Mapped[str] = mapped_column(Upper(80))
    lower: Mapped[str] = mapped_column(Holder.Lower)
    tenth: Mapped[int] = mapped_column(Tenth(unit="m"))
    point: Mapped[str] = mapped_column(Point)
    varied: Mapped[str] = mapped_column(String(10).with_variant(Upper(30), "sqlite", "postgresql", "mysql"))
    other: Mapped[str] = mapped_column(Upper(30).with_variant(String(10), "oracle"))


@pytest.mark.only("sqlite", reason="columns of the others have a type")
async def test_migration_of_a_column_without_a_type_runs(
    db: Database, observer: Observer, folder: Path
) -> None:
    """What is changed and has no type is written, and keeps what it holds."""
    await observer.run("CREATE TABLE loose (id INTEGER PRIMARY KEY, anything)")
    await observer.run("INSERT INTO loose VALUES (1, '07')")
    models = MetaData()
    Table("loose", models, Column("id", Integer, primary_key=True), Column("anything", Text, nullable=False))
    migrations = Migrations(db, folder, [models])
    migrations.init()

    [file] = await migrations.revision("strict")
    await migrations.upgrade()

    assert "NullType" in body(file)
    assert await migrations.check() == []
    assert await observer.scalar("SELECT anything FROM loose") == "07"
    await observer.run("DROP TABLE loose")


async def test_migration_with_types_of_ones_own_runs(db: Database, folder: Path, observer: Observer) -> None:
    """Their modules are imported; what cannot be made again is written as the type inside."""
    migrations = Migrations(db, folder, [Typed.metadata])
    migrations.init()

    [file] = await migrations.revision("signs")
    assert len(await migrations.upgrade()) == 1

    assert await observer.scalar("SELECT count(*) FROM sign") == 0
    assert await migrations.check() == []
    assert f"import {__name__}" in file.read_text()
    await migrations.downgrade()


# --- schemas ---


class Elsewhere(Base):
    """The base of tables in another schema."""

    __abstract__ = True
    metadata = MetaData(schema="elsewhere", naming_convention=Base.metadata.naming_convention)


class Shelf(Elsewhere):
    """Has a unique name."""

    __tablename__ = "shelf"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20), unique=True)


@pytest.mark.only("postgresql", reason="it has schemas within a database")
async def test_tables_in_another_schema_are_compared(db: Database, folder: Path, observer: Observer) -> None:
    """What is there is found; schemas that no model names are none of its business."""
    for statement in (
        "CREATE SCHEMA elsewhere",
        "CREATE TABLE elsewhere.shelf (id SERIAL PRIMARY KEY, name VARCHAR(20) NOT NULL UNIQUE)",
        "CREATE SCHEMA foreigners",
        "CREATE TABLE foreigners.shelf (id SERIAL PRIMARY KEY)",
    ):
        await observer.run(statement)
    migrations = Migrations(db, folder, [OWN, Elsewhere.metadata])
    migrations.init()

    assert await migrations.check() == []
    await observer.run("CREATE TABLE elsewhere.strange (id SERIAL PRIMARY KEY)")
    with pytest.raises(CommandError, match=r"table elsewhere\.strange"):
        await migrations.revision("anything")
    for schema in ("elsewhere", "foreigners"):
        await observer.run(f"DROP SCHEMA {schema} CASCADE")


# --- from the shell ---

SHOP = """
from sqlalchemy import MetaData, String
from sqlalchemy.orm import Mapped, mapped_column
from unitwork import Base

class ShopBase(Base):
    __abstract__ = True
    metadata = MetaData()

class Song(ShopBase):
    __tablename__ = "songs"
    id: Mapped[int] = mapped_column(primary_key=True)
"""


def shell(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder."""
    words = [sys.executable, "-m", *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)


ALONE = """
from sqlalchemy import Column, Integer, MetaData, Table

tables = MetaData()
songs = Table("songs", tables, Column("id", Integer, primary_key=True))
"""


@pytest.mark.timeout(60)  # several programs
@pytest.mark.parametrize("source", [ALONE, SHOP], ids=["no model", "own metadata"])
def test_models_that_are_named_are_all_that_is_needed(tmp_path: Path, source: str) -> None:
    """`migrations init --models` and then `check`: the tables that were created are those of the module."""
    (tmp_path / "own_shop.py").write_text(source)
    named, url = ("--models", "own_shop"), ("--url", "sqlite:///songs.db")

    assert shell(tmp_path, "unitwork", "create-tables", *named, *url).returncode == 0
    assert shell(tmp_path, "unitwork", "migrations", "init", *named).returncode == 0
    checked = shell(tmp_path, "unitwork", "migrations", "check", *url)

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.timeout(60)  # several programs
def test_alembic_alone_refuses_drops_as_well(tmp_path: Path) -> None:
    """`alembic revision --autogenerate` with our `env.py`; `-x allow-drop` allows it."""
    (tmp_path / "own_shop.py").write_text(SHOP)
    (tmp_path / "alembic.ini").write_text(
        "[alembic]\nscript_location = migrations\nsqlalchemy.url = sqlite+aiosqlite:///songs.db\n"
        "path_separator = os\nprepend_sys_path = .\n"
    )

    url = ("--url", "sqlite:///songs.db")
    assert shell(tmp_path, "unitwork", "create-tables", "--models", "own_shop", *url).returncode == 0
    assert shell(tmp_path, "unitwork", "migrations", "init").returncode == 0
    refused = shell(tmp_path, "alembic", "revision", "--autogenerate", "-m", "anything")
    assert refused.returncode != 0
    assert "table songs" in refused.stdout + refused.stderr
    assert "no module" in refused.stdout + refused.stderr
    assert shell(tmp_path, "alembic", "check").returncode != 0
    assert not list((tmp_path / "migrations" / "versions").glob("*.py"))
    dropping = shell(tmp_path, "alembic", "-x", "allow-drop", "revision", "--autogenerate", "-m", "anything")
    assert dropping.returncode == 0, dropping.stderr
