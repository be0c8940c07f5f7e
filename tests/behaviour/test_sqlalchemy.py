"""What is private in SQLAlchemy, or differs between its versions, does still what we use it for.

A version that changes it fails here.
"""

import sqlite3
from functools import partial
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    Text,
    delete,
    event,
    func,
    insert,
    inspect,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.engine import ChunkedIteratorResult
from sqlalchemy.exc import DisconnectionError, InvalidRequestError, PendingRollbackError, SAWarning
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Load, Session, joinedload, lazyload, raiseload, selectinload
from sqlalchemy.pool import QueuePool

from tests.fixtures.authors import Author, Book
from tests.fixtures.people import Herd, Person, Pet
from unitwork import Database, Repository, TransactionRefusedError, query
from unitwork._runtime.connections.idle import Lender
from unitwork._runtime.connections.pool import TurnPool
from unitwork._sqlalchemy import lazy, private, related, savepoints, shapes, versions
from unitwork.dialects.backend import CLOSED_TWICE, Backend
from unitwork.observe import StatementLog
from unitwork.query.clauses import distinct_on


def test_cache_key_is_that_of_the_statement_without_its_values() -> None:
    """Statements that differ in values alone have one key, and tell their values."""
    one, two = (private.cache_key(select(Person).where(Person.id == number)) for number in (1, 2))

    assert one is not None
    assert two is not None
    assert one.key == two.key
    assert [bind.value for bind in one.bindparams] == [1]
    assert [bind.value for bind in two.bindparams] == [2]


async def test_select_knows_whether_it_was_written(people: Database) -> None:
    """By being sent, alone or inside another, or compiled; not by being built on."""

    def fresh() -> shapes.WatchedSelect[Any]:
        return shapes.WatchedSelect(Person.id).where(Person.id > 1)

    built, compiled, sent, inside = fresh(), fresh(), fresh(), fresh()
    assert not built.order_by(Person.name).written
    around = select(inside.subquery())
    compiled.compile()
    async with people.engine.connect() as connection:
        await connection.execute(sent)
        assert not inside.written
        await connection.execute(around)

    assert [each.written for each in (built, compiled, sent, inside)] == [False, True, True, True]


def test_loader_options_are_seen() -> None:
    """Whether a statement has some."""
    assert not private.has_loader_options(select(Person))
    assert private.has_loader_options(select(Person).options(selectinload(Person.pets)))


def test_how_attributes_are_loaded_is_told() -> None:
    """By an option or the class, at each place of a statement, in the order of SQLAlchemy."""
    statement = select(Person).options(selectinload(Person.pets).load_only(Pet.name))
    compiled: Any = statement.compile()
    mapper = inspect(Person)
    path = related.root_path(mapper)
    assert set(related.in_order_of_loading(mapper)) == set(mapper.attrs)
    pets = related.loader_of(mapper.relationships.pets, compiled.compile_state, path)
    assert pets == ({"lazy": "selectin"}, True, frozenset())
    name = related.loader_of(mapper.column_attrs.name, compiled.compile_state, path)
    assert name == ({"deferred": False, "instrument": True}, False, frozenset())
    special = select(Person).options(selectinload(Person.pets.and_(Pet.id > 1)))
    (plain,), (conditional,) = map(related.options_of, (statement, special))
    assert (type(plain), type(conditional)) == (Load, Load)
    assert (related.has_conditions(plain), related.has_conditions(conditional)) == (False, True)


def test_option_that_forbids_to_load_is_set_on_each_entity() -> None:
    """One that asks for what the class says anyway sets nothing."""
    pets, path = inspect(Person).relationships.pets, related.root_path(inspect(Person))
    forbidden: Any = select(Person).options(raiseload(Person.pets)).compile()
    (setter,) = related.set_for_later(pets, forbidden.compile_state, path)
    person = Person(name="Ann")
    setter(inspect(person), person.__dict__, None)
    assert list(inspect(person).callables) == ["pets"]
    later: Any = select(Person).options(lazyload(Person.pets)).compile()
    assert related.set_for_later(pets, later.compile_state, path) == []


