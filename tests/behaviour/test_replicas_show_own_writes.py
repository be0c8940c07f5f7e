"""A task reads what it has written, and never again less than it has read, whichever server answers."""

# mypy: disable-error-code="empty-body"

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import TypeVar

import pytest
from sqlalchemy import func, insert, select, text, update

from tests.fixtures.clusters.replicated import GENEROUS_S, Cluster, Here, connections_in_use
from tests.fixtures.errors import StockError
from tests.fixtures.models import Account, Audit
from unitwork import Database, Propagation, Repository, query, transactional
from unitwork.options import Lane

pytestmark = pytest.mark.only("postgresql", "mariadb", reason="SQLite has no servers")

T = TypeVar("T")
SOON_S = 0.2
"""How long the waits of those tests are that wait in vain for a replica."""


class Audits(Repository[Audit]):
    @query
    async def noted(self, *, note: str) -> list[Audit]: ...

    @query
    def each(self, *, note: str) -> AsyncIterator[Audit]: ...

    @query.sql("UPDATE audit SET note = :new WHERE note = :old")
    async def rename(self, old: str, new: str) -> int: ...


async def apart(work: Callable[[], Awaitable[T]]) -> T:
    """Run as somebody who has nothing to do with this task: no context is inherited."""

    async def run() -> T:
        return await work()

    return await asyncio.get_running_loop().create_task(run(), context=Context())


async def write_elsewhere(db: Database, note: str) -> None:
    """Let somebody else commit a row."""

    async def work() -> None:
        async with db.transaction() as session:
            session.add(Audit(note=note))

    await apart(work)


# -- each way of writing, and each way of reading -------------------------------------------------


async def add_alone(db: Database) -> None:
    """A repository, outside of blocks."""
    await Audits(db).add(Audit(note="mine"))


async def add_in_block(db: Database) -> None:
    """A block."""
    async with db.transaction() as session:
        session.add(Audit(note="mine"))


async def execute_in_block(db: Database) -> None:
    """A statement in a block."""
    async with db.transaction() as session:
        await session.execute(insert(Audit).values(note="mine"))


async def add_in_bulk(db: Database) -> None:
    """Many rows at once."""
    await Audits(db).bulk_insert([{"note": "mine"}])


async def rename(db: Database) -> None:
    """A declared query that writes."""
    await Audits(db).rename("other", "mine")


async def write_autocommit(db: Database) -> None:
    """A block without a transaction."""
    async with db.transaction(propagation=Propagation.NOT_SUPPORTED) as session:
        await session.execute(insert(Audit).values(note="mine"))


async def commit_by_hand(db: Database) -> None:
    """By hand, in a unit."""
    async with db.unit_of_work(atomic=False):
        db.session.add(Audit(note="mine"))
        await db.commit()


async def unit(db: Database) -> None:
    """A unit that commits at its end."""
    async with db.unit_of_work():
        db.session.add(Audit(note="mine"))


async def requires_new(db: Database) -> None:
    """A transaction inside of another that fails."""
    with pytest.raises(StockError):
        async with db.transaction():
            async with db.transaction(propagation=Propagation.REQUIRES_NEW) as session:
                session.add(Audit(note="mine"))
            raise StockError


async def own_session(db: Database) -> None:
    """A session of one's own."""
    async with db.session_factory() as session:
        session.add(Audit(note="mine"))
        await session.commit()


async def own_connection(db: Database) -> None:
    """A connection of one's own."""
    async with db.engine.begin() as connection:
        await connection.execute(insert(Audit).values(note="mine"))


async def decorated(db: Database) -> None:
    """A decorated function."""

    @transactional(using=db)
    async def write() -> None:
        await Audits(db).add(Audit(note="mine"))

    await write()


async def in_child(db: Database) -> None:
    """A task that this one has started, and waited for."""
    await asyncio.create_task(add_in_block(db))


async def in_grandchild(db: Database) -> None:
    """A task of a task."""
    await asyncio.create_task(in_child(db))


async def in_parallel(db: Database) -> None:
    """Several at once."""
    await db.parallel(add_in_block(db))


async def in_hook(db: Database) -> None:
    """What follows a commit."""
    async with db.transaction() as session:
        session.add(Audit(note="first"))
        db.on_commit(lambda: add_in_block(db))


WRITES = [
    add_alone,
    add_in_block,
    execute_in_block,
    add_in_bulk,
    rename,
    write_autocommit,
    commit_by_hand,
    unit,
    requires_new,
    own_session,
    own_connection,
    decorated,
    in_child,
    in_grandchild,
    in_parallel,
    in_hook,
]


async def read_alone(db: Database) -> bool:
    """A declared query, outside of blocks."""
    return bool(await Audits(db).noted(note="mine"))


