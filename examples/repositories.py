"""Declare queries in a repository, and use it in a service without passing sessions."""

import asyncio

from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base, Database, Repository, query, transactional


class User(Base):
    """Somebody who has signed up."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    active: Mapped[bool] = mapped_column(default=True)


class Users(Repository[User]):
    """The door to users."""

    @query("email = :email")
    async def by_email(self, email: str) -> User | None:
        """Return the user with this address, or None."""

    async def amount_at(self, host: str) -> int:
        """Count the users of a mail host."""
        return await self.count(self.where(User.email.endswith(f"@{host}")))


@transactional
async def register(users: Users, email: str) -> User:
    """Make a user, unless there is one."""
    return await users.by_email(email) or await users.add(User(email=email))


async def main() -> None:
    """Register three people, one of them twice."""
    async with Database("sqlite+aiosqlite:///users.db") as db:
        await db.create_all(Base)
        users = Users()
        for email in ("ann@example.com", "bob@example.com", "ann@example.com", "amy@example.com"):
            print(await register(users, email))
        print(await users.amount_at("example.com"), "at example.com")
        print([user.email for user in await users.where(User.id > 1).order_by(User.email).all()])

        async with db.repository(Users) as users:  # a script: session, transaction and repository in one line
            await users.where(User.email.startswith("b")).delete()
        print(await users.count(), "left")


if __name__ == "__main__":
    asyncio.run(main())
