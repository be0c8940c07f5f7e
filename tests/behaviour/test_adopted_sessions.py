"""A session of the program's own is the ambient one while it is adopted; whoever made it ends it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import URL, event, insert, select
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine

from tests.fixtures.errors import ShopError, StockError
from tests.fixtures.heard import Heard
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
    transactional,
)
from unitwork.events import BlockEnded, BlockEntered, Outcome
from unitwork.testing import no_leaks

ANN = insert(Account).values(name="ann", balance=0)


async def write(db: Database, note: str, propagation: Propagation = Propagation.REQUIRED) -> None:
    """What new code does: a block that stores a row."""
    async with db.transaction(propagation=propagation):
        await Repository[Audit](db).create(note=note)


# -- who commits --------------------------------------------------------------------------------


async def test_blocks_commit_nothing_and_the_owner_does(db: Database, observer: Observer) -> None:
    """What new code writes is stored when whoever made the session commits it, after the adoption."""
    async with db.session_factory() as session:
        async with db.adopt(session) as adopted:
            assert adopted is session is db.session
            await write(db, "new")
            session.add(Audit(note="old"))
        assert await observer.notes(Audit) == []

        await session.commit()

    assert await observer.notes(Audit) == ["new", "old"]


async def test_session_that_is_not_committed_stores_nothing(db: Database, observer: Observer) -> None:
    """As always with SQLAlchemy: a session that is closed without a commit rolls back."""
    async with db.session_factory() as session, db.adopt(session):
        await write(db, "new")

    assert await observer.notes(Audit) == []


async def test_blocks_join_what_the_owner_has_begun(db: Database, observer: Observer) -> None:
    """They see what old code has written in its transaction, and are undone with it."""
    with pytest.raises(ShopError):
        async with db.session_factory.begin() as session:
            session.add(Audit(note="old"))
            await session.flush()
            async with db.adopt(session), db.transaction():
                assert await Repository[Audit](db).count() == 1
                await write(db, "new")
            raise ShopError

    async with db.session_factory.begin() as session:
        await session.execute(ANN)
        async with db.adopt(session):
            await write(db, "kept")

    assert (await observer.notes(Audit), await observer.names(Account)) == (["kept"], ["ann"])


async def test_owner_ends_as_often_as_he_likes(db: Database, observer: Observer) -> None:
    """Outside of blocks he commits and rolls back while it is adopted: what comes then begins anew."""
    async with db.session_factory() as session, db.adopt(session):
        await write(db, "first")
        await session.commit()
        assert await observer.notes(Audit) == ["first"]
        await write(db, "undone")
        await session.rollback()
        await write(db, "second")
        await db.commit()
        await write(db, "closed")
        await session.close()

    assert await observer.notes(Audit) == ["first", "second"]


async def test_transaction_that_the_owner_begins_inside(db: Database, observer: Observer) -> None:
    """`begin()` of an adopted session works as always, also when it ends after the adoption."""
    async with db.session_factory() as session:
        async with db.adopt(session):
            async with session.begin():
                await write(db, "first")
            begun = await session.begin()
            await write(db, "second")
        assert await observer.notes(Audit) == ["first"]
        await begun.commit()

    assert await observer.notes(Audit) == ["first", "second"]


async def test_session_is_given_back_as_it_was(db: Database) -> None:
    """Its classes and attributes are those that it had, and it is used as before."""
    async with db.session_factory() as session:
        assert session.bind is db.engine  # SQLAlchemy remembers the answer
        before = type(session), type(session.sync_session), set(vars(session))
        async with db.adopt(session):
            async with db.transaction(read_only=True):
                assert await Repository[Audit](db).count() == 0
            session.info["mine"] = 1

        assert (type(session), type(session.sync_session), set(vars(session))) == before
        assert session.info["mine"] == 1
        with pytest.raises(NoTransactionError):
            _ = db.session
        account = Account(name="ann")
        session.add(account)
        account.balance = 3
        await session.commit()
        async with session.begin_nested():
            account.balance = 4
        await (await session.connection()).commit()


# -- what blocks ask for --------------------------------------------------------------------------

STORED = {
    # propagation: (notes stored before the owner ends, after his rollback)
    Propagation.REQUIRED: ([], []),
    Propagation.NESTED: ([], []),
    Propagation.SUPPORTS: ([], []),
    Propagation.MANDATORY: ([], []),
    Propagation.REQUIRES_NEW: (["x"], ["x"]),
    Propagation.NOT_SUPPORTED: (["x"], ["x"]),
}


@pytest.mark.parametrize("propagation", [*Propagation])
async def test_every_propagation(db: Database, observer: Observer, propagation: Propagation) -> None:
    """An adopted session counts as a transaction, whether something was sent in it or not."""
    async with db.session_factory() as session:
        async with db.adopt(session):
            if propagation is Propagation.NEVER:
                with pytest.raises(TransactionRefusedError, match=r"NEVER.*session adopted at"):
                    await write(db, "x", propagation)
                return
            await write(db, "x", propagation)
            assert await observer.notes(Audit) == STORED[propagation][0]
            assert db.session is session
        await session.rollback()

    assert await observer.notes(Audit) == STORED[propagation][1]


async def test_savepoint_that_fails_is_undone_alone(db: Database, observer: Observer) -> None:
    """NESTED is a savepoint in the owner's transaction, as is `begin_nested()` of old code."""
    async with db.session_factory() as session, db.adopt(session):
        await write(db, "first")
        with pytest.raises(ShopError):
            async with db.transaction(propagation=Propagation.NESTED):
                await write(db, "undone")
                raise ShopError
        with pytest.raises(StockError):
            async with session.begin_nested():
                await write(db, "undone too")
                raise StockError
        async with session.begin_nested():
            await write(db, "second")
        await session.commit()

    assert await observer.notes(Audit) == ["first", "second"]


