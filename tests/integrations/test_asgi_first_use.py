"""The session of a request is made at its first use, wherever in the request that is."""

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.fixtures.errors import ShopError
from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from tests.fixtures.web import Exchange, Message
from unitwork import (
    Database,
    NoTransactionError,
    Propagation,
    Repository,
    TransactionEndedError,
    TransactionRefusedError,
)
from unitwork.integrations.asgi import Receive, Send, UnitOfWorkMiddleware

_THREADS = 4
"""Fewer than asyncio's own pool of threads has: all wait for each other."""


async def serve(db: Database, endpoint: Callable[[Request], Any], **options: Any) -> Exchange:
    """Serve one request by this endpoint, inside the middleware."""
    around = Middleware(UnitOfWorkMiddleware, database=db, **options)
    return await Exchange().run(Starlette(routes=[Route("/", endpoint)], middleware=[around]))


def start(status: int) -> dict[str, Any]:
    """The first message of a response."""
    return {"type": "http.response.start", "status": status, "headers": []}


def sessions_alive() -> int:
    """How many sessions nobody has freed yet."""
    return sum(isinstance(known, AsyncSession) for known in gc.get_objects())


def fail(db: Database) -> str:
    """Return the error of a session that is not to be had."""
    with pytest.raises((TransactionRefusedError, TransactionEndedError)) as caught:
        _ = db.session
    return str(caught.value)


async def test_first_use_in_a_child_task_is_the_session_of_the_request(
    db: Database, observer: Observer
) -> None:
    """What a child task asks for first is the same session, and is committed with the request."""
    sessions: list[AsyncSession] = []

    async def add(note: str) -> None:
        sessions.append(db.session)
        db.session.add(Audit(note=note))

    async def endpoint(_request: Request) -> Response:
        await asyncio.gather(add("one"), add("two"), add("three"))
        sessions.append(db.session)
        return Response()

    exchange = await serve(db, endpoint)

    assert exchange.statuses == [200]
    assert len(set(map(id, sessions))) == 1
    assert await observer.notes(Audit) == ["one", "three", "two"]


async def test_first_use_in_a_thread_is_refused_and_spoils_nothing(db: Database, observer: Observer) -> None:
    """A thread has no event loop; the session that the request uses later is that of its own loop."""
    errors: list[str] = []

    async def endpoint(_request: Request) -> Response:
        errors.append(await asyncio.to_thread(fail, db))
        db.session.add(Audit(note="after the thread"))
        await db.session.flush()
        return Response()

    exchange = await serve(db, endpoint)

    assert exchange.statuses == [200]
    assert "thread" in errors[0]
    assert await observer.notes(Audit) == ["after the thread"]


async def test_first_use_in_another_loop_is_refused_and_spoils_nothing(
    db: Database, observer: Observer
) -> None:
    """A session belongs to the event loop of its request, whoever asks first."""
    errors: list[str] = []

    async def add() -> None:
        with pytest.raises(TransactionRefusedError) as caught:
            db.session.add(Audit(note="elsewhere"))
        errors.append(str(caught.value))

    async def endpoint(_request: Request) -> Response:
        context = contextvars.copy_context()
        await asyncio.to_thread(context.run, asyncio.run, add())
        db.session.add(Audit(note="here"))
        return Response()

    exchange = await serve(db, endpoint)

    assert exchange.statuses == [200]
    assert "event loop" in errors[0]
    assert await observer.notes(Audit) == ["here"]


async def test_threads_that_race_find_one_session(db: Database) -> None:
    """Many threads and the loop look first at the same time: there is one session."""
    found: list[set[int]] = []

    async def endpoint(_request: Request) -> Response:
        together = threading.Barrier(_THREADS)

        async def look() -> int:
            return id(db.session)

        def in_a_thread(loop: asyncio.AbstractEventLoop) -> int:
            together.wait()
            fail(db)
            return asyncio.run_coroutine_threadsafe(look(), loop).result()

        loop = asyncio.get_running_loop()
        threads = [asyncio.to_thread(in_a_thread, loop) for _ in range(_THREADS)]
        found.append(set(await asyncio.gather(*threads)))
        return Response()

    for _ in range(20):
        await serve(db, endpoint)

    assert [len(sessions) for sessions in found] == [1] * 20


@pytest.mark.parametrize("propagation", list(Propagation))
async def test_first_use_by_a_block_is_in_the_unit(
    db: Database, observer: Observer, propagation: Propagation
) -> None:
    """A block of any propagation may be what wakes the unit, and does there what it does in any unit."""

    @db.transactional(propagation=propagation)
    async def add() -> None:
        db.session.add(Audit(note="block"))

    async def endpoint(_request: Request) -> Response:
        await add()
        return Response()

    exchange = await serve(db, endpoint)

    stored = propagation is not Propagation.NEVER
    assert exchange.statuses == [200 if stored else 500]
    assert await observer.notes(Audit) == (["block"] if stored else [])


@pytest.mark.parametrize("verb", ["commit", "rollback", "close"])
async def test_first_use_by_hand_ends_nothing_and_goes_on(
    db: Database, observer: Observer, verb: str
) -> None:
    """Ending by hand what nobody has begun is harmless."""

    async def endpoint(_request: Request) -> Response:
        await getattr(db, verb)()
        db.session.add(Audit(note="after"))
        return Response()

    exchange = await serve(db, endpoint)

    assert exchange.statuses == [200]
    assert await observer.notes(Audit) == ["after"]


async def test_entities_of_two_reads_are_the_same_object(db: Database, observer: Observer) -> None:
    """A read of a repository that wakes the unit leaves its entity with the session of the request."""
    await observer.run("INSERT INTO audit (id, note) VALUES (1, 'kept')")
    audits = Repository[Audit](db)
    found: list[Audit | None] = []

    async def endpoint(_request: Request) -> Response:
        found.append(await audits.get(1))
        found.append(await db.session.get(Audit, 1))
        return Response()

    await serve(db, endpoint)

    assert found[0] is not None
    assert found[0] is found[1]


