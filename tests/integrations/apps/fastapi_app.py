"""The shop in FastAPI."""

from collections.abc import AsyncIterator

from fastapi import BackgroundTasks, FastAPI, HTTPException
from fastapi.responses import StreamingResponse

from tests.integrations.apps.shop import Shop
from unitwork.integrations.fastapi import UnitOfWorkMiddleware, lifespan


def app(shop: Shop) -> FastAPI:  # noqa: C901 - a list of endpoints
    """Build the application."""
    app = FastAPI(lifespan=lifespan(shop.db))
    app.add_middleware(UnitOfWorkMiddleware, database=shop.db)

    @app.post("/create/{name}", status_code=201)
    async def create(name: str) -> None:
        await shop.add(name)

    @app.post("/unsent/{name}")
    async def unsent(name: str) -> None:
        await shop.add_unsent(name)

    @app.post("/register/{name}")
    async def register(name: str) -> None:
        await shop.register(name)

    @app.post("/refused/{name}")
    async def refused(name: str) -> None:
        await shop.add(name)
        raise HTTPException(409)

    @app.post("/broken/{name}")
    async def broken(name: str) -> None:
        await shop.add(name)
        raise RuntimeError("broken on purpose")

    @app.post("/early/{name}")
    async def early(name: str) -> int:
        return await shop.early(name)

    @app.post("/background/{name}")
    async def background(name: str, tasks: BackgroundTasks) -> None:
        await shop.add(name)
        tasks.add_task(shop.afterwards, name)

    @app.get("/nothing")
    async def nothing() -> int:
        return shop.held()

    @app.get("/read")
    async def read() -> int:
        return await shop.read()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        count = await shop.count()

        async def body() -> AsyncIterator[str]:
            yield f"{count} {shop.held()} {shop.session_error()}"

        return StreamingResponse(body())

    return app
