"""Put a repository and a service into a pico-ioc container: no session is passed around."""

import asyncio

from pico_ioc import DictSource, component, configuration
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Repository
from unitwork.integrations.pico_ioc import AppBase, SessionManager, init, query, repository, transactional


class Account(AppBase):
    """Somebody with some money."""

    __tablename__ = "accounts"
    owner: Mapped[str] = mapped_column(primary_key=True)
    balance: Mapped[int]


@repository
class Accounts(Repository[Account]):
    """Each method joins the transaction that is open, or is one."""

    @query(expr="owner = :owner", unique=True)
    async def by_owner(self, owner: str) -> Account | None:
        """Return the account of somebody, or None."""


@component
class Bank:
    """Asks for what it needs."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts

    @transactional
    async def open_two(self, first: str, second: str) -> None:
        """Open both, or none."""
        await self.accounts.create(owner=first, balance=10)
        await self.accounts.create(owner=second, balance=20)


async def main() -> None:
    """Open two accounts; two others are refused together."""
    config = configuration(DictSource({"database": {"url": "sqlite+aiosqlite:///bank.db"}}))
    container = init(__name__, config=config)
    bank, manager = container.get(Bank), container.get(SessionManager)
    await manager.create_all(AppBase)
    await bank.open_two("ann", "bob")
    try:
        await bank.open_two("cyd", "ann")
    except IntegrityError:
        print("ann:", await bank.accounts.by_owner("ann"), "cyd:", await bank.accounts.by_owner("cyd"))
    await container.cleanup_all_async()


if __name__ == "__main__":
    asyncio.run(main())