async def test_swallowed_failure_of_a_block_cannot_be_committed(db: Database, observer: Observer) -> None:
    """Half of the work is never stored: the owner's commit is refused until he has rolled back."""

    @transactional
    async def fail() -> None:
        await write(db, "half")
        raise ShopError

    for adopted_while_committing in (True, False):
        async with db.session_factory() as session:
            async with db.adopt(session):
                with pytest.raises(ShopError):
                    await fail()
                if adopted_while_committing:
                    for _ in range(2):
                        with pytest.raises(UnexpectedRollbackError, match=r"fail .raised ShopError"):
                            await session.commit()
                    await session.rollback()
                    await write(db, "whole")
                    await session.commit()
            if not adopted_while_committing:
                for _ in range(2):
                    with pytest.raises(UnexpectedRollbackError, match=r"fail .raised ShopError"):
                        await session.commit()
                await session.rollback()
                session.add(Audit(note="later"))
                await session.commit()

    assert await observer.notes(Audit) == ["later", "whole"]


async def test_failure_is_remembered_when_it_is_adopted_again(db: Database, observer: Observer) -> None:
    """Several adoptions of one transaction are parts of the same work."""
    async with db.session_factory() as session:
        async with db.adopt(session):
            with pytest.raises(ShopError):
                async with db.transaction():
                    raise ShopError
        async with db.adopt(session):
            await write(db, "x")
            with pytest.raises(UnexpectedRollbackError):
                await session.commit()

    assert await observer.notes(Audit) == []


async def test_set_rollback_only_of_new_code(db: Database, observer: Observer) -> None:
    """The owner hears at his commit that new code has asked for a rollback."""
    async with db.session_factory() as session:
        async with db.adopt(session):
            await write(db, "x")
            db.set_rollback_only()
        with pytest.raises(UnexpectedRollbackError, match="asked for a rollback"):
            await session.commit()

    assert await observer.notes(Audit) == []


