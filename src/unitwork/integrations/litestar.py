"""This module is a Litestar plugin: a unit of work for each request, the session, and the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from unitwork.database import Database
from unitwork.errors import MissingExtraError
from unitwork.integrations.answers import STATUSES, AnswerRule, as_json_with_status
from unitwork.integrations.asgi import Scope, UnitOfWorkMiddleware, lifespan
from unitwork.integrations.units import several
from unitwork.integrations.web import CommitRule, ErrorRule, below_400

try:
    from litestar import Request, Response
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
        exception_handlers: Answer errors that are the client's affair: `NoRowError` with 404,
            `IntegrityError` and `StaleRowError` with 409, also those of a failed COMMIT, unless
            `on_commit_error` says otherwise. The client gets the status and its name, and nothing of the
            error. Handlers that the application has for these classes go first.

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
        exception_handlers: bool = False,
    ) -> None:
        self._databases = several(database)
        self._answers = exception_handlers
        self._middleware = DefineMiddleware(
            _AnsweringMiddleware if exception_handlers else UnitOfWorkMiddleware,
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
        if self._answers:
            handlers: dict[int | type[Exception], Any] = dict.fromkeys(STATUSES, _answer)
            app_config.exception_handlers = {**handlers, **app_config.exception_handlers}
        single = len(self._databases) == 1
        for database in self._databases:
            name = "session" if single else f"{database.name}_session"
            app_config.dependencies[name] = Provide(_session_of(database), sync_to_thread=False)
        return app_config


class _AnsweringMiddleware(UnitOfWorkMiddleware):
    """Answers a failed COMMIT as Litestar would answer the error."""

    @override
    def answers_of(self, scope: Scope) -> AnswerRule | None:
        return as_json_with_status


def _answer(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer an error that a handler has raised."""
    answer = as_json_with_status(error)
    if answer is None:
        raise error
    return Response(answer.body, status_code=answer.status, media_type=answer.media_type)


def _session_of(database: Database) -> Callable[[], AsyncSession]:
    def session() -> AsyncSession:
        return database.session

    return session
