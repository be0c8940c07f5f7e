"""The shop in aiohttp."""

from aiohttp import web

from tests.integrations.apps.shop import Shop
from unitwork.integrations.aiohttp import setup


def app(shop: Shop) -> web.Application:  # noqa: C901 - a list of endpoints
    """Build the application."""
    routes = web.RouteTableDef()

    @routes.post("/create/{name}")
    async def create(request: web.Request) -> web.Response:
        await shop.add(request.match_info["name"])
        return web.json_response({}, status=201)

    @routes.post("/unsent/{name}")
    async def unsent(request: web.Request) -> web.Response:
        await shop.add_unsent(request.match_info["name"])
        return web.json_response({})

    @routes.post("/register/{name}")
    async def register(request: web.Request) -> web.Response:
        await shop.register(request.match_info["name"])
        return web.json_response({})

    @routes.post("/refused/{name}")
    async def refused(request: web.Request) -> web.Response:
        await shop.add(request.match_info["name"])
        raise web.HTTPConflict

    @routes.post("/broken/{name}")
    async def broken(request: web.Request) -> web.Response:
        await shop.add(request.match_info["name"])
        raise RuntimeError("broken on purpose")

    @routes.post("/early/{name}")
    async def early(request: web.Request) -> web.Response:
        return web.json_response(await shop.early(request.match_info["name"]))

    @routes.get("/nothing")
    async def nothing(_request: web.Request) -> web.Response:
        return web.json_response(shop.held())

    @routes.get("/read")
    async def read(_request: web.Request) -> web.Response:
        return web.json_response(await shop.read())

    @routes.get("/stream")
    async def stream(request: web.Request) -> web.StreamResponse:
        count = await shop.count()
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(f"{count} {shop.held()} {shop.session_error()}".encode())
        return response

    app = web.Application()
    app.add_routes(routes)
    setup(app, database=shop.db)
    return app
