"""PostgreSQL takes many rows by COPY, inside the transaction that is open, wherever COPY can."""

from typing import Any

import pytest
from sqlalchemy import Identity, MetaData, event, inspect, text
from sqlalchemy import Sequence as Counter
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import Mapped, mapped_column

from tests.fixtures.articles import (
    FEW,
    MANY,
    Article,
    Articles,
    Plain,
    Plains,
    articles,
    create_articles,
    plains,
)
from tests.fixtures.observer import Observer
from unitwork import Base, Database, Repository
from unitwork.observe import StatementLog

pytestmark = pytest.mark.only("postgresql", reason="only PostgreSQL has COPY")

TEMPORARY = "SELECT count(*) FROM pg_class WHERE relname LIKE 'unitwork%'"


class NumberedTables(Base):
    """The base of tables whose keys the database counts down."""

    __abstract__ = True
    metadata = MetaData()

    name: Mapped[str]


class Falling(NumberedTables):
    """Each number is lower than the one before."""

    __tablename__ = "falling"
    id: Mapped[int] = mapped_column(Identity(increment=-1), primary_key=True)


class FallingSequence(NumberedTables):
    """So is each of these."""

    __tablename__ = "falling_sequence"
    id: Mapped[int] = mapped_column(
        Counter("falling_numbers", start=900, increment=-3, maxvalue=900), primary_key=True
    )


@pytest.fixture(autouse=True)
async def _tables(db: Database) -> None:
    await create_articles(db)


def verbs(log: StatementLog) -> list[str]:
    """The first word of each statement that was sent, without those that begin and end."""
    return [text.split()[0] for text in log.texts]


async def test_copy_is_chosen_for_many_rows(db: Database) -> None:
    """Many rows are one COPY, however many batches they are read in; observers see it."""
    with StatementLog(db) as log:
        await Plains(db).bulk_insert(plains(10 * MANY), returning=False, batch_rows=MANY)

    assert verbs(log) == ["SELECT", "COPY"]


async def test_few_rows_are_one_insert(db: Database) -> None:
    """A COPY would cost few rows more than it saves."""
    with StatementLog(db) as log:
        await Plains(db).bulk_insert(list(plains(FEW)), returning=False)

    assert verbs(log) == ["INSERT"]


async def test_conflicts_go_through_a_temporary_table(db: Database, observer: Observer) -> None:
    """With conflicts, rows are copied into a temporary table and moved by one INSERT; it is dropped."""
    await Plains(db).bulk_insert(list(plains(FEW)), returning=False)

    with StatementLog(db) as log:
        await Plains(db).bulk_insert(
            plains(10 * MANY), on_conflict="update", returning=False, batch_rows=MANY
        )

    assert verbs(log) == ["SELECT", "CREATE", "COPY", "INSERT", "DROP"]
    assert await observer.scalar(TEMPORARY) == 0


async def test_expressions_of_defaults_go_through_a_temporary_table(db: Database) -> None:
    """A default that is a SQL expression is filled in by that INSERT."""
    with StatementLog(db) as log:
        await Articles(db).bulk_insert(list(articles(MANY)), returning=False)

    assert verbs(log) == ["SELECT", "CREATE", "COPY", "INSERT", "DROP"]
    assert await Articles(db).where(Article.made == 4).count() == MANY


async def test_table_with_row_security_takes_statements(db: Database, observer: Observer) -> None:
    """COPY refuses tables with row-level security; statements do not."""
    role = "unitwork_test_guest"
    await observer.run(f"DROP ROLE IF EXISTS {role}")
    for statement in (
        f"CREATE ROLE {role}",
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"GRANT ALL ON plain TO {role}",
        "ALTER TABLE plain ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY everything ON plain TO {role} USING (true)",
    ):
        await observer.run(statement)
    try:
        async with db.transaction() as session:
            connection = await session.connection()
            await connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
            with StatementLog(db) as log:
                assert await Plains().bulk_insert(list(plains(MANY)), returning=False) == MANY
        assert verbs(log) == ["SELECT", "INSERT"]
        assert await observer.count(Plain) == MANY
    finally:
        await observer.run(f"DROP OWNED BY {role}")
        await observer.run(f"DROP ROLE {role}")


async def test_table_with_rules_takes_statements(db: Database, observer: Observer) -> None:
    """COPY passes rules by, which an INSERT runs."""
    await observer.run("CREATE TABLE noted (id int)")
    await observer.run("CREATE RULE note AS ON INSERT TO plain DO ALSO INSERT INTO noted VALUES (NEW.id)")
    with StatementLog(db) as log:
        assert await Plains(db).bulk_insert(list(plains(MANY)), returning=False) == MANY

    assert verbs(log) == ["SELECT", "INSERT"]
    assert await observer.count(Plain) == await observer.scalar("SELECT count(*) FROM noted") == MANY


