"""What tasks have seen holds between them, and while a block or a stream is open on a replica."""

# mypy: disable-error-code="empty-body"

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context
from typing import TypeVar

import pytest

from tests.fixtures.clusters.replicated import Cluster
from tests.fixtures.models import Audit
from unitwork import Database, Propagation, Repository, query

pytestmark = pytest.mark.only("postgresql", "mariadb", reason="SQLite has no servers")

T = TypeVar("T")
SOON_S = 0.05
TIMES = 6
"""So often that each replica is chosen."""


class Audits(Repository[Audit]):
    @query("id > :key")
    def after(self, key: int) -> AsyncIterator[Audit]: ...

    @query.sql('SELECT "note_it"()')
    async def note_by_function(self) -> int: ...


@pytest.fixture
async def db(cluster: Cluster) -> AsyncIterator[Database]:
    """A Database that waits for replicas only shortly: in these tests some show nothing new."""
    async with cluster.database(replica_wait_s=SOON_S) as database:
        yield database


async def apart(work: Callable[[], Awaitable[T]]) -> T:
    """Run as somebody who has nothing to do with this task: no context is inherited."""

    async def run() -> T:
        return await work()

    return await asyncio.get_running_loop().create_task(run(), context=Context())


async def write(db: Database) -> None:
    """Commit a row."""
    async with db.transaction() as session:
        session.add(Audit(note="tea"))


async def in_block(db: Database) -> None:
    """Tasks of a block write."""
    audits = Audits(db)
    async with db.transaction():
        await asyncio.gather(audits.add(Audit(note="tea")), audits.add(Audit(note="milk")))


async def in_unit(db: Database) -> None:
    """Tasks of a unit write."""
    audits = Audits(db)
    async with db.unit_of_work():
        await asyncio.gather(audits.add(Audit(note="tea")), audits.add(Audit(note="milk")))


async def in_parallel(db: Database) -> None:
    """Units beside each other write."""
    await db.parallel(write(db), write(db))


@pytest.mark.parametrize("tasks_write", [in_block, in_unit, in_parallel])
async def test_who_opens_reads_what_tasks_inside_have_written(
    db: Database, cluster: Cluster, tasks_write: Callable[[Database], Awaitable[None]]
) -> None:
    """Also if that task has never used the Database before."""
    cluster.hold()

    async def work() -> int:
        await tasks_write(db)
        return await Audits(db).count()

    assert await apart(work) == 2


async def test_hook_reads_what_tasks_of_its_block_have_written(db: Database, cluster: Cluster) -> None:
    """It runs after the commit, with no transaction open."""
    cluster.hold()
    found: list[int] = []

    async def look() -> None:
        found.append(await Audits(db).count())

    async def work() -> None:
        async with db.transaction():
            db.on_commit(look)
            await asyncio.gather(Audits(db).add(Audit(note="tea")), Audits(db).add(Audit(note="milk")))

    await apart(work)

    assert found == [2]


@pytest.mark.parametrize("inner", [Propagation.REQUIRES_NEW, Propagation.NOT_SUPPORTED])
async def test_block_inside_reads_no_less_than_the_block_around(
    db: Database, cluster: Cluster, inner: Propagation
) -> None:
    """One replica shows what the other does not."""
    cluster.hold(0)
    await apart(lambda: write(db))
    cluster.settle(1)

    async def work() -> tuple[int, int]:
        async with db.transaction(read_only=True):
            outside = await Audits(db).count()
            async with db.transaction(read_only=True, propagation=inner):
                return outside, await Audits(db).count()

    for _ in range(TIMES):
        outside, inside = await apart(work)
        assert inside >= outside


async def test_loop_over_a_stream_reads_no_less_than_the_stream(db: Database, cluster: Cluster) -> None:
    """The stream stays open meanwhile."""
    cluster.hold(0)
    await apart(lambda: write(db))
    cluster.settle(1)

    async def work() -> list[int]:
        return [await Audits(db).count() async for _audit in Audits(db).after(0)]

    for _ in range(TIMES):
        assert set(await apart(work)) <= {1}


@pytest.mark.only("postgresql", reason="MariaDB's log has no pages")
async def test_replica_of_an_idle_primary_with_a_new_file_of_its_log_is_up_to_date(
    db: Database, cluster: Cluster
) -> None:
    """The header of the new file is part of no record, and is never replayed."""
    cluster.servers.primary.tell("SELECT pg_switch_wal()")
    await apart(lambda: Audits(db).count())

    async with asyncio.timeout(20):
        while any(status.lag_s != 0 for status in (await db.ping()).servers if status.role == "replica"):  # noqa: ASYNC110 - a server has no event
            await asyncio.sleep(0.05)


@pytest.mark.only("postgresql", reason="the function is in its language")
async def test_function_that_writes_is_called_on_the_primary_whatever_its_name_looks_like(
    db: Database, cluster: Cluster
) -> None:
    """A replica refuses it, so that the primary is asked."""
    cluster.servers.primary.tell(
        "CREATE OR REPLACE FUNCTION note_it() RETURNS bigint LANGUAGE sql AS "
        "$$ INSERT INTO audit (note) VALUES ('tea') RETURNING id $$"
    )
    cluster.settle()

    await Audits(db).note_by_function()

    assert await Audits(db).count() == 1


async def test_servers_are_asked_again_after_the_end(db: Database) -> None:
    """A Database may be used again, and knows then what its servers are."""
    for _ in range(2):
        await apart(lambda: Audits(db).count())
        asking = [task for task in asyncio.all_tasks() if task.get_name().startswith("unitwork: servers")]
        assert len(asking) == 1
        await db.dispose()
        assert asking[0].done()