async def read_in_block(db: Database) -> bool:
    """A read-only block."""
    async with db.transaction(read_only=True) as session:
        return bool((await session.scalars(select(Audit).where(Audit.note == "mine"))).first())


async def read_in_unit(db: Database) -> bool:
    """A unit that writes nothing."""
    async with db.unit_of_work():
        return bool(await Audits(db).where(Audit.note == "mine").count())


async def read_in_child(db: Database) -> bool:
    """A task that is started afterwards."""
    return await asyncio.create_task(read_alone(db))


READS = [read_alone, read_in_block, read_in_unit, read_in_child]


@pytest.mark.parametrize("write", WRITES, ids=[each.__name__ for each in WRITES])
async def test_own_write_is_read_while_no_replica_shows_it(
    cluster: Cluster, write: Callable[[Database], Awaitable[None]]
) -> None:
    """Whichever way it was written, and is read."""
    async with cluster.database(replica_wait_s=SOON_S) as db:
        await apart(lambda: Audits(db).add(Audit(note="other")))
        cluster.settle()
        await read_alone(db)
        cluster.hold()

        await write(db)

        assert [await read(db) for read in READS] == [True] * len(READS)
        assert connections_in_use(db) == 0


@pytest.mark.every_lane
async def test_own_write_is_read_on_every_lane(cluster: Cluster, lane: Lane) -> None:
    """No lane is faster than the truth."""
    async with cluster.database(replica_wait_s=SOON_S, fastest_lane=lane) as db:
        cluster.hold()

        for number in range(10):
            note = f"{number}"
            added = await Audits(db).add(Audit(note=note))
            assert await Audits(db).noted(note=note)
            assert (await Audits(db).get_one(added.id)).note == note
            assert await Audits(db).where(Audit.note == note).exists()


async def test_stranger_may_read_what_is_old(cluster: Cluster) -> None:
    """Somebody who has written nothing reads from a replica, however far it is behind."""
    async with cluster.database(replica_wait_s=SOON_S) as db:
        await apart(lambda: read_alone(db))
        cluster.hold()
        await add_in_block(db)

        async def look() -> tuple[int, bool]:
            return (await Repository[Here](db).get_one(1)).port, await read_alone(db)

        port, seen = await apart(look)

        assert port in cluster.replica_ports
        assert not seen
        assert await read_alone(db)


async def test_replica_that_shows_the_write_is_preferred(cluster: Cluster) -> None:
    """One replica is behind and one is not: reads go to the one that is not, none to the primary."""
    async with cluster.database() as db:
        for held, other in ((0, 1), (1, 0)):
            cluster.hold(held)
            await Audits(db).add(Audit(note=f"{held}"))
            ports = set()
            for _ in range(20):
                assert await Audits(db).noted(note=f"{held}")
                ports.add((await Repository[Here](db).get_one(1)).port)
            assert ports == {cluster.replicas[other].port}
            cluster.release(held)


async def test_reader_waits_for_a_replica(cluster: Cluster) -> None:
    """With time to wait, the read is answered by the replica once that shows the write."""
    async with cluster.database() as db:
        await read_alone(db)
        cluster.hold()
        await add_in_block(db)
        reading = asyncio.create_task(read_alone(db))
        at = asyncio.create_task(Repository[Here](db).get_one(1))
        done, _ = await asyncio.wait({reading, at}, timeout=0.3)
        assert not done
        await asyncio.to_thread(cluster.release, 0)

        assert await reading
        assert (await at).port == cluster.replicas[0].port


async def test_reader_goes_to_the_primary_when_its_time_is_over(cluster: Cluster) -> None:
    """It waits no longer than it was told."""
    async with cluster.database(replica_wait_s=SOON_S) as db:
        await read_alone(db)
        cluster.hold()
        await add_in_block(db)

        assert (await Repository[Here](db).get_one(1)).port == cluster.primary.port
        assert await read_alone(db)


async def test_reads_return_to_the_replicas(cluster: Cluster) -> None:
    """Once they show the write, they are read from again."""
    async with cluster.database(replica_wait_s=SOON_S) as db:
        cluster.hold()
        await add_in_block(db)
        assert await read_alone(db)
        cluster.release()

        async with asyncio.timeout(20):
            while (await Repository[Here](db).get_one(1)).port == cluster.primary.port:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)

        assert await read_alone(db)


async def test_task_never_reads_less_than_it_has_read(cluster: Cluster) -> None:
    """What somebody has seen of others on one server, he sees wherever he reads afterwards."""
    async with cluster.database(replica_wait_s=SOON_S) as db:
        await read_alone(db)

        async def look_often() -> list[bool]:
            return [await read(db) for _ in range(8) for read in READS]

        for held, other in ((0, 1), (1, 0)):
            cluster.hold(held)
            await write_elsewhere(db, "mine")
            cluster.settle(other)
            seen = await asyncio.gather(*(apart(look_often) for _ in range(20)))
            assert all(each == sorted(each) for each in seen)
            assert any(each[-1] for each in seen)
            await apart(partial(Audits(db).rename, "mine", "gone"))
            cluster.release(held)


