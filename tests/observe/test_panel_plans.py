"""The panel asks each database how it would run what was sent, without the values that nobody has kept."""

# mypy: disable-error-code="empty-body"

from typing import Any

import httpx
import pytest
from sqlalchemy import bindparam, select, text, update

from tests.fixtures.models import Account
from tests.fixtures.observer import Observer
from tests.fixtures.web import Web
from tests.observe.panels import ASKED
from unitwork import Database, Repository, query
from unitwork.observe import Panel


class Accounts(Repository[Account]):
    @query("name LIKE '50%' AND name <> '?' AND balance > :least ORDER BY id LIMIT :most")
    async def rich(self, least: int, most: int) -> list[Account]: ...


@pytest.fixture
async def client(db: Database, web: Web) -> httpx.AsyncClient:
    """What the page asks with."""
    return await web.client(Panel(db, development=True, always=True))


async def plan(client: httpx.AsyncClient, words: str, *, analyze: bool = False) -> dict[str, Any]:
    """Ask for the plan of the statement with these words."""
    queries = (await client.get("/state")).json()["queries"]
    number = next(each["query"] for each in queries if words in each["sql"])
    body = {"query": number, "analyze": analyze}
    told: dict[str, Any] = (await client.post("/explain", json=body, headers=ASKED)).json()
    return told


@pytest.fixture
async def sent(db: Database, client: httpx.AsyncClient) -> None:
    """Statements with parameters, percent signs and a limit, that read and write, by all ways."""
    accounts = Accounts(db)
    await accounts.rich(5, 10)
    async with db.transaction() as session:
        session.add(Account(name="Ann"))
        await session.flush()
        await accounts.rich(5, 10)
        await session.scalars(select(Account.id.label("paged")).limit(3).offset(1))
        await session.scalars(select(Account.id).where(Account.balance.in_([1, 2, 3])))
        many = update(Account).where(Account.name == bindparam("who")).values(balance=bindparam("what"))
        await (await session.connection()).execute(
            many, [{"who": "Ann", "what": 7}, {"who": "Bob", "what": 8}]
        )
        await session.execute(text("SELECT count(*) AS plain FROM account"))
        locks = "" if db.source.backend.dialect == "sqlite" else " FOR UPDATE"
        await session.execute(text(f"SELECT id AS locked FROM account{locks}"))


@pytest.mark.usefixtures("sent")
async def test_plans_are_told(db: Database, client: httpx.AsyncClient, observer: Observer) -> None:
    """Each statement that reads or writes rows has one; asking changes and leaves nothing."""
    before = await observer.column("SELECT balance FROM account")

    for words in (
        "name LIKE '50",
        "LIMIT",
        "AS paged",
        " IN (",
        "INSERT INTO account",
        "UPDATE account",
        "plain",
    ):
        told = await plan(client, words)
        assert told.get("lines"), (words, told)
        assert any("account" in line for line in told["lines"]) or "INSERT" in words, told["lines"]
    assert "not kept" in (await plan(client, "name LIKE '50"))["note"]
    assert (await plan(client, "plain"))["note"] == ""
    assert await observer.column("SELECT balance FROM account") == before == [7]
    assert db.pool_status().checked_out == 0
    async with db.transaction() as session:
        assert await session.scalar(select(Account.name)) == "Ann"


@pytest.mark.usefixtures("sent")
async def test_only_reads_are_run(db: Database, client: httpx.AsyncClient, observer: Observer) -> None:
    """ANALYZE is for what reads and locks nothing; SQLite has none."""
    told = await plan(client, "plain", analyze=True)
    if db.source.backend.dialect == "sqlite":
        assert "SQLite has no ANALYZE" in told["error"]
    else:
        assert any("actual" in line or "r_rows" in line for line in told["lines"]), told
    for words in ("UPDATE account", "INSERT INTO account", "AS locked"):
        refused = await plan(client, words, analyze=True)
        assert "It is not run" in refused["error"], (words, refused)
    assert await observer.column("SELECT balance FROM account") == [7]


@pytest.mark.only("postgresql", "mariadb", reason="functions of SQLite are the program's, and are not run")
@pytest.mark.parametrize("analyze", [False, True])
async def test_functions_that_may_do_more_than_compute_are_not_run(
    db: Database, client: httpx.AsyncClient, *, analyze: bool
) -> None:
    """No ROLLBACK gives back a lock that belongs to the session: it would stay with a pooled connection."""
    lock, count = {
        "postgresql": ("pg_advisory_lock(16)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
        "mysql": ("get_lock('sixteen', 1)", "SELECT IS_USED_LOCK('sixteen') IS NOT NULL"),
    }[db.source.backend.dialect]
    async with db.transaction() as session:
        await session.execute(text(f"SELECT held FROM (SELECT {lock} AS held) AS once"))
    await db.dispose()

    told = await plan(client, "once", analyze=analyze)

    assert analyze <= ("It is not run" in told.get("error", "")), told
    async with db.transaction() as session:
        assert await session.scalar(text(count)) == 0


async def test_what_has_no_plan_is_said(db: Database, client: httpx.AsyncClient) -> None:
    """A statement that the database does not plan, and one about a table that is gone, are told in words."""
    async with db.transaction() as session:
        await session.execute(text("CREATE TABLE gone (id INTEGER)"))
        await session.execute(text("SELECT id FROM gone"))
    async with db.transaction() as session:
        await session.execute(text("DROP TABLE gone"))

    assert (await plan(client, "CREATE TABLE"))["error"] == "There is no plan for CREATE."
    assert "gone" in (await plan(client, "SELECT id FROM gone"))["error"]
    assert db.pool_status().checked_out == 0
