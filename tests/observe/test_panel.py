"""The panel tells those who may look what happens, and nobody else; while nobody looks, it does nothing."""

import asyncio
import contextlib
import gc
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text

from tests.fixtures.models import Account, Audit
from tests.fixtures.web import Exchange, Message, Web
from tests.observe.panels import ASKED, Browser, looking
from unitwork import Database, OptionError, Propagation, Repository
from unitwork.integrations.asgi import Receive, Send, UnitOfWorkMiddleware
from unitwork.observe import Panel

pytestmark = pytest.mark.only("sqlite", reason="the panel sees events, which are the same on all")

LINES = Path(__file__).read_text(encoding="utf-8").splitlines()
FILES = ("", "page.css", "page.js", "live.js", "now.js", "queries.js", "parts.js", "icon.svg")


async def answered(panel: Panel, path: str = "/", **headers: str) -> Exchange:
    """One request without a server."""
    exchange = Exchange(path)
    exchange.scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
    return await exchange.run(panel)


def test_panel_is_refused_without_a_rule(db: Database) -> None:
    """Who may look must be said; so must the Databases, and enough memory to keep anything."""
    refused: list[tuple[Callable[[], Panel], str]] = [
        (lambda: Panel(db), r"allow does not take None.*\n.*development=True"),
        (lambda: Panel(development=True), "databases"),
        (lambda: Panel("sqlite://", development=True), "databases"),  # type: ignore[arg-type]
        (lambda: Panel(db, allow="everybody"), "allow does not take 'everybody'"),  # type: ignore[arg-type]
        (lambda: Panel(db, development=True, memory_mb=0.5), "memory_mb"),
    ]
    for make, words in refused:
        with pytest.raises(OptionError, match=words):
            make()


@pytest.mark.parametrize("path", ["/", "/stream", "/state", "/explain", "/nothing"])
async def test_nobody_else_is_admitted(db: Database, path: str) -> None:
    """Whom the rule refuses, or for whom it fails, gets the same 404 everywhere; the failure is told once."""
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: heard.append(context))

    async def no(scope: Message) -> bool:
        return bool(scope["path"] == "/elsewhere")

    def fails(_scope: Message) -> bool:
        raise RuntimeError("mine")

    for panel in (Panel(db, allow=no), Panel(db, allow=lambda _scope: False), Panel(db, allow=fails)):
        for _ in range(2):
            exchange = await answered(panel, path)
            assert (list(exchange.statuses), exchange.body, exchange.raised) == ([404], b"", None)
        assert not panel.observes
    assert [str(context["exception"]) for context in heard] == ["mine"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *[
            (name, 200)
            for name in ("localhost:8000", "127.0.0.1", "[::1]:80", "web:80", "a.localhost", "10.0.0.7")
        ],
        *[(name, 404) for name in ("evil.example.com", "localhost.evil.com:80", "", "[", "1.2.3.4.evil.com")],
    ],
)
async def test_development_answers_to_local_names(db: Database, host: str, status: int) -> None:
    """A page of somebody else, whose name leads to this machine, is not answered."""
    assert (await answered(Panel(db, development=True), host=host)).statuses == [status]


