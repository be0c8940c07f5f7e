"""What is loaded with entities looks the same on each lane, for random rows."""

import gc
import re
import warnings
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL, Select, Table, delete, insert, inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Load

from tests.fixtures.authors import BOOK_GENRE, OTHERS, REPEATING, SELECTED, Author, Book, Related
from tests.fixtures.databases import Backend
from tests.properties.lanes import examples, one_for_each_lane
from unitwork import Database, Repository
from unitwork.observe import StatementLog

EXAMPLES = {"sqlite": 6, "asyncpg": 5, "psycopg": 4, "mariadb": 4}
_READS = 3
"""How many statements are compared in one example."""

ALL = {**SELECTED, **REPEATING, **{name: make for name, (make, _reason) in OTHERS.items()}}

Rows = dict[str, list[dict[str, Any]]]


class _Seen:
    """All that a program can tell of entities and of what they hold, each told once."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def of(self, thing: object) -> object:
        if isinstance(thing, DeclarativeBase):
            return self._entity(thing)
        if isinstance(thing, dict):
            return (type(thing).__name__, [(key, self.of(value)) for key, value in thing.items()])
        if isinstance(thing, set):
            return ("set", [self.of(each) for each in sorted(thing, key=lambda each: each.id)])
        if isinstance(thing, list | tuple):
            return (type(thing).__name__, [self.of(each) for each in thing])
        return (type(thing).__name__, thing)

    def _entity(self, entity: DeclarativeBase) -> object:
        if id(entity) in self._known:
            return self._known[id(entity)]
        state: Any = inspect(entity)
        self._known[id(entity)] = f"{type(entity).__name__} {state.identity} of before"
        # What hides rows is an option of the session alone, which adds it to whatever is loaded later, too.
        options = [len(each.context) for each in state.load_options if isinstance(each, Load)]
        held = sorted(name for name in state.dict if name != "_sa_instance_state")
        return (
            type(entity).__name__,
            [(name, self.of(state.dict[name])) for name in held],
            (state.detached, state.persistent, state.modified, state.expired, state.key[1:]),
            (dict(state.committed_state), sorted(state.unloaded), sorted(state.expired_attributes)),
            (options, str(state.load_path) if options else "", sorted(state.callables)),
        )


def _references(keys: list[int]) -> st.SearchStrategy[int | None]:
    return st.none() | st.sampled_from(keys) if keys else st.none()


@st.composite
def rows_of_all(draw: st.DrawFn) -> Rows:
    """Rows of all tables, whose keys exist."""
    words = st.sampled_from(["a", "b", "C"])

    def drawn(most: int, *, least: int = 0, **values: st.SearchStrategy[Any]) -> list[dict[str, Any]]:
        made = [
            {name: draw(value) for name, value in values.items()}
            for _place in range(draw(st.integers(least, most)))
        ]
        return [{"id": number, **row} for number, row in enumerate(made, 1)]

    def keys(rows: list[dict[str, Any]]) -> list[int]:
        return [row["id"] for row in rows]

    towns = drawn(2, name=words)
    authors = drawn(5, name=words, home_id=_references(keys(towns)), mentor_id=st.none())
    for row in authors:
        row["mentor_id"] = draw(_references(keys(authors)))
    books = drawn(8, author_id=_references(keys(authors)), title=words, pages=st.integers(1, 4))
    numbered = drawn(6, book_id=_references(keys(books)))
    genres = drawn(3)
    pairs = (
        draw(st.sets(st.tuples(st.sampled_from(keys(books)), st.sampled_from(keys(genres)))))
        if (books and genres)
        else set()
    )
    halls: list[dict[str, Any]] = [
        {"hall": hall, "number": number} for hall in "xy" for number in range(draw(st.integers(0, 2)))
    ]
    places: list[dict[str, Any]] = [
        draw(st.sampled_from([{"hall": None, "number": 1}, *halls])) for _ in range(draw(st.integers(0, 5)))
    ]
    shelves = drawn(2)
    boxes = drawn(5, shelf_id=_references(keys(shelves)), inside_id=st.none())
    for row in boxes:
        row["inside_id"] = draw(_references(keys(boxes)))
    return {
        "town": towns,
        "author": authors,
        "portrait": [{"id": 9 - key, "author_id": key} for key in keys(authors) if draw(st.booleans())],
        "book": books,
        "chapter": [{**row, "number": row["id"]} for row in numbered],
        "genre": genres,
        "book_genre": [{"book_id": book, "genre_id": genre} for book, genre in sorted(pairs)],
        "seat_row": halls,
        "place": [{"id": number, **place} for number, place in enumerate(places, 1)],
        "shelf": shelves,
        "box": boxes,
        "lid": drawn(3, box_id=_references(keys(boxes))),
    }


async def stored(db: Database, rows: Rows) -> None:
    """Store these rows in place of all others."""
    tables = Related.metadata.sorted_tables
    async with db.transaction() as session:
        await session.execute(Related.metadata.tables["author"].update().values(mentor_id=None))
        await session.execute(Related.metadata.tables["box"].update().values(inside_id=None))
        for table in reversed(tables):
            await session.execute(delete(table))
        for table in tables:
            if rows[table.name]:
                await session.execute(insert(table), _in_order(table, rows[table.name]))
    assert BOOK_GENRE in tables


def _in_order(table: Table, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows that can be stored one by one: what refers to later rows of its table refers to none."""
    own = {"author": "mentor_id", "box": "inside_id"}.get(table.name)
    if own is None:
        return rows
    return [
        {**row, own: row[own] if row[own] is not None and row[own] <= row["id"] else None} for row in rows
    ]


