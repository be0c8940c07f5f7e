"""Imports inside `_runtime` point down, nothing imports itself by way of others, and the checks can fail."""

from pathlib import Path

import pytest

from tests.architecture import rooms
from tests.architecture.sources import Module, modules_below
from tests.architecture.test_structure import SOURCE, package


def test_every_module_of_the_runtime_has_a_floor() -> None:
    """What is in no room of the list cannot be checked."""
    assert list(rooms.rooms_without_floor(modules_below(SOURCE))) == []


def test_imports_inside_the_runtime_point_down() -> None:
    """A room uses what is below it; typing counts."""
    assert list(rooms.imports_that_point_up(modules_below(SOURCE))) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """No circle anywhere; typing counts."""
    assert list(rooms.modules_in_circles(modules_below(SOURCE))) == []


UP = [
    ("context.py", "from unitwork._runtime.source import Source"),
    ("connections/watch.py", "if TYPE_CHECKING:\n    from unitwork._runtime.blocks.block import Block"),
    ("lanes/fused.py", "from ..sessions.session import Session"),
]


@pytest.mark.parametrize(("file", "text"), UP)
def test_import_that_points_up_is_found(file: str, text: str, tmp_path: Path) -> None:
    """Also one for type checkers, and a relative one."""
    modules = house(tmp_path, {file: text})

    assert len(list(rooms.imports_that_point_up(modules))) == 1


DOWN = [
    ("blocks/block.py", "from unitwork._runtime import context"),
    ("live.py", "from unitwork._runtime.source import Source"),
    ("sessions/session.py", "from unitwork._runtime.sessions import turns"),
    ("blocks/block.py", "from unitwork.errors import UnitworkError"),
]


@pytest.mark.parametrize(("file", "text"), DOWN)
def test_import_that_points_down_is_allowed(file: str, text: str, tmp_path: Path) -> None:
    """To a lower floor, on the same one, and out of the runtime."""
    modules = house(tmp_path, {file: text})

    assert list(rooms.imports_that_point_up(modules)) == []


def test_circle_is_found(tmp_path: Path) -> None:
    """Three modules that import each other, and one that only uses them."""
    circle = {
        "a.py": "from unitwork.b import B",
        "b.py": "if TYPE_CHECKING:\n    from unitwork import c",
        "c.py": "from unitwork.a import A",
        "user.py": "from unitwork.a import A",
    }

    modules = package(tmp_path, circle)

    assert list(rooms.modules_in_circles(modules)) == ["unitwork.a", "unitwork.b", "unitwork.c"]


def test_room_without_a_floor_is_found(tmp_path: Path) -> None:
    """A new room needs a place."""
    modules = package(tmp_path, {"_runtime/cellar/wine.py": ""})

    assert list(rooms.rooms_without_floor(modules)) == ["unitwork._runtime.cellar.wine"]


def house(folder: Path, files: dict[str, str]) -> list[Module]:
    """A runtime with these modules, and those that they may import."""
    there = ["context", "source", "blocks/block", "sessions/session", "sessions/turns"]
    empty = {f"_runtime/{name}.py": "" for name in there}
    return package(folder, {**empty, **{f"_runtime/{name}": text for name, text in files.items()}})
