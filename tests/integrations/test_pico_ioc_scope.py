"""pico-ioc's `transaction` scope lives exactly as long as a transaction of the container."""

import asyncio
from collections.abc import AsyncIterator
from types import ModuleType

import pytest
from pico_ioc import DictSource, PicoContainer, ScopeError, cleanup, component, configuration
from sqlalchemy import URL, text

from tests.fixtures.models import Account
from tests.fixtures.proxy import Proxy
from unitwork import CommitOutcomeUnknownError
from unitwork.integrations.pico_ioc import SessionManager, init, transactional


@component(scope="transaction")
class Basket:
    """Made once for each transaction; tells when it was thrown away, and what was open then."""

    thrown_away: list["Basket"]
    manager: SessionManager

    def __init__(self, manager: SessionManager) -> None:
        self.manager = manager
        self.session_at_end: object = "not yet"

    @cleanup
    def throw_away(self) -> None:
        self.session_at_end = self.manager.get_current_session()
        Basket.thrown_away.append(self)


@component
class Inner:
    def __init__(self, container: PicoContainer) -> None:
        self.container = container

    @transactional
    async def joined(self) -> Basket:
        return self.container.get(Basket)

    @transactional(propagation="REQUIRES_NEW")
    async def apart(self) -> Basket:
        return self.container.get(Basket)

    @transactional(propagation="NESTED")
    async def nested_and_fail(self) -> None:
        self.container.get(Basket)
        raise LookupError

    @transactional(propagation="NOT_SUPPORTED")
    async def suspended(self) -> Basket:
        return self.container.get(Basket)


@component
class Outer:
    def __init__(self, container: PicoContainer, inner: Inner) -> None:
        self.container = container
        self.inner = inner

    @transactional
    async def around(self) -> list[Basket]:
        baskets = [self.container.get(Basket), await self.inner.joined()]
        baskets += await asyncio.gather(self.inner.joined(), self.inner.joined())
        with pytest.raises(LookupError):
            await self.inner.nested_and_fail()
        return [*baskets, self.container.get(Basket)]

    @transactional
    async def around_another(self) -> list[Basket]:
        return [self.container.get(Basket), await self.inner.apart(), self.container.get(Basket)]

    @transactional
    async def around_nothing(self) -> None:
        await self.inner.suspended()

    @transactional
    async def fail(self, error: BaseException) -> None:
        self.container.get(Basket)
        raise error


def started(url: URL) -> PicoContainer:
    """A container with a component in the scope."""
    module = ModuleType("an_application")
    vars(module).update(Basket=Basket, Inner=Inner, Outer=Outer)
    Basket.thrown_away = []
    address = url.render_as_string(hide_password=False)
    return init(module, config=configuration(DictSource({"database": {"url": address}})))


@pytest.fixture
async def container(database_url: URL) -> AsyncIterator[PicoContainer]:
    """It, on the database of the test."""
    container = started(database_url)
    yield container
    await container.cleanup_all_async()


@pytest.fixture
def outer(container: PicoContainer) -> Outer:
    """The service that opens transactions."""
    return container.get(Outer)


async def test_one_for_each_transaction(outer: Outer) -> None:
    """Joined blocks, child tasks and savepoints share it; it is thrown away once, after the end."""
    first, second = await outer.around(), await outer.around()

    assert len({id(basket) for basket in first}) == len({id(basket) for basket in second}) == 1
    assert Basket.thrown_away == [first[0], second[0]]
    assert first[0].session_at_end is None


async def test_another_transaction_has_its_own(outer: Outer) -> None:
    """REQUIRES_NEW gets another, which ends first; then the outer one is back."""
    before, inside, after = await outer.around_another()

    assert before is after is not inside
    assert Basket.thrown_away == [inside, before]


async def test_nothing_outside_of_transactions(container: PicoContainer, outer: Outer) -> None:
    """Neither outside nor where the transaction is suspended."""
    with pytest.raises(ScopeError):
        container.get(Basket)
    with pytest.raises(ScopeError):
        await outer.around_nothing()
    async with container.get(SessionManager).unit_of_work():
        with pytest.raises(ScopeError):
            container.get(Basket)


@pytest.mark.parametrize("error", [LookupError(), asyncio.CancelledError()], ids=["error", "cancelled"])
async def test_rollback_ends_it(outer: Outer, error: BaseException) -> None:
    """However a transaction ends, its components end with it."""
    with pytest.raises(type(error)):
        await outer.fail(error)

    assert len(Basket.thrown_away) == 1


async def test_failed_commit_ends_it(container: PicoContainer) -> None:
    """A COMMIT that is refused is an end as well."""
    manager = container.get(SessionManager)
    with pytest.raises(RuntimeError, match="not now"):
        async with manager.transaction() as session:
            session.add(Account(name="ann"))
            container.get(Basket)
            manager.before_commit(_refuse)

    assert len(Basket.thrown_away) == 1


def _refuse() -> None:
    raise RuntimeError("not now")


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has no line to cut")
async def test_unknown_outcome_ends_it(proxy: Proxy) -> None:
    """Nobody knows whether the COMMIT has arrived, but the transaction is over."""
    container = started(proxy.url)
    manager = container.get(SessionManager)
    with pytest.raises(CommitOutcomeUnknownError):
        async with manager.transaction() as session:
            session.add(Account(name="ann"))
            await session.flush()
            container.get(Basket)
            proxy.cut_after = b"COMMIT"
    proxy.cut_after = b""

    assert len(Basket.thrown_away) == 1
    await container.cleanup_all_async()


async def test_blocks_by_hand_have_it(container: PicoContainer) -> None:
    """Blocks of the handle, and each transaction of a unit of work, after statements or without."""
    manager = container.get(SessionManager)
    async with manager.transaction() as session:
        await session.execute(text("SELECT 1"))
        first = container.get(Basket)
    async with manager.unit_of_work() as session:
        await session.begin()
        second = container.get(Basket)
        await manager.commit()
        assert Basket.thrown_away == [first, second]
        await session.begin()
        third = container.get(Basket)
        assert third is not second

    assert Basket.thrown_away == [first, second, third]


async def test_after_commit_it_is_gone(container: PicoContainer) -> None:
    """Functions that run after the commit find no transaction, so no component of it."""
    manager = container.get(SessionManager)
    found: list[type[BaseException]] = []

    def look() -> None:
        try:
            container.get(Basket)
        except ScopeError as error:
            found.append(type(error))

    async with manager.transaction():
        container.get(Basket)
        manager.on_commit(look)

    assert found == [ScopeError]
    assert len(Basket.thrown_away) == 1


async def test_transaction_of_another_container_is_none(container: PicoContainer) -> None:
    """Inside a block of a second container the first has no transaction."""
    other = init([], config=configuration(DictSource({"database": {"url": "sqlite+aiosqlite:///:memory:"}})))
    async with other.get(SessionManager).transaction():
        with pytest.raises(ScopeError):
            container.get(Basket)
        async with container.get(SessionManager).transaction():
            async with other.get(SessionManager).transaction():
                assert container.get(Basket) is container.get(Basket)

    await other.cleanup_all_async()


async def test_scope_can_be_entered_by_hand(container: PicoContainer) -> None:
    """A test of a component may open the scope as pico-ioc does, without any transaction."""
    with container.scope("transaction", "by hand", cleanup=True):
        basket = container.get(Basket)

    assert Basket.thrown_away == [basket]
