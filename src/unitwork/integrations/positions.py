"""This module carries between requests how far the primary had come when a client last wrote."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from unitwork._logic.freshness import BEGINNING, Seen
from unitwork._logic.positions import Position
from unitwork._runtime import context
from unitwork.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from unitwork._runtime.connections.servers import Servers
    from unitwork._runtime.connections.watch import Watch
    from unitwork.database import Database

__all__ = ["ReadYourWrites"]

_log = logging.getLogger("unitwork")

_SHORTEST_SECRET = 16
_LONGEST_TOKEN = 4_000
_SIGNATURE_BYTES = 16


@dataclass(frozen=True, slots=True)
class ReadYourWrites:
    """Lets a client read what it has written, from whichever process and whichever replica answers.

    A response to a request that has written carries how far the primary had come by then, in a cookie or
    a header; the next requests of the client read from replicas that have come as far, or from the primary.
    It is signed, and tells nothing but positions. What was tampered with, or is of another service, counts
    as absent. Nothing depends on a clock: an old position is one that every replica has long passed.

    Args:
        secret: What signs it; the same in all processes of the service. At least 16 characters.
        cookie: The name of the cookie.
        header: Use this header instead, in requests and responses, for clients without cookies.
        max_age_s: How many seconds a browser keeps the cookie.

    Raises:
        OptionError: The secret is too short, or the age is none.

    Database:
        One more question to the primary after a request that has written, shared by all that end meanwhile.

    Examples:
        >>> from unitwork.integrations.asgi import UnitOfWorkMiddleware
        >>> async def application(scope, receive, send): ...
        >>> app = UnitOfWorkMiddleware(
        ...     application, database=db, read_your_writes=ReadYourWrites("a secret of 16 or more")
        ... )
    """

    secret: str | bytes = field(repr=False)
    cookie: str = "unitwork_position"
    header: str | None = None
    max_age_s: int = 60

    def __post_init__(self) -> None:
        if len(self.secret) < _SHORTEST_SECRET:
            raise OptionError("secret", "too short", [f"{_SHORTEST_SECRET} or more random characters"])
        if self.max_age_s < 1:
            raise OptionError("max_age_s", self.max_age_s, ["a number of seconds from 1"])

    def sign(self, positions: Sequence[tuple[str, Position]]) -> str:
        """Return what a client is given: positions by the name of their Database."""
        text = "\n".join(f"{name}\t{position}" for name, position in positions).encode()
        return f"{_text_of(text)}.{_text_of(self._signature(text))}"

    def read(self, token: str) -> dict[str, Position]:
        """Return the positions that a client has brought; none if they are not ours."""
        if len(token) > _LONGEST_TOKEN:
            return {}
        payload, dot, signature = token.partition(".")
        text, signed = _bytes_of(payload), _bytes_of(signature)
        if (
            not dot
            or text is None
            or signed is None
            or not hmac.compare_digest(signed, self._signature(text))
        ):
            return {}
        pairs = (line.partition("\t") for line in text.decode("utf-8", "replace").split("\n"))
        read = ((name, Position.read(position)) for name, _tab, position in pairs)
        return {name: position for name, position in read if position is not None}

    def _signature(self, text: bytes) -> bytes:
        secret = self.secret.encode() if isinstance(self.secret, str) else self.secret
        return hmac.digest(secret, b"unitwork position\n" + text, hashlib.sha256)[:_SIGNATURE_BYTES]

    def brought(self, scope: Any) -> str:  # noqa: ANN401  # of ASGI
        """Return what a request brings; empty if nothing."""
        if self.header is not None:
            wanted = self.header.lower().encode()
            return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")
        cookies = (value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie")
        pairs = (pair.strip().partition("=") for line in cookies for pair in line.split(";"))
        return next((value for name, _equals, value in pairs if name == self.cookie), "")

    def given(self, token: str, scope: Any) -> tuple[bytes, bytes]:  # noqa: ANN401  # of ASGI
        """Return the header of a response that gives a client its positions."""
        if self.header is not None:
            return self.header.lower().encode(), token.encode()
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        value = f"{self.cookie}={token}; Path=/; Max-Age={self.max_age_s}; HttpOnly; SameSite=Lax{secure}"
        return b"set-cookie", value.encode()


class Carried:
    """What one client has seen of some Databases, for one request. Lives: as long as the request.

    Args:
        rule: How it is carried.
        databases: Those that have several servers.
        scope: The request, as ASGI has it.
    """

    def __init__(self, rule: ReadYourWrites, databases: Iterable[Database], scope: Any) -> None:  # noqa: ANN401  # of ASGI
        self._rule = rule
        self._scope = scope
        self._places: list[tuple[Watch, Servers, Seen, Seen | None]] = []
        self._read: dict[str, Position] | None = None
        task = context.this_task()
        for database in databases:
            servers, watch = database.source.servers, database.source.watch
            if servers is not None and servers.replicas:
                before: Seen | None = context.seen(servers.key)
                seen = Seen(task, before, partial(self._position_of, database.name))
                self._places.append((watch, servers, seen, before))
                context.see(servers.key, seen)

    def _position_of(self, name: str) -> Position | None:
        if self._read is None:
            self._read = self._rule.read(self._rule.brought(self._scope))
        return self._read.get(name)

    async def header(self) -> tuple[bytes, bytes] | None:
        """Return the header that tells the client how far the primary has come, if it has written."""
        found = []
        for watch, servers, seen, _before in self._places:
            if seen.wrote_at > BEGINNING:
                position = await servers.position_since(seen.wrote_at)
                if position is not None:
                    found.append((watch.database, position))
                else:
                    _log.warning(
                        "The primary of database %r does not say where it is: "
                        "the client of a request that has written may read older data.",
                        watch.database,
                    )
                    watch.swallowed("the position of the primary for a client", TimeoutError())
        return self._rule.given(self._rule.sign(found), self._scope) if found else None

    def drop(self) -> None:
        """Let the code around the request see again what it has seen."""
        for _watch, servers, _seen, before in self._places:
            context.see(servers.key, before)


def _text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes_of(text: str) -> bytes | None:
    try:
        return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