async def test_block_is_never_tried_again_by_itself(db: Database) -> None:
    """What it is a part of is the owner's to try again."""
    attempts: list[int] = []

    @db.transactional(retry=3)
    async def fail() -> None:
        attempts.append(1)
        await db.session.execute(ANN)

    async with db.transaction():
        await db.session.execute(ANN)
    async with db.session_factory() as session, db.adopt(session):
        with pytest.raises(IntegrityError):
            await fail()

    assert attempts == [1]


async def test_read_only_block_refuses_all_writes_in_it(db: Database, observer: Observer) -> None:
    """Of new code and of old, by every way, in its extent alone."""
    async with db.session_factory() as session, db.adopt(session):
        account = Account(name="ann")
        session.add(account)
        await session.flush()
        async with db.transaction(read_only=True):
            assert await Repository[Account](db).count() == 1
            for refused in (
                lambda: Repository[Audit](db).create(note="x"),
                lambda: session.execute(insert(Audit).values(note="x")),
                lambda: session.run_sync(lambda sync: sync.execute(insert(Audit).values(note="x"))),
                lambda: session.delete(account),
            ):
                with pytest.raises(TransactionRefusedError, match="is read-only"):
                    await refused()
            with pytest.raises(TransactionRefusedError, match="is read-only"):
                account.balance = 7
        account.balance = 8
        await write(db, "after")
        await session.commit()

    assert await observer.values(Account, "balance") == [8]
    assert await observer.notes(Audit) == ["after"]


async def test_isolation_is_that_of_the_owner(db: Database) -> None:
    """A block may ask for what the session has, and is refused anything else."""
    async with db.session_factory() as session:
        await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        async with db.adopt(session):
            async with db.transaction(isolation="SERIALIZABLE"):
                await write(db, "x")
            with pytest.raises(TransactionRefusedError, match="asks for isolation REPEATABLE READ"):
                async with db.transaction(isolation="REPEATABLE READ"):
                    pass
            with pytest.raises(TransactionRefusedError, match="durable"):
                async with db.transaction(durable=True):
                    pass


# -- hooks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["inside", "after"])
async def test_hooks_wait_for_the_owner(db: Database, observer: Observer, when: str) -> None:
    """`before_commit` runs in his transaction, `on_commit` after it with nothing open."""
    heard: list[object] = []

    async def before() -> None:
        await write(db, "before")

    async def committed() -> None:
        heard.append(sorted(await observer.notes(Audit)))
        await write(db, "after")

    async with db.session_factory() as session:
        async with db.adopt(session):
            async with db.transaction():
                if when == "inside":
                    db.before_commit(before)
                db.on_commit(committed)
                db.on_rollback(lambda: heard.append("rolled back"))
                await write(db, "block")
            assert heard == []
            if when == "inside":
                await session.commit()
        if when == "after":
            assert heard == []
            await session.commit()
        expected = ["before", "block"] if when == "inside" else ["block"]
        assert heard == [expected]
        await session.commit()

    assert heard == [expected]
    assert await observer.notes(Audit) == sorted([*expected, "after"])


@pytest.mark.parametrize("when", ["inside", "after", "closed", "exception"])
async def test_hooks_hear_of_a_rollback(db: Database, when: str) -> None:
    """However it comes; those of the commit are dropped."""
    heard: list[str] = []

    async def use() -> None:
        async with db.session_factory() as session:
            async with db.adopt(session):
                db.on_commit(lambda: heard.append("committed"))
                db.on_rollback(lambda: heard.append("rolled back"))
                if when == "inside":
                    await session.rollback()
                if when == "exception":
                    raise ShopError
            if when == "after":
                await session.rollback()
            if when == "closed":
                await session.close()
            assert heard == ["rolled back"]
            await session.commit()

    if when == "exception":
        with pytest.raises(ShopError):
            await use()
    else:
        await use()

    assert heard == ["rolled back"]


async def test_hooks_of_savepoints(db: Database) -> None:
    """A savepoint that is kept hands them up to the owner's transaction; one that is undone tells its own."""
    heard: list[str] = []
    async with db.session_factory() as session:
        async with db.adopt(session):
            async with db.transaction(propagation=Propagation.NESTED):
                db.on_commit(lambda: heard.append("kept"))
            async with session.begin_nested() as savepoint:
                db.on_commit(lambda: heard.append("lost"))
                db.on_rollback(lambda: heard.append("undone"))
                await savepoint.rollback()
        await session.commit()

    assert heard == ["undone", "kept"]


