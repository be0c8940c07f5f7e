"""This module makes the source of a Database from what a person wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import URL
from sqlalchemy.exc import InvalidRequestError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session

from unitwork._later import later
from unitwork._runtime import live
from unitwork._runtime.connections.addresses import Addresses, single
from unitwork._runtime.connections.loop_engine import INSTEAD_OF_AUTOCOMMIT, commits_by_itself
from unitwork._runtime.source import Source
from unitwork.dialects import Backend, backend_for
from unitwork.errors import DatabaseChoiceError, MissingExtraError, OptionError
from unitwork.options import ServerLimits

if TYPE_CHECKING:
    from unitwork import settings
    from unitwork.settings import WrittenURL
else:
    settings = later("unitwork.settings")

_SESSION_OPTIONS = {
    "autobegin": True,
    "twophase": False,
    "bind": None,
    "join_transaction_mode": "control_fully",
    "close_resets_only": False,
}
"""What blocks need of a session. Where it says so itself, nothing is to be passed on."""
_ON = frozenset({"1", "true", "yes", "on"})
_DRIVERS = "Fix: name an async driver: sqlite+aiosqlite, postgresql+asyncpg or mysql+asyncmy."


class WrittenAddresses(NamedTuple):
    """Where a person said that the servers are."""

    url: WrittenURL | AsyncEngine | None
    urls: Sequence[WrittenURL] = ()
    replicas: Sequence[WrittenURL] = ()
    limits: ServerLimits = ServerLimits()


def refuse_second(name: str) -> None:
    if name != live.DEFAULT_NAME and live.sources_after_collection(name):
        raise DatabaseChoiceError(
            f"A live Database is called {name!r} already.",
            live.names(),
            "use that one, dispose of it first, or give this one another name.",
        )


def open_source(
    written: WrittenAddresses,
    name: str,
    engine_options: Mapping[str, Any],
    session_options: Mapping[str, Any],
) -> Source:
    sessions = _checked(session_options)
    if isinstance(written.url, AsyncEngine):
        return _source_of_engine(written, written.url, name, sessions)
    addresses = _addresses(written)
    for url in (*addresses.primaries, *addresses.replicas):
        _refuse_options_that_commit(url, engine_options)
    address = addresses.primaries[0]
    backend = backend_for(address)
    if len(addresses.primaries) + len(addresses.replicas) > 1 and backend.replication is None:
        raise OptionError(
            "replicas" if addresses.replicas else "urls",
            f"servers of {address.get_backend_name()}",
            ["PostgreSQL or MariaDB", "one `url`"],
        )
    addresses.check()
    try:
        return Source(name, backend, addresses, engine_options, sessions)
    except ModuleNotFoundError as error:
        if type(backend) is Backend:
            error.add_note(_DRIVERS)
            raise
        raise MissingExtraError(
            f"A Database at {address.drivername!r}", error.name or "?", backend.extra
        ) from error
    except (InvalidRequestError, NoSuchModuleError) as error:
        error.add_note(_DRIVERS)
        raise


def _source_of_engine(
    written: WrittenAddresses, engine: AsyncEngine, name: str, sessions: dict[str, Any]
) -> Source:
    if written.urls or written.replicas:
        raise OptionError(
            "replicas" if written.replicas else "urls", "beside an AsyncEngine", ["a `url` in its place"]
        )
    _refuse_autocommit(engine.get_execution_options().get("isolation_level"))
    _refuse_autocommit(getattr(engine.dialect, "_on_connect_isolation_level", None))
    return Source(name, backend_for(engine.url), Addresses(engine=engine), {}, sessions)


def _addresses(written: WrittenAddresses) -> Addresses:
    """Read the URLs that a person wrote."""
    if (written.url is None) == (not written.urls):
        raise OptionError("url", written.url and "beside `urls`", ["one of `url` and `urls`"])
    primaries = [settings.url_of(url) for url in written.urls or (cast("WrittenURL", written.url),)]
    return Addresses(
        [each for url in primaries for each in single(url)],
        [each for url in written.replicas for each in single(settings.url_of(url))],
        limits=written.limits,
    )


def _checked(session_options: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse what a session cannot have in a block; leave out what it has there anyway."""
    for name, needed in _SESSION_OPTIONS.items():
        value = session_options.get(name, needed)
        if value != needed and (value or needed):
            raise OptionError(
                f"session_options[{name!r}]",
                value,
                [f"{needed!r}, as the sessions of blocks need it", "a Database for each engine"],
            )
    kind = session_options.get("sync_session_class", Session)
    refuse_no_class("session_options['sync_session_class']", kind)
    return {name: value for name, value in session_options.items() if name not in _SESSION_OPTIONS}


def refuse_no_class(option: str, kind: object) -> None:
    """Refuse to make the session inside of an ambient one by something else than a class.

    Raises:
        OptionError: It is none of sessions, such as a `sessionmaker`.
    """
    if not (isinstance(kind, type) and issubclass(kind, Session)):
        needed = "a subclass of `sqlalchemy.orm.Session`, such as the `class_` of a `sessionmaker`"
        raise OptionError(option, kind, [needed])


def _refuse_options_that_commit(url: URL, options: Mapping[str, Any]) -> None:
    """Refuse what makes each statement commit by itself: a block could undo nothing."""
    _refuse_autocommit(options.get("isolation_level"))
    _refuse_autocommit(options.get("execution_options", {}).get("isolation_level"))
    asked = {**url.query, **options.get("connect_args", {})}.get("autocommit", False)
    if asked not in (False, None) and (not isinstance(asked, str) or asked.lower() in _ON):
        raise OptionError("connect_args['autocommit']", asked, [INSTEAD_OF_AUTOCOMMIT])


def _refuse_autocommit(level: object) -> None:
    if commits_by_itself(level):
        raise OptionError("isolation_level", level, [INSTEAD_OF_AUTOCOMMIT])
