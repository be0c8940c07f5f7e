"""unitwork with one observer that counts: what it costs to be watched."""

from typing_extensions import override

from benchmarks.place import Place
from benchmarks.references.engine import database_apart
from benchmarks.references.ours import Ours
from unitwork import Database
from unitwork.events import Event

TITLE = "unitwork, observed"
REQUIREMENTS: tuple[str, ...] = ()
DATABASES = ("postgresql", "sqlite", "mariadb")


class Counter:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.events = 0

    def notice(self, _event: Event, /) -> None:
        """Count."""
        self.events += 1


class Observed(Ours):
    """As its users write it, with an observer."""

    @override
    def database(self, place: Place) -> Database:
        db = database_apart(place, "observed")
        db.observe(Counter())
        return db


async def connect(place: Place) -> Observed:
    """Make the contender."""
    return Observed(place)
