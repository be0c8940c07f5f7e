"""What is loaded with entities by loader options comes on the faster lanes, and is what the session loads."""

import pickle

import pytest
from sqlalchemy import ForeignKey, MetaData, Select, event, inspect, select, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError, SAWarning
from sqlalchemy.orm import (
    Mapped,
    defaultload,
    joinedload,
    lazyload,
    mapped_column,
    raiseload,
    relationship,
    selectinload,
)

from tests.fixtures.authors import (
    OTHERS,
    REPEATING,
    SELECTED,
    Author,
    Book,
    Box,
    Portrait,
    Related,
    Shelf,
    Town,
)
from tests.fixtures.observer import Observer
from unitwork import Base, Database, Repository, query
from unitwork.observe import StatementLog
from unitwork.options import Lane

pytestmark = pytest.mark.every_lane


class Authors(Repository[Author]):
    """Reads of authors."""

    @query.many
    def with_books(self) -> Select[Author]:
        return select(Author).options(selectinload(Author.books)).order_by(Author.id)

    @query.many
    def from_text(self) -> Select[Author]:
        found = select(Author).from_statement(text("SELECT * FROM author ORDER BY id"))
        return found.options(selectinload(Author.books))  # type: ignore[return-value]  # selects as well


@pytest.fixture
async def library(db: Database) -> Database:
    """A Database with two authors of one town, and three books of the first."""
    await db.create_all(Related)
    async with db.transaction() as session:
        session.add(Town(id=1, name="Rome"))
        await session.flush()
        session.add_all([Author(id=1, name="Ann", home_id=1), Author(id=2, name="Bob", home_id=1)])
        await session.flush()
        session.add_all([Book(id=key, author_id=1, title=f"b{key}", pages=key) for key in (1, 2, 3)])
    return db


def titles(author: Author) -> list[str]:
    """What the books of an author are called."""
    return [book.title for book in author.books]


async def test_options_are_taken_by_the_faster_lanes(library: Database, lane: Lane) -> None:
    """Outside and inside of a block; what only the session can load goes there, and the reason names it."""
    for make in (*SELECTED.values(), *REPEATING.values()):
        assert library.explain_lane(make()).lane is lane, make()
    for make, reason in OTHERS.values():
        choice = library.explain_lane(make())
        assert choice.lane is Lane.SESSION, make()
        assert lane is Lane.SESSION or reason in str(choice)
    assert library.explain_lane(Authors(library).from_text).lane is Lane.SESSION
    async with library.transaction():
        for make in SELECTED.values():
            assert library.explain_lane(make()).lane is (Lane.FUSED if lane is Lane.DRIVER else lane)


async def test_every_way_to_ask_loads_the_collection(library: Database) -> None:
    """A declared query, a fluent one, by key, and the session; none but what was asked for."""
    authors = Authors(library)
    options = [selectinload(Author.books)]
    ann = await authors.get_one(1, options=options)
    asked = [
        (await authors.with_books())[0],
        (await authors.from_text())[0],
        await authors.select().options(*options).order_by(Author.id).first(),
        await authors.where(Author.id == 1).options(*options).one(),
        ann,
    ]
    async with library.transaction() as session:
        asked.append(await session.scalar(select(Author).options(*options).where(Author.id == 1)))
        asked.append((await session.execute(select(Author).options(*options))).scalars().first())
    for each in asked:
        assert each is not None
        assert titles(each) == ["b1", "b2", "b3"]
        state = inspect(each)
        assert not state.modified
        assert not state.attrs.books.history.has_changes()
        assert "home" in state.unloaded
    # As with SQLAlchemy, nobody sets the other side.
    assert all("author" in inspect(book).unloaded for book in ann.books)
    assert inspect(ann).detached
    assert all(inspect(book).detached for book in ann.books)
    assert [book.title for book in pickle.loads(pickle.dumps(ann)).books] == ["b1", "b2", "b3"]  # our own
    assert await authors.get(9, options=options) is None


async def test_many_by_a_join_are_asked_of_a_session_with_unique(library: Database) -> None:
    """It refuses rows that repeat, on each lane; repositories give each entity once."""
    statement = select(Author).options(joinedload(Author.books)).order_by(Author.id)
    ann, bob = await Authors(library).all(statement)
    assert (len(ann.books), bob.books) == (3, [])
    async with library.transaction() as session:
        result = await session.execute(statement)
        with pytest.raises(InvalidRequestError, match=r"unique\(\) method must be invoked"):
            result.all()
        assert len((await session.scalars(statement)).unique().all()) == 2
        assert (await session.get_one(Author, 1, options=[joinedload(Author.books)])).name == "Ann"


