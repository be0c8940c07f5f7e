"""The shop in Quart."""

from collections.abc import AsyncIterator
from typing import Any

from quart import Quart, abort

from tests.integrations.apps.shop import Shop
from unitwork.integrations.asgi import UnitOfWorkMiddleware


def app(shop: Shop) -> Quart:  # noqa: C901 - a list of endpoints
    """Build the application."""
    app = Quart("shop")
    app.asgi_app = UnitOfWorkMiddleware(app.asgi_app, database=shop.db)  # type: ignore[method-assign]  # Quart's way

    @app.post("/create/<name>")
    async def create(name: str) -> tuple[dict[str, Any], int]:
        await shop.add(name)
        return {}, 201

    @app.post("/unsent/<name>")
    async def unsent(name: str) -> dict[str, Any]:
        await shop.add_unsent(name)
        return {}

    @app.post("/register/<name>")
    async def register(name: str) -> dict[str, Any]:
        await shop.register(name)
        return {}

    @app.post("/refused/<name>")
    async def refused(name: str) -> dict[str, Any]:
        await shop.add(name)
        abort(409)

    @app.post("/broken/<name>")
    async def broken(name: str) -> dict[str, Any]:
        await shop.add(name)
        raise RuntimeError("broken on purpose")

    @app.post("/early/<name>")
    async def early(name: str) -> str:
        return str(await shop.early(name))

    @app.get("/nothing")
    async def nothing() -> str:
        return str(shop.held())

    @app.get("/read")
    async def read() -> str:
        return str(await shop.read())

    @app.get("/stream")
    async def stream() -> AsyncIterator[str]:
        count = await shop.count()

        async def body() -> AsyncIterator[str]:
            yield f"{count} {shop.held()} {shop.session_error()}"

        return body()

    app.after_serving(shop.db.dispose)
    return app