async def test_copy_of_the_callers_engine(db: Database) -> None:
    """A session on an engine that unitwork has never seen can COPY as well."""
    async with db.session_factory() as session:
        connection = await session.connection()
        await Plains(session).bulk_insert(list(plains(MANY)), returning=False)
        assert (await connection.exec_driver_sql("SELECT 1")).scalar() == 1
        await session.commit()

    assert await Plains(db).count() == MANY


async def test_failed_merge_leaves_no_table_behind(db: Database, observer: Observer) -> None:
    """When the INSERT from the temporary table fails, both are undone."""
    await Plains(db).bulk_insert([{"id": 5000, "name": "n1"}])

    with pytest.raises(Exception, match="plain"):
        await Plains(db).bulk_insert(list(plains(MANY)), on_conflict="update", returning=False)

    assert await observer.scalar(TEMPORARY) == 0
    assert await observer.count(Plain) == 1


THIRD = "FOR EACH ROW WHEN (NEW.id = 3)"
LEAVING_OUT = f"CREATE TRIGGER skip BEFORE INSERT ON plain {THIRD} EXECUTE FUNCTION skip()"
BY_COPY = ["SELECT", "CREATE", "COPY", "INSERT", "DROP"]


async def test_entities_of_many_rows_come_by_copy(db: Database) -> None:
    """In the order of their rows, with what the database fills in, held by the session as any entity."""
    await Articles(db).count()
    async with db.transaction() as session:
        with StatementLog(db) as log:
            made = await Articles().bulk_insert(articles(10 * MANY), batch_rows=MANY)
        assert verbs(log) == BY_COPY
        assert [article.number for article in made] == [row["number"] for row in articles(10 * MANY)]
        assert {(article.stock, article.made) for article in made} == {(7, 4)}
        assert all(inspect(article).persistent for article in made)
        assert await session.get(Article, made[5].id) is made[5]
        made[5].title = "another"

    stored = await Articles(db).select().order_by(Article.id).all()
    assert [vars(article) | {"_sa_instance_state": 0} for article in stored] == [
        vars(article) | {"_sa_instance_state": 0} for article in made
    ]
    assert inspect(made[5]).detached


async def test_entity_that_was_held_gets_what_is_stored_now(db: Database) -> None:
    """Its row was deleted behind the session and is stored anew."""
    await Plains(db).add(Plain(id=3, name="old"))
    async with db.transaction() as session:
        held = await session.get_one(Plain, 3)
        await session.execute(text("DELETE FROM plain"))
        made = await Plains().bulk_insert(list(plains(MANY)))

        assert held in made
        assert held.name == next(row["name"] for row in plains(MANY) if row["id"] == 3)


@pytest.mark.parametrize("event_name", ["load", "loaded_as_persistent"])
async def test_entities_that_are_heard_of_come_by_the_orm(db: Database, event_name: str) -> None:
    """Whoever listens to entities being loaded hears of each."""
    heard: list[object] = []

    def listen(*arguments: object) -> None:
        heard.append(arguments)

    await Plains(db).count()
    async with db.transaction() as session:
        target: object = Plain if event_name == "load" else session.sync_session
        event.listen(target, event_name, listen)
        try:
            made = await Plains().bulk_insert(list(plains(MANY)))
        finally:
            event.remove(target, event_name, listen)

    assert len(heard) == len(made) == MANY


@pytest.mark.parametrize("numbered", [Falling, FallingSequence])
async def test_entities_are_in_order_where_keys_are_counted_down(
    db: Database, numbered: type[Falling | FallingSequence]
) -> None:
    """Each is that of its row, though a later row has a lower number."""
    await db.create_all(NumberedTables)
    names = [f"{number}" for number in range(MANY)]
    try:
        rows: Repository[Any] = Repository[numbered](db)  # type: ignore[valid-type]  # of this test
        await rows.count()
        made = await rows.bulk_insert([{"name": name} for name in names])
        assert [each.name for each in made] == names
        assert {each.id: each.name for each in await rows.all()} == {each.id: each.name for each in made}
    finally:
        await db.drop_all(NumberedTables)


async def test_conflict_in_the_middle_stores_nothing_and_says_where(db: Database, observer: Observer) -> None:
    """Of rows whose entities are wanted."""
    await Plains(db).count()
    with pytest.raises(IntegrityError) as raised:
        await Plains(db).bulk_insert([*plains(MANY), *plains(1)])
    assert f"In rows 1 to {MANY + 1}." in raised.value.__notes__
    assert await observer.count(Plain) == 0


async def test_rows_that_a_trigger_leaves_out_are_told_of(db: Database, observer: Observer) -> None:
    """Nobody knows which entity is of which row then; nothing is stored."""
    await Plains(db).count()
    for statement in (
        "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        LEAVING_OUT,
    ):
        await observer.run(statement)
    try:
        with pytest.raises(InvalidRequestError, match="nobody knows which is which"):
            await Plains(db).bulk_insert(list(plains(MANY)))
        assert await observer.count(Plain) == 0
    finally:
        await observer.run("DROP FUNCTION skip CASCADE")
