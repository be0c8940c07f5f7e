"""This program draws the pictures of the documentation: `python -m tests.observe.pictures`.

It runs the example `panel`, and looks at its page as a person does.
"""

import asyncio
import os
import sys
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

from tests.fixtures.browsers import ARGUMENTS
from tests.fixtures.servers import chromium_program

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
MOST_BYTES = 150_000
ENOUGH = 60


async def page_of(browser: Browser, address: str, width: int, height: int, *, dark: bool) -> Page:
    """Open the page, and wait until much has happened."""
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    page = await context.new_page()
    await page.goto(address)
    await page.locator(f".trace:nth-child({ENOUGH})").wait_for()
    return page


async def save(page: Page, name: str) -> None:
    """Write what is seen."""
    file = PICTURES / f"{name}.png"
    await page.mouse.move(0, 0)
    await page.screenshot(path=file, animations="disabled")
    size = file.stat().st_size
    print(f"{file.relative_to(ROOT)}: {size:,} bytes")  # noqa: T201  # a program
    if size > MOST_BYTES:
        sys.exit(f"That is more than {MOST_BYTES:,}: choose a smaller window.")


async def draw(browser: Browser, address: str) -> None:
    """Draw each view."""
    page = await page_of(browser, address, 1120, 640, dark=False)
    await save(page, "panel-live")
    await page.locator(".trace", has_text="POST /refunds").first.locator(".head").click()
    await page.locator(".waterfall").scroll_into_view_if_needed()
    await save(page, "panel-trace")
    await page.keyboard.press("Escape")
    await page.keyboard.press("2")
    await page.locator(".cell[data-state=used]").first.wait_for()
    await page.set_viewport_size({"width": 1120, "height": 360})
    await save(page, "panel-now")
    await page.keyboard.press("3")
    await page.set_viewport_size({"width": 1120, "height": 640})
    await page.locator(".query-item .flag").first.click()
    await page.locator(".explain").first.click()
    await page.locator(".plan pre").first.wait_for()
    await save(page, "panel-queries")
    narrow = await page_of(browser, address, 360, 700, dark=True)
    await narrow.locator(".trace", has_text="POST /baskets").first.locator(".head").click()
    await save(narrow, "panel-narrow")


async def main() -> None:
    """Start the example, draw, end it."""
    chromium = chromium_program()
    if chromium is None:
        sys.exit("There is no chromium.\n  Fix: apt-get install chromium")
    PICTURES.mkdir(exist_ok=True)
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "examples" / "panel.py"),
        "--no-browser",
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert program.stdout is not None
    address = (await program.stdout.readline()).decode().split()[4]
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            await draw(browser, address)
            await browser.close()
    finally:
        program.terminate()
        await program.wait()


if __name__ == "__main__":
    asyncio.run(main())