async def test_what_is_forbidden_to_be_loaded_raises(library: Database) -> None:
    """On each lane; what the mapping loads can be left for later."""
    ann = await Authors(library).get_one(1, options=[selectinload(Author.books), raiseload("*")])
    assert titles(ann) == ["b1", "b2", "b3"]
    for ask in (lambda: ann.home, lambda: ann.books[0].author):
        with pytest.raises(InvalidRequestError, match="is not available due to lazy='raise'"):
            ask()
    async with library.transaction() as session:
        session.add(Box(id=1))
        await session.flush()
        session.expunge_all()
        box = (await session.scalars(select(Box).options(lazyload(Box.shelf)))).one()
        assert "shelf" in inspect(box).unloaded
        held = (await session.scalars(select(Author).options(raiseload(Author.home)))).first()
        with pytest.raises(InvalidRequestError, match="is not available due to lazy='raise'"):
            getattr(held, "home")  # noqa: B009  # which may be None for the checker


async def test_changes_of_what_came_along_are_stored(library: Database) -> None:
    """The entities belong to the session, and so do those that come with them."""
    async with library.transaction() as session:
        ann = await Authors(library).get_one(1, options=[selectinload(Author.books)])
        first, second, third = ann.books
        assert await session.get(Book, 1) is first
        first.title = "new"
        ann.books.remove(second)
        await session.delete(third)
        ann.books.append(Book(id=4, title="d", pages=1))
    again = (await Authors(library).with_books())[0]
    assert titles(again) == ["d", "new"]


async def test_rollback_expires_what_came_along(library: Database) -> None:
    """And the next read loads it anew."""
    async with library.unit_of_work():
        ann = (await Authors(library).with_books())[0]
        ann.books[0].title = "z"
        await library.session.flush()
        await library.rollback()
        assert titles((await Authors(library).with_books())[0]) == ["b1", "b2", "b3"]
        assert titles(ann) == ["b1", "b2", "b3"]


async def test_loaded_collection_is_left_alone(library: Database, observer: Observer) -> None:
    """Even where others have changed it meanwhile; unless it was expired."""
    async with library.unit_of_work():
        ann = (await Authors(library).with_books())[0]
        await observer.run("DELETE FROM book WHERE id = 3")
        assert len((await Authors(library).with_books())[0].books) == 3
        library.session.expire(ann, ["books"])
        assert len((await Authors(library).with_books())[0].books) == 2
        assert len(ann.books) == 2


async def test_keys_are_asked_for_by_the_five_hundred(library: Database) -> None:
    """Each statement is told to observers, and who listens to cursors hears each."""
    async with library.transaction() as session:
        session.add_all([Author(id=key, name="x") for key in range(3, 502)])
    statement = select(Author).options(selectinload(Author.books)).order_by(Author.id)
    sent: list[str] = []

    def hear(conn: object, cursor: object, sql: str, *more: object) -> None:
        sent.append(sql)

    with StatementLog(library) as log:
        found = await Authors(library).all(statement)
        assert len(log) == 3
    event.listen(library.engine.sync_engine, "before_cursor_execute", hear)
    try:
        again = await Authors(library).all(statement)
    finally:
        event.remove(library.engine.sync_engine, "before_cursor_execute", hear)
    assert len([sql for sql in sent if "book" in sql]) == 2
    for authors in (found, again):
        assert len(authors) == 501
        assert [len(author.books) for author in authors if author.books] == [3]


async def test_several_rows_for_one_are_warned_of(library: Database) -> None:
    """The first is taken, as by the session."""
    async with library.transaction() as session:
        session.add_all([Portrait(id=key, author_id=1) for key in (5, 4)])
    options = [selectinload(Author.portrait)]
    with pytest.warns(SAWarning, match=r"Multiple rows returned with uselist=False .* 'Author.portrait'"):
        ann = await Authors(library).get_one(1, options=options)
    assert ann.portrait is not None


async def test_several_rows_for_one_by_a_join_are_asked_for_once(library: Database) -> None:
    """The first is taken, with a warning; what is held already stays, without one."""
    async with library.transaction() as session:
        session.add_all([Portrait(id=key, author_id=1) for key in (5, 4)])
    statement = select(Author).where(Author.id == 1).options(joinedload(Author.portrait))
    async with library.unit_of_work() as session:
        with StatementLog(library) as log:
            with pytest.warns(SAWarning, match=r"Multiple rows returned with .* 'Author.portrait' $"):
                ann, same = (await session.scalars(statement)).all()
            portrait = ann.portrait
            assert (await session.scalars(statement)).all() == [ann, same]
            assert len(log) == 2
    assert ann is same
    assert ann.portrait is portrait is not None


