"""This module holds the rules of the rooms inside `_runtime`, and of circles anywhere.

What breaks them is a pair of modules, or a module: the known ones are listed until they are mended.
"""

from collections.abc import Iterable, Iterator, Mapping

from tests.architecture.sources import PACKAGE, Module

RUNTIME = f"{PACKAGE}._runtime"

# Lowest first. An import points to a lower floor, or stays on its own; those for type checkers count too.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"finish", "deadline", "edges", "stack"}),
    frozenset({"context"}),
    frozenset({"connections"}),
    frozenset({"transactions"}),
    frozenset({"lanes"}),
    frozenset({"source", "live", "opening", "now"}),
    frozenset({"sessions"}),
    frozenset({"blocks"}),
    frozenset({"access"}),
    frozenset({"rolled_back"}),
)


def room_of(name: str) -> str:
    """The room of `_runtime` that a module, or a name in it, belongs to; empty for what is outside."""
    inside = name.removeprefix(f"{RUNTIME}.")
    return "" if inside == name else inside.partition(".")[0]


def floor_of(room: str) -> int | None:
    """The floor that a room is on, counted from below; None for one that has no place."""
    return next((number for number, floor in enumerate(FLOORS) if room in floor), None)


def rooms_without_floor(modules: Iterable[Module]) -> Iterator[str]:
    """Modules of `_runtime` that are on no floor."""
    return (
        module.name for module in modules if room_of(module.name) and floor_of(room_of(module.name)) is None
    )


def imports_that_point_up(modules: Iterable[Module]) -> Iterator[tuple[str, str]]:
    """Pairs of modules of `_runtime`: the first imports the second, which is on a higher floor."""
    known = {module.name for module in modules}
    for module in modules:
        here = floor_of(room_of(module.name))
        for target in sorted(_targets(module, known)):
            there = floor_of(room_of(target))
            if here is not None and there is not None and there > here:
                yield module.name, target


def modules_in_circles(modules: Iterable[Module]) -> Iterator[str]:
    """Modules that import themselves, by way of others."""
    known = {module.name for module in modules}
    imported = {module.name: _targets(module, known) for module in modules}
    return (name for name in sorted(known) if name in _reached_from(imported[name], imported))


def _targets(module: Module, known: set[str]) -> set[str]:
    """The modules of the package that a module imports something from."""
    found = (_module_of(each.target, known) for each in module.imports if each.library == PACKAGE)
    return {name for name in found if name and name != module.name}


def _module_of(target: str, known: set[str]) -> str:
    """The module that an imported name is, or is in."""
    while target and target not in known:
        target = target.rpartition(".")[0]
    return target


def _reached_from(start: Iterable[str], imported: Mapping[str, set[str]]) -> set[str]:
    """All modules that these lead to, themselves included."""
    reached: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(imported[name])
    return reached
