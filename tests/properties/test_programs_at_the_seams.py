"""Programs that were wrong once, or are near to those that were: each a place where two parts meet."""

import pytest

from tests.fixtures.errors import ShopError, StockError
from tests.fixtures.pairs import Fresh
from tests.properties.bench import Bench
from tests.properties.programs import (
    ATOMIC_UNITS,
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
    Strike,
    Unit,
)
from unitwork import Propagation
from unitwork.options import Lane

P = Propagation
WRITE, PAUSE, RESUME, READ = Do(Act.INSERT), Do(Act.PAUSE), Do(Act.RESUME), Do(Act.READ)
ADD = Do(Act.REPOSITORY_ADD)
HALF = (WRITE, PAUSE, WRITE)
RAW = Do(Act.CONNECTION_OF_TRANSACTION)
UNDONE = (Hook(0, "on_commit", fails=False, body=()), Hook(0, "on_rollback", fails=False, body=()))


def inside(*body: Step, propagation: Propagation = P.REQUIRED, read_only: bool = False) -> Block:
    """A block."""
    return Block(propagation=propagation, read_only=read_only, body=body)


def unit(*body: Step) -> Unit:
    """A unit in which each block commits by itself."""
    return Unit(0, atomic=False, body=body)


def undone(block: Block) -> Catch:
    """A block that fails, and is forgiven."""
    return Catch((Block(propagation=block.propagation, body=(*block.body, Raise(StockError))),))


PROGRAMS: dict[str, tuple[Step, ...]] = {
    "a block ends while a task is in a savepoint by hand": (inside(Spawn((Savepoint(0, HALF),))),),
    "a block ends while a task is in a savepoint": (inside(Spawn((inside(*HALF, propagation=P.NESTED),))),),
    "a block ends while a task is in a block": (inside(Spawn((inside(*HALF),))),),
    "a task goes on with the session of an undone savepoint": (
        inside(undone(inside(Spawn(HALF, given=True), propagation=P.NESTED)), RESUME),
    ),
    "a task goes on with the session of an undone block in a unit": (
        unit(undone(inside(Spawn(HALF, given=True))), RESUME),
    ),
    "a task is in a savepoint of an undone savepoint": (
        inside(
            undone(inside(Spawn((inside(WRITE, PAUSE, propagation=P.NESTED),)), propagation=P.NESTED)),
            RESUME,
            WRITE,
        ),
    ),
    "a hook of a task whose savepoint was undone": (
        inside(undone(inside(Spawn((PAUSE, UNDONE[0])), propagation=P.NESTED)), RESUME, Raise(ShopError)),
    ),
    "a generator is left to the event loop": (
        inside(WRITE, Early(0, P.REQUIRES_NEW, read_only=True, writes=False, closed=False, body=()), WRITE),
    ),
    "a consumer has a block of its own": (
        Early(0, P.REQUIRES_NEW, read_only=True, writes=False, closed=True, body=(inside(WRITE),)),
    ),
    "an error that commits is not tried again": (
        Block(rules=6, attempts=3, conflicts=3, body=(WRITE, Do(Act.CONFLICT))),
    ),
    "a conflict is tried again": (
        Block(attempts=3, conflicts=2, body=(WRITE, *UNDONE[:1], Do(Act.CONFLICT))),
    ),
    "a serializable block reads afresh": (unit(FreshRead(0)),),
    "a row is written past a savepoint that was not sent yet": (
        inside(undone(inside(RAW, propagation=P.NESTED))),
    ),
    "a connection of the transaction is read-only in a read-only block": (
        inside(inside(RAW, read_only=True)),
    ),
    "bulk writes in a read-only transaction": (inside(Do(Act.BULK_SAVE), read_only=True),),
    "a repository in a read-only block without a transaction": (
        inside(Do(Act.REPOSITORY_ADD_ALL), propagation=P.NEVER, read_only=True),
    ),
    "DDL in a block": (inside(WRITE, Do(Act.DDL), WRITE, Raise(ShopError)),),
    "a foreign entity is added beside a sibling": (
        inside(Spawn((Do(Act.PAUSE_INSIDE),)), Catch((Do(Act.FOREIGN_ADD),)), RESUME),
    ),
    "a hook of a commit by hand uses the session": (
        unit(WRITE, Hook(0, "on_commit", fails=False, body=(READ,)), Do(Act.COMMIT)),
    ),
    "a read was started before the block": (
        unit(Spawn((PAUSE, Do(Act.REPOSITORY_READ))), inside(WRITE, RESUME)),
    ),
    "a block is undone with a savepoint of a task that has a hook": (
        inside(Spawn((inside(UNDONE[1], *HALF, propagation=P.NESTED),))),
    ),
    "a unit ends while a task is in a block": (unit(Spawn((inside(*HALF),))),),
    "a task outlives the time of its starter": (
        Block(limited=True, body=(WRITE, Spawn((PAUSE, inside(WRITE))))),
        Do(Act.TIME_PASSES),
        RESUME,
    ),
    "a task outlives its starter, whose time was over": (
        Block(limited=True, body=(WRITE, Spawn((PAUSE, inside(WRITE))), Do(Act.TIME_PASSES))),
        RESUME,
    ),
    "a report is read-only beside a change": (
        inside(Spawn((inside(PAUSE, READ, read_only=True),)), Do(Act.CHANGE), RESUME),
    ),
    "a relationship is loaded without a transaction": (
        inside(Do(Act.LAZY), Do(Act.HELD), propagation=P.NEVER),
    ),
    "a unit begins a transaction by hand": (unit(Begun(0, (WRITE,)), Do(Act.LOOK), WRITE),),
    "a block commits by itself after a read by hand": (unit(READ, inside(WRITE, *UNDONE), Do(Act.LOOK)),),
    "a block commits by itself after an entity was added": (
        unit(Do(Act.PENDING), inside(WRITE), Do(Act.LOOK), Raise(ShopError)),
    ),
    "a repository commits by itself after a read by hand": (unit(READ, ADD, Do(Act.ROLLBACK)),),
    "an exception does not promise a commit": (
        Block(rules=2, body=(WRITE, Catch(()), inside(Raise(StockError)))),
    ),
}


