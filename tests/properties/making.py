"""This module makes a random program from a seed, and smaller ones from one that fails."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from tests.fixtures.errors import ShopError, StockError
from tests.properties.programs import (
    ATOMIC_UNITS,
    BY_HAND,
    REPOSITORY_WRITES,
    RULES,
    WRITES,
    Act,
    Begun,
    Block,
    Blow,
    Catch,
    Config,
    Do,
    Early,
    FreshRead,
    Hook,
    Program,
    Raise,
    Savepoint,
    Spawn,
    Step,
    Stop,
    Strike,
    Unit,
    body_of,
    with_body,
)
from unitwork import NoRowError, Propagation
from unitwork.options import Lane

P = Propagation
USUAL = (P.REQUIRED, P.NESTED, P.REQUIRES_NEW)
MOMENTS = ("on_commit", "on_commit", "on_rollback", "before_commit")


class Maker:
    """Makes one program. Each has a taste of its own, so that what belongs together comes together."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311  # the same program for the same seed
        tastes = (
            "units",
            "tasks",
            "savepoints",
            "hooks",
            "databases",
            "retries",
            "generators",
            "ways",
            "time",
        )
        self.tastes = set(self.random.sample(tastes, self.random.randint(1, 3)))
        self.left = self.random.randint(3, 14)
        self.in_hook = False

    def program(self) -> Program:
        """The program of this seed."""
        body: list[Step] = []
        while self.left > 0:
            body.append(self.outermost())
        config, strike = self.config(), self.strike()
        timed = any(isinstance(step, Do) and step.act is Act.TIME_PASSES for step in steps_of(body))
        return Program(self.seed, config, None if timed else strike, tuple(body))

    def likes(self, taste: str, much: float, little: float = 0.03) -> bool:
        """Whether the program does a thing now: often if it is to its taste."""
        if taste == "tasks" and self.in_hook:
            return False
        return self.random.random() < (much if taste in self.tastes else little)

    def on(self) -> int:
        """One of the Databases."""
        return int(self.likes("databases", 0.4, 0.0))

    def config(self) -> Config:
        """Few, since each is a Database that is kept."""
        lane = self.random.choice([Lane.DRIVER, Lane.DRIVER, Lane.FUSED, Lane.SESSION])
        return Config(lane, self.random.random() < 0.2, self.random.random() < 0.1)

    def strike(self) -> Strike | None:
        """A blow in every third program."""
        if self.random.random() > 0.4:
            return None
        blows = [Blow.CANCEL] * 4 + [Blow.CANCEL_ALL] * 2 + [Blow.DEADLINE] * 3
        blows += [Blow.OBSERVER, Blow.AFTER_COMMIT, Blow.AFTER_COMMIT, Blow.BEFORE_COMMIT, Blow.CHECKIN]
        blow = self.random.choice(blows)
        waits = blow.interrupts
        return Strike(blow, self.random.randint(1, 40) if waits else self.random.randint(1, 3))

    # -- steps ------------------------------------------------------------------------------------

    def outermost(self) -> Step:
        """A step where nothing is open."""
        self.left -= 1
        if self.likes("units", 0.8, 0.1):
            atomic = ATOMIC_UNITS and self.random.random() < 0.6
            return Unit(self.on(), atomic, (*self.phrase(unit=True), *self.body(1, unit=True)))
        if self.random.random() < 0.2:
            return Catch((self.block(1),))
        if self.random.random() < 0.1:
            return Do(self.random.choice([*REPOSITORY_WRITES, Act.REPOSITORY_READ, Act.ENTITY]), self.on())
        if self.likes("generators", 0.2, 0.01):
            return self.early(1)
        return self.block(1)

    def body(self, depth: int, *, unit: bool = False, task: bool = False) -> tuple[Step, ...]:
        """What is inside a block, a unit or a task."""
        count = self.random.randint(1, 5)
        return tuple(self.step(depth, unit=unit, task=task) for _ in range(count) if self.left > 0)

    def step(self, depth: int, *, unit: bool, task: bool) -> Step:  # noqa: PLR0911  # one for each kind
        """Something inside."""
        self.left -= 1
        if depth < 5 and self.random.random() < 0.35:
            return self.around(depth, unit=unit, task=task)
        if self.likes("hooks", 0.3, 0.06):
            return self.hook(depth)
        if self.random.random() < 0.1:
            return Raise(self.random.choice([ShopError, StockError, NoRowError, Stop]))
        if self.likes("tasks", 0.3, 0.0):
            return Do(self.random.choice([Act.PAUSE, Act.PAUSE] if task else [Act.RESUME]))
        if unit and self.random.random() < 0.25:
            return Do(self.random.choice(BY_HAND), self.on())
        if unit and self.random.random() < 0.1:
            return FreshRead(self.on())
        return Do(self.act(task=task), self.on())

    def around(self, depth: int, *, unit: bool, task: bool) -> Step:
        """Something with a body."""
        if self.likes("tasks", 0.5, 0.02):
            return Spawn(self.body(depth + 1, task=True), given=self.random.random() < 0.5)
        if self.likes("savepoints", 0.5, 0.05):
            return Savepoint(self.on(), self.body(depth + 1, task=task))
        if self.likes("generators", 0.4, 0.02):
            return self.early(depth + 1)
        if unit and self.random.random() < 0.15:
            return Begun(self.on(), self.body(depth + 1, task=task))
        if self.random.random() < 0.25:
            return Catch(self.body(depth + 1, unit=unit, task=task))
        return self.block(depth + 1, task=task)

    def block(self, depth: int, *, task: bool = False) -> Block:
        """A block; the usual options come more often."""
        attempts = self.random.randint(2, 3) if self.likes("retries", 0.4, 0.02) else 0
        propagation = self.random.choice(USUAL if self.random.random() < 0.7 else tuple(P))
        return Block(
            on=self.on(),
            propagation=propagation,
            read_only=self.likes("ways", 0.35, 0.08),
            durable=self.random.random() < 0.1,
            limited=self.likes("time", 0.5, 0.0),
            rules=self.random.choice([0, 0, 0, *range(len(RULES))]),
            attempts=attempts,
            conflicts=self.random.randint(0, attempts),
            body=(*(() if task else self.phrase(unit=False)), *self.body(depth, task=task)),
        )

    def phrase(self, *, unit: bool) -> tuple[Step, ...]:
        """Steps that mean something together only, with something else between them."""
        if not self.likes("tasks", 0.4, 0.02):
            if unit and self.likes("hooks", 0.5, 0.05):
                return (Do(Act.INSERT), self.hook(1), *self.between(), Do(self.random.choice(BY_HAND)))
            return ()
        write, pause, resume = Do(self.random.choice(WRITES)), Do(Act.PAUSE), Do(Act.RESUME)
        late: tuple[tuple[Step, ...], ...] = (
            (pause, Do(Act.REPOSITORY_READ)),
            (pause, Block(body=(write,))),
            (pause, write),
            (write, pause, write),
            (Block(body=(write, pause, write)),),
            (Block(body=(write, pause)),),
            (Savepoint(0, (write, pause, write)),),
            (Savepoint(0, (write, pause)),),
            (Block(propagation=P.NESTED, body=(write, pause)),),
            (Block(read_only=True, body=(pause, Do(Act.READ))),),
            (Do(Act.PAUSE_INSIDE),),
        )
        task = Spawn(self.random.choice(late), given=self.random.random() < 0.5)
        ends: tuple[tuple[Step, ...], ...] = (
            (),
            (resume,),
            (Raise(ShopError),),
            (Do(Act.CHANGE), resume),
            (Catch((Do(Act.FOREIGN_ADD),)), resume),
            (Block(body=(write, resume)),),
            (Catch((Block(propagation=P.NESTED, body=(task, Raise(StockError))),)), resume),
            (Catch((Block(propagation=P.REQUIRED, body=(task, Raise(StockError))),)), resume),
            (Do(Act.TIME_PASSES), resume),
        )
        end = self.random.choice(ends)
        return (
            *self.between(),
            *([] if task in steps_of(list(end)) else [task]),
            *self.between(),
            *end,
        )

    def between(self) -> tuple[Step, ...]:
        """Something simple, or nothing."""
        return (Do(self.act(task=False), 0),) if self.random.random() < 0.4 else ()

    def act(self, *, task: bool) -> Act:
        """Something simple."""
        if self.likes("ways", 0.5, 0.1):
            return self.random.choice([*WRITES, *REPOSITORY_WRITES])
        if self.likes("retries", 0.25, 0.0):
            return Act.CONFLICT
        if self.likes("time", 0.15, 0.0):
            return Act.TIME_PASSES
        if self.likes("tasks", 0.15, 0.0):
            return Act.PAUSE_INSIDE if task else self.random.choice([Act.FOREIGN_ADD, Act.RESUME])
        seldom = [Act.DUPLICATE, Act.NONSENSE, Act.ROLLBACK_ONLY, Act.DDL, Act.LOOK, Act.CHANGE, Act.ENTITY]
        seldom += [Act.LAZY, Act.HELD]
        often = [Act.INSERT, Act.FLUSH, Act.REPOSITORY_ADD, Act.PENDING, Act.READ, Act.REPOSITORY_READ]
        return self.random.choice(often if self.random.random() < 0.75 else seldom)

    def hook(self, depth: int) -> Hook:
        """A function that tells, fails, or opens blocks; it starts no tasks."""
        moment, on = self.random.choice(MOMENTS), self.on()
        kind = self.random.random()
        inside: Step | None = None
        if kind < 0.15 and depth < 4:
            self.in_hook = True
            inside = self.block(depth + 2)
            self.in_hook = False
        elif kind < 0.3:
            writes = Act.INSERT if moment == "before_commit" else Act.REPOSITORY_ADD
            inside = Do(writes, self.on())
        elif kind < 0.4 and moment != "on_rollback":
            inside = Do(Act.READ)
        return Hook(on, moment, fails=kind > 0.85, body=() if inside is None else (inside,))

    def early(self, depth: int) -> Early:
        """A generator that is left early."""
        writes = self.random.random() < 0.5
        closed = self.random.random() < 0.5
        inside: tuple[Step, ...] = (Block(body=(Do(Act.INSERT),)),) if closed and depth < 5 else ()
        return Early(
            self.on(),
            self.random.choice([P.REQUIRES_NEW, P.REQUIRES_NEW, P.NESTED]),
            read_only=not writes,
            writes=writes,
            closed=closed,
            body=inside if self.random.random() < 0.6 else (),
        )