@pytest.mark.parametrize("when", ["inside", "after"])
async def test_failing_hooks_are_told_after_the_commit(db: Database, observer: Observer, when: str) -> None:
    """The owner's commit raises, says that all is stored, and the session is as after any commit."""

    def fail() -> None:
        raise ShopError

    async with db.session_factory() as session:
        async with db.adopt(session):
            await write(db, "x")
            db.on_commit(fail)
            if when == "inside":
                with pytest.raises(AfterCommitError):
                    await session.commit()
        if when == "after":
            with pytest.raises(AfterCommitError):
                await session.commit()
        assert not session.in_transaction()
        assert await observer.notes(Audit) == ["x"]
        session.add(Audit(note="y"))
        await session.commit()

    assert await observer.notes(Audit) == ["x", "y"]


async def test_failing_rollback_hook_hides_no_exception(db: Database) -> None:
    """What has left the adoption is raised, with a note."""

    def fail() -> None:
        raise StockError

    with pytest.raises(ShopError) as caught:
        async with db.session_factory.begin() as session:
            async with db.adopt(session):
                db.on_rollback(fail)
                raise ShopError

    assert "StockError" in str(caught.value.__notes__)


async def test_hook_uses_the_session_that_was_committed(db: Database, observer: Observer) -> None:
    """A hook may go on with the owner's session, in its next transaction."""
    async with db.session_factory() as session, db.adopt(session):

        async def again() -> None:
            session.add(Audit(note="again"))
            await session.flush()

        await write(db, "x")
        db.on_commit(again)
        await session.commit()
        assert await observer.notes(Audit) == ["x"]
        await session.commit()

    assert await observer.notes(Audit) == ["again", "x"]


@pytest.mark.parametrize("when", ["inside", "after"])
async def test_before_commit_that_fails(db: Database, observer: Observer, when: str) -> None:
    """What it has to do is never left out: the owner cannot commit until he has rolled back."""

    def fail() -> None:
        raise ShopError

    async with db.session_factory() as session:
        async with db.adopt(session):
            db.before_commit(fail)
            await write(db, "x")
            if when == "inside":
                with pytest.raises(ShopError):
                    await session.commit()
        if when == "after":
            with pytest.raises(ShopError):
                await session.commit()
        with pytest.raises(UnexpectedRollbackError):
            await session.commit()
        await session.rollback()
        session.add(Audit(note="y"))
        await session.commit()

    assert await observer.notes(Audit) == ["y"]


# -- savepoints of the owner ------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [True, False])
async def test_adopted_inside_a_savepoint(db: Database, observer: Observer, *, kept: bool) -> None:
    """New code takes part in the owner's savepoint: its rows, its failures and its hooks are part of that."""
    heard: list[str] = []
    async with db.session_factory() as session:
        session.add(Audit(note="old"))
        savepoint = await session.begin_nested()
        async with db.adopt(session):
            await write(db, "new")
            db.on_commit(lambda: heard.append("committed"))
            db.on_rollback(lambda: heard.append("undone"))
            if not kept:
                with pytest.raises(ShopError):
                    async with db.transaction():
                        raise ShopError
                with pytest.raises(UnexpectedRollbackError):
                    await savepoint.commit()
        await (savepoint.commit() if kept else savepoint.rollback())
        assert heard == ([] if kept else ["undone"])
        await session.commit()

    assert heard == (["committed"] if kept else ["undone"])
    assert await observer.notes(Audit) == (["new", "old"] if kept else ["old"])


