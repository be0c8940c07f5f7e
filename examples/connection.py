"""Connect, ask the server for an answer, create tables, run transactions, close."""

import asyncio
from contextlib import suppress

from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base, Database


class City(Base):
    """A city."""

    __tablename__ = "cities"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


async def main() -> None:
    """Show a Database from first use to the end."""
    async with Database("sqlite+aiosqlite:///cities.db") as db:
        pong = await db.ping()
        print(f"connected to {pong.server_version}")
        await db.create_all(Base)

        async with db.transaction() as session:  # commits at the end
            session.add_all([City(name="Quito"), City(name="Lima")])
        with suppress(LookupError):
            async with db.transaction() as session:  # rolls back, because of the exception
                session.add(City(name="Atlantis"))
                raise LookupError("nobody has found it")

        async with db.transaction(read_only=True) as session:
            for city in await session.scalars(select(City).order_by(City.name)):
                print(city)


if __name__ == "__main__":
    asyncio.run(main())
