"""This module builds the documentation and reads what a reader gets: the HTML pages and the search index."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from typing_extensions import override

from tests.fixtures.apart import ROOT

SOURCES = ("docs", "src", "examples", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "zensical.toml")
HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
VOID = frozenset({"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"})


def build(folder: Path) -> Path:
    """Build the site from copies of its sources in this folder, and return where the pages are."""
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "site"


@dataclass
class Entry:
    """A heading with an anchor and what stands below it, up to the next one."""

    anchor: str
    level: int
    title: str = ""
    signature: str = ""
    code: list[str] = field(default_factory=list)
    prose: str = ""


class Page(HTMLParser):
    """One built page: its entries in order, and what its buttons and links offer."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.entries: list[Entry] = []
        self._open: list[tuple[str, str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    @property
    def code(self) -> str:
        """All code of the page, but signatures."""
        return "\n".join(block for entry in self.entries for block in entry.code)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag in HEADINGS and named.get("id"):
            self.entries.append(Entry(named["id"] or "", int(tag[1])))
        if tag not in VOID:
            self._open.append((tag, named.get("class") or ""))
        if tag == "pre" and self.entries and "doc-signature" not in self._classes():
            self.entries[-1].code.append("")

    @override
    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    @override
    def handle_data(self, data: str) -> None:
        if not self.entries:
            return
        entry, tags = self.entries[-1], {tag for tag, _ in self._open}
        if "pre" in tags and "doc-signature" in self._classes():
            entry.signature += data
        elif "pre" in tags:
            entry.code[-1] += data
        elif tags & HEADINGS:
            entry.title += data
        else:
            entry.prose += data

    def _classes(self) -> str:
        return " ".join(classes for _, classes in self._open)


def searchable(site: Path) -> list[dict[str, Any]]:
    """The sections that the search of the site knows: `location`, `title` and `text` of each."""
    items: list[dict[str, Any]] = json.loads((site / "search.json").read_text(encoding="utf-8"))["items"]
    return items
