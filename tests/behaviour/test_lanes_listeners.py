"""Whoever listens is told: by the lane, or because reads take one that does not pass by what it hears."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Mapper, ORMExecuteState, Session, with_loader_criteria

from tests.fixtures.dialogue import Dialogue
from tests.fixtures.people import Person
from unitwork import Database, Repository
from unitwork.observe import StatementLog
from unitwork.options import Lane

Heard = list[str]
Listening = Callable[[Database, Heard], AbstractContextManager[None]]


class People(Repository[Person]):
    """The door to persons."""


class ListenedSession(Session):
    """A class of sessions that has listeners which others have not."""


class ListenedAsyncSession(AsyncSession):
    """What is around such sessions."""

    sync_session_class = ListenedSession


@contextmanager
def listening(target: Any, name: str, heard: Heard) -> Iterator[None]:  # noqa: ANN401  # as SQLAlchemy
    """Listen for a while."""

    def hear(*arguments: object, **_keywords: object) -> None:
        if "BEGIN IMMEDIATE" not in arguments:
            heard.append(name)

    event.listen(target, name, hear)
    try:
        yield
    finally:
        event.remove(target, name, hear)


def to_engine(name: str) -> Listening:
    """Listen to the engine of a Database."""
    return lambda db, heard: listening(db.engine.sync_engine, name, heard)


def to_class(kind: type, name: str) -> Listening:
    """Listen to all engines, sessions or mappers."""
    return lambda _db, heard: listening(kind, name, heard)


CURSORS: dict[str, Listening] = {
    "before": to_engine("before_cursor_execute"),
    "after": to_engine("after_cursor_execute"),
    "every engine": to_class(Engine, "after_cursor_execute"),
    "every connection": to_class(Connection, "before_cursor_execute"),
}
LISTENERS: dict[str, Listening] = {
    **{f"engine {name}": to_engine(name) for name in ("before_execute", "after_execute", "engine_connect")},
    "every connection": to_class(Connection, "before_execute"),
    "sessions: do_orm_execute": to_class(Session, "do_orm_execute"),
    "sessions: after_begin": to_class(Session, "after_begin"),
    "sessions: loaded_as_persistent": to_class(Session, "loaded_as_persistent"),
    "entities of a class": to_class(Person, "load"),
    "all entities": to_class(Mapper, "load"),
}


@pytest.mark.parametrize("how", list(LISTENERS))
async def test_listener_is_told_of_reads_and_only_while_it_listens(people: Database, how: str) -> None:
    """Installed after reads took the driver lane, and removed again."""
    heard: Heard = []
    repository = People(people)
    fastest = people.explain_lane(select(Person)).lane
    assert (await repository.get(1)) is not None

    with LISTENERS[how](people, heard):
        choice = people.explain_lane(select(Person))
        assert choice.lane is Lane.SESSION
        assert "listens to" in str(choice)
        assert (await repository.get(1)) is not None
        assert heard
        heard.clear()
        async with people.transaction():
            assert (await repository.where(Person.id == 1).one()).id == 1
        assert heard

    heard.clear()
    assert people.explain_lane(select(Person)).lane is fastest
    assert (await repository.get(1)) is not None
    assert heard == []


@pytest.mark.parametrize("how", list(CURSORS))
async def test_listener_of_cursors_is_told_by_the_lane(people: Database, how: str) -> None:
    """It changes no lane, wherever it listens."""
    heard: Heard = []
    repository = People(people)
    await repository.get(1)
    fastest = people.explain_lane(select(Person)).lane

    with CURSORS[how](people, heard):
        assert people.explain_lane(select(Person)).lane is fastest
        assert (await repository.get(1)) is not None
        assert len(heard) == 1
        async with people.transaction():
            heard.clear()
            assert (await repository.where(Person.id == 1).one()).id == 1
        assert len(heard) == 1

    heard.clear()
    assert (await repository.get(1)) is not None
    assert heard == []


async def test_events_of_the_pool_come_on_the_driver_lane(people: Database) -> None:
    """Connections are checked out and in by SQLAlchemy's pool, as always."""
    heard: Heard = []
    pool = people.engine.sync_engine.pool
    with listening(pool, "checkout", heard), listening(pool, "checkin", heard):
        assert people.explain_lane(select(Person)).lane is Lane.DRIVER
        await People(people).get(1)

    assert heard == ["checkout", "checkin"]


