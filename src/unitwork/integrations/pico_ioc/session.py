"""This module holds the Database of a container, under the name that components ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncSession

from unitwork._runtime import context
from unitwork._runtime.live import DEFAULT_NAME
from unitwork.database import Database
from unitwork.dialects.sqlite import in_memory
from unitwork.errors import DeclarationError
from unitwork.integrations.pico_ioc.marks import cleanup, provides
from unitwork.integrations.pico_ioc.options import ComponentKeywords, options_of
from unitwork.integrations.pico_ioc.settings import DatabaseSettings
from unitwork.lifecycle import caller
from unitwork.options import Propagation
from unitwork.transaction import TransactionBlock

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from unitwork.options import PropagationName


class SessionManager(Database):
    """The Database of a container; what a component asks for by this type, or as `Database`.

    All that a `Database` can do, it does. A container makes one from its `DatabaseSettings`, and
    closes its connections with `cleanup_all_async`. For another database subclass it, and provide
    that. By hand it is made like here. Lives: as long as its container.

    Args:
        url: A URL as text or `sqlalchemy.URL`.
        echo: Log each statement.
        pool_size: Connections that are kept open. An in-memory database has one.
        pool_pre_ping: Test each connection before it is used.
        pool_recycle: Close a connection this many seconds after it was opened.
        name: As for `Database`.
        session_options: As for `Database`.
        **engine_options: As for `Database`.

    Raises:
        MissingExtraError: The driver in the URL is not installed.
        sqlalchemy.exc.ArgumentError: The URL cannot be read.

    Examples:
        >>> manager = SessionManager("sqlite+aiosqlite:///:memory:", name="by hand")
        >>> async with manager.transaction() as session:
        ...     assert get_session(manager) is session
    """

    def __init__(  # noqa: PLR0913  # the published settings, each by its name
        self,
        url: str | URL,
        echo: bool = False,  # noqa: FBT001, FBT002  # as published
        pool_size: int = 5,
        pool_pre_ping: bool = True,  # noqa: FBT001, FBT002  # as published
        pool_recycle: int = 3600,
        *,
        name: str = DEFAULT_NAME,
        session_options: Mapping[str, Any] | None = None,
        **engine_options: Any,
    ) -> None:
        options: dict[str, Any] = {"echo": echo}
        if "poolclass" not in engine_options and not _is_in_memory(url):
            options |= {"pool_size": pool_size, "pool_pre_ping": pool_pre_ping, "pool_recycle": pool_recycle}
        options |= engine_options
        super().__init__(url, name=name, session_options=session_options, **options)

    def transaction(  # pyright: ignore[reportIncompatibleMethodOverride]  # it takes one keyword more
        self, rule: Propagation | PropagationName | None = None, /, **options: Unpack[ComponentKeywords]
    ) -> TransactionBlock:
        """Open a transaction block, as `Database.transaction`.

        Args:
            rule: The propagation, which can also be given by its keyword.
            **options: As for `Database.transaction`; `isolation` may be called `isolation_level`.
        """
        if rule is not None:
            options["propagation"] = rule
        return TransactionBlock(self.source, options_of(options), f"the block at {caller()}")

    def create_session(self) -> AsyncSession:
        """Return a session of your own, that you commit and close yourself. Sends nothing."""
        return self.session_factory()

    def get_current_session(self) -> AsyncSession | None:
        """Return the ambient session, or None where no block and no unit of work is open."""
        scope = context.innermost(self.source)
        return None if scope is None else scope.frame.session

    @cleanup
    def close_connections(self) -> Disposal | None:
        """Close all connections at the end of the container; again without harm.

        Called by pico-ioc. Without a running event loop it is done at once.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(self.dispose())
            return None
        return Disposal(self)


class Disposal:
    """The end of a SessionManager, to be awaited; `cleanup_all`, which cannot await, drops it unharmed."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager

    def __await__(self) -> Generator[Any, Any, None]:
        return self._manager.dispose().__await__()


def _is_in_memory(url: str | URL) -> bool:
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        return False  # refused with a better text when the Database is made
    return address.get_backend_name() == "sqlite" and in_memory(address)


@provides(SessionManager)
def session_manager(settings: DatabaseSettings) -> SessionManager:
    """Make the Database that the configuration describes."""
    if not settings.url:
        raise DeclarationError(
            "The container",
            "its configuration has no `database.url`",
            'write `configuration(DictSource({"database": {"url": "sqlite+aiosqlite:///app.db"}}))`, or '
            "provide a SessionManager of your own with `@provides(SessionManager)`.",
        )
    return SessionManager(
        settings.url, settings.echo, settings.pool_size, settings.pool_pre_ping, settings.pool_recycle
    )


@provides(Database)
def database(manager: SessionManager) -> Database:
    """Give the same handle to components that ask for a `Database`."""
    return manager