async def test_savepoint_of_the_owner_ends_while_it_is_adopted(db: Database, observer: Observer) -> None:
    """What comes after it takes part in the transaction around."""
    async with db.session_factory() as session:
        session.add(Audit(note="old"))
        savepoint = await session.begin_nested()
        async with db.adopt(session):
            await write(db, "undone")
            await savepoint.rollback()
            await write(db, "around")
        await session.commit()

    assert await observer.notes(Audit) == ["around", "old"]


async def test_commit_of_all_inside_a_savepoint_of_the_owner(db: Database, observer: Observer) -> None:
    """`session.commit()` releases it and commits, as always; hooks of both run once, in their places."""
    heard: list[str] = []

    async def before() -> None:
        heard.append("before")
        await write(db, "before")

    async with db.session_factory() as session:
        await session.begin_nested()
        async with db.adopt(session):
            db.before_commit(before)
            db.on_commit(lambda: heard.append("after"))
            await write(db, "x")
            await session.commit()
            assert heard == ["before", "after"]
            await write(db, "y")
            await session.commit()

    assert heard == ["before", "after"]
    assert await observer.notes(Audit) == ["before", "x", "y"]


async def test_savepoint_that_has_ended_with_the_adoption(db: Database, observer: Observer) -> None:
    """What was begun inside is kept with it; to end it later is SQLAlchemy's error, not nothing."""
    async with db.session_factory() as session:
        async with db.adopt(session):
            savepoint = await session.begin_nested()
            await write(db, "x")
        with pytest.raises(InvalidRequestError):
            await savepoint.rollback()
        await session.commit()

    assert await observer.notes(Audit) == ["x"]


# -- several, and tasks -----------------------------------------------------------------------------


async def test_same_session_again_changes_nothing(db: Database, observer: Observer) -> None:
    """Where a session is the ambient one already, `adopt` leaves it that."""
    async with db.session_factory() as session, db.adopt(session):
        async with db.adopt(session) as same, db.transaction():
            assert same is session
            await write(db, "x")
            async with db.adopt(session):
                await write(db, "y")
        assert db.session is session
        await session.commit()
    async with db.transaction() as ambient, db.adopt(ambient):
        await write(db, "z")

    assert await observer.notes(Audit) == ["x", "y", "z"]


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has one writer at a time")
async def test_other_session_inside(db: Database, observer: Observer) -> None:
    """Each has its own transaction; the one around is back when the other is left."""
    async with db.session_factory() as outer, db.session_factory() as inner, db.adopt(outer):
        await write(db, "outer")
        async with db.adopt(inner):
            assert db.session is inner
            await write(db, "inner")
            with pytest.raises(TransactionRefusedError, match="ambient already, and not the innermost"):
                async with db.adopt(outer):
                    pass
            await inner.commit()
        assert db.session is outer
        await outer.rollback()

    assert await observer.notes(Audit) == ["inner"]


@pytest.mark.parametrize("atomic", [True, False])
async def test_inside_a_unit_of_work(db: Database, observer: Observer, *, atomic: bool) -> None:
    """The unit of a request is hidden meanwhile, and goes on afterwards with its own session."""
    async with db.unit_of_work(atomic=atomic) as own:
        assert await Repository[Audit](db).count() == 0
        async with db.session_factory() as session, db.adopt(session):
            await write(db, "adopted")
            await session.commit()
        assert db.session is own
        await write(db, "unit")

    assert await observer.notes(Audit) == ["adopted", "unit"]


async def test_tasks_share_an_adopted_session_in_turns(db: Database, observer: Observer) -> None:
    """`gather` is safe, whichever way they use it: SQLAlchemy alone would refuse that."""
    async with db.session_factory() as session, db.adopt(session):

        async def old(note: str) -> None:
            await session.execute(insert(Audit).values(note=note))

        await asyncio.gather(*(write(db, f"new {n}") for n in range(5)), *(old(f"old {n}") for n in range(5)))
        await session.commit()

    assert len(await observer.notes(Audit)) == 10


