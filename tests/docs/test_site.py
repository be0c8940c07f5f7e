"""The built pages: an entry for each public name, dark colours, and a search that finds."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import expect
from starlette.staticfiles import StaticFiles

import unitwork
from tests.docs.site import Entry, Page, build, searchable
from tests.fixtures.browsers import Eyes
from tests.fixtures.web import Web
from unitwork import Database, Repository
from unitwork.errors import MissingExtraError

# The library's own floors, whose names reach users through others.
INTERNAL = (
    "unitwork.bulk",
    "unitwork.cli",
    "unitwork.dialects",
    "unitwork.integrations.units",
    "unitwork.observe.stories",
)
# Names of those floors in public modules.
UNSEEN = frozenset({"unitwork.lifecycle.Lifecycle", "unitwork.lifecycle.caller"})
# For the library's own floors, though every floor can reach them.
INNER_MEMBERS = frozenset({"source", "database_access"})


def public_modules() -> list[str]:
    """The modules that users import from: public by name, with an `__all__` that is not empty."""
    found = ["unitwork"]
    for info in pkgutil.walk_packages(unitwork.__path__, "unitwork."):
        if any(part.startswith("_") for part in info.name.split(".")):
            continue
        if info.name.startswith(INTERNAL):
            continue
        try:
            module = importlib.import_module(info.name)
        except MissingExtraError:
            # Its package does not go with the others; what it has is listed here by hand.
            continue
        if getattr(module, "__all__", ()):
            found.append(info.name)
    return found


def public_names() -> Iterator[str]:
    """Each public name with its module, once for each object."""
    seen: set[int] = set()
    for module in public_modules():
        for name in importlib.import_module(module).__all__:
            value = getattr(importlib.import_module(module), name)
            path = f"{module}.{name}"
            # SQLAlchemy's names that a module passes on are documented there.
            ours = getattr(value, "__module__", "unitwork").startswith("unitwork")
            if ours and path not in UNSEEN and id(value) not in seen:
                seen.add(id(value))
                yield path


def object_at(path: str) -> object:
    """What a dotted path names; None if nothing."""
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:count]))
        except (ImportError, MissingExtraError):
            continue
        for part in parts[count:]:
            value = getattr(value, part, None)
        return value
    return None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built documentation."""
    return build(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def reference(site: Path) -> dict[str, Page]:
    """The pages of the reference, by name."""
    pages = {path.parent.name: Page(path) for path in sorted((site / "reference").glob("*/index.html"))}
    assert pages
    return pages


@pytest.fixture(scope="module")
def documented(reference: dict[str, Page]) -> dict[int, tuple[Page, Entry]]:
    """The entry of each object that has one, with its page, by the object's identity."""
    entries = {
        entry.anchor: (page, entry)
        for page in reference.values()
        for entry in page.entries
        if entry.anchor.startswith("unitwork.")
    }
    return {id(object_at(anchor)): found for anchor, found in entries.items()}


@pytest.mark.parametrize("path", list(public_names()))
def test_every_public_name_has_an_entry(path: str, documented: dict[int, tuple[Page, Entry]]) -> None:
    """Each name in the `__all__` of a public module has its entry in the reference, with an example."""
    value = object_at(path)
    # `query` is an object, whose class has the entry.
    found = documented.get(id(value)) or documented.get(id(type(value)))

    assert found is not None, f"{path} has no entry: add `::: {path}` to a page of docs/reference"
    page, entry = found
    name = path.rpartition(".")[2]
    shown = any(">>>" in block for block in entry.code) or re.search(rf"\b{name}\b", page.code)
    assert shown, f"{path} has no example: add `Examples:` to its docstring, or use it in a block of its page"


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (owner, name)
        for owner in (Database, Repository)
        for name in dir(owner)
        if not name.startswith("_") and name not in INNER_MEMBERS
    ],
)
def test_every_member_has_a_typed_entry(owner: type, name: str, reference: dict[str, Page]) -> None:
    """Each public member of `Database` and `Repository` shows its types and is used on the page."""
    page = reference["database" if owner is Database else "repositories"]
    entry = next((each for each in page.entries if each.anchor == f"unitwork.{owner.__name__}.{name}"), None)

    assert entry is not None, f"{owner.__name__}.{name} has no entry"
    is_typed = "->" in entry.signature or ":" in entry.signature
    assert is_typed, f"{owner.__name__}.{name} is shown as {entry.signature!r}"
    assert re.search(rf"\b{name}\b", page.code), f"{owner.__name__}.{name} is used in no example of its page"


def test_signatures_are_typed(reference: dict[str, Page]) -> None:
    """Every function and method is shown with the types of its parameters and of what it returns."""
    untyped = [
        entry.anchor
        for page in reference.values()
        for entry in page.entries
        if inspect.isfunction(object_at(entry.anchor)) and "->" not in entry.signature
    ]

    assert untyped == []


def test_examples_are_shown_as_code(site: Path) -> None:
    """No prompt of an example has become a quotation or running text."""
    garbled = [
        (path.parent.name, entry.anchor)
        for path in site.rglob("index.html")
        for entry in Page(path).entries
        if ">>>" in entry.prose or "... " in entry.prose.splitlines()
    ]
    quoted = [
        path.parent.name
        for path in site.rglob("index.html")
        if re.search(r"<blockquote>\s*<blockquote>", path.read_text(encoding="utf-8"))
    ]

    assert (garbled, quoted) == ([], [])


def test_pages_can_be_dark_and_code_copied(site: Path) -> None:
    """Each page offers the dark colours and carries the buttons that copy code."""
    for path in site.rglob("index.html"):
        text = path.read_text(encoding="utf-8")

        assert 'data-md-color-scheme="slate"' in text, path
        assert "content.code.copy" in text, path


# What people look for, and the page that helps.
SOUGHT = {
    "read replica": "how-to/replicas/",
    "lazy loading": "how-to/when-it-does-not-work/",
    "MissingGreenlet": "how-to/when-it-does-not-work/",
    "existing session": "coming-from/sqlalchemy/",
    "N+1": "how-to/when-it-does-not-work/",
}


@pytest.mark.parametrize(("words", "page"), SOUGHT.items())
def test_search_knows(words: str, page: str, site: Path) -> None:
    """The index has a section whose heading has all the words that a reader types, on the page that helps."""
    wanted = [word.lower() for word in words.split()]
    found = [
        section["location"]
        for section in searchable(site)
        if all(word in section["title"].lower() for word in wanted)
    ]

    assert any(location.startswith(page) for location in found), found


@pytest.mark.only("sqlite", reason="the pages are the same on all")
async def test_search_finds(site: Path, web: Web, eyes: Eyes) -> None:
    """Whoever types these words into the search of a page is led to the page that helps."""
    server = await web.serve(StaticFiles(directory=site, html=True))
    host, port = server.address
    for words, page in SOUGHT.items():
        opened = await eyes.look(f"http://{host}:{port}/")
        await opened.get_by_role("button", name="Search").click()
        await opened.locator('input[aria-label="Search"]').fill(words)

        await expect(opened.locator(f'a[href*="{page}?h="]').first).to_be_visible()


def test_how_to_index_names_each_task_once(site: Path) -> None:
    """The index of the how-to pages leads to each page, and no task or page stands in it twice."""
    text = (site / "how-to" / "index.html").read_text(encoding="utf-8")
    table = text.split("<tbody>", 1)[1].split("</tbody>", 1)[0]
    targets = re.findall(r'href="([^"#]+)"', table)
    pages = {path.parent.name for path in (site / "how-to").glob("*/index.html")}

    assert sorted(target.strip("./") for target in targets) == sorted(pages)
