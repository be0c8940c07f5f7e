"""This module sends HTTP requests as fast as they are answered, on some connections at once.

A small client instead of a tool from outside, so that the benchmark runs on every machine. It reads
no more of an answer than its length, to leave the processor to the server.
"""

import asyncio
import time

CONNECTIONS = 16
_OK = (b"HTTP/1.1 200", b"HTTP/1.1 201")


class _Connection(asyncio.Protocol):
    """One connection: the next request goes out when an answer is complete."""

    def __init__(self, request: bytes, until: float, latencies: list[float]) -> None:
        self._request = request
        self._until = until
        self._latencies = latencies
        self._received = b""
        self._sent = 0.0
        self._transport: asyncio.WriteTransport | None = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return
        if not head.startswith(_OK):
            self._end(ValueError(f"the server answered {head.splitlines()[0].decode()}"))
            return
        now = time.perf_counter()
        self._latencies.append(now - self._sent)
        self._received = b""
        if now < self._until:
            self._send()
        else:
            self._end(None)

    def connection_lost(self, _error: Exception | None) -> None:
        self._end(ConnectionError("the server closed the connection"))

    def _send(self) -> None:
        assert self._transport is not None
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def _end(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(error) if error else self.over.set_result(None)
        if self._transport is not None:
            self._transport.close()


def _length(head: bytes) -> int:
    for line in head.lower().splitlines():
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def request_bytes(method: str, path: str, body: bytes = b"") -> bytes:
    """Write a request down, once for all."""
    kind = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nhost: bench\r\n{kind}\r\n".encode() + body


async def load(port: int, request: bytes, seconds: float) -> dict[str, float]:
    """Send one request again and again; return the requests per second, and latencies in seconds."""
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    started = time.perf_counter()

    def connection() -> _Connection:
        return _Connection(request, started + seconds, latencies)

    opened = [(await loop.create_connection(connection, "127.0.0.1", port))[1] for _ in range(CONNECTIONS)]
    await asyncio.gather(*(one.over for one in opened))
    took = time.perf_counter() - started
    latencies.sort()
    return {
        "per_s": len(latencies) / took,
        "p50_s": latencies[len(latencies) // 2],
        "p99_s": latencies[len(latencies) * 99 // 100],
    }
