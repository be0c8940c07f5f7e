"""The shop in Django. Its settings are those of the process, its views those of the module."""

from collections.abc import AsyncIterator
from typing import Any

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from tests.integrations.apps.shop import Shop
from unitwork.integrations.asgi import UnitOfWorkMiddleware

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="not a secret",
    LOGGING_CONFIG=None,
    USE_TZ=True,
)
django.setup()

_shops: list[Shop] = []
_bodies: list[Any] = []


class Handler(ASGIHandler):  # type: ignore[misc]  # Django has no types
    """Django, which does not close the body of a request when its response could not be sent."""

    async def read_body(self, receive: Any) -> Any:  # noqa: ANN401 - Django has no types
        """Remember the body."""
        body = await super().read_body(receive)
        _bodies.append(body)
        return body


def close_bodies() -> None:
    """Close what Django has left open."""
    while _bodies:
        _bodies.pop().close()


def app(shop: Shop) -> UnitOfWorkMiddleware:
    """Build the application."""
    _shops[:] = [shop]
    return UnitOfWorkMiddleware(Handler(), database=shop.db)


async def create(_request: HttpRequest, name: str) -> HttpResponse:
    """Write."""
    await _shops[0].add(name)
    return JsonResponse({}, status=201)


async def unsent(_request: HttpRequest, name: str) -> HttpResponse:
    """Write with the COMMIT."""
    await _shops[0].add_unsent(name)
    return JsonResponse({})


async def register(_request: HttpRequest, name: str) -> HttpResponse:
    """Write in a block."""
    await _shops[0].register(name)
    return JsonResponse({})


async def refused(_request: HttpRequest, name: str) -> HttpResponse:
    """Write, and answer 409; Django has no exception for that."""
    await _shops[0].add(name)
    return HttpResponse(status=409)


async def broken(_request: HttpRequest, name: str) -> HttpResponse:
    """Write, and fail."""
    await _shops[0].add(name)
    raise RuntimeError("broken on purpose")


async def early(_request: HttpRequest, name: str) -> HttpResponse:
    """Commit by hand."""
    return HttpResponse(str(await _shops[0].early(name)))


async def nothing(_request: HttpRequest) -> HttpResponse:
    """Do nothing."""
    return HttpResponse(str(_shops[0].held()))


async def read(_request: HttpRequest) -> HttpResponse:
    """Read."""
    return HttpResponse(str(await _shops[0].read()))


async def stream(_request: HttpRequest) -> StreamingHttpResponse:
    """Stream."""
    shop = _shops[0]
    count = await shop.count()

    async def body() -> AsyncIterator[str]:
        yield f"{count} {shop.held()} {shop.session_error()}"

    return StreamingHttpResponse(body())


urlpatterns: list[Any] = [
    path("create/<name>", create),
    path("unsent/<name>", unsent),
    path("register/<name>", register),
    path("refused/<name>", refused),
    path("broken/<name>", broken),
    path("early/<name>", early),
    path("nothing", nothing),
    path("read", read),
    path("stream", stream),
]
