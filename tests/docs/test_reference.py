"""The reference says what the code does, and every page can be found."""

import dataclasses
import re
import tomllib
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from unitwork import Propagation, events
from unitwork._logic.plan import next_step
from unitwork.options import TransactionKeywords

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TRANSACTIONS = DOCS / "reference" / "transactions.md"
EVENTS = DOCS / "reference" / "events.md"


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = page.read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table is not None
    lines = table.group().splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_propagation_table_is_that_of_the_code() -> None:
    """Each propagation leads to the step that the reference names."""
    told = {
        (row[0], active): row[1 + active] for row in rows(TRANSACTIONS, "Propagation") for active in (0, 1)
    }

    assert told == {
        (propagation.value, active): next_step(propagation, active=bool(active)).value
        for propagation, active in product(Propagation, (0, 1))
    }


def test_every_option_is_told() -> None:
    """The reference has a row for each keyword of a transaction, and no other."""
    assert [row[0] for row in rows(TRANSACTIONS, "Options")] == list(TransactionKeywords.__annotations__)


@pytest.mark.parametrize("event", get_args(events.Event))
def test_every_field_of_an_event_is_told(event: type[events.Event]) -> None:
    """The reference has a row for each field, in order."""
    assert [row[0] for row in rows(EVENTS, event.__name__)] == [
        field.name for field in dataclasses.fields(event)
    ]


def test_every_outcome_is_told() -> None:
    """The reference has a row for each outcome, in order."""
    assert [row[0] for row in rows(EVENTS, "Outcome")] == list(events.Outcome.__members__)


def test_every_page_is_in_the_navigation() -> None:
    """A page that nobody can find helps nobody."""
    with (ROOT / "zensical.toml").open("rb") as file:
        navigation = str(tomllib.load(file)["project"]["nav"])
    named = set(re.findall(r"'([^']+\.md)'", navigation))

    assert named == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
