"""This program runs the examples of one page, or of one module's docstrings, as a reader would.

It is started once for each page, in an empty folder, so that pages cannot help or hurt each other:
models of the same name, live Databases and event loops are their own.

Of a diff, the program that it leads to is run: what is added, and what stays.

Code blocks and doctests may await at top level; all of a page share one event loop and, on a page
of prose, one namespace. Each docstring has one of its own, in which the common names of unitwork and
SQLAlchemy are defined, a model `User`, and `db`: a Database in which its table is empty.
"""

import ast
import asyncio
import contextlib
import doctest
import importlib
import inspect
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any
from unittest import SkipTest

from sybil import Document, Example, Region
from sybil.document import PythonDocStringDocument
from sybil.example import SybilFailure
from sybil.parsers.abstract.doctest import DocTestStringParser
from sybil.parsers.markdown import CodeBlockParser, SkipParser

Namespace = dict[str, Any]
Parser = Callable[[Document], Iterable[Region]]

FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
CHECKS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

MODELS = """
import asyncio
from dataclasses import dataclass

from sqlalchemy import ForeignKey, Select, String, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Mapped, mapped_column, relationship

from unitwork import *


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(200), unique=True)
    active: Mapped[bool] = mapped_column(default=True)
"""


class Player:
    """Evaluates blocks and doctests in one event loop. Lives: as long as its program."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._doctests = DocTestStringParser(self.check)  # type: ignore[arg-type]  # any evaluator will do

    def play(self, document: Document) -> list[str]:
        """Evaluate every example in order, stopping at the first that fails; return the failure."""
        for example in document.examples():
            try:
                example.evaluate()
            except SkipTest:
                continue
            except SybilFailure as failure:
                return [f"{place_of(example)}: {failure.result}"]
            except BaseException:  # noqa: BLE001 - also SystemExit is a failure of an example
                return [f"{place_of(example)}:\n{traceback.format_exc()}"]
        return []

    def close(self) -> None:
        """Close the event loop."""
        self._runner.close()

    def regions(self, document: Document) -> Iterable[Region]:
        """The Python blocks and diffs of a Markdown page; a block of `>>>` lines is a series of doctests."""
        yield from CodeBlockParser("diff", self.run_diff)(document)
        for language in ("python", "pycon"):
            for region in CodeBlockParser(language, self.run_block)(document):
                if not region.parsed.startswith(">>>"):
                    yield region
                    continue
                for part in self._doctests(region.parsed, document.path):
                    part.adjust(region, region.parsed)
                    yield part

    def docstring_regions(self, document: Document) -> Iterable[Region]:
        """The doctests of one docstring."""
        return self._doctests(document.text, document.path)

    def run_block(self, example: Example) -> None:
        """Run a block; its lines are numbered as in the page."""
        self._run_source(example.parsed, example)

    def run_diff(self, example: Example) -> None:
        """Run what a diff leads to; its lines are numbered as in the page."""
        self._run_source(after(example.parsed), example)

    def _run_source(self, source: str, example: Example) -> None:
        offset = example.line + example.parsed.line_offset
        code = compile("\n" * offset + source, example.path, "exec", FLAGS, dont_inherit=True)
        self._run(code, example.namespace)

    def check(self, example: Example) -> str | None:
        """Run a doctest and compare what it shows."""
        case: doctest.Example = example.parsed
        flags = CHECKS
        for flag, is_on in case.options.items():
            flags = flags | flag if is_on else flags & ~flag
        if flags & doctest.SKIP:
            raise SkipTest("as it asks")
        shown = self._shown(case, example)
        checker = doctest.OutputChecker()
        if checker.check_output(case.want, shown, flags):
            return None
        return checker.output_difference(case, shown, flags)

    def _shown(self, case: doctest.Example, example: Example) -> str:
        code = compile(case.source, f"<{place_of(example)}>", "single", FLAGS, dont_inherit=True)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            try:
                self._run(code, example.namespace)
            except Exception as error:
                if case.exc_msg is None:
                    raise
                # The reader sees the message; the traceback above it is not compared.
                head = "Traceback (most recent call last):\n"
                case.want = head + case.exc_msg
                return head + "".join(traceback.format_exception_only(error))
        return output.getvalue()

    def _run(self, code: CodeType, namespace: Namespace) -> None:
        if code.co_flags & inspect.CO_COROUTINE:
            self._runner.run(eval(code, namespace))  # noqa: S307 - the examples are ours
        else:
            exec(code, namespace)  # noqa: S102 - the examples are ours

    def common_names(self, module: str) -> Namespace:
        """The names that the docstrings of a module may use without defining them."""
        names: Namespace = {"__name__": module, **vars(importlib.import_module(module))}
        self._run(compile(MODELS, "models", "exec", FLAGS), names)
        return names

    @contextlib.contextmanager
    def database(self, names: Namespace, number: int) -> Iterator[Namespace]:
        """A copy of these names, with `db` on a new file."""
        db = names["Database"](f"sqlite+aiosqlite:///docstring{number}.db")
        self._runner.run(db.create_all(names["Base"]))
        yield {**names, "db": db}
        self._runner.run(db.dispose())


def after(diff: str) -> str:
    """The program that a diff leads to; a line that goes leaves an empty one."""
    return "\n".join("" if line.startswith("-") else line[1:] for line in diff.splitlines())


def place_of(example: Example) -> str:
    """Where an example is, as editors and terminals understand it."""
    return f"{example.path}:{example.line}"


def module_name(path: Path) -> str:
    """The name under which a file of a source folder is imported."""
    parts = path.with_suffix("").parts
    parts = parts[len(parts) - parts[::-1].index("src") :]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def play_page(path: Path, player: Player) -> list[str]:
    """Run a Markdown page, as if it were a program."""
    page = Document.parse(str(path), player.regions, SkipParser())
    page.namespace["__name__"] = "__main__"
    return player.play(page)


def play_module(path: Path, player: Player) -> list[str]:
    """Run each docstring of a module."""
    failures = []
    names = player.common_names(module_name(path))
    for number, docstring in enumerate(docstrings(path)):
        for region in player.docstring_regions(docstring):
            docstring.add(region)
        with player.database(names, number) as docstring.namespace:
            failures += player.play(docstring)
    return failures


def docstrings(path: Path) -> Iterator[Document]:
    """One document for each docstring with examples."""
    source = path.read_text(encoding="utf-8")
    for start, end, text in PythonDocStringDocument.extract_docstrings(source):
        if ">>>" in text:
            # What stands before becomes empty lines, so that line numbers are those of the file.
            yield Document("\n" * source.count("\n", 0, start) + source[start:end], str(path))


def main() -> None:
    """Run the examples of the file that is named on the command line."""
    path = Path(sys.argv[1])
    player = Player()
    failures = (play_page if path.suffix == ".md" else play_module)(path, player)
    player.close()
    if failures:
        print("\n".join(failures), file=sys.stderr, flush=True)  # noqa: T201 - for whoever runs this program
        # What an example has left open, such as the thread of a connection, must not keep it from ending.
        os._exit(1)


if __name__ == "__main__":
    main()
