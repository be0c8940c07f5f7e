"""Give each web request one unit of work: plain ASGI, no framework."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base, Database, Repository
from unitwork.integrations.asgi import UnitOfWorkMiddleware

db = Database("sqlite+aiosqlite:///visits.db", name="visits")


class Visit(Base):
    """Somebody was here."""

    __tablename__ = "visits"
    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str]


async def application(scope: dict[str, Any], _receive: object, send: Callable[..., Awaitable[None]]) -> None:
    """Count the visit; only the front page exists."""
    db.session.add(Visit(path=scope["path"]))
    status = 200 if scope["path"] == "/" else 404  # 400 and above roll back
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"welcome"})


app = UnitOfWorkMiddleware(application, database=db)


async def nothing() -> dict[str, Any]:
    """Receive no body."""
    return {"type": "http.request", "body": b""}


async def request(path: str) -> None:
    """Ask as a server would."""

    async def send(message: dict[str, Any]) -> None:
        if "status" in message:
            print(path, message["status"])

    await app({"type": "http", "method": "GET", "path": path, "headers": []}, nothing, send)


async def main() -> None:
    """Make three requests."""
    async with db:
        await db.create_all(Base)
        for path in ("/", "/missing", "/"):
            await request(path)
        print(await Repository[Visit](db).count(), "visits stored")


if __name__ == "__main__":
    asyncio.run(main())
