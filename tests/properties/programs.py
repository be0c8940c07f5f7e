"""Random transaction programs: what they are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum, auto
from typing import Any

from sqlalchemy.exc import DBAPIError

from tests.fixtures.errors import ShopError, StockError
from unitwork import NoRowError, Propagation
from unitwork.options import Lane

ATOMIC_UNITS = True
"""Whether programs have units that are one transaction (`atomic=True`), as promises 18 and 21 tell."""


class Stop(BaseException):
    """Is not an `Exception`."""


class Act(Enum):
    """One thing that a body does."""

    # Ways to write a row.
    INSERT = auto()
    TEXT = auto()
    FLUSH = auto()
    BULK_SAVE = auto()
    BULK_MAPPINGS = auto()
    CONNECTION = auto()
    CONNECTION_OF_TRANSACTION = auto()
    REPOSITORY_ADD = auto()
    REPOSITORY_ADD_ALL = auto()
    REPOSITORY_CREATE = auto()
    # What is sent later, by a flush.
    PENDING = auto()
    CHANGE = auto()
    # Reads.
    READ = auto()
    REPOSITORY_READ = auto()
    ENTITY = auto()
    LAZY = auto()
    """A relationship of an entity, loaded when it is asked for."""
    LOOK = auto()
    """What a second connection sees."""
    HELD = auto()
    """How many connections are held."""
    # Failures.
    DUPLICATE = auto()
    NONSENSE = auto()
    CONFLICT = auto()
    """An error by which the database asks to be tried again."""
    FOREIGN_ADD = auto()
    """`add` of an entity that another session holds."""
    # By hand.
    ROLLBACK_ONLY = auto()
    COMMIT = auto()
    ROLLBACK = auto()
    CLOSE = auto()
    SESSION_COMMIT = auto()
    SESSION_ROLLBACK = auto()
    DDL = auto()
    # Time and tasks.
    PAUSE = auto()
    """A task stops here until somebody resumes it."""
    PAUSE_INSIDE = auto()
    """The same, in the middle of an operation of the session."""
    RESUME = auto()
    """The task that has paused longest goes on, and is waited for."""
    TIME_PASSES = auto()
    """More time than any block has."""


WRITES = (
    Act.INSERT,
    Act.TEXT,
    Act.FLUSH,
    Act.BULK_SAVE,
    Act.BULK_MAPPINGS,
    Act.CONNECTION,
    Act.CONNECTION_OF_TRANSACTION,
)
REPOSITORY_WRITES = (Act.REPOSITORY_ADD, Act.REPOSITORY_ADD_ALL, Act.REPOSITORY_CREATE)
BY_HAND = (Act.COMMIT, Act.ROLLBACK, Act.CLOSE, Act.SESSION_COMMIT, Act.SESSION_ROLLBACK)


@dataclass(frozen=True, slots=True)
class Do:
    """Do one thing on one of the two Databases."""

    act: Act
    on: int = 0


@dataclass(frozen=True, slots=True)
class Raise:
    """Raise an exception of this class."""

    error: type[BaseException]

    def made(self) -> BaseException:
        """The exception."""
        return NoRowError("Users.one") if self.error is NoRowError else self.error()


@dataclass(frozen=True, slots=True)
class Catch:
    """Go on whatever `Exception` comes out of this body."""

    body: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A transaction block, or with `attempts` a decorated function."""

    on: int = 0
    propagation: Propagation = Propagation.REQUIRED
    read_only: bool = False
    durable: bool = False
    limited: bool = False
    rules: int = 0
    attempts: int = 0
    conflicts: int = 0
    """In how many attempts `Act.CONFLICT` raises."""
    body: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of work."""

    on: int
    atomic: bool
    body: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Savepoint:
    """`session.begin_nested()`."""

    on: int
    body: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Begun:
    """`session.begin()` in a unit of work."""

    on: int
    body: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Hook:
    """A function that waits for an end. Its body is empty, or has blocks of its own."""

    on: int
    moment: str
    fails: bool
    body: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Spawn:
    """A task, which runs to its first pause, or to its end, before its starter goes on."""

    body: tuple[Step, ...]
    given: bool = False
    """Whether it uses the session that it was given, until it opens a block of its own."""


@dataclass(frozen=True, slots=True)
class Early:
    """An async generator with a block around its `yield`, left early by `break` in this body."""

    on: int
    propagation: Propagation
    read_only: bool
    writes: bool
    closed: bool
    """Whether the consumer closes it; else the event loop does, in another task."""
    body: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class FreshRead:
    """In a unit: read a row, let somebody change it, and read it in a SERIALIZABLE block."""

    on: int


Step = Do | Raise | Catch | Block | Unit | Savepoint | Begun | Hook | Spawn | Early | FreshRead


class Blow(Enum):
    """What strikes from outside."""

    CANCEL = "the task is cancelled"
    CANCEL_ALL = "every task is cancelled, as at a shutdown"
    DEADLINE = "the time is over"
    OBSERVER = "the observer raises"
    AFTER_COMMIT = "a listener of the session's `after_commit` raises"
    BEFORE_COMMIT = "a listener of the session's `before_commit` raises"
    CHECKIN = "a listener of the pool's `checkin` raises"

    @property
    def interrupts(self) -> bool:
        """Whether it comes as a cancellation, at an await."""
        return self in (Blow.CANCEL, Blow.CANCEL_ALL, Blow.DEADLINE)


@dataclass(frozen=True, slots=True)
class Strike:
    """A blow at the n-th await of the program, or the n-th time that its listener is called."""

    blow: Blow
    at: int


@dataclass(frozen=True, slots=True)
class Config:
    """How the Database of a program is made."""

    lane: Lane = Lane.DRIVER
    expire_on_commit: bool = False
    own_session: bool = False
    """A session class of the program's own, which routes everything to the Database's engine."""


@dataclass(frozen=True, slots=True)
class Program:
    """A whole program: one step after the other."""

    seed: int
    config: Config
    strike: Strike | None
    body: tuple[Step, ...]


RULES: tuple[tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]], ...] = (
    ((), ()),
    ((), (ShopError,)),
    ((), (StockError,)),
    ((StockError,), (ShopError,)),
    ((ShopError,), (StockError,)),
    ((ShopError,), (ShopError,)),
    ((), (DBAPIError,)),
)
"""Each is `rollback_for` and `no_rollback_for`."""


def body_of(step: Step | Program) -> tuple[Step, ...]:
    """What is inside a step."""
    found: tuple[Step, ...] = getattr(step, "body", ())
    return found


def with_body(step: Any, body: tuple[Step, ...]) -> Any:  # noqa: ANN401  # the same kind of step
    """The step with another body."""
    return replace(step, body=body)


def steps_in(step: Step | Program) -> Iterator[Step]:
    """All steps inside, outermost first."""
    for inner in body_of(step):
        yield inner
        yield from steps_in(inner)


# -- as code --------------------------------------------------------------------------------------

_CODE = {
    Act.INSERT: "await {db}.session.execute(insert(Audit).values(note=next_number()))",
    Act.TEXT: 'await {db}.session.execute(text("insert into audit (note) values (...)"))',
    Act.FLUSH: "{db}.session.add(Audit(note=next_number())); await {db}.session.flush()",
    Act.BULK_SAVE: "await {db}.session.run_sync(lambda s: s.bulk_save_objects([Audit(note=next_number())]))",
    Act.BULK_MAPPINGS: "await {db}.session.run_sync(lambda s: s.bulk_insert_mappings(Audit, [row]))",
    Act.CONNECTION: "await (await {db}.session.connection()).execute(insert(Audit).values(...))",
    Act.CONNECTION_OF_TRANSACTION: (
        "await {db}.session.run_sync(lambda s: s.get_transaction().connection(mapper).execute(insert(Audit)))"
    ),
    Act.REPOSITORY_ADD: "await Repository[Audit]({db}).add(Audit(note=next_number()))",
    Act.REPOSITORY_ADD_ALL: "await Repository[Audit]({db}).add_all([Audit(note=next_number())])",
    Act.REPOSITORY_CREATE: "await Repository[Audit]({db}).create(note=next_number())",
    Act.PENDING: "{db}.session.add(Audit(note=next_number()))  # not flushed",
    Act.CHANGE: "(await {db}.session.get(Account, 900)).balance = next_number()  # not flushed",
    Act.READ: "await {db}.session.scalars(select(Audit.note))",
    Act.REPOSITORY_READ: "await Repository[Audit]({db}).all()",
    Act.ENTITY: "tell((await Repository[Account]({db}).get(900)).name)",
    Act.LAZY: "await (await {db}.session.get(Account, 900)).awaitable_attrs.orders",
    Act.HELD: "tell({db}.pool_status().checked_out)",
    Act.LOOK: "tell(what_a_second_connection_sees({db}))",
    Act.DUPLICATE: '{db}.session.add(Account(name="taken")); await {db}.session.flush()',
    Act.NONSENSE: 'await {db}.session.execute(text("SELECT * FROM nowhere"))',
    Act.CONFLICT: "raise DBAPIError(...)  # a deadlock, in the first attempts",
    Act.FOREIGN_ADD: "{db}.session.add(entity_of_another_session)",
    Act.ROLLBACK_ONLY: "{db}.set_rollback_only()",
    Act.COMMIT: "await {db}.commit()",
    Act.ROLLBACK: "await {db}.rollback()",
    Act.CLOSE: "await {db}.close()",
    Act.SESSION_COMMIT: "await {db}.session.commit()",
    Act.SESSION_ROLLBACK: "await {db}.session.rollback()",
    Act.DDL: 'await {db}.session.execute(text("CREATE TABLE IF NOT EXISTS ..."))',
    Act.PAUSE: "await resumed()",
    Act.PAUSE_INSIDE: "await {db}.session.run_sync(lambda s: await_only(resumed()))",
    Act.RESUME: "await resume_the_task_that_has_paused_longest()",
    Act.TIME_PASSES: "await time_passes()",
}


def code(program: Program) -> str:
    """The program as code that a person can read."""
    config = ", ".join(f"{field.name}={getattr(program.config, field.name)!r}" for field in fields(Config))
    strike = program.strike
    struck = f"# {strike.blow.value}, number {strike.at}\n" if strike else ""
    return f"# seed {program.seed}; {config}\n{struck}" + "\n".join(_lines(program.body, ""))


def _lines(body: tuple[Step, ...], indent: str) -> Iterator[str]:
    for step in body:
        for line in _code(step):
            yield indent + line
        if isinstance(step, Hook) and not step.body:
            continue
        if is_dataclass(step) and hasattr(step, "body"):
            yield from _lines(step.body, indent + "    ") if step.body else (f"{indent}    pass",)
        if isinstance(step, Early):
            yield f"{indent}    break"
        if isinstance(step, Catch):
            yield f"{indent}except Exception: ..."


def _code(step: Step) -> list[str]:  # noqa: C901, PLR0911  # one line for each kind
    db = f"db{getattr(step, 'on', 0)}"
    if isinstance(step, Do):
        return [_CODE[step.act].format(db=db)]
    if isinstance(step, Raise):
        return [f"raise {step.error.__name__}"]
    if isinstance(step, Catch):
        return ["try:"]
    if isinstance(step, Block):
        return _block(step, db)
    if isinstance(step, Unit):
        return [f"async with {db}.unit_of_work(atomic={step.atomic}):"]
    if isinstance(step, Savepoint):
        return [f"async with {db}.session.begin_nested():"]
    if isinstance(step, Begun):
        return [f"async with {db}.session.begin():"]
    if isinstance(step, Hook):
        what = "a function that " + ("raises" if step.fails else "tells" if not step.body else "does this:")
        return [f"{db}.{step.moment}(...)  # {what}"]
    if isinstance(step, Spawn):
        given = ", with the session that is current here" if step.given else ""
        return [f"start a task{given}, and go on when it pauses or ends:"]
    if isinstance(step, Early):
        closing = "aclosing" if step.closed else "left to the event loop"
        kind = f"propagation={step.propagation.name}, read_only={step.read_only}, writes={step.writes}"
        return [f"async for _ in generator_with_a_block({db}, {kind}):  # {closing}"]
    return [
        f"account = await Repository[Account]({db}).get(901)",
        "somebody_else_changes(account)",
        "tell(await serializable_block_with_retry_reads(account))",
    ]


def _block(step: Block, db: str) -> list[str]:
    options = [f"propagation={step.propagation.name!r}"] * (step.propagation is not Propagation.REQUIRED)
    options += ["read_only=True"] * step.read_only + ["durable=True"] * step.durable
    options += ["timeout=..."] * step.limited
    for name, classes in zip(("rollback_for", "no_rollback_for"), RULES[step.rules], strict=True):
        options += [f"{name}={', '.join(each.__name__ for each in classes)}"] * bool(classes)
    if not step.attempts:
        return [f"async with {db}.transaction({', '.join(options)}):"]
    options.append(f"retry={step.attempts}")
    return [
        f"@{db}.transactional({', '.join(options)})  # called at once; CONFLICT in {step.conflicts} attempts",
        "async def function():",
    ]
