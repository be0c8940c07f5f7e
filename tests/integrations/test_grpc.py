"""grpc.aio: each call is a unit of work, committed before its response, on a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from sqlalchemy import select

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import Database, Repository
from unitwork.integrations.grpc import UnitOfWorkInterceptor

TAKEN = "INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)"
Context = Any  # grpc has no types


class Shop:
    """The methods of a service. Messages are bytes: what is in them is not of interest here."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.reached = asyncio.Event()

    async def _add(self, name: bytes) -> None:
        self.db.session.add(Account(name=name.decode()))
        await self.db.session.flush()

    async def create(self, name: bytes, _context: Context) -> bytes:
        await self._add(name)
        return name

    async def unsent(self, name: bytes, _context: Context) -> bytes:
        self.db.session.add(Account(name=name.decode()))
        return name

    async def register(self, name: bytes, _context: Context) -> bytes:
        await Repository[Account](self.db).create(name=name.decode())
        raise RuntimeError("broken on purpose")

    async def broken(self, name: bytes, _context: Context) -> bytes:
        await self._add(name)
        raise RuntimeError("broken on purpose")

    async def aborted(self, name: bytes, context: Context) -> bytes:
        await self._add(name)
        await context.abort(grpc.StatusCode.ALREADY_EXISTS, "taken")
        return name

    async def marked(self, name: bytes, context: Context) -> bytes:
        await self._add(name)
        context.set_code(grpc.StatusCode.NOT_FOUND)
        return name

    async def marked_fine(self, name: bytes, context: Context) -> bytes:
        await self._add(name)
        context.set_code(grpc.StatusCode.OK)
        return name

    async def echo(self, name: bytes, _context: Context) -> bytes:
        return name

    def in_thread(self, name: bytes, _context: Context) -> bytes:
        return name

    async def slow(self, name: bytes, _context: Context) -> bytes:
        await self._add(name)
        self.reached.set()
        await asyncio.sleep(60)
        return name

    async def create_all(self, names: AsyncIterator[bytes], _context: Context) -> bytes:
        async for name in names:
            await self._add(name)
            if name == b"broken":
                raise RuntimeError("broken on purpose")
        return b"done"

    async def list_all(self, _request: bytes, _context: Context) -> AsyncIterator[bytes]:
        async with self.db.transaction(read_only=True) as session:
            names = (await session.scalars(select(Account.name).order_by(Account.id))).all()
        for name in names:
            yield f"{name} {self.db.pool_status().checked_out}".encode()

    async def register_each(self, names: AsyncIterator[bytes], _context: Context) -> AsyncIterator[bytes]:
        async for name in names:
            async with self.db.transaction():
                await self._add(name)
            yield b"%s %d" % (name, self.db.pool_status().checked_out)

    async def stream_session(self, _request: bytes, _context: Context) -> AsyncIterator[bytes]:
        yield str(self.db.session).encode()

    def handler(self) -> Any:  # noqa: ANN401 - grpc has no types
        """What generated code registers."""
        unary = ("create", "unsent", "register", "broken", "aborted", "marked", "marked_fine", "echo")
        methods = {name: grpc.unary_unary_rpc_method_handler(getattr(self, name)) for name in unary}
        methods["in_thread"] = grpc.unary_unary_rpc_method_handler(self.in_thread)
        methods["slow"] = grpc.unary_unary_rpc_method_handler(self.slow)
        methods["create_all"] = grpc.stream_unary_rpc_method_handler(self.create_all)
        methods["list_all"] = grpc.unary_stream_rpc_method_handler(self.list_all)
        methods["stream_session"] = grpc.unary_stream_rpc_method_handler(self.stream_session)
        methods["register_each"] = grpc.stream_stream_rpc_method_handler(self.register_each)
        return grpc.method_handlers_generic_handler("Shop", methods)


class Client:
    """Calls the methods of the service by name."""

    def __init__(self, channel: Any) -> None:  # noqa: ANN401 - grpc has no types
        self._channel = channel

    def __getattr__(self, method: str) -> Any:  # noqa: ANN401 - grpc has no types
        kind = {
            "create_all": "stream_unary",
            "list_all": "unary_stream",
            "stream_session": "unary_stream",
            "register_each": "stream_stream",
        }.get(method, "unary_unary")
        return getattr(self._channel, kind)(f"/Shop/{method}")


class Rpc:
    """Starts servers, and gives clients for them. Lives: one test."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def client(self, shop: Shop, interceptor: UnitOfWorkInterceptor) -> Client:
        """Serve on a free port of this machine."""
        server = grpc.aio.server(interceptors=[interceptor])
        server.add_generic_rpc_handlers([shop.handler()])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._stack.push_async_callback(server.stop, None)
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self._stack.push_async_callback(channel.close)
        return Client(channel)


@pytest.fixture
async def rpc(db: Database) -> AsyncIterator[Rpc]:
    """Ends before the Database of the test does."""
    async with AsyncExitStack() as stack:
        yield Rpc(stack)


@pytest.fixture
async def client(db: Database, rpc: Rpc) -> Client:
    """A client of a server whose calls are units of work."""
    return await rpc.client(Shop(db), UnitOfWorkInterceptor(db))


async def status(call: Any) -> Any:  # noqa: ANN401 - grpc has no types
    """The status that a client gets."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_call_is_one_transaction(client: Client, observer: Observer) -> None:
    """What a method writes is stored when its response arrives."""
    assert await client.create(b"ann") == b"ann"
    assert await client.marked_fine(b"bob") == b"bob"
    assert await observer.names(Account) == ["ann", "bob"]