async def test_task_that_outlives_the_adoption(db: Database, observer: Observer) -> None:
    """It writes to nobody's session any more, and its open block keeps the owner from half of the work."""
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def outlive() -> None:
        async with db.transaction():
            await write(db, "half")
            entered.set()
            await go_on.wait()
            await write(db, "rest")

    async with db.session_factory() as session:
        async with db.adopt(session):
            task = asyncio.create_task(outlive())
            await entered.wait()
        with pytest.raises(UnexpectedRollbackError, match="still open"):
            await session.commit()
        go_on.set()
        with pytest.raises(TransactionEndedError):
            await task

    assert await observer.notes(Audit) == []


async def test_cancelled_block_leaves_the_session_to_its_owner(db: Database, observer: Observer) -> None:
    """The owner rolls back, and his session and its connection are as good as before."""
    written = asyncio.Event()
    async with db.session_factory() as session:

        async def work() -> None:
            async with db.adopt(session), db.transaction():
                await write(db, "lost")
                written.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await written.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(UnexpectedRollbackError):
            await session.commit()
        await session.rollback()
        session.add(Audit(note="kept"))
        await session.commit()

    assert await observer.notes(Audit) == ["kept"]


# -- where sessions come from -------------------------------------------------------------------------


async def test_scoped_session(db: Database, observer: Observer) -> None:
    """The session that it has for the task is adopted, and given to a repository as well."""
    scoped = async_scoped_session(db.session_factory, scopefunc=asyncio.current_task)
    async with db.adopt(scoped) as session:
        assert session is scoped()
        await write(db, "x")
        await scoped.commit()
    await Repository[Audit](scoped).create(note="given")
    assert await Repository[Audit](scoped).count() == 2
    await scoped.commit()
    await scoped.remove()

    assert await observer.notes(Audit) == ["given", "x"]


async def test_dependency_that_commits(db: Database, observer: Observer) -> None:
    """The usual `get_session`, with one line more."""

    @asynccontextmanager
    async def get_session() -> AsyncIterator[AsyncSession]:
        async with db.session_factory() as session:
            async with db.adopt(session):
                yield session
            await session.commit()

    async with get_session() as session:
        session.add(Audit(note="old"))
        await write(db, "new")
    with pytest.raises(ShopError):
        async with get_session():
            await write(db, "lost")
            raise ShopError

    assert await observer.notes(Audit) == ["new", "old"]


@pytest.mark.parametrize("mode", ["conditional_savepoint", "create_savepoint", "control_fully"])
async def test_session_on_a_connection(db: Database, observer: Observer, mode: str) -> None:
    """The recipe of test-suites: what is around the session decides what stays."""
    async with db.engine.connect() as connection:
        around = await connection.begin()
        async with AsyncSession(bind=connection, join_transaction_mode=mode) as session:
            async with db.adopt(session):
                await write(db, "x")
                await session.commit()
                assert await Repository[Audit](db).count() == 1
        if mode == "control_fully":
            assert await observer.notes(Audit) == ["x"]
        else:
            await around.rollback()
            assert await observer.notes(Audit) == []


async def test_sessionmaker_of_an_engine_that_was_there_before(database_url: URL, observer: Observer) -> None:
    """A Database on the engine of an old program serves the sessions of that program."""
    engine = create_async_engine(database_url)
    factory = async_sessionmaker(engine, expire_on_commit=False)
    async with Database(engine, name="old") as db:
        async with factory() as session:
            async with db.adopt(session):
                await write(db, "x")
            await session.commit()
        async with factory.begin() as session:
            session.add(Audit(note="by itself"))

    assert await observer.notes(Audit) == ["by itself", "x"]


# -- what is watched ------------------------------------------------------------------------------------


async def test_entities_are_of_one_session(db: Database) -> None:
    """Reads of repositories fill the session's own identity map, on the lanes as well."""
    async with db.transaction():
        await db.session.execute(ANN)
    async with db.session_factory() as session, db.adopt(session):
        ann = await session.scalar(select(Account))
        assert ann is not None
        assert await Repository[Account](db).get(ann.id) is ann
        assert (await Repository[Account](db).where(Account.name == "ann").all()) == [ann]
        assert await db.session.get(Account, 1) is ann


