"""`db.check()` verifies every declared query against the live database, and runs none."""

# ruff: noqa: A002 - parameters are called as columns

# mypy: disable-error-code="empty-body"

import asyncio
import datetime as dt
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Select, Update, insert, select, update

from tests.fixtures.people import Color, Person, Seat
from unitwork import CursorPage, CursorRequest, Database, Page, PageRequest, Repository, query


@dataclass
class NameAge:
    """Two columns."""

    name: str
    age: int | None


@dataclass
class NameText:
    """One field is of the wrong type, and one in no column."""

    name: int
    text: str


class Right(Repository[Person]):
    """Nothing is wrong with these."""

    @query("name = :name AND age IN :ages AND born < :day AND color = :color")
    async def text(self, name: str, ages: list[int], day: dt.date, color: Color) -> Person | None: ...

    @query
    async def derived(self, *, age__gte: int | None, name__in: list[str], active: bool) -> list[NameAge]: ...

    @query.sql("SELECT p.id, s.line AS id FROM person p JOIN seat s ON holder = name WHERE p.id > :id")
    async def doubled(self, id: int) -> list[dict[str, Any]]: ...

    @query.sql("SELECT * FROM person WHERE name LIKE '%x' AND id = :id")
    async def sql(self, id: int) -> Person: ...

    @query.sql("SELECT count(age) FROM person WHERE seen > :seen")
    async def total(self, seen: dt.datetime) -> int: ...

    @query.sql("UPDATE person SET age = :age WHERE id IN :ids")
    async def change(self, age: int, ids: list[int]) -> int: ...

    @query.sql("SELECT * FROM person")
    async def page(self, page: PageRequest) -> Page[Person]: ...

    @query("active")
    async def walk(self, page: CursorRequest) -> CursorPage[Person]: ...

    @query.many
    def built(self, prefix: str) -> Select[Person]:
        return self.where(Person.name.startswith(prefix)).with_for_update()

    @query.execute
    def built_update(self, age: int) -> Update:
        return update(Person).values(age=age)


class Wrong(Repository[Person]):
    """Each has one mistake."""

    @query("nme = :name")
    async def column(self, name: str) -> list[Person]: ...

    @query.sql("SELECT 1 FROM persons")
    async def table(self) -> int: ...

    @query.sql("SELEC 1")
    async def syntax(self) -> None: ...

    @query("age > :age")
    async def parameter(self, age: str) -> list[Person]: ...

    @query
    async def derived_parameter(self, *, name: int) -> list[Person]: ...

    @query.sql("SELECT name FROM person WHERE id = :id")
    async def whole(self, id: int) -> Person: ...

    @query.sql("SELECT name FROM person WHERE id = :id")
    async def record(self, id: int) -> NameText: ...

    @query.sql("SELECT name, age FROM person WHERE id = :id")
    async def scalar(self, id: int) -> int: ...

    @query.sql("DELETE FROM person WHERE nope = 1")
    async def write(self) -> None: ...

    @query.many
    def body(self, key: int) -> Select[Person]:
        return select(Person).where(Person.nope == key)  # type: ignore[attr-defined]  # the mistake

    @query.many
    def no_statement(self) -> Select[Person]:
        return 3  # type: ignore[return-value]  # the mistake


class Slow(Repository[Seat]):
    """Reads a table as a whole, or not."""

    @query("holder = :holder")
    async def by_holder(self, holder: str) -> list[Seat]: ...

    @query.sql("SELECT s.holder FROM seat AS s WHERE s.holder = :holder")
    async def by_alias(self, holder: str) -> list[str]: ...

    @query("line = :line AND number = :number")
    async def by_key(self, line: int, number: int) -> Seat | None: ...

    @query.sql("SELECT * FROM seat")
    async def everything(self) -> list[Seat]: ...


async def test_right_queries_have_no_findings(people: Database) -> None:
    """Every form passes, and the report names what was checked."""
    report = await people.check(Right)

    assert not report.findings, report
    assert (
        str(report)
        .splitlines()[-1]
        .startswith("10 queries checked on database 'default': 0 errors, 0 warnings")
    )
    assert report.ok
    assert report.queries[0] == "tests.behaviour.test_check.Right.built"
    assert people.pool_status().checked_out == 0


FINDINGS = {
    "column": "nme",
    "table": "persons",
    "syntax": "",
    "parameter": "the parameter 'age' is str, but the database compares it with int.",
    "derived_parameter": "the parameter 'name' is int, but the database compares it with str.",
    "whole": "Person needs the column 'id', which it does not select.",
    "record": "NameText needs the column 'text', which it does not select.",
    "scalar": "it promises one value for each row, but selects 2 columns.",
    "write": "nope",
    "body": "its statement could not be built with sample values: AttributeError.",
    "no_statement": "it returns int, but @query.many needs a SQLAlchemy Select.",
}


async def test_wrong_queries_are_found(people: Database) -> None:
    """Each mistake is one finding of its query, and says what is wrong; none hides the others."""
    report = await people.check(Wrong)

    found: dict[str, list[str]] = {name: [] for name in FINDINGS}
    for finding in report.findings:
        found[finding.query.rpartition(".")[2]].append(finding.problem)
    for name, problem in FINDINGS.items():
        assert any(problem in told for told in found[name]), (name, found[name])
    assert not report.ok
    assert [finding.query.rpartition(".")[2] for finding in report.warnings] == ["body"]


