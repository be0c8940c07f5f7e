"""A unit of work is one session that sees several transactions, one after another."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import URL, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tests.fixtures.errors import ShopError, StockError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from unitwork import (
    AfterCommitError,
    Database,
    NoTransactionError,
    Propagation,
    Repository,
    TransactionEndedError,
    TransactionRefusedError,
    UnexpectedRollbackError,
    get_session,
    transactional,
)
from unitwork.observe import StatementLog

NOTES = select(Audit.note)


async def begin_by_use(db: Database, note: str) -> None:
    """Write with the session of the unit: its transaction begins by itself."""
    db.session.add(Audit(note=note))
    await db.session.flush()


# -- one session, several transactions ----------------------------------------------------------


async def test_unit_commits_what_is_open_at_its_end(db: Database, observer: Observer) -> None:
    """What the session was used for is committed when the unit ends."""
    async with db.unit_of_work():
        await begin_by_use(db, "x")

    assert await observer.notes(Audit) == ["x"]


async def test_unit_stores_what_was_only_added(db: Database, observer: Observer) -> None:
    """What waits to be sent is sent at the end."""
    async with db.unit_of_work() as session:
        session.add(Audit(note="x"))

    assert await observer.notes(Audit) == ["x"]


@pytest.mark.parametrize("failure", [ShopError, asyncio.CancelledError, KeyboardInterrupt])
async def test_unit_rolls_back_when_an_exception_leaves(
    db: Database, observer: Observer, failure: type[BaseException]
) -> None:
    """What is open is rolled back, and the exception is the caller's own."""
    raised = failure()

    with pytest.raises(failure) as caught:
        async with db.unit_of_work():
            await begin_by_use(db, "x")
            raise raised

    assert caught.value is raised
    assert await observer.notes(Audit) == []


async def test_unit_that_fails_keeps_what_was_committed_in_it(db: Database, observer: Observer) -> None:
    """Each transaction of a unit is its own: only the open one is undone."""
    with pytest.raises(ShopError):
        async with db.unit_of_work():
            async with db.transaction():
                db.session.add(Audit(note="block"))
            await begin_by_use(db, "by hand")
            await db.commit()
            await begin_by_use(db, "open")
            raise ShopError

    assert await observer.notes(Audit) == ["block", "by hand"]


async def test_blocks_of_a_unit_share_its_session(db: Database) -> None:
    """Blocks one after another see the same session and the same entities."""
    sessions: list[AsyncSession] = []
    async with db.unit_of_work() as outer:
        async with db.transaction() as session:
            account = Account(name="ann")
            session.add(account)
            sessions.append(session)
        async with db.transaction() as session:
            account.balance = 7
            sessions.append(session)

        assert sessions == [outer, outer]
        assert account in outer


async def test_change_between_blocks_is_stored(db: Database, observer: Observer) -> None:
    """An entity that is changed outside of a block is stored by the next transaction of its unit."""
    async with db.unit_of_work():
        async with db.transaction():
            account = Account(name="ann", balance=1)
            db.session.add(account)
        account.balance = 7

    assert await observer.values(Account, "balance") == [7]


async def test_block_joins_what_the_session_has_begun(db: Database, observer: Observer) -> None:
    """A block inside an open transaction of the unit joins it: both end with the unit."""
    async with db.unit_of_work():
        await begin_by_use(db, "unit")
        async with db.transaction():
            db.session.add(Audit(note="block"))
        assert await observer.notes(Audit) == []

    assert await observer.notes(Audit) == ["block", "unit"]


async def test_nested_block_in_an_idle_unit_is_a_transaction(db: Database, observer: Observer) -> None:
    """Without a transaction to be nested in, NESTED begins one."""
    async with db.unit_of_work(atomic=False):
        with pytest.raises(StockError):
            async with db.transaction(propagation=Propagation.NESTED):
                await begin_by_use(db, "undone")
                raise StockError
        async with db.transaction(propagation=Propagation.NESTED):
            await begin_by_use(db, "kept")
        assert await observer.notes(Audit) == ["kept"]


async def test_unit_inside_a_unit_is_apart(db: Database, observer: Observer) -> None:
    """A unit never shares the session of the unit around it."""
    with pytest.raises(ShopError):
        async with db.unit_of_work() as outer:
            async with db.unit_of_work() as inner:
                await begin_by_use(db, "inner")
            assert inner is not outer
            assert db.session is outer
            await begin_by_use(db, "outer")
            raise ShopError

    assert await observer.notes(Audit) == ["inner"]


