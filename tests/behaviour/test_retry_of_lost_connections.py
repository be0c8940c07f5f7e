"""A transactional function is tried again after a lost connection, as long as nothing can be stored."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import URL, insert, select, text
from sqlalchemy.exc import DBAPIError

from tests.fixtures.errors import StockError
from tests.fixtures.models import Audit
from tests.fixtures.observer import Observer
from tests.fixtures.private_servers import LentServer
from tests.fixtures.proxy import Proxy
from tests.fixtures.saboteur import Saboteur
from unitwork import CommitOutcomeUnknownError, Database, Propagation, RetryPolicy, UnexpectedRollbackError

NOW = RetryPolicy(attempts=3, first_delay_s=0)
GENEROUS_S = 10
COMMIT = b"COMMIT"
INSERT = b"INSERT INTO audit"

servers = pytest.mark.only("postgresql", "mariadb", reason="SQLite has no server to lose")


def refusal(state: bytes, number: int, said: bytes) -> dict[str, bytes]:
    """What a server says to whoever it does not let in."""
    fields = b"SFATAL\0VFATAL\0C" + state + b"\0M" + said + b"\0\0"
    packet = b"\xff" + number.to_bytes(2, "little") + b"#08004" + said
    return {
        "postgresql": b"E" + (len(fields) + 4).to_bytes(4, "big") + fields,
        "mysql": len(packet).to_bytes(3, "little") + b"\0" + packet,
    }


NOT_READY = refusal(b"57P03", 1040, b"the database system is starting up")
UNKNOWN = refusal(b"28P01", 1045, b"nobody knows you")


async def write(db: Database, note: str) -> None:
    """Send one row."""
    await db.session.execute(insert(Audit).values(note=note))


# -- lost before COMMIT ---------------------------------------------------------------------------


@servers
async def test_connection_that_died_before_commit_is_tried_again(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """The whole function runs again on another connection; its rows are stored once."""
    attempts: list[str] = []

    @db.transactional(retry=NOW)
    async def work() -> str:
        attempts.append("attempt")
        await write(db, "first")
        if len(attempts) == 1:
            await saboteur.end_connection_of(db.session)
        await write(db, "second")
        return "done"

    assert await work() == "done"
    assert len(attempts) == 2
    assert await observer.notes(Audit) == ["first", "second"]


@servers
async def test_line_cut_in_a_statement_is_tried_again(proxy: Proxy, observer: Observer) -> None:
    """Whether the statement has arrived or not: without COMMIT it is undone."""
    attempts: list[str] = []
    async with Database(proxy.url) as db:

        @db.transactional(retry=RetryPolicy(attempts=4, first_delay_s=0))
        async def work() -> None:
            attempts.append("attempt")
            proxy.heal()
            if len(attempts) == 1:
                proxy.cut_before = INSERT
            if len(attempts) == 2:
                proxy.cut_after = INSERT
            await write(db, "once")

        async with asyncio.timeout(GENEROUS_S):
            await work()

    assert len(attempts) == 3
    assert await observer.notes(Audit) == ["once"]


@servers
async def test_pending_changes_are_made_again(db: Database, observer: Observer, saboteur: Saboteur) -> None:
    """What was only added is sent at the end, and finds the connection dead: COMMIT was not tried."""
    attempts: list[str] = []

    @db.transactional(retry=NOW)
    async def work() -> None:
        attempts.append("attempt")
        await db.session.scalars(select(Audit))
        db.session.add(Audit(note=f"by attempt {len(attempts)}"))
        if len(attempts) == 1:
            with db.session.no_autoflush:
                await saboteur.end_connection_of(db.session)

    await work()

    assert await observer.notes(Audit) == ["by attempt 2"]


@servers
async def test_commit_without_an_answer_is_never_tried_again(proxy: Proxy, observer: Observer) -> None:
    """It may be stored: a second attempt would store it twice."""
    attempts: list[str] = []
    async with Database(proxy.url) as db:

        @db.transactional(retry=NOW)
        async def work() -> None:
            attempts.append("attempt")
            await write(db, "perhaps")
            proxy.cut_after = COMMIT

        with pytest.raises(CommitOutcomeUnknownError):
            async with asyncio.timeout(GENEROUS_S):
                await work()
        proxy.heal()

        assert len(attempts) == 1
        async with asyncio.timeout(GENEROUS_S):
            while await observer.notes(Audit) != ["perhaps"]:  # noqa: ASYNC110 - the server has no event
                await asyncio.sleep(0.02)


@servers
async def test_connection_that_is_dead_at_commit_stores_once_or_is_unknown(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """A driver that knows that the line is dead has not sent COMMIT: then it is tried again."""
    attempts: list[str] = []

    @db.transactional(retry=NOW)
    async def work() -> None:
        attempts.append("attempt")
        await write(db, "once")
        if len(attempts) == 1:
            await saboteur.end_connection_of(db.session)

    try:
        await work()
    except CommitOutcomeUnknownError:
        assert (len(attempts), await observer.notes(Audit)) == (1, [])
    else:
        assert (len(attempts), await observer.notes(Audit)) == (2, ["once"])


@servers
async def test_read_only_function_is_tried_again_after_a_lost_commit(proxy: Proxy) -> None:
    """It can have stored nothing, whatever has become of its COMMIT."""
    attempts: list[str] = []
    async with Database(proxy.url) as db:

        @db.transactional(retry=NOW, read_only=True)
        async def count() -> int:
            attempts.append("attempt")
            proxy.heal()
            found = (await db.session.scalars(select(Audit))).all()
            if len(attempts) == 1:
                proxy.cut_after = COMMIT
            return len(found)

        async with asyncio.timeout(GENEROUS_S):
            assert await count() == 0

    assert len(attempts) == 2


@servers
async def test_read_only_function_without_a_transaction_is_tried_again(proxy: Proxy) -> None:
    """Each read ends by itself, and none has stored anything."""
    attempts: list[str] = []
    async with Database(proxy.url) as db:

        @db.transactional(retry=NOW, read_only=True, propagation=Propagation.SUPPORTS)
        async def count() -> int:
            attempts.append("attempt")
            proxy.heal()
            await db.session.execute(text("SELECT 1"))
            if len(attempts) == 1:
                proxy.cut_after = b"FROM audit"
            return len((await db.session.scalars(select(Audit))).all())

        async with asyncio.timeout(GENEROUS_S):
            assert await count() == 0

    assert len(attempts) == 2


# -- what may be stored ---------------------------------------------------------------------------


@servers
async def test_statement_that_commits_by_itself_is_not_done_twice(proxy: Proxy, observer: Observer) -> None:
    """It may have been stored when its line was cut: the function around it is not tried again."""
    attempts: list[str] = []
    async with Database(proxy.url) as db:

        @db.transactional(retry=NOW)
        async def work() -> None:
            attempts.append("attempt")
            await write(db, "undone")
            async with db.transaction(propagation=Propagation.NOT_SUPPORTED):
                await db.session.scalars(select(Audit))
                proxy.cut_after = INSERT
                await write(db, "by itself")

        with pytest.raises(DBAPIError):
            async with asyncio.timeout(GENEROUS_S):
                await work()
        proxy.heal()

        assert len(attempts) == 1
        assert await observer.notes(Audit) in ([], ["by itself"])


@servers
async def test_requires_new_that_has_committed_stays(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """As for every attempt: what was committed apart is not undone, and is done again."""
    attempts: list[str] = []

    @db.transactional(retry=NOW)
    async def work() -> None:
        attempts.append("attempt")
        await write(db, "work")
        async with db.transaction(propagation=Propagation.REQUIRES_NEW):
            await write(db, f"apart {len(attempts)}")
        if len(attempts) == 1:
            await saboteur.end_connection_of(db.session)
        await db.session.scalars(select(Audit))

    await work()

    assert await observer.notes(Audit) == ["apart 1", "apart 2", "work"]


@servers
async def test_requires_new_that_was_lost_lets_the_function_around_be_tried_again(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """It had not committed: all of the attempt is undone."""
    attempts: list[str] = []

    @db.transactional(retry=NOW)
    async def work() -> None:
        attempts.append("attempt")
        await write(db, "work")
        async with db.transaction(propagation=Propagation.REQUIRES_NEW):
            await write(db, "apart")
            if len(attempts) == 1:
                await saboteur.end_connection_of(db.session)
            await db.session.scalars(select(Audit))

    await work()

    assert await observer.notes(Audit) == ["apart", "work"]


# -- who is tried again ---------------------------------------------------------------------------


@servers
async def test_joined_function_is_tried_again_by_the_outermost_alone(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """What joined goes with the transaction that was lost, and begins anew with it."""
    story: list[str] = []

    @db.transactional(retry=NOW)
    async def inner() -> None:
        story.append("inner")
        await write(db, "inner")
        if len(story) == 2:
            await saboteur.end_connection_of(db.session)
        await db.session.scalars(select(Audit))

    @db.transactional(retry=NOW)
    async def outer() -> None:
        story.append("outer")
        await write(db, "outer")
        await inner()

    await outer()

    assert story == ["outer", "inner", "outer", "inner"]
    assert await observer.notes(Audit) == ["inner", "outer"]


@servers
async def test_function_in_a_block_without_retry_is_not_tried_again(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """More would be undone than its own, and nobody would do it again."""
    attempts: list[str] = []

    @db.transactional(retry=NOW)
    async def inner() -> None:
        attempts.append("attempt")
        await saboteur.end_connection_of(db.session)
        await write(db, "lost")

    with pytest.raises(UnexpectedRollbackError):
        async with db.transaction():
            await write(db, "lost too")
            with pytest.raises(DBAPIError):
                await inner()

    assert (len(attempts), await observer.notes(Audit)) == (1, [])


@servers
@pytest.mark.parametrize("propagation", [Propagation.NESTED, Propagation.REQUIRED])
async def test_connection_lost_in_a_savepoint_is_tried_again(
    db: Database, observer: Observer, saboteur: Saboteur, propagation: Propagation
) -> None:
    """The savepoint goes with the transaction."""
    attempts: list[str] = []

    @db.transactional(retry=NOW, propagation=propagation)
    async def work() -> None:
        attempts.append("attempt")
        await write(db, "work")
        async with db.transaction(propagation=Propagation.NESTED):
            await write(db, "inside")
            if len(attempts) == 1:
                await saboteur.end_connection_of(db.session)
            await db.session.scalars(select(Audit))

    await work()

    assert await observer.notes(Audit) == ["inside", "work"]


@servers
@pytest.mark.parametrize("loaded", [True, False])
async def test_first_function_of_a_unit_is_tried_again(
    db: Database, observer: Observer, saboteur: Saboteur, *, loaded: bool
) -> None:
    """The transaction of the unit begins anew with it; the unit goes on."""
    attempts: list[str] = []

    @db.transactional(retry=NOW)
    async def first() -> None:
        attempts.append("attempt")
        await write(db, "first")
        if len(attempts) == 1:
            await saboteur.end_connection_of(db.session)
        await db.session.scalars(select(Audit))

    async with db.transaction():
        await write(db, "before")
    async with db.unit_of_work():
        if loaded:
            assert [audit.note for audit in await db.session.scalars(select(Audit))] == ["before"]
        await first()
        await write(db, "after")

    assert len(attempts) == 2
    assert await observer.notes(Audit) == ["after", "before", "first"]


@servers
async def test_function_after_a_write_of_its_unit_is_not_tried_again(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """What the unit has written before is lost with it, and nobody would write it again."""
    attempts: list[str] = []

    @db.transactional(retry=NOW)
    async def second() -> None:
        attempts.append("attempt")
        await saboteur.end_connection_of(db.session)
        await write(db, "lost")

    with pytest.raises(DBAPIError):
        async with db.unit_of_work():
            await write(db, "lost too")
            await second()

    assert (len(attempts), await observer.notes(Audit)) == (1, [])


@servers
async def test_error_of_the_program_after_a_lost_connection_is_raised(
    db: Database, observer: Observer, saboteur: Saboteur
) -> None:
    """It says what the program says; it is no loss, though it was caused by one."""
    attempts: list[str] = []

    @db.transactional(retry=NOW)
    async def work() -> None:
        attempts.append("attempt")
        await saboteur.end_connection_of(db.session)
        try:
            await write(db, "lost")
        except DBAPIError as error:
            raise StockError from error

    with pytest.raises(StockError):
        await work()

    assert (len(attempts), await observer.notes(Audit)) == (1, [])


# -- connections that cannot be made --------------------------------------------------------------


def private_server(
    db: Database,
    private_postgresql: Callable[[], LentServer],
    private_mariadb: Callable[[], LentServer],
) -> LentServer:
    """A server of the same kind as that of a Database, which may be mistreated."""
    lend = private_postgresql if db.engine.dialect.name == "postgresql" else private_mariadb
    return lend()


@servers
@pytest.mark.parametrize("signal_number", [None, signal.SIGQUIT], ids=["stopped", "crashed"])
async def test_function_goes_on_when_its_server_is_there_again(
    db: Database,
    private_postgresql: Callable[[], LentServer],
    private_mariadb: Callable[[], LentServer],
    signal_number: int | None,
) -> None:
    """Stopped in one attempt, not there in the next, back in the third."""
    server = private_server(db, private_postgresql, private_mariadb)
    url = server.url(db.engine.url.drivername)
    attempts: list[str] = []
    async with Database(url, name="restarted") as other:

        @other.transactional(retry=RetryPolicy(attempts=5, first_delay_s=0))
        async def work() -> object:
            attempts.append("attempt")
            if len(attempts) == 1:
                await other.session.execute(text("SELECT 1"))
                await asyncio.to_thread(server.stop, signal_number)
            if len(attempts) == 3:
                await asyncio.to_thread(server.start)
            return await other.session.scalar(text("SELECT 42"))

        assert await work() == 42

    assert len(attempts) == 3


@servers
async def test_server_that_ends_all_connections_is_asked_again(
    db: Database,
    private_postgresql: Callable[[], LentServer],
    private_mariadb: Callable[[], LentServer],
) -> None:
    """As an administrator does it before a restart."""
    server = private_server(db, private_postgresql, private_mariadb)
    attempts: list[str] = []
    async with Database(server.url(db.engine.url.drivername), name="ended") as other:

        @other.transactional(retry=NOW)
        async def work() -> object:
            attempts.append("attempt")
            await other.session.execute(text("SELECT 1"))
            if len(attempts) == 1:
                await asyncio.to_thread(server.end_connections)
            return await other.session.scalar(text("SELECT 42"))

        assert await work() == 42

    assert len(attempts) == 2


@servers
@pytest.mark.parametrize("in_unit", [True, False])
async def test_server_that_is_not_ready_is_asked_again(
    proxy: Proxy, observer: Observer, *, in_unit: bool
) -> None:
    """It says that it is starting up, or has no room: nothing was sent."""
    attempts: list[str] = []
    async with Database(proxy.url) as db:

        @db.transactional(retry=NOW)
        async def work() -> None:
            attempts.append("attempt")
            proxy.refusal = NOT_READY[proxy.target.get_backend_name()] if len(attempts) == 1 else b""
            await write(db, "once")

        if in_unit:
            async with db.unit_of_work():
                await work()
        else:
            await work()

    assert len(attempts) == 2
    assert await observer.notes(Audit) == ["once"]


@servers
async def test_server_that_knows_nobody_is_not_asked_again(proxy: Proxy) -> None:
    """A wrong password does not become right."""
    attempts: list[str] = []
    async with Database(proxy.url) as db:

        @db.transactional(retry=NOW)
        async def work() -> None:
            attempts.append("attempt")
            await write(db, "never")

        proxy.refusal = UNKNOWN[proxy.target.get_backend_name()]
        with pytest.raises(Exception, match="nobody knows you"):
            await work()

    assert len(attempts) == 1


@pytest.mark.parametrize("error", [ConnectionResetError(), OSError(), TimeoutError()])
async def test_lost_connection_of_something_else_is_not_tried_again(db: Database, error: OSError) -> None:
    """A mail server that hangs up has nothing to do with the database; the mail may be sent."""
    attempts: list[str] = []

    async def send_mail() -> None:
        raise error

    @db.transactional(retry=NOW)
    async def work(send: Callable[[], Awaitable[None]]) -> None:
        attempts.append("attempt")
        await write(db, "lost")
        await send()

    with pytest.raises(type(error)):
        await work(send_mail)

    assert len(attempts) == 1


@servers
async def test_connection_that_cannot_be_made_is_told_as_a_lost_one(database_url: URL) -> None:
    """With every driver: whoever looks at the error finds the same."""

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Database(database_url.set(host="127.0.0.1", port=port), name="away") as away:
        try:
            with pytest.raises((DBAPIError, OSError)) as raised:
                await away.engine.connect()
        finally:
            server.close()
            await server.wait_closed()

    failure = raised.value
    assert isinstance(failure, OSError) or (
        isinstance(failure, DBAPIError) and failure.connection_invalidated
    )
