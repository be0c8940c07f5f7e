"""This module sends what happens to a browser, as server-sent events, until somebody has had enough."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from unitwork.observe.panel.journal import Journal

# Mappings. Each framework has types of its own for them, which do not fit each other.
Message: TypeAlias = Any
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_EVERY_S = 0.25
_SLOWLY_S = 1.0
_AGAIN_MS = 1_000
"""After so long a browser that has lost the connection tries again."""
_LIFE_S = 120.0
"""Then a browser connects again, and goes on where it was: so no server waits longer for its end."""
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),
)


class Stream:
    """One browser that looks. Lives: as long as it does, or the server.

    Args:
        journal: What it is told of.
        known: The panel and the change that a browser has seen last; it is told what came after that.
        hello: What it is told first.
        present: Returns what is so now: pools, waits, replicas; and the statements that cost most.
    """

    def __init__(
        self,
        journal: Journal,
        known: tuple[str, int],
        hello: dict[str, Any],
        present: Callable[[], dict[str, Any]],
    ) -> None:
        self._journal = journal
        self._hello = hello
        self._present = present
        self._panel, since = known
        self._reader = journal.open_reader(since)
        self._next_look = 0.0
        self._told = ""
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def end(self) -> None:
        """End soon; may be called in another thread or event loop."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._over.set)

    async def run(self, receive: Receive, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        """Send until the browser goes away, the server stops, or it has been long."""
        gone = asyncio.ensure_future(_gone(receive))
        over = asyncio.ensure_future(self._over.wait())
        hello = f"retry: {_AGAIN_MS}\n\n{_frame('hello', self._hello)}"
        sending: asyncio.Future[Any] = over
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, *headers]})
            sending = asyncio.ensure_future(_send_frame(send, hello))
            until = time.monotonic() + _LIFE_S
            while not (gone.done() or over.done() or server_stops() or time.monotonic() > until):
                news = self._news() if sending.done() else ""
                if news:
                    sending.result()
                    sending = asyncio.ensure_future(_send_frame(send, news))
                # Who does not read is not waited for beyond all that.
                await asyncio.wait({gone, over}, timeout=_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({gone, sending}, timeout=_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            if not gone.done() and sending.done():
                sending.result()
                if not (over.done() or server_stops()):
                    await _send_frame(send, _frame("again", {}))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            pass  # as some servers tell that the browser went away
        finally:
            self._journal.close_reader(self._reader)
            tasks: set[asyncio.Future[Any]] = {gone, over, sending}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _news(self) -> str:
        """Return what has happened since, and, now and then, what is so now."""
        frames = []
        news = self._journal.read(self._reader)
        if news is not None:
            frames.append(_frame("traces", news, f"{self._panel}-{self._journal.changes}"))
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _SLOWLY_S
            now = _frame("now", self._present())
            # A line without meaning shows that the connection lives, and finds out if it does not.
            frames.append(now if now != self._told else ":\n\n")
            self._told = now
        return "".join(frames)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_frame(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


def _frame(event: str, data: object, number: str | None = None) -> str:
    # JSON has no line ends of its own, so one line of data is all.
    mark = "" if number is None else f"id: {number}\n"
    return f"event: {event}\n{mark}data: {json.dumps(data, separators=(',', ':'))}\n\n"


def server_stops() -> bool:
    """Say whether uvicorn has been told to stop: it waits for streams, and tells them nothing."""
    for number in (signal.SIGINT, signal.SIGTERM):
        server = getattr(signal.getsignal(number), "__self__", None)
        if getattr(server, "should_exit", False) is True:
            return True
    return False
