"""What the session dependencies of FastAPI are to a type checker; read by checkers, never run."""

from typing import Annotated, assert_type

from sqlalchemy.ext.asyncio import AsyncSession

from unitwork import Database
from unitwork.integrations.fastapi import SessionDep, session_of

db = Database("sqlite+aiosqlite:///:memory:", name="typing_fastapi")

Reports = Annotated[AsyncSession, session_of(db)]


async def annotated(session: SessionDep, reports: Reports) -> None:
    assert_type(session, AsyncSession)
    assert_type(reports, AsyncSession)


async def by_default(session: AsyncSession = session_of(db)) -> None:  # noqa: B008  # as FastAPI has it
    assert_type(session, AsyncSession)


async def mistaken(session: str = session_of(db)) -> None:  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
    del session
