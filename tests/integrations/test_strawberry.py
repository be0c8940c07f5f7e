"""strawberry: each operation is a unit of work, committed before its result; resolvers share it."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, TypeAlias

import pytest
import strawberry
from fastapi import FastAPI
from sqlalchemy import select
from strawberry.fastapi import BaseContext, GraphQLRouter
from strawberry.types import ExecutionResult

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.fixtures.web import Web
from unitwork import Database, NoTransactionError, Repository
from unitwork.integrations.strawberry import UnitOfWorkExtension

TAKEN = "INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)"


class Shop(BaseContext):
    """What resolvers find in their context."""

    def __init__(self, db: Database) -> None:
        super().__init__()
        self.db = db


Info: TypeAlias = strawberry.Info[Shop, None]


@strawberry.type
class Query:
    @strawberry.field
    async def count(self, info: Info, name: str) -> int:
        found = await info.context.db.session.scalars(select(Account).where(Account.name == name))
        return len(found.all())

    @strawberry.field
    async def broken(self, info: Info) -> int | None:
        await info.context.db.session.scalars(select(Account))
        raise RuntimeError("broken on purpose")

    @strawberry.field
    def one(self) -> int:
        return 1


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def create(self, info: Info, name: str) -> int:
        account = Account(name=name)
        info.context.db.session.add(account)
        await info.context.db.session.flush()
        return account.id

    @strawberry.mutation
    async def register(self, info: Info, name: str) -> int:
        return (await Repository[Account](info.context.db).create(name=name)).id

    @strawberry.mutation
    async def unsent(self, info: Info, name: str) -> str:
        info.context.db.session.add(Account(name=name))
        return name

    @strawberry.mutation
    async def refused(self) -> int | None:
        raise RuntimeError("broken on purpose")


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def names(self, info: Info) -> AsyncGenerator[str, None]:
        db = info.context.db
        for name in ("ann", "bob"):
            async with db.transaction() as session:
                session.add(Account(name=name))
            yield f"{name} {db.pool_status().checked_out}"

    @strawberry.subscription
    async def sessions(self, info: Info) -> AsyncGenerator[str, None]:
        yield str(info.context.db.session)


def schema_of(db: Database, *, atomic: bool = False) -> strawberry.Schema:
    """A schema whose operations are units of work."""
    extension = UnitOfWorkExtension(db, atomic=atomic)
    return strawberry.Schema(Query, Mutation, Subscription, extensions=[extension])


async def execute(db: Database, query: str, *, atomic: bool = False) -> ExecutionResult:
    """The result of one operation; its resolvers find the Database in their context."""
    return await schema_of(db, atomic=atomic).execute(query, context_value=Shop(db))


async def test_operation_is_one_transaction(db: Database, observer: Observer) -> None:
    """What the mutations of an operation write is stored when it is answered."""
    result = await execute(db, 'mutation { a: create(name: "ann") b: create(name: "bob") }')

    assert (result.data, result.errors) == ({"a": 1, "b": 2}, None)
    assert await observer.names(Account) == ["ann", "bob"]


async def test_error_of_one_field_rolls_back_all(db: Database, observer: Observer) -> None:
    """Nothing is stored, and no field is answered as if it were."""
    result = await execute(db, 'mutation { create(name: "ann") refused }')

    assert result.data is None
    assert [error.message for error in result.errors or ()] == ["broken on purpose"]
    assert await observer.names(Account) == []
    assert db.pool_status().checked_out == 0


@pytest.mark.parametrize(
    ("atomic", "stored", "answered"), [(False, ["ann"], {"register": 1, "refused": None}), (True, [], None)]
)
async def test_atomic_joins_the_blocks_of_an_operation(
    db: Database, observer: Observer, stored: list[str], answered: dict[str, Any] | None, *, atomic: bool
) -> None:
    """Blocks inside commit by themselves, and are answered; or stand and fall with the operation."""
    result = await execute(db, 'mutation { register(name: "ann") refused }', atomic=atomic)

    assert result.data == answered
    assert await observer.names(Account) == stored


async def test_concurrent_resolvers_share_the_session(db: Database, observer: Observer) -> None:
    """Fields that strawberry resolves at the same time take turns; each gets its answer."""
    await observer.run(TAKEN)
    fields = " ".join(f'f{number}: count(name: "{"ann" if number % 2 else "x"}")' for number in range(20))

    result = await execute(db, f"{{ {fields} }}")

    assert result.errors is None
    assert result.data == {f"f{number}": number % 2 for number in range(20)}


async def test_error_beside_concurrent_resolvers(db: Database, observer: Observer) -> None:
    """A query keeps the fields that were resolved, as GraphQL has it."""
    await observer.run(TAKEN)

    result = await execute(db, '{ count(name: "ann") broken }')

    assert result.data == {"count": 1, "broken": None}
    assert result.errors is not None
    assert db.pool_status().checked_out == 0


async def test_failing_commit_is_the_only_answer(db: Database, observer: Observer) -> None:
    """A COMMIT that fails is never a success."""
    await observer.run(TAKEN)

    result = await execute(db, 'mutation { unsent(name: "ann") }')

    assert result.data is None
    assert result.errors is not None
    assert await observer.names(Account) == ["ann"]


@pytest.mark.parametrize("query", ["{ one }", "{ wrong }", "{", "{ __typename }"])
async def test_operation_that_needs_no_database_costs_nothing(db: Database, query: str) -> None:
    """No connection is opened for it; outside, there is no session."""
    await execute(db, query)

    assert (db.pool_status().checked_out, db.pool_status().idle) == (0, 0)
    with pytest.raises(NoTransactionError):
        _ = db.session


async def test_operations_at_once_each_have_their_own(db: Database, observer: Observer) -> None:
    """Operations at the same time never see each other's session nor each other's errors."""
    schema = schema_of(db)

    queries = [
        f'mutation {{ create(name: "{number}") {"refused" if number % 2 else ""} }}' for number in range(20)
    ]

    results = await asyncio.gather(*(schema.execute(query, context_value=Shop(db)) for query in queries))

    assert [result.errors is None for result in results] == [number % 2 == 0 for number in range(20)]
    assert set(await observer.names(Account)) == {str(number) for number in range(0, 20, 2)}


@pytest.mark.skipif(not hasattr(strawberry.Schema, "stream"), reason="this strawberry streams no results")
async def test_mutation_over_a_streaming_transport_commits_before_its_answer(
    db: Database, observer: Observer
) -> None:
    """Over WebSockets the result is streamed; it is stored before it is sent."""
    results = await schema_of(db).stream('mutation { create(name: "ann") }', context_value=Shop(db))

    async for result in results:
        assert isinstance(result, ExecutionResult)
        assert result.errors is None
        assert await observer.names(Account) == ["ann"]


async def test_behind_a_web_framework(db: Database, web: Web, observer: Observer) -> None:
    """An error is answered with status 200, and rolls back all the same, without other middleware."""
    app = FastAPI()

    async def context() -> Shop:
        return Shop(db)

    app.include_router(GraphQLRouter(schema_of(db), context_getter=context), prefix="/graphql")
    client = await web.client(app)

    fine = await client.post("/graphql", json={"query": 'mutation { create(name: "ann") }'})
    failed = await client.post("/graphql", json={"query": 'mutation { create(name: "bob") refused }'})

    assert (fine.status_code, fine.json()) == (200, {"data": {"create": 1}})
    assert (failed.status_code, failed.json()["data"]) == (200, None)
    assert await observer.names(Account) == ["ann"]


async def test_subscription_opens_blocks_of_its_own(db: Database, observer: Observer) -> None:
    """Between its events a subscription holds no connection, and has no session."""
    schema = schema_of(db)

    results = await schema.subscribe("subscription { names }", context_value=Shop(db))
    events = [(result.data or {})["names"] async for result in results]
    refused = [
        result async for result in await schema.subscribe("subscription { sessions }", context_value=Shop(db))
    ]

    assert events == ["ann 0", "bob 0"]
    assert await observer.names(Account) == ["ann", "bob"]
    assert "No transaction is open" in str(refused[0].errors)


async def test_several_databases(db: Database, observer: Observer) -> None:
    """Each has a unit of its own; an error rolls back both."""
    async with Database("sqlite+aiosqlite:///:memory:", name="reports") as reports:
        await reports.create_all(Audit)

        @strawberry.type
        class Writer:
            @strawberry.field
            async def write(self, note: str) -> str:
                db.session.add(Audit(note=note))
                reports.session.add(Audit(note=note))
                await reports.session.flush()
                if note == "y":
                    raise RuntimeError("broken on purpose")
                return note

        schema = strawberry.Schema(Writer, extensions=[UnitOfWorkExtension([db, reports])])
        for note in ("x", "y"):
            await schema.execute(f'{{ write(note: "{note}") }}')
        async with reports.transaction() as session:
            stored = list(await session.scalars(select(Audit.note)))

    assert (stored, await observer.notes(Audit)) == (["x"], ["x"])
