"""This module is a Litestar plugin: a unit of work for each request, the session, and the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from unitwork.database import Database
from unitwork.errors import MissingExtraError
from unitwork.integrations.asgi import UnitOfWorkMiddleware, lifespan
from unitwork.integrations.units import several
from unitwork.integrations.web import CommitRule, ErrorRule, below_400

try:
    from litestar.config.app import AppConfig
    from litestar.di import Provide
    from litestar.middleware import DefineMiddleware
    from litestar.plugins import InitPlugin
except ModuleNotFoundError as missing:
    raise MissingExtraError("unitwork.integrations.litestar", "litestar", "litestar") from missing

__all__ = ["UnitworkPlugin"]


class UnitworkPlugin(InitPlugin):
    """Adds the middleware, the dependency `session`, and a lifespan that closes the connections.

    Lives: as long as the application.

    Args:
        database: One Database, or several. With several, the dependencies are called by their
            names: `reports_session` for the Database "reports".
        atomic: As for `UnitOfWorkMiddleware`.
        commit_when: As for `UnitOfWorkMiddleware`.
        on_commit_error: As for `UnitOfWorkMiddleware`.

    Examples:
        >>> from litestar import Litestar
        >>> app = Litestar(plugins=[UnitworkPlugin(db)])
    """

    def __init__(
        self,
        database: Database | Sequence[Database],
        *,
        atomic: bool = True,
        commit_when: CommitRule = below_400,
        on_commit_error: ErrorRule | None = None,
    ) -> None:
        self._databases = several(database)
        self._middleware = DefineMiddleware(
            UnitOfWorkMiddleware,
            database=self._databases,
            atomic=atomic,
            commit_when=commit_when,
            on_commit_error=on_commit_error,
        )

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add what the application needs; called by Litestar."""
        # First, so that what other middleware does belongs to the unit of work as well.
        app_config.middleware.insert(0, self._middleware)
        app_config.lifespan.append(lifespan(*self._databases))
        single = len(self._databases) == 1
        for database in self._databases:
            name = "session" if single else f"{database.name}_session"
            app_config.dependencies[name] = Provide(_session_of(database), sync_to_thread=False)
        return app_config


def _session_of(database: Database) -> Callable[[], AsyncSession]:
    def session() -> AsyncSession:
        return database.session

    return session
