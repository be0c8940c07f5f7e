"""What a person sees of the panel in a real browser, and does there by mouse and keyboard."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest
from playwright.async_api import Page, expect
from sqlalchemy import select, text
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.fixtures.browsers import TIMEOUT_MS, Eyes
from tests.fixtures.models import Account, Audit
from tests.fixtures.web import Exchange, Web
from unitwork import Database, Propagation, Repository
from unitwork.integrations.asgi import Receive, Send, UnitOfWorkMiddleware
from unitwork.observe import Panel

pytestmark = pytest.mark.only("sqlite", reason="the panel sees events, which are the same on all")
expect.set_options(TIMEOUT_MS)

HOSTILE = "<img src=x onerror=alert(1)>"
SEVEN_TIMES = "\N{MULTIPLICATION SIGN}7"


class Shop:
    """A program with a panel, and its address. Lives: one test."""

    def __init__(self, db: Database, address: str) -> None:
        self.db = db
        self.address = address
        self.accounts = Repository[Account](db)
        self.audit = Repository[Audit](db)
        self.join = db.transactional(self._join)
        self.fail = db.transactional(self._fail)
        self.note = db.transactional(propagation=Propagation.REQUIRES_NEW)(self._note)

    async def request(self, path: str, work: Callable[[], Awaitable[object]], method: str = "POST") -> None:
        """Answer one request."""

        async def answer(_scope: object, _receive: Receive, send: Send) -> None:
            await work()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        await Exchange(path, method).run(UnitOfWorkMiddleware(answer, database=self.db))

    async def _join(self) -> None:
        number = await self.accounts.count()
        await self.accounts.add(Account(name=f"customer {number}"))

    async def _fail(self) -> None:
        await self.audit.add(Audit(note="x"))
        raise LookupError

    async def _note(self) -> None:
        await self.audit.add(Audit(note="x"))

    async def buy(self) -> None:
        """A joined block, a savepoint that is kept, and one that is undone."""
        await self.join()
        for ends_well in (True, False):
            with contextlib.suppress(LookupError):
                async with self.db.transaction(propagation=Propagation.NESTED):
                    await self.accounts.count()
                    await (self.join if ends_well else self.fail)()

    async def condemn(self) -> None:
        """Go on after a joined block has failed."""
        with contextlib.suppress(LookupError):
            await self.fail()

    async def loop(self) -> None:
        """Ask again and again."""
        for number in range(7):
            await self.db.session.scalar(select(Account.name).where(Account.id == number))


@pytest.fixture
async def shop(db: Database, web: Web) -> Shop:
    """A program that serves its panel."""
    panel = Panel(db, development=True, always=True)
    host, port = (await web.serve(Starlette(routes=[Mount("/unitwork", panel)]))).address
    return Shop(db, f"http://{host}:{port}/unitwork")


def traces(page: Page, words: str = "") -> Any:  # noqa: ANN401  # a locator
    """The rows of the list with these words."""
    return page.locator(".trace", has_text=words)


async def test_request_appears_and_opens(eyes: Eyes, shop: Shop) -> None:
    """A request shows as it happens; opened, its blocks, statements and ends; by a link, again."""
    page = await eyes.look(shop.address)
    await expect(page.get_by_text("Nothing has happened yet")).to_be_visible()
    await expect(page.locator("#status")).to_have_text("live")

    await shop.request("/orders", shop.buy)
    row = traces(page, "POST /orders")
    await expect(row.get_by_role("img", name="committed")).to_be_visible()
    await row.get_by_role("button").first.click()

    lines = row.locator(".line")
    await expect(lines.filter(has_text="Shop._join").first).to_contain_text("REQUIRED → joins")
    for name in ("savepoint kept", "undone to the savepoint", "left to the outer transaction"):
        await expect(row.get_by_role("img", name=name).first).to_be_visible()
    await expect(row).to_contain_text("LookupError")
    await expect(row.locator(".reasons")).to_contain_text("could only be undone, because of Shop._fail")
    assert re.search(r"/unitwork/#/live/\d+$", page.url)
    # A nested bar lies inside of the bar around it.
    bars = row.locator(".waterfall .mark[data-kind=block]")
    outer, inner = await bars.nth(0).bounding_box(), await bars.nth(2).bounding_box()
    assert outer is not None
    assert inner is not None
    assert outer["x"] <= inner["x"]
    assert inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 1

    insert = lines.filter(has_text="INSERT INTO account").first
    await insert.get_by_role("cell").first.click()
    await expect(insert).to_contain_text("test_panel_in_browser.py:")
    await page.reload()
    await expect(lines.filter(has_text="COMMIT")).to_be_visible()


async def test_failures_say_why(eyes: Eyes, shop: Shop) -> None:
    """What was condemned says by whom; it is told from others by its shape, and by the chip."""
    page = await eyes.look(shop.address)
    await shop.request("/refund", shop.condemn)
    await shop.request("/plain", shop.join)

    row = traces(page, "POST /refund")
    await expect(row.get_by_role("img", name="rolled back")).to_be_visible()
    await page.get_by_role("button", name="Failed").click()
    await expect(traces(page)).to_have_count(1)
    await row.get_by_role("button").first.click()
    await expect(row.locator(".reasons")).to_contain_text("could only be undone, because of Shop._fail")
    await expect(row.get_by_role("img", name="failed: what it joined must be undone").first).to_be_visible()
    await expect(page.locator(".figures")).to_contain_text("1 failed")


async def test_hostile_names_are_text(eyes: Eyes, shop: Shop) -> None:
    """HTML in a path, a name, a statement or an error is shown, and does nothing."""
    error = type(HOSTILE, (Exception,), {})
    hostile = type(HOSTILE, (), {})

    async def work() -> None:
        async with shop.db.transaction() as session:
            await session.execute(text(f"SELECT '{HOSTILE}' AS \"{HOSTILE}\""))
        raise error

    work.__qualname__ = hostile.__name__
    page = await eyes.look(shop.address)
    await shop.request(f"/{HOSTILE}", shop.db.transactional(work))
    row = traces(page, f"/{HOSTILE}")
    await row.get_by_role("button").first.click()
    statement = row.locator(".line", has_text=f"SELECT '{HOSTILE}'")
    await statement.get_by_role("cell").first.click()
    await expect(row.locator(".facts").first).to_contain_text(HOSTILE)
    await page.keyboard.press("3")
    await page.locator(".query-item", has_text=HOSTILE).get_by_role("button").first.click()
    await expect(page.locator(".query-item .whole")).to_contain_text(HOSTILE)
    await page.fill("#filter", HOSTILE)
    await expect(page.locator(".query-item")).to_have_count(1)
    assert await page.locator("img[src=x], [onerror]").count() == 0


async def test_hands_on_the_keyboard(eyes: Eyes, shop: Shop) -> None:
    """Views, filter, pause, next and help are keys; what is held appears when it goes on."""
    page = await eyes.look(shop.address)
    for path in ("/first", "/second"):
        await shop.request(path, shop.join)
    await expect(traces(page)).to_have_count(2)

    await page.keyboard.press("/")
    await page.keyboard.type("first")
    await expect(traces(page)).to_have_count(1)
    await page.keyboard.press("Escape")
    await expect(traces(page)).to_have_count(2)
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(traces(page, "/first").locator(".waterfall")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator(".waterfall")).to_have_count(0)

    await page.keyboard.press("p")
    await expect(page.locator("#status")).to_have_text("held")
    await shop.request("/third", shop.join)
    await expect(page.get_by_role("button", name="1 newer one: show it")).to_be_visible()
    await expect(traces(page)).to_have_count(2)
    await page.keyboard.press("p")
    await expect(traces(page, "/third")).to_be_visible()

    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_contain_text("outcome unknown")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Clear").click()
    await expect(page.get_by_text("Nothing has happened yet")).to_be_visible()
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Export").click()
    assert (await download.value).suggested_filename == "unitwork.json"


async def test_now_shows_who_holds_and_who_waits(eyes: Eyes, shop: Shop) -> None:
    """Each connection is a cell; who has it, where it was opened, what it sent last, and who waits for it."""
    page = await eyes.look(f"{shop.address}/#/now")
    release = asyncio.Event()

    async def hold() -> None:
        async with shop.db.transaction():
            await shop.accounts.count()
            await release.wait()

    tasks = [asyncio.create_task(hold()) for _ in range(2)]
    card = page.locator(".card", has_text="default")
    await expect(card.locator(".cell[data-state=used]")).not_to_have_count(0)
    await expect(card).to_contain_text("test_panel_in_browser.py:")
    await expect(card).to_contain_text("SELECT count(*)")
    await expect(card).to_contain_text("Waiting to write")
    release.set()
    await asyncio.gather(*tasks)
    await expect(card.locator(".cell[data-state=used]")).to_have_count(0)
    await shop.db.dispose()
    await expect(card).to_contain_text("disposed of")


async def test_queries_show_the_loop_and_its_plan(eyes: Eyes, shop: Shop) -> None:
    """A repeated statement has its number, its line, its plan, and the way to its request."""
    page = await eyes.look(f"{shop.address}/#/queries")
    await shop.request("/list", shop.loop, "GET")
    await shop.request("/orders", shop.buy)

    await page.get_by_role("button", name="Repeated").click()
    item = page.locator(".query-item")
    await expect(item).to_have_count(1)
    await expect(item).to_contain_text(SEVEN_TIMES)
    await item.get_by_role("button").first.click()
    await expect(item).to_contain_text("test_panel_in_browser.py:")
    await item.get_by_role("button", name="Explain").click()
    await expect(item.locator("pre")).to_contain_text("SEARCH account USING INTEGER PRIMARY KEY")
    await expect(item).to_contain_text("The values were not kept")
    await item.get_by_role("link", name="show it").click()
    await expect(traces(page, "GET /list").locator(".reasons")).to_contain_text("again and again")
    assert shop.db.pool_status().checked_out == 0


async def test_flood_is_told(eyes: Eyes, shop: Shop) -> None:
    """With more requests than can be shown the page stays alive, and says how many it has passed over."""
    page = await eyes.look(shop.address)
    for _ in range(20):
        for _each in range(100):
            async with shop.db.transaction():
                await shop.accounts.count()
        await asyncio.sleep(0)
    await expect(page.locator(".lost")).to_contain_text("too fast to be shown here")
    await shop.request("/after", shop.join)
    await expect(traces(page, "/after")).to_be_visible()
    assert await page.locator(".trace").count() <= 200


async def test_lost_server_is_told(eyes: Eyes, db: Database, web: Web) -> None:
    """A page whose program has ended says so, keeps what it shows, and goes on when it is back."""
    panel = Panel(db, development=True)
    host, port = (server := await web.serve(panel)).address
    page = await eyes.look(f"http://{host}:{port}/")
    await expect(page.locator("#status")).to_have_text("live")
    async with db.transaction():
        await Repository[Account](db).count()
    await expect(traces(page)).to_have_count(1)
    panel.close()
    await server.stop()
    await expect(page.locator("#status")).to_have_text("not connected")
    await expect(traces(page)).to_have_count(1)
    eyes.complaints.clear()  # that nobody answers


SIZES: list[tuple[int, int, Literal["light", "dark"]]] = [
    (360, 740, "light"),
    (1280, 800, "dark"),
    (1280, 800, "light"),
    (3840, 2160, "dark"),
]


async def test_page_fits(eyes: Eyes, shop: Shop) -> None:
    """On a telephone and on a wall, light and dark: nothing is cut off, and text can be read."""
    for _ in range(3):
        await shop.request("/orders", shop.buy)
        await shop.request("/basket/items/" + "long" * 12, shop.join)
        await shop.request("/refunds", shop.condemn)
        await shop.request("/list", shop.loop, "GET")

    async with shop.db.transaction(read_only=True):
        await shop.accounts.count()
        for width, height, scheme in SIZES:
            page = await eyes.look(shop.address, width, height, scheme)
            await _views_fit(page)
            await page.close()


async def _views_fit(page: Page) -> None:
    await expect(traces(page, "GET /list")).to_have_count(3)
    await _fits(page)
    await traces(page, "POST /orders").first.get_by_role("button").first.click()
    await expect(page.locator(".waterfall .line").last).to_be_visible()
    await _fits(page)
    await page.keyboard.press("2")
    await expect(page.locator(".cell[data-state=used]")).to_have_count(1)
    await _fits(page)
    await page.keyboard.press("3")
    item = page.locator(".query-item", has_text=SEVEN_TIMES)
    await item.get_by_role("button").first.click()
    await item.get_by_role("button", name="Explain").click()
    await expect(item.locator("pre")).to_be_visible()
    await _fits(page)


async def _fits(page: Page) -> None:
    wide, small = await page.evaluate(
        """() => [
          document.documentElement.scrollWidth - innerWidth,
          Math.min(...[...document.querySelectorAll("main *")]
            .filter((each) => each.offsetParent && each.textContent)
            .map((each) => parseFloat(getComputedStyle(each).fontSize))),
        ]"""
    )
    assert wide <= 0
    assert small >= 10
