"""This module says what is measured: workloads, how much of each, and what a right answer is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.card import ASSETS, MEMBERS, PAGE_ROWS, PEOPLE, TEAMS, Card, card

BASELINE = "hand"
TASKS = (1, 16)
DATABASES = ("postgresql", "sqlite", "mariadb")


@dataclass(frozen=True, slots=True)
class Workload:
    """One thing that contenders do again and again. `writes` means that each call gets a new address."""

    name: str
    title: str
    writes: bool = False


WORKLOADS = (
    Workload("empty", "empty block"),
    Workload("select_one", "block with one ORM select"),
    Workload("three_nested", "three nested blocks, a select each"),
    Workload("nested_dtos", "three nested blocks, a record each"),
    Workload("get", "get by key"),
    Workload("get_attached", "get by key, attached to a session"),
    Workload("find_dto", "find one, as a record"),
    Workload("entities_100", "100 entities"),
    Workload("dtos_100", "100 rows as records"),
    Workload("dtos_1000", "1,000 rows as records"),
    Workload("insert", "insert one", writes=True),
    Workload("check_insert", "check and insert in a block", writes=True),
    Workload("page", "page: count and 20 rows"),
    Workload("get_inside", "get by key in a block"),
    Workload("get_read_only", "get by key in a read-only block"),
    Workload("insert_inside", "insert one in a block", writes=True),
    Workload("savepoint", "a savepoint with one insert", writes=True),
    Workload("add_all", "insert ten together", writes=True),
    Workload("update_one", "change an attribute of one entity"),
    Workload("delete_one", "insert one, then load and delete it", writes=True),
    Workload("service", "5 reads and 3 writes in a block", writes=True),
    Workload("update_where", "update by a condition"),
    Workload("delete_where", "delete by a condition", writes=True),
    Workload("in_100", "100 keys in a list, as entities"),
    Workload("in_100_dtos", "100 keys in a list, as records"),
    Workload("selectin", "50 parents with 5 children each, in two statements"),
    Workload("joined", "250 children with their parents, in one statement"),
    Workload("inherited", "100 entities of two tables each"),
)


@dataclass(frozen=True, slots=True)
class Size:
    """How long a run is: rounds, and the seconds that each contender gets in each round of a cell."""

    rounds: int
    seconds: float
    http_rounds: int
    http_seconds: float


TINY = Size(rounds=2, seconds=0.0, http_rounds=1, http_seconds=0.2)
NORMAL = Size(rounds=9, seconds=0.02, http_rounds=15, http_seconds=0.4)
FULL = Size(rounds=41, seconds=0.06, http_rounds=15, http_seconds=2.0)


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the table: a workload on a database, by one task or by several at once."""

    database: str
    workload: str
    tasks: int

    @property
    def key(self) -> str:
        """Its name in files and for `--only`."""
        return f"{self.database}/{self.workload}/{self.tasks}"


def cells(databases: Iterable[str], only: Iterable[str] = ()) -> Iterator[Cell]:
    """Return the cells whose key holds one of these words; all without words."""
    words = tuple(only)
    for database in databases:
        for workload in WORKLOADS:
            for tasks in TASKS:
                cell = Cell(database, workload.name, tasks)
                if not words or any(word in f"{cell.key}/" for word in words):
                    yield cell


def turned(names: list[str], by: int) -> list[str]:
    """Start with another one each round, so that nobody always follows the same neighbour."""
    start = by % len(names) if names else 0
    return names[start:] + names[:start]


def number_of(call: int) -> int:
    """Return which person a call asks for."""
    return call * 7 % (PEOPLE - 1) + 1


_ONE_PERSON = frozenset(
    {
        "select_one",
        "three_nested",
        "nested_dtos",
        "get",
        "get_attached",
        "get_inside",
        "get_read_only",
        "find_dto",
    }
)
_PEOPLE = frozenset({"entities_100", "dtos_100", "dtos_1000", "in_100", "in_100_dtos"})
_NEW_KEY = frozenset({"insert", "insert_inside", "check_insert", "savepoint"})
_COUNTS = {
    "add_all": 10,
    "update_one": 1,
    "delete_one": 1,
    "service": 8,
    "update_where": 1,
    "delete_where": 1,
    "selectin": TEAMS * MEMBERS,
    "joined": TEAMS * MEMBERS,
    "inherited": ASSETS,
}
"""What an answer counts: rows that were touched, or that were found."""


def wrong(workload: str, answer: Any, number: int) -> str | None:  # noqa: ANN401  # of any library
    """Say what is wrong with an answer, or None. Checked once per contender, before it is timed."""
    problem = None
    if workload in _ONE_PERSON:
        problem = _differs(answer, number)
    elif workload in _PEOPLE:
        wanted = 1000 if workload == "dtos_1000" else 100
        people = sorted(answer, key=lambda person: int(_field(person, "id")))
        problem = _all_differ(people, range(1, wanted + 1))
    elif workload == "page":
        total, people = answer
        problem = f"it counts {total}" if total != PEOPLE else None
        problem = problem or (f"it has {len(people)} rows" if len(people) != PAGE_ROWS else None)
    elif workload in _NEW_KEY:
        problem = None if isinstance(answer, int) else f"it returns {answer!r} for the new key"
    elif workload in _COUNTS:
        wanted = _COUNTS[workload]
        problem = None if answer == wanted else f"it returns {answer!r}, not {wanted}"
    return problem


def _all_differ(people: list[Any], numbers: range) -> str | None:
    if len(people) != len(numbers):
        return f"it has {len(people)} rows, not {len(numbers)}"
    found = (_differs(person, number) for person, number in zip(people, numbers, strict=True))
    return next((problem for problem in found if problem), None)


def _differs(answer: Any, number: int) -> str | None:  # noqa: ANN401  # of any library
    if answer is None:
        return "it finds nothing"
    wanted = card(number)
    for name in Card.__slots__:
        if _field(answer, name) != getattr(wanted, name):
            return f"{name} is {_field(answer, name)!r}, not {getattr(wanted, name)!r}"
    return None


def _field(answer: Any, name: str) -> Any:  # noqa: ANN401  # of any library
    return answer[name] if isinstance(answer, dict) else getattr(answer, name)
