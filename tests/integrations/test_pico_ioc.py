"""pico-ioc containers: services and repositories in transactions, as their users see them."""

# mypy: disable-error-code="empty-body"
# ruff: noqa: ANN001, ANN201

import asyncio
import tomllib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pico_ioc
import pytest
from pico_ioc import DictSource, PicoContainer, component, configuration, factory, provides
from sqlalchemy import URL, RowMapping, String, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from unitwork import (
    Database,
    DatabaseChoiceError,
    DeclarationError,
    NoTransactionError,
    OptionError,
    QueryDeclarationError,
    Repository,
    TooManyRowsError,
    TransactionRefusedError,
    UnexpectedRollbackError,
)
from unitwork import query as plain_query
from unitwork.events import BlockEntered, Event
from unitwork.integrations.pico_ioc import (
    AppBase,
    DatabaseConfigurer,
    DatabaseSettings,
    Mapped,
    Page,
    PageRequest,
    SessionManager,
    Sort,
    get_session,
    init,
    mapped_column,
    query,
    repository,
    transactional,
)


class Aardvark(AppBase):
    """Named to come before `AppBase` in every list."""

    __tablename__ = "pico_aardvarks"
    id: Mapped[int] = mapped_column(primary_key=True)


class Player(AppBase):
    __tablename__ = "pico_players"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)
    age: Mapped[int] = mapped_column(default=30)


@component
class CreateTables(DatabaseConfigurer):
    def __init__(self, base: AppBase) -> None:
        self.base = base

    def configure(self, engine: AsyncEngine) -> None:
        async def create() -> None:
            async with engine.begin() as connection:
                await connection.run_sync(self.base.metadata.create_all)

        asyncio.run(create())


class Saving:
    """What several repositories inherit."""

    manager: SessionManager

    async def save(self, *players: Player) -> None:
        get_session(self.manager).add_all(players)


@repository(entity=Player)
class Players(Saving):
    def __init__(self, manager: SessionManager) -> None:
        self.manager = manager

    @query(expr="name = :name", unique=True)
    async def by_name(self, name: str) -> Player | None: ...

    @query(expr="age = :age", unique=True)
    async def the_one_aged(self, age: int) -> Player | None: ...

    @query(expr="age >= :least")
    async def aged_from(self, least: int) -> list[Player]: ...

    @query.sql("SELECT count(*) FROM pico_players")
    async def how_many(self) -> int: ...

    @query(expr="name = :name", unique=True)
    async def row_by_name(self, name):  # type: ignore[no-untyped-def]  # bare on purpose
        raise AssertionError("never run")

    @query(sql="SELECT name FROM pico_players ORDER BY name")
    async def names(self):  # type: ignore[no-untyped-def]  # bare on purpose
        """Bare on purpose."""

    @query(expr="1 = 1", paged=True)
    async def page(self, page: PageRequest) -> Page[Player]: ...

    @query(expr="1 = 1", paged=True)
    async def bare_page(self, page):  # type: ignore[no-untyped-def]  # bare on purpose
        """Bare on purpose."""

    @query.sql("SELECT name, age FROM pico_players WHERE age > :age ORDER BY name DESC", paged=True)
    async def page_of_sql(self, age: int, page: PageRequest) -> Page[dict[str, Any]]: ...

    @query.sql("SELECT * FROM pico_players ORDER BY name DESC", paged=True)
    async def page_of_entities(self, page: PageRequest) -> Page[Player]: ...

    @transactional
    @query.sql("UPDATE pico_players SET age = age + 1")
    async def grow(self) -> int: ...

    @query.sql("DELETE FROM pico_players")
    @transactional(propagation="MANDATORY")
    async def remove_all(self):  # type: ignore[no-untyped-def]  # bare on purpose
        """Bare on purpose."""

    @transactional(read_only=True)
    async def save_read_only(self, player: Player) -> None:
        await self.save(player)

    async def hold(self, player: Player, saved: asyncio.Event, go_on: asyncio.Event) -> None:
        await self.save(player)
        saved.set()
        await go_on.wait()


