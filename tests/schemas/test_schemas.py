"""Schemas are made of models, at run time and as source, and both are the same."""

import importlib.util
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import pytest
from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import selectinload

from tests.fixtures.commands import command_runner
from tests.schemas.zoo import MODELS, Animal, Cage, Keeper, Size, Ticket, Zoo
from unitwork import Database, DeclarationError, OptionError, Repository, UnloadedAttributeError
from unitwork.cli import main
from unitwork.schemas import EntitySchema, schema_for

ROOT = Path(__file__).parents[2]
PURPOSES: list[tuple[Literal["read", "create", "update"], str]] = [
    ("read", "Schema"),
    ("create", "CreateSchema"),
    ("update", "UpdateSchema"),
]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The module that the command writes."""
    file = tmp_path_factory.mktemp("schemas") / "zoo_schemas.py"
    arguments = ["generate-schemas", "tests.schemas.zoo", "--output", str(file), "--depth", "2"]
    done = command_runner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    yield imported(file)
    del sys.modules[file.stem]


def imported(file: Path) -> ModuleType:
    """Import a file by its path."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("purpose", "ending"), PURPOSES)
def test_generated_schema_is_that_of_run_time(
    generated: ModuleType, model: type[Zoo], purpose: Literal["read", "create", "update"], ending: str
) -> None:
    """Same names, types, limits, defaults and texts."""
    written: type[BaseModel] = getattr(generated, f"{model.__name__}{ending}")
    made = schema_for(model, purpose=purpose, depth=2 if purpose == "read" else 0)

    assert written.model_json_schema() == made.model_json_schema()
    assert told(written) == told(made)


def told(schema: type[BaseModel]) -> dict[str, tuple[Any, Any]]:
    """The type and the default of each field; of other schemas only their names."""
    return {
        name: (field.annotation if "Schema" not in str(field.annotation) else None, field.default)
        for name, field in schema.model_fields.items()
    }


