"""This module measures requests per second, in rounds that take turns."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec

from benchmarks.environments import PYTHON_PATH, ROOT, NotAvailableError
from benchmarks.place import Place
from benchmarks.plan import Size, turned
from benchmarks.results import Partial
from benchmarks.servers import running
from benchmarks.web_client import load, request_bytes

_NEEDED = ("fastapi", "uvicorn")


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of which variants; the first one is what the others are compared with."""

    request: bytes
    variants: tuple[str, ...]


_GET = request_bytes("GET", "/people/7")
_POST = request_bytes("POST", "/signups", b'{"name":"new"}')
_IDLE = request_bytes("GET", "/idle")

LOADS = {
    "idle": Load(_IDLE, ("idle", "idle_unitwork")),
    "bare": Load(_IDLE, ("bare", "bare_unitwork")),
    "get": Load(_GET, ("hand", "session", "service", "ours", "driver")),
    "post": Load(_POST, ("hand", "session", "service", "ours", "driver")),
}

WEB = {
    "idle": "FastAPI, a request that touches no database, with and without the middleware",
    "bare": "the same without any framework",
    "get": "FastAPI, GET by id",
    "post": "FastAPI, POST that creates",
}


class _Server:
    """One variant behind a socket. Lives: until `close`."""

    def __init__(self, variant: str, place: Place) -> None:
        self._variant = variant
        self._process = subprocess.Popen(  # noqa: S603  # our own module
            [sys.executable, "-W", "ignore", "-m", "benchmarks.web_app", variant, json.dumps(asdict(place))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": PYTHON_PATH, "PYTHONHASHSEED": "0"},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise NotAvailableError(f"the server of variant {variant} did not start")
        self.port = int(line)

    def serve(self, request: bytes, seconds: float) -> dict[str, float]:
        """Let it answer one request again and again.

        Raises:
            NotAvailableError: It answers with an error.
        """
        try:
            return asyncio.run(load(self.port, request, seconds))
        except (ValueError, OSError) as error:
            raise NotAvailableError(f"variant {self._variant}: {error}") from error

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def compare_web(words: Sequence[str], size: Size, partial: Partial, say: Callable[[str], None]) -> None:
    """Measure all loads.

    Raises:
        NotAvailableError: There is no framework or no server to measure.
    """
    if absent := [name for name in _NEEDED if find_spec(name) is None]:
        raise NotAvailableError(f"{' and '.join(absent)} not installed")
    chosen = {
        name: one
        for name, one in LOADS.items()
        if not words or any(word in f"http/{name}/" for word in words)
    }
    missing = [
        (number, name)
        for number in range(size.http_rounds)
        for name in chosen
        if not partial.has(number, f"http/{name}")
    ]
    if missing:
        _run(missing, size, partial, say)
        partial.learn({name: version(name) for name in _NEEDED}, [])


def _run(
    missing: Sequence[tuple[int, str]], size: Size, partial: Partial, say: Callable[[str], None]
) -> None:
    with running("postgresql") as (place, _version), ExitStack() as stack:
        servers: dict[str, _Server] = {}
        for name in {variant for _number, load_name in missing for variant in LOADS[load_name].variants}:
            servers[name] = _Server(name, place)
            stack.callback(servers[name].close)
        for name in {load_name for _number, load_name in missing}:
            for variant in LOADS[name].variants:
                servers[variant].serve(LOADS[name].request, size.http_seconds / 2)
        for number, name in missing:
            say(f"http/{name}: round {number + 1} of {size.http_rounds}")
            what = LOADS[name]
            times = {
                variant: servers[variant].serve(what.request, size.http_seconds)
                for variant in turned(list(what.variants), number)
            }
            partial.keep(number, f"http/{name}", times)
