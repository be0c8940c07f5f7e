"""This module holds what all contenders answer with: the plain record of one person."""

from dataclasses import dataclass

PEOPLE = 2_000
PAGE_ROWS = 20
TEAMS = 50
MEMBERS = 5
"""Of each team."""
ASSETS = 100


KEYS = tuple(range(1, 101))
"""A list of keys that are asked for at once."""


@dataclass(slots=True)
class Card:
    """One row of the table `person`, without any library."""

    id: int
    name: str
    email: str
    age: int
    city: str


def card(number: int) -> Card:
    """What the database holds about this person; numbers go from 1 to `PEOPLE`."""
    return Card(number, f"name {number}", f"p{number}@example.com", number % 80, "Bern")