async def test_page_loads_nothing_from_elsewhere(db: Database, web: Web) -> None:
    """Every file is of the panel, strict about what may run, and never kept by caches."""
    client = await web.client(Panel(db, development=True))

    for name in FILES:
        answer = await client.get(f"/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["cache-control"].startswith("no-store")
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(
            policy.split("; ")
        )
        assert "unsafe" not in policy
        assert not re.search(
            r"https?://(?!www\.w3\.org/2000/svg)|@import|innerHTML|insertAdjacentHTML", answer.text
        )
    page = (await client.get("/")).text
    assert not re.search(r"<style|style=|<script(?![^>]* src=)| on\w+=", page)
    assert (await client.head("/")).headers["content-length"] == str(len(page.encode()))
    assert (await client.get("/nothing.js")).status_code == 404
    assert (await client.post("/", headers=ASKED)).status_code == 405


async def test_stream_tells_what_happens(db: Database, web: Web) -> None:
    """Requests with their blocks, statements, lines and outcomes; what failed, and because of whom."""
    client = await web.client(Panel(db, development=True))

    @db.transactional
    async def inner() -> None:
        await Repository[Audit](db).add(Audit(note="secret"))
        raise ValueError

    async with looking(client) as known:
        async with db.unit_of_work():
            await Repository[Account](db).add(Account(name="Ann"))
        for _ in range(2):
            with pytest.raises(Exception, match="cannot commit"):
                async with db.transaction(propagation=Propagation.REQUIRED):
                    with contextlib.suppress(ValueError):
                        await inner()
        work = await known.trace("unit of work")
        block = await known.trace("the block at")

    assert (work["kind"], work["state"], work["databases"]) == ("work", "well", ["default"])
    assert [each["outcome"] for each in work["entries"] if each["kind"] == "block"] == ["COMMITTED", "JOINED"]
    (sent,) = [each for each in work["entries"] if each["kind"] == "statement" and not each["control"]]
    assert known.texts[sent["query"]].startswith("INSERT INTO account")
    assert sent["site"].startswith(f"{__file__}:")
    assert (block["state"], block["error"]) == ("failed", "UnexpectedRollbackError")
    outer, joined = [each for each in block["entries"] if each["kind"] == "block"]
    assert (outer["outcome"], joined["outcome"], joined["parent"]) == (
        "ROLLED_BACK",
        "CONDEMNED",
        outer["block"],
    )
    assert "inner" in outer["condemned_by"]
    assert all(sent["at_s"] + sent["duration_s"] <= work["duration_s"] for sent in work["entries"])
    assert "secret" not in repr(known.__dict__)


async def test_repeated_statements_are_found(db: Database, web: Web) -> None:
    """A query in a loop is told with its line, in its request and among the queries; two are no loop."""
    client = await web.client(Panel(db, development=True))

    async with looking(client) as known:
        async with db.unit_of_work():
            for number in range(60):
                await db.session.scalar(select(Account.name).where(Account.id == number))  # the loop
            for number in range(2):
                await db.session.scalar(select(Account.balance).where(Account.id == number))
        work = await known.trace("unit of work")
        state = (await client.get("/state")).json()

    (repeated,) = work["repeats"]
    assert repeated["times"] == 60
    path, _, line = repeated["site"].rpartition(":")
    assert path == __file__
    assert "# the loop" in LINES[int(line) - 1]
    assert len(work["entries"]) < 60
    most = next(each for each in state["queries"] if each["query"] == repeated["query"])
    assert (most["count"], most["repeats"]["times"], most["repeats"]["trace"]) == (60, 60, work["trace"])
    assert most["p95_s"] <= most["longest_s"]
    assert sum(most["lanes"].values()) == 60


async def test_hostile_names_are_data(db: Database, web: Web) -> None:
    """Whatever a block or statement is called, what is sent stays JSON, and no line ends too early."""
    client = await web.client(Panel(db, development=True))

    async with looking(client) as known:
        async with db.transaction() as session:
            await session.execute(text("SELECT '</script>\n\n<b>event: now' AS \"<i>\""))
        block = await known.trace("the block at")
        state = await client.get("/state")

    assert any("</script> <b>event: now" in sql for sql in known.texts.values())
    assert "<" not in state.text
    assert block["state"] == "well"


async def test_nothing_is_observed_while_nobody_looks(db: Database) -> None:
    """The Database is observed from the first look to a while after the last; `always` from the start."""
    panel = Panel(db, development=True)
    assert (panel.observes, db.source.watch.active) == (False, False)
    await answered(panel, "/page.css", host="localhost")
    assert not panel.observes

    browser = Browser(panel)
    await browser.until(lambda each: bool(each.told("now")))
    assert db.source.watch.active
    await browser.leave()
    assert panel.observes  # who loads the page again misses nothing
    panel.close()
    assert (panel.observes, db.source.watch.active) == (False, False)

    assert Panel(db, development=True, always=True).observes
    gc.collect()


async def test_own_requests_do_not_show(db: Database, web: Web) -> None:
    """The panel's page, stream and plans are not among the traces, nor the units of the middleware."""
    panel = Panel(db, development=True, always=True)
    client = await web.client(UnitOfWorkMiddleware(panel, database=db))

    await Repository[Account](db).count()
    for path in FILES:
        await client.get(f"/{path}")
    async with looking(client) as known:
        await known.until(lambda each: bool(each.traces))
        (counted,) = (await client.get("/state")).json()["queries"]
        plan = await client.post("/explain", json={"query": counted["query"]}, headers=ASKED)
        state = (await client.get("/state")).json()

    assert plan.json()["lines"]
    assert [trace["statements"] for trace in state["traces"]] == [1]
    assert state["seen"] == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**ASKED, "sec-fetch-site": "cross-site"},
        {**ASKED, "sec-fetch-site": "same-site"},
        {**ASKED, "origin": "http://evil.example.com"},
        {**ASKED, "origin": "null"},
    ],
)
async def test_other_pages_ask_for_nothing(db: Database, web: Web, headers: dict[str, str]) -> None:
    """A request to do something must come from the page itself."""
    client = await web.client(Panel(db, development=True, always=True))
    await Repository[Account](db).count()

    for path in ("/explain", "/clear"):
        assert (await client.post(path, json={"query": 1}, headers=headers)).status_code == 403
    assert (await client.get("/explain", headers=ASKED)).status_code == 405
    assert (await client.get("/state")).json()["seen"] == 1