@component
class Club:
    """A service that holds no Database itself."""

    def __init__(self, players: Players) -> None:
        self.players = players

    @transactional
    async def join(self, name: str) -> Player:
        if await self.players.by_name(name) is not None:
            raise ValueError(name)
        await self.players.save(Player(name=name))
        found = await self.players.by_name(name)
        assert found is not None
        return found

    @transactional
    async def join_two_and_fail(self) -> None:
        await self.players.save(Player(name="one"))
        await self.players.save(Player(name="two"))
        raise LookupError

    @transactional(propagation="REQUIRES_NEW")
    async def note(self, name: str) -> None:
        await self.players.save(Player(name=name))

    @transactional
    async def note_and_fail(self) -> None:
        await self.note("noted")
        raise LookupError

    @transactional(propagation="MANDATORY")
    async def only_inside(self) -> None: ...

    @transactional(propagation="NEVER")
    async def only_outside(self) -> None: ...

    @transactional
    async def outside_inside(self) -> None:
        await self.only_outside()

    @transactional(no_rollback_for=(LookupError,))
    async def join_although(self, name: str) -> None:
        await self.players.save(Player(name=name))
        raise LookupError

    @transactional(rollback_for=(OSError,), isolation_level="SERIALIZABLE")
    async def join_unless(self, name: str, error: Exception) -> None:
        await self.players.save(Player(name=name))
        raise error

    async def plain(self, name: str) -> Player:
        return await self.join(name)


def settings(url: URL | str, **more: object) -> pico_ioc.ContextConfig:
    """The configuration of a container."""
    address = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    return configuration(DictSource({"database": {"url": address, **more}}))


def module_of(*members: Any) -> ModuleType:
    """A module that holds just these."""
    module = ModuleType("an_application")
    for member in members:
        setattr(module, member.__name__, member)
    return module


APPLICATION = module_of(CreateTables, Players, Club)
MEMORY = "sqlite+aiosqlite:///:memory:"


@pytest.fixture
async def container(database_url: URL) -> AsyncIterator[PicoContainer]:
    """The application, started inside a running event loop."""
    container = init(APPLICATION, config=settings(database_url))
    yield container
    await container.cleanup_all_async()


@pytest.fixture
def players(container: PicoContainer) -> Players:
    """Its repository."""
    return container.get(Players)


@pytest.fixture
def club(container: PicoContainer) -> Club:
    """Its service."""
    return container.get(Club)


async def names(players: Players) -> list[str]:
    """The names that are stored."""
    return [row["name"] for row in await players.names()]


# -- transactions -----------------------------------------------------------------------------


async def test_service_commits(club: Club, players: Players) -> None:
    """What a transactional method did is stored when it returns; the rule it checks holds."""
    opened = await club.join("ann")

    with pytest.raises(ValueError, match="ann"):
        await club.join("ann")
    assert opened.name == "ann"
    assert await names(players) == ["ann"]


async def test_service_rolls_back_as_a_whole(club: Club, players: Players) -> None:
    """Nothing of a method that fails is stored, and the next one starts clean."""
    with pytest.raises(LookupError):
        await club.join_two_and_fail()
    await club.join("ann")

    assert await names(players) == ["ann"]


async def test_plain_method_of_repository_is_a_transaction(players: Players) -> None:
    """A method that declares nothing, here an inherited one, commits by itself, all or nothing."""
    await players.save(Player(name="ann"), Player(name="bob"))
    with pytest.raises(IntegrityError):
        await players.save(Player(name="cyd"), Player(name="ann"))

    assert await names(players) == ["ann", "bob"]


async def test_call_on_itself_opens_its_block(club: Club, players: Players) -> None:
    """`self.note()` is REQUIRES_NEW although no proxy stands between, and survives the outer rollback."""
    with pytest.raises(LookupError):
        await club.note_and_fail()

    assert await names(players) == ["noted"]
    assert (await club.plain("ann")).name == "ann"


async def test_propagations_refuse_where_they_must(club: Club) -> None:
    """MANDATORY without a transaction and NEVER inside one are RuntimeErrors that say what is open."""
    with pytest.raises(RuntimeError, match="MANDATORY"):
        await club.only_inside()
    with pytest.raises(RuntimeError, match="NEVER"):
        await club.outside_inside()
    await club.only_outside()


async def test_rules_for_exceptions(club: Club, players: Players) -> None:
    """`no_rollback_for` commits; `rollback_for` names what rolls back."""
    with pytest.raises(LookupError):
        await club.join_although("kept")
    with pytest.raises(OSError, match="gone"):
        await club.join_unless("undone", OSError("gone"))

    assert await names(players) == ["kept"]


