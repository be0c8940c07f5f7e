"""The package keeps the structure that DESIGN gives it, and the checks can fail."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.architecture import rules
from tests.architecture.sources import Module, modules_below

SOURCE = Path(__file__).parents[2] / "src"

Rule = Callable[[Iterable[Module]], Iterator[str]]
RULES: list[Rule] = [
    rules.placeless_parts,
    rules.upward_imports,
    rules.foreign_imports,
    rules.hidden_imports,
    rules.context_imports,
    rules.logging_imports,
    rules.generator_contexts,
    rules.acting_logic,
    rules.long_modules,
    rules.banned_names,
]


def by_name(rule: Rule) -> str:
    """Test id: the name of the rule."""
    return rule.__name__


@pytest.mark.parametrize("rule", RULES, ids=by_name)
def test_package_has_no(rule: Rule) -> None:
    """The package keeps each rule of its structure."""
    modules = modules_below(SOURCE)

    breaches = list(rule(modules))

    assert modules
    assert not breaches, "\n" + "\n".join(breaches)


BREACHES: list[tuple[Rule, str, str]] = [
    (rules.placeless_parts, "stuff.py", ""),
    (rules.placeless_parts, "stuff/__init__.py", ""),
    (rules.upward_imports, "errors.py", "import unitwork"),
    (rules.upward_imports, "errors.py", "from unitwork import Database"),
    (rules.upward_imports, "errors.py", "from . import database"),
    (rules.upward_imports, "_logic/plan.py", "from .._runtime.context import innermost"),
    (rules.upward_imports, "_logic/__init__.py", "from ..database import Database"),
    (rules.upward_imports, "dialects/sqlite.py", "import unitwork._runtime.context"),
    (rules.upward_imports, "query/text.py", "if TYPE_CHECKING:\n    from unitwork.database import Database"),
    (rules.upward_imports, "models/base.py", "from unitwork.repository import Repository"),
    (rules.upward_imports, "models/base.py", "from unitwork.bulk import insert"),
    (rules.upward_imports, "observe/timeline.py", "from unitwork.cli import main"),
    (rules.upward_imports, "observe/timeline.py", "def f():\n    from unitwork.schemas import schema_for"),
    (rules.foreign_imports, "__init__.py", "import pydantic"),
    (rules.foreign_imports, "_runtime/source.py", "from greenlet import greenlet"),
    (rules.foreign_imports, "models/base.py", "try:\n    import click\nexcept E:\n    pass"),
    (rules.hidden_imports, "database.py", "def f():\n    import os"),
    (rules.hidden_imports, "observe/x.py", "class A:\n    async def f(self):\n        import rich"),
    (rules.context_imports, "_runtime/blocks/scope.py", "from contextvars import ContextVar"),
    (rules.context_imports, "testing/plugin.py", "import contextvars"),
    (rules.logging_imports, "database.py", "import logging"),
    (rules.logging_imports, "cli/main.py", "from logging import getLogger"),
    (rules.generator_contexts, "testing/x.py", "from contextlib import asynccontextmanager"),
    (rules.generator_contexts, "testing/x.py", "@contextlib.asynccontextmanager\ndef f(): ..."),
    (rules.acting_logic, "_logic/plan.py", "async def f(): ..."),
    (rules.acting_logic, "_logic/plan.py", "class A:\n    async def f(self): ..."),
    (rules.long_modules, "repository.py", "pass\n" * (rules.MAX_LINES + 1)),
    (rules.banned_names, "database.py", "class SessionManager: ..."),
    (rules.banned_names, "query/text.py", "class BaseQuery: ..."),
    (rules.banned_names, "query/text.py", "class QueryHelpers: ..."),
    (rules.banned_names, "query/text.py", "class Outer:\n    class TextUtils: ..."),
    (rules.banned_names, "query/utils.py", ""),
    (rules.banned_names, "query/text_helpers.py", ""),
]


@pytest.mark.parametrize(("rule", "file", "text"), BREACHES)
def test_rule_finds_a_breach(rule: Rule, file: str, text: str, tmp_path: Path) -> None:
    """Each rule finds what it forbids: a check that cannot fail checks nothing."""
    modules = package(tmp_path, {file: text})

    breaches = list(rule(modules))

    assert len(breaches) == 1
    assert breaches[0].startswith(next(m.name for m in modules if m.path.match(file)))


KEPT: list[tuple[Rule, str, str]] = [
    (rules.upward_imports, "events.py", "from unitwork.options import Propagation"),
    (rules.upward_imports, "_logic/plan.py", "from unitwork import errors"),
    (rules.upward_imports, "_logic/plan.py", "from ._words import Step\nfrom ..errors import E"),
    (rules.upward_imports, "cli/main.py", "from unitwork.database import Database"),
    (rules.upward_imports, "cli/main.py", "def f():\n    from unitwork.observe import Timeline"),
    (rules.upward_imports, "integrations/fastapi.py", "from unitwork.integrations import asgi"),
    (rules.upward_imports, "__init__.py", "from unitwork.database import Database"),
    (rules.foreign_imports, "integrations/pico_ioc.py", "import pico_ioc"),
    (rules.foreign_imports, "database.py", "import sqlalchemy.orm\nimport asyncio"),
    (rules.hidden_imports, "cli/main.py", "def f():\n    import rich"),
    (rules.hidden_imports, "database.py", "if TYPE_CHECKING:\n    import os"),
    (rules.context_imports, "_runtime/context.py", "from contextvars import ContextVar"),
    (
        rules.context_imports,
        "_runtime/blocks/scope.py",
        "if TYPE_CHECKING:\n    from contextvars import T",
    ),
    (rules.logging_imports, "observe/log.py", "import logging"),
    (rules.acting_logic, "_runtime/blocks/scope.py", "async def f():\n    await g()"),
    (rules.banned_names, "models/declarative.py", "class Base: ...\nclass DataclassBase: ..."),
    (rules.banned_names, "integrations/pico_ioc/session.py", "class SessionManager: ..."),
]


@pytest.mark.parametrize(("rule", "file", "text"), KEPT)
def test_rule_allows_what_keeps_it(rule: Rule, file: str, text: str, tmp_path: Path) -> None:
    """A rule does not forbid more than it says."""
    modules = package(tmp_path, {file: text})

    assert list(rule(modules)) == []


def package(folder: Path, files: dict[str, str]) -> list[Module]:
    """A package made of these files, read as the real one is."""
    for name, text in files.items():
        path = folder / "unitwork" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return modules_below(folder)