def home_of(_session: object, author: Author) -> Town | None:
    """Where an author lives, loaded if need be."""
    return author.home


async def test_conditions_of_options_are_those_of_each_call(library: Database) -> None:
    """Also for what is loaded later, by the options that entities remember."""
    for pages in (1, 2, 3):
        async with library.transaction() as session:
            option = defaultload(Author.home).selectinload(Town.authors)
            deeper = option.selectinload(Author.books.and_(Book.pages > pages))
            ann = (await session.scalars(select(Author).where(Author.id == 1).options(deeper))).one()
            town = await session.run_sync(home_of, ann)
            assert town is not None
            assert len(town.authors[1].books) == 3 - pages


async def test_failure_of_a_later_statement_is_that_of_the_session(
    library: Database, observer: Observer, lane: Lane
) -> None:
    """It has the text of that statement, and a note of the query; nothing is left behind."""
    authors = Authors(library)
    await authors.with_books()
    for name in ("chapter", "book_genre", "book"):
        await observer.run(f"DROP TABLE {name}")
    with pytest.raises(DBAPIError) as caught:
        await authors.with_books()
    assert "FROM book" in str(caught.value)
    assert any("with_books" in note for note in caught.value.__notes__)
    with pytest.raises(DBAPIError):
        async with library.transaction():
            await authors.with_books()
    assert len(await authors.all()) == 2
    assert library.explain_lane(authors.with_books).lane is lane


async def test_who_hears_of_related_entities_is_told(library: Database, lane: Lane) -> None:
    """The session loads then, for as long as somebody listens."""
    heard: list[object] = []

    def hear(entity: object, context: object) -> None:
        heard.append(entity)

    event.listen(Book, "load", hear)
    try:
        assert library.explain_lane(Authors(library).with_books).lane is Lane.SESSION
        await Authors(library).with_books()
    finally:
        event.remove(Book, "load", hear)
    assert len(heard) == 3
    assert library.explain_lane(Authors(library).with_books).lane is lane


async def test_model_that_always_loads_more_is_stored_and_changed(library: Database) -> None:
    """By the faster lanes, too: what it loads is no matter of writing."""
    shelves, boxes = Repository[Shelf](library), Repository[Box](library)
    await shelves.add(Shelf(id=1))
    async with library.transaction() as session:
        session.add(Box(id=1, shelf_id=1))
        await session.flush()
        session.add(Box(id=2, inside_id=1))
    assert await boxes.where(Box.id == 2).update(shelf_id=1) == 1
    shelf = await shelves.get_one(1)
    assert [box.id for box in shelf.boxes] == [1, 2]
    assert {"shelf", "boxes"} <= inspect(shelf.boxes[0]).unloaded, "they would go on for ever"
    box = await boxes.get_one(1)
    assert box.shelf is not None
    assert box.shelf.id == 1
    assert await boxes.where(Box.id == 2).delete() == 1


async def test_options_go_on_when_more_is_loaded(library: Database) -> None:
    """What is expired comes again with what came with it, and below it."""
    statement = select(Town).options(selectinload(Town.authors).selectinload(Author.books))
    async with library.transaction() as session:
        town = (await session.scalars(statement)).one()
        assert titles(town.authors[1]) == ["b1", "b2", "b3"]
        session.expire(town)
        with StatementLog(library) as log:
            await session.refresh(town)
            assert len(log) == 3
        assert titles(town.authors[1]) == ["b1", "b2", "b3"]


class Branches(Base):
    """The base of a table that refers to itself."""

    __abstract__ = True
    metadata = MetaData()


class Bough(Branches):
    """Comes with those that grow from it, and with theirs."""

    __tablename__ = "branch"

    id: Mapped[int] = mapped_column(primary_key=True)
    below_id: Mapped[int | None] = mapped_column(ForeignKey("branch.id"))

    above: Mapped[list["Bough"]] = relationship(lazy="selectin", join_depth=2, order_by="Bough.id")


async def test_as_many_levels_are_loaded_as_the_mapping_says(db: Database) -> None:
    """Of a class that refers to itself (`join_depth`)."""
    await db.create_all(Branches.metadata)
    for key in range(1, 5):
        await Repository[Bough](db).add(Bough(id=key, below_id=key - 1 or None))

    async with db.transaction() as session:
        first = (await session.scalars(select(Bough).where(Bough.id == 1))).one()
    level: Bough = first
    loaded = [level.id]
    while "above" in vars(level):
        (level,) = level.above
        loaded.append(level.id)

    assert loaded == [1, 2, 3]