async def test_senseless_requests_are_answered(db: Database, web: Web) -> None:
    """Whatever is asked: an answer, and nothing else happens."""
    client = await web.client(Panel(db, development=True))

    for body in (
        b"",
        b"{}",
        b"[]",
        b'{"query": "x"}',
        b'{"query": 1, "analyze": 3}',
        b"[" * 9000,
        b"1" * 20_000,
    ):
        assert (await client.post("/explain", content=body, headers=ASKED)).status_code == 400
    assert (await client.post("/explain", json={"query": 99}, headers=ASKED)).status_code == 404
    numbers = ("", "?number=x", "?number=5", "?number=-1", "?number=%FF", f"?number={'9' * 5000}")
    for path in (f"/trace{number}" for number in numbers):
        assert (await client.get(path)).status_code == 404
    async with looking(client, **{"Last-Event-ID": "x-'; DROP"}) as known:
        assert known.hello["panel"]


async def test_export_and_clear(db: Database, web: Web) -> None:
    """All that is kept is one file; cleared, nothing of it is left; one trace has an address."""
    client = await web.client(Panel(db, development=True, always=True))
    async with db.transaction():
        await Repository[Account](db).count()

    file = await client.get("/state?file")
    (trace,) = file.json()["traces"]
    assert "unitwork.json" in file.headers["content-disposition"]
    one = (await client.get(f"/trace?number={trace['trace']}")).json()
    assert one["traces"] == [trace]
    assert any("count" in each["sql"] for each in one["texts"].values())
    assert (await client.post("/clear", headers=ASKED)).json() == {}
    state = (await client.get("/state")).json()
    assert (state["traces"], state["queries"], state["memory"]["used"]) == ([], [], 0)


async def test_browser_goes_on_where_it_was(db: Database, web: Web) -> None:
    """After a lost connection only what is new is sent again; to the page of another process, all."""
    client = await web.client(Panel(db, development=True, always=True))
    async with looking(client) as known:
        async with db.transaction():
            await Repository[Account](db).count()
        await known.trace("the block at")
    await Repository[Account](db).count()

    async with looking(client, **{"Last-Event-ID": known.last_id}) as again:
        await again.until(lambda each: bool(each.traces))
    async with looking(client, **{"Last-Event-ID": "other-99"}) as anew:
        await anew.until(lambda each: bool(each.traces))

    assert "again" not in vars(again)
    assert not again.traces.keys() & known.traces.keys()
    assert (len(again.traces), len(anew.traces)) == (1, 2)


async def test_unknown_address_leads_to_the_page(db: Database, web: Web) -> None:
    """Where nobody has said where the panel is mounted, a slash at the end makes the page whole."""
    panel = Panel(db, development=True)

    async def plain(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"].startswith("/inside/unitwork"):
            await panel(scope, receive, send)

    client = await web.client(plain)
    answer = await client.get("/inside/unitwork", headers={"accept": "text/html"})

    assert (answer.status_code, answer.headers["location"]) == (307, "./unitwork/")
    assert "<title>unitwork" in (await client.get("/inside/unitwork/")).text
    assert (await client.get("/inside/unitwork/page.js")).status_code == 200


async def test_client_of_another_kind_is_told_so(db: Database) -> None:
    """A WebSocket is closed, not left open."""
    exchange = await Exchange(kind="websocket").run(Panel(db, development=True))
    assert exchange.sent == [{"type": "websocket.close", "code": 1000}]


async def test_page_of_a_stopped_server_is_not_waited_for(db: Database, web: Web) -> None:
    """`close()` ends open streams; so does the end of the application that the panel is."""
    panel = Panel(db, development=True)
    browser = Browser(panel)
    await browser.until(lambda each: bool(each.told("hello")))
    panel.close()
    await browser.end()

    async with httpx.AsyncClient() as client:
        server = await web.serve(panel)
        host, port = server.address
        async with client.stream("GET", f"http://{host}:{port}/stream") as response:
            first = await anext(response.aiter_lines())
    assert first == "retry: 1000"


@pytest.mark.every_lane
async def test_line_is_found_on_every_lane(db: Database) -> None:
    """Outside of transactions, inside, and in tasks: the line is that of the program, not of a library."""
    panel = Panel(db, development=True, always=True)
    accounts = Repository[Account](db)

    async def work() -> None:
        await accounts.all()  # line

    await work()
    await asyncio.gather(work(), asyncio.create_task(work()))
    async with db.transaction():
        await work()
    async with db.transaction(read_only=True):
        await work()

    state = json.loads((await answered(panel, "/state", host="localhost")).body)
    (asked,) = state["queries"]
    (site,) = asked["sites"]
    path, _, line = site.rpartition(":")
    assert path == __file__
    assert LINES[int(line) - 1].endswith("# line")
    assert asked["sites"][site] == 5
    panel.close()
