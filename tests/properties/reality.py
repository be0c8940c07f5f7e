"""This module runs a program on real databases, and tells the story as the model does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.util import await_only

from tests.fixtures.leaks import left_in_context
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.properties.model import Struck
from tests.properties.programs import (
    RULES,
    Act,
    Begun,
    Block,
    Blow,
    Catch,
    Do,
    Early,
    FreshRead,
    Hook,
    Program,
    Raise,
    Savepoint,
    Spawn,
    Step,
    Unit,
    steps_in,
)
from tests.properties.strikes import LIMIT_S, MovableClock
from unitwork import Database, Repository, RetryPolicy, UnitworkError

SHARED, FRESH, FOREIGN = 900, 901, 902
"""The accounts that are always there."""


class StruckError(Exception):
    """What an observer or a listener raises."""


class Unclear(Exception):  # noqa: N818  # what it is
    """A blow fell where nobody can say in which operation."""


class Deadlock(Exception):  # noqa: N818  # a driver's
    """As the drivers tell of it."""

    sqlstate, sqlite_errorname = "40001", "SQLITE_BUSY"


def name_of(error: BaseException) -> str:
    """The name under which both sides tell of an error."""
    if isinstance(error, DBAPIError) and not isinstance(error, IntegrityError):
        return "DBAPIError"
    return "Struck" if isinstance(error, StruckError) else type(error).__name__


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two Databases, and who looks at it from outside."""

    db: Database
    observer: Observer
    foreign: Account
    """An entity that another session holds."""


@dataclass(eq=False)
class Place:
    """Where code runs, as in the model."""

    task: int = 0
    attempts: tuple[tuple[int, int], ...] = ()
    captured: AsyncSession | None = None
    """In a function that waits for an end: the session that it was registered in."""
    pausing: Pausing | None = None
    given: AsyncSession | None = None
    """In a task: the session that it was started with."""


