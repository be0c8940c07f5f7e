"""This module holds what a check of declared queries has found."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CheckReport", "Finding", "Severity"]


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
class CheckReport:
    """What `db.check()` returns: the queries that were checked, by name, and what was found.

    Example:
        >>> report = CheckReport("main", ("shop.Users.by_email",), ())
        >>> report.ok
        True
        >>> print(report)
        1 query checked on database 'main': 0 errors, 0 warnings.
    """

    database: str
    queries: Sequence[str]
    findings: Sequence[Finding]

    @property
    def ok(self) -> bool:
        """Whether no query is wrong; warnings do not count."""
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
        head = f"{_counted(self.queries, 'query', 'queries')} checked on database {self.database!r}"
        errors = _counted(self.errors, "error", "errors")
        warnings = _counted(self.warnings, "warning", "warnings")
        return "\n".join([*map(str, self.findings), f"{head}: {errors}, {warnings}."])


def _counted(things: Sequence[object], one: str, many: str) -> str:
    return f"{len(things)} {one if len(things) == 1 else many}"
