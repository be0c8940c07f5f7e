"""This module holds the promises of requests, which every framework is tested for.

Who imports it has a fixture `build`, which builds the shop in one framework.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.fixtures.models import Account
from tests.fixtures.observer import Observer
from tests.fixtures.web import Web
from tests.integrations.apps.shop import Shop
from unitwork import Database

Build = Callable[[Shop], Any]


@pytest.fixture
def shop(db: Database) -> Shop:
    """The functions below the endpoints."""
    return Shop(db)


async def test_request_is_one_transaction(shop: Shop, build: Build, web: Web, observer: Observer) -> None:
    """What the functions of a request write is committed when its success is answered."""
    client = await web.client(build(shop))

    answer = await client.post("/create/ann")

    assert answer.status_code == 201
    assert await observer.names(Account) == ["ann"]


async def test_block_inside_a_request_commits(shop: Shop, build: Build, web: Web, observer: Observer) -> None:
    """A transaction block inside a request commits on the session of the request."""
    client = await web.client(build(shop))

    answer = await client.post("/register/ann")

    assert answer.is_success
    assert await observer.names(Account) == ["ann"]


@pytest.mark.parametrize("refusal", [("/refused/ann", 409), ("/broken/ann", 500)])
async def test_error_answer_rolls_back(
    shop: Shop, build: Build, web: Web, observer: Observer, refusal: tuple[str, int]
) -> None:
    """An error of the framework's own kind, and an exception, leave nothing behind."""
    path, status = refusal
    client = await web.client(build(shop))

    answer = await client.post(path)

    assert answer.status_code == status
    assert await observer.names(Account) == []
    assert shop.held() == 0


async def test_failing_commit_is_never_a_success(
    shop: Shop, build: Build, web: Web, observer: Observer
) -> None:
    """When the work cannot be stored at the end of the request, the client hears of it."""
    await observer.run("INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)")
    client = await web.client(build(shop))

    answer = await client.post("/unsent/ann")

    assert answer.status_code == 500
    assert await observer.names(Account) == ["ann"]
    assert (await client.post("/unsent/bob")).is_success
    assert await observer.names(Account) == ["ann", "bob"]


async def test_commit_and_close_by_hand_and_go_on(
    shop: Shop, build: Build, web: Web, observer: Observer
) -> None:
    """A handler may commit and close early; what it does afterwards is committed at the end."""
    client = await web.client(build(shop))

    answer = await client.post("/early/ann")

    assert (answer.is_success, answer.text) == (True, "0")
    assert await observer.names(Account) == ["ann", "ann-late"]


@pytest.mark.parametrize("path", ["/nothing", "/read"])
async def test_request_holds_nothing_without_a_transaction(
    shop: Shop, build: Build, web: Web, path: str
) -> None:
    """A request that asks nothing, or has read through a repository, holds no connection."""
    client = await web.client(build(shop))

    answer = await client.get(path)

    assert (answer.status_code, answer.text) == (200, "0")


async def test_streaming_body_holds_nothing(shop: Shop, build: Build, web: Web, observer: Observer) -> None:
    """The transaction of the request has ended before its body streams, and has no session for it."""
    await observer.run("INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)")
    client = await web.client(build(shop))

    count, held, error = (await client.get("/stream")).text.split()

    assert (count, held) == ("1", "0")
    assert error in ("TransactionEndedError", "NoTransactionError")


async def test_many_requests_at_once_each_have_their_own(
    shop: Shop, build: Build, web: Web, observer: Observer
) -> None:
    """Requests at the same time never see each other's session: answers and rows agree."""
    client = await web.client(build(shop))
    kinds = ["create", "refused", "broken", "register"]

    answers = await asyncio.gather(*(client.post(f"/{kinds[number % 4]}/{number}") for number in range(40)))

    stored = {str(number) for number, answer in enumerate(answers) if answer.is_success}
    assert len(stored) == 20
    assert set(await observer.names(Account)) == stored
    assert shop.held() == 0