async def test_task_that_read_the_primary_never_reads_less(cluster: Cluster) -> None:
    """What a block on the primary has shown, the next read shows."""
    async with cluster.database(replica_wait_s=SOON_S) as db:
        await read_alone(db)
        cluster.hold()
        await write_elsewhere(db, "mine")
        async with db.transaction(read_only=True, fresh=True):
            assert await read_alone(db)

        assert [await read(db) for read in READS] == [True] * len(READS)


async def test_task_that_looked_at_the_primary_by_hand_never_reads_less(cluster: Cluster) -> None:
    """`with db.primary():` shows what is newest, and so does what follows."""
    async with cluster.database(replica_wait_s=SOON_S) as db:
        await read_alone(db)
        cluster.hold()
        await write_elsewhere(db, "mine")
        with db.primary():
            assert await read_alone(db)

        assert [await read(db) for read in READS] == [True] * len(READS)


async def test_sibling_tasks_see_what_their_parent_has_seen(cluster: Cluster) -> None:
    """What was written before they were started; what one of them writes, the others need not see."""
    async with cluster.database(replica_wait_s=SOON_S) as db:
        cluster.hold()
        await add_in_block(db)

        assert all(await asyncio.gather(*(read(db) for _ in range(10) for read in READS)))


async def test_parent_sees_what_its_children_have_committed(cluster: Cluster) -> None:
    """Each of many, as soon as it has ended."""
    async with cluster.database(replica_wait_s=SOON_S) as db:
        await read_alone(db)
        cluster.hold()

        async def child(number: int) -> int:
            await Audits(db).add(Audit(note=f"{number}"))
            return number

        for ended in asyncio.as_completed([child(number) for number in range(10)]):
            assert await Audits(db).noted(note=f"{await ended}")


async def block_of_children(db: Database) -> None:
    """A block in which others write."""
    async with db.transaction():
        await asyncio.gather(Audits(db).add(Audit(note="mine")), Audits(db).add(Audit(note="other")))


async def unit_of_children(db: Database) -> None:
    """A unit of work in which others write."""
    async with db.unit_of_work():
        await asyncio.gather(Audits(db).add(Audit(note="mine")), Audits(db).add(Audit(note="other")))


@pytest.mark.parametrize(
    "write", [block_of_children, unit_of_children, in_parallel], ids=lambda write: write.__name__
)
async def test_first_thing_that_a_task_does_is_done_by_its_children(
    cluster: Cluster, write: Callable[[Database], Awaitable[None]]
) -> None:
    """Whoever opens a block, a unit or `db.parallel` sees what was written inside."""
    async with cluster.database(replica_wait_s=SOON_S) as db:
        await apart(lambda: read_alone(db))
        cluster.hold()

        async def write_and_read() -> list[bool]:
            await write(db)
            return [await read(db) for read in READS]

        assert await apart(write_and_read) == [True] * len(READS)


async def test_hook_sees_what_children_have_written(cluster: Cluster) -> None:
    """The hook of a block in which only others write."""
    seen: list[bool] = []
    async with cluster.database(replica_wait_s=SOON_S) as db:
        await apart(lambda: read_alone(db))
        cluster.hold()

        async def look() -> None:
            seen.append(await read_alone(db))

        async def write() -> None:
            async with db.transaction():
                db.on_commit(look)
                await asyncio.gather(Audits(db).add(Audit(note="mine")))

        await apart(write)

    assert seen == [True]


async def look_in_new_block(db: Database) -> bool:
    """A transaction of its own."""
    async with db.transaction(read_only=True, propagation=Propagation.REQUIRES_NEW):
        return await read_alone(db)


async def look_outside(db: Database) -> bool:
    """No transaction."""
    async with db.transaction(read_only=True, propagation=Propagation.NOT_SUPPORTED):
        return await read_alone(db)


async def look_in_child(db: Database) -> bool:
    """A task that does so."""
    return await asyncio.create_task(look_in_new_block(db))


@pytest.mark.parametrize("held", [0, 1])
@pytest.mark.parametrize(
    "look", [look_in_new_block, look_outside, look_in_child], ids=lambda look: look.__name__
)
async def test_block_inside_of_a_block_never_reads_less(
    cluster: Cluster, held: int, look: Callable[[Database], Awaitable[bool]]
) -> None:
    """The replica that the outer one is on is busier than the other, which shows less."""
    async with cluster.database(replica_wait_s=SOON_S) as db:
        await read_alone(db)
        cluster.hold(held)
        await write_elsewhere(db, "mine")
        cluster.settle(1 - held)

        async def look_twice() -> tuple[bool, bool]:
            async with db.transaction(read_only=True):
                return await read_alone(db), await look(db)

        seen = [await apart(look_twice) for _ in range(4)]

    assert all(inner >= outer for outer, inner in seen)
    assert (True, True) in seen


