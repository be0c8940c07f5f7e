"""This module makes the source of a Database from what a person wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine

from unitwork._runtime import context
from unitwork._runtime.source import Source
from unitwork.dialects import backend_for
from unitwork.errors import DatabaseChoiceError, MissingExtraError
from unitwork.options import DatabaseSettings

DEFAULT_NAME = "default"
_DRIVERS = "Fix: name an async driver: sqlite+aiosqlite, postgresql+asyncpg or mysql+asyncmy."


def refuse_second(name: str) -> None:
    if name != DEFAULT_NAME and context.sources_after_collection(name):
        raise DatabaseChoiceError(
            f"A live Database is called {name!r} already.",
            context.names(),
            "use that one, dispose of it first, or give this one another name.",
        )


def open_source(
    url: str | URL | DatabaseSettings | AsyncEngine,
    name: str,
    engine_options: Mapping[str, Any],
    session_options: Mapping[str, Any],
) -> Source:
    if isinstance(url, AsyncEngine):
        return Source(name, backend_for(url.url), url, {}, session_options)
    address = _address(url)
    backend = backend_for(address)
    try:
        return Source(name, backend, None, engine_options, session_options)
    except ModuleNotFoundError as error:
        if not backend.extra:
            error.add_note(_DRIVERS)
            raise
        raise MissingExtraError(
            f"A Database at {address.drivername!r}", error.name or "?", backend.extra
        ) from error
    except InvalidRequestError as error:
        error.add_note(_DRIVERS)
        raise


def _address(url: str | URL | DatabaseSettings) -> URL:
    if isinstance(url, DatabaseSettings):
        return url.url()
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # SQLAlchemy's own text for a wrong port can show a part of an unescaped password.
        raise ArgumentError(
            "The URL of the database cannot be read.\n"
            "  Fix: write driver://user:password@host/name, such as 'postgresql+asyncpg://app@db/shop'; "
            "escape the password, such as %40 for @."
        ) from None
