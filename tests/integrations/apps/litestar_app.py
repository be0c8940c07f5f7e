"""The shop in Litestar."""

from collections.abc import AsyncIterator

from litestar import Litestar, Response, get, post
from litestar.background_tasks import BackgroundTask
from litestar.exceptions import HTTPException
from litestar.response import Stream

from tests.fixtures.litestar import FromPath
from tests.integrations.apps.shop import Shop
from unitwork.integrations.litestar import UnitworkPlugin


def app(shop: Shop) -> Litestar:  # noqa: C901 - a list of endpoints
    """Build the application."""

    @post("/create/{name:str}")
    async def create(name: FromPath[str]) -> None:
        await shop.add(name)

    @post("/unsent/{name:str}")
    async def unsent(name: FromPath[str]) -> None:
        await shop.add_unsent(name)

    @post("/register/{name:str}")
    async def register(name: FromPath[str]) -> None:
        await shop.register(name)

    @post("/refused/{name:str}")
    async def refused(name: FromPath[str]) -> None:
        await shop.add(name)
        raise HTTPException(status_code=409)

    @post("/broken/{name:str}")
    async def broken(name: FromPath[str]) -> None:
        await shop.add(name)
        raise RuntimeError("broken on purpose")

    @post("/early/{name:str}")
    async def early(name: FromPath[str]) -> int:
        return await shop.early(name)

    @post("/background/{name:str}")
    async def background(name: FromPath[str]) -> Response[None]:
        await shop.add(name)
        return Response(None, background=BackgroundTask(shop.afterwards, name))

    @get("/nothing")
    async def nothing() -> int:
        return shop.held()

    @get("/read")
    async def read() -> int:
        return await shop.read()

    @get("/stream")
    async def stream() -> Stream:
        count = await shop.count()

        async def body() -> AsyncIterator[str]:
            yield f"{count} {shop.held()} {shop.session_error()}"

        return Stream(body())

    return Litestar(
        [create, unsent, register, refused, broken, early, background, nothing, read, stream],
        plugins=[UnitworkPlugin(shop.db)],
        openapi_config=None,
        logging_config=None,
    )