async def test_read_beside_a_stream_never_shows_less(cluster: Cluster) -> None:
    """What the stream has shown, other reads in its loop show."""
    async with cluster.database(replica_wait_s=SOON_S) as db:
        await read_alone(db)
        cluster.hold(1)
        await write_elsewhere(db, "mine")
        cluster.settle(0)

        async def look() -> list[bool]:
            return [await read_alone(db) async for _row in Audits(db).each(note="mine")]

        seen = [await apart(look) for _ in range(4)]

    assert [True] in seen
    assert [False] not in seen


@pytest.mark.only("postgresql", reason="MariaDB's replicas say how far they had come when they come back")
async def test_replica_that_crashes_is_not_taken_for_as_new_as_it_was(mortal_cluster: Cluster) -> None:
    """It comes back as it was at its last checkpoint, and has still to replay the rest."""
    cluster = mortal_cluster
    replica = cluster.servers.replicas[0]
    async with cluster.database(replicas=cluster.replicas[:1], replica_wait_s=SOON_S) as db:
        await add_in_block(db)
        cluster.settle()
        assert await read_alone(db)

        replica.tell("ALTER SYSTEM SET recovery_min_apply_delay = '1h'")
        replica.crash()
        replica.start()
        await db.ping()
        await db.ping()

        assert [await read(db) for read in READS] == [True] * len(READS)


async def test_replicas_are_asked_again_after_a_dispose(cluster: Cluster) -> None:
    """One that is late is noticed, though nobody who reads has written."""
    async with cluster.database(replica_wait_s=SOON_S, max_lag_s=0.5) as db:
        assert not await read_alone(db)
        await db.dispose()
        cluster.hold()
        await write_elsewhere(db, "mine")

        async with asyncio.timeout(20):
            while not await apart(lambda: read_alone(db)):  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.1)


@pytest.mark.only("postgresql", reason="MariaDB counts transactions")
async def test_replicas_are_read_after_the_log_was_switched(cluster: Cluster) -> None:
    """The primary stands behind the header of a new segment, of which replicas have seen nothing."""
    async with cluster.database() as db:
        await add_in_block(db)
        cluster.servers.primary.tell("SELECT pg_switch_wal()")

        async with db.transaction(propagation=Propagation.REQUIRES_NEW) as session:
            await session.execute(text("SELECT 1 FOR UPDATE"))
        async with asyncio.timeout(GENEROUS_S / 2):
            port = (await Repository[Here](db).get_one(1)).port

        assert port in cluster.replica_ports


async def test_hook_after_commit_reads_what_was_committed(cluster: Cluster) -> None:
    """`on_commit` runs when it is there to be seen."""
    seen: list[bool] = []
    async with cluster.database(replica_wait_s=SOON_S) as db:
        await read_alone(db)
        cluster.hold()

        async def look() -> None:
            seen.append(await read_alone(db))

        async with db.transaction() as session:
            session.add(Audit(note="mine"))
            db.on_commit(look)

    assert seen == [True]


async def test_cancelled_reader_leaves_nothing_behind(cluster: Cluster) -> None:
    """One that waits for a replica is cancelled; the next read is right."""
    async with cluster.database() as db:
        await read_alone(db)
        cluster.hold()
        await add_in_block(db)
        readers = [asyncio.create_task(read(db)) for read in READS for _ in range(5)]
        await asyncio.sleep(0.05)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

        assert all(reader.cancelled() for reader in readers)
        assert connections_in_use(db) == 0
        await asyncio.to_thread(cluster.release)
        assert await read_alone(db)


async def test_counter_of_many_tasks_never_goes_back(cluster: Cluster) -> None:
    """Each task adds one and reads: what it reads is at least what it has added, and grows."""
    async with cluster.database(replica_wait_s=SOON_S) as db:
        accounts = Repository[Account](db)
        account = await accounts.add(Account(name="shared"))

        async def work() -> list[int]:
            seen = []
            for number in range(1, 11):
                async with db.transaction() as session:
                    await session.execute(update(Account).values(balance=Account.balance + 1))
                async with db.transaction(read_only=True) as session:
                    seen.append((await session.scalars(select(func.max(Account.balance)))).one())
                assert seen[-1] >= number
                seen.append((await accounts.get_one(account.id)).balance)
            return seen

        seen = await asyncio.gather(*(work() for _ in range(20)))

        assert all(each == sorted(each) for each in seen)
        with db.primary():
            assert (await accounts.get_one(account.id)).balance == 200
