"""A client reads what it wrote with an earlier request, from whichever process and server answers."""

from collections.abc import AsyncIterator

import httpx
import pytest
from aiohttp import web as aio
from fastapi import FastAPI

from tests.fixtures.clusters.replicated import Cluster
from tests.fixtures.models import Audit
from tests.fixtures.web import Web
from unitwork import Database, Repository
from unitwork.integrations.aiohttp import setup
from unitwork.integrations.asgi import UnitOfWorkMiddleware
from unitwork.integrations.positions import ReadYourWrites

pytestmark = pytest.mark.only("postgresql", "mariadb", reason="SQLite has no servers")

SECRET = "the same in all processes"
SOON_S = 0.1


@pytest.fixture
async def db(cluster: Cluster) -> AsyncIterator[Database]:
    """A Database whose replicas are waited for only shortly, since they show nothing new in these tests."""
    async with cluster.database(replica_wait_s=SOON_S) as database:
        yield database


def service(db: Database, rule: ReadYourWrites | None) -> FastAPI:
    """One process of a service."""
    app = FastAPI()
    audits = Repository[Audit](db)

    @app.post("/{note}")
    async def write(note: str, status: int = 200) -> None:
        await audits.add(Audit(note=note))
        if status != 200:
            raise RuntimeError(note)

    @app.get("/count")
    async def count() -> int:
        return await audits.count()

    app.add_middleware(UnitOfWorkMiddleware, database=db, read_your_writes=rule)
    return app


def browser(app: FastAPI) -> httpx.AsyncClient:
    """A client with cookies of its own."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example")


async def test_browser_reads_what_it_wrote_and_others_read_what_is_replayed(
    db: Database, cluster: Cluster
) -> None:
    """Replicas show nothing new: only who has written must go to the primary."""
    first, second = (service(db, ReadYourWrites(SECRET)) for _ in range(2))
    async with browser(first) as writer, browser(second) as stranger:
        cluster.hold()
        await writer.post("/tea")

        assert "unitwork_position" in writer.cookies
        elsewhere = httpx.AsyncClient(
            transport=httpx.ASGITransport(second), base_url="http://shop.example", cookies=writer.cookies
        )
        async with elsewhere:
            assert (await elsewhere.get("/count")).json() == 1
        assert (await stranger.get("/count")).json() == 0
        assert "unitwork_position" not in stranger.cookies

        cluster.release()
        assert (await writer.get("/count")).json() == 1


async def test_cookie_that_was_changed_counts_as_none(db: Database, cluster: Cluster) -> None:
    """It is answered as if it had not been there."""
    async with browser(service(db, ReadYourWrites(SECRET))) as writer:
        cluster.hold()
        await writer.post("/tea")
        changed = writer.cookies["unitwork_position"][::-1]
        writer.cookies.clear()

        answer = await writer.get("/count", headers={"cookie": f"unitwork_position={changed}"})

        assert (answer.status_code, answer.json()) == (200, 0)


async def test_header_in_place_of_a_cookie(db: Database, cluster: Cluster) -> None:
    """A client without cookies hands on what it was told."""
    async with browser(service(db, ReadYourWrites(SECRET, header="X-Position"))) as client:
        cluster.hold()
        told = (await client.post("/tea")).headers["x-position"]

        assert (await client.get("/count")).json() == 0
        assert (await client.get("/count", headers={"X-Position": told})).json() == 1


async def test_request_that_only_reads_or_is_undone_tells_nothing(db: Database) -> None:
    """There is nothing to be found again."""
    async with browser(service(db, ReadYourWrites(SECRET))) as client:
        read = await client.get("/count")
        with pytest.raises(RuntimeError, match="salt"):
            await client.post("/salt?status=500")

        assert "set-cookie" not in read.headers
        assert "unitwork_position" not in client.cookies


async def test_without_the_rule_no_response_is_changed(db: Database) -> None:
    """Nobody has asked for cookies."""
    async with browser(service(db, None)) as client:
        assert "set-cookie" not in (await client.post("/tea")).headers


async def test_aiohttp_carries_it_as_well(db: Database, cluster: Cluster, web: Web) -> None:
    """Whether the handler returns its response or sends it."""

    async def write(request: aio.Request) -> aio.StreamResponse:
        await Repository[Audit](db).add(Audit(note=request.path))
        response = aio.StreamResponse() if request.path == "/sent" else aio.Response()
        if request.path == "/sent":
            await response.prepare(request)
        return response

    async def count(_request: aio.Request) -> aio.Response:
        return aio.json_response(await Repository[Audit](db).count())

    app = aio.Application()
    app.add_routes([aio.post("/{note}", write), aio.get("/count", count)])
    setup(app, database=db, read_your_writes=ReadYourWrites(SECRET))
    client = await web.client(app)
    cluster.hold()

    for number, path in enumerate(("/returned", "/sent"), start=1):
        told = await client.post(path)
        assert "unitwork_position" in told.cookies
        assert (await client.get("/count")).json() == number
    client.cookies.clear()
    assert (await client.get("/count")).json() == 0
