"""This module runs what prepares databases when a container starts."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry
from typing_extensions import override

from unitwork._runtime import live
from unitwork._runtime.edges import edge
from unitwork.errors import DeclarationError
from unitwork.integrations.pico_ioc.binding import held_by
from unitwork.integrations.pico_ioc.marks import component, configure
from unitwork.integrations.pico_ioc.session import SessionManager
from unitwork.integrations.pico_ioc.settings import DatabaseSettings


@runtime_checkable
class DatabaseConfigurer(Protocol):
    """What prepares a database at the end of `init`: creates tables, adds rows.

    Any component with a method `configure_database` is one; a subclass may call the method `configure`.
    It may be `async def`, or call `asyncio.run`: it runs in a thread of its own. The engine is that of
    the application, so it may also be given listeners; connections that a hook opens are not kept. The
    lowest `priority` goes first; without one it is 0.
    The database is the `SessionManager` that the component holds, else that of its container.

    Examples:
        >>> @component
        ... class CreateTables(DatabaseConfigurer):
        ...     priority = 10
        ...
        ...     async def configure_database(self, engine: AsyncEngine) -> None:
        ...         async with engine.begin() as connection:
        ...             await connection.run_sync(AppBase.metadata.create_all)
    """

    def configure_database(self, engine: AsyncEngine) -> object:
        """Prepare the database. May return an awaitable.

        Raises:
            DeclarationError: A subclass has neither this method nor `configure`.
        """
        hook: Callable[[AsyncEngine], object] | None = getattr(self, "configure", None)
        if hook is None:
            raise DeclarationError(
                type(self).__name__,
                "a DatabaseConfigurer has nothing to do",
                "give it a method `configure_database(self, engine)`.",
            )
        return hook(engine)


@component
class SetUp:
    """Runs the migrations and the configurers of one container. Lives: as long as the container."""

    @configure
    def run(
        self, manager: SessionManager, settings: DatabaseSettings, configurers: list[DatabaseConfigurer]
    ) -> None:
        """Prepare all databases, and wait for it; called by pico-ioc.

        Raises:
            DeclarationError: Two configurers of one database have the same priority.
        """
        try:
            self._prepare(manager, settings, configurers)
        except BaseException:
            # There will be no container that could dispose of it.
            live.strike(manager.source)
            raise

    def _prepare(
        self, manager: SessionManager, settings: DatabaseSettings, configurers: list[DatabaseConfigurer]
    ) -> None:
        hooks: dict[SessionManager, list[DatabaseConfigurer]] = {manager: []}
        for configurer in configurers:
            held = held_by(configurer, SessionManager)
            hooks.setdefault(held[0] if len(held) == 1 else manager, []).append(configurer)
        plans = {database: in_order(chosen) for database, chosen in hooks.items()}
        # Hooks may call `asyncio.run`, and `init` may be called inside of a running event loop.
        with ThreadPoolExecutor(1) as thread:
            if settings.migrations_path:
                thread.submit(_migrate, manager, settings).result()
            for database, ordered in plans.items():
                if ordered:
                    thread.submit(_run, database, ordered).result()


def in_order(configurers: Iterable[DatabaseConfigurer]) -> list[DatabaseConfigurer]:
    """Return configurers, the lowest priority first.

    Raises:
        DeclarationError: Two have the same priority, or one has no number.
    """
    ordered: dict[int, DatabaseConfigurer] = {}
    for configurer in configurers:
        priority = getattr(configurer, "priority", 0)
        name = type(configurer).__name__
        if not isinstance(priority, int):
            raise DeclarationError(name, f"its priority is {priority!r}", "write a whole number.")
        if priority in ordered:
            raise DeclarationError(
                name,
                f"its priority {priority} is also that of {type(ordered[priority]).__name__}",
                "give each DatabaseConfigurer a `priority` of its own; the lowest goes first.",
            )
        ordered[priority] = configurer
    return [ordered[priority] for priority in sorted(ordered)]


def _run(manager: SessionManager, configurers: list[DatabaseConfigurer]) -> None:
    if manager.source.backend.shared_between_loops:
        _run_on(_InMemory(manager.source.home_engine().sync_engine), configurers)
        return
    engine = manager.source.home_engine()
    event.listen(engine.sync_engine, "checkin", _close)
    try:
        _run_on(engine, configurers)
    finally:
        event.remove(engine.sync_engine, "checkin", _close)


def _run_on(engine: AsyncEngine, configurers: list[DatabaseConfigurer]) -> None:
    for configurer in configurers:
        waiting = configurer.configure_database(engine)
        if inspect.isawaitable(waiting):
            asyncio.run(_awaited(waiting))


class _InMemory(AsyncEngine):
    """The engine of a database in memory, for hooks: its data would be lost with its connection."""

    __slots__ = ()

    @override
    async def dispose(self, close: bool = True) -> None:
        """Keep the connection."""


def _close(_connection: object, entry: ConnectionPoolEntry) -> None:
    """Close a connection instead of pooling it: it belongs to the event loop of a hook."""
    entry.close()


async def _awaited(waiting: Awaitable[object]) -> None:
    await waiting


def _migrate(manager: SessionManager, settings: DatabaseSettings) -> None:
    if manager.source.backend.shared_between_loops:
        # Nobody else can connect to it.
        asyncio.run(_awaited(manager.migrate(settings.migrations_path, revision=settings.migrations_target)))
    else:
        migrations: Any = edge("integrations.alembic").Migrations(manager, settings.migrations_path)
        migrations.upgrade_alone(settings.migrations_target)
