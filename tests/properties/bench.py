"""This module runs programs one after the other on private databases, and compares each with the model."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from sqlalchemy import URL, delete, event, make_url, update
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import Session

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.properties.making import program_of, smaller
from tests.properties.model import Promises, Surroundings, outcomes
from tests.properties.opened import strays, uncollected
from tests.properties.programs import Blow, Config, Program, code
from tests.properties.reality import FOREIGN, FRESH, SHARED, Reality, Side, Unclear, side_table, uses_both
from tests.properties.strikes import Counted, Hangs, MovableClock, watched
from tests.properties.world import Told, Unspecified
from unitwork import Database, UnitworkError
from unitwork.events import Event

T = TypeVar("T")

_numbers = itertools.count()


def _patience(url: URL | str) -> dict[str, Any]:
    """Options for a driver that waits by the clock of the event loop, which the programs move on."""
    waits = make_url(url).drivername == "mysql+asyncmy"
    return {"connect_args": {"connect_timeout": 3600}} if waits else {}


PATIENCE_S = 20.0
SHRINKING_S = 30.0


class OwnSession(Session):
    """A session class as programs write them for routing; here all roads lead to the same engine."""

    def get_bind(self, mapper: Any = None, **others: Any) -> Any:  # noqa: ANN401  # as SQLAlchemy
        """Choose an engine."""
        return super().get_bind(mapper, **others)


@dataclass(frozen=True)
class Verdict:
    """What was wrong with a program; nothing if `wrong` is empty."""

    program: Program
    wrong: str = ""
    skipped: bool = False

    def __str__(self) -> str:
        return f"{code(self.program)}\n\n{self.wrong}"


class Bench:
    """Two databases, and all that is needed to run programs on them. Lives: as long as a test."""

    def __init__(self, fresh: Callable[[], tuple[URL, URL]], patience_s: float = PATIENCE_S) -> None:
        self.fresh = fresh
        self.urls = fresh()
        self.patience_s = patience_s
        dialect = self.urls[0].get_backend_name()
        self.around = Surroundings(
            one_writer=dialect == "sqlite", ddl_commits=dialect in ("mysql", "mariadb")
        )
        self.reality: Reality | None = None
        self.ran = self.left_out = 0
        self._open()

    def _open(self) -> None:
        self.loop = MovableClock()
        self.engines = [create_async_engine(url, isolation_level="AUTOCOMMIT") for url in self.urls]
        self.databases: dict[tuple[Config, bool, int], Database] = {}
        self.at_first = self._strays()
        self.run(self._prepare())

    async def _prepare(self) -> None:
        self.foreign: list[Account] = []
        for engine in self.engines:
            observer = Observer(engine)
            for statement in ("DELETE FROM audit", "DELETE FROM account", side_table(engine.dialect.name)):
                await observer.run(statement)
            for key, name in ((SHARED, "taken"), (FRESH, "fresh"), (FOREIGN, "foreign")):
                await observer.run(
                    "INSERT INTO account (id, name, balance) VALUES (:id, :name, 0)", id=key, name=name
                )
            self.foreign.append(await self._foreign(engine))

    async def _foreign(self, engine: AsyncEngine) -> Account:
        self.other = getattr(self, "other", [])
        session = Session(engine.sync_engine)
        self.other.append(session)
        account = Account(id=FOREIGN, name="foreign")
        session.add(account)
        return account

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End all of it; nothing is open then."""
        self.run(self._close())
        self.run(self.loop.shutdown_asyncgens())
        left = self.run(self._left_open(self.at_first))
        self.loop.close()
        assert not left or any(error), left

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the loop of the programs."""
        return self.loop.run_until_complete(work)

    async def _close(self) -> None:
        for db in self.databases.values():
            await db.dispose()
        for engine in self.engines:
            await engine.dispose()

    def _give_up(self) -> None:
        """After a program that hangs, or that broke something: begin anew, with other databases."""
        with contextlib.suppress(BaseException):
            self.run(self._cancel_all())
        with contextlib.suppress(BaseException):
            self.run(watched(self.loop.create_task(self._close()), 2.0))
        with contextlib.suppress(BaseException):
            self.run(self._cancel_all())
        self.loop.close()
        self.urls = self.fresh()
        self._open()

    async def _cancel_all(self) -> None:
        for _ in range(3):
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.01)

    def _database(self, program: Program, on: int) -> Database:
        """The Database for a program; somebody watches it only if the program says so."""
        watched = program.strike is not None and program.strike.blow is Blow.OBSERVER
        key = (program.config, watched, on)
        if key not in self.databases:
            config = program.config
            options: dict[str, Any] = {"expire_on_commit": config.expire_on_commit}
            if config.own_session:
                options["sync_session_class"] = OwnSession
            self.databases[key] = Database(
                self.urls[on],
                name=f"db{on}-{next(_numbers)}",
                session_options=options,
                fastest_lane=config.lane,
                **_patience(self.urls[on]),
                observers=[self] if watched and on == 0 else [],
            )
        return self.databases[key]

    # -- one program ----------------------------------------------------------------------------

    def check(self, program: Program) -> Verdict:
        """Run a program, and compare."""
        try:
            list(outcomes(program, self.around))
        except Unspecified:
            return Verdict(program, skipped=True)
        try:
            databases = self._database(program, 0), self._database(program, 1)
        except UnitworkError:
            return Verdict(program, "REFUSED")
        sides = tuple(Side(databases[on], Observer(self.engines[on]), self.foreign[on]) for on in (0, 1))
        reality = self.reality = Reality((sides[0], sides[1]), program, self.loop)
        with self.listening(program, sides[0].db), uncollected():
            before = self._strays()
            wrong = self.run(self._run(reality)) or self.run(self._left_open(before))
        if wrong:
            self._give_up()
            return Verdict(program, wrong)
        differs = self._compare(program, reality)
        return Verdict(program, differs or "", skipped=differs is None)

    async def _run(self, reality: Reality) -> str:
        """Run a program; say what is wrong already without the model."""
        counted = Counted(reality.run(), reality.waited, reality.cancelled)
        reality.driver = asyncio.current_task()
        main = asyncio.create_task(counted, name="program")
        try:
            await watched(main, self.patience_s)
        except Hangs as hangs:
            return f"HANGS after {reality.story}\n{hangs}"
        except Unclear:
            return ""
        wrong = await self._settled(reality)
        return wrong or await watched(asyncio.create_task(self._clean(reality)), self.patience_s)

    async def _settled(self, reality: Reality) -> str:
        """Say what a program has left behind."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:  # drivers tidy up in tasks of their own
            _, still = await asyncio.wait(left, timeout=self.patience_s)
            if still:
                return f"LEFT RUNNING: {still}"
        if reality.left:
            return f"LEFT IN CONTEXT: {reality.left}"
        held = [side.db.pool_status().checked_out for side in reality.sides]
        held += [_checked_out(engine) for engine in self.engines]
        return f"LEFT CHECKED OUT: {held}, struck: {reality.struck}" if any(held) else ""

    def _strays(self) -> int:
        return strays([*self.engines, *(db.engine for db in self.databases.values())])

    async def _left_open(self, before: int) -> str:
        """Say how many more connections are lost than before; drivers close one a little later."""
        until = time.monotonic() + self.patience_s
        while (lost := self._strays() - before) > 0:
            if time.monotonic() > until:
                return f"LEFT OPEN: {lost} connections that are in no pool"
            await asyncio.sleep(0.001)
        return ""

    async def _clean(self, reality: Reality) -> str:
        """The next block, which starts clean; it removes what the program has stored."""
        for on, side in enumerate(reality.sides):
            if on and not uses_both(reality.program):
                continue
            block = side.db.transaction()
            try:
                async with block as session:
                    await session.execute(delete(Audit))
                    await session.execute(update(Account).where(Account.id == SHARED).values(balance=0))
            except Exception as error:  # noqa: BLE001  # told
                return f"THE NEXT BLOCK raises {error!r}"
            left = await reality.rows(on)
            if left or block.status != "committed":
                return f"THE NEXT BLOCK says {block.status}, and {left} is there"
        return ""

    def _compare(self, program: Program, reality: Reality) -> str | None:
        """Say what is not as any outcome of the model; None if the model does not say."""
        allowed: list[Promises] = []
        try:
            for promises in outcomes(program, self.around, reality.struck):
                if agrees(promises.story, reality.story):
                    return ""
                allowed.append(promises)
        except Unspecified:
            return None
        return self._difference(allowed, reality)

    def _difference(self, allowed: list[Promises], reality: Reality) -> str:
        """Say where the story leaves the promised one that it follows longest."""
        story = reality.story
        nearest = max(allowed, key=lambda each: alike(each.story, story))
        place = alike(nearest.story, story)
        promised = [" or ".join(told) for told in nearest.story]
        return "\n".join(
            [
                f"DIFFERS, struck: {reality.struck}, {len(allowed)} outcomes allowed; the nearest:",
                *(f"    {told}" for told in promised[:place]),
                f"  - promised: {promised[place] if place < len(promised) else 'the end'}",
                f"  - really:   {story[place] if place < len(story) else 'the end'}",
                f"  all that was promised: {promised[place:]}",
                f"  all that happened:     {story[place:]}",
            ]
        )

    @contextlib.contextmanager
    def listening(self, program: Program, db: Database) -> Iterator[None]:
        """Somebody listens to what happens, and raises when the program says so."""
        blow = program.strike.blow if program.strike else None
        targets: dict[Blow | None, tuple[Any, str]] = {
            Blow.AFTER_COMMIT: (Session, "after_commit"),
            Blow.BEFORE_COMMIT: (Session, "before_commit"),
            Blow.CHECKIN: (db.engine.sync_engine, "checkin"),
        }
        if blow not in targets:
            yield
            return
        target, moment = targets[blow]

        def listener(*_: object) -> None:
            if self.reality is not None and blow is not None:
                self.reality.blow(blow)

        event.listen(target, moment, listener)
        try:
            yield
        finally:
            event.remove(target, moment, listener)

    def notice(self, told: Event, /) -> None:
        """As an observer of a Database."""
        if self.reality is not None:
            self.reality.blow(Blow.OBSERVER)

    # -- many programs --------------------------------------------------------------------------

    def first_wrong(self, seeds: range, wanted: int) -> Verdict | None:
        """Run programs until so many are compared; return the first one that is wrong, made small."""
        for seed in seeds:
            if self.ran == wanted:
                break
            verdict = self.check(program_of(seed))
            self.ran += not verdict.skipped
            self.left_out += verdict.skipped
            if verdict.wrong:
                return self.shrunk(verdict)
        return None

    def shrunk(self, verdict: Verdict) -> Verdict:
        """Make a program smaller, as long as it is wrong in the same way."""
        until = time.monotonic() + SHRINKING_S
        patience_s, self.patience_s = self.patience_s, 2.0
        try:
            found = True
            while found and time.monotonic() < until:
                found = False
                for program in smaller(verdict.program):
                    tried = self.check(program)
                    if kind_of(tried) == kind_of(verdict):
                        verdict, found = tried, True
                        break
                    if time.monotonic() > until:
                        break
        finally:
            self.patience_s = patience_s
        return verdict


def _checked_out(engine: AsyncEngine) -> int:
    """How many connections are in use."""
    pool: Any = engine.pool
    return int(pool.checkedout())


def kind_of(verdict: Verdict) -> str:
    """Failures of one kind begin with the same word."""
    return verdict.wrong.split(" ", 1)[0]


def agrees(promised: list[Told], story: list[str]) -> bool:
    """Whether a story is what was promised."""
    return len(promised) == len(story) and alike(promised, story) == len(story)


def alike(promised: list[Told], story: list[str]) -> int:
    """How many lines from the beginning are as promised."""
    for number, (told, line) in enumerate(zip(promised, story, strict=False)):
        if not any(line == each or (each.endswith("*") and line.startswith(each[:-1])) for each in told):
            return number
    return min(len(promised), len(story))
