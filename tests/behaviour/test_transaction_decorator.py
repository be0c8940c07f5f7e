"""`@transactional` on functions and methods of every kind; sync functions and generators are refused."""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import insert

from tests.fixtures.errors import StockError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import (
    Database,
    DatabaseChoiceError,
    Propagation,
    TransactionRefusedError,
    transactional,
)


async def note(db: Database, text: str) -> str:
    """Add one line, and return it."""
    db.session.add(Audit(note=text))
    return text


async def test_bare_decorator_commits_and_returns(db: Database, observer: Observer) -> None:
    """It begins at the call, commits on return, and hands the result through."""

    @transactional
    async def work(text: str, *, again: str) -> list[str]:
        return [await note(db, text), await note(db, again)]

    assert await work("a", again="b") == ["a", "b"]
    assert await observer.notes(Audit) == ["a", "b"]


async def test_decorated_function_rolls_back_and_raises(db: Database, observer: Observer) -> None:
    """The exception is the function's own."""
    error = StockError()

    @transactional
    async def work() -> None:
        await db.session.execute(insert(Audit).values(note="lost"))
        raise error

    with pytest.raises(StockError) as caught:
        await work()

    assert caught.value is error
    assert await observer.notes(Audit) == []


async def test_called_decorator_takes_options(db: Database, observer: Observer) -> None:
    """With and without a Database, with propagation, rules and read-only."""

    @transactional()
    async def plain() -> None:
        await note(db, "plain")

    @transactional(using=db, no_rollback_for=StockError)
    async def forgiving() -> None:
        await note(db, "forgiven")
        raise StockError

    @db.transactional(propagation=Propagation.MANDATORY)
    async def mandatory() -> None:
        await note(db, "never")

    @transactional(using="default", read_only=True)
    async def reader() -> None:
        await note(db, "never")

    await plain()
    with pytest.raises(StockError):
        await forgiving()
    with pytest.raises(TransactionRefusedError):
        await mandatory()
    with pytest.raises(TransactionRefusedError):
        await reader()

    assert await observer.notes(Audit) == ["forgiven", "plain"]


async def test_methods_of_every_kind_work(db: Database, observer: Observer) -> None:
    """Instance, class and static methods, with the decorators in either order."""

    class Service:
        def __init__(self, name: str) -> None:
            self.name = name

        @transactional
        async def method(self) -> str:
            return await note(db, self.name)

        @classmethod
        @transactional
        async def of_class(cls) -> str:
            return await note(db, cls.__name__)

        @staticmethod
        @transactional
        async def static(text: str) -> str:
            return await note(db, text)

        @transactional
        @classmethod
        async def of_class_outside(cls) -> str:
            return await note(db, cls.__name__ + " outside")

        @transactional
        @staticmethod
        async def static_outside(text: str) -> str:
            return await note(db, text + " outside")

    service = Service("method")
    told = [
        await service.method(),
        await Service.of_class(),
        await service.static("static"),
        await Service.of_class_outside(),
        await service.static_outside("static"),
    ]

    assert told == ["method", "Service", "static", "Service outside", "static outside"]
    assert await observer.notes(Audit) == sorted(told)


async def test_method_calls_another_method_in_one_transaction(db: Database, observer: Observer) -> None:
    """Also through `self`: it is the function that is decorated, not an object around it."""

    class Service:
        @transactional
        async def outer(self) -> None:
            await self.inner()
            raise StockError

        @transactional
        async def inner(self) -> None:
            await note(db, "lost")

    with pytest.raises(StockError):
        await Service().outer()

    assert await observer.notes(Audit) == []


async def test_overriding_method_calls_super(db: Database, observer: Observer) -> None:
    """Inheritance works as without the decorator."""

    class Plain:
        @transactional
        async def work(self) -> str:
            return await note(db, "base")

    class Special(Plain):
        @transactional(propagation="NESTED")
        async def work(self) -> str:
            return await super().work() + await note(db, "special")

    assert await Special().work() == "basespecial"
    assert await observer.notes(Audit) == ["base", "special"]


async def test_partial_of_a_coroutine_function_works(db: Database, observer: Observer) -> None:
    """What can be awaited can be decorated."""
    await transactional(functools.partial(note, db))("partial")

    assert await observer.notes(Audit) == ["partial"]


