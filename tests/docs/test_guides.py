"""The guides for those who come from elsewhere say what is run, and each says all that a guide should."""

import re
from pathlib import Path

import pytest

from tests.docs.player import after
from tests.fixtures.apart import ROOT

GUIDES = sorted((ROOT / "docs" / "coming-from").glob("*.md"))
HEADINGS = ("Yours and ours", "A page of code", "What behaves differently, and why", "What you will miss")
BLOCK = re.compile(r"^```(python|pycon|diff)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")

pytestmark = pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)


def run_code(page: str) -> str:
    """The code of a page that is run with it, without blanks, which differ where lines are broken."""
    blocks = [after(code) if language == "diff" else code for language, code in BLOCK.findall(page)]
    return re.sub(r"\s|,(?=\s*\))", "", "\n".join(blocks))


def ours(page: str) -> list[str]:
    """The code on the right-hand side of the table that translates."""
    table = page.split("\n## Yours and ours\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    cells = [re.split(r"(?<!\\)\|", row)[2].replace("\\|", "|") for row in rows]
    assert cells
    return [span for cell in cells for span in SPAN.findall(cell)]


def test_every_right_hand_side_is_run(guide: Path) -> None:
    """Whatever the table tells to write stands in the code of its page, which tests/docs runs."""
    page = guide.read_text(encoding="utf-8")
    code = run_code(page)

    assert [span for span in ours(page) if re.sub(r"\s", "", span) not in code] == []


def test_guide_tells_all_that_a_guide_should(guide: Path) -> None:
    """Each has the table, a page of code as a diff, what behaves differently, and what is missing here."""
    page = guide.read_text(encoding="utf-8")
    missing = [heading for heading in HEADINGS if f"\n## {heading}\n" not in page]

    assert missing == []
    assert "\n```diff\n" in page
