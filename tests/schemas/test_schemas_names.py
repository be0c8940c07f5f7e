"""Attributes may be called as they like: schemas take and give what the model calls them."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from sqlalchemy import URL

from tests.fixtures.commands import command_runner
from unitwork import Database, Repository
from unitwork.cli import main
from unitwork.schemas import schema_for

MODELS = '''
import datetime as dt
import decimal as dc
import enum as en
import uuid as uu

from sqlalchemy import JSON, Boolean, Date, DateTime, Enum, Float, Integer, Interval, LargeBinary, Numeric
from sqlalchemy import String, Time, Uuid
from sqlalchemy.orm import Mapped, mapped_column
from unitwork import Base


INFINITE, NOTHING, NONE = float('inf'), float('-inf'), float('nan')


class Access(en.Flag):
    READ = 1
    WRITE = 2


Odd = en.Enum("Odd", {"a b": "x", "class": "y"}, module=__name__)


class Text(str):
    pass


class Entity(Base):
    """Its schemas are called as the class that they inherit from."""

    __tablename__ = "strange_entities"

    id: Mapped[int] = mapped_column(primary_key=True)
    from_ = mapped_column("from", String(5), nullable=False)
    locals()["from"] = mapped_column("from_here", String(5), nullable=False)
    locals()["first name"] = mapped_column("first_name", String(5), nullable=False)
    first_name = mapped_column("name", String(5), nullable=False)
    locals()["1st"] = mapped_column("first", Integer, nullable=False)


class Names(Base):
    """Its attributes are called as what a module of schemas needs."""

    __tablename__ = 'strange "names\\\\'

    id: Mapped[int] = mapped_column(primary_key=True)
    Any = mapped_column(JSON, nullable=False)
    Literal = mapped_column(Enum("x", "y", name="literal"), nullable=False)
    Field: Mapped[str] = mapped_column(String(9), nullable=False)
    UNSET = mapped_column(DateTime, server_default="2024-01-01", nullable=False)
    EntitySchema = mapped_column(Integer, nullable=False)
    NamesSchema = mapped_column(Integer, nullable=False)
    int = mapped_column(Integer, nullable=False)
    str = mapped_column(String(9), nullable=False)
    float = mapped_column(Float, default=INFINITE, nullable=False)
    bytes = mapped_column(LargeBinary, default=b"x", nullable=False)
    bool = mapped_column(Boolean, default=False, nullable=False)
    list = mapped_column(JSON, nullable=False)
    dict = mapped_column(JSON, nullable=False)
    none = mapped_column(Integer, nullable=True)
    builtins = mapped_column(Float, default=NOTHING, nullable=False)
    datetime = mapped_column(DateTime, default=dt.datetime(2024, 1, 2), nullable=False)
    date = mapped_column(Date, default=dt.date(2024, 1, 2), nullable=False)
    time = mapped_column(Time, nullable=False)
    decimal = mapped_column(Numeric(9, 2), default=dc.Decimal("1.50"), nullable=False)
    uuid = mapped_column(Uuid, default=uu.UUID(int=7), nullable=False)
    enum = mapped_column(Enum(Access), default=Access.READ, nullable=False)
    strange_models = mapped_column(Enum(Odd), default=Odd["a b"], nullable=False)
    typing = mapped_column(Enum(Odd), default=Odd["class"], nullable=False)
    pydantic = mapped_column(String(9), default=Text("own"), nullable=False)
    unitwork = mapped_column(Float, default=NONE, nullable=False)
    zoned = mapped_column(
        DateTime(timezone=True), default=dt.datetime(2024, 1, 2, tzinfo=dt.UTC), nullable=False
    )
    hours = mapped_column(Interval, default=dt.timedelta(hours=3), nullable=False)


class Owned(Base):
    """Its attributes are called as what Pydantic has."""

    __tablename__ = "strange_owned"

    id: Mapped[int] = mapped_column(primary_key=True)
    copy: Mapped[str] = mapped_column(String(20))
    json: Mapped[str | None] = mapped_column(String(20))
    dict: Mapped[int | None]
    schema: Mapped[int | None]
    validate: Mapped[int | None]
    construct: Mapped[int | None]
    model_dump: Mapped[int | None]
    model_fields: Mapped[int | None]
    model_config: Mapped[int | None]
    model_extra: Mapped[int | None]
    model_name: Mapped[int | None]
    mro: Mapped[int | None]
    match: Mapped[int | None]
'''
PURPOSES: list[tuple[Literal["read", "create", "update"], str]] = [
    ("read", "Schema"),
    ("create", "CreateSchema"),
    ("update", "UpdateSchema"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The models, and beside them the schemas that the command has written."""
    folder = tmp_path_factory.mktemp("strange")
    (folder / "strange_models.py").write_text(MODELS)
    sys.path.insert(0, str(folder))
    written = str(folder / "new" / "folder" / "strange_schemas.py")
    done = command_runner().invoke(main, ["generate-schemas", "strange_models", "-o", written])
    assert done.exit_code == 0, done.output
    sys.path.insert(1, str(Path(written).parent))
    yield importlib.import_module("strange_models")
    sys.path.remove(str(folder))
    sys.path.remove(str(Path(written).parent))


@pytest.fixture(scope="module")
def generated(models: ModuleType) -> ModuleType:
    """The schemas."""
    del models
    return importlib.import_module("strange_schemas")


