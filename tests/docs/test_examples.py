"""Every example in README, docs and docstrings runs and shows what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.apart import ROOT, path_with

PLAYER = Path(__file__).with_name("player.py")
EXAMPLE = re.compile(r"^ *(```py|```diff|>>> )", re.MULTILINE)
# Against one that hangs, on the slowest machine.
TIMEOUT_S = 120
# A short example may leave its connections to the end of the program.
WARNINGS = ("-W", "error", "-W", "ignore::ResourceWarning")

# Packages that do not go with those of the development environment, and their requirements.
APART = {"aiogram": "aiogram", "advanced_alchemy": "advanced-alchemy"}


def has_examples(path: Path) -> bool:
    """Whether a file has anything to run."""
    return bool(EXAMPLE.search(path.read_text(encoding="utf-8")))


PAGES = [
    path
    for path in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "src").rglob("*.py")),
    )
    if has_examples(path)
]


def played(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the examples of one file in this folder, with warnings as errors."""
    sources = [ROOT / "src", folder / "src"]
    page = path.read_text(encoding="utf-8")
    apart = next((name for package, name in APART.items() if f"from {package}" in page), None)
    python_path = path_with(apart, *sources) if apart else os.pathsep.join(map(str, sources))
    return subprocess.run(
        [sys.executable, *WARNINGS, str(PLAYER), str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=TIMEOUT_S,
        # gRPC tells on a busy machine which calls the end of its server has cancelled.
        env={**os.environ, "PYTHONPATH": python_path, "GRPC_VERBOSITY": "ERROR"},
    )


# The first run may install packages.
@pytest.mark.timeout(180)
@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_run(path: Path, tmp_path: Path) -> None:
    """A reader who pastes the examples of a page sees what the page says."""
    done = played(path, tmp_path)

    assert (done.returncode, done.stderr) == (0, ""), done.stderr


GOOD_PAGE = """
Text.

```python
import asyncio
x = 1
async def twice(value):
    await asyncio.sleep(0)
    return 2 * value
```

<!-- invisible-code-block: python
y = await twice(x)
-->

```pycon
>>> await twice(y)
4
>>> raise ValueError("no\\n  Fix: yes.")
Traceback (most recent call last):
    ...
ValueError: no
  Fix: yes.
```

<!-- skip: next "needs a server" -->

```python
never()
```

```sh
not python
```

```python
async with asyncio.timeout(1):
    assert (x, await twice(2)) == (1, 4)
```

```python
if __name__ == "__main__":
    asyncio.run(twice(1))
```

```diff
 kept = await twice(1)
-raise SystemExit("this line has gone")
+assert kept == 2
```
"""


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        (GOOD_PAGE, ""),
        ("\n\n```python\nassert 1 == 2\n```\n", "page.md:3"),
        ("```python\nassert 1 == 2\n```\n", "AssertionError"),
        ("```diff\n-assert 1 == 1\n+assert 1 == 2\n```\n", "AssertionError"),
        ("```diff\n x = 1\n-y = 2\n+broken(\n```\n", "line 4"),
        ("```python\n\nx = 1\nbroken(\n```\n", "line 4"),
        ("```python\n>>> 1 + 1\n3\n```\n", "Expected:\n    3"),
        ("```python\n>>> [][0]\n```\n", "IndexError"),
        ("```python\nimport asyncio\nawait asyncio.sleep(0)\n[][0]\n```\n", "IndexError"),
        ("```python\nraise SystemExit\n```\n", "SystemExit"),
        ("```python\nimport warnings\nwarnings.warn('old')\n```\n", "UserWarning: old"),
    ],
)
def test_page_is_really_run(page: str, complaint: str, tmp_path: Path) -> None:
    """A page that is right passes; one that is wrong fails and says where."""
    path = tmp_path / "page.md"
    path.write_text(page, encoding="utf-8")

    done = played(path, tmp_path)

    assert complaint in done.stderr
    assert bool(complaint) == bool(done.returncode)


GOOD_MODULE = '''
"""Text.

    >>> db.name
    'default'
"""

SECRET = 7


def function():
    """Do it.

    Example:
        >>> async with db.transaction():
        ...     db.session.add(User(email="ann@example.com"))
        >>> SECRET
        7
    """
'''


@pytest.mark.parametrize(
    ("module", "complaint"),
    [(GOOD_MODULE, ""), (GOOD_MODULE.replace("= 7", "= 8"), "example.py:17")],
)
def test_docstrings_are_really_run(module: str, complaint: str, tmp_path: Path) -> None:
    """Docstrings know `db`, `User` and their own module; what they show is compared."""
    path = tmp_path / "src" / "unitwork_example.py"
    path.parent.mkdir()
    path.write_text(module, encoding="utf-8")

    done = played(path, tmp_path)

    assert complaint in done.stderr
    assert bool(complaint) == bool(done.returncode), done.stderr
