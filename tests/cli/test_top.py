"""`unitwork top` shows in a terminal what a panel knows, or says why it cannot."""

import asyncio
import json
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import select

from tests.fixtures.commands import command_runner
from tests.fixtures.models import Account
from tests.fixtures.web import Web
from unitwork import Database, Repository
from unitwork.cli import main
from unitwork.observe import Panel

pytestmark = pytest.mark.only("sqlite", reason="the panel sees events, which are the same on all")


async def top(address: str, *arguments: str) -> Result:
    """Run the command beside the server, in a wide terminal."""
    runner = command_runner(env={"COLUMNS": "160"})
    command = ["top", "--once", "--url", address, *arguments]
    return await asyncio.to_thread(runner.invoke, main, command)


async def serve(web: Web, app: Any) -> str:  # noqa: ANN401  # any application
    """Serve an application; return its address."""
    host, port = (await web.serve(app)).address
    return f"http://{host}:{port}"


def answering(status: int, body: bytes = b"", *headers: tuple[bytes, bytes]) -> Any:  # noqa: ANN401  # as above
    """An application that always gives this answer."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401  # as ASGI has them
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": status, "headers": list(headers)})
            await send({"type": "http.response.body", "body": body})

    return app


async def test_top_shows_what_the_page_shows(db: Database, web: Web) -> None:
    """Connections, requests, failures, loops and statements; nothing in a name controls the terminal."""
    address = await serve(web, Panel(db, development=True, always=True))

    async with db.unit_of_work():
        for number in range(4):
            await db.session.scalar(select(Account.name).where(Account.id == number))
    with pytest.raises(ValueError, match="no"):
        async with db.transaction() as session:
            await session.execute(select(Account.id.label("red\x1b[31m")))
            raise ValueError("no")
    async with db.transaction():
        await Repository[Account](db).count()
        done = await top(f"{address}/#/live")

    assert done.exit_code == 0, done.output
    for words in (
        "1 of 15 in use",
        "unit of work at",
        "\N{MULTIPLICATION SIGN}4",
        "ValueError",
        "SELECT account.name",
    ):
        assert words in done.stdout
    assert "\x1b" not in done.stdout
    assert not done.stderr


async def test_top_says_who_it_is(db: Database, web: Web) -> None:
    """Headers are sent; without them, a panel with a rule is not there."""

    def known(scope: Any) -> bool:  # noqa: ANN401  # as ASGI has it
        return (b"authorization", b"Bearer secret") in scope["headers"]

    address = await serve(web, Panel(db, allow=known))
    refused = await top(address)
    admitted = await top(address, "--header", "Authorization: Bearer secret")

    assert (refused.exit_code, admitted.exit_code) == (1, 0), admitted.output
    assert "does not admit you (404)" in refused.stderr
    assert "--header" in refused.stderr


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (answering(200, b"<html>"), "What answers is no panel."),
        (answering(200, json.dumps([]).encode()), "What answers is no panel."),
        (answering(401), "asks who you are (401)"),
        (answering(302, b"", (b"location", b"https://evil.example.com/")), "that is not followed"),
        (answering(500), "answers 500"),
    ],
    ids=["html", "other JSON", "refused", "redirect", "failure"],
)
async def test_top_says_what_is_wrong(web: Web, app: Any, words: str) -> None:  # noqa: ANN401  # as above
    """Whatever answers instead of a panel is told in a sentence, with the address."""
    address = await serve(web, app)
    done = await top(address, "--header", "Authorization: Bearer secret")

    assert done.exit_code == 1
    assert words in done.stderr
    assert address in done.stderr
    assert "secret" not in done.output


@pytest.mark.parametrize(
    ("address", "arguments", "code", "words"),
    [
        ("http://127.0.0.1:1/unitwork", [], 1, "Nobody answers"),
        ("localhost:8000", [], 2, "http://localhost:8000/unitwork"),
        ("http://localhost", ["--header", "secret"], 2, "'Name: value'"),
    ],
)
async def test_top_refuses_what_it_cannot_ask(
    address: str, arguments: list[str], code: int, words: str
) -> None:
    """A wrong address or header is refused before anything is sent; a secret is not repeated."""
    done = await top(address, *arguments)

    assert (done.exit_code, "secret" in done.output) == (code, False)
    assert words in done.stderr