async def test_many_rows_and_streams(db: Database, observer: Observer) -> None:
    """COPY and its kin write on the session's connection, and streams are read from it."""
    async with db.session_factory() as session:
        async with db.adopt(session):
            await Repository[Audit](db).bulk_insert([{"note": f"{number:04}"} for number in range(2000)])
            rows = [note async for note in await session.stream_scalars(select(Audit.note))]
            left = await session.stream(select(Audit.note))
            await left.fetchmany(3)
        assert len(rows) == 2000
        assert await observer.count(Audit) == 0
        await session.commit()

    assert await observer.count(Audit) == 2000


async def test_adoption_is_observed(db: Database) -> None:
    """Observers hear of its extent and the blocks inside; the snapshot tells who has the connection."""
    heard = Heard()
    db.observe(heard)
    async with db.session_factory() as session:
        async with db.adopt(session):
            await write(db, "x")
            (held,) = db.snapshot().servers[0].pools[0].held
            assert held.owner.startswith("the session adopted at ")
            assert held.in_transaction
        await session.rollback()

    entered = heard.of(BlockEntered)
    assert entered[0].name.startswith("the session adopted at ")
    assert entered[1].parent_id == entered[0].block_id
    assert [each.outcome for each in heard.of(BlockEnded)][-1] is Outcome.JOINED


async def test_open_adoption_is_a_leak(db: Database) -> None:
    """The check of tests names it."""
    async with db.session_factory() as session:
        adoption = db.adopt(session)
        with pytest.raises(AssertionError, match="the session adopted at"):
            async with no_leaks(db):
                await adoption.__aenter__()
        await adoption.__aexit__(None, None, None)


async def test_rolled_back_undoes_what_an_owner_commits(db: Database, observer: Observer) -> None:
    """Under the block of tests, what the program's own sessions commit is undone as well."""
    async with db.rolled_back():
        async with db.session_factory() as session:
            async with db.adopt(session):
                await asyncio.gather(write(db, "x"), write(db, "y"))
            await session.commit()
        assert await Repository[Audit](db).count() == 2

    assert await observer.notes(Audit) == []


async def test_rolled_back_catches_sessions_of_a_given_engine(database_url: URL, observer: Observer) -> None:
    """A factory that knows the engine alone is led to the connection of `rolled_back()` by its adoption."""
    engine = create_async_engine(database_url)
    factory = async_sessionmaker(engine)
    async with Database(engine, name="old") as db:
        async with db.rolled_back():
            async with factory() as session:
                async with db.adopt(session):
                    await write(db, "x")
                    session.add(Audit(note="y"))
                    await session.commit()
            assert await Repository[Audit](db).count() == 2

    assert await observer.notes(Audit) == []


async def test_connection_that_the_owner_has_is_in_savepoints(db: Database, observer: Observer) -> None:
    """Also if he has asked for it before the session was adopted."""
    async with db.session_factory() as session:
        connection = await session.connection()
        async with db.adopt(session):
            with pytest.raises(StockError):
                async with db.transaction(propagation=Propagation.NESTED):
                    await connection.execute(insert(Audit).values(note="inside"))
                    raise StockError
            await Repository[Audit](db).add(Audit(note="after"))
            await session.commit()

    assert await observer.notes(Audit) == ["after"]


async def test_who_listens_to_the_connection_of_the_owner_hears_all(db: Database) -> None:
    """No lane goes past a connection that somebody has had before the session was adopted."""
    heard: list[str] = []
    audits = Repository[Audit](db)
    async with db.session_factory() as session:
        connection = (await session.connection()).sync_connection
        assert connection is not None
        event.listen(
            connection,
            "before_cursor_execute",
            lambda _connection, _cursor, sql, *_more: heard.append(sql.split()[0]),
        )
        async with db.adopt(session), db.transaction():
            added = await audits.add(Audit(note="one"))
            await audits.where(Audit.id == added.id).update(note="two")
            await audits.all()

    assert heard == ["INSERT", "UPDATE", "SELECT"]