async def test_unit_is_entered_again_after_its_end_only(db: Database, observer: Observer) -> None:
    """One unit object serves one `async with` at a time."""
    unit = db.unit_of_work()
    async with unit:
        await begin_by_use(db, "first")
        with pytest.raises(TransactionRefusedError, match="open already"):
            await unit.__aenter__()
        assert "open" in repr(unit)
    async with unit:
        await begin_by_use(db, "second")

    assert "ended" in repr(unit)
    assert await observer.notes(Audit) == ["first", "second"]


async def test_empty_unit_sends_nothing(db: Database) -> None:
    """A unit that asks nothing opens no connection."""
    with StatementLog(db) as log:
        async with db.unit_of_work(), db.unit_of_work(atomic=True):
            pass

    assert (len(log), log.control, db.pool_status().idle) == (0, [], 0)


# -- finding the session ------------------------------------------------------------------------


async def test_functions_find_the_session_of_their_unit(db: Database) -> None:
    """`db.session` and `get_session(db)` are the session that the unit has given."""
    async with db.unit_of_work() as session:
        assert db.session is session
        assert get_session(db) is session


@pytest.mark.parametrize("find", [lambda db: db.session, get_session])
async def test_session_is_refused_outside(db: Database, find: Any) -> None:  # noqa: ANN401 - either way
    """Outside of every block and unit the error says what to enter."""
    with pytest.raises(NoTransactionError, match=r"Fix: enter `async with db.transaction"):
        find(db)


async def test_session_is_refused_after_the_end(db: Database) -> None:
    """A session that somebody kept is closed for good, and says whose it was."""
    async with db.unit_of_work() as session:
        await begin_by_use(db, "x")

    for use in (session.flush, session.commit, session.rollback, session.close):
        with pytest.raises(TransactionEndedError, match="the unit of work at"):
            await use()
    with pytest.raises(TransactionEndedError):
        session.add(Audit(note="late"))


@pytest.mark.parametrize("verb", ["commit", "rollback", "close"])
async def test_ending_by_hand_outside_is_refused(db: Database, verb: str) -> None:
    """Without a unit there is nothing to end."""
    with pytest.raises(NoTransactionError):
        await getattr(db, verb)()


# -- by hand ------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["database", "session"])
async def test_commit_by_hand_and_go_on(db: Database, observer: Observer, whose: str) -> None:
    """COMMIT now; what follows is another transaction of the same unit."""
    with pytest.raises(ShopError):
        async with db.unit_of_work() as session:
            await begin_by_use(db, "first")
            await (db if whose == "database" else session).commit()
            assert await observer.notes(Audit) == ["first"]
            assert db.pool_status().checked_out == 0
            await begin_by_use(db, "second")
            raise ShopError

    assert await observer.notes(Audit) == ["first"]


@pytest.mark.parametrize("whose", ["database", "session"])
async def test_rollback_by_hand_and_go_on(db: Database, observer: Observer, whose: str) -> None:
    """ROLLBACK now, silently; what follows is stored."""
    async with db.unit_of_work() as session:
        await begin_by_use(db, "first")
        await (db if whose == "database" else session).rollback()
        assert db.pool_status().checked_out == 0
        await begin_by_use(db, "second")

    assert await observer.notes(Audit) == ["second"]


@pytest.mark.parametrize("whose", ["database", "session"])
async def test_close_by_hand_and_go_on(db: Database, observer: Observer, whose: str) -> None:
    """The connection goes back at once and entities are detached; the next use begins anew."""
    async with db.unit_of_work() as session:
        await begin_by_use(db, "undone")
        await db.commit()
        account = Account(name="ann")
        session.add(account)
        await session.flush()
        await (db if whose == "database" else session).close()
        assert db.pool_status().checked_out == 0
        assert account not in session
        await begin_by_use(db, "after")

    assert await observer.notes(Audit) == ["after", "undone"]
    assert await observer.names(Account) == []


