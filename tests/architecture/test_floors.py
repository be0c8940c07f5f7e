"""What the package says it works with is what the tests run on; one module knows SQLAlchemy's versions."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from tests.architecture.sources import modules_below
from tests.architecture.test_structure import SOURCE

ROOT = SOURCE.parent
APART = {"aiogram"}
"""What does not go with the others: requirements/aiogram.txt has the version that it is tested with."""


def pinned(file: Path) -> dict[str, Version]:
    """The versions that a file of requirements names, and those that it includes."""
    found: dict[str, Version] = {}
    for line in file.read_text().splitlines():
        option, _, other = line.partition(" ")
        name, _, version = line.partition("==")
        if option == "--requirement":
            found |= pinned(file.with_name(other))
        elif version:
            found[name] = Version(version)
    return found


def floors() -> dict[str, Version]:
    """The lowest version of each library that the package allows, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    found: dict[str, Version] = {}
    for line in (*project["dependencies"], *extras):
        requirement = Requirement(line)
        (floor,) = (each.version for each in requirement.specifier if each.operator == ">=")
        found[requirement.name] = Version(floor)
    return found


def test_lowest_versions_are_those_that_are_tested() -> None:
    """`make lowest` runs on exactly what pyproject.toml allows at the least."""
    tested = pinned(ROOT / "requirements" / "lowest.txt")

    assert {name: tested.get(name) for name in floors().keys() - APART} == {
        name: floor for name, floor in floors().items() if name not in APART
    }


def test_newest_versions_are_allowed() -> None:
    """What all other tests run on is not below the lowest."""
    developed_with = pinned(ROOT / "requirements" / "dev.txt")

    assert [name for name in floors().keys() - APART if developed_with[name] < floors()[name]] == []


def test_one_module_knows_the_versions_of_sqlalchemy() -> None:
    """Nobody else asks which one is installed."""
    asking = re.compile(r"sqlalchemy\.__version__|version\(.sqlalchemy.\)")

    assert [m.name for m in modules_below(SOURCE) if asking.search(m.text)] == [
        "unitwork._sqlalchemy.versions"
    ]
