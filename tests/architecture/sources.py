"""This module reads the package as text and syntax trees; nothing is imported."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = "unitwork"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True, slots=True)
class Import:
    """One name or module that a module imports."""

    target: str  # in full, such as `unitwork.errors.NoRowError`
    line: int
    in_function: bool
    for_types_only: bool

    @property
    def library(self) -> str:
        """The top-level package."""
        return self.target.partition(".")[0]


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    path: Path
    name: str  # in full, such as `unitwork._runtime.context`

    @property
    def part(self) -> str:
        """The part of the package that it belongs to; the facade is the empty one."""
        return part_of(self.name)

    @cached_property
    def text(self) -> str:
        """The source."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, str(self.path))

    @cached_property
    def imports(self) -> list[Import]:
        """Everything it imports, in order."""
        return list(self._imports(self.tree, in_function=False, for_types_only=False))

    def _imports(self, node: ast.AST, *, in_function: bool, for_types_only: bool) -> Iterator[Import]:
        for target in self._targets(node):
            yield Import(target, node.lineno, in_function, for_types_only)  # type: ignore[attr-defined]  # imports have a line
        inside = in_function or isinstance(node, FUNCTIONS)
        for field, value in ast.iter_fields(node):
            typed = for_types_only or (field == "body" and _is_type_check(node))
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self._imports(child, in_function=inside, for_types_only=typed)

    def _targets(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = self._origin(node)
            yield from (f"{origin}.{alias.name}" for alias in node.names)

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        # A package counts as one of its own modules.
        is_package = self.path.name == "__init__.py"
        parts = [*self.name.split("."), "__init__"] if is_package else self.name.split(".")
        return ".".join([*parts[: -node.level], *filter(None, [node.module])])


def part_of(name: str) -> str:
    """The part that a module, or a name in it, belongs to: after `unitwork.`, or a module beside it."""
    package, *inside = name.split(".")
    return package if package != PACKAGE else [*inside, ""][0]


def _is_type_check(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    }


def modules_below(source: Path) -> list[Module]:
    """Every module of the package in this source folder."""
    return [Module(path, _name(path, source)) for path in sorted(source.rglob("*.py"))]


def _name(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
