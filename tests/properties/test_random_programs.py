"""Random programs do on every database what a small model of the promises says."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from sqlalchemy import URL, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.fixtures.databases import Backend
from tests.fixtures.leaks import left_in_context
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.properties.model import Promises
from tests.properties.programs import RULES, Act, Block, Catch, Raise, Step, programs
from unitwork import Database

EXAMPLES = {"sqlite": 200, "asyncpg": 80, "psycopg": 60, "mariadb": 80}


def name_of(error: BaseException) -> str:
    """The name under which both sides tell of an error."""
    if isinstance(error, DBAPIError) and not isinstance(error, IntegrityError):
        return "DBAPIError"
    return type(error).__name__


class Reality:
    """Runs a program on a database, and tells the story as the model does."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.story: list[str] = []
        self.numbers = 0

    async def run(self, program: Block) -> None:
        """Run a whole program."""
        try:
            await self.block(program)
        except BaseException as error:  # noqa: BLE001 - told
            self.story.append(f"raised {name_of(error)}")

    async def block(self, block: Block) -> None:
        """Run one block."""
        undo, keep = RULES[block.rules]
        async with self.db.transaction(
            propagation=block.propagation,
            read_only=block.read_only,
            durable=block.durable,
            rollback_for=undo,
            no_rollback_for=keep,
        ):
            await self.body(block.body)

    async def body(self, steps: tuple[Step, ...]) -> None:
        """Run one step after the other."""
        for step in steps:
            if isinstance(step, Block):
                await self.block(step)
            elif isinstance(step, Catch):
                await self.catch(step)
            elif isinstance(step, Raise):
                raise step.made()
            else:
                await self.act(step)

    async def catch(self, step: Catch) -> None:
        """Go on after an `Exception`."""
        try:
            await self.body(step.body)
        except Exception as error:  # noqa: BLE001 - told
            self.story.append(f"caught {name_of(error)}")

    async def act(self, act: Act) -> None:
        """Do one thing."""
        self.numbers += 1
        if act is Act.ROLLBACK_ONLY:
            self.db.set_rollback_only()
        elif act in (Act.ON_COMMIT, Act.ON_COMMIT_FAILING, Act.ON_ROLLBACK, Act.BEFORE_COMMIT):
            self.register(act, f"{act.name} {self.numbers}")
        else:
            await self.send(act, str(self.numbers))

    def register(self, act: Act, label: str) -> None:
        """Register a function that tells its label."""
        tell: Callable[[], None] = lambda: self.story.append(label)  # noqa: E731 - one of two

        def fail() -> None:
            self.story.append(label)
            raise ValueError(label)

        if act is Act.ON_COMMIT:
            self.db.on_commit(tell)
        elif act is Act.ON_COMMIT_FAILING:
            self.db.on_commit(fail)
        elif act is Act.ON_ROLLBACK:
            self.db.on_rollback(tell)
        else:
            self.db.before_commit(tell)

    async def send(self, act: Act, number: str) -> None:
        """Send a statement."""
        session = self.db.session
        if act is Act.INSERT:
            await session.execute(insert(Audit).values(note=number))
        elif act is Act.ADD:
            session.add(Audit(note=number))
            await session.flush()
        elif act is Act.DUPLICATE:
            session.add(Account(name="taken"))
            await session.flush()
        elif act is Act.READ:
            await session.scalars(select(Audit.note))
        else:
            await session.execute(text("SELECT * FROM nowhere"))


async def agree(db: Database, observer: Observer, program: Block) -> None:
    """Run on both, compare, and clean up."""
    model = Promises(one_writer=db.engine.dialect.name == "sqlite")
    model.run(program)
    reality = Reality(db)
    await reality.run(program)

    stored = sorted(int(note) for note in await observer.notes(Audit))
    left = left_in_context()
    held = db.pool_status().checked_out
    with suppress(Exception):
        await observer.run("DELETE FROM audit")
    assert reality.story == model.story
    assert stored == sorted(model.stored)
    assert left == {}
    assert held == 0


async def taken(observer: Observer) -> None:
    """Make the duplicate a duplicate."""
    await observer.run("DELETE FROM account")
    await observer.run("INSERT INTO account (id, name, balance) VALUES (900, 'taken', 0)")


def checked(backend: Backend) -> settings:
    """How many examples this database gets; the same ones in every run of CI."""
    return settings(
        max_examples=EXAMPLES[backend.id],
        deadline=None,
        derandomize=bool(os.environ.get("CI")),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def test_random_program_does_what_the_model_says(backend: Backend, database_url: URL) -> None:
    """Rows, exceptions and the order of hooks agree, whatever is nested in what."""
    with asyncio.Runner() as runner:
        db = Database(database_url)
        engine = create_async_engine(database_url, isolation_level="AUTOCOMMIT")
        observer = Observer(engine)
        runner.run(taken(observer))

        @checked(backend)
        @given(programs())
        def compare(program: Block) -> None:
            runner.run(agree(db, observer, program))

        try:
            compare()
        finally:
            runner.run(db.dispose())
            runner.run(engine.dispose())