async def test_read_only_method_refuses_to_write(players: Players) -> None:
    """The error names the method; nothing is stored."""
    with pytest.raises(TransactionRefusedError, match="save_read_only"):
        await players.save_read_only(Player(name="ann"))

    assert await players.how_many() == 0


async def test_failed_block_leaves_nothing_open(container: PicoContainer) -> None:
    """Even while the caller keeps the exception, the next block is a new transaction that is stored."""
    manager = container.get(SessionManager)
    kept: BaseException | None = None
    try:
        async with manager.transaction() as session:
            session.add(Player(name="lost"))
            raise LookupError  # noqa: TRY301  # the frame that caught it must be alive
    except LookupError as error:
        kept = error

    assert manager.get_current_session() is None
    async with manager.transaction() as session:
        session.add(Player(name="ann"))
    assert kept is not None
    assert await names(container.get(Players)) == ["ann"]


async def test_cancelled_method_leaves_nothing(players: Players) -> None:
    """A method that is cancelled in the middle is rolled back."""
    saved = asyncio.Event()
    task = asyncio.create_task(players.hold(Player(name="lost"), saved, asyncio.Event()))
    await saved.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await names(players) == []


async def test_swallowed_failure_is_told(container: PicoContainer, club: Club, players: Players) -> None:
    """A joined method that failed cannot be committed around."""
    with pytest.raises(UnexpectedRollbackError, match="join_two_and_fail"):
        async with container.get(SessionManager).transaction():
            with pytest.raises(LookupError):
                await club.join_two_and_fail()

    assert await names(players) == []


# -- queries ----------------------------------------------------------------------------------


@pytest.fixture
async def three(players: Players) -> None:
    """Three rows."""
    await players.save(Player(name="ann", age=20), Player(name="bob", age=30), Player(name="cyd", age=30))


@pytest.mark.usefixtures("three")
async def test_annotated_query_returns_what_it_promises(players: Players) -> None:
    """Entities, a list, a number; never the first of several rows."""
    ann = await players.by_name("ann")

    assert isinstance(ann, Player)
    assert (ann.name, await players.by_name("dan"), await players.how_many()) == ("ann", None, 3)
    assert {found.name for found in await players.aged_from(30)} == {"bob", "cyd"}
    with pytest.raises(TooManyRowsError):
        await players.the_one_aged(30)


@pytest.mark.usefixtures("three")
async def test_bare_query_returns_mappings(players: Players) -> None:
    """Without an annotation the rows are SQLAlchemy's own, read by name."""
    row = await players.row_by_name("ann")
    page = await players.bare_page(PageRequest(page=0, size=2, sorts=[Sort("name", "DESC")]))

    assert isinstance(row, RowMapping)
    assert (row["name"], row["age"], await players.row_by_name("dan")) == ("ann", 20, None)
    assert [found["name"] for found in page.content] == ["cyd", "bob"]
    assert await names(players) == ["ann", "bob", "cyd"]


@pytest.mark.usefixtures("three")
async def test_page_is_sorted_and_counted(players: Players) -> None:
    """A page knows its place; a sort that is no attribute is a ValueError."""
    sorts = [Sort("age", "DESC"), Sort("name")]
    page = await players.page(PageRequest(page=0, size=2, sorts=sorts))

    assert [found.name for found in page.content] == ["bob", "cyd"]
    assert (page.total_elements, page.total_pages, page.is_first, page.is_last) == (3, 2, True, False)
    with pytest.raises(TypeError, match="PageRequest"):
        await players.bare_page(1)
    with pytest.raises(ValueError, match="sort field"):
        await players.page(PageRequest(sorts=[Sort("name; DROP TABLE pico_players")]))


@pytest.mark.usefixtures("three")
async def test_page_of_sql_keeps_the_order_of_its_text(players: Players) -> None:
    """Rows or entities, counted; the text says the order, so a sort is refused."""
    rows = await players.page_of_sql(20, PageRequest(page=1, size=1))
    entities = await players.page_of_entities(PageRequest(page=0, size=2, count=False))

    assert (rows.content, rows.total_elements, rows.has_more) == ([{"name": "bob", "age": 30}], 2, False)
    assert [found.name for found in entities.content] == ["cyd", "bob"]
    assert (entities.total_elements, entities.has_more) == (None, True)
    with pytest.raises(ValueError, match="ORDER BY"):
        await players.page_of_entities(PageRequest(sorts=[Sort("name")]))


