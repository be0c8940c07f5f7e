"""This module knows which errors of a database are the client's affair, and how they are answered."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, TypeAlias

from sqlalchemy.exc import IntegrityError

from unitwork.errors import DeclarationError, NoRowError, StaleRowError

STATUSES: Mapping[type[Exception], HTTPStatus] = {
    NoRowError: HTTPStatus.NOT_FOUND,
    IntegrityError: HTTPStatus.CONFLICT,
    StaleRowError: HTTPStatus.CONFLICT,
}
"""What a client is told of an error: nothing of its text, which may show tables, columns and values."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets for an error; an ASGI application, as the responses of frameworks are."""

    status: int
    media_type: str
    body: bytes

    async def __call__(
        self,
        _scope: object,
        _receive: object,
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Send it."""
        length = str(len(self.body)).encode()
        headers = [(b"content-type", self.media_type.encode()), (b"content-length", length)]
        await send({"type": "http.response.start", "status": int(self.status), "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


AnswerRule: TypeAlias = Callable[[Exception], Answer | None]


def as_json(error: Exception) -> Answer | None:
    """Answer as FastAPI answers an `HTTPException`; None if the error is no affair of the client."""
    status = _status_of(error)
    return None if status is None else _json(status, {"detail": status.phrase})


def as_json_with_status(error: Exception) -> Answer | None:
    """Answer as Litestar answers an `HTTPException`; as above."""
    status = _status_of(error)
    if status is None:
        return None
    return _json(status, {"status_code": status.value, "detail": status.phrase})


def as_text(error: Exception) -> Answer | None:
    """Answer as Starlette answers an `HTTPException`; as above."""
    status = _status_of(error)
    return None if status is None else Answer(status, "text/plain; charset=utf-8", status.phrase.encode())


def _status_of(error: Exception) -> HTTPStatus | None:
    return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), None)


def _json(status: HTTPStatus, content: Mapping[str, object]) -> Answer:
    return Answer(status, "application/json", json.dumps(content).encode())


class AnsweringApplication(Protocol):
    """An application of Starlette, or of a kind of it."""

    middleware_stack: Any
    exception_handlers: Any
    state: Any

    def add_exception_handler(self, exc_class_or_status_code: Any, handler: Any) -> None:  # noqa: ANN401  # as Starlette's
        """Let a handler answer errors of a class."""
        ...


_RULE = "unitwork_answers"
"""Where the state of an application says how it answers."""


def rule_of(app: object) -> AnswerRule | None:
    """Return how an application answers errors, if it has asked for that."""
    return getattr(getattr(app, "state", None), _RULE, None)


def answer_errors(app: AnsweringApplication, rule: AnswerRule) -> None:
    """Answer as this rule says, whether an endpoint has raised the error or COMMIT has.

    Raises:
        DeclarationError: The application has started already.
    """
    if app.middleware_stack is not None:
        raise DeclarationError(
            "exception_handlers", "the application has started", "call it where the application is made."
        )

    async def answer(connection: Any, error: Exception) -> Answer:  # noqa: ANN401  # a request, or a WebSocket
        answered = rule(error) if connection.scope["type"] == "http" else None
        if answered is None:
            raise error
        return answered

    for kind in STATUSES:
        if kind not in app.exception_handlers:
            app.add_exception_handler(kind, answer)
    setattr(app.state, _RULE, rule)