async def test_entities_stay_with_the_unit_across_commits(db: Database, observer: Observer) -> None:
    """A commit by hand expires and detaches nothing."""
    async with db.unit_of_work():
        account = Account(name="ann")
        db.session.add(account)
        await db.commit()
        account.balance = 7
        assert account.name == "ann"
        await db.commit()

    assert await observer.values(Account, "balance") == [7]


@pytest.mark.parametrize("verb", ["commit", "rollback", "close"])
async def test_ending_by_hand_again_and_again_is_harmless(
    db: Database, observer: Observer, verb: str
) -> None:
    """Ending what has not begun does nothing."""
    async with db.unit_of_work():
        for _ in range(3):
            await getattr(db, verb)()
        await begin_by_use(db, "x")
        await db.commit()
        for _ in range(3):
            await getattr(db, verb)()

    assert await observer.notes(Audit) == ["x"]


@pytest.mark.parametrize("verb", ["commit", "rollback", "close"])
async def test_ending_by_hand_in_a_block_is_refused(db: Database, observer: Observer, verb: str) -> None:
    """A block inside the unit ends by itself; the refusal condemns nothing and names the block."""
    async with db.unit_of_work():
        async with db.transaction() as session:
            db.session.add(Audit(note="x"))
            for whose in (db, session):
                with pytest.raises(TransactionRefusedError, match=r"test_unit_of_work\.py") as caught:
                    await getattr(whose, verb)()
                assert "Fix:" in str(caught.value)

    assert await observer.notes(Audit) == ["x"]


@pytest.mark.parametrize("whose", ["database", "session"])
async def test_ending_by_hand_ends_what_there_is_so_far(db: Database, observer: Observer, whose: str) -> None:
    """In an atomic unit COMMIT and ROLLBACK by hand end its transaction; the next write begins anew."""
    with pytest.raises(ShopError):
        async with db.unit_of_work() as session:
            ends = db if whose == "database" else session
            async with db.transaction():
                db.session.add(Audit(note="kept"))
            await ends.commit()
            await begin_by_use(db, "undone by hand")
            await ends.rollback()
            async with db.transaction():
                db.session.add(Audit(note="undone at the end"))
            raise ShopError

    assert await observer.notes(Audit) == ["kept"]


# -- what fails inside --------------------------------------------------------------------------


async def test_swallowed_database_error_condemns_the_open_transaction(
    db: Database, observer: Observer
) -> None:
    """A unit cannot commit half of what it did."""
    with pytest.raises(UnexpectedRollbackError, match="the unit of work at"):
        async with db.unit_of_work():
            await begin_by_use(db, "half")
            with pytest.raises(DBAPIError):
                await db.session.execute(text("nonsense"))

    assert await observer.notes(Audit) == []


async def test_rollback_by_hand_heals_a_condemned_unit(db: Database, observer: Observer) -> None:
    """After a database error, a rollback by hand lets the unit go on."""
    async with db.unit_of_work():
        await begin_by_use(db, "half")
        with pytest.raises(IntegrityError):
            db.session.add_all([Account(name="ann"), Account(name="ann")])
            await db.session.flush()
        await db.rollback()
        await begin_by_use(db, "after")

    assert await observer.notes(Audit) == ["after"]
    assert await observer.names(Account) == []


async def test_commit_by_hand_of_a_condemned_unit_raises_and_heals(db: Database, observer: Observer) -> None:
    """COMMIT is refused with the reason, the transaction is rolled back, and the unit goes on."""
    async with db.unit_of_work():
        await begin_by_use(db, "half")
        with pytest.raises(DBAPIError):
            await db.session.execute(text("nonsense"))
        with pytest.raises(UnexpectedRollbackError):
            await db.commit()
        assert db.pool_status().checked_out == 0
        await begin_by_use(db, "after")

    assert await observer.notes(Audit) == ["after"]


async def test_commit_by_hand_that_fails_raises_and_heals(db: Database, observer: Observer) -> None:
    """A flush that fails inside COMMIT is the database's own error; the unit goes on."""
    async with db.unit_of_work():
        db.session.add_all([Account(name="ann"), Account(name="ann")])
        with pytest.raises(IntegrityError):
            await db.commit()
        await begin_by_use(db, "after")

    assert await observer.notes(Audit) == ["after"]
    assert await observer.names(Account) == []


