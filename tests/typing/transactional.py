"""What `@transactional`, `db.transaction` and `db.session` are to a type checker."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, assert_type

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from unitwork import Database, Isolation, Propagation, transactional
from unitwork._runtime.rolled_back.block import RolledBack
from unitwork.transaction import TransactionBlock

db = Database("sqlite+aiosqlite:///:memory:", name="typing")


@transactional
async def bare(amount: int, *, currency: str = "EUR") -> str:
    return f"{amount} {currency}"


@transactional()
async def called(amount: int) -> list[int]:
    return [amount]


@transactional(using=db, propagation="REQUIRES_NEW", isolation="READ COMMITTED", timeout=1.5)
async def with_names(amount: int) -> None:
    del amount


@transactional(using="shop", propagation=Propagation.NESTED, isolation=Isolation.SERIALIZABLE)
async def with_members() -> int:
    return 1


@transactional(rollback_for=ValueError, no_rollback_for=(KeyError, LookupError), read_only=True, durable=True)
async def with_rules() -> None: ...


@db.transactional
async def of_database(name: str) -> bytes:
    return name.encode()


@db.transactional(read_only=True)
async def of_database_called(name: str) -> bytes:
    return name.encode()


class Service:
    @transactional
    async def method(self, amount: int) -> str:
        return str(amount)

    @db.transactional(durable=True)
    async def durable(self, amount: int) -> str:
        return str(amount)

    @classmethod
    @transactional
    async def of_class(cls, amount: int) -> str:
        return str(amount)

    @staticmethod
    @transactional(read_only=True)
    async def static(amount: int) -> str:
        return str(amount)


async def calls() -> None:
    assert_type(await bare(1, currency="USD"), str)
    assert_type(await called(1), list[int])
    await with_names(1)
    assert_type(await with_members(), int)
    await with_rules()
    assert_type(await of_database("x"), bytes)
    assert_type(await of_database_called("x"), bytes)
    assert_type(await Service().method(1), str)
    assert_type(await Service().durable(amount=1), str)
    assert_type(await Service.of_class(1), str)
    assert_type(await Service.static(1), str)
    assert_type(with_members, Callable[[], Coroutine[Any, Any, int]])


async def blocks() -> None:
    block = db.transaction(propagation="NESTED", read_only=True, timeout=2)
    assert_type(block, TransactionBlock)
    assert_type(block.status, str)
    async with block as session:
        assert_type(session, AsyncSession)
    async with db.transaction() as other:
        assert_type(other, AsyncSession)
    assert_type(db.session, AsyncSession)
    assert_type(db.engine, AsyncEngine)
    async with Database("sqlite+aiosqlite:///:memory:") as opened:
        assert_type(opened, Database)


async def functions() -> None:
    async def work() -> None: ...

    await db.on_commit(work)
    db.on_commit(lambda: None)
    db.on_rollback(work)
    db.before_commit(work)


async def parallel() -> None:
    async def number() -> int:
        return 1

    async def nothing() -> None: ...

    assert_type(await db.parallel(), tuple[()])
    assert_type(await db.parallel(number()), tuple[int])
    assert_type(await db.parallel(number(), bare(1)), tuple[int, str])
    assert_type(await db.parallel(number(), bare(1), nothing()), tuple[int, str, None])
    assert_type(await db.parallel(number(), bare(1), nothing(), number()), tuple[int, str, None, int])
    assert_type(await db.parallel(number(), number(), number(), number(), number()), tuple[int, ...])
    assert_type(await db.parallel(*(number() for _ in range(3))), tuple[int, ...])
    assert_type(await db.parallel(number(), *(number() for _ in range(3))), tuple[int, ...])


async def undone() -> int:
    assert_type(db.rolled_back(), RolledBack)
    async with db.rolled_back():
        return await with_members()


async def mistakes() -> None:
    await db.parallel(1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await bare("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await bare()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await bare(1, currncy="USD")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await Service().method("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    db.transaction(propagation="NEW")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    db.transaction(isolation="SNAPSHOT")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    db.transaction(readonly=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    db.transaction(timeout="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    db.transaction(rollback_for=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def sync_function() -> int:
    return 1


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


transactional(sync_function)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
transactional(generator)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
transactional(async_generator)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