@pytest.mark.usefixtures("three")
async def test_query_that_changes_rows_says_transactional(container: PicoContainer, players: Players) -> None:
    """Above or below `@query`, `@transactional` makes its block read-write."""
    assert await players.grow() == 3
    with pytest.raises(RuntimeError, match="MANDATORY"):
        await players.remove_all()
    async with container.get(SessionManager).transaction():
        assert await players.remove_all() == 3

    assert await players.how_many() == 0


async def test_query_runs_in_a_read_only_block(players: Players) -> None:
    """Joined or alone; a plain method's block is read-write."""
    blocks: list[tuple[str, bool]] = []

    class Reader:
        def notice(self, event: Event) -> None:
            if isinstance(event, BlockEntered):
                blocks.append((event.name.rpartition(".")[2], event.read_only))

    players.manager.observe(Reader())

    await players.save()
    await players.how_many()
    await players.page(PageRequest())

    assert blocks == [("save", False), ("how_many", True), ("page", True)]


@pytest.mark.only("postgresql", reason="a SELECT that writes")
async def test_query_is_read_only_for_the_database(players: Players) -> None:
    """What its words do not tell, the database refuses."""
    await players.manager.create_all(AppBase)

    @repository
    class Sly:
        def __init__(self, manager: SessionManager) -> None:
            self.manager = manager

        @query.sql("SELECT nextval('pico_players_id_seq')")
        async def next(self) -> int: ...

    with pytest.raises(DBAPIError, match="read-only"):
        await Sly(players.manager).next()


def test_wrong_queries_are_refused_at_import() -> None:
    """Each says what to write instead."""
    with pytest.raises(QueryDeclarationError, match="add `@transactional`"):

        @repository
        class Changing:
            @query.sql("DELETE FROM pico_players")
            async def clear(self) -> int: ...

    with pytest.raises(QueryDeclarationError, match="needs an entity"):

        @repository
        class WithoutEntity:
            @query(expr="name = :name")
            async def by_name(self, name: str) -> Player | None: ...

    with pytest.raises(TypeError, match="PageRequest"):

        @repository(entity=Player)
        class WithoutRequest:
            @query(expr="1 = 1", paged=True)
            async def page(self) -> Page[Player]: ...

    with pytest.raises(QueryDeclarationError, match="promises a page"):

        @repository(entity=Player)
        class NoPage:
            @query.sql("SELECT * FROM pico_players", paged=True)
            async def page(self) -> list[Player]: ...

    with pytest.raises(DeclarationError, match="async def"):

        @repository(entity=Player)
        class OtherQuery:
            @transactional
            @plain_query("name = :name")
            async def by_name(self, name: str) -> Player | None: ...

    with pytest.raises(ValueError, match="not both"):
        query(expr="1 = 1", sql="SELECT 1")
    with pytest.raises(ValueError, match="propagation"):
        transactional(propagation="SOMETIMES")  # type: ignore[call-overload]  # refused


# -- the container ----------------------------------------------------------------------------


async def test_handle_is_given_out_under_three_names(container: PicoContainer) -> None:
    """`SessionManager`, `Database` and what a repository holds are one; `AppBase` is the class itself."""
    manager = container.get(SessionManager)

    assert container.get(Database) is manager
    assert container.get(Players).manager is manager
    base: object = container.get(AppBase)
    assert base is AppBase


async def test_base_is_given_out_next_to_its_models(database_url: URL) -> None:
    """A model in a scanned module is no component, whatever its name."""
    container = init(module_of(Aardvark, Player, AppBase, CreateTables), config=settings(database_url))

    base: object = container.get(CreateTables).base
    assert base is AppBase
    await container.cleanup_all_async()