def test_what_belongs_to_entities_is_asked_for_by_keys() -> None:
    """As `selectinload` does, along with the options that go on from there."""
    asked = related.asked_by_keys(inspect(Person).relationships.pets)
    assert (list(asked.columns), asked.condition) == ([Pet.__table__.c.owner_id], Pet.__table__.c.owner_id)
    assert (asked.parent, asked.own) == (None, None)
    owner = related.asked_by_keys(inspect(Pet).relationships.owner)
    assert (owner.condition, owner.own) == (Person.__table__.c.id, [Pet.__table__.c.owner_id])
    joined = related.asked_by_keys(inspect(Author).relationships.short)
    assert joined.parent is not None
    genres = inspect(Book).relationships.genres
    assert "genre.id = book_genre.genre_id" in str(related.secondary_join(genres))

    around: Any = select(Person).options(selectinload(Person.pets).selectinload(Pet.owner)).compile()
    path = related.root_path(inspect(Person))[inspect(Person).relationships.pets]
    along = related.loaded_along(select(Pet), around.compile_state, path)
    state: Any = along.compile()
    found = related.loader_of(
        inspect(Pet).relationships.owner, state.compile_state, related.root_path(inspect(Pet))
    )
    assert found == ({"lazy": "selectin"}, True, frozenset())
    assert state.compile_state.current_path == path


def test_what_is_joined_is_found_by_the_columns_of_the_class() -> None:
    """And whether its rows repeat, or a limit stands inside."""
    pets = inspect(Person).relationships.pets
    compiled: Any = select(Person).options(joinedload(Person.pets)).compile()
    state, path = compiled.compile_state, related.root_path(inspect(Person))[pets]
    column = related.joined_columns(state, path)[Pet.__table__.c.name]
    assert (column.name, column.table is Pet.__table__) == ("name", False)
    assert any(column in objects for objects, _type in private.selected_in(compiled))
    assert related.repeats_rows(state)
    assert not related.selects_from_itself(state)

    limited: Any = select(Person).limit(1).options(joinedload(Person.pets)).compile()
    assert related.selects_from_itself(limited.compile_state)
    plain: Any = select(Pet).options(selectinload(Pet.owner)).compile()
    assert not related.repeats_rows(plain.compile_state)
    owner = related.root_path(inspect(Pet))[inspect(Pet).relationships.owner]
    assert related.joined_columns(plain.compile_state, owner) is None


def test_columns_of_a_select_know_what_they_were_written_for() -> None:
    """Each by the element that was selected, whatever it is called in there."""
    twice = (Person.id * 2).label("id")
    compiled = select(Person.id, twice, Pet.id).compile()
    found = private.selected_in(compiled)

    places = {each: place for place, (objects, _type) in enumerate(found) for each in reversed(objects)}
    wanted = (Person.__table__.c.id, twice, Pet.__table__.c.id)
    assert [places[each] for each in wanted] == [0, 1, 2]
    assert [type(kind) for _objects, kind in found] == [Integer] * 3


def test_entity_that_is_marked_loaded_has_no_changes() -> None:
    """What it holds is what the database holds."""
    person = Person(name="Ann")
    state = inspect(person)
    assert state.attrs.name.history.has_changes()

    private.mark_loaded(state)

    assert not state.attrs.name.history.has_changes()
    assert not state.modified


def test_result_of_entities_is_as_of_a_select() -> None:
    """Its only column is the entity, and `unique` counts each once."""
    person = Person(name="Ann")

    def result() -> ChunkedIteratorResult[Any]:
        return ChunkedIteratorResult(
            versions.entity_result("Person", Person),
            lambda _size: iter([[person, person]]),
            source_supports_scalars=True,
        )

    assert list(result().keys()) == ["Person"]
    assert [row.Person for row in result()] == [person, person]
    assert result().unique().scalars().all() == [person]