async def test_decorated_function_keeps_its_identity(db: Database) -> None:
    """Name, docstring, signature; and it is a coroutine function for frameworks that ask."""

    @transactional
    async def work(amount: int, *, currency: str = "EUR") -> str:
        """Pay."""
        return f"{amount} {currency}"

    assert (work.__name__, work.__doc__) == ("work", "Pay.")
    assert inspect.iscoroutinefunction(work)
    assert list(inspect.signature(work).parameters) == ["amount", "currency"]
    assert await work(1) == "1 EUR"


async def test_wrong_arguments_are_a_type_error_and_leave_nothing(db: Database) -> None:
    """The call fails as it would without the decorator."""

    @transactional
    async def work(amount: int) -> None:
        pytest.fail(f"called with {amount}")

    with pytest.raises(TypeError, match="amount"):
        await work()  # type: ignore[call-arg]  # on purpose

    assert db.pool_status().checked_out == 0


async def test_one_decorated_function_serves_many_tasks_at_once(db: Database, observer: Observer) -> None:
    """Each call has its own transaction: one that fails harms no other."""
    together = asyncio.Barrier(5)

    @transactional
    async def work(number: int) -> int:
        await together.wait()
        db.session.add(Account(name=f"account {number}"))
        await db.session.flush()
        if number % 3 == 0:
            raise StockError
        return number

    ended = await asyncio.gather(*(work(number) for number in range(10)), return_exceptions=True)

    kept = [number for number in range(10) if number % 3]
    assert [end for end in ended if isinstance(end, int)] == kept
    assert await observer.names(Account) == [f"account {number}" for number in kept]


async def test_recursion_joins_itself(db: Database, observer: Observer) -> None:
    """A function that calls itself is one transaction."""

    @transactional
    async def count(down: int) -> None:
        await note(db, str(down))
        if down:
            await count(down - 1)

    await count(3)

    assert await observer.notes(Audit) == ["0", "1", "2", "3"]


def sync_function() -> None:
    """Is not async."""


def generator() -> Iterator[int]:
    """Yield."""
    yield 1


async def async_generator() -> AsyncIterator[int]:
    """Yield, asynchronously."""
    yield 1


class Callable_:  # noqa: N801 - its name shows in the message
    """Is not a function."""

    def __call__(self) -> None:
        """Do nothing."""


REFUSED: dict[str, Any] = {
    "sync function": sync_function,
    "generator": generator,
    "async generator": async_generator,
    "callable object": Callable_(),
}


@pytest.mark.parametrize("kind", list(REFUSED))
@pytest.mark.parametrize("called", [True, False])
def test_what_cannot_be_awaited_is_refused_at_decoration(kind: str, *, called: bool) -> None:
    """Sync functions and generators are a TypeError at import, with the fix."""
    with pytest.raises(TypeError, match="Fix:"):
        if called:
            transactional(read_only=True)(REFUSED[kind])
        else:
            transactional(REFUSED[kind])


def test_refusal_names_the_function() -> None:
    """The message says which function is declared wrongly."""
    with pytest.raises(TypeError, match="sync_function"):
        transactional(REFUSED["sync function"])


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_refusal_looks_behind_static_and_class_methods(kind: type[Any]) -> None:
    """What is wrapped is looked at."""
    with pytest.raises(TypeError, match="sync_function"):
        transactional(kind(sync_function))


async def test_innermost_block_chooses_the_database(db: Database, observer: Observer) -> None:
    """Without `using`, a function works on the Database of the innermost open block."""
    async with Database("sqlite+aiosqlite:///:memory:", name="other") as other:

        @transactional(propagation=Propagation.MANDATORY)
        async def work() -> None:
            assert db.session is not None

        async with other.transaction(), db.transaction():
            await work()
        with pytest.raises(TransactionRefusedError):
            async with other.transaction():
                await other.session.connection()
                await transactional(propagation=Propagation.NEVER)(work)()


async def test_two_databases_called_default_must_be_chosen_from(db: Database) -> None:
    """Several candidates: an error that lists them and says how to choose, at the call."""

    @transactional
    async def work() -> None:
        pytest.fail("called")

    async with Database("sqlite+aiosqlite:///:memory:"):
        with pytest.raises(DatabaseChoiceError, match="using"):
            await work()