async def told(log: StatementLog, read: Any) -> object:  # noqa: ANN401  # a coroutine
    """What a read returns or raises, and which tables it asks in which order."""
    before = len(log.texts)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            found: object = _Seen().of(await read)
        except Exception as error:  # noqa: BLE001  # told
            found = (type(error).__name__, str(error))
    asked = [re.findall(r"FROM (\S+)", text)[0] for text in log.texts[before:]]
    return found, asked, [str(each.message) for each in warned]


async def story(db: Database, statements: Iterable[Select[Any]]) -> list[object]:
    """Read outside, in a unit of work, and in a block; where others were read before, and some expired."""
    told_of: list[object] = []
    with StatementLog(db) as log:
        for statement in statements:
            entity = statement.column_descriptions[0]["entity"]
            door = Repository[entity](db)  # type: ignore[valid-type]  # of this example
            told_of.append(await told(log, door.all(statement)))
            async with db.unit_of_work():
                told_of.append(await told(log, door.all(statement)))
                told_of.append(await told(log, door.all(statement)))
            async with db.unit_of_work():
                kept = [*await Repository[Author](db).all(), *await Repository[Book](db).all()]
                if kept:
                    db.session.expire(kept[0])
                    await db.session.refresh(
                        kept[-1], ["author"] if isinstance(kept[-1], Book) else ["books"]
                    )
                told_of.append(await told(log, door.all(statement)))
                told_of.append(_Seen().of(kept))
            async with db.transaction() as session:
                told_of.append(await told(log, _asked(session, statement)))
                found = await door.all(statement)
                told_of.append(_Seen().of(found))
                for each in [each for each in found if each is not None][:2]:
                    session.expire(each)
                    told_of.append(await told(log, session.refresh(each)))
                    told_of.append(_Seen().of(each))
                told_of.append(list(session.sync_session.dirty))
    return told_of


async def _asked(session: AsyncSession, statement: Select[Any]) -> object:
    return (await session.scalars(statement)).all()


async def agree(databases: list[Database], rows: Rows, names: list[str]) -> None:
    """Store rows, read them on each lane, and compare."""
    await stored(databases[0], rows)
    # Each lane has statements of its own: an option remembers what it was used for. Entities that refer to
    # each other leave their session when the collector comes, and what is loaded again depends on that.
    gc.collect()
    gc.disable()
    try:
        stories = [await story(db, [ALL[name]() for name in names]) for db in databases]
    finally:
        gc.enable()
    for driver, fused, session in zip(*stories, strict=True):
        assert fused == session
        assert driver == session
    assert [db.pool_status().checked_out for db in databases] == [0, 0, 0]


@pytest.mark.timeout(120)
def test_lanes_agree_on_what_is_loaded_with_entities(backend: Backend, database_url: URL) -> None:
    """Collections and single ones with their states, what the database is asked, and what is loaded later."""
    with one_for_each_lane(database_url) as (runner, databases):

        @examples(EXAMPLES[backend.id])
        @given(rows_of_all(), st.lists(st.sampled_from(sorted(ALL)), min_size=_READS, max_size=_READS))
        def compare(rows: Rows, names: list[str]) -> None:
            runner.run(agree(databases, rows, names))

        runner.run(databases[0].create_all(Related))
        compare()