async def test_manager_offers_its_sessions(container: PicoContainer) -> None:
    """The ambient session, none outside, and sessions of one's own."""
    manager = container.get(SessionManager)
    assert manager.get_current_session() is None
    with pytest.raises(NoTransactionError):
        get_session(manager)

    async with manager.transaction("REQUIRES_NEW", isolation_level="SERIALIZABLE") as outer:
        async with manager.transaction(propagation="MANDATORY") as inner:
            assert inner is outer is manager.get_current_session() is get_session(manager)
    async with manager.create_session() as own:
        own.add(Player(name="ann"))
        await own.commit()

    assert await names(container.get(Players)) == ["ann"]
    with pytest.raises(OptionError, match="not both"):
        manager.transaction(isolation="SERIALIZABLE", isolation_level="SERIALIZABLE")


async def test_published_module_name_means_this_integration(database_url: URL) -> None:
    """`init` takes a list with "pico_sqlalchemy", or the name of one module; pico-ioc's own works too."""
    config = settings(database_url)
    ours = "unitwork.integrations.pico_ioc"
    started = (
        init(modules=["pico_sqlalchemy", APPLICATION], config=config),
        init(APPLICATION, config=config),
        pico_ioc.init([ours, APPLICATION], config=config),
    )

    for number, container in enumerate(started):
        await container.get(Club).join(f"player {number}")
        await container.ashutdown()


def test_entry_point_names_this_integration() -> None:
    """pico-boot finds it without being told."""
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"]

    assert "unitwork.integrations.pico_ioc" in project["entry-points"]["pico_boot.modules"].values()


async def test_cleanup_closes_the_connections_twice_without_harm(container: PicoContainer) -> None:
    """After the end nothing is connected; the end may come again."""
    manager = container.get(SessionManager)
    await container.get(Players).how_many()

    await container.cleanup_all_async()
    await container.ashutdown()

    assert manager.pool_status().checked_out == 0
    assert manager.pool_status().idle == 0


def test_cleanup_without_event_loop(database_url: URL) -> None:
    """A program that is not async may start and end a container."""
    container = init(APPLICATION, config=settings(database_url))
    asyncio.run(container.get(Club).join("ann"))

    container.cleanup_all()
    container.shutdown()


async def test_missing_setting_is_one_clear_error() -> None:
    """It names the setting, and what to write."""
    for config in (
        None,
        configuration(DictSource({})),
        configuration(DictSource({"database": {"echo": False}})),
    ):
        with pytest.raises(DeclarationError, match=r"no `database.url`(.|\n)*DictSource"):
            init(APPLICATION, config=config)


async def test_application_provides_its_own_manager(database_url: URL) -> None:
    """Then no setting is needed; so it is with one that a test passes as an override."""

    @provides(SessionManager)
    def manager() -> SessionManager:
        return SessionManager(database_url, connect_args={})

    provided = init(module_of(CreateTables, Players, Club, manager))
    overridden = init(APPLICATION, overrides={SessionManager: SessionManager(database_url)})

    await provided.get(Club).join("ann")
    await overridden.get(Club).join("bob")

    assert await names(provided.get(Players)) == ["ann", "bob"]
    await provided.cleanup_all_async()
    await overridden.cleanup_all_async()


def test_settings_do_not_show_the_url() -> None:
    """A log that prints them tells no password."""
    assert "secret" not in repr(DatabaseSettings(url="postgresql+asyncpg://app:secret@db/shop"))


@pytest.mark.parametrize("options", [{"lazy": True}, {"scope": "prototype"}], ids=["lazy", "prototype"])
async def test_components_of_all_kinds_find_their_container(
    database_url: URL, options: dict[str, Any]
) -> None:
    """Lazy ones and those made for each use, while another container lives in the process."""

    @component(**options)
    class Lone:
        @transactional
        async def session_of(self, manager: SessionManager) -> object:
            return manager.get_current_session()

    other = init([], config=settings(MEMORY))
    container = init(module_of(Lone), config=settings(database_url))

    assert await container.get(Lone).session_of(container.get(SessionManager)) is not None
    assert await container.get(Lone).session_of(other.get(SessionManager)) is None
    await other.cleanup_all_async()
    await container.cleanup_all_async()


# -- repositories of unitwork -----------------------------------------------------------------


@repository
class Roster(Repository[Player]):
    @query(expr="name = :name", unique=True)
    async def by_name(self, name: str) -> Player | None: ...

    async def enlist(self, *names: str) -> int:
        await self.add_all([Player(name=name) for name in names])
        return await self.count()


