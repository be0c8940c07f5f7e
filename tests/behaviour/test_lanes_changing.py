"""`where(...).update()` and `delete()` outside of transactions: once or not at all, on each lane alike."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import MetaData, String, event, func, inspect, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Mapped, Session, mapped_column

from tests.behaviour.test_lanes_adding import differences, seen_in_python
from tests.behaviour.test_transaction_cancellation import (
    MOST_AWAITS,
    STRIKES,
    Striking,
    cancel_current_task,
    completion,
)
from tests.fixtures.leaks import left_in_context
from tests.fixtures.observer import Observer
from tests.fixtures.people import Color, Person, Pet
from tests.fixtures.proxy import Proxy
from unitwork import (
    Base,
    CommitOutcomeUnknownError,
    Database,
    Repository,
    TransactionRefusedError,
    UnexpectedRollbackError,
    query,
)
from unitwork.observe import StatementLog
from unitwork.options import Lane

SERVERS = pytest.mark.only("postgresql", "mariadb", reason="SQLite has no server to lose")


class Changed(Base):
    """Each column is filled otherwise when a row changes."""

    __tablename__ = "changed_of_lanes"
    metadata = MetaData()

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column("called", String(20), unique=True)
    by_python: Mapped[str | None] = mapped_column(String(20), onupdate=lambda: "python")


class Stamped(Base):
    """The database fills in the time of a change."""

    __tablename__ = "stamped_of_lanes"
    metadata = MetaData()

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column("called", String(20), unique=True)
    number: Mapped[int] = mapped_column(default=0)
    by_database: Mapped[dt.datetime | None] = mapped_column(onupdate=func.current_timestamp())


class People(Repository[Person]):
    """Declares a change, too."""

    @query.execute
    def grow(self, years: int) -> Any:  # noqa: ANN401  # an Update
        return update(Person).values(age=Person.age + years).where(Person.age.is_not(None))


def lanes_of(log: StatementLog) -> set[object]:
    """The lanes of the changes that were sent."""
    return {each.lane for each in log.statements if each.sql.startswith(("UPDATE", "DELETE"))}


STORIES: dict[str, Callable[[People], Awaitable[object]]] = {
    "update": lambda people: people.where(Person.id == 1).update(name="Eve", color=Color.BLUE, paid=None),
    "update of several": lambda people: people.where(Person.age > 10).update(score=1.5),
    "update by an expression": lambda people: people.where(Person.age > 10).update(age=Person.age + 1),
    "update of none": lambda people: people.where(Person.id == 99).update(name="Zoe"),
    "update of all": lambda people: people.select().update(active=False),
    "update in a list": lambda people: people.where(Person.id.in_([1, 2])).update(name="both"),
    "update in a long list": lambda people: people.where(Person.id.in_(range(2, 700))).update(name="many"),
    "update in no list": lambda people: people.where(Person.id.in_([])).update(name="nobody"),
    "delete in lists": lambda people: people.delete_where(Person.id.in_([1, 3]), Person.color.not_in([])),
    "delete": lambda people: people.where(Person.name == "Cid").delete(),
    "delete of none": lambda people: people.where(Person.born > dt.date(2050, 1, 1)).delete(),
    "delete_where": lambda people: people.delete_where(Person.id > 1, Person.age == 20),
    "declared": lambda people: people.grow(3),
    "value that cannot be": lambda people: people.where(Person.id == 1).update(born="never"),
    "value of no column": lambda people: people.where(Person.id == 1).update(name=None),
}


@asynccontextmanager
async def outside(db: Database) -> AsyncIterator[None]:
    """No block."""
    del db
    yield


@asynccontextmanager
async def knowing(db: Database) -> AsyncIterator[None]:
    """A block whose session holds an entity, and shows that it knows of the change."""
    async with db.transaction() as session:
        held = await session.get(Person, 1)
        yield
        assert held is None or inspect(held).persistent or inspect(held).was_deleted


@asynccontextmanager
async def waiting(db: Database) -> AsyncIterator[None]:
    """A block in whose session something waits, which is changed as well."""
    async with db.transaction() as session:
        session.add(Person(id=9, name="Nic", age=20))
        yield


@asynccontextmanager
async def undone(db: Database) -> AsyncIterator[None]:
    """A savepoint that is rolled back."""
    async with db.transaction(), db.transaction(propagation="NESTED"):
        yield
        db.set_rollback_only()


PLACES: dict[str, Callable[[Database], AbstractAsyncContextManager[Any]]] = {
    "outside": outside,
    "unit": lambda db: db.unit_of_work(atomic=False),
    "atomic unit": lambda db: db.unit_of_work(),
    "block": lambda db: db.transaction(),
    "knowing": knowing,
    "waiting": waiting,
    "undone": undone,
    "read-only": lambda db: db.transaction(read_only=True),
}


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("places", [("outside", "unit"), tuple(PLACES)[2:]])
async def test_changed_as_by_the_session(
    people: Database, observer: Observer, places: tuple[str, ...], name: str
) -> None:
    """The same number, the same rows, the same error."""
    ended: list[object] = []
    for lane in Lane:
        async with Database(people.engine.url, name="changing", fastest_lane=lane) as db:
            repository = People(db)
            before = await repository.all()
            ends: dict[str, object] = {}
            for place in places:
                told: object = None
                try:
                    async with PLACES[place](db):
                        told = await STORIES[name](repository)
                except DBAPIError as error:
                    told = (type(error), error.statement)
                except Exception as error:  # noqa: BLE001  # compared
                    told = type(error)
                rows = [person.to_dict() for person in await repository.select().order_by(Person.id).all()]
                ends[place] = (told, rows)
                assert db.pool_status().checked_out == 0
                await observer.run("DELETE FROM person")
                await repository.add_all([Person(**person.to_dict()) for person in before])
            ended.append(ends)

    assert ended[0] == ended[1] == ended[2]


@pytest.mark.only("sqlite", "postgresql", reason="MariaDB's driver does not count on this lane")
async def test_change_takes_the_lane_of_the_driver(people: Database) -> None:
    """Outside, and in a unit at rest that knows no entity; what waits is sent by the session."""
    repository = People(people)
    await repository.get_one(1)

    with StatementLog(people) as log:
        assert await repository.where(Person.id == 1).update(name="outside") == 1
        assert await repository.grow(1) == 2
        for ids in ([1], range(1000)):
            assert await repository.where(Person.id.in_(ids)).update(active=True) == min(len(ids), 3)
        async with people.unit_of_work(atomic=False):
            assert await repository.where(Person.id == 1).update(name="unit") == 1
    assert lanes_of(log) == {Lane.DRIVER}
    with StatementLog(people) as log:
        async with people.unit_of_work(atomic=False):
            held = await repository.get_one(1)
            await repository.where(Person.id == 1).update(name="known")
            assert held.name == "known"
    assert lanes_of(log) == {Lane.FUSED}
    with StatementLog(people) as log:
        async with people.transaction() as session:
            session.add(Person(id=9, name="Nic"))
            assert await repository.where(Person.id == 9).update(name="waiting") == 1
    assert lanes_of(log) == {Lane.SESSION}


async def test_change_in_a_block_takes_the_fused_lane(people: Database) -> None:
    """Whether its session knows entities of the class, if their part in it can be seen in Python."""
    repository = People(people)

    with StatementLog(people) as log:
        async with people.unit_of_work():
            assert await repository.where(Person.id == 1).update(name="atomic") == 1
        async with people.transaction() as session:
            await session.execute(select(Pet))
            assert await repository.where(Person.id == 1).update(name="block") == 1
            assert await repository.delete_where(Person.id == 2) == 1
            assert await repository.grow(1) == 1
            held = await repository.get_one(1)
            assert await repository.where(Person.id == 1).update(name="block") == 1
            assert held.name == "block"
    assert lanes_of(log) == {Lane.FUSED}
    with StatementLog(people) as log:
        async with people.transaction():
            held = await repository.get_one(1)
            assert await repository.where(func.lower(Person.name) == "block").update(age=1) == 1
            assert held.age == 1
    assert lanes_of(log) == {Lane.SESSION}
    assert [person.name for person in await repository.select().order_by(Person.id).all()] == ["block", "Cid"]


SEEN_IN_PYTHON: dict[str, Callable[[People], Awaitable[object]]] = {
    **STORIES,
    "delete all": lambda people: people.select().delete(),
    "asked of the database": lambda people: people.where(func.abs(Person.age) > 0).update(name="one"),
    "by what the database knows": lambda people: people.select().update(name=func.upper(Person.name)),
    "what was changed": lambda people: people.where(Person.name == "new").update(name="newer", age=3),
}


@pytest.mark.parametrize("name", SEEN_IN_PYTHON)
async def test_entities_that_are_held_know_of_it(people: Database, name: str) -> None:
    """As after a change by the session: at once, after a savepoint that is undone, and after a rollback."""
    seen: dict[Lane, list[object]] = {}

    async def tried(repository: People) -> object:
        try:
            return await SEEN_IN_PYTHON[name](repository)
        except Exception as error:  # noqa: BLE001  # compared
            return type(error)

    for lane in (Lane.FUSED, Lane.SESSION):
        told = seen.setdefault(lane, [])
        async with Database(people.engine.url, name="held", fastest_lane=lane) as db:
            async with db.transaction() as session:
                held = list(await session.scalars(select(Person).order_by(Person.id)))
                held[0].name = "new"
                await session.flush()
                session.expire(held[1], ["age", "name"])
                session.expire(held[2])
                with suppress(UnexpectedRollbackError):
                    async with db.transaction(propagation="NESTED"):
                        told += [await tried(People(db)), *map(seen_in_python, held)]
                        db.set_rollback_only()
                told += map(seen_in_python, held)
                with suppress(UnexpectedRollbackError):
                    async with db.transaction(propagation="NESTED"):
                        told += [await tried(People(db)), *map(seen_in_python, held)]
                told += map(seen_in_python, held)
                told += [len(list(session)), session.sync_session.is_active]
                db.set_rollback_only()
            told += map(seen_in_python, held)

    assert list(differences("", seen[Lane.FUSED], seen[Lane.SESSION])) == []


async def test_columns_that_python_fills_are_filled(db: Database, observer: Observer) -> None:
    """By the session, which knows how; by the database on the lane."""
    await db.create_all(Changed)
    await db.create_all(Stamped)
    changed, stamped = Repository[Changed](db), Repository[Stamped](db)
    await changed.add(Changed(name="a"))
    await stamped.add(Stamped(name="a"))

    await changed.select().update(name="b")
    await stamped.select().update(name="b")

    assert [(each.name, each.by_python) for each in await changed.all()] == [("b", "python")]
    assert [each.by_database is not None for each in await stamped.all()] == [True]


async def test_refused_change_changes_nothing(db: Database, observer: Observer) -> None:
    """It is sent once, and its error is that of SQLAlchemy, with notes."""
    await db.create_all(Stamped)
    stamped = Repository[Stamped](db)
    await stamped.add_all([Stamped(name="a"), Stamped(name="b")])

    with StatementLog(db) as log, pytest.raises(IntegrityError) as caught:
        await stamped.where(Stamped.name == "a").update(name="b")

    assert log.count("update") == 1
    assert caught.value.statement is not None
    assert caught.value.statement.startswith("UPDATE")
    assert "While running query Repository[Stamped].update" in "\n".join(caught.value.__notes__)
    assert [each.name for each in await stamped.all()] == ["a", "b"]
    assert db.pool_status().checked_out == 0
    assert await stamped.where(Stamped.name == "a").update(name="c") == 1


@pytest.mark.parametrize("name", ["do_orm_execute", "after_begin", "after_commit"])
async def test_who_listens_to_sessions_hears_of_it(people: Database, name: str) -> None:
    """The lane, which would pass by it, is not taken."""
    repository = People(people)
    heard: list[object] = []

    def hear(*told: object) -> None:
        heard.append(told)

    event.listen(Session, name, hear)
    try:
        await repository.where(Person.id == 1).update(name="Eve")
        await repository.where(Person.id == 2).delete()
    finally:
        event.remove(Session, name, hear)

    assert heard


async def test_read_only_block_refuses_it(people: Database) -> None:
    """Also without a transaction."""
    repository = People(people)

    for propagation in ("REQUIRED", "SUPPORTS", "NEVER"):
        async with people.transaction(read_only=True, propagation=propagation):
            with pytest.raises(TransactionRefusedError):
                await repository.where(Person.id == 1).update(name="refused")

    assert (await repository.get_one(1)).name == "Ann"


@pytest.mark.only("postgresql", reason="its time limit for locks is in milliseconds")
async def test_lock_is_waited_for_once(people: Database, observer: Observer) -> None:
    """Not again through the session."""
    url = people.engine.url
    async with Database(url, name="waiting") as db:
        await observer.run(f"ALTER DATABASE \"{url.database}\" SET lock_timeout = '300ms'")
        async with people.transaction() as session:
            await session.execute(update(Person).values(name="held").where(Person.id == 1))
            with StatementLog(db) as log, pytest.raises((OperationalError, DBAPIError)):
                await People(db).where(Person.id == 1).update(name="late")
        assert log.count("update") == 1
        assert await People(db).where(Person.id == 1).update(name="next") == 1


@SERVERS
@pytest.mark.timeout(60)
async def test_connection_lost_after_the_statement_was_sent(
    people: Database, proxy: Proxy, observer: Observer
) -> None:
    """Nobody can know the outcome, and it is never done twice."""
    async with Database(proxy.url, name="cut") as cut:
        repository = People(cut)
        await repository.where(Person.id == 2).update(name="before")
        proxy.cut_after = b"doubtful"
        with pytest.raises((CommitOutcomeUnknownError, DBAPIError)):
            await repository.where(Person.id == 1).update(name="doubtful", age=Person.age + 1)
        proxy.cut_after = b""
        assert cut.pool_status().checked_out == 0
        await repository.where(Person.id == 3).update(name="after")

    assert await observer.scalar("SELECT age FROM person WHERE id = 1") in (30, 31)


@pytest.mark.parametrize("strikes", list(STRIKES))
@pytest.mark.parametrize("place", ["outside", "unit", "block"])
@pytest.mark.timeout(120)
async def test_cancelled_at_every_await_leaves_nothing_behind(
    people: Database, observer: Observer, strikes: str, place: str
) -> None:
    """It is done once or not, and the next one can be done."""
    repository = People(people)
    await repository.where(Person.id == 2).update(age=0)

    async def program() -> None:
        async with PLACES[place](people):
            await repository.where(Person.id == 1).update(age=Person.age + 1)

    for at in range(1, MOST_AWAITS):
        await observer.run("UPDATE person SET age = 0 WHERE id = 1")
        striking = Striking(program(), STRIKES[strikes](at), cancel_current_task)
        task = asyncio.create_task(completion(striking))
        await asyncio.wait({task})

        assert people.pool_status().checked_out == 0
        assert left_in_context() == {}
        assert await observer.scalar("SELECT age FROM person WHERE id = 1") in (0, 1)
        async with asyncio.timeout(4):
            assert await repository.where(Person.id == 2).update(age=Person.age + 1) == 1
        if striking.seen < at:
            task.result()
            return
        assert task.cancelled(), task.exception()
    pytest.fail("the program has more awaits than this test expects")
