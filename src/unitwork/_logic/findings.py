"""This module holds what a check of declared queries has found."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CheckReport", "Finding", "Severity", "Unchecked"]


class Severity(enum.Enum):
    """How bad a finding is."""

    ERROR = "error"
    """The query fails, or does not return what it promises."""
    WARNING = "warning"
    """The query works, but not as well as it could, or it could not be checked."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one query."""

    query: str
    severity: Severity
    problem: str
    fix: str = ""

    def __str__(self) -> str:
        fix = f"\n  Fix: {self.fix}" if self.fix else ""
        return f"{self.severity.value}: {self.query}: {self.problem}{fix}"


@dataclass(frozen=True, slots=True)
class Unchecked:
    """What of one query nobody could look at: it may be right or wrong."""

    query: str
    what: str

    def __str__(self) -> str:
        return f"not checked: {self.query}: {self.what}."


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `db.check()` returns: the queries that were checked, by name, and what was found.

    Args:
        database: Its name.
        queries: The names of all queries that were looked at.
        findings: What is wrong with them.
        unchecked: What the database does not tell before a query runs.

    Examples:
        >>> report = CheckReport("main", ("shop.Users.by_email",), ())
        >>> report.ok
        True
        >>> print(report)
        1 query checked on database 'main': 0 errors, 0 warnings.
    """

    database: str
    queries: Sequence[str]
    findings: Sequence[Finding]
    unchecked: Sequence[Unchecked] = ()

    @property
    def ok(self) -> bool:
        """Whether no query is known to be wrong; warnings, and what is not checked, do not count."""
        return not self.errors

    @property
    def errors(self) -> list[Finding]:
        """The findings that make a query fail."""
        return [finding for finding in self.findings if finding.severity is Severity.ERROR]

    @property
    def warnings(self) -> list[Finding]:
        """The other findings."""
        return [finding for finding in self.findings if finding.severity is Severity.WARNING]

    def __str__(self) -> str:
        head = f"{counted(self.queries, 'query', 'queries')} checked on database {self.database!r}"
        errors = counted(self.errors, "error", "errors")
        warnings = counted(self.warnings, "warning", "warnings")
        partly = f", {len(self.unchecked)} not wholly checked" if self.unchecked else ""
        told = [*map(str, self.findings), *map(str, self.unchecked)]
        return "\n".join([*told, f"{head}: {errors}, {warnings}{partly}."])


def counted(things: Sequence[object], one: str, many: str) -> str:
    """Return how many there are, with the word for one or for many."""
    return f"{len(things)} {one if len(things) == 1 else many}"
