"""The same shop answers the same in every framework, under a real server on a real socket."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from tests.fixtures.web import Web
from tests.integrations.apps import (
    aiohttp_app,
    django_app,
    fastapi_app,
    litestar_app,
    quart_app,
    starlette_app,
)
from tests.integrations.apps.shop import Shop
from tests.integrations.promises_of_requests import *  # noqa: F403 - the tests themselves
from tests.integrations.promises_of_requests import Build

APPLICATIONS = {
    "starlette": starlette_app.app,
    "fastapi": fastapi_app.app,
    "litestar": litestar_app.app,
    "quart": quart_app.app,
    "django": django_app.app,
    "aiohttp": aiohttp_app.app,
}
# Those that run background work after the response. Django has none; Quart starts it at once.
WITH_BACKGROUND_TASKS = ["starlette", "fastapi", "litestar"]


@pytest.fixture(params=APPLICATIONS)
def build(request: pytest.FixtureRequest) -> Iterator[Build]:
    """Builds the application of one framework."""
    yield APPLICATIONS[request.param]
    django_app.close_bodies()


@pytest.mark.parametrize("build", WITH_BACKGROUND_TASKS, indirect=True)
async def test_background_task_opens_its_own(shop: Shop, build: Build, web: Web, observer: Observer) -> None:
    """A background task finds no session and no connection held, and opens a block of its own."""
    client = await web.client(build(shop))

    answer = await client.post("/background/ann")
    async with asyncio.timeout(10):
        while not await observer.notes(Audit):  # noqa: ASYNC110 - the other side of a socket has no event
            await asyncio.sleep(0.01)

    assert answer.is_success
    assert await observer.notes(Audit) == ["ann"]
    assert shop.heard[0].split() in (["TransactionEndedError", "0"], ["NoTransactionError", "0"])
