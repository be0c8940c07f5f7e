"""The example application in FastAPI does what its endpoints say."""

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator, Iterator
from types import ModuleType

import httpx
import pytest

from tests.fixtures.web import Server
from unitwork import Base


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The program, imported in an empty folder: that is where its database is."""
    with contextlib.chdir(tmp_path_factory.mktemp("shop")):
        yield importlib.import_module("examples.fastapi_app")


@pytest.fixture
async def client(shop: ModuleType) -> AsyncIterator[httpx.AsyncClient]:
    """The application under a real server; its tables are dropped afterwards."""
    server = Server(shop.app)
    await server.start()
    host, port = server.address
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client:
        yield client
    await server.stop()
    async with shop.db:
        await shop.db.drop_all(Base)


async def account(client: httpx.AsyncClient, owner: str, balance: int = 0) -> int:
    """Open an account; return its number."""
    answer = await client.post("/accounts", json={"owner": owner, "balance": balance})
    number: int = answer.json()["id"]
    return number


async def balances(client: httpx.AsyncClient, *numbers: int) -> list[int]:
    """The balances of these accounts."""
    return [(await client.get(f"/accounts/{number}")).json()["balance"] for number in numbers]


async def test_account_is_opened_and_shown(client: httpx.AsyncClient) -> None:
    """What was created can be read."""
    answer = await client.post("/accounts", json={"owner": "ann", "balance": 7})

    assert answer.status_code == 201
    assert (await client.get(f"/accounts/{answer.json()['id']}")).json() == answer.json()
    assert (await client.get("/accounts/999")).status_code == 404


async def test_taken_name_is_a_conflict(client: httpx.AsyncClient) -> None:
    """A constraint answers 409, whether it fails in the handler or with the COMMIT."""
    ann = await account(client, "ann")
    await account(client, "bob")

    created = await client.post("/accounts", json={"owner": "bob"})
    renamed = await client.put(f"/accounts/{ann}/owner", params={"owner": "bob"})

    assert (created.status_code, renamed.status_code) == (409, 409)
    assert (await client.get(f"/accounts/{ann}")).json()["owner"] == "ann"


async def test_rename_is_stored(client: httpx.AsyncClient) -> None:
    """A change to an entity that was read is committed at the end of the request."""
    ann = await account(client, "ann")

    await client.put(f"/accounts/{ann}/owner", params={"owner": "anna"})

    assert (await client.get(f"/accounts/{ann}")).json()["owner"] == "anna"


async def test_transfer_moves_money_and_is_in_the_history(client: httpx.AsyncClient) -> None:
    """Both balances change; the background task writes its line after the answer."""
    ann, bob = await account(client, "ann", 10), await account(client, "bob")

    answer = await client.post("/transfers", json={"giver_id": ann, "taker_id": bob, "amount": 4})
    async with asyncio.timeout(10):
        while "thanked" not in (await client.get("/history")).text:  # noqa: ASYNC110 - a socket has no event
            await asyncio.sleep(0.01)

    assert answer.status_code == 204
    assert await balances(client, ann, bob) == [6, 4]
    assert (await client.get("/history")).text == f"ann gave bob 4\nthanked {ann}\n"


async def test_transfer_without_money_changes_nothing(client: httpx.AsyncClient) -> None:
    """Balances and history stay as they were."""
    ann, bob = await account(client, "ann", 3), await account(client, "bob")

    answer = await client.post("/transfers", json={"giver_id": ann, "taker_id": bob, "amount": 4})

    assert answer.status_code == 422
    assert await balances(client, ann, bob) == [3, 0]
    assert (await client.get("/history")).text == ""


async def test_transfers_at_once_lose_no_money(client: httpx.AsyncClient) -> None:
    """Concurrent requests do not overwrite each other's balances."""
    ann, bob = await account(client, "ann", 100), await account(client, "bob")
    order = {"giver_id": ann, "taker_id": bob, "amount": 1}

    answers = await asyncio.gather(*(client.post("/transfers", json=order) for _ in range(20)))

    assert {answer.status_code for answer in answers} == {204}
    assert await balances(client, ann, bob) == [80, 20]


async def test_plain_session_and_health(client: httpx.AsyncClient) -> None:
    """`SessionDep` gives SQLAlchemy's own session; nothing is held afterwards."""
    await account(client, "ann", 1)
    await account(client, "bob", 2)

    richest = (await client.get("/richest")).json()

    assert [found["owner"] for found in richest] == ["bob", "ann"]
    assert (await client.get("/health")).json() == {"held": 0}
