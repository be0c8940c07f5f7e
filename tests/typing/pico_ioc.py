"""What checkers infer for components of a container; read by checkers, never run."""

# mypy: disable-error-code="empty-body"

from typing import assert_type

from unitwork.integrations.pico_ioc import (
    AppBase,
    Page,
    PageRequest,
    SessionManager,
    query,
    repository,
    transactional,
)


class Account(AppBase):
    pass


@repository(entity=Account)
class Accounts:
    def __init__(self, manager: SessionManager) -> None:
        self.manager = manager

    @query(expr="owner = :owner", unique=True)
    async def by_owner(self, owner: str) -> Account | None: ...

    @query.sql("SELECT * FROM accounts", paged=True)
    async def page(self, page: PageRequest) -> Page[Account]: ...

    @transactional(propagation="REQUIRES_NEW", isolation_level="SERIALIZABLE", using=SessionManager)
    async def number(self, owner: str) -> int: ...


async def use(accounts: Accounts, manager: SessionManager) -> None:
    assert_type(await accounts.by_owner("ann"), Account | None)
    assert_type(await accounts.page(PageRequest()), Page[Account])
    assert_type(await accounts.number("ann"), int)
    assert_type(Accounts(manager), Accounts)
    async with manager.transaction("REQUIRES_NEW", read_only=True) as session:
        await session.flush()
    await accounts.number(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    manager.transaction("SOMETIMES")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