async def test_result_with_a_joined_collection_needs_unique(people: Database) -> None:
    """SQLAlchemy marks it; a plain one is not marked."""
    async with people.session_factory() as session:
        assert private.needs_unique(await session.run_sync(lambda inside: inside.execute(select(Herd))))
        assert not private.needs_unique(await session.run_sync(lambda inside: inside.execute(select(Person))))


@pytest.mark.only("asyncpg", reason="SQLAlchemy keeps count of changes of the schema for it alone")
async def test_connection_hears_of_a_change_of_the_schema(people: Database) -> None:
    """A change that SQLAlchemy notices makes each connection outdated until it is told; so is a cursor."""
    engine: AsyncEngine = people.engine
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        held = raw.dbapi_connection
        assert private.heard_of_schema(held, engine.dialect)

        private.schema_has_changed(engine.dialect)
        assert not private.heard_of_schema(held, engine.dialect)
        private.tell_schema(held, engine.dialect)
        assert private.heard_of_schema(held, engine.dialect)

        def cursor_is_told() -> bool:
            cursor = raw.cursor()
            private.tell_schema(cursor, engine.dialect)
            told = private.heard_of_schema(cursor, engine.dialect)
            cursor.close()
            return told

        assert await connection.run_sync(lambda _connection: cursor_is_told())


async def test_other_databases_have_nothing_to_hear(people: Database) -> None:
    """To tell them does nothing."""
    async with people.engine.connect() as connection:
        held = (await connection.get_raw_connection()).dbapi_connection

        assert private.heard_of_schema(held, people.engine.dialect)


async def test_entities_that_wait_in_a_session_are_seen(people: Database) -> None:
    """Those to be inserted, those that have changed, and those to be deleted."""
    async with people.transaction() as session:
        person = await session.get_one(Person, 1)
        assert not private.is_changed(session.sync_session)

        person.name = "Eve"
        assert private.is_changed(session.sync_session)
        await session.flush()
        assert not private.is_changed(session.sync_session)

        session.add(Person(name="new"))
        assert private.is_changed(session.sync_session)
        await session.flush()
        assert not private.is_changed(session.sync_session)

        await session.delete(person)
        assert private.is_changed(session.sync_session)


def test_attributes_of_an_async_session_are_known() -> None:
    """Those that its `__init__` sets: an ambient session sets them when one is asked for."""
    engine = create_async_engine("sqlite+aiosqlite://")
    assert set(vars(AsyncSession(engine))) == set(versions.SET_BY_ASYNC_SESSION)


def lent_by(db: Database) -> Lender:
    """Return who lends the connections of a Database."""
    lender: Lender = db.source.engines.here().lender()
    return lender


@pytest.mark.only("asyncpg", "sqlite", reason="the drivers of others tell of it themselves")
async def test_connection_that_nobody_returns_is_that_of_no_place(people: Database) -> None:
    """SQLAlchemy closes it, and tells of it, as where its own wrapper is lost."""
    engine, lender = people.engine.sync_engine, lent_by(people)
    pool: Any = engine.pool
    place = lender.lend()
    assert place is not None
    lazily = lazy.LazyConnection(engine, place, lender)
    assert (pool.checkedout(), lazy.held_by(lazily), lazily.info) == (1, place, place.info)

    with pytest.warns(SAWarning, match="garbage collector"):
        del place, lazily

    assert pool.checkedout() == 0
    async with people.transaction() as session:
        assert await session.scalar(select(1)) == 1


async def test_attributes_of_a_connection_are_known(people: Database) -> None:
    """No other is there before somebody asks SQLAlchemy for something."""

    def kept(connection: Connection) -> set[str]:
        held = connection.engine.raw_connection()
        begun = Connection(connection.engine, held)
        lazily = lazy.LazyConnection(connection.engine, held, lent_by(people))
        lazily.wrap()
        try:
            return vars(begun).keys() - vars(lazily).keys()
        finally:
            begun.close()

    async with people.engine.connect() as connection:
        late = await connection.run_sync(kept)

    assert late <= {*lazy.SET_BY_CONNECTION, "_has_events"}  # which a connection of 2.0 has from its engine