async def test_failed_block_leaves_its_unit_usable(db: Database, observer: Observer) -> None:
    """A block that began in the unit and failed takes nothing else with it."""
    async with db.unit_of_work(atomic=False):
        with pytest.raises(IntegrityError):
            async with db.transaction():
                db.session.add_all([Account(name="ann"), Account(name="ann")])
        async with db.transaction():
            db.session.add(Account(name="bob"))

    assert await observer.names(Account) == ["bob"]


async def test_failed_joined_block_condemns_the_transaction_of_the_unit(
    db: Database, observer: Observer
) -> None:
    """A block that joined what the session had begun, and failed, cannot be ignored."""
    with pytest.raises(UnexpectedRollbackError, match="StockError"):
        async with db.unit_of_work():
            await begin_by_use(db, "unit")
            with pytest.raises(StockError):
                async with db.transaction():
                    raise StockError

    assert await observer.notes(Audit) == []


async def test_mark_before_the_first_write_ends_with_the_commit_by_hand(
    db: Database, observer: Observer
) -> None:
    """The connection is back, what was marked is undone, and the unit goes on with the next write."""
    async with db.unit_of_work():
        db.set_rollback_only()
        await db.session.execute(insert(Audit).values(note="undone"))
        await db.commit()
        assert db.pool_status().checked_out == 0
        await db.session.execute(insert(Audit).values(note="stored"))
        await db.commit()

    assert await observer.notes(Audit) == ["stored"]


async def test_rollback_only_of_a_unit_is_silent(db: Database, observer: Observer) -> None:
    """The unit is the owner of what its session has begun."""
    async with db.unit_of_work():
        await begin_by_use(db, "x")
        db.set_rollback_only()

    assert await observer.notes(Audit) == []


# -- atomic -------------------------------------------------------------------------------------


async def test_atomic_unit_is_one_transaction(db: Database, observer: Observer) -> None:
    """All blocks join: nothing of them stays when the unit fails."""
    with pytest.raises(ShopError):
        async with db.unit_of_work(atomic=True):
            for note in ("a", "b"):
                async with db.transaction():
                    db.session.add(Audit(note=note))
            raise ShopError

    assert await observer.notes(Audit) == []


async def test_atomic_unit_does_not_swallow_a_failed_block(db: Database, observer: Observer) -> None:
    """A block that failed inside cannot be committed by mistake."""
    with pytest.raises(UnexpectedRollbackError, match="StockError"):
        async with db.unit_of_work(atomic=True):
            db.session.add(Audit(note="outer"))
            with pytest.raises(StockError):
                async with db.transaction():
                    raise StockError

    assert await observer.notes(Audit) == []


async def test_atomic_unit_keeps_what_nested_blocks_undo_apart(db: Database, observer: Observer) -> None:
    """A savepoint inside an atomic unit can fail alone."""
    async with db.unit_of_work(atomic=True):
        db.session.add(Audit(note="outer"))
        with pytest.raises(StockError):
            async with db.transaction(propagation=Propagation.NESTED):
                db.session.add(Audit(note="inner"))
                raise StockError

    assert await observer.notes(Audit) == ["outer"]


# -- hooks --------------------------------------------------------------------------------------


async def test_hooks_belong_to_the_transaction_that_is_open(db: Database) -> None:
    """Each transaction of a unit runs its own, once, at its own end."""
    heard: list[str] = []

    async with db.unit_of_work(atomic=False):
        await begin_by_use(db, "a")
        db.before_commit(lambda: heard.append("before a"))
        db.on_commit(lambda: heard.append("a"))
        db.on_rollback(lambda: heard.append("not a"))
        await db.commit()
        await begin_by_use(db, "b")
        db.on_commit(lambda: heard.append("not b"))
        db.on_rollback(lambda: heard.append("b undone"))
        await db.rollback()
        async with db.transaction():
            db.session.add(Audit(note="c"))
            db.on_commit(lambda: heard.append("c"))
        await begin_by_use(db, "d")
        db.on_commit(lambda: heard.append("d"))
        assert heard == ["before a", "a", "b undone", "c"]

    assert heard == ["before a", "a", "b undone", "c", "d"]


async def test_hook_without_a_transaction_runs_at_once(db: Database) -> None:
    """An idle unit has nothing to wait for."""
    heard: list[str] = []

    async with db.unit_of_work(atomic=False):
        await db.on_commit(lambda: heard.append("now"))
        db.on_rollback(lambda: heard.append("never"))

        assert heard == ["now"]


