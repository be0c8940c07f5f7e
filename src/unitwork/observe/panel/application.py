"""This module is the panel as an ASGI application: its page, its stream, and what a click asks."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from unitwork.database import Database
from unitwork.dialects.plans import NoPlanError, Plan, mode_for, plan_of
from unitwork.errors import OptionError
from unitwork.observe.panel.gate import Allow, Gate, Scope, header, is_of_this_page
from unitwork.observe.panel.journal import Journal
from unitwork.observe.panel.present import present
from unitwork.observe.panel.stream import Message, Receive, Send, Stream

__all__ = ["Panel"]

_FOLDER = Path(__file__).parent / "page"
_KINDS = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_PAGE = "page.html"
_JSON = b"application/json"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = [
    (b"cache-control", b"no-store, no-transform"),
    (b"content-security-policy", _POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]
_GRACE_S = 30.0
"""Whoever loads the page again finds what happened meanwhile."""
_QUERIES = 300
_BRIEF = 50
_BODY_BYTES = 10_000
_DIGITS = 20
_STREAMS = 100
_EXPLAIN_S = 15.0
_LEAST_BYTES = 1_000_000


class Panel:
    """A page that shows what transactions do now: an ASGI application, to be mounted in yours.

    `app.mount("/unitwork", Panel(db, development=True))`. It shows requests and jobs with their blocks,
    statements and waits as they happen, who holds the connections, and which statements cost most. It needs
    no further package, and its page loads nothing from elsewhere. While nobody looks, and half a minute
    after that, it observes nothing. No value of a parameter is ever kept. Lives: as long as the
    application.

    Args:
        *databases: What it shows.
        allow: Says by the ASGI scope of a request, as a function or an async one, who may see it: the text
            of statements, names of functions, and lines of code. All others get 404, also when it raises.
        development: Do without `allow`, and answer to local names alone, such as `localhost` or an
            address; others may belong to a page of somebody else.
        always: Observe from now on, also while nobody looks.
        memory_mb: About how many megabytes of it are kept; the oldest goes first.

    Raises:
        OptionError: There is neither `allow` nor `development`, no Database, or not enough memory.

    Database:
        Nothing, until somebody asks for the plan of a statement: EXPLAIN in a transaction that is rolled
        back.

    Examples:
        >>> panel = Panel(db, allow=lambda scope: "operator" in scope.get("roles", ()))
        >>> panel
        <Panel of 'default': nobody looks>
    """

    def __init__(
        self,
        *databases: Database,
        allow: Allow | None = None,
        development: bool = False,
        always: bool = False,
        memory_mb: float = 32,
    ) -> None:
        given: tuple[Any, ...] = databases
        if not given or not all(isinstance(each, Database) for each in given):
            raise OptionError("databases", databases, ["one Database or more: Panel(db, ...)"])
        if not memory_mb * 1_000_000 >= _LEAST_BYTES:
            raise OptionError("memory_mb", memory_mb, ["a number of megabytes from 1"])
        self._gate = Gate(allow, development=development)
        self._databases = {database.name: database for database in databases}
        self._always = always
        self._journal = Journal(int(memory_mb * 1_000_000))
        self._id = secrets.token_hex(4)
        self._streams: list[Stream] = []
        self._rest: asyncio.TimerHandle | None = None
        self._observes = False
        self._answers: dict[str, Callable[[Scope, Receive], Awaitable[_Answer]]] = {
            "state": self._state,
            "trace": self._trace,
            "explain": self._explain,
            "clear": self._clear,
        }
        self._files = {file.name: file.read_bytes() for file in _FOLDER.iterdir() if file.suffix in _KINDS}
        if always:
            self._observe()

    def __repr__(self) -> str:
        names = ", ".join(map(repr, self._databases))
        looks = {0: "nobody looks", 1: "one looks"}.get(len(self._streams), f"{len(self._streams)} look")
        return f"<Panel of {names}: {looks}>"

    @property
    def observes(self) -> bool:
        """Whether it observes now."""
        return self._observes

    def close(self) -> None:
        """End all that is open in browsers, and observe no more until somebody looks again."""
        for stream in self._streams:
            stream.end()
        self._take_rest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; lifespan too, if the panel is an application by itself."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        elif not await self._gate.admits(scope):
            await _Answer(404).send(send)
        elif _route(scope) == "stream" and scope["method"] == "GET":
            await self._stream(scope, receive, send)
        else:
            await (await self._answer(scope, receive)).send(send, with_body=scope["method"] != "HEAD")

    # -- while somebody looks ----------------------------------------------------------------------

    def _observe(self) -> None:
        if not self._observes:
            self._observes = True
            for database in self._databases.values():
                database.observe(self._journal)

    def _take_rest(self) -> None:
        self._rest = None
        if self._observes and not self._always:
            self._observes = False
            for database in self._databases.values():
                database.unobserve(self._journal)
            self._journal.rest()

    def _look(self) -> None:
        """Somebody looks: observe until nobody has done so for a while."""
        self._observe()
        if self._rest is not None:
            self._rest.cancel()
        self._rest = asyncio.get_running_loop().call_later(_GRACE_S, self._rest_if_alone)

    def _rest_if_alone(self) -> None:
        if self._streams:
            self._rest = None
        else:
            self._take_rest()

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self._streams) >= _STREAMS:
            await _Answer(503, {"error": f"{_STREAMS} pages are open already: close one."}).send(send)
            return
        self._look()
        last = header(scope, b"last-event-id") or _asked(scope, "since") or ""
        mine, _, since = last.partition("-")
        known = (_number(since) or 0) if mine == self._id else 0
        stream = Stream(self._journal, (self._id, known), self._hello(), self._present)
        self._streams.append(stream)
        try:
            await stream.run(receive, send, _HEADERS)
        finally:
            self._streams.remove(stream)
            self._look()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message: Message = await receive()
            if message["type"] == "lifespan.shutdown":
                self.close()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    # -- what it answers ---------------------------------------------------------------------------

    async def _answer(self, scope: Scope, receive: Receive) -> _Answer:  # noqa: PLR0911  # one for each reason
        name, method = _route(scope), scope["method"]
        if _may_be_the_page(scope, name) and name not in {*self._answers, *self._files}:
            name = _PAGE
        if name in self._answers:
            if method not in (("POST",) if name in ("explain", "clear") else ("GET", "HEAD")):
                return _Answer(405)
            if method == "POST" and not is_of_this_page(scope):
                return _Answer(403, {"error": "This was not asked by the page of the panel itself."})
            return await self._answers[name](scope, receive)
        here = _external_path(scope).rpartition("/")[2]
        if name == _PAGE and here not in ("", _PAGE):
            # What the page loads is beside it.
            return _Answer(307, more=[(b"location", f"./{here}/".encode())])
        if name not in self._files:
            return _Answer(404)
        if method not in ("GET", "HEAD"):
            return _Answer(405)
        return _Answer(200, self._files[name], kind=_KINDS[Path(name).suffix])

    def _hello(self) -> dict[str, Any]:
        return {
            "panel": self._id,
            "now": time.time(),
            "databases": [
                {"name": name, "kind": database.source.backend.dialect}
                for name, database in self._databases.items()
            ],
            "always": self._always,
        }

    def _present(self) -> dict[str, Any]:
        journal = self._journal
        return {
            "databases": [present(database) for database in self._databases.values()],
            "swallowed": journal.errors(),
            "memory": {"used": journal.size, "forgotten": journal.forgotten},
            **journal.costly(_QUERIES),
        }

    async def _state(self, scope: Scope, receive: Receive) -> _Answer:  # noqa: ARG002  # as all of them
        """All that is kept, for a program or as a file; `brief`, the newest of it."""
        self._look()
        brief = _asked(scope, "brief") is not None
        told = {**self._hello(), **self._present(), **self._journal.newest(_BRIEF if brief else None)}
        name = b'attachment; filename="unitwork.json"'
        more = [(b"content-disposition", name)] if _asked(scope, "file") is not None else []
        return _Answer(200, told, more=more)

    async def _trace(self, scope: Scope, receive: Receive) -> _Answer:  # noqa: ARG002  # as above
        number = _number(_asked(scope, "number") or "")
        found = self._journal.trace(number) if number is not None else None
        return _Answer(404, {"error": "It is no longer kept."}) if found is None else _Answer(200, found)

    async def _clear(self, scope: Scope, receive: Receive) -> _Answer:  # noqa: ARG002  # as above
        self._journal.clear()
        return _Answer(200, {})

    async def _explain(self, scope: Scope, receive: Receive) -> _Answer:  # noqa: ARG002, PLR0911  # as above
        asked = _question(await _body(receive))
        if asked is None:
            return _Answer(400, {"error": 'Send {"query": number, "analyze": false}.'})
        number, analyze = asked
        query = self._journal.queries.numbered(number)
        if query is None:
            return _Answer(404, {"error": "This statement is no longer kept: send it again."})
        if query.cut:
            return _Answer(200, {"error": "The statement is too long: its end was not kept."})
        try:
            plan = await self._plan(self._databases[query.database], query.sent, analyze=analyze)
        except NoPlanError as error:
            return _Answer(200, {"error": str(error)})
        except TimeoutError:
            return _Answer(200, {"error": f"There was no answer within {_EXPLAIN_S:.0f} s."})
        except (SQLAlchemyError, OSError) as error:
            return _Answer(200, {"error": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"})
        return _Answer(200, {"lines": list(plan.lines), "note": plan.note, "analyzed": analyze})

    async def _plan(self, database: Database, sql: str, *, analyze: bool) -> Plan:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # this runs in one
        self._journal.own.add(task)
        try:
            source = database.source
            mode = mode_for(source.backend.dialect, analyze=analyze)
            async with asyncio.timeout(_EXPLAIN_S), source.home_engine().connect() as connection:
                await connection.execution_options(**source.backend.execution_options(mode))
                try:
                    return await connection.run_sync(plan_of, sql, analyze=analyze)
                finally:
                    await connection.rollback()
        finally:
            self._journal.own.discard(task)


class _Answer:
    """One response. Lives: until it is sent."""

    def __init__(
        self,
        status: int,
        content: bytes | dict[str, Any] = b"",
        *,
        kind: bytes = _JSON,
        more: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        self._status = status
        self._kind = kind
        self._more = more or []
        # A page that shows it as text shows it as text; `<` helps who does not.
        self._body = (
            content if isinstance(content, bytes) else json.dumps(content).replace("<", "\\u003c").encode()
        )

    @override
    def __repr__(self) -> str:
        return f"<{self._status}>"

    async def send(self, send: Send, *, with_body: bool = True) -> None:
        """Send it as a whole."""
        length = (b"content-length", str(len(self._body)).encode())
        headers = [(b"content-type", self._kind), length, *_HEADERS, *self._more]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body if with_body else b""})


def _route(scope: Scope) -> str:
    """Return what is asked for, wherever the panel is mounted: the last part of the path."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    if _external_path(scope).endswith("/"):
        return _PAGE
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    # Some frameworks end the path of what is mounted with a slash.
    return path.rstrip("/").rpartition("/")[2] or _PAGE