async def test_lazy_connection_has_begun_when_somebody_asks(people: Database) -> None:
    """It is a connection like others then."""

    def told(connection: Connection) -> list[object]:
        held = connection.engine.raw_connection()
        begun = lazy.LazyConnection(connection.engine, held, lent_by(people))
        try:
            before = [type(begun) is Connection, begun.in_transaction(), begun.closed]
            after = [begun.get_transaction() is not None, type(begun) is Connection, begun.in_transaction()]
            return [*before, *after]
        finally:
            begun.close()

    async with people.engine.connect() as connection:
        assert await connection.run_sync(told) == [False, True, False, True, True, True]


def test_pool_says_that_two_connections_in_a_row_had_ended() -> None:
    """It has no class of its own for that."""
    connect: Any = partial(sqlite3.connect, ":memory:")
    pool = QueuePool(connect)

    @event.listens_for(pool, "checkout")
    def refuse(*_connection: object) -> None:
        raise DisconnectionError("it has ended")

    with pytest.raises(InvalidRequestError) as raised:
        pool.connect()
    pool.dispose()

    assert str(raised.value) == CLOSED_TWICE
    assert Backend(make_url("other://")).is_lost(raised.value)


def test_place_that_was_lent_is_wrapped_as_it_is() -> None:
    """It is out without SQLAlchemy's wrapper for one statement; when that fails, SQLAlchemy closes it."""
    connect: Any = partial(sqlite3.connect, ":memory:")
    pool = TurnPool(connect)
    pool.connect().close()

    lent = pool.lend()
    assert lent is not None
    opened = lent.dbapi_connection
    out = pool.checkedin(), pool.checkedout()
    pool.bring_back(lent)
    assert pool.lend() is lent
    wrapper = pool.wrapped(lent)
    wrapped = wrapper.dbapi_connection
    wrapper.close()

    assert (wrapped, out) == (opened, (0, 1))
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    assert pool.lend() is lent
    pool.wrapped(lent).invalidate()
    assert pool.lend() is None
    other = pool.connect()
    assert other.dbapi_connection is not opened
    other.close()
    pool.dispose()


async def test_listeners_of_an_engine_change_at_one_stroke(people: Database) -> None:
    """Also while somebody goes through them; ours hears what `event.listen` would let it hear."""
    engine = people.engine.sync_engine
    heard: list[str] = []

    def listen(*told: Any) -> tuple[Any, Any]:
        heard.append("ours")
        private.remove_listener(engine, "before_cursor_execute", listen)
        return f"{told[2]} -- ours", told[3]

    private.add_listener(engine, "before_cursor_execute", listen)
    event.listen(engine, "before_cursor_execute", lambda *told: heard.append(told[2]))
    async with people.engine.connect() as connection:
        for _ in range(2):
            heard.clear()
            await connection.exec_driver_sql("SELECT 2")
            private.add_listener(engine, "before_cursor_execute", lambda *told: told[2:4])

    assert heard == ["SELECT 2"]


async def test_who_listens_to_an_engine_itself_is_told(people: Database) -> None:
    """Of an engine, its pool and its dialect; not who listens to all of a class."""
    engine = people.engine.sync_engine

    def hear(*_arguments: object) -> None: ...

    for target, name in (
        (engine, "engine_connect"),
        (engine.pool, "checkin"),
        (engine.dialect, "do_connect"),
    ):
        assert (name, hear) not in private.own_listeners(target)
        event.listen(target, name, hear)
        assert (name, hear) in private.own_listeners(target)
        event.remove(target, name, hear)
        assert (name, hear) not in private.own_listeners(target)
    assert private.own_listeners(engine.execution_options(logging_token="apart")) == []
    event.listen(Engine, "engine_connect", hear)
    try:
        assert ("engine_connect", hear) not in private.own_listeners(engine)
    finally:
        event.remove(Engine, "engine_connect", hear)