@dataclass(eq=False)
class Pausing:
    """A task that can pause."""

    paused: asyncio.Event = field(default_factory=asyncio.Event)
    resumed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    async def pause(self) -> None:
        """Stop until somebody says so."""
        self.resumed.clear()
        self.paused.set()
        await self.resumed.wait()

    async def stopped(self) -> bool:
        """Wait until it pauses; say whether it has ended instead."""
        if self.task is None:
            raise RuntimeError("not started")
        pause = asyncio.ensure_future(self.paused.wait())
        try:
            await asyncio.wait({self.task, pause}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
        self.paused.clear()
        return self.task.done()


class Reality:
    """Runs one program."""

    def __init__(self, sides: tuple[Side, Side], program: Program, loop: MovableClock) -> None:
        self.sides = sides
        self.program = program
        self.loop = loop
        self.story: list[str] = []
        self.operations = 0
        self.running: int | None = None
        self.waits = 0
        self.struck: Struck | None = None
        self.main: asyncio.Task[None] | None = None
        self.driver: asyncio.Task[Any] | None = None
        self.tasks: deque[Pausing] = deque()
        self.started: list[Pausing] = []
        self.left: dict[str, object] = {}

    # -- blows ----------------------------------------------------------------------------------

    def waited(self) -> None:
        """Strike at the await that the program says."""
        strike = self.program.strike
        if strike is None or self.running is None or not strike.blow.interrupts:
            return
        self.waits += 1
        if self.waits != strike.at or self.struck is not None:
            return
        if strike.blow is Blow.DEADLINE:
            self.loop.let_time_pass()
        elif strike.blow is Blow.CANCEL and self.main is not None:
            self.main.cancel()
        elif strike.blow is Blow.CANCEL_ALL:
            for task in asyncio.all_tasks() - {self.driver, *(each.task for each in self.started)}:
                task.cancel()

    def cancelled(self) -> None:
        """Remember where the first blow has struck."""
        strike = self.program.strike
        if self.struck is None and strike is not None and strike.blow.interrupts:
            if self.running is None:
                raise Unclear
            self.struck = Struck(strike.blow, self.running)

    def blow(self, kind: Blow) -> None:
        """Called by observers and listeners: raise when it is time."""
        strike = self.program.strike
        if strike is None or strike.blow is not kind or self.running is None or self.struck is not None:
            return
        self.waits += 1
        if self.waits == strike.at:
            self.struck = Struck(kind, self.running)
            raise StruckError(kind.value)

    # -- the program ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Run a whole program, one outermost step after the other; each may raise."""
        self.main = asyncio.current_task()
        for step in self.program.body:
            place = Place()
            try:
                await self.step(place, step)
            except BaseException as error:  # noqa: BLE001  # told
                self.story.append(f"raised {name_of(error)}")
            self.running = None
            await self.look()
        while self.tasks:
            await self.resume()
        self.left = left_in_context()

    def operation(self, place: Place, *, strikable: bool = True) -> int:
        """Begin the next operation."""
        self.operations += 1
        if not place.task:
            self.running = self.operations if strikable else None
        return self.operations

    def db(self, step: Any) -> Database:  # noqa: ANN401  # any step that has one
        """The Database that a step means."""
        return self.sides[step.on].db

    async def look(self, on: int | None = None) -> None:
        """What a second connection sees."""
        seen = [await self.rows(each) for each in ((0, 1) if on is None else (on,))]
        self.story.append(f"seen {seen}")

    async def rows(self, on: int) -> list[int]:
        """The rows that are stored, and at the end minus the number that was set last."""
        if on and not uses_both(self.program):
            return []
        observer = self.sides[on].observer
        rows = sorted(int(note) for note in await observer.column("SELECT note FROM audit"))
        value = await observer.scalar("SELECT balance FROM account WHERE id = :id", id=SHARED)
        return [*rows, -value] if value else rows

    async def body(self, place: Place, steps: tuple[Step, ...]) -> None:
        """Run one step after the other."""
        for step in steps:
            await self.step(place, step)

    async def step(self, place: Place, step: Step) -> None:  # noqa: C901  # one branch for each kind
        """Run one step."""
        if isinstance(step, Do):
            await self.act(place, step)
        elif isinstance(step, Raise):
            raise step.made()
        elif isinstance(step, Catch):
            await self.catch(place, step)
        elif isinstance(step, Block):
            await (self.retrying(place, step) if step.attempts else self.block(place, step))
        elif isinstance(step, Unit):
            await self.inside(place, self.db(step).unit_of_work(atomic=step.atomic), step.body)
        elif isinstance(step, Savepoint):
            self.operation(place)
            session = (place.given if step.on == 0 else None) or self.db(step).session
            await self.inside(place, session.begin_nested(), step.body)
        elif isinstance(step, Begun):
            self.operation(place)
            await self.inside(place, self.db(step).session.begin(), step.body)
        elif isinstance(step, Hook):
            self.hook(place, step)
        elif isinstance(step, Spawn):
            await self.spawn(place, step)
        elif isinstance(step, Early):
            await self.early(place, step)
        else:
            await self.fresh_read(place, step)

    async def catch(self, place: Place, step: Catch) -> None:
        """Go on after an `Exception`."""
        try:
            await self.body(place, step.body)
        except Exception as error:  # noqa: BLE001  # told
            self.story.append(f"caught {name_of(error)}")

    async def inside(
        self,
        place: Place,
        around: AbstractAsyncContextManager[object],
        body: tuple[Step, ...],
        left: Callable[[], None] = lambda: None,
    ) -> None:
        """As `async with around:`, counting its end as an operation."""
        await around.__aenter__()
        error: BaseException | None = None
        try:
            await self.body(place, body)
        except BaseException as raised:  # noqa: BLE001  # raised again below
            error = raised
        self.operation(place)
        try:
            swallowed = await around.__aexit__(
                type(error) if error else None, error, error.__traceback__ if error else None
            )
        finally:
            left()
        if error is not None and not swallowed:
            raise error

    # -- tasks ----------------------------------------------------------------------------------

    async def spawn(self, place: Place, step: Spawn) -> None:
        """Start a task; go on when it pauses or ends."""
        number = self.operation(place, strikable=False)
        pausing = Pausing()
        inner = Place(
            number, place.attempts, place.captured, pausing, self.captured() if step.given else None
        )
        pausing.task = asyncio.create_task(self.task(inner, step.body), name=f"task {number}")
        self.started.append(pausing)
        if not await pausing.stopped():
            self.tasks.append(pausing)

    async def task(self, place: Place, body: tuple[Step, ...]) -> None:
        """What a task does; how it ends is told."""
        try:
            await self.body(place, body)
            self.story.append(f"task {place.task} returned")
        except BaseException as error:  # noqa: BLE001  # told
            self.story.append(f"task {place.task} raised {name_of(error)}")

    async def resume(self) -> None:
        """Let the task go on that has paused longest, and wait for it."""
        if self.tasks:
            pausing = self.tasks.popleft()
            pausing.resumed.set()
            if not await pausing.stopped():
                self.tasks.append(pausing)

    # -- blocks ---------------------------------------------------------------------------------

    def options(self, block: Block) -> dict[str, Any]:
        """The options of a block."""
        undo, keep = RULES[block.rules]
        return {
            "propagation": block.propagation,
            "read_only": block.read_only,
            "durable": block.durable,
            "timeout": LIMIT_S if block.limited else None,
            "rollback_for": undo,
            "no_rollback_for": keep,
        }

    async def block(self, place: Place, step: Block) -> None:
        """Run one block."""
        number = self.operation(place)
        block = self.db(step).transaction(**self.options(step))
        await self.inside(
            replace(place, captured=None, given=None),
            block,
            step.body,
            lambda: self.story.append(f"block {number}: {block.status}"),
        )

    async def retrying(self, place: Place, step: Block) -> None:
        """Call a decorated function."""
        attempts = 0

        async def function() -> None:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                self.operation(place)
            inner = replace(
                place, captured=None, given=None, attempts=(*place.attempts, (attempts, step.conflicts))
            )
            try:
                await self.body(inner, step.body)
            finally:
                self.operation(place)

        self.operation(place)
        policy = RetryPolicy(attempts=step.attempts, first_delay_s=0)
        await self.db(step).transactional(retry=policy, **self.options(step))(function)()

    async def early(self, place: Place, step: Early) -> None:
        """Iterate over a generator, and leave it with the first value."""
        finalised = asyncio.Event()
        generator = self.generator(place, step, finalised)
        if step.closed:
            async with aclosing(generator):
                async for _ in generator:
                    await self.body(place, step.body)
                    break
        else:
            # The loop finalises it, once nobody holds it any more.
            await generator.__anext__()
            del generator
            await finalised.wait()

    async def generator(self, place: Place, step: Early, finalised: asyncio.Event) -> AsyncGenerator[int]:
        """An async generator with a block around its `yield`."""
        self.operation(place, strikable=False)
        try:
            block = self.db(step).transaction(propagation=step.propagation, read_only=step.read_only)
            async with block as session:
                try:
                    if step.writes:
                        await session.execute(insert(Audit).values(note="0"))
                    for number in range(3):
                        yield number
                finally:
                    self.operation(place, strikable=False)
        finally:
            finalised.set()

    # -- hooks ----------------------------------------------------------------------------------

    def hook(self, place: Place, hook: Hook) -> None:
        """Register a function that tells its label, fails, or does more."""
        number = self.operation(place)
        label = f"{hook.moment} {number}"
        db = self.db(hook)

        def plain() -> None:
            self.story.append(label)
            if hook.fails:
                raise ValueError(label)

        if not hook.body:
            getattr(db, hook.moment)(plain)
            return
        inner = Place(place.task, (), self.captured() if hook.on == 0 else None, place.pausing)

        async def more() -> None:
            self.story.append(label)
            around = self.running
            await self.body(inner, hook.body)
            if hook.moment == "before_commit" and not place.task:
                self.running = around  # what follows is the end of the block again

        getattr(db, hook.moment)(more)

    def captured(self) -> AsyncSession | None:
        """The session of the first Database here, if there is one."""
        try:
            return self.sides[0].db.session
        except UnitworkError:
            return None

    # -- acts -----------------------------------------------------------------------------------

    async def act(self, place: Place, step: Do) -> None:  # noqa: C901, PLR0912  # one for each act
        """Do one thing."""
        act = step.act
        number = self.operation(place, strikable=act not in (Act.RESUME, Act.LOOK, Act.HELD))
        if act is Act.PAUSE:
            if place.pausing is not None:
                await place.pausing.pause()
        elif act is Act.RESUME:
            await self.resume()
        elif act is Act.LOOK:
            await self.look(step.on)
        elif act is Act.HELD:
            self.story.append(f"holds {self.db(step).pool_status().checked_out}")
        elif act is Act.TIME_PASSES:
            self.loop.let_time_pass()
            for _ in range(5):
                await asyncio.sleep(0)
        elif act is Act.CONFLICT:
            if not place.attempts or place.attempts[-1][0] <= place.attempts[-1][1]:
                raise DBAPIError("UPDATE elsewhere", {}, Deadlock(1213, "deadlock"))
        elif act is Act.ROLLBACK_ONLY:
            self.db(step).set_rollback_only()
        elif act.name.startswith("REPOSITORY") or act is Act.ENTITY:
            await self.repository(act, self.db(step), str(number))
        elif act in (Act.COMMIT, Act.ROLLBACK, Act.CLOSE):
            await getattr(self.db(step), act.name.lower())()
        else:
            await self.send(place, step, number)

    async def repository(self, act: Act, db: Database, note: str) -> None:
        """Call a repository."""
        audits = Repository[Audit](db)
        if act is Act.REPOSITORY_ADD:
            await audits.add(Audit(note=note))
        elif act is Act.REPOSITORY_ADD_ALL:
            await audits.add_all([Audit(note=note)])
        elif act is Act.REPOSITORY_CREATE:
            await audits.create(note=note)
        elif act is Act.REPOSITORY_READ:
            await audits.all()
        else:
            self.story.append(f"entity {(await Repository[Account](db).get_one(SHARED)).name}")

    async def send(self, place: Place, step: Do, number: int) -> None:
        """Use the session."""
        captured = place.captured if step.act is Act.READ else None
        known = captured or place.given if step.on == 0 else None
        session = known or self.db(step).session
        way = WAYS.get(step.act)
        if way is not None:
            await way(session, str(number))
        elif step.act is Act.CHANGE:
            account = await session.get(Account, SHARED)
            if account is not None:
                account.balance = number
        elif step.act is Act.DDL:
            await session.execute(text(side_table(self.db(step).engine.dialect.name)))
        elif step.act is Act.FOREIGN_ADD:
            session.add(self.sides[step.on].foreign)
        elif step.act is Act.PAUSE_INSIDE and place.pausing is not None:
            pausing = place.pausing

            def pause(session: Any) -> None:  # noqa: ANN401  # a session
                session.execute(select(1))
                await_only(pausing.pause())

            await session.run_sync(pause)

    async def fresh_read(self, place: Place, step: FreshRead) -> None:
        """Read a row, let somebody change it, and read it in a SERIALIZABLE block with retry."""
        number = self.operation(place, strikable=False)
        db, accounts = self.db(step), Repository[Account](self.db(step))

        @db.transactional(isolation="SERIALIZABLE", retry=3)
        async def again() -> int:
            return (await accounts.get_one(FRESH)).balance

        known = await accounts.get_one(FRESH)
        await self.sides[step.on].observer.run(
            "UPDATE account SET balance = :number WHERE id = :id", number=number, id=FRESH
        )
        self.story.append(f"fresh {await again()}")
        del known  # the session has held it until now


async def _flush(session: AsyncSession, entity: object) -> None:
    session.add(entity)
    await session.flush()


async def _lazy(session: AsyncSession, _: str) -> None:
    account = await session.get(Account, SHARED)
    if account is not None:
        await account.awaitable_attrs.orders


def side_table(dialect: str) -> str:
    """DDL without a warning: the table is there already."""
    kind = "CREATE OR REPLACE TABLE" if dialect == "mysql" else "CREATE TABLE IF NOT EXISTS"
    return f"{kind} side (a INTEGER)"


async def _pending(session: AsyncSession, note: str) -> None:
    session.add(Audit(note=note))


async def _on_connection(session: AsyncSession, note: str) -> None:
    await (await session.connection()).execute(insert(Audit).values(note=note))


def _of_transaction(session: Any, note: str) -> None:  # noqa: ANN401  # a session
    transaction = session.get_transaction()
    if transaction is None:
        session.connection()
        transaction = session.get_transaction()
    transaction.connection(Audit.__mapper__).execute(insert(Audit).values(note=note))


WAYS: dict[Act, Callable[[AsyncSession, str], Awaitable[object]]] = {
    Act.INSERT: lambda session, note: session.execute(insert(Audit).values(note=note)),
    Act.TEXT: lambda session, note: session.execute(text(f"insert into audit (note) values ('{note}')")),
    Act.FLUSH: lambda session, note: _flush(session, Audit(note=note)),
    Act.BULK_SAVE: lambda session, note: session.run_sync(lambda s: s.bulk_save_objects([Audit(note=note)])),
    Act.BULK_MAPPINGS: lambda session, note: session.run_sync(
        lambda s: s.bulk_insert_mappings(Audit, [{"note": note}])
    ),
    Act.CONNECTION: _on_connection,
    Act.CONNECTION_OF_TRANSACTION: lambda session, note: session.run_sync(lambda s: _of_transaction(s, note)),
    Act.PENDING: _pending,
    Act.READ: lambda session, _: session.scalars(select(Audit.note)),
    Act.DUPLICATE: lambda session, _: _flush(session, Account(name="taken")),
    Act.NONSENSE: lambda session, _: session.execute(text("SELECT * FROM nowhere")),
    Act.LAZY: _lazy,
    Act.SESSION_COMMIT: lambda session, _: session.commit(),
    Act.SESSION_ROLLBACK: lambda session, _: session.rollback(),
}


def uses_both(program: Program) -> bool:
    """Whether a program needs the second Database."""
    return any(getattr(step, "on", 0) for step in steps_in(program))
