"""However much happens, and however slowly somebody looks, the panel stays small and harms nobody."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hypercorn.middleware import DispatcherMiddleware
from litestar import Litestar
from litestar.handlers import asgi
from quart import Quart
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.fixtures.models import Account
from tests.fixtures.web import Web
from tests.observe.panels import Browser, looking
from unitwork import Database, Repository
from unitwork.events import (
    BlockCondemned,
    BlockEnded,
    BlockEntered,
    BlockRetried,
    ConnectionReturned,
    ConnectionTaken,
    ErrorSwallowed,
    Event,
    HookRan,
    Outcome,
    PoolTimedOut,
    ServerChosen,
    StatementExecuted,
    TurnAwaited,
    WorkEnded,
    WorkStarted,
)
from unitwork.observe import Panel
from unitwork.observe.panel.journal import Journal
from unitwork.observe.panel.traces import READ_AT_ONCE

pytestmark = pytest.mark.only("sqlite", reason="the panel sees events, which are the same on all")

ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000


def request(number: int, sql: str = "SELECT 1") -> list[Event]:
    """What one request tells."""
    return [
        WorkStarted(number, "main", f"the request GET /{number}"),
        BlockEntered(number, None, "main", "block", "REQUIRED", "new transaction", False, None, number),  # noqa: FBT003
        StatementExecuted(number, "main", sql, 0.001, None, work_id=number),
        BlockEnded(number, "main", Outcome.COMMITTED, 0.002, None),
        WorkEnded(number, "main", 0.002, None),
    ]


def tell(journal: Journal, *events: Event) -> None:
    """Tell a journal, as a Database does."""
    for event in events:
        journal.notice(event)


def test_one_long_job_keeps_to_its_memory() -> None:
    """However many blocks and texts it has: their number and its end are told, and others have room."""
    journal = Journal(MEGABYTE)
    tracemalloc.start()
    began, *_, ended = request(1)
    tell(journal, began)
    for number in range(10, 4_000):
        _, entered, sent, left, _ = request(number, f"SELECT {number} /* {'x' * 500} */")
        assert isinstance(entered, BlockEntered)
        assert isinstance(sent, StatementExecuted)
        tell(journal, replace(entered, work_id=1), replace(sent, work_id=1), left)
    used, _most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    tell(journal, ended, *request(2))
    job, other = journal.newest()["traces"]

    assert used < 4 * MEGABYTE
    assert (job["statements"], job["state"], other["state"]) == (3_990, "well", "well")
    assert job["left_out"] > 5_000
    assert len(job["entries"]) + job["left_out"] == 2 * 3_990


def test_journal_keeps_to_its_memory() -> None:
    """Of 20,000 requests with texts of their own the newest are kept, in the bytes that were allowed."""
    journal = Journal(2 * MEGABYTE)
    reader = journal.open_reader()

    for number in range(1, 20_001):
        tell(journal, *request(number, f"SELECT {number} /* {'x' * 500} */"))
    told = journal.read(reader)
    kept = journal.newest()["traces"]

    assert journal.size <= 2 * MEGABYTE
    assert len(json.dumps(kept)) < 8 * MEGABYTE
    assert kept[-1]["name"] == "the request GET /20000"
    assert journal.seen == 20_000 == journal.forgotten + len(kept)
    # A reader gets the newest, and is told how many he did not get.
    assert told is not None
    assert len(told["traces"]) == READ_AT_ONCE
    assert told["traces"][-1]["trace"] == 20_000
    assert told["passed_over"] + READ_AT_ONCE == 20_000
    assert journal.read(reader) is None


def test_one_trace_without_end_is_bounded() -> None:
    """A job that sends a million statements keeps its beginning; texts too long to keep are cut."""
    journal = Journal(4 * MEGABYTE)
    tell(journal, WorkStarted(1, "main", "job"))
    for number in range(5_000):
        tell(journal, StatementExecuted(None, "main", f"SELECT {number % 7}", 0.0, None, work_id=1))
        tell(journal, StatementExecuted(None, "main", f"DELETE FROM t{number % 3000}", 0.0, None, work_id=1))
    tell(journal, StatementExecuted(None, "main", "SELECT '" + "x" * MEGABYTE + "'", 0.0, None))

    job, long = journal.newest()["traces"]
    assert (job["statements"], len(job["entries"])) == (10_000, 2_000)
    assert job["left_out"] > 0
    assert max(len(each["sql"]) for each in journal.newest()["texts"].values()) <= 20_000
    assert journal.size <= 4 * MEGABYTE
    assert long["statements"] == 1


def test_events_out_of_order_are_borne() -> None:
    """Ends without beginnings, beginnings without ends, and unknown kinds of events are no failure."""
    journal = Journal(2 * MEGABYTE)
    started, entered, sent, ended, done = request(7)

    tell(journal, done, ended, sent, done)
    tell(journal, started, started, entered, sent)
    journal.clear()
    tell(journal, sent, ended, done)
    tell(journal, *request(8)[:3])
    journal.rest()
    tell(journal, *request(8)[3:], object())  # type: ignore[arg-type]  # a kind of a later version

    kept = journal.newest()["traces"]
    assert [trace["state"] for trace in kept] == ["well", "well"]
    assert kept[-1]["name"] == "the request GET /8 (its end was not seen)"


def test_each_kind_of_event_has_its_place() -> None:
    """Waits, servers, hooks, retries, condemnations and errors that nobody has raised are all told."""
    journal = Journal(2 * MEGABYTE)
    started, entered, sent, ended, done = request(5)
    tell(
        journal,
        started,
        ConnectionTaken(None, "main", 1, None, 0.25, opened=True),
        entered,
        ServerChosen(5, "main", "replica:5432", "primary", "no replica is new enough", 0.05),
        ConnectionTaken(5, "main", 2, "replica:5432", 0.125, opened=False),
        TurnAwaited(5, "main", 0.5, "task 'x'"),
        sent,
        BlockCondemned(5, "main", "shop.inner", "ValueError"),
        BlockRetried(5, "main", 2, 0.01, "DeadlockError"),
        HookRan(5, "main", "before commit", "shop.check", 0.001, None),
        ended,
        done,
        PoolTimedOut(None, "main", None, 30.0),
        ErrorSwallowed("main", "a hook", "OSError"),
        ErrorSwallowed("main", "a hook", "OSError"),
        ConnectionReturned("main", 2, None, 0.5, discarded=False),
    )

    work, wait = journal.newest()["traces"]
    told = {each["kind"]: each.get("text") for each in work["entries"]}
    assert told.keys() == {"block", "server", "connection", "turn", "statement", "condemned", "retry", "hook"}
    assert told["server"] == "primary replica:5432: no replica is new enough"
    assert [each["duration_s"] for each in work["entries"] if each["kind"] == "connection"] == [0.125, 0.25]
    assert (work["entries"][0]["condemned_by"], work["entries"][0]["attempt"]) == ("shop.inner", 2)
    assert (wait["state"], wait["error"]) == ("failed", "PoolTimedOut")
    assert journal.errors() == [{"database": "main", "place": "a hook", "error": "OSError", "times": 2}]


def test_threads_tell_at_once() -> None:
    """Databases may be used in several threads; nothing is lost."""
    journal = Journal(20 * MEGABYTE)
    reader = journal.open_reader()

    def work(first: int) -> None:
        for number in range(first, first + 500):
            tell(journal, *request(number))

    threads = [threading.Thread(target=work, args=(first,)) for first in (1, 1_001, 2_001, 3_001)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        journal.read(reader)
    kept = journal.newest()["traces"]
    assert len(kept) == 2_000
    assert {trace["state"] for trace in kept} == {"well"}


async def test_slow_reader_holds_nothing_up(db: Database) -> None:
    """A browser that takes nothing costs a bounded number of traces, and nobody waits for it."""
    panel = Panel(db, development=True)
    slow, quick = Browser(panel), Browser(panel)
    for browser in (slow, quick):
        await browser.until(lambda each: bool(each.told("now")))
    slow.reads.clear()

    for _ in range(3 * READ_AT_ONCE):
        async with db.transaction():
            await Repository[Account](db).count()
    await quick.until(lambda each: _newest(each) == 3 * READ_AT_ONCE)
    slow.reads.set()
    await slow.until(lambda each: _newest(each) == 3 * READ_AT_ONCE)

    assert sum(len(told["traces"]) for told in slow.told("traces")) < 3 * READ_AT_ONCE
    assert sum(told["passed_over"] for told in slow.told("traces")) > 0
    for browser in (slow, quick):
        await browser.leave()


@pytest.mark.parametrize("ends", ["the panel", "the browser"])
async def test_who_reads_no_more_is_not_waited_for(db: Database, ends: str) -> None:
    """A computer that sleeps keeps no place among those who look, and no panel from its end."""
    panel = Panel(db, development=True)
    asleep = Browser(panel)
    await asleep.until(lambda each: bool(each.told("now")))
    asleep.reads.clear()
    async with db.transaction():
        await Repository[Account](db).count()
    await asyncio.sleep(0.3)  # it is sent by then; without that the test proves less

    if ends == "the panel":
        panel.close()
    else:
        asleep.exchange.gone.set()
    await asyncio.wait_for(asleep.end(), 10)

    assert repr(panel) == "<Panel of 'default': nobody looks>"
    panel.close()


def _newest(browser: Browser) -> int:
    ended = [
        each["trace"] for told in browser.told("traces") for each in told["traces"] if each["duration_s"]
    ]
    return max(ended, default=0)


async def test_browser_goes_away(db: Database) -> None:
    """In the middle of the stream, or while something is sent to it: nothing is left of it."""
    panel = Panel(db, development=True)
    browser = Browser(panel)
    await browser.until(lambda each: bool(each.told("now")))
    await browser.leave()

    async def lost(_message: object) -> None:
        raise ConnectionResetError

    async def never() -> Any:  # noqa: ANN401  # as ASGI has it
        await asyncio.Event().wait()

    await panel(browser.exchange.scope, never, lost)
    assert repr(panel) == "<Panel of 'default': nobody looks>"
    panel.close()


async def test_database_may_end_while_somebody_looks(db: Database, web: Web) -> None:
    """A Database that is disposed of is told as such, not opened again; used again, it shows again."""
    client = await web.client(Panel(db, development=True))
    async with looking(client) as known:
        await db.dispose()
        await known.until(lambda each: bool(each.now) and each.now["databases"][0]["closed"])
        assert db.pool_status().idle == 0
        async with db.transaction():
            await Repository[Account](db).count()
        await known.trace("the block at")


async def mounted(kind: str, panel: Panel) -> Any:  # noqa: ANN401  # each framework has types of its own
    """An application with the panel in it."""
    if kind == "starlette":
        return Starlette(routes=[Mount("/in/unitwork", panel)])
    if kind == "fastapi":
        app = FastAPI()
        app.mount("/in/unitwork", panel)
        return app
    if kind == "litestar":
        return Litestar([asgi("/in/unitwork", is_mount=True, copy_scope=True)(panel.__call__)])
    quart = Quart(__name__)
    return DispatcherMiddleware({"/in/unitwork": panel, "": quart})


@pytest.mark.parametrize("kind", ["starlette", "fastapi", "litestar", "quart"])
async def test_panel_works_wherever_it_is_mounted(db: Database, web: Web, kind: str) -> None:
    """A person who types the address without a slash gets the page, and the page what lies beside it."""
    client = await web.client(await mounted(kind, Panel(db, development=True)))

    page = await client.get("/in/unitwork", headers={"accept": "text/html"}, follow_redirects=True)
    assert (page.status_code, page.url.path) == (200, "/in/unitwork/"), page.text
    for name in ("page.css", "page.js", "state"):
        assert (await client.get(page.url.join(name))).status_code == 200
    client.base_url = page.url
    async with looking(client) as known:
        await Repository[Account](db).count()
        await known.until(lambda each: bool(each.traces))


def test_example_serves_until_it_is_stopped(tmp_path: Path) -> None:
    """`unitwork examples panel` serves until Ctrl-C; an open page does not hold it up."""
    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "unitwork", "examples", "panel", "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        start_new_session=True,
    )
    assert program.stdout is not None
    address = program.stdout.readline().split()[4]
    with urllib.request.urlopen(f"{address}stream", timeout=20) as stream:  # noqa: S310  # our own
        assert any(b"plants" in line for line in iter(stream.readline, b""))
        # As a terminal does: all that it has started are told.
        os.killpg(program.pid, signal.SIGINT)
        rest, errors = program.communicate(timeout=20)

    assert (program.returncode, rest, errors) == (0, "", "")
    assert not list(tmp_path.iterdir())
