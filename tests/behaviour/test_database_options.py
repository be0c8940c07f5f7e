"""What a user passes for the engine and its sessions arrives there."""

from sqlalchemy import URL
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tests.fixtures.models import Account
from tests.fixtures.observer import Observer
from unitwork import Database


class Counting(Session):
    """A session of the user's own."""

    made = 0

    def __init__(self, *arguments: object, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)  # type: ignore[arg-type]  # passed on
        Counting.made += 1


async def test_pool_of_the_users_own_class_is_used(database_url: URL) -> None:
    """With NullPool no connection is kept, and there is no limit."""
    async with Database(database_url, poolclass=NullPool) as db:
        async with db.transaction() as session:
            await session.connection()
            held = db.pool_status()
        left = db.pool_status()

    assert (held.checked_out, held.capacity) == (1, None)
    assert (left.checked_out, left.idle) == (0, 0)


async def test_size_of_the_pool_arrives(database_url: URL) -> None:
    """The options of `create_async_engine` are passed on."""
    async with Database(database_url, pool_size=2, max_overflow=1) as db:
        assert db.pool_status().capacity == 3


async def test_session_class_of_the_users_own_is_used(database_url: URL, observer: Observer) -> None:
    """The options of the session are passed on, and blocks behave as always."""
    before = Counting.made
    async with Database(database_url, session_options={"sync_session_class": Counting}) as db:
        async with db.transaction() as session:
            session.add(Account(name="ann"))
            assert isinstance(session.sync_session, Counting)

    assert await observer.names(Account) == ["ann"]
    assert Counting.made == before + 1