async def test_repository_of_unitwork_is_a_component(database_url: URL) -> None:
    """`Repository[Model]` gets the Database of its container, with two of them alive."""
    other = init([], config=settings(MEMORY))
    container = init(module_of(CreateTables, Roster), config=settings(database_url))
    roster = container.get(Roster)

    assert await roster.enlist("ann", "bob") == 2
    assert await roster.count() == 2
    assert (await roster.get_one((await roster.by_name("ann") or Player()).id)).name == "ann"
    await other.cleanup_all_async()
    await container.cleanup_all_async()


# -- several containers, several databases ----------------------------------------------------


async def test_two_containers_do_not_meet(database_url: URL, tmp_path: Path) -> None:
    """Calls at the same time, in one process, go each to the database of its container."""
    here = init(APPLICATION, config=settings(database_url))
    there = init(APPLICATION, config=settings(f"sqlite+aiosqlite:///{tmp_path / 'there.db'}"))

    await asyncio.gather(
        *(
            container.get(Club).plain(f"{place} {number}")
            for number in range(8)
            for place, container in (("here", here), ("there", there))
        )
    )

    assert await names(here.get(Players)) == [f"here {number}" for number in range(8)]
    assert await names(there.get(Players)) == [f"there {number}" for number in range(8)]
    await here.cleanup_all_async()
    await there.cleanup_all_async()


class Reports(SessionManager):
    """The second database of an application."""


def second_database(path: Path) -> Callable[..., Any]:
    """A factory that provides it."""

    @factory
    class Second:
        @provides(Reports)
        def reports(self) -> Reports:
            return Reports(f"sqlite+aiosqlite:///{path}", name="reports")

    return Second


@component
class CreateReports:
    """Holds the second database, so it prepares that."""

    def __init__(self, manager: Reports) -> None:
        self.manager = manager

    async def configure_database(self, engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await connection.run_sync(AppBase.metadata.create_all)


@repository(entity=Player)
class ReportedPlayers(Saving):
    def __init__(self, manager: Reports) -> None:
        self.manager = manager

    @query.sql("SELECT count(*) FROM pico_players")
    async def how_many(self) -> int: ...


@component
class Reporter:
    def __init__(self, players: Players, reported: ReportedPlayers) -> None:
        self.players = players
        self.reported = reported

    @transactional
    @transactional(using=Reports)
    async def both(self, name: str) -> None:
        await self.players.save(Player(name=name))
        await self.reported.save(Player(name=name))

    @transactional(using="reports")
    async def report_and_fail(self, name: str) -> None:
        await self.players.save(Player(name=name))
        await self.reported.save(Player(name=name))
        raise LookupError


async def test_several_databases_in_one_container(database_url: URL, tmp_path: Path) -> None:
    """A repository uses the one that it holds; `using=` chooses for a service."""
    second = second_database(tmp_path / "reports.db")
    application = module_of(CreateTables, Players, second, CreateReports, ReportedPlayers, Reporter)
    container = init(application, config=settings(database_url))
    reporter = container.get(Reporter)

    await reporter.both("ann")
    with pytest.raises(LookupError):
        await reporter.report_and_fail("bob")

    assert await container.get(ReportedPlayers).how_many() == 1
    assert await names(container.get(Players)) == ["ann", "bob"]
    assert container.get(Database) is container.get(SessionManager) is not container.get(Reports)
    await container.cleanup_all_async()


async def test_object_with_several_databases_outside_of_a_container() -> None:
    """Nobody can know which is meant; the error tells the ways to say it."""

    class Torn:
        def __init__(self) -> None:
            self.first = SessionManager(MEMORY, name="first")
            self.second = SessionManager(MEMORY, name="second")

        @transactional
        async def work(self) -> None: ...

        @transactional(using=SessionManager)
        async def chosen(self) -> None: ...

    with pytest.raises(DatabaseChoiceError, match="`using=`"):
        await Torn().work()
    with pytest.raises(DatabaseChoiceError, match="needs a component"):
        await Torn().chosen()


async def test_component_is_tested_without_a_container(database_url: URL) -> None:
    """By hand it is an ordinary object."""
    manager = SessionManager(database_url)
    await manager.create_all(AppBase)
    players = Players(manager)

    await players.save(Player(name="ann"))

    async with manager.transaction(read_only=True) as session:
        assert list(await session.scalars(select(Player.name))) == ["ann"]
    await manager.dispose()