def _external_path(scope: Scope) -> str:
    """Return the path that the browser has, as far as it is known."""
    raw: bytes = scope.get("raw_path") or b""
    return raw.partition(b"?")[0].decode("latin-1") or quote(scope["path"])


def _may_be_the_page(scope: Scope, name: str) -> bool:
    """Say whether a person asks for a name that is perhaps that of the panel, since nobody has said it."""
    root_known = bool(scope.get("root_path"))
    return not root_known and "." not in name and "text/html" in (header(scope, b"accept") or "")


def _number(text: str) -> int | None:
    """Return a number of ours; None for what is none, and for those that Python takes for an attack."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS else None


def _asked(scope: Scope, name: str) -> str | None:
    found = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True).get(name)
    return found[0] if found else None


def _question(body: bytes) -> tuple[int, bool] | None:
    """Read which statement is to be explained, and whether it is to run for that; None if it is not said."""
    try:
        asked: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(asked, dict):
        return None
    number: Any = asked.get("query")
    analyze: Any = asked.get("analyze", False)
    return (number, analyze) if isinstance(number, int) and isinstance(analyze, bool) else None


async def _body(receive: Receive) -> bytes:
    """Read what a request holds; of too much nothing."""
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        body += message.get("body", b"")
        if len(body) > _BODY_BYTES:
            return b""
        if not message.get("more_body", False):
            return body