@pytest.mark.parametrize(
    ("method", "code"), [("broken", "UNKNOWN"), ("aborted", "ALREADY_EXISTS"), ("marked", "NOT_FOUND")]
)
async def test_error_status_rolls_back(
    db: Database, client: Client, observer: Observer, method: str, code: str
) -> None:
    """An exception, an abort, and a code that is set before returning leave nothing behind."""
    assert await status(getattr(client, method)(b"ann")) is grpc.StatusCode[code]
    assert await observer.names(Account) == []
    assert db.pool_status().checked_out == 0


async def test_failing_commit_is_never_a_success(client: Client, observer: Observer) -> None:
    """COMMIT comes before the response; when it fails, the client hears of it."""
    await observer.run(TAKEN)

    assert await status(client.unsent(b"ann")) is grpc.StatusCode.UNKNOWN
    assert await status(client.unsent(b"bob")) is grpc.StatusCode.OK
    assert await observer.names(Account) == ["ann", "bob"]


@pytest.mark.parametrize(("atomic", "stored"), [(False, ["ann"]), (True, [])])
async def test_atomic_joins_the_blocks_of_a_call(
    db: Database, rpc: Rpc, observer: Observer, stored: list[str], *, atomic: bool
) -> None:
    """Blocks inside commit by themselves, or stand and fall with the call."""
    client = await rpc.client(Shop(db), UnitOfWorkInterceptor(db, atomic=atomic))

    assert await status(client.register(b"ann")) is grpc.StatusCode.UNKNOWN
    assert await observer.names(Account) == stored


@pytest.mark.parametrize(
    ("last", "code", "stored"), [(b"bob", "OK", ["ann", "bob"]), (b"broken", "UNKNOWN", [])]
)
async def test_streamed_requests_are_one_transaction(
    client: Client, observer: Observer, last: bytes, code: str, stored: list[str]
) -> None:
    """A method that is sent a stream commits before its one response, or rolls back all of it."""

    async def names() -> AsyncIterator[bytes]:
        yield b"ann"
        yield last

    assert await status(client.create_all(names())) is grpc.StatusCode[code]
    assert await observer.names(Account) == stored


async def test_streamed_responses_open_blocks_of_their_own(
    db: Database, client: Client, observer: Observer
) -> None:
    """Between the messages that it sends, a method holds no connection, and has no session."""

    async def names() -> AsyncIterator[bytes]:
        yield b"ann"
        yield b"bob"

    registered = [message async for message in client.register_each(names())]
    listed = [message async for message in client.list_all(b"")]

    assert registered == listed == [b"ann 0", b"bob 0"]
    with pytest.raises(grpc.aio.AioRpcError, match="No transaction is open"):
        _ = [message async for message in client.stream_session(b"")]


@pytest.mark.parametrize("method", ["echo", "in_thread", "missing"])
async def test_call_that_needs_no_database_costs_nothing(db: Database, client: Client, method: str) -> None:
    """No connection is opened for it; methods in threads and missing ones are answered as always."""
    expected = grpc.StatusCode.UNIMPLEMENTED if method == "missing" else grpc.StatusCode.OK

    assert await status(getattr(client, method)(b"ann")) is expected
    assert (db.pool_status().checked_out, db.pool_status().idle) == (0, 0)


async def test_cancelled_call_rolls_back(db: Database, rpc: Rpc, observer: Observer) -> None:
    """A client that gives up leaves nothing behind."""
    shop = Shop(db)
    call = (await rpc.client(shop, UnitOfWorkInterceptor(db))).slow(b"ann")
    await shop.reached.wait()

    call.cancel()
    async with asyncio.timeout(10):
        while db.pool_status().checked_out:  # noqa: ASYNC110 - the other side of a socket has no event
            await asyncio.sleep(0.01)

    assert await observer.names(Account) == []


async def test_calls_at_once_each_have_their_own(client: Client, observer: Observer) -> None:
    """Calls at the same time never see each other's session."""
    methods = ["create", "broken", "aborted", "marked"]

    codes = await asyncio.gather(
        *(status(getattr(client, methods[number % 4])(b"%d" % number)) for number in range(20))
    )

    fine = {str(number) for number, code in enumerate(codes) if code is grpc.StatusCode.OK}
    assert fine == {str(number) for number in range(0, 20, 4)}
    assert set(await observer.names(Account)) == fine


async def test_several_databases(db: Database, rpc: Rpc, observer: Observer) -> None:
    """Each has a unit of its own."""
    async with Database("sqlite+aiosqlite:///:memory:", name="reports") as reports:
        await reports.create_all(Audit)

        class Both(Shop):
            async def create(self, name: bytes, _context: Context) -> bytes:
                db.session.add(Audit(note=name.decode()))
                reports.session.add(Audit(note=name.decode()))
                return name

        client = await rpc.client(Both(db), UnitOfWorkInterceptor([db, reports]))
        await client.create(b"x")
        async with reports.transaction() as session:
            stored = list(await session.scalars(select(Audit.note)))

    assert (stored, await observer.notes(Audit)) == (["x"], ["x"])