def request(*body: Step) -> Unit:
    """A unit that is one transaction."""
    return Unit(0, atomic=True, body=body)


REQUESTS: dict[str, tuple[Step, ...]] = {
    "a request that fails stores nothing": (request(ADD, inside(WRITE, *UNDONE), WRITE, Raise(ShopError)),),
    "a request is stored at its end": (request(ADD, inside(WRITE), Do(Act.LOOK), *UNDONE, WRITE),),
    "a commit by hand ends what there is so far": (
        request(ADD, *UNDONE, Do(Act.COMMIT), Do(Act.LOOK), ADD, Raise(ShopError)),
    ),
    "a mark before the first write ends with the commit by hand": (
        request(Do(Act.ROLLBACK_ONLY), WRITE, Do(Act.COMMIT), Do(Act.HELD), WRITE),
    ),
    "a commit of the session does the same": (
        request(WRITE, Do(Act.SESSION_COMMIT), inside(WRITE), Do(Act.ROLLBACK), WRITE),
    ),
    "reads before the first write hold nothing": (
        request(Do(Act.REPOSITORY_READ), READ, Do(Act.HELD), ADD, Do(Act.HELD), Do(Act.CLOSE), Do(Act.HELD)),
    ),
    "a block that fails alone is undone alone": (
        request(
            ADD, undone(inside(WRITE, propagation=P.NESTED)), undone(Block(body=(Savepoint(0, (WRITE,)),)))
        ),
    ),
    "what is apart stays": (request(inside(WRITE, propagation=P.REQUIRES_NEW), ADD, Raise(ShopError)),),
    "a first block is tried again": (
        request(Block(attempts=3, conflicts=2, body=(WRITE, Do(Act.CONFLICT))), ADD),
    ),
    "a second block is not": (request(ADD, Block(attempts=3, conflicts=2, body=(WRITE, Do(Act.CONFLICT)))),),
    "a first block has its isolation": (request(FreshRead(0), ADD),),
    "a request ends while a task is in a block": (request(ADD, Spawn((inside(*HALF),))),),
    "a request ends while a task is in a savepoint by hand": (request(ADD, Spawn((Savepoint(0, HALF),))),),
}


@pytest.mark.parametrize("name", REQUESTS if ATOMIC_UNITS else [])
def test_request_is_one_transaction(two_databases: Fresh, name: str) -> None:
    """It does what the model says of promises 18 and 21."""
    compare(two_databases, Program(0, Config(), None, REQUESTS[name]))


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_at_a_seam(two_databases: Fresh, name: str) -> None:
    """It does what the model says."""
    compare(two_databases, Program(0, Config(), None, PROGRAMS[name]))


@pytest.mark.parametrize("lane", Lane)
def test_read_outside_is_not_expired(two_databases: Fresh, lane: Lane) -> None:
    """With `expire_on_commit`, what a repository reads outside of a transaction is readable."""
    body = (Do(Act.ENTITY), inside(Do(Act.ENTITY), propagation=P.NEVER), unit(Do(Act.ENTITY)))
    compare(two_databases, Program(0, Config(lane, expire_on_commit=True), None, body))


@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("blow", [Blow.OBSERVER, Blow.AFTER_COMMIT, Blow.BEFORE_COMMIT, Blow.CHECKIN])
def test_listener_that_raises(two_databases: Fresh, blow: Blow, at: int) -> None:
    """What is stored is told as stored, and the next block starts clean."""
    nested = inside(WRITE, inside(WRITE, propagation=P.NESTED))
    body = (inside(WRITE, *UNDONE), ADD, nested, unit(WRITE, Do(Act.COMMIT), ADD))
    compare(two_databases, Program(0, Config(), Strike(blow, at), body))


@pytest.mark.parametrize("blow", [Blow.CANCEL, Blow.CANCEL_ALL, Blow.DEADLINE])
def test_interruption_at_each_await(two_databases: Fresh, blow: Blow) -> None:
    """Wherever a cancellation or a time limit strikes: rows, hooks and status agree."""
    bodies = (
        (Block(limited=True, body=(WRITE, *UNDONE)),),
        (Block(limited=True, body=(WRITE, inside(WRITE, *UNDONE, propagation=P.NESTED))),),
        (unit(WRITE, Do(Act.COMMIT), ADD, inside(WRITE, *UNDONE), WRITE, Do(Act.CLOSE)),),
    )
    with Bench(two_databases) as bench:
        for body in bodies:
            for at in range(1, 25):
                verdict = bench.check(Program(0, Config(), Strike(blow, at), body))
                if verdict.wrong:
                    pytest.fail(f"\n{verdict}", pytrace=False)


def compare(fresh: Fresh, program: Program) -> None:
    """Run it, and compare."""
    with Bench(fresh) as bench:
        verdict = bench.check(program)
        if verdict.wrong:
            pytest.fail(f"\n{verdict}", pytrace=False)
        assert not verdict.skipped, "the model does not say what is promised"