async def test_types_of_results_are_compared(people: Database) -> None:
    """A field or scalar of another type than its column is found."""
    problems = [finding.problem for finding in (await people.check(Wrong)).findings]

    assert "NameText.name is int, but the column 'name' holds str." in problems


async def test_check_changes_and_runs_nothing(people: Database) -> None:
    """Statements that write are looked at only."""
    await people.check(Right)
    await people.check(Wrong)

    assert await Right(people).count() == 3
    assert (await Right(people).get_one(1)).age == 30


class Acting(Repository[Person]):
    """Each would do something if it ran, whatever rows it returns."""

    @query.sql("SELECT nextval('numbers') LIMIT 1")
    async def number(self) -> int: ...

    @query.sql("SELECT 1 FROM pg_sleep(5) LIMIT 1")
    async def sleep(self) -> int: ...

    @query.sql("SELECT id FROM person ORDER BY id LIMIT 1 FOR UPDATE")
    async def next(self) -> int: ...


@pytest.mark.only("postgresql", reason="its own functions")
async def test_check_moves_no_sequence_and_waits_for_no_row(people: Database) -> None:
    """A statement is described, and neither planned nor run."""
    async with people.engine.begin() as connection:
        await connection.exec_driver_sql("CREATE SEQUENCE numbers")

    async with people.engine.connect() as holder:
        await holder.execute(update(Person).values(age=1))
        report = await asyncio.wait_for(people.check(Acting), 4)
        await holder.rollback()

    assert not report.findings, report
    assert await Acting(people).number() == 1


async def test_check_waits_for_no_writer_and_works_inside_rolled_back(people: Database) -> None:
    """Another transaction may hold its locks, and what a test has written is seen and undone."""
    async with people.transaction() as session:
        await session.execute(update(Person).values(age=1))
        assert (await people.check(Right)).ok

    async with people.rolled_back():
        await Right(people).change(2, [1])
        assert (await people.check(Right)).ok
        assert (await Right(people).get_one(1)).age == 2
    assert (await Right(people).get_one(1)).age == 1


class Partly(Repository[Person]):
    """The database cannot tell all of these before it runs them."""

    @query.sql("SELECT upper(name) FROM person")
    async def upper(self) -> list[str]: ...

    @query.sql("DROP TABLE nothing")
    async def drop(self) -> None: ...


async def test_what_nobody_tells_is_not_called_right(people: Database) -> None:
    """A query is listed as not checked where its database looks at it only when it runs."""
    report = await people.check(Partly)

    listed = {each.query.rpartition(".")[2] for each in report.unchecked}
    assert listed == ({"upper", "drop"} if people.engine.dialect.name == "sqlite" else {"drop"})
    assert not report.findings
    assert "not checked: tests.behaviour.test_check.Partly.drop: " in str(report)


async def test_full_scans_of_large_tables_are_warnings(people: Database) -> None:
    """`explain=True` finds conditions without an index; small tables and whole reads are fine."""
    assert not (await people.check(Slow, explain=True)).findings
    rows = [{"line": each // 100, "number": each % 100, "holder": f"h{each}"} for each in range(10_000)]
    async with people.transaction() as session:
        await session.execute(insert(Seat), rows)
    async with people.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        kind = "TABLE seat" if people.engine.dialect.name == "mysql" else "seat"
        await connection.exec_driver_sql(f"ANALYZE {kind}")

    report = await people.check(Slow, explain=True)

    assert [finding.query.rpartition(".")[2] for finding in report.warnings] == ["by_alias", "by_holder"]
    assert report.ok
    assert (
        "warning: tests.behaviour.test_check.Slow.by_holder: "
        "it reads all rows of table 'seat', which has 10,000 or more.\n"
        "  Fix: add an index on the columns of its condition." in str(report)
    )


PROGRAM = """
from sqlalchemy.orm import Mapped, mapped_column
from unitwork import Base, Database, Repository, query

class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)

class Accounts(Repository[Account]):
    @query("{column} = :value")
    async def by_value(self, value: int) -> Account | None: ...

db = Database("{url}")
"""


@pytest.mark.only("sqlite", reason="the command is the same for all; a process for each call takes time")
@pytest.mark.parametrize(("column", "code"), [("balance", 0), ("blance", 1)])
def test_command_has_exit_codes(database_url: URL, tmp_path: Path, column: str, code: int) -> None:
    """`unitwork check --app` ends with 0 or 1, and tells what it found as text or JSON."""
    program = PROGRAM.format(column=column, url=database_url.render_as_string(hide_password=False))
    (tmp_path / "shop.py").write_text(program, encoding="utf-8")
    command = [sys.executable, "-m", "unitwork", "check", "--app", "shop:db"]

    text, data = (
        subprocess.run([*command, option], capture_output=True, text=True, check=False, cwd=tmp_path)
        for option in ("--explain", "--json")
    )

    found = json.loads(data.stdout)
    assert (text.returncode, data.returncode) == (code, code), text.stderr
    assert found["queries"] == ["shop.Accounts.by_value"]
    assert [finding["severity"] for finding in found["findings"]] == ["error"] * code
    assert f"1 query checked on database 'default': {code} error" in text.stdout


def test_command_without_a_database_is_a_usage_error() -> None:
    """What is missing is told with exit code 2."""
    command = [sys.executable, "-m", "unitwork", "check"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "--app" in done.stderr