class Names(Repository[Person]):
    """A read of records, which is no statement of the ORM."""

    @query.sql("SELECT name FROM person ORDER BY name")
    async def all_names(self) -> list[str]: ...  # type: ignore[empty-body]  # the SQL is the body


async def test_text_sees_what_waits_in_a_session(people: Database) -> None:
    """In the ambient session, and in one that is given; that of 2.0 flushes before ORM statements alone."""
    names = text("SELECT count(*) FROM person WHERE name = 'Dan'")
    async with people.transaction() as session:
        session.add(Person(name="Dan"))
        assert await session.scalar(names) == 1
        people.set_rollback_only()
    async with people.session_factory() as own:
        own.add(Person(name="Dan"))
        assert "Dan" in await Names(own).all_names()
        await own.rollback()
    async with people.session_factory() as own:
        with own.no_autoflush:
            own.add(Person(name="Dan"))
            assert "Dan" not in await Names(own).all_names()


async def test_entities_are_deleted_and_merged_only_where_that_is_allowed(people: Database) -> None:
    """By each method that the installed SQLAlchemy has for it."""
    async with people.transaction(read_only=True) as session:
        person = await session.get_one(Person, 1)
        for name in versions.WRITES_OF_SESSION:
            given = [person] if name.endswith("_all") else person
            with pytest.raises(TransactionRefusedError):
                await getattr(session, name)(given)


@pytest.mark.only("postgresql", reason="DISTINCT ON")
async def test_distinct_on_is_seen_in_a_statement(people: Database) -> None:
    """Made as the installed SQLAlchemy wants it, without a warning."""
    statement = versions.select_distinct_on(select(Person.name), Person.name)

    assert [column.name for column in distinct_on(statement)] == ["name"]
    async with people.transaction() as session:
        assert len((await session.scalars(statement)).all()) == 3


async def test_what_waits_in_a_session_is_told_as_a_flush_sees_it(people: Database) -> None:
    """New, changed and deleted ones; a deleted one is not changed; a value that comes back is no change."""
    async with people.session_factory() as session:
        one, two = await session.get_one(Person, 1), await session.get_one(Person, 2)
        inside = session.sync_session
        assert not private.has_modified(inside)
        one.name, before = "new", one.name
        assert private.has_modified(inside)
        assert private.waiting_states(inside) == ([], [inspect(one)], [])
        one.name = before
        assert not private.has_modified(inside)
        new = Person(name="Zoe")
        session.add(new)
        two.name = "gone"
        await session.delete(two)
        assert not private.has_modified(inside)
        assert private.waiting_states(inside) == ([inspect(new)], [inspect(one)], [inspect(two)])
        session.expunge_all()


async def test_flush_that_is_registered_is_as_one_of_the_orm(people: Database) -> None:
    """What was saved is persistent, what was deleted is so; a rollback takes both back."""
    async with people.session_factory() as session:
        new, gone = Person(id=77, name="Zoe"), await session.get_one(Person, 1)
        session.add(new)
        await session.delete(gone)
        private.register_flushed(session.sync_session, [inspect(new)], [inspect(gone)])
        assert inspect(new).persistent
        assert inspect(gone).deleted
        await session.rollback()
        assert inspect(new).transient
        assert inspect(gone).persistent


async def test_flush_that_fails_leaves_the_session_unusable(people: Database) -> None:
    """Until a rollback; the error is remembered, and what was new is so again."""
    async with people.session_factory() as session:
        new = Person(name="Zoe")
        session.add(new)
        with pytest.raises(LookupError):
            private.fail_flush(session.sync_session, LookupError("told"))
        assert inspect(new).transient
        with pytest.raises(PendingRollbackError, match="told"):
            await session.get(Person, 1)
        await session.rollback()
        assert await session.get(Person, 1) is not None


