"""fastapi-users: its own code works on the session of the request. Run by test_fastapi_users.py."""

import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Literal

import httpx
import pytest
import sqlalchemy
from fastapi import Depends, FastAPI, Request
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.password import PasswordHelper
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from pwdlib import PasswordHash
from pwdlib.hashers.bcrypt import BcryptHasher
from sqlalchemy import select

from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from tests.fixtures.web import Web
from unitwork import Base, Database, Repository, transactional
from unitwork.integrations.fastapi import SessionDep, UnitOfWorkMiddleware, exception_handlers

SECRET = "no secret at all, and long enough for that"
# The default takes long on purpose.
PASSWORDS = PasswordHelper(PasswordHash((BcryptHasher(rounds=4),)))


class User(SQLAlchemyBaseUserTableUUID, Base):
    """A user, with the columns that fastapi-users needs."""


class Created(schemas.BaseUserCreate):
    """What a client sends to register."""


class Shown(schemas.BaseUser[uuid.UUID]):
    """What a client is shown of a user."""


def application(db: Database, scope: Literal["function", "request"] | None) -> FastAPI:
    """An application as the manual of fastapi-users has it, with the session of unitwork."""

    async def get_user_db(session: SessionDep) -> AsyncIterator[SQLAlchemyUserDatabase[User, uuid.UUID]]:
        yield SQLAlchemyUserDatabase(session, User)

    class Users(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
        reset_password_token_secret = verification_token_secret = SECRET

        async def on_after_register(self, user: User, request: Request | None = None) -> None:
            await welcome(user.email)

    @transactional(using=db)
    async def welcome(email: str) -> None:
        await Repository[Audit](db).create(note=f"welcome {email}")
        if "unlucky" in email:
            raise ValueError(email)

    async def get_users(
        users: Annotated[SQLAlchemyUserDatabase[User, uuid.UUID], Depends(get_user_db, scope=scope)],
    ) -> AsyncIterator[Users]:
        yield Users(users, PASSWORDS)

    def tokens() -> JWTStrategy[User, uuid.UUID]:
        return JWTStrategy(SECRET, lifetime_seconds=60)

    bearer = AuthenticationBackend("jwt", BearerTransport("login"), tokens)
    users = FastAPIUsers[User, uuid.UUID](get_users, [bearer])
    app = FastAPI()
    app.add_middleware(UnitOfWorkMiddleware, database=db)
    exception_handlers(app)
    app.include_router(users.get_register_router(Shown, Created))
    app.include_router(users.get_auth_router(bearer))
    app.include_router(users.get_users_router(Shown, schemas.BaseUserUpdate), prefix="/users")
    current = users.current_user(active=True)

    @app.post("/notes/{note}")
    async def note(note: str, user: Annotated[User, Depends(current)], session: SessionDep) -> bool:
        session.add(Audit(note=f"{note} of {user.email}"))
        return session is db.session and user in session

    return app


@pytest.fixture(params=[None, "request"])
async def client(request: pytest.FixtureRequest, db: Database, web: Web) -> httpx.AsyncClient:
    """A client of the application, whose dependencies end before or after the response."""
    async with db.engine.begin() as connection:
        await connection.run_sync(User.metadata.tables["user"].create)
    return await web.client(application(db, request.param))


ANN = {"email": "ann@example.com", "password": "correct horse"}


def test_sqlalchemy_is_what_it_needs() -> None:
    """These tests run on SQLAlchemy 2.0."""
    assert sqlalchemy.__version__.startswith("2.0.")


async def test_register_login_me(client: httpx.AsyncClient, observer: Observer) -> None:
    """A user registers, logs in, is known, and writes; all in the transactions of his requests."""
    assert (await client.get("/users/me")).status_code == 401
    registered = await client.post("/register", json=ANN)
    again = await client.post("/register", json=ANN)
    wrong = await client.post("/login", data={"username": ANN["email"], "password": "wrong horse"})
    login = await client.post("/login", data={"username": ANN["email"], "password": ANN["password"]})
    headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
    me = await client.get("/users/me", headers=headers)
    changed = await client.patch("/users/me", headers=headers, json={"email": "ann@example.org"})
    note = await client.post("/notes/hello", headers=headers)

    assert (registered.status_code, again.status_code, wrong.status_code) == (201, 400, 400)
    assert (me.status_code, me.json()["id"]) == (200, registered.json()["id"])
    assert (changed.status_code, note.status_code, note.json()) == (200, 200, True)
    assert await observer.values(User, "email") == ["ann@example.org"]
    assert await observer.notes(Audit) == ["hello of ann@example.org", "welcome ann@example.com"]


async def test_what_fails_after_the_commit_of_fastapi_users(
    client: httpx.AsyncClient, db: Database, observer: Observer
) -> None:
    """It commits by hand what it has created; what fails in the request after that is undone alone."""
    answer = await client.post("/register", json={**ANN, "email": "unlucky@example.com"})

    assert answer.status_code == 500
    assert await observer.values(User, "email") == ["unlucky@example.com"]
    assert await observer.notes(Audit) == []
    assert db.pool_status().checked_out == 0
    async with db.transaction() as session:
        assert await session.scalar(select(User.is_active))