async def test_failed_hook_of_a_unit_says_that_it_is_committed(db: Database, observer: Observer) -> None:
    """What runs after the commit by hand cannot undo it, and the unit goes on."""

    def mail() -> None:
        raise ShopError("no mail")

    async with db.unit_of_work():
        await begin_by_use(db, "x")
        db.on_commit(mail)
        with pytest.raises(AfterCommitError, match="is committed"):
            await db.commit()
        await begin_by_use(db, "y")

    assert await observer.notes(Audit) == ["x", "y"]


# -- several databases --------------------------------------------------------------------------


@pytest.fixture
def second_url() -> URL:
    """The address of another database."""
    return URL.create("sqlite+aiosqlite", database=":memory:")


async def test_each_database_has_its_own_unit(db: Database, observer: Observer, second_url: URL) -> None:
    """Two units at once are two sessions; each commits by itself."""
    async with Database(second_url, name="second") as second:
        await second.create_all(Audit)
        async with db.unit_of_work() as ours, second.unit_of_work() as theirs:
            assert (db.session, second.session) == (ours, theirs)
            db.session.add(Audit(note="ours"))
            second.session.add(Audit(note="theirs"))
            await second.commit()
            await db.rollback()
        async with second.transaction() as session:
            assert list(await session.scalars(NOTES)) == ["theirs"]

    assert await observer.notes(Audit) == []


async def test_block_means_the_innermost_unit_unless_told(
    db: Database, observer: Observer, second_url: URL
) -> None:
    """Without a word a function joins the innermost unit; with one, that of its Database."""

    @transactional
    async def write(note: str) -> None:
        await Repository[Audit]().add(Audit(note=note))

    @db.transactional
    async def write_ours(note: str) -> None:
        db.session.add(Audit(note=note))

    async with Database(second_url, name="second") as second:
        await second.create_all(Audit)
        async with db.unit_of_work(), second.unit_of_work():
            await write("innermost")
            await write_ours("ours")
        async with second.transaction() as session:
            assert list(await session.scalars(NOTES)) == ["innermost"]

    assert await observer.notes(Audit) == ["ours"]


# -- idle units hold nothing --------------------------------------------------------------------


async def test_repository_read_in_an_idle_unit_holds_nothing(db: Database, observer: Observer) -> None:
    """The entity stays attached, the connection is back, and no transaction is open."""
    await observer.run("INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)")

    async with db.unit_of_work() as session:
        account = await Repository[Account](db).get(1)

        assert account in session
        assert not session.in_transaction()
        assert db.pool_status().checked_out == 0


async def test_repository_reads_of_a_unit_give_one_object(db: Database, observer: Observer) -> None:
    """The identity map is that of the unit, and a change to what was read is stored."""
    await observer.run("INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)")

    async with db.unit_of_work():
        first = await Repository[Account](db).get(1)
        second = await Repository[Account](db).get(1)
        assert first is second
        assert first is not None
        first.balance = 7

    assert await observer.values(Account, "balance") == [7]


async def test_unit_holds_nothing_between_its_blocks(db: Database) -> None:
    """After each block and each commit by hand the pool has everything back."""
    async with db.unit_of_work(atomic=False):
        for note in ("a", "b"):
            async with db.transaction():
                await begin_by_use(db, note)
                assert db.pool_status().checked_out == 1
            assert db.pool_status().checked_out == 0
        await begin_by_use(db, "c")
        assert db.pool_status().checked_out == 1
        await db.commit()
        assert db.pool_status().checked_out == 0


async def test_entities_outlive_their_unit(db: Database) -> None:
    """What was loaded can be read after the end: it is detached, not expired."""
    async with db.unit_of_work():
        account = Account(name="ann")
        db.session.add(account)

    assert account.name == "ann"
    assert inspect(account).detached


async def test_failed_read_in_an_idle_unit_condemns_nothing(db: Database, observer: Observer) -> None:
    """A read of a repository that fails has no transaction to condemn."""
    async with db.unit_of_work():
        with pytest.raises(DBAPIError):
            await Repository[Account](db).where(text("nonsense")).all()
        await begin_by_use(db, "after")

    assert await observer.notes(Audit) == ["after"]