def test_what_a_model_says_to_a_flush() -> None:
    """The names of its keys, how it finds what it is related to, what is an orphan, and what goes first."""
    people, pets = inspect(Person), inspect(Pet)
    assert private.label_of(people.primary_key[0]) == "person_id"
    assert private.refers_by_key(inspect(Pet).relationships["owner"])
    assert private.referred_columns(people) == {people.columns.id}
    assert not private.is_orphan(inspect(Pet(name="Rex")))
    assert private.mappers_in_order([pets, people]) == [people, pets]
    two, one = Person(id=2), Person(id=1)
    for person in (two, one):
        inspect(person).key = people.identity_key_from_instance(person)
    states = [inspect(two), inspect(one)]
    assert private.states_in_order(people, states) == states[::-1]
    owner = Person(name="Ann")
    private.mark_loaded(inspect(owner))
    assert not private.has_waiting_mutations(inspect(owner))


@pytest.mark.parametrize(
    ("default", "takes"),
    [
        pytest.param(lambda: 1, False, id="nothing"),
        pytest.param(lambda number=1: number, False, id="nothing that must be given"),
        pytest.param(dict, False, id="a class"),
        pytest.param(partial(int, 1), False, id="a partial"),
        pytest.param(lambda context: context, True, id="a context"),
    ],
)
def test_default_that_takes_a_context_is_told(default: Any, takes: bool) -> None:  # noqa: ANN401, FBT001
    """As SQLAlchemy calls it."""
    for each in (Column(Integer, default=default).default, Column(Integer, onupdate=default).onupdate):
        assert private.takes_context(each) is takes


def test_types_that_stand_in_for_another_are_told() -> None:
    """Of `with_variant`, for whichever dialects."""
    kind = Text().with_variant(Integer(), "sqlite", "mysql")
    assert {type(each) for each in private.variants_of(kind)} == {Integer}
    assert not list(private.variants_of(Text()))


@pytest.mark.skipif(
    sqlalchemy.__version__.startswith("2.0."),
    reason="2.0 shows the statement as it is before the rows are written into it",
)
async def test_insert_of_many_rows_is_the_text_of_a_flush(people: Database) -> None:
    """With as many rows as are given, numbered where the database can; else it goes row by row."""
    table: Any = Pet.__table__
    statement = insert(table).return_defaults(table.c.id, sort_by_parameter_order=True)
    compiled = statement.compile(
        dialect=people.engine.dialect, column_keys=["name", "owner_id"], for_executemany=True
    )
    with StatementLog(people) as log:
        async with people.session_factory() as session:
            session.add_all([Pet(name="a"), Pet(name="b"), Pet(name="c")])
            await session.flush()
    sent = [each.sql for each in log.statements if each.sql.startswith("INSERT")]

    if private.goes_row_by_row(compiled):
        assert sent == [str(compiled)] * 3
    else:
        assert sent == [private.text_for_rows(compiled, 3)]


@pytest.mark.only("asyncpg", reason="it is about its transactions")
async def test_commit_of_the_driver_is_sent_once(people: Database) -> None:
    """SQLAlchemy has nothing to commit or to roll back after it."""
    async with people.engine.connect() as connection, connection.begin():
        await connection.execute(select(Person))
        raw = await connection.get_raw_connection()
        held, driver = raw.dbapi_connection, raw.driver_connection
        assert driver is not None
        assert driver.is_in_transaction()

        await versions.commit_on_driver(held)
        assert not driver.is_in_transaction()
        sent: list[str] = []
        driver.add_query_logger(lambda record: sent.append(record.query))

    assert sent == []


async def test_connection_goes_back_without_being_reset(people: Database) -> None:
    """No ROLLBACK is sent, and the next one gets the same connection."""
    engine = people.engine.sync_engine
    ended: list[object] = []

    def lend(_connection: object) -> tuple[object, object]:
        held = engine.raw_connection()
        first = held.dbapi_connection
        with pytest.MonkeyPatch.context() as replaced:
            replaced.setattr(engine.dialect, "do_rollback", ended.append)
            private.return_unreset(held)
        again = engine.raw_connection()
        try:
            return first, again.dbapi_connection
        finally:
            again.close()

    async with people.engine.connect() as outer:
        one, other = await outer.run_sync(lend)

    assert one is other
    assert ended == []


