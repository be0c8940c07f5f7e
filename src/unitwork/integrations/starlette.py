"""This module answers errors of the database in an application of Starlette."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitwork.integrations.answers import answer_errors, as_text
from unitwork.integrations.asgi import UnitOfWorkMiddleware, lifespan

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["UnitOfWorkMiddleware", "exception_handlers", "lifespan"]


def exception_handlers(app: Starlette) -> None:
    """Answer errors that are the client's affair: `NoRowError` with 404, `IntegrityError` with 409.

    `StaleRowError` is answered with 409, too. So is a COMMIT that fails with one of them, unless
    `UnitOfWorkMiddleware` has an `on_commit_error` of its own. The client gets the status and its name as
    text, and nothing of the error. Handlers that the application has for these classes go first.
    A WebSocket is no request: there the error is raised as before.

    Args:
        app: The application, before it has started.

    Raises:
        DeclarationError: It has started already.

    Examples:
        >>> from starlette.applications import Starlette
        >>> app = Starlette()
        >>> exception_handlers(app)
    """
    answer_errors(app, as_text)