def told(schema: type[BaseModel]) -> dict[str, str]:
    """Type, limits and default of each field, by the name that data has."""
    return {
        field.alias or name: f"{name}: {field.annotation} {field.metadata} = {field.default!r}"
        for name, field in schema.model_fields.items()
    }


@pytest.mark.parametrize("name", ["Entity", "Names", "Owned"])
@pytest.mark.parametrize(("purpose", "ending"), PURPOSES)
def test_generated_schema_is_that_of_run_time(
    models: ModuleType,
    generated: ModuleType,
    name: str,
    purpose: Literal["read", "create", "update"],
    ending: str,
) -> None:
    """The source can be imported, and whatever hides a name, each field has its type and its default."""
    written: type[BaseModel] = getattr(generated, f"{name}{ending}")

    assert told(written) == told(schema_for(getattr(models, name), purpose=purpose))


def test_each_attribute_has_its_own_type(models: ModuleType) -> None:
    """Also where the annotation is text, and names what the class calls otherwise."""
    known = schema_for(models.Names).model_fields

    assert known["float"].annotation is float
    assert known["builtins"].annotation is float
    assert known["str"].annotation is str
    assert known["enum"].annotation is models.Access
    assert known["EntitySchema"].annotation is int
    create = schema_for(models.Names, purpose="create").model_fields
    assert create["float"].default == float("inf")
    assert create["strange_models"].default is models.Odd["a b"]
    assert not create["pydantic"].is_required()


def test_names_of_data_are_those_of_the_model(models: ModuleType, generated: ModuleType) -> None:
    """In what comes in, in what goes out, and in JSON; fields may need another name."""
    given = {"from_": "a", "from": "b", "first name": "c", "first_name": "d", "1st": 1}

    for schema in (schema_for(models.Entity, purpose="create"), generated.EntityCreateSchema):
        made: Any = schema.model_validate(given)
        assert made.model_dump() == given
        assert json.loads(made.model_dump_json()) == given
        assert schema.model_validate_json(made.model_dump_json()) == made
        assert (made.from_, made.from__, made.first_name, made.first_name_, made.field_1st) == (
            "a",
            "b",
            "d",
            "c",
            1,
        )
        assert set(made.model_dump(by_alias=False)) == {*schema.model_fields}


async def test_schemas_are_rows_whatever_attributes_are_called(models: ModuleType, database_url: URL) -> None:
    """`create`, `bulk_insert` and `update` take them as the model's own names."""
    create = schema_for(models.Owned, purpose="create")
    change = schema_for(models.Owned, purpose="update")
    async with Database(database_url, name="strange") as db:
        async with db.engine.begin() as connection:
            await connection.run_sync(models.Owned.__table__.create)
        owned = Repository[models.Owned](db)  # type: ignore[name-defined]  # known at run time
        new = create.model_validate({"copy": "one", "model_dump": 3})

        first = await owned.create(**new.model_dump(exclude_unset=True))
        await owned.bulk_insert([new, new])
        await owned.update(first.id, change.model_validate({"json": "text", "model_config": 9}))

        by_key = owned.select().order_by(models.Owned.id)
        rows = [schema_for(models.Owned).model_validate(each).model_dump() for each in await by_key.all()]
        async with db.engine.begin() as connection:
            await connection.run_sync(models.Owned.__table__.drop)
    assert [row["copy"] for row in rows] == ["one"] * 3
    assert [(row["json"], row["model_config"], row["model_dump"]) for row in rows] == [
        ("text", 9, 3),
        (None, None, 3),
        (None, None, 3),
    ]


def test_generated_source_is_typed(generated: ModuleType) -> None:
    """A type checker sees what Python sees."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(generated.__file__)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(generated.__file__ or "").parents[2],
    )

    assert done.returncode == 0, done.stdout + done.stderr


def run(*arguments: object) -> tuple[int, str]:
    """The exit code of `generate-schemas`, and what it says."""
    done = command_runner().invoke(main, ["generate-schemas", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stderr


def test_file_that_cannot_be_written_is_named(models: ModuleType, tmp_path: Path) -> None:
    """Its folder is a file, or may not be made: one message, and exit code 1."""
    (tmp_path / "a_file").touch()

    code, said = run(models.__name__, "-o", tmp_path / "a_file" / "shop.py")

    assert code == 1
    assert "cannot be written" in said
    assert run(models.__name__, "-o", tmp_path)[0] == 2


def test_two_schemas_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Parcel` has a `ParcelCreateSchema`, and so has `ParcelCreate`; one would be lost."""
    (tmp_path / "doubled_models.py").write_text(
        "from sqlalchemy.orm import Mapped, mapped_column\nfrom unitwork import Base\n"
        "class Parcel(Base):\n    __tablename__ = 'doubled_one'\n"
        "    id: Mapped[int] = mapped_column(primary_key=True)\n"
        "class ParcelCreate(Base):\n    __tablename__ = 'doubled_two'\n"
        "    id: Mapped[int] = mapped_column(primary_key=True)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    code, said = run("doubled_models", "-o", tmp_path / "out.py")

    assert code == 1
    assert "ParcelCreateSchema" in said
    assert not (tmp_path / "out.py").exists()
    assert run("doubled_models", "-o", tmp_path / "out.py", "--purpose", "update")[0] == 0