async def test_savepoints_are_seen_before_and_after_they_are_sent(db: Database) -> None:
    """How many a session has begun that its connection does not know, their names, and whether they go on."""
    async with AsyncSession(db.engine) as outer, outer.begin():

        def program(session: Session) -> None:
            connection = session.connection()
            assert savepoints.savepoints_to_send(session) == 0
            for number in (1, 2):
                name = f"sa_savepoint_{number}"
                waiting = Person(name="waits")
                session.add(waiting)
                assert not savepoints.flushes_nothing(session)
                session.expunge(waiting)
                assert savepoints.flushes_nothing(session)
                savepoint = session.begin_nested()
                assert savepoints.begun_savepoint(savepoint) is None
                assert savepoints.savepoints_to_send(session) == 1
                inner = session.begin_nested()
                assert savepoints.savepoints_to_send(session) == 2
                inner.rollback()
                assert savepoints.next_savepoint_name(connection) == name
                session.connection()
                assert savepoints.savepoints_to_send(session) == 0
                assert savepoints.savepoint_names(savepoint) == {name}
                assert savepoints.begun_savepoint(savepoint) is connection.get_nested_transaction()
                savepoint.rollback()
                assert savepoints.savepoint_names(savepoint) == {name}
                assert savepoints.begun_savepoint(savepoint) is None

        await outer.run_sync(program)


async def test_savepoint_whose_release_fails_is_not_undone_and_can_be_gone_back_to(people: Database) -> None:
    """A session that leaves it sends nothing more; its connection can still go back to it."""
    async with AsyncSession(people.engine) as outer, outer.begin():

        def program(session: Session) -> None:
            connection = session.connection()
            savepoint, inner = session.begin_nested(), session.begin_nested()
            assert savepoints.is_open_in(session, savepoint)
            inner.rollback()
            assert not savepoints.is_open_in(session, inner)
            assert savepoints.is_open_in(session, savepoint)
            before = session.scalars(select(func.count()).select_from(Person)).one()
            session.add(Person(name="inside"))
            (name,) = savepoints.savepoint_names(savepoint)
            event.listen(connection, "release_savepoint", _fail)
            with pytest.raises(LookupError):
                savepoint.commit()
            event.remove(connection, "release_savepoint", _fail)
            assert savepoints.is_open_in(session, savepoint)
            savepoint.rollback()
            assert not savepoints.is_open_in(session, savepoint)
            count = select(func.count()).select_from(Person)
            assert connection.scalar(count) == before + 1
            savepoints.go_back_to(connection, name)
            assert connection.scalar(count) == before

        await outer.run_sync(program)


def _fail(*_: object) -> None:
    raise LookupError


async def test_change_that_is_evaluated_in_python_is_seen_by_entities(people: Database) -> None:
    """Those that are held, as by the session; a condition that only the database knows is told."""
    mapper = inspect(Person)
    change = update(Person).where(Person.name == "Ann").values(age=Person.age + 1)
    assert private.Evaluated.of(update(Person).where(func.lower(Person.name) == "ann"), mapper) is None
    async with AsyncSession(people.engine) as session:
        found = list(await session.scalars(select(Person).order_by(Person.id)))
        age, others = found[0].age, [each.age for each in found[1:]]
        evaluated = private.Evaluated.of(change, mapper)
        assert evaluated is not None
        evaluated.tell(session.sync_session, [Person.__table__.c.score])
        assert found[0].age == (age or 0) + 1
        assert inspect(found[0]).expired_attributes == {"score"}
        assert [each.age for each in found[1:]] == others
        deleted = private.Evaluated.of(delete(Person).where(Person.id == 1), mapper)
        assert deleted is not None
        deleted.tell(session.sync_session, [])
        assert [inspect(each).deleted for each in found] == [True, False, False]
