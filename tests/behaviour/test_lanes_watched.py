"""Who watches changes no lane: observers and tracers hear of each statement as it goes out."""

# ruff: noqa: ANN401 - listeners, as SQLAlchemy calls them

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from sqlalchemy import Select, event, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import subqueryload

from tests.fixtures.dialogue import Dialogue
from tests.fixtures.models import Audit
from tests.fixtures.people import Person
from unitwork import Database, Repository, query
from unitwork.events import Event, StatementExecuted
from unitwork.options import Lane


class People(Repository[Person]):
    """The door to persons."""

    @query.sql("SELECT nowhere FROM person")
    async def wrong(self) -> list[int]: ...  # type: ignore[empty-body]  # the SQL is the body

    @query.many
    def with_pets(self) -> Select[Person]:
        return select(Person).options(subqueryload(Person.pets)).order_by(Person.id)


class Watcher:
    """Keeps what is told of persons."""

    def __init__(self) -> None:
        self.sent: list[StatementExecuted] = []

    def notice(self, event: Event, /) -> None:
        """Keep a statement."""
        if isinstance(event, StatementExecuted) and "person" in event.sql:
            self.sent.append(event)


class Tracer:
    """What the tracers of the field do: a span per statement, kept on the context of its execution."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.failed: list[str] = []

    def before(self, connection: Any, cursor: Any, sql: str, *more: Any) -> Any:
        """Begin a span, and add a comment to the text."""
        parameters, context, _many = more
        assert connection.engine is not None
        assert hasattr(cursor, "execute")
        if "person" in sql:
            context.span = sql
            self.begun.append(sql)
            sql += " /*route='people'*/"
        return sql, parameters

    def after(self, _connection: Any, _cursor: Any, sql: str, *more: Any) -> None:
        """End the span."""
        if "person" in sql:
            assert sql.endswith("/*route='people'*/")
            self.ended.append(more[1].span)

    def handle(self, context: Any) -> None:
        """End it with an error."""
        if "person" in (context.statement or ""):
            self.failed.append(context.execution_context.span)


@contextmanager
def traced(db: Database, tracer: Tracer) -> Iterator[Tracer]:
    """Install a tracer for a while."""
    engine = db.engine.sync_engine
    listeners: list[tuple[str, Any, dict[str, bool]]] = [
        ("before_cursor_execute", tracer.before, {"retval": True}),
        ("after_cursor_execute", tracer.after, {}),
        ("handle_error", tracer.handle, {}),
    ]
    for name, listener, options in listeners:
        event.listen(engine, name, listener, **options)
    try:
        yield tracer
    finally:
        for name, listener, _options in listeners:
            event.remove(engine, name, listener)


@contextmanager
def watched(db: Database) -> Iterator[list[StatementExecuted]]:
    """Observe for a while."""
    watcher = Watcher()
    db.observe(watcher)
    try:
        yield watcher.sent
    finally:
        db.unobserve(watcher)


async def test_statement_says_its_lane_its_rows_and_why_no_faster_one(people: Database) -> None:
    """A read alone, one in a block, and one that needs the session."""
    repository = People(people)
    await repository.get(1)
    alone = people.explain_lane(select(Person))
    by_session = people.explain_lane(repository.with_pets)
    url = people.engine.url

    with watched(people) as sent:
        await repository.all()
        async with people.transaction():
            inside = people.explain_lane(select(Person))
            await repository.where(Person.id == 1).one()
        await repository.with_pets()
        async with people.unit_of_work() as session:
            await session.get(Person, 2)
            await session.scalars(select(Person).options(subqueryload(Person.pets)).where(Person.id == 99))

    everybody, one, pets, *_, at_rest, by_hand = sent
    assert (everybody.lane, everybody.refusal) == (alone.lane, alone.reason)
    assert everybody.rows == await repository.count()
    assert (one.lane, one.refusal, one.rows) == (Lane.FUSED, inside.reason, 1)
    assert (pets.lane, pets.refusal) == (Lane.SESSION, by_session.reason)
    assert (at_rest.lane, at_rest.refusal) == (alone.lane, alone.reason)
    assert (by_hand.lane, by_hand.refusal) == (Lane.SESSION, by_session.reason)
    assert {each.server for each in sent} == {None if url.host is None else f"{url.host}:{url.port}"}


@pytest.mark.every_lane
async def test_each_lane_tells_of_each_statement_once(people: Database) -> None:
    """Reads, what fails, and what is inserted, alone and in a block."""
    repository = People(people)
    await repository.get(1)

    with watched(people) as sent:
        await repository.get(2)
        with pytest.raises(DBAPIError):
            await repository.wrong()
        async with people.transaction():
            await repository.get(3)

    assert [each.error is None for each in sent] == [True, False, True]
    code = {"postgresql": "42703", "mysql": "1054", "mariadb": "1054", "sqlite": "1"}
    assert [each.code for each in sent] == [None, code[people.engine.dialect.name], None]
    assert all(each.duration_s > 0 for each in sent)


async def test_text_with_the_values_of_many_rows_is_sent_once(people: Database) -> None:
    """An INSERT of several rows that answers; the driver repeats one that does not, and that is told."""
    table = Person.metadata.tables["person"]
    people_to_come = [{"name": name, "age": 1, "active": True} for name in ("Abe", "Bea", "Cid")]

    with watched(people) as sent:
        async with people.transaction() as session:
            await session.execute(insert(table).returning(table.c.id), people_to_come)
        answered = list(sent)
        sent.clear()
        async with people.transaction() as session:
            await session.execute(insert(table), people_to_come)

    assert {each.many for each in answered} == {1}
    assert sum(each.rows or 0 for each in answered) == 3
    assert [each.many for each in sent] == [3]


@pytest.mark.every_lane
async def test_tracer_gets_what_it_expects_on_each_lane(people: Database) -> None:
    """Each statement begins and ends on one context, or fails on it; the text goes out as it was made."""
    repository = People(people)
    await repository.get(1)
    lane = people.explain_lane(select(Person)).lane

    with traced(people, Tracer()) as tracer, watched(people) as sent:
        assert people.explain_lane(select(Person)).lane is lane
        assert (await repository.where(Person.id == 2).one()).id == 2
        async with people.transaction():
            assert (await repository.where(Person.id == 3).one()).id == 3
            assert len(await repository.all()) > 1
        assert tracer.begun == tracer.ended
        assert len(tracer.begun) == 3
        assert [each.lane for each in sent] == [lane, *[min_lane(lane)] * 2]
        with pytest.raises(DBAPIError, match="nowhere"):
            await repository.wrong()
        with pytest.raises(DBAPIError, match="nowhere"):
            async with people.transaction():
                await repository.wrong()

    assert [each.rows for each in sent[:2]] == [1, 1]
    assert len(tracer.failed) == 2
    assert tracer.begun == tracer.ended + tracer.failed
    assert people.pool_status().checked_out == 0


def min_lane(lane: Lane) -> Lane:
    """Return the lane of a block, where single reads take this one."""
    return Lane.FUSED if lane is Lane.DRIVER else lane


@pytest.mark.every_lane
async def test_listener_may_change_the_values(people: Database) -> None:
    """What it returns is what is asked."""
    repository = People(people)
    await repository.get(1)

    def other(_connection: Any, _cursor: Any, sql: str, parameters: Any, *_more: Any) -> Any:
        if "FROM person" not in sql:
            return sql, parameters
        changed = dict.fromkeys(parameters, 2) if isinstance(parameters, dict) else (2,)
        return sql, changed

    engine = people.engine.sync_engine
    event.listen(engine, "before_cursor_execute", other, retval=True)
    try:
        assert (await repository.where(Person.id == 1).one()).id == 2
        async with people.transaction():
            assert (await repository.where(Person.id == 1).one()).id == 2
    finally:
        event.remove(engine, "before_cursor_execute", other)


@pytest.mark.every_lane
async def test_listener_that_sends_more_or_fails_does_what_it_does_with_sqlalchemy(people: Database) -> None:
    """What it writes beside a read is stored; what it raises is raised, and no connection is lost."""
    repository = People(people)
    await repository.get(1)
    failing: list[bool] = []

    def audit(connection: Any, _cursor: Any, sql: str, *_more: Any) -> None:
        if "FROM person" in sql:
            if failing:
                raise RuntimeError("the tracer is down")
            connection.exec_driver_sql("INSERT INTO audit (note) VALUES ('read')")

    engine = people.engine.sync_engine
    event.listen(engine, "before_cursor_execute", audit)
    try:
        await repository.get(2)
        async with people.transaction():
            await repository.get(3)
        failing.append(True)
        with pytest.raises(RuntimeError, match="down"):
            await repository.get(4)
    finally:
        event.remove(engine, "before_cursor_execute", audit)

    assert people.pool_status().checked_out == 0
    assert [row.note for row in await Repository[Audit](people).all()] == ["read"] * 2


@pytest.mark.every_lane
@pytest.mark.parametrize("with_tracer", [False, True])
async def test_read_that_is_cancelled_is_told_and_leaves_the_pool_whole(
    people: Database, dialogue: Dialogue, *, with_tracer: bool
) -> None:
    """While it is watched, traced or both."""
    repository = People(people)
    await repository.get(1)

    class Slow(Repository[Person]):
        """A read that takes longer than any test waits."""

        @query.sql(f"SELECT count(*) FROM ({dialogue.slow}) AS person")
        async def wait(self) -> int: ...  # type: ignore[empty-body]  # the SQL is the body

    with watched(people) as sent, traced(people, Tracer()) if with_tracer else nullcontext():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await Slow(people).wait()
        assert (await repository.get(2)) is not None

    assert sent[0].error == "CancelledError"
    assert people.pool_status().checked_out == 0
    async with people.transaction() as session:
        assert await session.scalar(text("SELECT 1")) == 1
