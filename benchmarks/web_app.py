"""This program serves one variant of the same small application with uvicorn, until its input ends."""

import asyncio
import itertools
import json
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.model import Person, Signup
from benchmarks.place import Place
from benchmarks.references.driver import connect as connect_driver
from benchmarks.references.engine import database_at
from unitwork import Repository
from unitwork.integrations.fastapi import UnitOfWorkMiddleware, session_of

_addresses = itertools.count(1)


class PersonOut(BaseModel):
    """What GET answers."""

    model_config = {"from_attributes": True}

    id: int
    name: str
    email: str
    age: int
    city: str


class SignupIn(BaseModel):
    """What POST takes."""

    name: str


def _new_address(variant: str) -> str:
    # Every request stores a row of its own, whoever sends it.
    return f"{variant}-{next(_addresses)}@example.com"


def idle(_place: Place) -> Any:  # an ASGI application
    """Touch nothing."""
    app = FastAPI()

    @app.get("/idle")
    async def nothing() -> dict[str, str]:
        return {"status": "idle"}

    return app


def idle_unitwork(place: Place) -> Any:  # as above
    """The same under the middleware."""
    return UnitOfWorkMiddleware(idle(place), database=database_at(place))


def bare(_place: Place) -> Any:  # as above
    """Touch nothing, without any framework."""
    body = b'{"status":"idle"}'
    head = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))],
    }

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send(head)
            await send({"type": "http.response.body", "body": body})

    return app


def bare_unitwork(place: Place) -> Any:  # as above
    """The same under the middleware."""
    return UnitOfWorkMiddleware(bare(place), database=database_at(place))


def hand(place: Place) -> Any:  # as above
    """A session as a dependency, written by hand."""
    factory = database_at(place).session_factory

    async def session() -> AsyncIterator[AsyncSession]:
        async with factory() as opened, opened.begin():
            yield opened

    return _by_session("hand", Depends(session))


def session_dep(place: Place) -> Any:  # as above
    """The session of unitwork as a dependency, used as by hand."""
    return _by_session("session", session_of(database_at(place)))


def _by_session(variant: str, dependency: Any) -> Any:  # as FastAPI takes it
    """What is done with a session, wherever it comes from."""
    app = FastAPI()
    given = Annotated[AsyncSession, dependency]

    @app.get("/people/{number}")
    async def read(number: int, session: given) -> PersonOut:
        return PersonOut.model_validate(await session.get_one(Person, number))

    @app.post("/signups")
    async def sign_up(data: SignupIn, session: given) -> dict[str, int]:
        signup = Signup(email=_new_address(variant), name=data.name)
        session.add(signup)
        await session.flush()
        return {"id": signup.id}

    return app


def ours(place: Place) -> Any:  # as above
    """The middleware of unitwork, and repositories."""
    app = FastAPI()
    db = database_at(place)
    people, signups = Repository[Person](db), Repository[Signup](db)

    @app.get("/people/{number}")
    async def read(number: int) -> PersonOut:
        return PersonOut.model_validate(await people.get_one(number))

    @app.post("/signups")
    async def sign_up(data: SignupIn) -> dict[str, int]:
        return {"id": (await signups.add(Signup(email=_new_address("ours"), name=data.name))).id}

    app.add_middleware(UnitOfWorkMiddleware, database=db)
    return app


def service(place: Place) -> Any:  # as above
    """The middleware of unitwork, and functions that are transactions."""
    app = FastAPI()
    db = database_at(place)
    people, signups = Repository[Person](db), Repository[Signup](db)

    @db.transactional
    async def found(number: int) -> PersonOut:
        return PersonOut.model_validate(await people.get_one(number))

    @db.transactional
    async def signed_up(name: str) -> int:
        return (await signups.add(Signup(email=_new_address("service"), name=name))).id

    @app.get("/people/{number}")
    async def read(number: int) -> PersonOut:
        return await found(number)

    @app.post("/signups")
    async def sign_up(data: SignupIn) -> dict[str, int]:
        return {"id": await signed_up(data.name)}

    app.add_middleware(UnitOfWorkMiddleware, database=db)
    return app


def driver(place: Place) -> Any:  # as above
    """The bare driver with its own pool."""
    app = FastAPI()
    opened: list[Any] = []
    opening = asyncio.Lock()

    async def wire() -> Any:  # of the benchmark itself
        if not opened:
            async with opening:
                if not opened:
                    opened.append(await connect_driver(place))
        return opened[0]

    @app.get("/people/{number}")
    async def read(number: int) -> PersonOut:
        return PersonOut.model_validate(await (await wire()).get(number))

    @app.post("/signups")
    async def sign_up(_data: SignupIn) -> dict[str, int]:
        return {"id": await (await wire()).insert(_new_address("driver"))}

    return app


VARIANTS: dict[str, Callable[[Place], Any]] = {
    "idle": idle,
    "idle_unitwork": idle_unitwork,
    "bare": bare,
    "bare_unitwork": bare_unitwork,
    "hand": hand,
    "ours": ours,
    "session": session_dep,
    "service": service,
    "driver": driver,
}


def main() -> None:
    """Serve; print the port first."""
    app = VARIANTS[sys.argv[1]](Place(**json.loads(sys.argv[2])))
    # With the protocol named, asyncio switches Nagle's algorithm off; else each answer waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    print(listener.getsockname()[1], flush=True)

    def end_with_the_input() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=end_with_the_input, daemon=True).start()
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
