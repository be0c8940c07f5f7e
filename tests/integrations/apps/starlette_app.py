"""The shop in Starlette."""

from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.integrations.apps.shop import Shop
from unitwork.integrations.asgi import UnitOfWorkMiddleware, lifespan


def app(shop: Shop) -> Starlette:  # noqa: C901 - a list of endpoints
    """Build the application."""

    async def create(request: Request) -> Response:
        await shop.add(request.path_params["name"])
        return JSONResponse({}, 201)

    async def unsent(request: Request) -> Response:
        await shop.add_unsent(request.path_params["name"])
        return JSONResponse({})

    async def register(request: Request) -> Response:
        await shop.register(request.path_params["name"])
        return JSONResponse({})

    async def refused(request: Request) -> Response:
        await shop.add(request.path_params["name"])
        raise HTTPException(409)

    async def broken(request: Request) -> Response:
        await shop.add(request.path_params["name"])
        raise RuntimeError("broken on purpose")

    async def early(request: Request) -> Response:
        return JSONResponse(await shop.early(request.path_params["name"]))

    async def nothing(_request: Request) -> Response:
        return JSONResponse(shop.held())

    async def read(_request: Request) -> Response:
        return JSONResponse(await shop.read())

    async def stream(_request: Request) -> Response:
        count = await shop.count()

        async def body() -> AsyncIterator[str]:
            yield f"{count} {shop.held()} {shop.session_error()}"

        return StreamingResponse(body())

    async def background(request: Request) -> Response:
        name = request.path_params["name"]
        await shop.add(name)
        return JSONResponse({}, background=BackgroundTask(shop.afterwards, name))

    return Starlette(
        routes=[
            Route("/create/{name}", create, methods=["POST"]),
            Route("/unsent/{name}", unsent, methods=["POST"]),
            Route("/register/{name}", register, methods=["POST"]),
            Route("/refused/{name}", refused, methods=["POST"]),
            Route("/broken/{name}", broken, methods=["POST"]),
            Route("/early/{name}", early, methods=["POST"]),
            Route("/background/{name}", background, methods=["POST"]),
            Route("/nothing", nothing),
            Route("/read", read),
            Route("/stream", stream),
        ],
        middleware=[Middleware(UnitOfWorkMiddleware, database=shop.db)],
        lifespan=lifespan(shop.db),
    )