async def test_observer_sees_each_read_while_it_observes(people: Database) -> None:
    """A StatementLog that comes later sees what is read from then on."""
    repository = People(people)
    fastest = people.explain_lane(select(Person)).lane
    await repository.get(1)

    with StatementLog(people) as log:
        assert people.explain_lane(select(Person)).lane is fastest
        await repository.get(1)
        async with people.transaction(read_only=True):
            await repository.where(Person.id == 2).one()
    assert len([statement for statement in log.statements if "person" in statement.sql]) == 2
    assert people.explain_lane(select(Person)).lane is fastest


async def test_reads_are_logged_from_when_that_is_asked(
    people: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """By `echo`, and by the level of the logger."""
    repository = People(people)
    await repository.get(1)

    people.engine.sync_engine.echo = True
    with caplog.at_level(logging.INFO, "sqlalchemy.engine"):
        assert str(people.explain_lane(select(Person))) == "session lane: statements are logged"
        await repository.get(1)
    people.engine.sync_engine.echo = False

    assert "FROM person" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "sqlalchemy.engine.Engine"):
        await repository.get(1)
    assert "FROM person" in caplog.text
    assert people.explain_lane(select(Person)).lane is not Lane.SESSION


async def test_blocks_begin_where_what_is_logged_is_shown_to_nobody(people: Database) -> None:
    """A program that asks for `echo` may have switched all logging off."""
    people.engine.sync_engine.echo = True
    logging.disable()
    try:
        for read_only in (True, False):
            async with people.transaction(read_only=read_only) as session:
                assert await session.scalar(select(Person.name).where(Person.id == 1)) == "Ann"
    finally:
        logging.disable(logging.NOTSET)
        people.engine.sync_engine.echo = False


async def test_listener_of_one_session_is_told(people: Database) -> None:
    """In a unit of work and in a block: also when it came after the first read."""
    heard: Heard = []
    repository = People(people)
    async with people.unit_of_work():
        await repository.get(1)
        with listening(people.session.sync_session, "do_orm_execute", heard):
            await repository.get(2)
            assert heard == ["do_orm_execute"]
    async with people.transaction() as session:
        await repository.get(1)
        with listening(session.sync_session, "do_orm_execute", heard):
            await repository.get(2)
    assert heard == ["do_orm_execute"] * 2


async def test_listener_to_a_class_of_sessions_hides_rows_everywhere(people: Database) -> None:
    """That of the Database, and that of a session that is adopted: what it hides is hidden on each lane."""

    def hide(state: ORMExecuteState) -> None:
        state.statement = state.statement.options(with_loader_criteria(Person, Person.name == "Ann"))

    async def seen(db: Database) -> list[str]:
        by_hand = await db.session.scalars(select(Person.name))
        assert by_hand.all() == [person.name for person in await People(db).all()]
        assert await People(db).get(2) is None
        return [person.name for person in await People(db).all()]

    event.listen(ListenedSession, "do_orm_execute", hide)
    try:
        engine = people.engine.url
        async with Database(engine, name="listened", session_class=ListenedAsyncSession) as db:
            assert [person.name for person in await People(db).all()] == ["Ann"]
            assert "listens to do_orm_execute of sessions" in str(db.explain_lane(select(Person)))
            for open_one in (db.transaction, db.unit_of_work):
                async with open_one():
                    assert await seen(db) == ["Ann"]
        async with async_sessionmaker(people.engine, sync_session_class=ListenedSession)() as session:
            async with people.adopt(session), people.transaction():
                assert await seen(people) == ["Ann"]
    finally:
        event.remove(ListenedSession, "do_orm_execute", hide)


