"""This module holds the rules of the package's structure, each a function that lists breaches.

A breach is one sentence: where, what, and which rule it breaks.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator

from tests.architecture.sources import PACKAGE, Import, Module, part_of

# Lowest first. An import points to a lower floor, or stays within its own part.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"_collector"}),
    frozenset({"_later"}),
    frozenset({"_sqlalchemy"}),
    frozenset({"errors", "options", "settings", "events", "snapshot"}),
    frozenset({"_logic"}),
    frozenset({"dialects"}),
    frozenset({"_runtime"}),
    frozenset({"transaction", "unit_of_work", "adoption", "lifecycle"}),
    frozenset({"query"}),
    frozenset({"bulk", "models"}),
    frozenset({"repository"}),
    frozenset({"database"}),
    frozenset({"schemas", "observe", "integrations", "testing"}),
    frozenset({"cli", "pytest_unitwork"}),
    frozenset({"", "__main__"}),
)
# The command line offers what the other edges do, so it stands on them.
EDGES = FLOORS[-3] | FLOORS[-2]
TOP = FLOORS[-1]
# Words may use each other: an event names an option.
LEVEL_FLOORS = (FLOORS[3],)

ALLOWED_LIBRARIES = {PACKAGE, "sqlalchemy", "typing_extensions", *sys.stdlib_module_names}
CONTEXT_OWNER = f"{PACKAGE}._runtime.context"
LOGGING_PARTS = {"observe", "integrations"}
MAX_LINES = 400
TWO_NOUNS_LINES = 300
# One subject that is longer: a cut would send its reader to and fro.
LONG_BUT_WHOLE = {
    f"{PACKAGE}._runtime.blocks.ending",  # the end of a block, in its four phases
    f"{PACKAGE}._runtime.blocks.block",  # a block, from its entry to its end
    f"{PACKAGE}.database",  # the handle: a method for each thing that a program asks of a database
    f"{PACKAGE}._runtime.sessions.session",  # one class with the interface of SQLAlchemy's
    f"{PACKAGE}._runtime.access.repository_access",  # the one way of repositories, on every lane
    f"{PACKAGE}.database",  # the handle that a program holds, half of it what it says of itself
}

BANNED_CLASS = re.compile(r"Manager|Helper|Utils?(?![a-z])|^Base(?=[A-Z])")
BANNED_MODULE = re.compile(r"(^|_)(manager|helper|util|common|misc)s?(_|$)")
# Names that an outside library or a published design gives us.
GIVEN_NAMES = {(f"{PACKAGE}.integrations.pico_ioc.session", "SessionManager")}

ASYNC_SYNTAX = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.AsyncFunctionDef)


def floor_of(part: str) -> int | None:
    """The floor that a part stands on, counted from below; None for a part that has no place."""
    return next((number for number, floor in enumerate(FLOORS) if part in floor), None)


def placeless_parts(modules: Iterable[Module]) -> Iterator[str]:
    """Parts that stand on no floor."""
    for module in modules:
        if floor_of(module.part) is None:
            yield f"{module.name}: {module.part!r} has no floor; add it to FLOORS in rules.py"


def upward_imports(modules: Iterable[Module]) -> Iterator[str]:
    """Imports that do not point down, also those made for type checkers only."""
    for module in modules:
        for found in _own(module.imports):
            if not _points_down(module.part, part_of(found.target)):
                yield f"{module.name}:{found.line}: imports {found.target}, which is not below it"


def _own(imports: Iterable[Import]) -> Iterator[Import]:
    return (found for found in imports if found.library == PACKAGE)


def _points_down(part: str, target: str) -> bool:
    source_floor, target_floor = floor_of(part), floor_of(target)
    if part == target or source_floor is None:
        return True
    if target_floor is None:  # `from unitwork import Name`: a name of the facade
        target_floor = len(FLOORS) - 1
    if source_floor == target_floor:
        return FLOORS[source_floor] in LEVEL_FLOORS
    return target_floor < source_floor


def foreign_imports(modules: Iterable[Module]) -> Iterator[str]:
    """Libraries other than SQLAlchemy below the edges, and in the facade."""
    for module in modules:
        for found in () if module.part in EDGES else module.imports:
            if found.library not in ALLOWED_LIBRARIES:
                yield f"{module.name}:{found.line}: imports {found.library}; only edges may"


def hidden_imports(modules: Iterable[Module]) -> Iterator[str]:
    """Imports inside a function; only commands of the command line may delay theirs."""
    for module in modules:
        for found in () if module.part == "cli" else module.imports:
            if found.in_function:
                yield f"{module.name}:{found.line}: imports {found.target} inside a function"


def context_imports(modules: Iterable[Module]) -> Iterator[str]:
    """Uses of `contextvars` outside the one module that holds state."""
    for module in modules:
        for found in () if module.name == CONTEXT_OWNER else module.imports:
            if found.library == "contextvars" and not found.for_types_only:
                yield f"{module.name}:{found.line}: imports contextvars; only {CONTEXT_OWNER} may"


def logging_imports(modules: Iterable[Module]) -> Iterator[str]:
    """Uses of `logging` where errors should be raised once, not also logged."""
    for module in modules:
        for found in () if module.part in LOGGING_PARTS else module.imports:
            if found.library == "logging":
                yield f"{module.name}:{found.line}: imports logging; only observers log"


def generator_contexts(modules: Iterable[Module]) -> Iterator[str]:
    """Uses of `asynccontextmanager`: a generator in the middle loses the caller's exception."""
    for module in modules:
        for node in ast.walk(module.tree):
            named = node.attr if isinstance(node, ast.Attribute) else getattr(node, "name", None)
            if named == "asynccontextmanager":
                line = getattr(node, "lineno", 0)
                yield f"{module.name}:{line}: uses asynccontextmanager; write a class"


def acting_logic(modules: Iterable[Module]) -> Iterator[str]:
    """Asynchronous syntax in the modules that only decide."""
    for module in modules:
        for node in ast.walk(module.tree) if module.part == "_logic" else ():
            if isinstance(node, ASYNC_SYNTAX):
                yield f"{module.name}:{node.lineno}: awaits; _logic decides, _runtime acts"


def long_modules(modules: Iterable[Module]) -> Iterator[str]:
    """Files that are far too long."""
    for module in modules:
        count = len(module.text.splitlines())
        if count > MAX_LINES and module.name not in LONG_BUT_WHOLE:
            yield (
                f"{module.name}: {count} lines; split it: past about {TWO_NOUNS_LINES} a module"
                f" has two nouns, past {MAX_LINES} this test fails"
            )


def banned_names(modules: Iterable[Module]) -> Iterator[str]:
    """Classes and modules called by words that are not words of this project."""
    for module in modules:
        if BANNED_MODULE.search(module.path.stem):
            yield f"{module.name}: a module is not called that; name what it holds"
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ClassDef) or (module.name, node.name) in GIVEN_NAMES:
                continue
            if BANNED_CLASS.search(node.name):
                yield f"{module.name}:{node.lineno}: class {node.name}; say what it does"