@pytest.mark.parametrize("checker", ["ruff format --check --line-length 88", "mypy --strict"])
def test_generated_source_is_formatted_and_typed(generated: ModuleType, checker: str) -> None:
    """As a person would have to write it."""
    program, *options = checker.split()

    done = subprocess.run(
        [sys.executable, "-m", program, *options, str(generated.__file__)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.only("sqlite", reason="the schemas are the same on each database")
async def test_generated_schema_validates_rows(db: Database, generated: ModuleType) -> None:
    """Rows with every type pass, with what they are related to, and become JSON."""
    await db.create_all(Zoo)
    async with db.transaction() as session:
        boss = Keeper(name="Ann")
        await session.merge(boss)
        keeper = Keeper(name="Bob", boss=boss)
        session.add(Animal(name="Leo", keeper=keeper, facts={"a": [1]}, old_style="x"))
    options = [selectinload(Animal.keeper).selectinload(Keeper.boss)]
    async with db.transaction():
        [leo] = await Repository[Animal](db).select().options(*options).all()

    schema: Any
    for schema in (generated.AnimalSchema, schema_for(Animal, depth=2)):
        read = schema.model_validate(leo)
        assert (read.name, read.size, read.loud, read.schema_) == ("Leo", Size.SMALL, "LEO", None)
        assert read.keeper.boss.name == "Ann"
        assert schema.model_validate_json(read.model_dump_json(by_alias=True)) == read


def fields(model: type, purpose: Literal["read", "create", "update"] = "read") -> dict[str, Any]:
    """The fields of a schema."""
    return dict(schema_for(model, purpose=purpose).model_fields)


def test_create_leaves_out_what_fills_itself() -> None:
    """Keys that are made, versions, computed columns, and times of the last change."""
    assert "number" not in fields(Ticket, "create")
    assert not {"id", "loud", "length"} & set(fields(Animal, "create"))
    assert not {"id", "version", "updated_at"} & set(fields(Keeper, "create"))


def test_create_requires_what_has_no_default() -> None:
    """All else may be left out; what has a plain default shows it."""
    known = fields(Animal, "create")

    assert {name for name, field in known.items() if field.is_required()} == {"name", "keeper_id"}
    assert (known["size"].default, known["weight"].default, known["diet"].default) == (Size.SMALL, 1, "grass")
    assert not fields(Cage, "create")["tags"].is_required()


def test_unset_field_is_not_dumped_and_takes_no_null() -> None:
    """A default that only the database knows is no value; NULL is refused where the column refuses it."""
    schema = schema_for(Animal, purpose="create")

    made = schema.model_validate({"name": "Leo", "keeper_id": 1})

    assert made.model_dump(exclude_unset=True) == {"name": "Leo", "keeper_id": 1}
    with pytest.raises(ValidationError, match="fed"):
        schema.model_validate({"name": "Leo", "keeper_id": 1, "fed": None})


def test_update_requires_nothing() -> None:
    """Only what is sent is changed; keys cannot be."""
    schema = schema_for(Animal, purpose="update")

    assert not any(field.is_required() for field in schema.model_fields.values())
    assert "id" not in schema.model_fields
    assert schema.model_validate({"nick": None}).model_dump(exclude_unset=True) == {"nick": None}
    with pytest.raises(ValidationError, match="name"):
        schema.model_validate({"name": None})


def test_limits_hold_for_what_comes_in_alone() -> None:
    """SQLite stores longer text; reading it must not fail. The length of an Enum is none of a value."""
    long = {"name": "x" * 51, "keeper_id": 1}
    create = schema_for(Animal, purpose="create")

    with pytest.raises(ValidationError, match="at most 50"):
        create.model_validate(long)
    with pytest.raises(ValidationError, match="decimal places"):
        create.model_validate({"name": "x", "keeper_id": 1, "price": "1.234"})
    assert (
        create.model_validate({"name": "x", "keeper_id": 1, "size": "e"}).model_dump()["size"]
        is Size.ENORMOUS
    )
    assert not any(field.metadata for field in fields(Animal).values())


def test_types_come_from_annotations() -> None:
    """Also where the column's type knows less; without one, the column is asked."""
    known = fields(Animal)

    assert known["facts"].annotation == dict[str, Any]
    assert get_args(known["diet"].annotation) == ("meat", "grass")
    assert known["weight"].annotation is int
    assert known["status"].annotation is Animal.Status
    assert known["untyped"].annotation is Any
    assert "x" in get_args(get_args(known["old_style"].annotation)[0])


def test_include_and_exclude_choose_fields() -> None:
    """Also hybrids, deferred columns and relationships, which are left out otherwise."""
    assert set(schema_for(Animal, include={"title", "story", "keeper"}).model_fields) == {
        "title",
        "story",
        "keeper",
    }
    assert "nick" not in schema_for(Animal, exclude={"nick"}).model_fields
    assert not {"title", "story", "keeper"} & set(fields(Animal))


def test_depth_follows_relationships_and_not_back() -> None:
    """Cycles end: neither back where one came from, nor deeper than asked."""
    schema: Any = schema_for(Keeper, depth=1)
    inner = get_args(schema.model_fields["animals"].annotation)[0]

    assert "keeper" not in inner.model_fields
    boss = get_args(schema.model_fields["boss"].annotation)[0]
    assert "boss" not in boss.model_fields


def test_schema_is_made_once() -> None:
    """Frameworks tell schemas apart by identity."""
    assert schema_for(Animal) is schema_for(Animal, purpose="read")
    assert id(Animal.pydantic_schema()) == id(schema_for(Animal))
    assert id(Cage.pydantic_schema(purpose="create")) == id(schema_for(Cage, purpose="create"))


@pytest.mark.only("sqlite", reason="nothing is sent")
async def test_unloaded_attribute_is_named(db: Database) -> None:
    """No MissingGreenlet inside a validation error."""
    await db.create_all(Zoo)
    keeper = await Repository[Keeper](db).add(Keeper(name="Ann"))
    found = await Repository[Keeper](db).get_one(keeper.id)

    with pytest.raises(UnloadedAttributeError, match="boss, animals"):
        schema_for(Keeper, depth=1).model_validate(found)


def test_schema_takes_other_data_too() -> None:
    """Mappings, and objects that are no entities."""

    class Other:
        name = "Ann"

    schema = schema_for(Keeper, include={"name"})

    assert issubclass(schema, EntitySchema)
    assert schema.model_validate({"name": "Ann"}) == schema.model_validate(Other())


def test_wrong_options_are_refused() -> None:
    """The message lists what exists."""
    with pytest.raises(OptionError, match=r"'nope'.*\n.*'name'"):
        schema_for(Keeper, include={"nope"})
    with pytest.raises(OptionError, match=r"'delete'.*\n.*'update'"):
        schema_for(Keeper, purpose="delete")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(OptionError, match="depth"):
        schema_for(Keeper, depth=-1)
    with pytest.raises(DeclarationError, match="UUID"):
        schema_for(uuid.UUID)


def test_source_of_a_local_class_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The generated module could not import it."""
    (tmp_path / "local_models.py").write_text(LOCAL)
    monkeypatch.syspath_prepend(tmp_path)

    done = command_runner().invoke(
        main, ["generate-schemas", "local_models", "--output", str(tmp_path / "out.py")]
    )

    assert done.exit_code == 1
    assert "cannot import a class that is defined in a function" in done.stderr
    assert not (tmp_path / "out.py").exists()


LOCAL = """
import enum
from sqlalchemy.orm import Mapped, mapped_column
from unitwork import Base

def make():
    class Hidden(enum.Enum):
        A = "a"
    class Local(Base):
        __tablename__ = "local_to_a_function"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[Hidden]
    return Local

Local = make()
"""
