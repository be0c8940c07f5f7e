"""This module reads what a panel sends, as a browser would."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.fixtures.web import Exchange, Message
from unitwork.observe import Panel

ASKED = {"x-unitwork-panel": "1"}
Told = dict[str, Any]


class Looking:
    """What a browser knows that has the stream open. Lives: as long as it has."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.hello: Told = {}
        self.now: Told = {}
        self.traces: dict[int, Told] = {}
        self.texts: dict[int, str] = {}
        self.passed_over = 0
        self.last_id = ""
        self._lines = response.aiter_lines()

    async def until(self, seen: Callable[["Looking"], bool]) -> "Looking":
        """Read until something has been seen."""
        while not seen(self):
            await self._read()
        return self

    async def trace(self, name: str) -> Told:
        """Read until a trace of this name has ended."""

        def ended(known: "Looking") -> bool:
            return any(
                name in each["name"] and each["duration_s"] is not None for each in known.traces.values()
            )

        await self.until(ended)
        return next(each for each in self.traces.values() if name in each["name"])

    async def _read(self) -> None:
        event = data = ""
        async for line in self._lines:
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("id: "):
                self.last_id = line[4:]
            elif line.startswith("data: "):
                data = line[6:]
            elif not line and event:
                break
        else:
            raise EOFError
        told = json.loads(data)
        if event == "traces":
            self.traces |= {trace["trace"]: trace for trace in told["traces"]}
            self.texts |= {int(number): text["sql"] for number, text in told["texts"].items()}
            self.passed_over += told["passed_over"]
        else:
            setattr(self, event, told)


@asynccontextmanager
async def looking(client: httpx.AsyncClient, **headers: str) -> AsyncIterator[Looking]:
    """Open the stream, as the page does."""
    async with client.stream("GET", "stream", headers=headers) as response:
        assert response.status_code == 200
        known = Looking(response)
        await known.until(lambda each: bool(each.hello))
        yield known


class Browser:
    """A stream without a server: what is sent is taken when the test says so. Lives: one test."""

    def __init__(self, panel: Panel) -> None:
        self.exchange = Exchange("/stream")
        self.frames: list[bytes] = []
        self.reads = asyncio.Event()
        """Whether it takes what comes."""
        self.reads.set()
        self._task = asyncio.ensure_future(panel(self.exchange.scope, self._receive, self._send))

    async def _receive(self) -> Message:
        await self.exchange.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.reads.wait()
        self.frames.append(message.get("body", b""))

    def told(self, event: str) -> list[Told]:
        """What came of one kind of event."""
        frames = b"".join(self.frames).decode().split("\n\n")
        found = [frame.splitlines() for frame in frames if frame.startswith(f"event: {event}\n")]
        return [json.loads(lines[-1].removeprefix("data: ")) for lines in found]

    async def until(self, seen: Callable[["Browser"], bool]) -> None:
        """Wait until something was sent."""
        while not seen(self):
            assert not self._task.done(), self._task
            await asyncio.sleep(0.01)

    async def leave(self) -> None:
        """Go away."""
        self.exchange.gone.set()
        self.reads.set()
        await self._task

    async def end(self) -> None:
        """Wait for the end of the stream, which the panel chooses."""
        await self._task
