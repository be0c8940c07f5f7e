"""This module writes the table of a run as Markdown, for the documentation: ratios alone."""

from collections.abc import Iterator

from benchmarks.plan import BASELINE, DATABASES, WORKLOADS
from benchmarks.report import Report, Row
from benchmarks.web_measure import WEB

_NAMES = {"postgresql": "PostgreSQL", "sqlite": "SQLite", "mariadb": "MariaDB"}


def markdown(report: Report) -> str:
    """Return one table for each database, and one for the web."""
    parts = [
        "\n".join(_table(_NAMES[database], rows, report.titles))
        for database in DATABASES
        if (rows := [row for row in report.rows if row.cell.database == database])
    ]
    if report.web:
        parts.append("\n".join(_web(report)))
    facts = {**report.machine, **report.versions}
    parts.append("Measured with " + ", ".join(f"{name} {value}" for name, value in facts.items()) + ".")
    return "\n\n".join(parts) + "\n"


def _table(title: str, rows: list[Row], titles: dict[str, str]) -> Iterator[str]:
    names = [name for name in titles if name != BASELINE and any(name in row.ratios for row in rows)]
    yield _line([title, "tasks", *(titles[name] for name in names)])
    yield _line(["---", *["--:"] * (len(names) + 1)])
    for row in rows:
        workload = next(one.title for one in WORKLOADS if one.name == row.cell.workload)
        numbers = (f"{row.ratios[name].median:.2f}" if name in row.ratios else "" for name in names)
        yield _line([workload, str(row.cell.tasks), *numbers])


def _web(report: Report) -> Iterator[str]:
    yield _line(["Web, 16 connections", "variant", "requests per second", "p99"])
    yield _line(["---", "---", "--:", "--:"])
    for row in report.web:
        for variant, per_s in row.per_s.items():
            yield _line([WEB[row.name], variant, f"{per_s:.2f}", f"{row.p99[variant]:.2f}"])


def _line(fields: list[str]) -> str:
    return "| " + " | ".join(fields) + " |"