async def test_request_that_fails_asleep_is_over(db: Database) -> None:
    """A request that raises without a use of the database leaves nothing, and says so later."""
    contexts: list[contextvars.Context] = []

    async def endpoint(_request: Request) -> Response:
        contexts.append(contextvars.copy_context())
        raise ShopError

    exchange = await serve(db, endpoint)

    assert exchange.statuses == [500]
    assert "the request GET /" in contexts[0].run(fail, db)


async def test_first_use_after_the_answer_names_the_request(db: Database, observer: Observer) -> None:
    """After the answer the session is refused by the name of the request; a block works."""
    errors: list[str] = []

    async def later() -> None:
        errors.append(fail(db))
        async with db.transaction():
            db.session.add(Audit(note="background"))

    async def endpoint(_request: Request) -> Response:
        return Response(background=BackgroundTask(later))

    exchange = await serve(db, endpoint)

    assert exchange.statuses == [200]
    assert "the request GET /" in errors[0]
    assert await observer.notes(Audit) == ["background"]


async def test_use_after_an_answer_that_stored_names_the_request(db: Database, observer: Observer) -> None:
    """The same is said when the request has used its session."""
    errors: list[str] = []

    async def later() -> None:
        errors.append(fail(db))

    async def endpoint(_request: Request) -> Response:
        db.session.add(Audit(note="request"))
        return Response(background=BackgroundTask(later))

    await serve(db, endpoint)

    assert "the request GET /" in errors[0]
    assert await observer.notes(Audit) == ["request"]


@pytest.mark.parametrize("atomic", [False, True])
async def test_nothing_is_left_in_the_context_of_the_server(db: Database, *, atomic: bool) -> None:
    """A server that handles several requests in one context finds none of them afterwards."""

    async def endpoint(_request: Request) -> Response:
        return Response()

    for _ in range(2):
        await serve(db, endpoint, atomic=atomic)

    with pytest.raises(NoTransactionError):
        _ = db.session


async def test_one_of_two_databases_is_used(db: Database, observer: Observer) -> None:
    """The unit of the Database that is used commits; the other one's never wakes."""
    async with Database("sqlite+aiosqlite:///:memory:", name="second") as second:

        async def endpoint(_request: Request) -> Response:
            db.session.add(Audit(note="first"))
            return Response()

        around = Middleware(UnitOfWorkMiddleware, database=[second, db])
        app = Starlette(routes=[Route("/", endpoint)], middleware=[around])
        exchange = await Exchange().run(app)
        opened = second.pool_status()

    assert exchange.statuses == [200]
    assert await observer.notes(Audit) == ["first"]
    assert (opened.checked_out, opened.idle) == (0, 0)


async def test_two_answers_at_once_end_the_request_once(db: Database, observer: Observer) -> None:
    """A watchdog that answers while the first answer is being stored does not end anything again."""
    heard: list[str] = []

    async def app(_scope: Message, _receive: Receive, send: Send) -> None:
        db.session.add(Audit(note="stored"))
        await db.session.flush()
        db.on_commit(lambda: heard.append("commit"))
        db.on_rollback(lambda: heard.append("rollback"))
        await asyncio.gather(send(start(200)), send(start(503)))

    exchange = await Exchange().run(UnitOfWorkMiddleware(app, database=db))

    assert exchange.raised is None
    assert heard == ["commit"]
    assert await observer.notes(Audit) == ["stored"]


async def test_answer_that_is_never_sent_ends_nothing(db: Database, observer: Observer) -> None:
    """An answer that was cancelled before it was begun is none, whether or not the unit was used."""

    async def app(_scope: Message, _receive: Receive, send: Send) -> None:
        given_up = asyncio.ensure_future(send(start(200)))
        given_up.cancel()
        await asyncio.wait({given_up})
        db.session.add(Audit(note="stored"))
        await send(start(201))

    exchange = await Exchange().run(UnitOfWorkMiddleware(app, database=db))

    assert [message["status"] for message in exchange.sent] == [201]
    assert await observer.notes(Audit) == ["stored"]


@pytest.mark.parametrize("used", [True, False])
async def test_block_around_the_application_goes_on_after_the_answer(
    db: Database, observer: Observer, *, used: bool
) -> None:
    """A test that opens a block around its client finds it again in background tasks."""
    inside: list[bool] = []

    async def app(_scope: Message, _receive: Receive, send: Send) -> None:
        if used:
            db.session.add(Audit(note="request"))
        await send(start(200))
        async with db.transaction() as session:
            inside.append(session is outer)
            session.add(Audit(note="background"))

    async with db.transaction() as outer:
        if not used:  # two connections may not write at a time on SQLite
            await outer.execute(insert(Audit).values(note="outer"))
        exchange = await Exchange().run(UnitOfWorkMiddleware(app, database=db))

    assert exchange.raised is None
    assert inside == [True]
    assert await observer.notes(Audit) == ["background", "request" if used else "outer"]


async def test_late_look_at_an_ended_unit_leaves_no_garbage(db: Database) -> None:
    """What a background task looks for after the answer is freed without the collector."""

    async def app(_scope: Message, _receive: Receive, send: Send) -> None:
        await send(start(200))
        fail(db)

    served = UnitOfWorkMiddleware(app, database=db)
    gc.collect()
    gc.disable()
    try:
        before = sessions_alive()
        for _ in range(20):
            await Exchange().run(served)
        after = sessions_alive()
    finally:
        gc.enable()

    assert after - before < 2
