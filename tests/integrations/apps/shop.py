"""This module holds what the same shop does in every framework."""

from dataclasses import dataclass, field

from sqlalchemy import func, select

from tests.fixtures.models import Account, Audit
from unitwork import Database, Repository, UnitworkError


@dataclass(slots=True)
class Shop:
    """The functions below the endpoints. None of them is given a session."""

    db: Database
    heard: list[str] = field(default_factory=list)
    """What background work has met."""

    async def add(self, name: str) -> None:
        """Write, in the transaction that is open or that the session begins."""
        self.db.session.add(Account(name=name))
        await self.db.session.flush()

    async def add_unsent(self, name: str) -> None:
        """Write, so that the database hears of it with the COMMIT only."""
        self.db.session.add(Account(name=name))

    async def register(self, name: str) -> None:
        """Write, in a block of its own."""
        async with self.db.transaction():
            await self.add(name)

    async def early(self, name: str) -> int:
        """Commit and close by hand, and go on; say how many connections are held between."""
        await self.add(name)
        await self.db.commit()
        await self.db.close()
        held = self.held()
        await self.add(f"{name}-late")
        return held

    async def count(self) -> int:
        """Read with the session of the request, which begins a transaction."""
        return (await self.db.session.execute(select(func.count()).select_from(Account))).scalar_one()

    async def read(self) -> int:
        """Read with a repository: the connection goes back at once."""
        await Repository[Account](self.db).get(1)
        return self.held()

    def held(self) -> int:
        """How many connections are held."""
        return self.db.pool_status().checked_out

    def session_error(self) -> str:
        """What asking for the session leads to."""
        try:
            return type(self.db.session).__name__
        except UnitworkError as error:
            return type(error).__name__

    async def afterwards(self, name: str) -> None:
        """Work that runs when the response is out."""
        self.heard.append(f"{self.session_error()} {self.held()}")
        async with self.db.transaction():
            self.db.session.add(Audit(note=name))