async def test_listener_to_a_class_of_sessions_hears_of_what_is_added(people: Database) -> None:
    """Outside of blocks and in one, by a repository and by a flush."""
    heard: Heard = []
    with listening(ListenedSession, "before_flush", heard):
        async with Database(people.engine.url, name="told", session_class=ListenedAsyncSession) as db:
            await People(db).add(Person(name="new"))
            async with db.transaction():
                await People(db).add(Person(name="newer"))
                db.session.add(Person(name="newest"))

    assert heard == ["before_flush"] * 3


async def test_listener_of_one_connection_is_told(people: Database) -> None:
    """It is on the connection that the block has."""
    heard: Heard = []
    async with people.transaction() as session:
        connection = await session.connection()
        with listening(connection.sync_connection, "before_cursor_execute", heard):
            await People(people).where(Person.id == 1).one()

    assert heard == ["before_cursor_execute"]


@pytest.mark.only("postgresql", reason="row-level security")
async def test_row_level_security_is_never_passed_by(people: Database, dialogue: Dialogue) -> None:
    """A setting for the transaction, made when it begins, holds for each read."""
    del dialogue
    async with people.transaction() as session:
        for statement in (
            "ALTER TABLE person ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE person FORCE ROW LEVEL SECURITY",
            "CREATE POLICY own ON person USING (name = current_setting('app.name', true))",
            "DROP ROLE IF EXISTS lane_tenant",
            "CREATE ROLE lane_tenant",
            "GRANT USAGE ON SCHEMA public TO lane_tenant",
            "GRANT SELECT ON person TO lane_tenant",
        ):
            await session.execute(text(statement))
    repository = People(people)
    assert len(await repository.all()) > 1

    def begin(_session: Session, _transaction: object, connection: Any) -> None:  # noqa: ANN401  # SQLAlchemy's
        connection.exec_driver_sql("SET LOCAL ROLE lane_tenant")
        connection.exec_driver_sql("SELECT set_config('app.name', 'Ann', true)")

    event.listen(Session, "after_begin", begin)
    try:
        async with people.transaction():
            assert [person.name for person in await repository.all()] == ["Ann"]
            assert await repository.count() == 1
            assert await repository.get(2) is None
        async with people.unit_of_work():
            await people.session.connection()
            assert [person.name for person in await repository.all()] == ["Ann"]
    finally:
        event.remove(Session, "after_begin", begin)
        async with people.transaction() as session:
            await session.execute(text("DROP OWNED BY lane_tenant"))
            await session.execute(text("DROP ROLE lane_tenant"))
    assert len(await repository.all()) > 1


async def test_engine_of_the_callers_own_keeps_its_listeners(people: Database) -> None:
    """They were there before the Database, and hear of its reads."""
    heard: Heard = []
    engine = create_async_engine(people.engine.url)
    with listening(engine.sync_engine, "after_execute", heard):
        async with Database(engine, name="own") as db:
            assert "after_execute" in str(db.explain_lane(select(Person)))
            await People(db).get(1)
            assert heard
    heard.clear()


async def test_databases_that_share_an_engine_take_the_fast_lanes(people: Database) -> None:
    """What each has installed on it is known to the others; what the program listens to is heard by both."""
    engine = create_async_engine(people.engine.url)
    heard: Heard = []
    async with Database(engine, name="first") as first, Database(engine, name="second") as second:
        for db in (first, second, first):
            assert [person.name for person in await People(db).where(Person.id == 1).all()] == ["Ann"]
            assert db.explain_lane(select(Person)).lane is Lane.DRIVER

        with listening(engine.sync_engine, "after_execute", heard):
            for db in (first, second):
                assert "after_execute" in str(db.explain_lane(select(Person)))
                await People(db).get(1)

    assert len(heard) == 2


async def test_engine_with_execution_options_is_never_passed_by(people: Database) -> None:
    """Names of schemas are translated for each read; here so that the table is not found."""
    engine = people.engine.execution_options(schema_translate_map={None: "nowhere"})
    async with Database(engine, name="translated") as db:
        assert db.explain_lane(select(Person)).lane is Lane.SESSION
        with pytest.raises(DBAPIError, match="nowhere"):
            await People(db).all()
    with pytest.raises(DBAPIError, match="nowhere"):
        async with people.transaction() as session:
            await session.connection(execution_options={"schema_translate_map": {None: "nowhere"}})
            await People(people).all()