def steps_of(body: list[Step]) -> Iterator[Step]:
    """All steps of a body, and of what is inside."""
    for step in body:
        yield step
        yield from steps_of(list(body_of(step)))


def program_of(seed: int) -> Program:
    """The program of a seed: always the same."""
    return Maker(seed).program()


# -- smaller ones ---------------------------------------------------------------------------------


def smaller(program: Program) -> Iterator[Program]:
    """Programs that are a little smaller, the smallest first."""
    for body in _smaller_bodies(program.body):
        yield replace(program, body=body)
    if program.strike is not None:
        yield replace(program, strike=None)
    if program.config != Config():
        yield replace(program, config=Config())


def _smaller_bodies(body: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    for place in range(len(body)):
        yield (*body[:place], *body[place + 1 :])
    for place, step in enumerate(body):
        before, after = body[:place], body[place + 1 :]
        if not isinstance(step, Hook | Early | Spawn) and body_of(step):
            yield (*before, *body_of(step), *after)
        for inner in _smaller_bodies(body_of(step)):
            yield (*before, with_body(step, inner), *after)
        for plainer in _plainer(step):
            yield (*before, plainer, *after)


def _plainer(step: Step) -> Iterator[Step]:
    if isinstance(step, Block):
        plain = Block()
        for name in ("propagation", "read_only", "durable", "limited", "rules", "attempts", "on"):
            if getattr(step, name) != getattr(plain, name):
                yield replace(step, **{name: getattr(plain, name)})
    elif isinstance(step, Do) and step.act in (*WRITES, *REPOSITORY_WRITES) and step.act is not Act.INSERT:
        yield replace(step, act=Act.INSERT)
